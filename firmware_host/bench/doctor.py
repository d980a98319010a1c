"""Diagnose the line to a board.

`observe` listens on the line, sends 0x7F and measures the latency; `findings` interprets the observations. The function
`findings` is pure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import product
from statistics import median

from blockota.errors import Action, BoardError, LinkError, NoAnswerError, shortened
from firmware_host.bootloader.an3155 import ACK, NACK, SYNC
from firmware_host.bootloader.client import ANSWER_SECONDS, Bootloader
from firmware_host.bootloader.entry import WIRINGS, BoardLine, Wait, find_wiring, reset_board
from firmware_host.bootloader.identity import BoardIdentity, identify
from firmware_host.line.link import BITS_PER_BYTE, DEFAULT_BAUD, LineMode, Link, Parity
from firmware_host.line.port_names import latency_remedy, serial_ports
from firmware_host.line.ports import RFC2217, PortLink, open_link

GOOD_LATENCY = 0.004
"""The answer delay of a good USB adapter, in seconds. Common adapters delay an answer by 16 ms by default."""
BLOCKS_OF_64_KIB = 256
ANSWERS_A_BLOCK = 3
LISTEN_SECONDS = 1.2
"""Seconds to listen before anything is sent. This is long enough to notice a program that prints every second."""
SETTLE_SECONDS = (0.1, 3.0)
"""Seconds to wait between a reset and the first byte. The second value is tried only with the given wiring."""
SOON = 0.2
"""Seconds within which a bootloader answers after a reset, including the latency of any USB adapter."""
SLOWER = (115200, 57600, 9600)
_QUESTIONS = 9
_QUESTION_BYTES = 7
"""The number of bytes of a Get ID command and its answer."""
_KIB = 1024
_SHOWN = 24
_CHECKLIST = (
    "check in this order: the board has power; BOOT0 was 1 when it was reset; reset it once more, because a bootloader "
    "that received noise first ignores everything; the adapter's TX goes to the board's RX (PA10 on an STM32F103) and "
    "its RX to the board's TX (PA9); the grounds are connected; the adapter works at 3.3 V"
)


class Reply(Enum):
    """The kinds of answer to 0x7F, the first byte of every bootloader session (AN3155 section 2)."""

    FRESH = "fresh"
    CONNECTED = "connected"
    SILENCE = "silence"
    ECHO = "echo"
    OTHER = "other"


_REPLIES = {
    bytes([code] * count): reply for code, reply in ((ACK, Reply.FRESH), (NACK, Reply.CONNECTED)) for count in (1, 2)
}
"""The kinds of complete answers. Some boot ROMs send the byte twice."""


@dataclass(frozen=True)
class Trial:
    """One attempt to get an answer from a bootloader over a line.

    The link does not discard an echo. The attempt records the bytes received before and after the first 0x7F. If the
    first 0x7F got no answer, a second 0x7F is sent, and the bytes after it are recorded too.
    """

    line: BoardLine
    unasked: bytes
    first: bytes
    second: bytes = b""

    @property
    def reply(self) -> Reply:
        """The kind of the answer, without an echo.

        A zero byte before the answer is ignored. A repeated ACK or NACK counts as one.
        """
        received = self.first or self.second
        if not received:
            return Reply.SILENCE
        if self.has_echo:
            # Without an answer to the first 0x7F, the second one can have an answer.
            received = next((heard[1:] for heard in (self.first, self.second) if heard[1:]), b"")
            if not received:
                return Reply.ECHO
        return _REPLIES.get(received.lstrip(b"\0"), Reply.OTHER)

    @property
    def has_echo(self) -> bool:
        """Whether the line returned the 0x7F that was sent."""
        return (self.first or self.second).startswith(bytes((SYNC,))) and not self.unasked

    @property
    def found(self) -> bool:
        """Whether a bootloader answered. A board that the wiring can reset must answer after a reset."""
        return self.reply is Reply.FRESH or (self.reply is Reply.CONNECTED and self.line.wiring.is_by_hand)


@dataclass(frozen=True)
class Observations:
    """Observations on the operator's serial line. The attribute of a missing observation is None or empty.

    Attributes:
        notes: notes for the operator about how the port was opened.
        failed: the error if the port could not be opened or was lost.
        asked: the attempt with the given wiring and speed.
        others: attempts with other wirings, speeds and modes, if the attempt with the given settings failed. The
            attempts end with the first success.
        misunderstood: the error if the session failed after the bootloader's first answer.
        latency: seconds from a command to its answer, without the transmission time of the bytes.
    """

    line: BoardLine
    ports: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failed: LinkError | None = None
    asked: Trial | None = None
    others: tuple[Trial, ...] = ()
    misunderstood: BoardError | None = None
    identity: BoardIdentity | None = None
    latency: float | None = None
    latency_remedy: str = ""

    @property
    def last(self) -> Trial | None:
        """The last attempt: either the attempt that found the bootloader, or the last failed attempt."""
        return self.others[-1] if self.others else self.asked


@dataclass(frozen=True)
class Finding:
    """One finding of the diagnosis, with the parts of an error message.

    `about` identifies the finding in JSON output, such as ``port`` or ``echo``. `hinders` is True for a finding that
    prevents the use of the line.
    """

    about: str
    what: str
    remedy: str = ""
    action: Action | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    hinders: bool = False


def findings(seen: Observations) -> tuple[Finding, ...]:
    """Interpret the observations.

    Findings that prevent flashing come first.
    """
    found = sorted(_findings(seen), key=lambda finding: not finding.hinders)
    if seen.identity and not found[0].hinders:
        identity = seen.identity
        name = identity.chip.name if identity.chip else "unknown"
        size = f"{identity.flash_size // _KIB} KiB of flash" if identity.flash_size else "flash of unknown size"
        board = f"{name}, bootloader {identity.bootloader_version}, {size}"
        return (Finding("ready", f"the board can be flashed: {board}"), *found)
    return tuple(found)


def _findings(seen: Observations) -> Iterator[Finding]:
    yield from (Finding("note", note) for note in seen.notes)

    if seen.failed:
        others = [port for port in seen.ports if port != seen.line.url]
        what = f"{seen.failed.what}: {seen.failed.why}"
        there = f"{what}; this machine has {shortened(others)}" if others else what
        yield _hindrance("port", there, seen.failed.remedy, seen.failed.action, **seen.failed.values)
    elif seen.last and not seen.last.found:
        yield _no_bootloader(seen)
    elif seen.last:
        yield from _session(seen, seen.last)

    if seen.identity:
        yield from _board(seen.identity)
    if seen.latency is not None:
        yield _latency(seen, seen.latency)


def _hindrance(about: str, what: str, remedy: str, action: Action | None = None, **values: object) -> Finding:
    return Finding(about, what, remedy, action, values, hinders=True)


def _no_bootloader(seen: Observations) -> Finding:
    trials = [trial for trial in (seen.asked, *seen.others) if trial]
    tried = f"; {len(trials) - 1} other settings of the line were tried as well" if len(trials) > 1 else ""

    # The first sign that fits decides. A silent line is what remains.
    if any(trial.reply is Reply.CONNECTED for trial in trials):
        return _hindrance(
            "reset",
            f"a bootloader answers, but no wiring resets the board, not even {seen.line.description}{tried}",
            "reset the board by hand, or check how the adapter's DTR and RTS are connected",
            Action.RESET_BY_HAND,
        )

    if trials[0].reply is Reply.ECHO and not seen.line.mode.echo:
        return _hindrance(
            "echo",
            f"the line returns the bytes that were sent, and no bootloader answers{tried}",
            "set BOOT0 to 1 and reset the board; on a line with two data wires, check whether TX and RX are connected "
            "to each other",
        )

    if unasked := next((trial.unasked for trial in trials if trial.unasked), b""):
        return _hindrance(
            "application",
            f"the board's program is running and sends {_shown(unasked)}{tried}",
            "set BOOT0 to 1 and reset the board; if a line drives BOOT0, invert it",
            Action.INVERT_BOOT0,
        )

    if answer := next((trial.first or trial.second for trial in trials if trial.reply is Reply.OTHER), b""):
        return _hindrance(
            "garbage",
            f"the answer is garbled, or not a bootloader's: {_shown(answer)}{tried}",
            "set BOOT0 to 1 and reset the board; then check even parity, connect the grounds, and try 9600 baud",
            Action.LOWER_BAUD,
        )

    what = "the line returns what is sent, but no bootloader answers" if trials[0].has_echo else "nothing answers"
    return _hindrance("silence", f"{what}{tried}", _CHECKLIST)


def _session(seen: Observations, last: Trial) -> Iterator[Finding]:
    line = replace(last.line, mode=replace(last.line.mode, echo=last.has_echo))
    if line != seen.line:
        yield _hindrance(
            _difference(line, seen.line),
            f"the board answers with {line.description}, and not with {seen.line.description}",
            "use these settings of the line in every command",
            Action.USE_LINE,
            line=line,
            given=seen.line,
        )
    elif last.reply is Reply.CONNECTED:
        yield Finding("conversation", "the bootloader was already connected, which does no harm")

    if seen.misunderstood:
        yield _hindrance(
            "parity",
            f"the bootloader answers the first byte, and then {seen.misunderstood.what}",
            "set the line to 8 data bits, even parity and 1 stop bit, on a serial server in its own settings; if the "
            "settings are right, use a shorter cable, connect the grounds, and try a lower speed",
            Action.LOWER_BAUD,
        )


def _difference(line: BoardLine, given: BoardLine) -> str:
    """Return the wrong setting: ``parity``, ``rs485``, ``echo`` or ``wiring``. The board answers with `line`."""
    if line.mode.parity is not given.mode.parity:
        return "parity"
    if (line.mode.rs485, line.mode.invert_rs485) != (given.mode.rs485, given.mode.invert_rs485):
        return "rs485"
    return "echo" if line.mode.echo is not given.mode.echo and line.wiring == given.wiring else "wiring"


def _board(identity: BoardIdentity) -> Iterator[Finding]:
    if identity.chip is None:
        yield _hindrance(
            "unknown-chip",
            f"the board's STM32 is not supported: product id {identity.product_id:#05x}",
            "update BlockOTA, or ask the vendor how to flash this board",
        )
    elif identity.readout_protected:
        yield _hindrance(
            "readout-protection",
            f"readout protection of the {identity.chip.name} is on, so its flash cannot be written or read back",
            "remove the readout protection, which erases the whole flash",
            Action.UNPROTECT_READOUT,
        )
    elif identity.write_protected_pages:
        spans = shortened(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in identity.write_protected or ())
        yield _hindrance(
            "write-protection",
            f"{len(identity.write_protected_pages)} pages are protected from writing: {spans}",
            "remove the write protection, which erases nothing",
            Action.UNPROTECT_WRITE,
        )


def _latency(seen: Observations, seconds: float) -> Finding:
    what = f"an answer takes {seconds * 1000:.1f} ms in addition to its time on the wire"
    if seconds <= GOOD_LATENCY:
        return Finding("latency", what)
    lost = seconds * ANSWERS_A_BLOCK * BLOCKS_OF_64_KIB
    what = f"{what}: writing 64 KiB takes {lost:.0f} s longer"
    if not (seen.last and seen.last.line.mode.rs485 and seen.line.url.startswith(RFC2217)):
        return Finding("latency", what, seen.latency_remedy)
    # RTS is switched by commands over the network, before and after each frame.
    what = f"{what}, because RTS is switched over the network for each frame"
    remedy = "let the serial server switch the transceiver by its own RS485 mode, and omit rs485"
    return Finding("latency", what, remedy, Action.SWITCH_RS485_ELSEWHERE)


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN])[1:]


def observe(line: BoardLine, *, listen: float = LISTEN_SECONDS, wait: Wait = time.sleep) -> Observations:
    """Observe the line to a board, and listen for `listen` seconds first.

    The board's memory is not changed, but the board may be reset.
    """
    seen = Observations(line, ports=serial_ports(), latency_remedy=latency_remedy(line.url))
    try:
        with _opened(line) as link:
            seen = replace(seen, notes=link.notes)
            seen = _LineExamination(link, line, listen=listen, wait=wait).observe(seen)
            can_steer = link.can_steer
    except LinkError as error:
        return replace(seen, failed=error)
    return _try_modes(seen, wait) if can_steer and not seen.identity else seen


@contextmanager
def _opened(line: BoardLine) -> Iterator[PortLink]:
    """Open a port so that an echo is not discarded and can be observed."""
    mode = replace(line.mode, echo=False)
    with closing(open_link(line.url, baud=line.first_baud, mode=mode)) as link:
        yield link


def _try_modes(seen: Observations, wait: Wait) -> Observations:
    """Try the other line modes with which the board may answer. The port is opened again for each mode."""
    tried = seen.others
    for mode in _other_modes(seen):
        line = replace(seen.line, mode=mode)
        # A driver without a mode for RS485 refuses it.
        with suppress(LinkError), _opened(line) as link:
            examination = _LineExamination(link, line, listen=0.0, wait=wait)
            trial = examination.try_once()
            tried = (*tried, trial)
            if trial.found:
                found = examination.identified(replace(seen, others=tried, misunderstood=None))
                if found.identity:
                    return found
    # An answer to the first byte is stronger evidence than the silence in other modes.
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
class _LineExamination:
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
        """Reset the board if the wiring allows it, and send 0x7F to its bootloader."""
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
        """Reset the board, and return the bytes that the board sends before the first 0x7F."""
        reset_board(self.link, line.wiring, boot0=True, wait=self.wait)
        self.wait(settle)
        return self.link.drain()

    def _wake(self, unasked: bytes) -> Trial:
        first = _answer(self.link, ANSWER_SECONDS)
        # A bootloader that was connected before answers the second byte; an echo is not an answer.
        has_answer = first.strip(bytes((SYNC,)))
        return Trial(self.line, unasked, first, b"" if has_answer else _answer(self.link, ANSWER_SECONDS))


def _other_lines(named: BoardLine) -> Iterator[BoardLine]:
    """Yield the line settings to try next: the given wiring at lower speeds, then every other wiring."""
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
