"""What tells one simulated chip from another: its memories, its boot ROM, its times."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

FIRST_ERASE, EXTENDED_ERASE, GET_CHECKSUM = 0x43, 0x44, 0xA1
NACKS_BAD_ADDRESSES = 0x31
"""The first protocol version whose ROM answers an address it cannot use with NACK (AN3155 table 3)."""


@dataclass(frozen=True, kw_only=True)
class BoardProfile:
    """One chip, as its data sheet and AN2606 describe it; sizes in bytes, times in seconds.

    Attributes:
        name: the part's name in lower case, as the command line takes it.
        product_id: what Get ID answers (AN2606, table of bootloader product ids).
        bootloader_version: the protocol's version in BCD, 0x22 for V2.2.
        commands: the command codes that Get lists, in its order.
        page_size: of the smallest erase unit.
        sectors: sizes of the erase units in order, where they differ; else empty.
        ram_reserved: bytes at the start of RAM that the ROM uses and refuses to others.
        option_format: how the option bytes are kept: ``F1``, ``F4``, ``L0`` or ``L4``.
        factory: addresses of what the factory left behind the option bytes or elsewhere, outside the system memory.
        factory_read: bytes that a read from within `factory` has at least, or the ROM refuses it; 0 where none
            may start there.
        pages_per_sector: pages that one number of Write Protect stands for.
        write_alignment: bytes; the ROM refuses a write to flash that does not start or end at a multiple.
        program_unit: bytes that the controller programs in one operation.
        program_time: typical time of one such operation.
        page_erase: typical time to erase one page.
        sector_erase: typical time to erase a sector, by its size, where they differ.
        mass_erase: typical time to erase the whole flash.
        boot_seconds: from a reset until the ROM listens.
        max_baud: the highest rate that the ROM measures rightly.
        banks: banks of flash that can be erased by themselves; 1 for none.
        erases_all: whether the ROM has a global erase.
        erase_limit: pages that one command erases at most.
        erased: what an erased byte holds.
        blank_only: whether the controller refuses to program what is not erased, except to zero.
        greets_twice: whether the ROM sends a second ACK after the first, as that of the STM32L412 does.
        runs_code: whether programs for this chip can be run.
        program_error_nacks: whether the ROM answers NACK when a cell that is not erased was to
            be programmed; unknown for V2.2, so it can be set.
        reported_flash_size: what the flash size register says, where that is not what the chip has; else 0.
    """

    name: str
    product_id: int
    bootloader_version: int
    commands: bytes
    flash_start: int
    flash_size: int
    page_size: int
    ram_start: int
    ram_size: int
    ram_reserved: int
    system_start: int
    system_size: int
    option_start: int
    option_size: int
    flash_size_register: int
    unique_id_register: int
    pages_per_sector: int
    program_unit: int
    program_time: float
    page_erase: float
    mass_erase: float
    boot_seconds: float
    max_baud: int = 256_000
    option_format: str = "F1"
    factory: range = range(0)
    factory_read: int = 1
    sectors: tuple[int, ...] = ()
    sector_erase: tuple[tuple[int, float], ...] = ()
    write_alignment: int = 4
    banks: int = 1
    erases_all: bool = True
    erase_limit: int = 0xFFF0
    erased: bytes = b"\xff"
    blank_only: bool = True
    greets_twice: bool = False
    runs_code: bool = False
    program_error_nacks: bool = False
    reported_flash_size: int = 0

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """Offset of each page from the start of flash, and the end of flash."""
        sizes = self.sectors or (self.page_size,) * (self.flash_size // self.page_size)
        return tuple(accumulate(sizes, initial=0))

    @property
    def page_count(self) -> int:
        """Number of erase pages or sectors of the flash."""
        return len(self._starts) - 1

    @property
    def nacks_bad_addresses(self) -> bool:
        """Whether the ROM answers NACK to an address that it cannot use; else it breaks off in silence."""
        return self.bootloader_version >= NACKS_BAD_ADDRESSES

    def page_span(self, page: int) -> range:
        """Offsets of the bytes of a page from the start of flash."""
        return range(self._starts[page], self._starts[page + 1])

    def page_at(self, offset: int) -> int:
        """Number of the page at that offset from the start of flash."""
        return bisect_right(self._starts, offset) - 1

    def bank_pages(self, bank: int) -> range:
        """Numbers of the pages of a bank, counted from 1."""
        size = self.page_count // self.banks
        return range((bank - 1) * size, bank * size)

    def erase_time(self, page: int) -> float:
        """Typical time to erase that page; a number without a page takes a page's time as well."""
        if not self.sector_erase or page >= self.page_count:
            return self.page_erase
        return dict(self.sector_erase)[len(self.page_span(page))]
