"""Hash a board's flash on the chip itself, so that the serial line carries a 32-byte digest instead of 64 KiB.

The steps of a run (the digest program is ``stub``, described in ``stub/README.md``):

1. Write the digest program, its parameters and a CRC-32 to the chip's RAM (AN3155 Write Memory). The program has about
   1,000 bytes, or 1,300 for ARMv6-M. A later run in the same session writes only the parameters and the CRC-32.
2. Read the head of the program back: the first 88 bytes, or 116 for ARMv6-M. The head checks the CRC-32 of the rest
   before it continues there, so only checked code runs. Reading the whole program back would take as long as hashing 48
   KiB.
3. Start the program (AN3155 Go), and wait. The host sends no byte while the program runs.
4. The program ends with a reset, which starts the bootloader again if BOOT0 is 1. Require that the same board answers.
5. Read the results from RAM. A nonce distinguishes the results from earlier contents of the RAM.

Only the boot ROM and the digest program run, so the installed firmware cannot forge the results.
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
from itertools import chain

from blockota.errors import Action, BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import FLASH_BASE, Chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import reconnect
from firmware_host.line.link import QUIET

MAX_GROUPS, MAX_LENGTHS, MAX_USARTS = 3, 8, 3
"""The maximum numbers of three things in one run: groups of pages, lengths, and USARTs on which the program reports its
end."""
PARAMETERS = struct.Struct("<9I2I9I9I")
"""The parameters after the code: the groups of pages; nonce, start; the ends and 0; the address of the watchdog; for a
USART, the offset of CR1, its bit UE, and the offsets of status and data; the addresses of USARTs and 0. A CRC-32 of
code and parameters follows."""
DONE = b"\x5a"
"""The byte that the program sends before its reset, on the USARTs that the bootloader has left on."""

CYCLES_PER_INSTRUCTION = 1.3
"""The estimated number of clock cycles per instruction; not measured on silicon."""
TIMEOUT_FACTOR = 5
"""The wait for `DONE`, as a multiple of the estimated time. It is enough if the clock has a third of its speed, or
instructions take twice the cycles."""
RESET_MARGIN = 0.004
"""Seconds to wait after a reset, in addition to the time until the bootloader listens."""
IWDG_KR = 0x4000_3000
"""The key register of the independent watchdog, on the families that have it at this address (RM0008 section 19.4.1).
"""
_NO_WATCHDOG_THERE = ("H7", "H7A", "W")


@dataclass(frozen=True)
class Program:
    """One of the two digest programs. Both programs can run at any address.

    Attributes:
        head_size: the size in bytes of the program's head, which checks the CRC-32 of all following bytes.
        stack: the offset of the end of the stack; 0 for the end of the RAM.
        results: the offset of the results; 0 for the address after the program.
        once: the number of instructions of a run that hashes nothing. A run also takes `per_length` instructions for
            each digest, `per_block` for each 64 bytes, `per_page` for each page's CRC-32, and `per_word` for each word
            of a page.
        reports_faults: whether the program detects and reports an address without memory.
    """

    file: str
    head_size: int
    stack: int
    results: int
    once: int
    per_length: int
    per_block: int
    per_page: int
    per_word: int
    reports_faults: bool


PROGRAMS = {
    "v7-M": Program("stub_v7m.bin", 88, 0x800, 0xC00, 146_000, 4_500, 1_854, 16, 16, reports_faults=True),
    "v6-M": Program("stub_v6m.bin", 116, 0, 0, 55_000, 16_000, 7_450, 40, 72, reports_faults=False),
}
STACK_SIZE = 352
"""The bytes of RAM that the stack of a program without a fixed stack needs."""

_DIGEST_SIZE, _BLOCK_SIZE, _WORD = 32, 64, 4
_HEADER = struct.Struct("<2I")
_PAGES_OFFSET = _HEADER.size + MAX_LENGTHS * _DIGEST_SIZE
_STRAY_BYTES = 16
_READ_INSTEAD = "read the flash back instead of hashing it on the chip"


@dataclass(frozen=True)
class Pages:
    """A group of consecutive pages of one size, for which CRC-32s are computed.

    Start and size are multiples of 4.
    """

    start: int
    size: int
    count: int = 1

    @property
    def span(self) -> range:
        """The addresses of all pages."""
        return range(self.start, self.start + self.size * self.count)


_NO_PAGES = Pages(FLASH_BASE, _WORD, 0)


@dataclass(frozen=True)
class FlashDigests:
    """The digests that the chip computed of its flash, one for each requested length, in the requested order.

    `pages` has the CRC-32 (zlib's) of each page of each group. A CRC-32 is a hint for planning, never a proof.
    """

    sha256: tuple[bytes, ...]
    pages: tuple[int, ...]


@dataclass(frozen=True)
class _Job:
    start: int
    lengths: tuple[int, ...]
    pages: tuple[Pages, ...]

    @property
    def rising(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.lengths)))

    @property
    def span(self) -> range:
        return range(self.start, self.start + max(self.lengths, default=0))

    @property
    def page_count(self) -> int:
        return sum(pages.count for pages in self.pages)

    def instructions(self, program: Program) -> int:
        hashed = len(self.span) // _BLOCK_SIZE * program.per_block + len(self.rising) * program.per_length
        words = sum(len(pages.span) for pages in self.pages) // _WORD
        summed = words * program.per_word + self.page_count * program.per_page
        return program.once + hashed + summed

    def parameters(self, chip: Chip, nonce: int) -> bytes:
        ends = [self.start + length for length in self.rising]
        ends += [0] * (MAX_LENGTHS + 1 - len(ends))
        watchdog = 0 if chip.family in _NO_WATCHDOG_THERE else IWDG_KR
        usarts = [*chip.usarts[:MAX_USARTS], *[0] * (MAX_USARTS + 1 - len(chip.usarts[:MAX_USARTS]))]
        # CR1, its bit UE, and the registers of status and data (RM0008 section 27.6; RM0394 section 38.8).
        registers = (0x00, 1, 0x1C, 0x28) if chip.has_isr else (0x0C, 1 << 13, 0x00, 0x04)
        groups = (*self.pages, *[_NO_PAGES] * (MAX_GROUPS - len(self.pages)))
        fields = chain.from_iterable((group.start, group.size, group.count) for group in groups)
        return PARAMETERS.pack(*fields, nonce, self.start, *ends, watchdog, *registers, *usarts)


class DigestStub:
    """The digest program on one board, written to the board's RAM once per session.

    The caller must connect the bootloader and set its target. After each run, this class connects the bootloader again.
    While `wait` runs, no byte may be sent to the board.
    """

    def __init__(
        self, bootloader: Bootloader, chip: Chip, *, flash_size: int, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._bootloader, self._chip, self._flash_size, self._wait = bootloader, chip, flash_size, wait
        self._last_header = b""
        self._program = PROGRAMS[chip.core]
        self._base = chip.bootloader_ram.start
        self._code = _placed(self._program, chip.bootloader_ram)
        self._results_at = self._program.results or len(self._code) + PARAMETERS.size + _WORD

    def seconds(self, start: int, lengths: Sequence[int], *, pages: Sequence[Pages] = ()) -> float:
        """Estimate the seconds that `run` takes on the chip, without the upload.

        Raises a RefusedError if the chip cannot execute the run.
        """
        job = _Job(start, tuple(lengths), tuple(pages))
        chip, flash = self._chip, self._chip.flash(self._flash_size)
        room = self.page_limit
        size, left = f"the flash of {self._flash_size} bytes", f"{len(chip.bootloader_ram)} bytes of RAM"
        in_words = all(one.start % _WORD == one.size % _WORD == 0 and one.size > 0 and one.count >= 0 for one in pages)

        faults = {
            f"the bootloader of {chip.name} leaves {left}, which is too little": room < 0,
            f"the RAM of {chip.name} has no room for {job.page_count} checksums": job.page_count > room,
            f"{len(pages)} groups of pages were given, the limit is {MAX_GROUPS}": len(pages) > MAX_GROUPS,
            f"{len(job.rising)} lengths were given, the limit is {MAX_LENGTHS}": len(job.rising) > MAX_LENGTHS,
            "a length is negative": min(job.lengths, default=0) < 0,
            f"{len(job.span)} bytes from {job.start:#010x} do not all lie in {size}": not _lies_in(job.span, flash),
            "a page does not consist of whole words": not in_words,
            f"not all pages lie in {size}": not all(_lies_in(one.span, flash) for one in pages),
        }

        if why := next((why for why, is_true in faults.items() if is_true), ""):
            raise RefusedError(
                "the flash cannot be hashed on the chip",
                why=why,
                remedy=_READ_INSTEAD,
                action=Action.FLASH_WITHOUT_STUB,
            )
        return self._seconds(job)

    def _seconds(self, job: _Job) -> float:
        return job.instructions(self._program) * CYCLES_PER_INSTRUCTION / self._chip.clock_hz

    @property
    def page_limit(self) -> int:
        """The number of pages whose CRC-32 fits into the RAM in one run.

        The number is negative if the program does not fit into the RAM.
        """
        reserved = self._results_at + _PAGES_OFFSET + (0 if self._program.stack else STACK_SIZE)
        return (len(self._chip.bootloader_ram) - reserved) // _WORD

    def run(self, start: int, lengths: Sequence[int], *, pages: Sequence[Pages] = ()) -> FlashDigests:
        """Hash the flash from `start` on for several lengths in one run, and compute the CRC-32 of each page.

        There are at most `MAX_LENGTHS` different lengths, in any order, and `MAX_GROUPS` groups of pages.

        Raises:
            RefusedError: the flash does not have these addresses, or the chip has too little RAM. Nothing was sent.
            NoAnswerError: the board does not return to its bootloader.
            BoardProtocolError: the RAM does not contain the digest program or its results.
        """
        seconds = self.seconds(start, lengths, pages=pages)
        job, nonce = _Job(start, tuple(lengths), tuple(pages)), secrets.randbits(32)
        self._execute(job, nonce, seconds=seconds)
        return self._results(job, nonce)  # (5)

    def has_no_hidden_flash(self) -> bool:
        """Whether the flash beyond the reported size is erased or does not exist, so that a mass erase is safe.

        Many chips have more flash than they report, and a mass erase also erases this flash. The program therefore
        checks that all addresses up to the size of the largest chip are erased or have no memory. Reading an address
        without memory causes a fault, which only the program for ARMv7-M reports. On other cores, these addresses are
        not read, and the result is False.
        """
        hidden = range(self._chip.flash(self._flash_size).stop, self._chip.flash(self._chip.flash_limit).stop)
        if not hidden or not self._program.reports_faults:
            return not hidden
        # Memory that begins beyond the flash and ends before the range faults as well, so its first word comes first.
        if self._checksum(hidden[:_WORD]) is None:
            return True
        return self._checksum(hidden) == self._chip.blank_checksum(len(hidden))

    def _checksum(self, span: range) -> int | None:
        """Compute the CRC-32 of an address range; None if the chip reports an address without memory."""
        nonce, job = secrets.randbits(32), _Job(FLASH_BASE, (), (Pages(span.start, len(span)),))
        self._execute(job, nonce, seconds=self._seconds(job))
        self._last_header = self._read(0, _HEADER.size)
        return None if self._last_header == _HEADER.pack(nonce, nonce) else self._results(job, nonce).pages[0]

    def _execute(self, job: _Job, nonce: int, *, seconds: float) -> None:
        """Write and start the program.

        Returns when the same board is in its bootloader again.
        """
        self._write(job.parameters(self._chip, nonce))  # (1), (2)

        # (3) Start the program, and wait for `DONE` or for the timeout; stray bytes can arrive before `DONE`.
        self._bootloader.go(self._base)
        self._wait(seconds)
        with suppress(NoAnswerError):
            for _ in range(_STRAY_BYTES):
                if self._bootloader.link.read(1, timeout=TIMEOUT_FACTOR * seconds) == DONE:
                    break

        # (4) The same board is in its bootloader again. `reconnect` listens for `QUIET` seconds first.
        self._wait(max(0.0, self._chip.ready_seconds + RESET_MARGIN - QUIET))
        try:
            reconnect(self._bootloader, self._chip, flash_size=self._flash_size)
        except (NoAnswerError, BoardProtocolError) as error:
            raise NoAnswerError(
                "the board was not recognised after hashing its flash",
                why=f"{error.what}, {error.why}",
                remedy=f"set BOOT0 to 1, reset the board and run the command again; if it fails again, {_READ_INSTEAD}",
                action=Action.FLASH_WITHOUT_STUB,
            ) from error

    def _write(self, parameters: bytes) -> None:
        """Write the parameters to RAM. If the RAM has lost the results of the last run, write the program too."""
        tail = parameters + struct.pack("<I", zlib.crc32(self._code[self._program.head_size :] + parameters))
        program = self._code + tail
        unit = self._chip.write_alignment
        program += bytes(-len(program) % unit)
        first = 0
        if self._last_header and self._read(0, _HEADER.size) == self._last_header:
            first = len(self._code) - len(self._code) % unit
        self._last_header = b""

        # (1) Write the program, or its parameters only.
        for at in range(first, len(program), MAX_BLOCK):
            self._bootloader.write(self._base + at, program[at : at + MAX_BLOCK])
        # (2) Read back the first part, which checks the rest.
        size = self._program.head_size
        if not first and self._bootloader.read(self._base, size) != program[:size]:
            raise BoardProtocolError(
                "the program that hashes the flash was not started",
                why="its first bytes, read back from the chip's RAM, differ from the bytes that were sent",
                remedy=f"use a shorter cable or a lower speed, or {_READ_INSTEAD}",
                action=Action.FLASH_WITHOUT_STUB,
            )

    def _results(self, job: _Job, nonce: int) -> FlashDigests:
        count = len(job.rising)
        answer = self._read(0, _HEADER.size + _DIGEST_SIZE * count)
        found, expected = answer[: _HEADER.size], _HEADER.pack(nonce, nonce ^ 0xFFFF_FFFF)
        if found != expected:
            raise BoardProtocolError(
                "the board did not return the digest of its flash",
                why=f"its RAM contains {found.hex()} instead of {expected.hex()}, which marks the results of this run",
                remedy=f"run the command again; if it fails again, {_READ_INSTEAD}",
                action=Action.FLASH_WITHOUT_STUB,
            )
        self._last_header = found

        # The core computes digests in little-endian words; SHA-256 is written in big-endian ones (FIPS 180-4).
        words = struct.unpack_from(f"<{8 * count}I", answer, _HEADER.size)
        digests = {length: struct.pack(">8I", *words[8 * at : 8 * at + 8]) for at, length in enumerate(job.rising)}
        sums = self._read(_PAGES_OFFSET, _WORD * job.page_count)
        return FlashDigests(
            sha256=tuple(digests[length] for length in job.lengths), pages=struct.unpack(f"<{job.page_count}I", sums)
        )

    def _read(self, offset: int, length: int) -> bytes:
        parts = ((at, min(MAX_BLOCK, length - at)) for at in range(0, length, MAX_BLOCK))
        return b"".join(self._bootloader.read(self._base + self._results_at + offset + at, size) for at, size in parts)


def _placed(program: Program, ram: range) -> bytes:
    """Return the code of a program that runs at the addresses `ram`, without the parameters and their CRC-32."""
    code = bytearray(resources.files("firmware_host.flashing").joinpath("stub", program.file).read_bytes())
    stack = ram.start + program.stack if program.stack else ram.stop - ram.stop % 8
    _HEADER.pack_into(code, 0, stack, ram.start + _HEADER.size + 1)
    return bytes(code[: -(PARAMETERS.size + _WORD)])


def _lies_in(span: range, flash: range) -> bool:
    return flash.start <= span.start <= span.stop <= flash.stop
