"""The digest programs run on a bare Cortex-M3 or Cortex-M0 under Unicorn, without a bootloader."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, UC_PROT_READ
from unicorn.arm_const import UC_ARM_REG_PC, UC_ARM_REG_SP, UC_CPU_ARM_CORTEX_M0, UC_CPU_ARM_CORTEX_M3
from unicorn.unicorn_py3 import Uc

from firmware_host.flashing.digest_stub import MAX_GROUPS, MAX_LENGTHS, PARAMETERS, PROGRAMS, Pages

STUBS = Path(__file__).parents[2] / "firmware_host" / "flashing" / "stub"
CPU_MODELS = {"v7-M": UC_CPU_ARM_CORTEX_M3, "v6-M": UC_CPU_ARM_CORTEX_M0}
BASE, RAM_SIZE = 0x2000_0200, 0x5000
"""The address of the program, and the size of the RAM in bytes."""
USART = (0x0C, 1 << 13, 0x00, 0x04, 0x4001_3800, 0, 0, 0)
"""Offsets of CR1, its bit UE, SR and DR; addresses of USARTs."""
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


def program(start: int, lengths: Sequence[int], pages: Sequence[Pages], *, core: str = "v7-M") -> bytes:
    """Return a committed digest program with its parameters, which are encoded independently of the host."""
    given = PROGRAMS[core]
    code = bytearray((STUBS / given.file).read_bytes()[: -PARAMETERS.size - 4])
    struct.pack_into("<2I", code, 0, BASE + given.stack if given.stack else RAM + RAM_SIZE, BASE + 9)
    ends = [start + length for length in lengths] + [0] * (MAX_LENGTHS + 1 - len(lengths))
    groups = [word for one in pages for word in (one.start, one.size, one.count)] + [0] * 3 * (MAX_GROUPS - len(pages))
    words = (*groups, NONCE, start, *ends, WATCHDOG_KEY, *USART)
    whole = bytes(code) + struct.pack("<29I", *words)
    return whole + struct.pack("<I", zlib.crc32(whole[given.head_size :]))


def results_address(core: str) -> int:
    """Return the address of a program's results."""
    given = PROGRAMS[core]
    return BASE + (given.results or (STUBS / given.file).stat().st_size)


class Core:
    """A core with flash, 20 KiB of RAM, and peripheral registers that only record writes.

    Args:
        flash: the contents of the flash, which is read-only.
        status: the value that every peripheral register returns; 0x20C0 is an idle USART that is on.
        core: the instruction set, ``v6-M`` or ``v7-M``.
    """

    def __init__(self, flash: bytes, *, status: int = 0x20C0, core: str = "v7-M") -> None:
        """Map flash, RAM and registers into the address space."""
        self.writes: list[tuple[int, int]] = []
        self._status = status
        self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(CPU_MODELS[core])
        self._uc.mem_map(FLASH, (len(flash) + 0xFFF) & ~0xFFF, UC_PROT_READ)
        self._uc.mem_write(FLASH, flash)
        self._uc.mem_map(RAM, RAM_SIZE)
        # The program must not rely on RAM that is zero.
        self._uc.mem_write(RAM, b"\xa5" * RAM_SIZE)
        for start, size in ((PRIVATE, 0x1000), (PERIPHERALS, 0x3_0000)):
            self._uc.mmio_map(start, size, self._read, None, self._write, start)

    def run(self, image: bytes) -> int:
        """Run a program from its vector table until it requests a reset; return the number of instructions."""
        self._uc.mem_write(BASE, image)
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


def run_stub(  # noqa: PLR0913 - what a run depends on
    flash: bytes,
    start: int,
    *,
    lengths: Sequence[int],
    pages: Sequence[Pages] = (),
    status: int = 0x20C0,
    core: str = "v7-M",
) -> Outcome:
    """Run the digest program once over a flash with these contents."""
    chip = Core(flash, status=status, core=core)
    instructions = chip.run(program(start, lengths, pages, core=core))
    count = sum(one.count for one in pages)
    results = chip.ram(results_address(core), 264 + 4 * count)
    nonce, complement = struct.unpack_from("<2I", results)
    words = [struct.unpack_from("<8I", results, 8 + 32 * number) for number in range(len(lengths))]
    return Outcome(
        header=(nonce, complement),
        sha256=[struct.pack(">8I", *eight) for eight in words],
        pages=struct.unpack_from(f"<{count}I", results, 264),
        instructions=instructions,
        writes=chip.writes,
    )
