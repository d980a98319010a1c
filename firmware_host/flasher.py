"""Puts an image into a board's flash, by plan, and tells what happens as it happens.

An acknowledgement from a bootloader proves nothing: protected pages, worn cells and pages that were not erased
are acknowledged as well (AN3155, notes to Erase and Write Memory). So everything is read back.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from blockota.errors import BoardError, FlashProofError, LinkError, NoAnswerError, RefusedError
from firmware_host.an3155 import Command
from firmware_host.bootloader import Bootloader
from firmware_host.flash_plan import FlashPlan, chunks, overlap, without
from firmware_host.link import Link

QUIET_SECONDS = 0.3
"""How long a started program that has said something may be silent before `start` stops listening."""

_AGAIN = (
    "set BOOT0 to 1, reset the board, and run the same command again: it writes the image whole; "
    "if it calls the board's contents unknown, because an older program was half erased, add --replace-unknown"
)


@dataclass(frozen=True)
class Preserved:
    """Bytes beside the image, in a unit that will be erased; a cautious caller keeps them until the end.

    Attributes:
        address: of the first byte.
        data: the bytes.
    """

    address: int
    data: bytes


@dataclass(frozen=True)
class Erased:
    """Bytes erased so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True)
class Written:
    """Bytes written so far, of how many; blocks that stay as erased do not count."""

    done: int
    total: int


@dataclass(frozen=True)
class ReadBack:
    """Bytes read back so far and found right, of how many."""

    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """The flash was written and read back whole.

    Attributes:
        flash: what it now holds over exactly the image's addresses.
        sha256: the digest of that.
        erased: bytes erased.
        written: bytes written.
    """

    flash: bytes
    sha256: bytes
    erased: int
    written: int


Event = Preserved | Erased | Written | ReadBack | Finished
"""What `carry_out` tells of."""


def read_flash(bootloader: Bootloader, address: int, *, length: int) -> Iterator[bytes]:
    """Read a stretch of memory in blocks of at most 256 bytes, in order of address.

    Raises:
        RefusedError: the chip has no such memory.
        BoardError: the board fell silent, or refused.
    """
    for chunk in chunks(range(address, address + length)):
        yield bootloader.read(chunk.start, len(chunk))


def carry_out(plan: FlashPlan, bootloader: Bootloader) -> Generator[Event]:
    """Flash an image, and read it back.

    Args:
        plan: what to do.
        bootloader: connected to the board that the plan was made for.

    Yields:
        What was done; `Finished` comes last, and only when every byte read back right.

    Raises:
        RefusedError: the bootloader lacks a command for it; nothing was changed.
        FlashProofError: the flash does not read back as it should (check 10).
        BoardError: the board or its link failed, or a KeyboardInterrupt came, or was thrown in where the caller
            caught it. Each error says in what state the flash is.
    """
    _require_commands(bootloader)
    flashing = _Flashing(plan, bootloader)
    try:
        yield from flashing.steps()
    except BoardError as error:
        remedy = error.remedy if isinstance(error, FlashProofError) else _AGAIN
        raise type(error)(error.what, why=f"{error.why}; {flashing.state()}", remedy=remedy) from error
    except KeyboardInterrupt as error:
        raise BoardError("flashing was interrupted", why=flashing.state(), remedy=_AGAIN) from error


def _require_commands(bootloader: Bootloader) -> None:
    commands = bootloader.capabilities.commands
    erasers = {Command.ERASE, Command.EXTENDED_ERASE}
    if not {Command.READ_MEMORY, Command.WRITE_MEMORY} <= commands or not erasers & commands:
        raise RefusedError(
            "this bootloader cannot flash",
            why=f"its commands are {', '.join(f'{code:02x}' for code in sorted(commands))}",
            remedy="use a board whose bootloader reads, writes and erases",
        )


class _Stage(Enum):
    """What is being done, as far as it decides what an interruption leaves behind."""

    PRESERVING = auto()
    UNSEALING = auto()
    ERASING = auto()
    WRITING = auto()
    SEALING = auto()
    PROVING_SEAL = auto()
    PROVEN = auto()


class _Flashing:
    """One plan while it is carried out: the bytes to write, and how far it has come."""

    def __init__(self, plan: FlashPlan, bootloader: Bootloader) -> None:
        self._plan, self._bootloader = plan, bootloader
        self._wanted = _Memory(plan.span, plan.chip.erased_byte)
        self._wanted[plan.image.span] = plan.image.data
        self._found = _Memory(plan.span, plan.chip.erased_byte)
        self._stage = _Stage.PRESERVING
        self._erased_units = 0
        self._pending: list[range] = []

    def steps(self) -> Iterator[Event]:
        yield from self._preserve()
        self._pending = [block for block in (*self._plan.blocks, self._plan.seal) if not self._wanted.blank(block)]
        total = sum(map(len, self._pending))
        yield from self._erase()
        yield from self._write(total)
        yield from self._prove_and_seal(total)
        self._stage = _Stage.PROVEN
        flash = self._found[self._plan.image.span]
        yield Finished(flash, hashlib.sha256(flash).digest(), erased=len(self._plan.span), written=total)

    def _preserve(self) -> Iterator[Event]:
        self._bootloader.target(self._plan.chip, flash_size=self._plan.flash_size)
        for span in self._plan.preserved:
            self._wanted[span] = b"".join(read_flash(self._bootloader, span.start, length=len(span)))
            if not self._wanted.blank(span):
                yield Preserved(span.start, self._wanted[span])

    def _erase(self) -> Iterator[Event]:
        self._stage = _Stage.UNSEALING
        done = 0
        # One command a unit: it costs two bytes' time, and an interruption is known to the unit.
        for unit in self._plan.units:
            self._bootloader.erase_pages([unit.number])
            if self._stage is _Stage.UNSEALING:
                self._prove_unsealed()
            self._stage = _Stage.ERASING
            self._erased_units += 1
            done += unit.size
            yield Erased(done, len(self._plan.span))

    def _prove_unsealed(self) -> None:
        # The old first words must be gone before anything else goes: else an old program would start that is
        # half erased, or two programs mixed.
        seal = self._plan.seal
        self._found[seal] = self._bootloader.read(seal.start, len(seal))
        if not self._found.blank(seal):
            page = self._plan.units[0].number
            raise FlashProofError(
                "check 10 failed, the flash does not hold what it should",
                why=f"page {page} does not erase, at {seal.start:#010x} it still reads {self._found[seal].hex(' ')}",
                remedy="remove write protection, if there is any; otherwise the page is worn out: replace the board",
            )

    def _write(self, total: int) -> Iterator[Event]:
        self._stage = _Stage.WRITING
        while self._pending and self._pending[0] != self._plan.seal:
            yield self._write_next(total)

    def _write_next(self, total: int) -> Written:
        block = self._pending[0]
        self._bootloader.write(block.start, self._wanted[block])
        del self._pending[0]
        return Written(total - sum(map(len, self._pending)), total)

    def _prove_and_seal(self, total: int) -> Iterator[Event]:
        """Read back all that was erased but the seal, then write the seal, then read it back."""
        proof = len(self._plan.span)
        yield from self._prove(without(self._plan.span, self._plan.seal), done=0, total=proof)
        if self._pending:
            self._stage = _Stage.SEALING
            yield self._write_next(total)
        self._stage = _Stage.PROVING_SEAL
        yield from self._prove([self._plan.seal], done=proof - len(self._plan.seal), total=proof)

    def _prove(self, spans: Iterable[range], *, done: int, total: int) -> Iterator[ReadBack]:
        for chunk in (chunk for span in spans for chunk in chunks(span)):
            self._found[chunk] = self._bootloader.read(chunk.start, len(chunk))
            if self._found[chunk] != self._wanted[chunk]:
                raise self._mismatch(chunk)
            done += len(chunk)
            yield ReadBack(done, total)

    def _mismatch(self, chunk: range) -> FlashProofError:
        pairs = zip(chunk, self._found[chunk], self._wanted[chunk], strict=True)
        address, found, wanted = next(row for row in pairs if row[1] != row[2])
        return FlashProofError(
            "check 10 failed, the flash does not hold what was written",
            why=f"at {address:#010x} it reads {found:#04x} instead of {wanted:#04x}",
            remedy="run the command again; if it fails at the same address, the page is worn out: replace the board",
        )

    def state(self) -> str:
        """Say what the flash holds now."""
        if self._stage is _Stage.PRESERVING:
            return "nothing was changed"
        units = self._plan.units
        unwritten = sum(any(block.start in unit.span for block in self._pending) for unit in units)
        written = len(units) - unwritten if self._erased_units == len(units) else 0
        counts = f"erased {self._erased_units} of {len(units)} pages, wrote {written} of {len(units)}"
        return "; ".join((counts, *self._losses(), self._consequence()))

    def _losses(self) -> Iterator[str]:
        for span in self._plan.preserved:
            lost = any(overlap(block, span) for block in self._pending)
            if lost and not self._wanted.blank(span):
                yield f"the bytes {span.start:#010x} to {span.stop:#010x} beside the image are not all written back"

    def _consequence(self) -> str:
        page = self._plan.units[0].number
        if self._stage is _Stage.PROVEN:
            return "everything is written and reads back right"
        if self._stage is _Stage.PROVING_SEAL:
            return "everything is written, but its first words are not proven"
        if self._stage is _Stage.SEALING:
            return "everything but the image's first words reads back right, and whether those are written is unknown"
        if self._stage is _Stage.UNSEALING:
            return f"{self._unsealing()}; nothing else was changed"
        if self._plan.image.load_address == self._plan.chip.flash_base:
            return f"the vector table in page {page} reads erased, so the board will not start a half written image"
        return f"the image's first words, in page {page}, read erased, so that it cannot be taken for whole"

    def _unsealing(self) -> str:
        page = self._plan.units[0].number
        if not self._found.blank(self._plan.seal):
            return f"page {page} was not erased whole"
        return f"whether page {page} is erased is unknown, and so is what the board will start"


class _Memory:
    """The bytes of a stretch of addresses, by address."""

    def __init__(self, span: range, blank: int) -> None:
        self._start, self._blank = span.start, bytes((blank,))
        self._bytes = bytearray(self._blank * len(span))

    def __getitem__(self, span: range) -> bytes:
        return bytes(self._bytes[span.start - self._start : span.stop - self._start])

    def __setitem__(self, span: range, data: bytes) -> None:
        self._bytes[span.start - self._start : span.stop - self._start] = data

    def blank(self, span: range) -> bool:
        return not self[span].strip(self._blank)


def start(bootloader: Bootloader, address: int, *, listen: float) -> str:
    """Start the program at an address, and listen to what it prints.

    Args:
        bootloader: connected; it is gone afterwards.
        address: of the program's vector table.
        listen: seconds to wait for the text; less is waited once the board has said something and is quiet.

    Returns:
        The text, with control characters and bytes that are no UTF-8 in an escaped form.

    Raises:
        RefusedError: the chip has no program memory there.
        BoardError: the board fell silent before it started, or refused.
    """
    bootloader.go(address)
    return _printable(b"".join(_heard(bootloader.link, listen)))


def _heard(link: Link, listen: float) -> Iterator[bytes]:
    deadline = time.monotonic() + listen
    patience = listen
    # A lost line or the person's Control-C ends the listening, and takes nothing back.
    with contextlib.suppress(NoAnswerError, LinkError, KeyboardInterrupt):
        while (left := deadline - time.monotonic()) > 0:
            yield link.read(1, timeout=min(patience, left))
            patience = QUIET_SECONDS


def _printable(data: bytes) -> str:
    text = data.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n")
    return "".join(letter if letter.isprintable() or letter == "\n" else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
