"""What is wrong with the line to a board, and what to do: a pure function from what was observed to findings.

`line_trials` observes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from blockota.errors import BoardError, LinkError
from firmware_host.bootloader.an3155 import ACK, NACK, SYNC
from firmware_host.bootloader.entry import BoardLine
from firmware_host.bootloader.identity import BoardIdentity

GOOD_LATENCY = 0.004
"""Seconds that an adapter may hold an answer back; common ones hold it for 16 ms until they are told not to."""
BLOCKS_OF_64_KIB = 256
ANSWERS_A_BLOCK = 3
_KIB = 1024
_SHOWN = 24
_CHECKLIST = (
    "go through these in this order: the board has power; BOOT0 was 1 when it was reset; reset it once more, because "
    "a bootloader that heard noise first stays deaf; the adapter's TX goes to the board's RX (PA10 on an STM32F103) "
    "and its RX to the board's TX (PA9); the grounds are joined; the adapter works at 3.3 V"
)


class Reply(Enum):
    """What came back to the byte 0x7F, with which every conversation begins."""

    FRESH = "fresh"
    IN_CONVERSATION = "in conversation"
    SILENCE = "silence"
    ECHO = "echo"
    OTHER = "other"


@dataclass(frozen=True)
class Trial:
    """One attempt to wake a bootloader.

    Attributes:
        line: the wiring and the speed that were tried.
        unasked: what the board said before anything was sent.
        first: what came to a 0x7F.
        second: what came to another, where nothing came to the first.
    """

    line: BoardLine
    unasked: bytes
    first: bytes
    second: bytes = b""

    @property
    def reply(self) -> Reply:
        """What the answers mean (AN3155 section 2; some boards put a zero before the ACK, or send two)."""
        heard = self.first or self.second
        meant = heard.lstrip(b"\0")
        if not heard:
            return Reply.SILENCE
        if meant in {bytes((ACK,)), bytes((ACK, ACK))}:
            return Reply.FRESH
        if meant in {bytes((NACK,)), bytes((NACK, NACK))}:
            return Reply.IN_CONVERSATION
        return Reply.ECHO if meant.startswith(bytes((SYNC,))) and not self.unasked else Reply.OTHER

    @property
    def found(self) -> bool:
        """Whether a bootloader answered, freshly reset where the wiring should have done that."""
        return self.reply is Reply.FRESH or (self.reply is Reply.IN_CONVERSATION and self.line.wiring.is_by_hand)


@dataclass(frozen=True)
class Observations:
    """What was seen on the way to one board; each part is None or empty where it did not come to that.

    Attributes:
        line: as the person named it.
        ports: the serial ports that this machine has.
        notes: what the port had to do differently.
        failed: why the port could not be opened, or was lost.
        asked: the attempt with the wiring and the speed that were named.
        others: attempts with other ones after that had failed; the last one may have found the bootloader.
        misunderstood: how the conversation failed after a bootloader had answered.
        identity: what the board said of itself.
        latency: seconds from a question to its answer, less the time on the wire.
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
    """One thing that was found.

    Attributes:
        about: a word for machines, such as ``port`` or ``echo``.
        hinders: whether the board cannot be flashed because of it, with the options that were named.
        what: a clause.
        remedy: what to do, a clause in the imperative; empty where nothing has to be done.
    """

    about: str
    hinders: bool
    what: str
    remedy: str = ""


def findings(seen: Observations) -> tuple[Finding, ...]:
    """What the observations mean, the weightiest first."""
    found = sorted(_findings(seen), key=lambda finding: not finding.hinders)
    if seen.identity and not found[0].hinders:
        return (Finding("ready", hinders=False, what=f"the board can be flashed: {_name(seen.identity)}"), *found)
    return tuple(found)


def _findings(seen: Observations) -> Iterator[Finding]:
    for note in seen.notes:
        yield Finding("note", hinders=False, what=note)
    if seen.failed:
        yield _port(seen, seen.failed)
    elif seen.last and not seen.last.found:
        yield _no_bootloader(seen, seen.last)
    elif seen.last:
        yield from _conversation(seen, seen.last)
    if seen.identity:
        yield from _board(seen.identity)
    if seen.latency is not None:
        yield _latency(seen.latency, seen.line.url)


def _port(seen: Observations, failed: LinkError) -> Finding:
    others = [port for port in seen.ports if port != seen.line.url]
    there = f"; this machine has {', '.join(others)}" if others else ""
    return Finding("port", hinders=True, what=f"{failed.what}: {failed.why}{there}", remedy=failed.remedy)


def _no_bootloader(seen: Observations, last: Trial) -> Finding:
    trials = [trial for trial in (seen.asked, *seen.others) if trial]
    tried = f"; {len(trials) - 1} other wirings and speeds were tried as well" if len(trials) > 1 else ""
    unasked = next((trial.unasked for trial in trials if trial.unasked), b"")
    if any(trial.reply is Reply.IN_CONVERSATION for trial in trials):
        return Finding(
            "reset",
            hinders=True,
            what=f"a bootloader answers, but no wiring resets it, that of {seen.line.options} neither{tried}",
            remedy="reset the board by hand and leave --wiring out, or look where the adapter's DTR and RTS go",
        )
    if last.reply is Reply.ECHO:
        return Finding(
            "echo",
            hinders=True,
            what="our own bytes come back",
            remedy="part TX and RX, which are joined; or, if the board's program echoes, set BOOT0 to 1 and reset it",
        )
    if unasked:
        return Finding(
            "application",
            hinders=True,
            what=f"the board's program runs, it says {_shown(unasked)} by itself{tried}",
            remedy="set BOOT0 to 1 and reset the board; where a line drives BOOT0, turn it round with --invert-boot0",
        )
    answer = next((trial.first or trial.second for trial in trials if trial.reply is Reply.OTHER), b"")
    if answer:
        return Finding(
            "garbage",
            hinders=True,
            what=f"what answers is no bootloader, or is garbled: it said {_shown(answer)}{tried}",
            remedy="set BOOT0 to 1 and reset the board; then check even parity, join the grounds, and try --baud 9600",
        )
    return Finding("silence", hinders=True, what=f"nothing answers{tried}", remedy=_CHECKLIST)


def _conversation(seen: Observations, last: Trial) -> Iterator[Finding]:
    if seen.others:
        yield Finding(
            "wiring",
            hinders=True,
            what=f"the board answers with {last.line.options}, and not with {seen.line.options}",
            remedy=f"say {last.line.options} to every command",
        )
    elif last.reply is Reply.IN_CONVERSATION:
        yield Finding("conversation", hinders=False, what="the bootloader was in conversation already, which is fine")
    if seen.misunderstood:
        yield Finding(
            "parity",
            hinders=True,
            what=f"the bootloader answers the first byte, and then {seen.misunderstood.what}",
            remedy="set the line to 8 data bits, even parity, 1 stop bit, at a serial server in its own settings; "
            "if it is, use a shorter cable, join the grounds, and try a lower --baud",
        )


def _board(identity: BoardIdentity) -> Iterator[Finding]:
    if identity.chip is None:
        yield Finding(
            "unknown-chip",
            hinders=True,
            what=f"an STM32 answers that this program does not know: product id {identity.product_id:#05x}",
            remedy="update BlockOTA, or ask the vendor how to flash this board",
        )
    elif identity.readout_protected:
        yield Finding(
            "readout-protection",
            hinders=True,
            what=f"the {identity.chip.name} is protected from being read, so nothing can be written or proven",
            remedy="lift it with `blockota board unprotect --readout`, which erases the whole flash",
        )
    elif identity.write_protected_pages:
        spans = ", ".join(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in identity.write_protected or ())
        yield Finding(
            "write-protection",
            hinders=True,
            what=f"{len(identity.write_protected_pages)} pages are protected from writing: {spans}",
            remedy="lift it with `blockota board unprotect --write`, which erases nothing",
        )


def _latency(seconds: float, url: str) -> Finding:
    what = f"an answer takes {seconds * 1000:.1f} ms beside its time on the wire"
    if seconds <= GOOD_LATENCY:
        return Finding("latency", hinders=False, what=what)
    lost = seconds * ANSWERS_A_BLOCK * BLOCKS_OF_64_KIB
    name = url.rsplit("/", 1)[-1]
    remedy = (
        "use a serial server nearer to the board"
        if "://" in url
        else f"write 1 into /sys/bus/usb-serial/devices/{name}/latency_timer (as root), or use another adapter"
    )
    return Finding("latency", hinders=False, what=f"{what}: writing 64 KiB lasts {lost:.0f} s longer", remedy=remedy)


def _name(identity: BoardIdentity) -> str:
    name = identity.chip.name if identity.chip else "unknown"
    size = f"{identity.flash_size // _KIB} KiB of flash" if identity.flash_size else "flash of unknown size"
    return f"{name}, bootloader {identity.bootloader_version}, {size}"


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN])[1:]
