"""Looks at the line to a board for `doctor`: listens, tries to wake a bootloader, and measures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median

from blockota.errors import BoardError, LinkError, NoAnswerError
from firmware_host.bench.doctor import Observations, Reply, Trial
from firmware_host.bootloader.an3155 import SYNC
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import WIRINGS, BoardLine, BoardWiring, Wait, reset_board
from firmware_host.bootloader.exchange import ANSWER_SECONDS, BITS_PER_BYTE
from firmware_host.bootloader.identity import identify
from firmware_host.line.link import DEFAULT_BAUD, ControlledLink, open_link

LISTEN_SECONDS = 1.2
"""How long a board is listened to before anything is sent: a program that says something each second is heard."""
SETTLE_SECONDS = (0.1, 3.0)
"""How long to wait after a reset before the first byte; the second only for the wiring that was named."""
SOON = 0.2
"""Seconds within which a board that was just reset answers, the latency of any adapter included."""
SLOWER = (115200, 57600, 9600)
_QUESTIONS = 9
_QUESTION_BYTES = 7
"""Bytes of a Get ID and its answer."""
_DEVICES = Path("/dev")
_PATTERNS = ("ttyUSB*", "ttyACM*")


def observe(line: BoardLine, *, listen: float = LISTEN_SECONDS, wait: Wait = time.sleep) -> Observations:
    """Look at the line to a board; nothing on the board is changed, but it may be reset.

    Args:
        line: as the person named it.
        listen: seconds to wait for what the board says by itself.
        wait: lets time pass.

    Raises:
        UsageError: the port's address or speed cannot be one.
    """
    seen = Observations(line, ports=ports())
    try:
        with closing(open_link(line.url, baud=line.first_baud)) as link:
            seen = replace(seen, notes=link.notes)
            return _Examination(link, line, listen=listen, wait=wait).observe(seen)
    except LinkError as error:
        return replace(seen, failed=error)


def ports() -> tuple[str, ...]:
    """The serial ports of USB adapters that this machine has."""
    return tuple(sorted(str(path) for pattern in _PATTERNS for path in _DEVICES.glob(pattern)))


@dataclass(frozen=True)
class _Examination:
    link: ControlledLink
    line: BoardLine
    listen: float
    wait: Wait

    def observe(self, seen: Observations) -> Observations:
        asked = self._try_named()
        others = () if asked.found or asked.reply is Reply.ECHO else tuple(self._try_others(asked))
        seen = replace(seen, asked=asked, others=others)
        return self._converse(seen) if seen.last and seen.last.found else seen

    def _try_named(self) -> Trial:
        if self.line.wiring.is_by_hand:
            return self._wake(self.line, _listen(self.link, self.listen))
        for settle in SETTLE_SECONDS:
            trial = self._wake(self.line, self._reset(self.line, settle))
            if trial.reply is not Reply.SILENCE:
                break
        return trial

    def _try_others(self, asked: Trial) -> Iterator[Trial]:
        if not self.link.can_steer:
            return
        for other in _candidates(asked.line):
            if other.first_baud != self.link.baud:
                self.link.set_baud(other.first_baud)
            # Freshly reset, a board needs no second question, nor long for the answer.
            trial = Trial(other, self._reset(other, SETTLE_SECONDS[0]), _answer(self.link, SOON))
            yield trial
            if trial.found:
                return

    def _reset(self, line: BoardLine, settle: float) -> bytes:
        """Reset the board, and return what it says by itself."""
        reset_board(self.link, line.wiring, boot0=True, wait=self.wait)
        self.wait(settle)
        return self.link.drain()

    def _wake(self, line: BoardLine, unasked: bytes) -> Trial:
        first = _answer(self.link, ANSWER_SECONDS)
        return Trial(line, unasked, first, b"" if first else _answer(self.link, ANSWER_SECONDS))

    def _converse(self, seen: Observations) -> Observations:
        bootloader = Bootloader(self.link)
        try:
            bootloader.connect()
            identity = identify(bootloader)
            return replace(seen, identity=identity, latency=_latency(bootloader))
        except LinkError:
            raise
        except BoardError as error:
            return replace(seen, misunderstood=error)


def _candidates(asked: BoardLine) -> Iterator[BoardLine]:
    """The named wiring at lower speeds, then every other wiring."""
    if not asked.wiring.is_by_hand:
        yield from (replace(asked, baud=baud) for baud in SLOWER if baud < asked.first_baud)
    baud = min(asked.first_baud, DEFAULT_BAUD)
    yield from (BoardLine(asked.url, baud, wiring) for wiring in _wirings() if wiring != asked.wiring)


def _wirings() -> Iterator[BoardWiring]:
    """Those with two lines cover those with one: then the other line goes nowhere."""
    for name, reset, boot0 in product(("dtr-rts", "rts-dtr"), (False, True), (False, True)):
        yield WIRINGS[name].inverted(reset=reset, boot0=boot0)
    yield WIRINGS["break"]


def _answer(link: ControlledLink, seconds: float) -> bytes:
    link.write(bytes((SYNC,)))
    return _heard(link, seconds)


def _heard(link: ControlledLink, seconds: float) -> bytes:
    try:
        return link.read(1, timeout=seconds) + link.drain()
    except NoAnswerError:
        return b""


def _listen(link: ControlledLink, seconds: float) -> bytes:
    heard, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        heard += _heard(link, left)
    return heard


def _latency(bootloader: Bootloader) -> float:
    """From a question to its answer, in the middle of some, less the time on the wire."""

    def seconds() -> float:
        began = time.monotonic()
        bootloader.product_id()
        return time.monotonic() - began

    on_the_wire = _QUESTION_BYTES * BITS_PER_BYTE / bootloader.link.baud
    return max(0.0, median(seconds() for _ in range(_QUESTIONS)) - on_the_wire)
