"""What is wrong with the line to a board, and what to do: a pure function from observations to findings.

`trials` makes the observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from blockota.errors import Action, BoardError, LinkError, shortened
from firmware_host.bootloader.an3155 import ACK, NACK, SYNC
from firmware_host.bootloader.entry import BoardLine
from firmware_host.bootloader.identity import BoardIdentity

GOOD_LATENCY = 0.004
"""Seconds that a good adapter delays an answer; common ones delay it by 16 ms unless configured otherwise."""
BLOCKS_OF_64_KIB = 256
ANSWERS_A_BLOCK = 3
_KIB = 1024
_SHOWN = 24
_CHECKLIST = (
    "check in this order: the board has power; BOOT0 was 1 when it was reset; reset it once more, because a bootloader "
    "that received noise first ignores everything; the adapter's TX goes to the board's RX (PA10 on an STM32F103) and "
    "its RX to the board's TX (PA9); the grounds are joined; the adapter works at 3.3 V"
)


class Reply(Enum):
    """The answer to the byte 0x7F, with which every session begins (AN3155 section 2)."""

    FRESH = "fresh"
    CONNECTED = "connected"
    SILENCE = "silence"
    ECHO = "echo"
    OTHER = "other"


@dataclass(frozen=True)
class Trial:
    """One attempt to wake a bootloader.

    Attributes:
        line: the wiring and the speed.
        unasked: bytes received before anything was sent.
        first: bytes received after a 0x7F.
        second: bytes received after another one, if nothing was received after the first.
    """

    line: BoardLine
    unasked: bytes
    first: bytes
    second: bytes = b""

    @property
    def reply(self) -> Reply:
        """The meaning of the bytes; some boards send a zero before the ACK, or two ACKs."""
        received = self.first or self.second
        answer = received.lstrip(b"\0")
        if not received:
            return Reply.SILENCE
        if answer in {bytes((ACK,)), bytes((ACK, ACK))}:
            return Reply.FRESH
        if answer in {bytes((NACK,)), bytes((NACK, NACK))}:
            return Reply.CONNECTED
        return Reply.ECHO if answer.startswith(bytes((SYNC,))) and not self.unasked else Reply.OTHER

    @property
    def found(self) -> bool:
        """Whether a bootloader answered, freshly reset if the wiring should have reset it."""
        return self.reply is Reply.FRESH or (self.reply is Reply.CONNECTED and self.line.wiring.is_by_hand)


@dataclass(frozen=True)
class Observations:
    """Observations on one line; each is None or empty if it was not made.

    Attributes:
        line: the line that was named.
        ports: the serial ports of this machine.
        notes: what the operator should know about how the port was opened.
        failed: why the port could not be opened, or was lost.
        asked: the attempt with the named wiring and speed.
        others: attempts with other ones after that had failed; the last one may have found the bootloader.
        misunderstood: how the session failed after a bootloader had answered.
        identity: what the board reported about itself.
        latency: seconds from a question to its answer, without the time on the wire.
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

    @property
    def last(self) -> Trial | None:
        """The attempt that found the bootloader, or the last one that did not."""
        return self.others[-1] if self.others else self.asked


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        about: its identifier in JSON output, such as ``port`` or ``echo``.
        hinders: whether it prevents flashing over the named line.
        what: what was found, a clause.
        remedy: what to do, a clause in the imperative; empty if nothing has to be done.
        action: the remedy as a command or option.
        values: what the action's option needs.
    """

    about: str
    hinders: bool
    what: str
    remedy: str = ""
    action: Action | None = None
    values: Mapping[str, object] = field(default_factory=dict)


def findings(seen: Observations) -> tuple[Finding, ...]:
    """Interpret observations; findings that hinder flashing come first."""
    found = sorted(_findings(seen), key=lambda finding: not finding.hinders)
    if seen.identity and not found[0].hinders:
        identity = seen.identity
        name = identity.chip.name if identity.chip else "unknown"
        size = f"{identity.flash_size // _KIB} KiB of flash" if identity.flash_size else "flash of unknown size"
        board = f"{name}, bootloader {identity.bootloader_version}, {size}"
        return (Finding("ready", hinders=False, what=f"the board can be flashed: {board}"), *found)
    return tuple(found)


def _findings(seen: Observations) -> Iterator[Finding]:
    for note in seen.notes:
        yield Finding("note", hinders=False, what=note)
    if seen.failed:
        others = [port for port in seen.ports if port != seen.line.url]
        what = f"{seen.failed.what}: {seen.failed.why}"
        there = f"{what}; this machine has {shortened(others)}" if others else what
        yield _hindrance("port", there, seen.failed.remedy, seen.failed.action, **seen.failed.values)
    elif seen.last and not seen.last.found:
        yield _no_bootloader(seen, seen.last)
    elif seen.last:
        yield from _session(seen, seen.last)
    if seen.identity:
        yield from _board(seen.identity)
    if seen.latency is not None:
        yield _latency(seen.latency, seen.line.url)


def _hindrance(about: str, what: str, remedy: str, action: Action | None = None, **values: object) -> Finding:
    return Finding(about, hinders=True, what=what, remedy=remedy, action=action, values=values)


def _no_bootloader(seen: Observations, last: Trial) -> Finding:
    trials = [trial for trial in (seen.asked, *seen.others) if trial]
    tried = f"; {len(trials) - 1} other wirings and speeds were tried as well" if len(trials) > 1 else ""
    if any(trial.reply is Reply.CONNECTED for trial in trials):
        return _hindrance(
            "reset",
            f"a bootloader answers, but no wiring resets it, also not {seen.line.description}{tried}",
            "reset the board by hand, or check where the adapter's DTR and RTS go",
            Action.RESET_BY_HAND,
        )
    if last.reply is Reply.ECHO:
        return _hindrance(
            "echo",
            "the bytes sent come back",
            "separate TX and RX, which are joined; or, if the board's program echoes, set BOOT0 to 1 and reset it",
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
            "set BOOT0 to 1 and reset the board; then check even parity, join the grounds, and try 9600 baud",
            Action.LOWER_BAUD,
        )
    return _hindrance("silence", f"nothing answers{tried}", _CHECKLIST)


def _session(seen: Observations, last: Trial) -> Iterator[Finding]:
    if seen.others:
        yield _hindrance(
            "wiring",
            f"the board answers with {last.line.description}, and not with {seen.line.description}",
            "use this line in every command",
            Action.USE_LINE,
            line=last.line,
        )
    elif last.reply is Reply.CONNECTED:
        yield Finding("conversation", hinders=False, what="the bootloader was connected already, which is fine")
    if seen.misunderstood:
        yield _hindrance(
            "parity",
            f"the bootloader answers the first byte, and then {seen.misunderstood.what}",
            "set the line to 8 data bits, even parity, 1 stop bit, at a serial server in its own settings; if it is "
            "set so, use a shorter cable, join the grounds, and try a lower speed",
            Action.LOWER_BAUD,
        )


def _board(identity: BoardIdentity) -> Iterator[Finding]:
    if identity.chip is None:
        yield _hindrance(
            "unknown-chip",
            f"an STM32 answers that is not supported: product id {identity.product_id:#05x}",
            "update BlockOTA, or ask the vendor how to flash this board",
        )
    elif identity.readout_protected:
        yield _hindrance(
            "readout-protection",
            f"readout protection of the {identity.chip.name} is on, so nothing can be written or proven",
            "remove it, which erases the whole flash",
            Action.UNPROTECT_READOUT,
        )
    elif identity.write_protected_pages:
        spans = shortened(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in identity.write_protected or ())
        yield _hindrance(
            "write-protection",
            f"{len(identity.write_protected_pages)} pages are protected from writing: {spans}",
            "remove the protection, which erases nothing",
            Action.UNPROTECT_WRITE,
        )


def _latency(seconds: float, url: str) -> Finding:
    what = f"an answer takes {seconds * 1000:.1f} ms beside its time on the wire"
    if seconds <= GOOD_LATENCY:
        return Finding("latency", hinders=False, what=what)
    lost = seconds * ANSWERS_A_BLOCK * BLOCKS_OF_64_KIB
    name = url.rsplit("/", 1)[-1]
    remedy = f"write 1 into /sys/bus/usb-serial/devices/{name}/latency_timer (as root), or use another adapter"
    if "://" in url:
        remedy = "use a serial server nearer to the board"
    return Finding("latency", hinders=False, what=f"{what}: writing 64 KiB takes {lost:.0f} s longer", remedy=remedy)


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN])[1:]
