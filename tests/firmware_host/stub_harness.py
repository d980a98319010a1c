"""The digest program runs on a bare Cortex-M3 under Unicorn, without a bootloader."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, UC_PROT_READ
from unicorn.arm_const import UC_ARM_REG_PC, UC_ARM_REG_SP, UC_CPU_ARM_CORTEX_M3
from unicorn.unicorn_py3 import Uc

from firmware_host.flashing.digest_stub import HEAD_SIZE, MAX_LENGTHS, PARAMETERS, RESULTS_ADDRESS, STUB_ADDRESS, Pages

STUB = Path(__file__).parents[2] / "firmware_host" / "flashing" / "stub" / "stub.bin"
FLASH, RAM, PRIVATE, PERIPHERALS = 0x0800_0000, 0x2000_0000, 0xE000_E000, 0x4000_0000
WATCHDOG_KEY, USART_DATA, RESET_REQUEST = 0x4000_3000, 0x4001_3804, 0xE000_ED0C
NONCE = 0x1234_5678
SLICE = 1000
"""Instructions executed at a time, and thus the precision of their count."""
LIMIT = 40_000_000


@dataclass(frozen=True)
class Outcome:
    """The results of a run of the digest program.

    Attributes:
        header: the nonce and its complement.
        sha256: the digests.
        pages: the checksums of the pages.
        instructions: number of executed instructions, rounded up to a multiple of `SLICE`.
        writes: ⟨address, value⟩ of every register write, in order.
    """

    header: tuple[int, int]
    sha256: list[bytes]
    pages: tuple[int, ...]
    instructions: int
    writes: list[tuple[int, int]]


def program(start: int, lengths: Sequence[int], pages: Pages) -> bytes:
    """Return the committed digest program with its parameters, which are encoded independently of the host."""
    code = STUB.read_bytes()[: -PARAMETERS.size - 4]
    ends = [start + length for length in lengths] + [0] * (MAX_LENGTHS + 1 - len(lengths))
    whole = code + PARAMETERS.pack(pages.start, pages.size, pages.count, NONCE, start, *ends)
    return whole + struct.pack("<I", zlib.crc32(whole[HEAD_SIZE:]))


class Core:
    """A core with flash, 20 KiB of RAM, and peripheral registers that only record writes.

    Args:
        flash: the contents of the flash, which is read-only.
        status: the value that every peripheral register returns; 0xC0 is the status of an idle USART.
    """

    def __init__(self, flash: bytes, *, status: int = 0xC0) -> None:
        """Map flash, RAM and registers into the address space."""
        self.writes: list[tuple[int, int]] = []
        self._status = status
        self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M3)
        self._uc.mem_map(FLASH, (len(flash) + 0xFFF) & ~0xFFF, UC_PROT_READ)
        self._uc.mem_write(FLASH, flash)
        self._uc.mem_map(RAM, 0x5000)
        # The program must not rely on RAM that is zero.
        self._uc.mem_write(RAM, b"\xa5" * 0x5000)
        for start, size in ((PRIVATE, 0x1000), (PERIPHERALS, 0x3_0000)):
            self._uc.mmio_map(start, size, self._read, None, self._write, start)

    def run(self, image: bytes) -> int:
        """Run a program from its vector table until it requests a reset; return the number of instructions."""
        self._uc.mem_write(STUB_ADDRESS, image)
        stack, entry = struct.unpack_from("<2I", image)
        self._uc.reg_write(UC_ARM_REG_SP, stack)
        instructions = 0
        while not self.writes or self.writes[-1][0] != RESET_REQUEST:
            assert instructions < LIMIT, "the program does not end"
            self._uc.emu_start(entry | 1, 0, count=SLICE)
            entry, instructions = self._uc.reg_read(UC_ARM_REG_PC), instructions + SLICE
        return instructions

    def ram(self, address: int, length: int) -> bytes:
        """Return the contents of a RAM range."""
        return bytes(self._uc.mem_read(address, length))

    def _read(self, _uc: Uc, _offset: int, *_: Any) -> int:
        return self._status

    def _write(self, uc: Uc, offset: int, *rest: Any) -> None:
        _size, value, start = rest
        self.writes.append((start + offset, value))
        if start + offset == RESET_REQUEST:
            uc.emu_stop()


def run_stub(flash: bytes, start: int, *, lengths: Sequence[int], pages: Pages, status: int = 0xC0) -> Outcome:
    """Run the digest program once over a flash with these contents."""
    core = Core(flash, status=status)
    instructions = core.run(program(start, lengths, pages))
    results = core.ram(RESULTS_ADDRESS, 264 + 4 * pages.count)
    nonce, complement = struct.unpack_from("<2I", results)
    words = [struct.unpack_from("<8I", results, 8 + 32 * number) for number in range(len(lengths))]
    return Outcome(
        header=(nonce, complement),
        sha256=[struct.pack(">8I", *eight) for eight in words],
        pages=struct.unpack_from(f"<{pages.count}I", results, 264),
        instructions=instructions,
        writes=core.writes,
    )
