"""The chips that can be simulated: one part for each row of ``firmware_host/chips.toml``.

A row contains the memory map. ``families.toml`` beside this file describes the behaviour of each family, and lists the
values that are assumed. Simulator and client share the facts of the chip table, but no code.
``scripts/compare_chips.py`` checks these facts against the tables of other projects.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import accumulate, chain, repeat, takewhile
from typing import Any

K = 1024
MIB = K * K
FIRST_ERASE = 0x43
_SHARED = ("banks", "has_isr", "core", "clock_hz", "erase_limit")
"""The fields that a profile takes from the chip table as they are."""


@dataclass(frozen=True)
class BoardProfile:
    """One chip. Sizes are in bytes, times in seconds.

    The comments at the top of the two files describe the fields that are not listed here.

    Attributes:
        ram: the ranges of RAM; the ROM uses the first range that begins at `ram_start`.
        rom_ram: the addresses of RAM that the ROM reads and writes by command.
        options: the addresses of the option bytes; empty if the ROM cannot read them.
        layout: the numbers and sizes of the erase units, in order; the last size repeats to the end of flash.
        flash_size_register: the address of the flash size in KiB, or of an index into `flash_size_codes`; 0 for none.
        reported_flash_size: the flash size that the register reports, if it is less than `flash_size`; otherwise 0.
        second_bank_page: the ROM's number for the first page of the second bank; 0 if the ROM continues the count of
            the first bank.
        erase_limit: the maximum number of pages in one erase command.
    """

    name: str
    product_id: int
    bootloader_version: int
    flash_size: int
    ram: tuple[range, ...]
    rom_ram: range
    system: range
    options: range
    option_format: str
    banks: int
    layout: tuple[tuple[int, int], ...]
    commands: bytes
    boot_seconds: float
    mass_erase: float
    page_erase: float
    program_unit: int
    program_time: float
    usarts: tuple[int, ...]
    has_isr: bool
    core: str
    clock_hz: int
    erases_all: bool
    erased: bytes
    flash_size_register: int = 0
    flash_size_codes: tuple[int, ...] = ()
    reported_flash_size: int = 0
    unique_id_registers: tuple[int, ...] = ()
    factory: range = range(0)
    factory_read: int = 1
    sector_erase: tuple[tuple[int, float], ...] = ()
    protected_bytes: int = 0
    second_bank_page: int = 0
    write_alignment: int = 4
    max_baud: int = 256_000
    erase_limit: int = 0xFFF0
    blank_only: bool = True
    greets_twice: bool = False
    runs_code: bool = False
    flash_start: int = 0x0800_0000
    ram_start: int = 0x2000_0000

    @property
    def flash(self) -> range:
        """The addresses of the main flash."""
        return range(self.flash_start, self.flash_start + self.flash_size)

    @property
    def ram_size(self) -> int:
        """Bytes of the RAM at `ram_start`."""
        return next(len(part) for part in self.ram if part.start == self.ram_start)

    @property
    def page_size(self) -> int:
        """Bytes of the first page."""
        return self.layout[0][1]

    @property
    def pages_per_sector(self) -> int:
        """The number of pages that one sector number of Write Protect covers."""
        return max(self.protected_bytes // self.page_size, 1)

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """Offset of each page from the start of flash, and the end of flash."""
        runs = (repeat(size, count) for count, size in self.layout)
        sizes = chain(chain.from_iterable(runs), repeat(self.layout[-1][1]))
        return (*takewhile(lambda start: start < self.flash_size, accumulate(sizes, initial=0)), self.flash_size)

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
        """The page that the ROM erases for a command's page number; `page_count` or more if the page does not exist."""
        first = self.page_count // self.banks
        if not self.second_bank_page or number < first:
            return number
        return number - self.second_bank_page + first if number >= self.second_bank_page else self.page_count

    def erase_time(self, page: int) -> float:
        """The typical time to erase a page. An erase command for a missing page takes the same time."""
        if not self.sector_erase or page >= self.page_count:
            return self.page_erase
        return dict(self.sector_erase)[len(self.page_span(page))]


def _profile(row: Mapping[str, Any], family: Mapping[str, Any], behaviour: Mapping[str, Any]) -> BoardProfile:
    """Build a part's profile from its row and its family in ``chips.toml``, and the values in ``families.toml``."""
    table, rest = {**family, **row}, dict(behaviour)
    flash_size, layout = row["part_flash_kib"] * K, rest.pop("layout", row["erase_units"])
    # Without a mass erase, the removal of readout protection is assumed to go page by page.
    mass_erase = rest["page_erase"] * (flash_size // layout[0][1])
    if "mass_erase_per_mib" in rest:
        mass_erase = rest.pop("mass_erase_per_mib") * flash_size / MIB
    erase = table["erase_command"]

    facts = {
        "name": row["part"],
        "product_id": row["id"],
        "flash_size": flash_size,
        "ram": tuple(range(*pair) for pair in row["ram"]),
        "rom_ram": range(*row["free_ram"]),
        "system": range(*row["system_memory"]),
        "options": range(*table.get("option_bytes", (0, 0))),
        "factory": range(*rest.pop("factory", (0, 0))),
        "layout": tuple((count, size) for count, size in layout),
        "commands": bytes((0x00, 0x01, 0x02, 0x11, 0x21, 0x31, erase, 0x63, 0x73, 0x82, 0x92)),
        "mass_erase": mass_erase,
        "sector_erase": tuple((size, seconds) for size, seconds in rest.pop("sector_erase", ())),
        "erases_all": family["mass_erase"] > 0,
        "erase_limit": 255 if erase == FIRST_ERASE else 0xFFF0,
        "erased": bytes((family["erased"],)),
        "flash_size_register": table.get("flash_size_at", 0),
        "unique_id_registers": tuple(table.get("unique_id_at", ())),
        "usarts": tuple(row["usarts"]),
        "flash_size_codes": tuple(row.get("flash_size_codes", ())),
    }
    rest.pop("assumed", None)
    return BoardProfile(**facts | {name: table[name] for name in _SHARED if name in table} | rest)


def _profiles() -> dict[str, BoardProfile]:
    files = ("chips.toml", "simulator/families.toml")
    chips, behaviours = (tomllib.loads(resources.files("firmware_host").joinpath(f).read_text("utf-8")) for f in files)
    parts = behaviours.pop("part")

    profiles = {}
    for row in chips["chip"]:
        part, family = row["part"], row["family"]
        profiles[part] = _profile(row, chips["family"][family], behaviours[family] | parts.get(part, {}))
    return profiles


PROFILES = _profiles()
STM32F103C8 = PROFILES["stm32f103c8"]
