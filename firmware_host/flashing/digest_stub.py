"""Hashes a board's flash on the chip itself, so that 40 bytes cross the line instead of 64 KiB.

The steps of a run (the program is ``stub/stub.s``, described in ``stub/README.md``):

1. Write the program of some 900 bytes, followed by its parameters and their CRC-32, to the chip's RAM (AN3155 Write
   Memory). A later run in the same session writes the parameters only.
2. Read its first 88 bytes back. They check the rest before they jump to it, so nothing unchecked runs. Reading all of
   it back would take as long as hashing 48 KiB.
3. Start it (AN3155 Go) and wait; no byte may be sent while it runs.
4. It ends with a reset, which with BOOT0 at 1 starts the bootloader again; make sure that the same board answers.
5. Read the results from RAM. A nonce distinguishes them from earlier contents.

ROM and this program run in place of the installed firmware, so no firmware can forge the answer.
"""

from __future__ import annotations

import secrets
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources

from blockota.errors import Action, BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import FLASH_BASE, Chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import reconnect

STUB_ADDRESS = 0x2000_0200
"""Link address of the program: the first RAM that the bootloaders of the STM32F10x leave free (AN2606)."""
RESULTS_ADDRESS = 0x2000_0E00
"""Address of its results: nonce and complement, eight digests, the CRC of each page."""
MAX_LENGTHS = 8
"""Maximum number of lengths in one run."""
HEAD_SIZE = 88
"""Size of its first part, which checks the rest."""
PARAMETERS = struct.Struct(f"<5I{MAX_LENGTHS + 1}I")
"""Parameters behind its code: first page, bytes a page, pages, nonce, start, ends, 0; a CRC-32 follows."""
DONE = b"\x5a"
"""Sent before it resets, unless the bootloader has left USART1 switched off."""

CYCLES_PER_INSTRUCTION = 1.3
"""Estimated clock cycles per instruction; not measured on silicon."""
TIMEOUT_FACTOR = 5
"""Multiple of the estimate to wait for `DONE` beyond it: covers a third of the clock and twice the cycles."""
RESET_SECONDS = 0.005
"""Time from a reset until the bootloader listens: 1.2 ms (AN2606), with a margin."""
INSTRUCTIONS_ONCE = 133_600
"""Instructions of a run that hashes nothing: self-check, tables, constants."""
INSTRUCTIONS_A_LENGTH = 4_500
"""Maximum of instructions that close one digest."""
INSTRUCTIONS_A_BLOCK = 1_853
"""Instructions that hash 64 bytes."""
INSTRUCTIONS_A_PAGE = 16
"""Instructions that begin and end the CRC of a page."""
INSTRUCTIONS_A_WORD = 16
"""Instructions for one word of it."""

_DIGEST_SIZE, _BLOCK_SIZE, _WORD = 32, 64, 4
_HEADER = struct.Struct("<2I")
_PAGES_OFFSET = _HEADER.size + MAX_LENGTHS * _DIGEST_SIZE
_STRAY_BYTES = 16
_READ_INSTEAD = "read the flash back instead of hashing it on the chip"


@dataclass(frozen=True)
class Pages:
    """The pages to compute a CRC-32 of.

    Attributes:
        start: address of the first page, a multiple of 4.
        size: bytes of each page, a multiple of 4.
        count: number of consecutive pages.
    """

    start: int
    size: int
    count: int

    @property
    def span(self) -> range:
        """The addresses of all pages."""
        return range(self.start, self.start + self.size * self.count)


NO_PAGES = Pages(FLASH_BASE, _WORD, 0)
"""Compute no CRC-32."""


@dataclass(frozen=True)
class FlashDigests:
    """The chip's digests of its flash.

    Attributes:
        sha256: one digest for each length, in the order asked for.
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
    """An unpredictable number of 32 bits."""
    return secrets.randbits(32)


class DigestStub:
    """The program on one board, written once per session.

    Args:
        bootloader: connected, with its target set; so it is again after each run.
        wait: waits for a number of seconds, without a byte on the line.
        nonces: returns a fresh number of 32 bits.
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
        self._bootloader, self._chip, self._flash_size = bootloader, chip, flash_size
        self._wait, self._nonces = wait, nonces
        self._last_nonce: int | None = None

    def seconds(self, start: int, lengths: Sequence[int], *, pages: Pages = NO_PAGES) -> float:
        """Estimate how long a `run` with these arguments takes on the chip, without the upload.

        Raises:
            RefusedError: the program cannot do this.
        """
        job = _Job(start, tuple(lengths), pages)
        chip, flash = self._chip, self._chip.flash(self._flash_size)
        ram_end = RESULTS_ADDRESS + _PAGES_OFFSET + _WORD * max(pages.count, 0)
        hashed = f"{len(job.span)} bytes from {job.start:#010x}"
        is_whole_words = pages.start % _WORD == pages.size % _WORD == 0 and pages.size > 0 and pages.count >= 0
        rules = (
            (chip.stub_clock_hz > 0, f"a program in the RAM of {chip.name} is not tested"),
            (chip.free_ram <= STUB_ADDRESS, f"the bootloader of {chip.name} needs the RAM itself"),
            (ram_end <= chip.ram.stop, f"it needs the RAM up to {ram_end:#010x}, and {chip.name} has less"),
            (len(job.rising) <= MAX_LENGTHS, f"{len(job.rising)} lengths were asked for, of at most {MAX_LENGTHS}"),
            (min(job.lengths, default=0) >= 0, "a length below zero was asked for"),
            (_lies_in(job.span, flash), f"{hashed} are not all in its flash of {self._flash_size} bytes"),
            (is_whole_words, "a page does not consist of whole words"),
            (_lies_in(pages.span, flash), f"not all pages lie in its flash of {self._flash_size} bytes"),
        )
        for holds, why in rules:
            if not holds:
                raise RefusedError(
                    "the flash cannot be hashed on the chip",
                    why=why,
                    remedy=_READ_INSTEAD,
                    action=Action.FLASH_WITHOUT_STUB,
                )
        return job.instructions * CYCLES_PER_INSTRUCTION / self._chip.stub_clock_hz

    def run(self, start: int, lengths: Sequence[int], *, pages: Pages = NO_PAGES) -> FlashDigests:
        """Hash the flash from an address on for several lengths in one pass, and compute CRCs of pages.

        Args:
            start: address of the first byte to hash.
            lengths: numbers of bytes from there on; at most `MAX_LENGTHS` different ones, in any order.
            pages: the pages to compute a CRC-32 of.

        Raises:
            RefusedError: the chip has no such flash, too little RAM, or is not known to run the program; nothing
                was sent.
            NoAnswerError: the board does not return to its bootloader.
            BoardProtocolError: the program or its results are not in the RAM.
            BoardError: another board returns, or the board is silent or refuses.
        """
        seconds = self.seconds(start, lengths, pages=pages)
        job, nonce = _Job(start, tuple(lengths), pages), self._nonces()
        self._write(job.parameters(nonce))  # (1), (2)

        # (3) Start it, and wait for `DONE`, or until it must have ended; stray bytes can come first.
        self._bootloader.go(STUB_ADDRESS)
        self._wait(seconds)
        with suppress(NoAnswerError):
            for _ in range(_STRAY_BYTES):
                if self._bootloader.link.read(1, timeout=TIMEOUT_FACTOR * seconds) == DONE:
                    break

        # (4) The same board is in its bootloader again.
        self._wait(RESET_SECONDS)
        try:
            reconnect(self._bootloader, self._chip, flash_size=self._flash_size)
        except (NoAnswerError, BoardProtocolError) as error:
            raise NoAnswerError(
                "the board did not come back to its bootloader after hashing its flash",
                why=f"{error.what}, {error.why}",
                remedy=f"set BOOT0 to 1, reset the board and run the command again; if it fails again, {_READ_INSTEAD}",
                action=Action.FLASH_WITHOUT_STUB,
            ) from error

        return self._results(job, nonce)  # (5)

    def _write(self, parameters: bytes) -> None:
        """Write the parameters, and first the program unless the last run's results are still in the RAM."""
        stub = resources.files("firmware_host.flashing").joinpath("stub", "stub.bin").read_bytes()
        code = stub[: -(PARAMETERS.size + _WORD)]  # without the room for the parameters and their CRC-32
        tail = parameters + struct.pack("<I", zlib.crc32(code[HEAD_SIZE:] + parameters))
        if self._last_nonce is not None and self._read(0, _HEADER.size) == _header(self._last_nonce):
            self._last_nonce = None
            self._bootloader.write(STUB_ADDRESS + len(code), tail)
            return
        self._last_nonce = None

        # (1) The whole program, (2) whose first part checks the rest.
        program = code + tail
        for at in range(0, len(program), MAX_BLOCK):
            self._bootloader.write(STUB_ADDRESS + at, program[at : at + MAX_BLOCK])
        if self._bootloader.read(STUB_ADDRESS, HEAD_SIZE) != program[:HEAD_SIZE]:
            raise BoardProtocolError(
                "the program that hashes the flash was not started",
                why="its first bytes read back from the chip's RAM are not those that were sent",
                remedy=f"use a shorter cable or a lower speed, or {_READ_INSTEAD}",
                action=Action.FLASH_WITHOUT_STUB,
            )

    def _results(self, job: _Job, nonce: int) -> FlashDigests:
        count = len(job.rising)
        answer = self._read(0, _HEADER.size + _DIGEST_SIZE * count)
        found, expected = answer[: _HEADER.size], _header(nonce)
        if found != expected:
            raise BoardProtocolError(
                "the board came back without the digest of its flash",
                why=f"its RAM holds {found.hex()} where {expected.hex()} marks the results of this run",
                remedy=f"run the command again; if it fails again, {_READ_INSTEAD}",
                action=Action.FLASH_WITHOUT_STUB,
            )
        self._last_nonce = nonce

        # The core computes digests in little-endian words; SHA-256 is written in big-endian ones (FIPS 180-4).
        words = struct.unpack_from(f"<{8 * count}I", answer, _HEADER.size)
        digests = {length: struct.pack(">8I", *words[8 * at : 8 * at + 8]) for at, length in enumerate(job.rising)}
        sums = self._read(_PAGES_OFFSET, _WORD * job.pages.count)
        return FlashDigests(
            sha256=tuple(digests[length] for length in job.lengths),
            pages=struct.unpack(f"<{job.pages.count}I", sums),
        )

    def _read(self, offset: int, length: int) -> bytes:
        parts = ((at, min(MAX_BLOCK, length - at)) for at in range(0, length, MAX_BLOCK))
        return b"".join(self._bootloader.read(RESULTS_ADDRESS + offset + at, size) for at, size in parts)


def _header(nonce: int) -> bytes:
    return _HEADER.pack(nonce, nonce ^ 0xFFFF_FFFF)


def _lies_in(span: range, flash: range) -> bool:
    return flash.start <= span.start <= span.stop <= flash.stop
