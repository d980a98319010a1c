"""Collect observations on the serial line to a board for `doctor`: listen, send 0x7F, and measure the latency."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

from blockota.errors import BoardError, LinkError, NoAnswerError
from firmware_host.bench.doctor import Observations, Reply, Trial
from firmware_host.bootloader.an3155 import SYNC
from firmware_host.bootloader.client import ANSWER_SECONDS, Bootloader
from firmware_host.bootloader.entry import WIRINGS, BoardLine, Wait, find_wiring, reset_board
from firmware_host.bootloader.identity import identify
from firmware_host.line.link import BITS_PER_BYTE, DEFAULT_BAUD, LineMode, Link, Parity
from firmware_host.line.port_names import latency_remedy, serial_ports
from firmware_host.line.ports import PortLink, open_link

LISTEN_SECONDS = 1.2
"""Seconds to listen before anything is sent: long enough to notice a program that prints every second."""
SETTLE_SECONDS = (0.1, 3.0)
"""Seconds to wait between a reset and the first byte; the second value is tried only with the given wiring."""
SOON = 0.2
"""Seconds within which a bootloader answers after a reset, including the latency of any USB adapter."""
SLOWER = (115200, 57600, 9600)
_QUESTIONS = 9
_QUESTION_BYTES = 7
"""Bytes of a Get ID and its answer."""


def observe(line: BoardLine, *, listen: float = LISTEN_SECONDS, wait: Wait = time.sleep) -> Observations:
    """Observe the line to a board: first listen for some seconds. No memory is changed, but the board may be reset."""
    seen = Observations(line, ports=serial_ports(), latency_remedy=latency_remedy(line.url))
    try:
        with _opened(line) as link:
            seen = replace(seen, notes=link.notes)
            seen = _Examination(link, line, listen=listen, wait=wait).observe(seen)
            can_steer = link.can_steer
    except LinkError as error:
        return replace(seen, failed=error)
    return _try_modes(seen, wait) if can_steer and not seen.identity else seen


@contextmanager
def _opened(line: BoardLine) -> Iterator[PortLink]:
    """Open a port without discarding an echo, so that the echo is observed."""
    mode = replace(line.mode, echo=False)
    with closing(open_link(line.url, baud=line.first_baud, mode=mode)) as link:
        yield link


def _try_modes(seen: Observations, wait: Wait) -> Observations:
    """Try the modes that can cause what was observed, each on the newly opened port."""
    tried = seen.others
    for mode in _other_modes(seen):
        line = replace(seen.line, mode=mode)
        # A driver without a mode for RS485 refuses it.
        with suppress(LinkError), _opened(line) as link:
            examination = _Examination(link, line, listen=0.0, wait=wait)
            trial = examination.try_once()
            tried = (*tried, trial)
            if trial.found:
                found = examination.identified(replace(seen, others=tried, misunderstood=None))
                if found.identity:
                    return found
    # An answer to the first byte says more than the silence in other modes.
    return seen if seen.misunderstood else replace(seen, others=tried)


def _other_modes(seen: Observations) -> Iterator[LineMode]:
    mode, last = seen.line.mode, seen.last
    reply = last.reply if last else Reply.SILENCE
    if seen.misunderstood or reply is Reply.OTHER:
        other = Parity.NONE if mode.parity is Parity.EVEN else Parity.EVEN
        yield replace(mode, parity=other)
    if reply in {Reply.SILENCE, Reply.ECHO} and not seen.line.wiring.uses_rts:
        directions = ((False, False), (True, False), (True, True))
        named = (mode.rs485, mode.invert_rs485)
        yield from (replace(mode, rs485=on, invert_rs485=low) for on, low in directions if (on, low) != named)


@dataclass(frozen=True)
class _Examination:
    link: PortLink
    line: BoardLine
    listen: float
    wait: Wait

    def observe(self, seen: Observations) -> Observations:
        asked = self._try_named()
        others: tuple[Trial, ...] = ()
        if not asked.found and asked.reply is not Reply.ECHO and self.link.can_steer:
            others = tuple(self._try_others())
        seen = replace(seen, asked=asked, others=others)
        return self.identified(seen) if seen.last and seen.last.found else seen

    def identified(self, seen: Observations) -> Observations:
        """Identify the board, and measure the latency of a command without its transmission time."""
        self.link.echoes = bool(seen.last and seen.last.has_echo)
        bootloader = Bootloader(self.link)
        try:
            bootloader.connect()
            identity, taken = identify(bootloader), []
            for _ in range(_QUESTIONS):
                began = time.monotonic()
                bootloader.product_id()
                taken.append(time.monotonic() - began)
        except LinkError:
            raise
        except BoardError as error:
            return replace(seen, misunderstood=error)
        on_the_wire = _QUESTION_BYTES * BITS_PER_BYTE / self.link.baud
        return replace(seen, identity=identity, latency=max(0.0, median(taken) - on_the_wire))

    def try_once(self) -> Trial:
        """Reset the board if the wiring can, and address its bootloader."""
        return self._wake(b"" if self.line.wiring.is_by_hand else self._reset(self.line, SETTLE_SECONDS[0]))

    def _try_named(self) -> Trial:
        if self.line.wiring.is_by_hand:
            unasked, end = b"", time.monotonic() + self.listen
            while (left := end - time.monotonic()) > 0:
                unasked += _heard(self.link, left)
            return self._wake(unasked)
        for settle in SETTLE_SECONDS:
            trial = self._wake(self._reset(self.line, settle))
            if trial.reply is not Reply.SILENCE:
                break
        return trial

    def _try_others(self) -> Iterator[Trial]:
        for other in _other_lines(self.line):
            if other.first_baud != self.link.baud:
                self.link.set_baud(other.first_baud)
            # A bootloader that was just reset answers the first 0x7F within `SOON`.
            trial = Trial(other, self._reset(other, SETTLE_SECONDS[0]), _answer(self.link, SOON))
            yield trial
            if trial.found:
                return

    def _reset(self, line: BoardLine, settle: float) -> bytes:
        """Reset the board, and return the bytes that it sends before it is addressed."""
        reset_board(self.link, line.wiring, boot0=True, wait=self.wait)
        self.wait(settle)
        return self.link.drain()

    def _wake(self, unasked: bytes) -> Trial:
        first = _answer(self.link, ANSWER_SECONDS)
        # A bootloader that was connected before answers the second byte; an echo is not an answer.
        has_answer = first.strip(bytes((SYNC,)))
        return Trial(self.line, unasked, first, b"" if has_answer else _answer(self.link, ANSWER_SECONDS))


def _other_lines(named: BoardLine) -> Iterator[BoardLine]:
    """Yield the lines to try next: the given wiring at lower speeds, then every other wiring."""
    if not named.wiring.is_by_hand:
        yield from (replace(named, baud=baud) for baud in SLOWER if baud < named.first_baud)
    # A wiring with two control lines also works if one of them is not connected, so it covers `dtr` and `rts`.
    polarities = product(("dtr-rts", "rts-dtr"), (False, True), (False, True))
    wirings = [find_wiring(name, invert_reset=reset, invert_boot0=boot0) for name, reset, boot0 in polarities]
    baud = min(named.first_baud, DEFAULT_BAUD)
    for wiring in (*wirings, WIRINGS["break"]):
        if wiring != named.wiring and not (named.mode.rs485 and wiring.uses_rts):
            yield BoardLine(named.url, baud, wiring, named.mode)


def _answer(link: Link, seconds: float) -> bytes:
    link.write(bytes((SYNC,)))
    return _heard(link, seconds)


def _heard(link: Link, seconds: float) -> bytes:
    try:
        return link.read(1, timeout=seconds) + link.drain()
    except NoAnswerError:
        return b""
