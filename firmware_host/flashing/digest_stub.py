"""Hash a board's flash on the chip itself, so that the serial line carries a 32-byte digest instead of 64 KiB.

The steps of a run (the digest program is ``stub/stub.s``, described in ``stub/README.md``):

1. Write the digest program of about 900 bytes, followed by its parameters and a CRC-32, to the chip's RAM (AN3155 Write
   Memory). A later run in the same session writes only the parameters and the CRC-32.
2. Read the first 88 bytes of the program back. These bytes check the CRC-32 of the rest before they jump to the rest,
   so only checked code runs. Reading the whole program back would take as long as hashing 48 KiB.
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

from blockota.errors import Action, BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import FLASH_BASE, Chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import reconnect

STUB_ADDRESS = 0x2000_0200
"""The program's link address: the first RAM address that the bootloaders of the STM32F10x do not use (AN2606)."""
RESULTS_ADDRESS = 0x2000_0E00
"""The address of the program's results: the nonce and its complement, eight digests, the CRC-32 of each page."""
MAX_LENGTHS = 8
"""The maximum number of lengths that one run hashes."""
HEAD_SIZE = 88
"""The size in bytes of the program's first part, which checks the rest of the program."""
PARAMETERS = struct.Struct(f"<5I{MAX_LENGTHS + 1}I")
"""The parameters after the code: first page, bytes per page, pages, nonce, start, ends, 0. A CRC-32 follows."""
DONE = b"\x5a"
"""The byte that the program sends before the reset, unless the bootloader has switched USART1 off."""

CYCLES_PER_INSTRUCTION = 1.3
"""The estimated clock cycles per instruction, not measured on real hardware."""
TIMEOUT_FACTOR = 5
"""The host waits for `DONE` up to this multiple of the estimated time, in case the clock or the core is slower."""
RESET_SECONDS = 0.005
"""The time from a reset until the bootloader listens: 1.2 ms (AN2606), with a margin."""
INSTRUCTIONS_ONCE = 133_600
"""The instructions of a run that hashes nothing: self-check, tables, constants."""
INSTRUCTIONS_A_LENGTH = 4_500
"""The maximum number of instructions that finish one digest."""
INSTRUCTIONS_A_BLOCK = 1_853
"""The number of instructions that hash 64 bytes."""
INSTRUCTIONS_A_PAGE = 16
"""The number of instructions that begin and end the CRC-32 of a page."""
INSTRUCTIONS_A_WORD = 16
"""The number of instructions that add one word to the CRC-32 of a page."""

_DIGEST_SIZE, _BLOCK_SIZE, _WORD = 32, 64, 4
_HEADER = struct.Struct("<2I")
_PAGES_OFFSET = _HEADER.size + MAX_LENGTHS * _DIGEST_SIZE
_STRAY_BYTES = 16
_READ_INSTEAD = "read the flash back instead of hashing it on the chip"


@dataclass(frozen=True)
class Pages:
    """The pages whose CRC-32 is computed.

    Attributes:
        start: the address of the first page, a multiple of 4.
        size: the size of each page in bytes, a multiple of 4.
        count: the number of consecutive pages.
    """

    start: int
    size: int
    count: int

    @property
    def span(self) -> range:
        """The addresses of all pages."""
        return range(self.start, self.start + self.size * self.count)


NO_PAGES = Pages(FLASH_BASE, _WORD, 0)
"""Zero pages: no CRC-32 is computed."""


@dataclass(frozen=True)
class FlashDigests:
    """The digests that the chip has computed of its flash.

    Attributes:
        sha256: one digest for each requested length, in the requested order.
        pages: the CRC-32 (zlib's) of each page, which is a hint for planning and never a proof.
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
    """Return an unpredictable number of 32 bits."""
    return secrets.randbits(32)


class DigestStub:
    """The digest program on one board, written to the board's RAM once per session.

    Args:
        bootloader: the client, connected and with its target set; each run leaves it in the same state.
        wait: waits for a number of seconds; no byte may be sent meanwhile.
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
        """Estimate the time in seconds that `run` takes on the chip with these arguments, without the upload.

        Raises:
            RefusedError: the digest program cannot run on the chip, or not with these arguments.
        """
        job = _Job(start, tuple(lengths), pages)
        chip, flash = self._chip, self._chip.flash(self._flash_size)
        ram_end = RESULTS_ADDRESS + _PAGES_OFFSET + _WORD * max(pages.count, 0)
        hashed = f"{len(job.span)} bytes from {job.start:#010x}"
        is_whole_words = pages.start % _WORD == pages.size % _WORD == 0 and pages.size > 0 and pages.count >= 0
        rules = (
            (chip.stub_clock_hz > 0, f"the digest program is not tested on {chip.name}"),
            (chip.free_ram <= STUB_ADDRESS, f"the bootloader of {chip.name} uses the RAM of the digest program"),
            (ram_end <= chip.ram.stop, f"the program needs RAM up to {ram_end:#010x}, and {chip.name} has less"),
            (len(job.rising) <= MAX_LENGTHS, f"{len(job.rising)} lengths were given, the limit is {MAX_LENGTHS}"),
            (min(job.lengths, default=0) >= 0, "a length is negative"),
            (_lies_in(job.span, flash), f"{hashed} do not all lie in the flash of {self._flash_size} bytes"),
            (is_whole_words, "a page does not consist of whole words"),
            (_lies_in(pages.span, flash), f"not all pages lie in the flash of {self._flash_size} bytes"),
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
        """Hash the flash from `start` on for several lengths in one run, and compute the CRC-32 of each page.

        Args:
            start: the address of the first byte to hash.
            lengths: the numbers of bytes to hash from `start` on; at most `MAX_LENGTHS` different ones, in any order.
            pages: the pages whose CRC-32 is computed.

        Raises:
            RefusedError: the flash does not have these addresses, or the chip has too little RAM or is not known to
                run the digest program; nothing was sent.
            NoAnswerError: the board does not return to its bootloader.
            BoardProtocolError: the digest program or its results are not in the RAM.
            BoardError: another board answers, or the board is silent or answers NACK.
        """
        seconds = self.seconds(start, lengths, pages=pages)
        job, nonce = _Job(start, tuple(lengths), pages), self._nonces()
        self._write(job.parameters(nonce))  # (1), (2)

        # (3) Start the program, and wait for `DONE` or for the timeout; stray bytes can arrive before `DONE`.
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
                "the board did not return to its bootloader after hashing its flash",
                why=f"{error.what}, {error.why}",
                remedy=f"set BOOT0 to 1, reset the board and run the command again; if it fails again, {_READ_INSTEAD}",
                action=Action.FLASH_WITHOUT_STUB,
            ) from error

        return self._results(job, nonce)  # (5)

    def _write(self, parameters: bytes) -> None:
        """Write the parameters to RAM, and first the program unless the last run's results are still in RAM."""
        stub = resources.files("firmware_host.flashing").joinpath("stub", "stub.bin").read_bytes()
        code = stub[: -(PARAMETERS.size + _WORD)]  # without the room for the parameters and their CRC-32
        tail = parameters + struct.pack("<I", zlib.crc32(code[HEAD_SIZE:] + parameters))
        if self._last_nonce is not None and self._read(0, _HEADER.size) == _header(self._last_nonce):
            self._last_nonce = None
            self._bootloader.write(STUB_ADDRESS + len(code), tail)
            return
        self._last_nonce = None

        # (1) Write the whole program; (2) read back its first part, which checks the rest.
        program = code + tail
        for at in range(0, len(program), MAX_BLOCK):
            self._bootloader.write(STUB_ADDRESS + at, program[at : at + MAX_BLOCK])
        if self._bootloader.read(STUB_ADDRESS, HEAD_SIZE) != program[:HEAD_SIZE]:
            raise BoardProtocolError(
                "the program that hashes the flash was not started",
                why="its first bytes, read back from the chip's RAM, differ from the bytes that were sent",
                remedy=f"use a shorter cable or a lower speed, or {_READ_INSTEAD}",
                action=Action.FLASH_WITHOUT_STUB,
            )

    def _results(self, job: _Job, nonce: int) -> FlashDigests:
        count = len(job.rising)
        answer = self._read(0, _HEADER.size + _DIGEST_SIZE * count)
        found, expected = answer[: _HEADER.size], _header(nonce)
        if found != expected:
            raise BoardProtocolError(
                "the board did not return the digest of its flash",
                why=f"its RAM has {found.hex()} in place of {expected.hex()}, which marks the results of this run",
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
