"""The chips that can be simulated: one part for each row of ``firmware_host/chips.toml``.

The memory map is that of the row; ``families.toml`` beside this file adds how the chips of a family behave, and says
which of its values are assumed. The simulator shares these facts with the client, and no code: what the facts are worth
is shown by their comparison with the tables of others (``scripts/compare_chips.py``).
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import chain, repeat
from typing import Any

K = 1024
MIB = K * K
FIRST_ERASE, CHECKSUM = 0x43, 0xA1
_FACTORY_BYTES = 0x20


@dataclass(frozen=True)
class BoardProfile:
    """One chip. Sizes are in bytes. Times are typical values, in seconds. A start is the first address of a range.

    Attributes:
        product_id: the product id that the ROM answers to Get ID.
        bootloader_version: the version of the ROM in packed decimal, 0x22 for V2.2.
        ram: the ranges of RAM; the first one that begins at `ram_start` is the one that the ROM uses.
        rom_ram: the addresses of RAM that the ROM reads and writes by command.
        banks: the number of flash banks that can be erased separately; 1 if the flash has no banks.
        second_bank_page: the number that the ROM gives to the first page of the second bank; 0 if it counts on.
        boot_seconds: the time from a reset until the ROM listens.
        commands: the command codes in the answer to Get, in their order.
        sectors: the sizes of the erase units, in order.
        option_format: how the option bytes are stored: ``F0``, ``F1``, ``F4``, ``L0`` or ``L4``; ``none`` if the ROM
            cannot read them.
        factory: addresses outside the system memory that the factory wrote.
        factory_read: the shortest read that may start within `factory`; 0 if no read may start there.
        flash_size_register: the address of the flash size in KiB, or of an index into `flash_size_codes`; 0 for none.
        unique_id_registers: the addresses of the three words of the unique id.
        pages_per_sector: pages that one number of Write Protect covers.
        write_alignment: the ROM refuses a write to flash that does not start or end at a multiple of this.
        program_unit: bytes that the controller programs in one operation.
        sector_erase: the times to erase a sector, by its size, if they differ.
        max_baud: the highest speed that the ROM measures correctly.
        erases_all: whether the ROM has a global erase.
        erase_limit: pages that one command accepts.
        blank_only: whether the controller refuses to program cells that are not erased, except to zero.
        greets_twice: whether the ROM sends a second ACK after the first one.
        runs_code: whether applications in flash can be emulated.
        usarts: base addresses of the USARTs on which the ROM listens; the board's line is at the first.
        has_isr: whether the USARTs have the registers ISR and TDR.
        core: the instruction set of the core, ``v6-M`` or ``v7-M``.
        clock_hz: the core clock after Go.
        program_error_nacks: whether the ROM answers NACK if a cell that is not erased was to be programmed. No
            document says what V2.2 does.
        reported_flash_size: the flash size in the register if it differs from `flash_size`, else 0.
    """

    name: str
    product_id: int
    bootloader_version: int
    flash_size: int
    ram: tuple[range, ...]
    rom_ram: range
    system_start: int
    system_size: int
    banks: int
    mass_erase: float
    boot_seconds: float
    commands: bytes
    option_start: int
    option_size: int
    option_format: str
    flash_size_register: int
    unique_id_registers: tuple[int, ...]
    pages_per_sector: int
    program_unit: int
    program_time: float
    page_erase: float
    layout: tuple[tuple[int, int], ...]
    usarts: tuple[int, ...]
    has_isr: bool
    core: str
    clock_hz: int
    sector_erase: tuple[tuple[int, float], ...] = ()
    factory: range = range(0)
    factory_read: int = 1
    write_alignment: int = 4
    max_baud: int = 256_000
    erases_all: bool = True
    erase_limit: int = 0xFFF0
    erased: bytes = b"\xff"
    blank_only: bool = True
    greets_twice: bool = False
    runs_code: bool = False
    second_bank_page: int = 0
    flash_size_codes: tuple[int, ...] = ()
    program_error_nacks: bool = False
    reported_flash_size: int = 0
    flash_start: int = 0x0800_0000
    ram_start: int = 0x2000_0000

    @property
    def ram_size(self) -> int:
        """Bytes of the RAM at `ram_start`."""
        return next(len(part) for part in self.ram if part.start == self.ram_start)

    @property
    def page_size(self) -> int:
        """Bytes of the first page."""
        return self.layout[0][1]

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """Offset of each page from the start of flash, and the end of flash."""
        runs = chain.from_iterable(repeat(size, count) for count, size in self.layout)
        starts = [0]
        for size in chain(runs, repeat(self.layout[-1][1])):
            if starts[-1] >= self.flash_size:
                break
            starts.append(min(starts[-1] + size, self.flash_size))
        return tuple(starts)

    @property
    def page_count(self) -> int:
        """Number of pages or sectors."""
        return len(self._starts) - 1

    def page_span(self, page: int) -> range:
        """Offsets of a page's bytes from the start of flash."""
        return range(self._starts[page], self._starts[page + 1])

    def page_at(self, offset: int) -> int:
        """Number of the page at an offset from the start of flash."""
        return bisect_right(self._starts, offset) - 1

    def bank_pages(self, bank: int) -> range:
        """Numbers of the pages of a bank; banks count from 1."""
        size = self.page_count // self.banks
        return range((bank - 1) * size, bank * size)

    def page_of_number(self, number: int) -> int:
        """The page that the ROM erases for a number; `page_count` or more if none has this number."""
        first = self.page_count // self.banks
        if not self.second_bank_page or number < first:
            return number
        return number - self.second_bank_page + first if number >= self.second_bank_page else self.page_count

    def erase_time(self, page: int) -> float:
        """Typical time to erase a page; a page that does not exist takes as long."""
        if not self.sector_erase or page >= self.page_count:
            return self.page_erase
        return dict(self.sector_erase)[len(self.page_span(page))]


def _profile(row: Mapping[str, Any], family: Mapping[str, Any], behaviour: Mapping[str, Any]) -> BoardProfile:
    """One part from its row and family in the chip table, and its family's behaviour."""
    flash_size, system = row["part_flash_kib"] * K, range(*row["system_memory"])
    layout = tuple((count, size) for count, size in behaviour.get("layout", row["erase_units"]))
    page_erase = behaviour["page_erase"]
    pages = flash_size // layout[0][1]
    if "mass_erase_per_mib" in behaviour:
        mass_erase = behaviour["mass_erase_per_mib"] * flash_size / MIB
    else:
        # Without a mass erase, the removal of readout protection is assumed to go page by page.
        mass_erase = behaviour.get("mass_erase", page_erase * pages)
    erase = row.get("erase_command", family["erase_command"])
    commands = (0x00, 0x01, 0x02, 0x11, 0x21, 0x31, erase, 0x63, 0x73, 0x82, 0x92)
    options = range(*family.get("option_bytes", (0, 0)))
    return BoardProfile(
        name=row["part"],
        product_id=row["id"],
        bootloader_version=behaviour["version"],
        flash_size=flash_size,
        ram=tuple(range(*pair) for pair in row["ram"]),
        rom_ram=range(*row["free_ram"]),
        system_start=system.start,
        system_size=len(system),
        banks=row["banks"],
        mass_erase=mass_erase,
        boot_seconds=behaviour["boot"],
        commands=bytes((*commands, *([CHECKSUM] if behaviour.get("checksum") else ()))),
        option_start=options.start,
        option_size=len(options),
        option_format=behaviour["option_format"],
        flash_size_register=family.get("flash_size_at", 0),
        unique_id_registers=tuple(family.get("unique_id_at", ())),
        pages_per_sector=behaviour.get("protected", layout[0][1]) // layout[0][1],
        program_unit=behaviour["program_unit"],
        program_time=behaviour["program"],
        page_erase=page_erase,
        layout=layout,
        usarts=tuple(row["usarts"]),
        has_isr=family["has_isr"],
        core=family["core"],
        clock_hz=family["clock_hz"],
        sector_erase=tuple((size, seconds) for size, seconds in behaviour.get("sector_erase", ())),
        factory=range(*behaviour.get("factory", (0, 0))),
        factory_read=behaviour.get("factory_read", 1),
        write_alignment=behaviour.get("rom_alignment", 4),
        erases_all=family["mass_erase"] > 0,
        erase_limit=family.get("erase_limit", 255 if erase == FIRST_ERASE else 0xFFF0),
        erased=bytes((family["erased"],)),
        blank_only=behaviour.get("blank_only", True),
        greets_twice=behaviour.get("greets_twice", False),
        runs_code=behaviour.get("runs_code", False),
        flash_size_codes=tuple(row.get("flash_size_codes", ())),
    )


def _profiles() -> dict[str, BoardProfile]:
    read = [
        tomllib.loads(resources.files(package).joinpath(name).read_text("utf-8"))
        for package, name in (("firmware_host", "chips.toml"), ("firmware_host.simulator", "families.toml"))
    ]
    chips, behaviours = read
    parts = behaviours.pop("part")
    made = [
        _profile(row, chips["family"][row["family"]], behaviours[row["family"]] | parts.get(row["part"], {}))
        for row in chips["chip"]
    ]
    return {profile.name: profile for profile in made}


PROFILES = _profiles()
"""Every chip that can be simulated, by name."""
STM32F103C8 = PROFILES["stm32f103c8"]
