"""Hashes a board's flash on the chip itself: 65 KiB are not read over the line, but 40 bytes.

A program of some 900 bytes (``stub/stub.s``, its pages in ``stub/README.md``) is written to the chip's RAM through the
bootloader and started with Go. It ends with a reset, which with BOOT0 at 1 brings the bootloader back, and its results
are read from the RAM. The ROM and this program run in place of the installed firmware, so that no firmware can forge
the answer; a nonce tells it from what lay in RAM before.

Nothing that was not checked is run: the first 88 bytes are read back, and they check the rest before they jump to it.
To read all of it back would take as long as the hashing of 48 KiB.
"""

from __future__ import annotations

import secrets
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources

from blockota.errors import BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import FLASH_BASE, Chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import reconnect

STUB_ADDRESS = 0x2000_0200
"""Where the program is linked to: the first RAM that the bootloaders of the STM32F10x leave free (AN2606)."""
RESULTS_ADDRESS = 0x2000_0E00
"""Where it leaves its results: nonce and complement, eight digests, the CRC of each page."""
MAX_LENGTHS = 8
"""Lengths that one pass takes at most."""
HEAD_SIZE = 88
"""Bytes at its beginning that check the rest."""
PARAMETERS = struct.Struct(f"<5I{MAX_LENGTHS + 1}I")
"""What it is told, behind its code: first page, bytes a page, pages, nonce, start, ends, 0; a CRC-32 follows."""
DONE = b"\x5a"
"""What it says on the line before it resets; where the bootloader has left USART1 switched off, nobody hears it."""

CYCLES_PER_INSTRUCTION = 1.3
"""Clock cycles that an instruction is foreseen to take on the average; not measured on silicon."""
PATIENCE = 5
"""How many times the foreseen time is waited for `DONE` beyond it: a third of the clock, and twice the cycles."""
RESET_SECONDS = 0.005
"""How long a bootloader needs from reset until it listens: 1.2 ms (AN2606), with a margin."""
INSTRUCTIONS_ONCE = 133_600
"""Instructions of a run that hashes nothing: checking itself, tables, constants."""
INSTRUCTIONS_A_LENGTH = 4_500
"""Instructions that close one digest, at most."""
INSTRUCTIONS_A_BLOCK = 1_853
"""Instructions that hash 64 bytes."""
INSTRUCTIONS_A_PAGE = 16
"""Instructions that begin and end the sum of a page."""
INSTRUCTIONS_A_WORD = 16
"""Instructions that sum one word of it."""

_DIGEST_SIZE, _BLOCK_SIZE, _WORD = 32, 64, 4
_HEADER = struct.Struct("<2I")
_PAGES_OFFSET = _HEADER.size + MAX_LENGTHS * _DIGEST_SIZE
_STRAY_BYTES = 16
_NO_STUB = "say --no-stub, which needs no program on the chip"


@dataclass(frozen=True)
class Pages:
    """The pages that a CRC-32 is wanted of.

    Attributes:
        start: address of the first, a multiple of 4.
        size: bytes of each, a multiple of 4.
        count: how many follow one another.
    """

    start: int
    size: int
    count: int

    @property
    def span(self) -> range:
        """Their addresses."""
        return range(self.start, self.start + self.size * self.count)


NO_PAGES = Pages(FLASH_BASE, _WORD, 0)
"""No page at all."""


@dataclass(frozen=True)
class FlashDigests:
    """What the chip says of its flash.

    Attributes:
        sha256: one digest a length, in the order asked for.
        pages: the CRC-32 (zlib's) of each page: a hint for planning, never a proof.
    """

    sha256: tuple[bytes, ...]
    pages: tuple[int, ...]


@dataclass(frozen=True)
class _Job:
    start: int
    lengths: tuple[int, ...]
    pages: Pages

    @property
    def rising(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.lengths)))

    @property
    def span(self) -> range:
        return range(self.start, self.start + max(self.lengths, default=0))

    @property
    def instructions(self) -> int:
        hashed = len(self.span) // _BLOCK_SIZE * INSTRUCTIONS_A_BLOCK + len(self.rising) * INSTRUCTIONS_A_LENGTH
        summed = len(self.pages.span) // _WORD * INSTRUCTIONS_A_WORD + self.pages.count * INSTRUCTIONS_A_PAGE
        return INSTRUCTIONS_ONCE + hashed + summed

    def parameters(self, nonce: int) -> bytes:
        ends = [self.start + length for length in self.rising]
        ends += [0] * (MAX_LENGTHS + 1 - len(ends))
        pages = self.pages
        return PARAMETERS.pack(pages.start, pages.size, pages.count, nonce, self.start, *ends)


def random_nonce() -> int:
    """A number of 32 bits that nobody can foresee."""
    return secrets.randbits(32)


class DigestStub:
    """The program on one board, written there once a session.

    Args:
        bootloader: connected, and told which chip it is; after each run it is so again.
        chip: its row in the table.
        flash_size: in bytes.
        wait: called with seconds to pass without a byte on the line.
        nonces: gives a number of 32 bits that no run had before.
    """

    def __init__(
        self,
        bootloader: Bootloader,
        chip: Chip,
        *,
        flash_size: int,
        wait: Callable[[float], None] = time.sleep,
        nonces: Callable[[], int] = random_nonce,
    ) -> None:
        """Nothing is sent yet."""
        self._bootloader, self._chip, self._flash_size = bootloader, chip, flash_size
        self._wait, self._nonces = wait, nonces
        self._last_nonce: int | None = None

    def seconds(self, start: int, lengths: Sequence[int], *, pages: Pages = NO_PAGES) -> float:
        """How long the program is foreseen to run on the chip, without its upload.

        Args:
            start: as for `run`.
            lengths: as for `run`.
            pages: as for `run`.

        Raises:
            RefusedError: it cannot do this.
        """
        job = _Job(start, tuple(lengths), pages)
        self._check(job)
        return job.instructions * CYCLES_PER_INSTRUCTION / self._chip.stub_clock_hz

    def run(self, start: int, lengths: Sequence[int], *, pages: Pages = NO_PAGES) -> FlashDigests:
        """Hash the flash from an address on, once for all lengths, and sum pages.

        Args:
            start: address of the first byte that is hashed.
            lengths: bytes from there on; at most `MAX_LENGTHS` different ones, in any order.
            pages: what a CRC-32 is wanted of.

        Raises:
            RefusedError: the chip has no such flash, too little RAM, or is not known to run the program; nothing
                was sent.
            NoAnswerError: the board does not come back.
            BoardError: another board comes back.
            BoardProtocolError: what is in its RAM is not the program, or not its results.
            BoardError: silence, or a refusal of the bootloader.
            LinkError: the port was lost.
        """
        seconds = self.seconds(start, lengths, pages=pages)
        job, nonce = _Job(start, tuple(lengths), pages), self._nonces()
        self._write(job.parameters(nonce))
        self._bootloader.go(STUB_ADDRESS)
        self._await_end(seconds)
        self._come_back()
        return self._results(job, nonce)

    def _check(self, job: _Job) -> None:
        chip, flash = self._chip, self._chip.flash(self._flash_size)
        ram_end = RESULTS_ADDRESS + _PAGES_OFFSET + _WORD * max(job.pages.count, 0)
        hashed = f"{len(job.span)} bytes from {job.start:#010x}"
        rules = (
            (chip.stub_clock_hz > 0, f"a program in the RAM of {chip.name} was never tried"),
            (chip.free_ram <= STUB_ADDRESS, f"the bootloader of {chip.name} needs the RAM itself"),
            (ram_end <= chip.ram.stop, f"it needs the RAM up to {ram_end:#010x}, and {chip.name} has less"),
            (len(job.rising) <= MAX_LENGTHS, f"{len(job.rising)} lengths were asked for, of at most {MAX_LENGTHS}"),
            (min(job.lengths, default=0) >= 0, "a length below zero was asked for"),
            (_lies_in(job.span, flash), f"{hashed} are not all in its flash of {self._flash_size} bytes"),
            (_whole_words(job.pages), "a page does not consist of whole words"),
            (_lies_in(job.pages.span, flash), f"not all pages lie in its flash of {self._flash_size} bytes"),
        )
        for holds, why in rules:
            if not holds:
                raise RefusedError("the flash cannot be hashed on the chip", why=why, remedy=_NO_STUB)

    def _write(self, parameters: bytes) -> None:
        """Write the parameters, and the program before them unless the RAM still holds the last run's results."""
        code = _code()
        tail = parameters + struct.pack("<I", zlib.crc32(code[HEAD_SIZE:] + parameters))
        if self._last_nonce is not None and self._read(0, _HEADER.size) == _header(self._last_nonce):
            self._last_nonce = None
            self._bootloader.write(STUB_ADDRESS + len(code), tail)
            return
        self._last_nonce = None
        program = code + tail
        for at in range(0, len(program), MAX_BLOCK):
            self._bootloader.write(STUB_ADDRESS + at, program[at : at + MAX_BLOCK])
        if self._bootloader.read(STUB_ADDRESS, HEAD_SIZE) != program[:HEAD_SIZE]:
            raise BoardProtocolError(
                "the program that hashes the flash was not started",
                why="its first bytes read back from the chip's RAM are not those that were sent",
                remedy=f"use a shorter cable or a lower --baud, or {_NO_STUB}",
            )

    def _await_end(self, seconds: float) -> None:
        """Wait until the program says that it ends, or must have ended; no byte may be sent before."""
        self._wait(seconds)
        with suppress(NoAnswerError):
            for _ in range(_STRAY_BYTES):
                if self._bootloader.link.read(1, timeout=PATIENCE * seconds) == DONE:
                    return

    def _come_back(self) -> None:
        self._wait(RESET_SECONDS)
        try:
            reconnect(self._bootloader, self._chip, flash_size=self._flash_size)
        except (NoAnswerError, BoardProtocolError) as error:
            raise NoAnswerError(
                "the board did not come back to its bootloader after hashing its flash",
                why=f"{error.what}, {error.why}",
                remedy=f"set BOOT0 to 1, reset the board and run the command again; if it fails again, {_NO_STUB}",
            ) from error

    def _results(self, job: _Job, nonce: int) -> FlashDigests:
        count = len(job.rising)
        answer = self._read(0, _HEADER.size + _DIGEST_SIZE * count)
        self._check_header(answer[: _HEADER.size], _header(nonce))
        self._last_nonce = nonce
        words = struct.unpack_from(f"<{8 * count}I", answer, _HEADER.size)
        digests = {length: struct.pack(">8I", *words[8 * at : 8 * at + 8]) for at, length in enumerate(job.rising)}
        sums = self._read(_PAGES_OFFSET, _WORD * job.pages.count)
        return FlashDigests(
            sha256=tuple(digests[length] for length in job.lengths),
            pages=struct.unpack(f"<{job.pages.count}I", sums),
        )

    def _check_header(self, found: bytes, expected: bytes) -> None:
        if found != expected:
            raise BoardProtocolError(
                "the board came back without the digest of its flash",
                why=f"its RAM holds {found.hex()} where {expected.hex()} marks the results of this run",
                remedy=f"run the command again; if it fails again, {_NO_STUB}",
            )

    def _read(self, offset: int, length: int) -> bytes:
        parts = ((at, min(MAX_BLOCK, length - at)) for at in range(0, length, MAX_BLOCK))
        return b"".join(self._bootloader.read(RESULTS_ADDRESS + offset + at, size) for at, size in parts)


@cache
def _code() -> bytes:
    """The program as it is packaged, without the room for its parameters and their CRC-32."""
    program = resources.files("firmware_host.flashing").joinpath("stub", "stub.bin").read_bytes()
    return program[: -(PARAMETERS.size + _WORD)]


def _header(nonce: int) -> bytes:
    return _HEADER.pack(nonce, nonce ^ 0xFFFF_FFFF)


def _lies_in(span: range, flash: range) -> bool:
    return flash.start <= span.start <= span.stop <= flash.stop


def _whole_words(pages: Pages) -> bool:
    return pages.start % _WORD == 0 and pages.size > 0 and pages.size % _WORD == 0 and pages.count >= 0
