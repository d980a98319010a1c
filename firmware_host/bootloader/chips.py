"""The chips that can be flashed.

``firmware_host/chips.toml`` has one row for each product id. To add a chip, add a row to that file; the comment at the
top of the file describes the fields. Product ids, erase units and the RAM that the boot ROM uses are from stm32flash
and stm32loader, which quote AN2606. The ranges of flash and RAM are from ST's device packs, as probe-rs publishes them.
``scripts/compare_chips.py`` compares the file with these sources, and writes the differences to ``chips.md``. Erase
times are the maxima in the data sheets. All rows have been tested on simulated boards only.
"""

from __future__ import annotations

import re
import tomllib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain, repeat
from typing import Any

FLASH_BASE = 0x0800_0000
"""The first address of the main flash, on every chip in the table."""
K = 1024
_LAST_PROTECTION_BIT = 31
_SHARED = (
    *("name", "family", "banks", "write_alignment", "core", "clock_hz", "has_isr"),
    *("erase_limit", "protected_bytes", "second_bank_page", "second_bank", "parts"),
)
"""The fields of a chip that have the same names and values in the table."""

Layout = tuple[tuple[int, int], ...]
"""Runs of ⟨number of erase units, bytes per unit⟩ from the start of the flash. The last run extends to the end of the
flash."""


@dataclass(frozen=True)
class EraseUnit:
    """An erase unit: a page or sector, the smallest part of the flash that can be erased.

    `number` is the unit's number in the erase commands. On some chips, the flash controller uses other numbers for the
    pages of the second bank, and some boot ROMs expect these numbers. `other_number` is the flash controller's number
    if it differs from `number`; otherwise None.
    """

    number: int
    address: int
    size: int
    other_number: int | None = None

    @property
    def span(self) -> range:
        """The addresses of the unit."""
        return range(self.address, self.address + self.size)


def joined(spans: Iterable[range]) -> list[range]:
    """Merge each range that begins at the end of the previous range into the previous range."""
    result: list[range] = []
    for span in spans:
        start = result.pop().start if result and result[-1].stop == span.start else span.start
        result.append(range(start, span.stop))
    return result


@dataclass(frozen=True)
class IdentityBlock:
    """The addresses of the flash size in KiB, and of the three words of the unique id.

    One command reads the whole `span`, because some bootloaders refuse shorter reads. On some chips, the value at
    `flash_size` is an index into `flash_size_codes`, which has the sizes in KiB.
    """

    span: range
    flash_size: int
    unique_id: tuple[int, ...]
    flash_size_codes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chip:
    """All chips with one product id, as a row of the chip table.

    The comment at the top of ``chips.toml`` describes the fields that are not listed here.

    Attributes:
        flash_limit: the flash size in bytes of the largest chip with this product id.
        bootloader_ram: the addresses of the RAM that the bootloader can read and write; empty without such RAM.
        option_bytes: the addresses of the option bytes; empty if they cannot be read by address.
        protected_bytes: the bytes of flash that one write-protection bit covers; 0 if unknown.
        second_bank_page: the number of the second bank's first page in the flash controller; 0 if the page numbers of
            the second bank continue those of the first bank.
        second_bank: the address of the second bank if it is the same for all flash sizes; 0 if the second bank begins
            at the end of the first bank.
        parts: a regular expression that matches the parts' names after ``STM32``; empty if it is not known.
    """

    product_id: int
    name: str
    stems: tuple[str, ...]
    family: str
    layout: Layout
    flash_limit: int
    banks: int
    ram: tuple[range, ...]
    bootloader_ram: range
    system_memory: range
    option_bytes: range
    identity: IdentityBlock | None
    unit_erase_seconds: float
    mass_erase_seconds: float
    ready_seconds: float
    write_alignment: int
    erased_byte: int
    core: str
    clock_hz: int
    usarts: tuple[int, ...]
    has_isr: bool
    unverified: tuple[str, ...]
    erase_limit: int = 255
    protected_bytes: int = 0
    second_bank_page: int = 0
    second_bank: int = 0
    parts: str = ""

    @property
    def is_erased_whole(self) -> bool:
        """Whether the size of a page is unknown, so that only a mass erase is safe."""
        return self.layout == ((1, self.flash_limit),)

    def is_blank(self, data: bytes) -> bool:
        """Whether all these bytes of the flash are erased."""
        return not data.strip(bytes((self.erased_byte,)))

    def blank_checksum(self, size: int) -> int:
        """The CRC-32 (zlib's) of `size` erased bytes."""
        return zlib.crc32(bytes((self.erased_byte,)) * size)

    def usable(self, flash_size: int) -> int:
        """The number of bytes from `FLASH_BASE` to the first gap, in a flash of `flash_size` bytes.

        On some parts, the second bank begins at a fixed address. A gap follows the first bank if it ends before this
        address.
        """
        has_gap = self.second_bank and flash_size // self.banks < self.second_bank - FLASH_BASE
        return flash_size // self.banks if has_gap else flash_size

    def flash(self, size: int) -> range:
        """The addresses of a main flash of `size` bytes."""
        return range(FLASH_BASE, FLASH_BASE + size)

    def erase_units(self, flash_size: int) -> tuple[EraseUnit, ...]:
        """The erase units of a flash of `flash_size` bytes, in order of address."""
        runs = chain.from_iterable(repeat(size, count) for count, size in self.layout)
        sizes = chain(runs, repeat(self.layout[-1][1]))
        units: list[EraseUnit] = []
        address, end = FLASH_BASE, FLASH_BASE + flash_size
        while address < end:
            size = min(next(sizes), end - address) if self.is_erased_whole else next(sizes)
            units.append(EraseUnit(len(units), address, size))
            address = units[-1].span.stop

        # On some chips the page numbers of the second bank do not follow those of the first.
        first = len(units) // self.banks
        if not self.second_bank_page or first == self.second_bank_page:
            return tuple(units)
        gap = self.second_bank_page - first
        second = (EraseUnit(unit.number, unit.address, unit.size, unit.number + gap) for unit in units[first:])
        return (*units[:first], *second)

    def readable(self, flash_size: int) -> tuple[range, ...]:
        """The addresses that Read Memory accepts."""
        identity = self.identity.span if self.identity else range(0)
        return (*self.writable(flash_size), self.system_memory, self.option_bytes, identity)

    def writable(self, flash_size: int) -> tuple[range, ...]:
        """The addresses that Write Memory and Go accept."""
        return (self.flash(flash_size), self.bootloader_ram)

    def write_protected_units(self, option_bytes: bytes, flash_size: int) -> tuple[int, ...] | None:
        """The numbers of the erase units that the option bytes protect from writing; None if these bits are unknown."""
        if not self.protected_bytes:
            return None
        # From offset 8: WRP0, its complement, WRP1 and so on; a cleared bit protects (PM0075 section 2.5).
        pairs = [(option_bytes[at], option_bytes[at + 1]) for at in (8, 10, 12, 14)]
        # The chip treats a byte that does not match its complement as 0xFF: nothing protected (PM0075 section 2.5).
        valid = bytes(low if low == ~high & 0xFF else 0xFF for low, high in pairs)
        mask = int.from_bytes(valid, "little")
        return tuple(
            unit.number for unit in self.erase_units(flash_size) if not mask >> self.protection_bit(unit.number) & 1
        )

    def protection_bit(self, page: int) -> int:
        """The number of a page's write-protection bit.

        The last bit covers all remaining pages of the flash (RM0008).
        """
        pages_per_bit = self.protected_bytes // self.layout[-1][1]
        return min(page // pages_per_bit, _LAST_PROTECTION_BIT)


@dataclass(frozen=True)
class BoardMark:
    """The values that distinguish one board from another.

    Flash size 0 or an empty unique id means that the value was not read.
    """

    product_id: int
    flash_size: int = 0
    unique_id: str = ""

    def __str__(self) -> str:
        """The board in words, such as ``the board 00..01 (0x410, 64 KiB)``."""
        size = f", {self.flash_size // 1024} KiB" if self.flash_size else ""
        return f"the board {self.unique_id or 'of another family'} ({self.product_id:#05x}{size})"


def find_chip(product_id: int) -> Chip | None:
    """Return the chip table's row with this product id; None if the table does not have the product id."""
    return next((chip for chip in chips() if chip.product_id == product_id), None)


def chips_named(name: str) -> tuple[Chip, ...]:
    """Return the rows that a chip's name or part number selects, such as ``STM32F103`` or ``stm32g071rb``.

    The function selects the rows whose `stems` have the most characters in common with `name`. If the regular
    expression `parts` of a selected row matches the name, only the rows with a match are returned. An ambiguous name
    selects several rows, and an unknown name selects none.
    """
    wanted = name.upper().removeprefix("STM32")
    found: dict[int, list[Chip]] = {0: []}
    for chip in chips():
        if chip.name.upper() == name.upper():
            return (chip,)
        alike = max(_characters_alike(stem, wanted) for stem in chip.stems)
        found.setdefault(alike, []).append(chip)

    if not (best := max(found)):
        return ()
    part = re.sub(r"^(\w{6})[A-Z]\d", r"\1", wanted)  # without the package and the temperature range, such as T6
    return tuple(chip for chip in found[best] if chip.parts and re.match(chip.parts, part)) or tuple(found[best])


@cache
def chips() -> tuple[Chip, ...]:
    """Every chip that can be flashed, in the order of the table."""
    table = tomllib.loads(resources.files("firmware_host").joinpath("chips.toml").read_text("utf-8"))
    families = table["family"]
    return tuple(_chip(families[row["family"]], row) for row in table["chip"])


def _characters_alike(stem: str, wanted: str) -> int:
    """Count the characters in which a chip's name agrees with a stem; 0 if another character than ``x`` differs."""
    pairs = list(zip(stem, wanted, strict=False))
    if any(own not in ("x", other) for own, other in pairs):
        return 0
    return sum(own == other for own, other in pairs)


def _chip(family: Mapping[str, Any], row: Mapping[str, Any]) -> Chip:
    shared = {name: value for name, value in {**family, **row}.items() if name in _SHARED}
    return Chip(
        product_id=row["id"],
        stems=tuple(row["stems"]),
        layout=tuple((count, size) for count, size in row["erase_units"]),
        flash_limit=row["flash_kib"] * K,
        ram=tuple(range(*pair) for pair in row["ram"]),
        bootloader_ram=range(*row["free_ram"]),
        system_memory=range(*row["system_memory"]),
        option_bytes=range(*family.get("option_bytes", (0, 0))),
        identity=_identity(family, row),
        unit_erase_seconds=family["unit_erase"],
        mass_erase_seconds=family["mass_erase"],
        ready_seconds=family["ready"],
        erased_byte=family["erased"],
        usarts=tuple(row["usarts"]),
        unverified=(*family["unverified"], *row.get("unverified", ())),
        **shared,
    )


def _identity(family: Mapping[str, Any], row: Mapping[str, Any]) -> IdentityBlock | None:
    if "identity" not in family:
        return None
    span, codes = range(*family["identity"]), tuple(row.get("flash_size_codes", ()))
    return IdentityBlock(span, family["flash_size_at"], tuple(family["unique_id_at"]), codes)
