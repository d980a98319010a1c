"""The chips that can be flashed: one row of `CHIPS` per product id.

To add a chip, add a row to `CHIPS`; if it belongs to none of the families above the table, add a family too.

Product ids, the RAM that the bootloader uses, system memory and start-up times are from AN2606 ("Device-dependent
bootloader parameters"). Page layouts, option bytes, and the addresses of flash size and unique id are from the
reference manuals: RM0008 and PM0075 (F1), RM0090 (F4), RM0367 (L0), RM0394 (L4), RM0444 (G0). Erase times are the
maxima in the data sheets. The rows of the chip table have been tested on simulated boards only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat

FLASH_BASE = 0x0800_0000
"""The first address of the main flash, on every chip in the table."""
K = 1024
_LAST_PROTECTION_BIT = 31

Layout = tuple[tuple[int, int], ...]
"""Runs of ⟨number of erase units, bytes per unit⟩ from the start of flash; the last run extends to its end."""


@dataclass(frozen=True)
class EraseUnit:
    """An erase unit: a page or sector, the smallest part of the flash that can be erased.

    Attributes:
        number: the unit's number in the erase commands.
        address: the address of the unit's first byte.
        size: the unit's size in bytes.
    """

    number: int
    address: int
    size: int

    @property
    def span(self) -> range:
        """The addresses of the erase unit."""
        return range(self.address, self.address + self.size)


@dataclass(frozen=True)
class IdentityBlock:
    """The addresses of the flash size and the unique id, which one Read Memory command reads.

    Attributes:
        span: the addresses to read; some bootloaders refuse a shorter read.
        flash_size: the address of the flash size in KiB, two bytes.
        unique_id: the address of the unique id, twelve bytes.
    """

    span: range
    flash_size: int
    unique_id: int


@dataclass(frozen=True)
class Chip:
    """All chips with one product id. Sizes are in bytes, times in seconds.

    Attributes:
        product_id: the product id that the bootloader answers to Get ID.
        name: ST's name for these chips.
        layout: the sizes of the erase units.
        flash_limit: the flash size of the largest chip with this product id.
        ram: the addresses of the RAM.
        free_ram: the first RAM address that the bootloader does not use.
        system_memory: the addresses of the bootloader.
        banks: the number of flash banks that can be erased separately; 1 if the flash has no banks.
        option_bytes: the addresses of the option bytes.
        identity: the addresses of flash size and unique id.
        unit_erase_seconds: the maximum time to erase one erase unit.
        mass_erase_seconds: the maximum time of a mass erase; 0 if the chip has no command for a mass erase.
        ready_seconds: the maximum time from a reset until the bootloader listens.
        write_alignment: the address and the length of a write are multiples of this number of bytes.
        erase_limit: the number of erase units that one erase command accepts.
        erased_byte: the value of an erased byte.
        protected_bytes: the bytes of flash that one write-protection bit covers; 0 if unknown.
        stub_clock_hz: the core clock in Hz after Go, for the run time of the digest program; 0 if the digest program
            must not run on the chip.
    """

    product_id: int
    name: str
    layout: Layout
    flash_limit: int
    ram: range
    free_ram: int
    system_memory: range
    banks: int
    option_bytes: range
    identity: IdentityBlock
    unit_erase_seconds: float
    mass_erase_seconds: float = 0.0
    ready_seconds: float = 0.01
    write_alignment: int = 4
    erase_limit: int = 255
    erased_byte: int = 0xFF
    protected_bytes: int = 0
    stub_clock_hz: int = 0

    @property
    def bootloader_ram(self) -> range:
        """The addresses of the RAM that the bootloader can read and write."""
        return range(self.free_ram, max(self.free_ram, self.ram.stop))

    def flash(self, size: int) -> range:
        """The addresses of a main flash of `size` bytes."""
        return range(FLASH_BASE, FLASH_BASE + size)

    def erase_units(self, flash_size: int) -> tuple[EraseUnit, ...]:
        """The erase units of a flash of `flash_size` bytes, in order of address."""
        runs = chain.from_iterable(repeat(size, count) for count, size in self.layout)
        sizes = chain(runs, repeat(self.layout[-1][1]))
        units: list[EraseUnit] = []
        address = FLASH_BASE
        while address < FLASH_BASE + flash_size:
            units.append(EraseUnit(len(units), address, next(sizes)))
            address = units[-1].span.stop
        return tuple(units)

    def readable(self, flash_size: int) -> tuple[range, ...]:
        """The addresses that Read Memory accepts."""
        return (*self.writable(flash_size), self.system_memory, self.option_bytes, self.identity.span)

    def writable(self, flash_size: int) -> tuple[range, ...]:
        """The addresses that Write Memory and Go accept."""
        return (self.flash(flash_size), self.bootloader_ram)

    def write_protected_units(self, option_bytes: bytes, flash_size: int) -> tuple[int, ...] | None:
        """Return the numbers of the erase units that the option bytes protect from writing.

        Args:
            option_bytes: all option bytes, as read from the chip.
            flash_size: the size of the flash in bytes.

        Returns:
            The numbers in ascending order; None if the chip table does not describe the write-protection bits.
        """
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
        """The number of a page's write-protection bit; the last bit covers the rest of the flash (RM0008)."""
        pages_per_bit = self.protected_bytes // self.layout[-1][1]
        return min(page // pages_per_bit, _LAST_PROTECTION_BIT)


@dataclass(frozen=True)
class BoardMark:
    """The values that distinguish one board from another.

    Attributes:
        product_id: the product id that the bootloader answered to Get ID.
        flash_size: the flash size in bytes, from the chip's register; 0 if the register was not read.
        unique_id: the chip's 96-bit unique id in hexadecimal; empty if the id was not read.
    """

    product_id: int
    flash_size: int = 0
    unique_id: str = ""

    def __str__(self) -> str:
        """The board in words, such as ``the board 00..01 (0x410, 64 KiB)``."""
        size = f", {self.flash_size // 1024} KiB" if self.flash_size else ""
        return f"the board {self.unique_id or 'of another family'} ({self.product_id:#05x}{size})"


def find_chip(product_id: int) -> Chip | None:
    """Return the chip table's row with this product id; None for an unknown product id."""
    return _BY_PRODUCT_ID.get(product_id)


def _span(start: int, kib: int) -> range:
    return range(start, start + kib * K)


def _ram(kib: int) -> range:
    return _span(0x2000_0000, kib)


_PAGES_128: Layout = ((1, 128),)
_PAGES_1K: Layout = ((1, K),)
_PAGES_2K: Layout = ((1, 2 * K),)
_SECTORS: Layout = ((4, 16 * K), (1, 64 * K), (7, 128 * K))

# Families: each is a partial Chip with the values that its rows share. `_F1X` is the connectivity line and XL-density.
# `_L4` includes the G0. The bootloader of `_L47` starts slowly.
_F1 = partial(
    Chip,
    option_bytes=range(0x1FFF_F800, 0x1FFF_F810),
    identity=IdentityBlock(range(0x1FFF_F7E0, 0x1FFF_F7F4), flash_size=0x1FFF_F7E0, unique_id=0x1FFF_F7E8),
    unit_erase_seconds=0.040,
    mass_erase_seconds=0.040,
    protected_bytes=4 * K,
    stub_clock_hz=24_000_000,  # the bootloader leaves the PLL at 24 MHz (AN2606)
)
_F4 = partial(
    Chip,
    option_bytes=range(0x1FFF_C000, 0x1FFF_C010),
    # The bootloader refuses a read of the two bytes of the flash size alone, but not of the whole block.
    identity=IdentityBlock(range(0x1FFF_7A10, 0x1FFF_7B10), flash_size=0x1FFF_7A22, unique_id=0x1FFF_7A10),
    unit_erase_seconds=2.0,
    mass_erase_seconds=16.0,
    ready_seconds=0.2,
)
_L0 = partial(
    Chip,
    option_bytes=range(0x1FF8_0000, 0x1FF8_0020),
    # The bootloader refuses a read that starts at 0x1FF8007C.
    identity=IdentityBlock(range(0x1FF8_0000, 0x1FF8_0080), flash_size=0x1FF8_007C, unique_id=0x1FF8_0050),
    unit_erase_seconds=0.004,
    write_alignment=128,
    erase_limit=511,
    erased_byte=0x00,
)
_L4 = partial(
    Chip,
    option_bytes=range(0x1FFF_7800, 0x1FFF_7810),
    identity=IdentityBlock(range(0x1FFF_7590, 0x1FFF_75E2), flash_size=0x1FFF_75E0, unique_id=0x1FFF_7590),
    unit_erase_seconds=0.040,
    mass_erase_seconds=0.040,
    ready_seconds=0.1,
    write_alignment=8,
)
_F1X = partial(_F1, stub_clock_hz=0)
_L47 = partial(_L4, ready_seconds=2.7)

# fmt: off
CHIPS: tuple[Chip, ...] = (
    # id        name                        erase units   flash     RAM        free RAM     system memory          banks
    _F1(0x410,  "STM32F10x medium-density", _PAGES_1K,    128 * K,  _ram(20),  0x2000_0200, _span(0x1FFF_F000, 2),  1),
    _F1(0x412,  "STM32F10x low-density",    _PAGES_1K,    32 * K,   _ram(10),  0x2000_0200, _span(0x1FFF_F000, 2),  1),
    _F1(0x420,  "STM32F100 medium-density", _PAGES_1K,    128 * K,  _ram(8),   0x2000_0200, _span(0x1FFF_F000, 2),  1),
    _F1(0x414,  "STM32F10x high-density",   _PAGES_2K,    512 * K,  _ram(64),  0x2000_0200, _span(0x1FFF_F000, 2),  1),
    _F1(0x428,  "STM32F100 high-density",   _PAGES_2K,    512 * K,  _ram(32),  0x2000_0200, _span(0x1FFF_F000, 2),  1),
    _F1X(0x418, "STM32F105/F107",           _PAGES_2K,    256 * K,  _ram(64),  0x2000_1000, _span(0x1FFF_B000, 18), 1),
    _F1X(0x430, "STM32F10x XL-density",     _PAGES_2K,    1024 * K, _ram(96),  0x2000_0800, _span(0x1FFF_E000, 6),  2),
    _F4(0x413,  "STM32F405/407/415/417",    _SECTORS,     1024 * K, _ram(128), 0x2000_3000, _span(0x1FFF_0000, 30), 1),
    _F4(0x419,  "STM32F42x/F43x",           _SECTORS * 2, 2048 * K, _ram(192), 0x2000_3000, _span(0x1FFF_0000, 30), 2),
    _F4(0x433,  "STM32F401xD/E",            _SECTORS,     512 * K,  _ram(96),  0x2000_3000, _span(0x1FFF_0000, 30), 1),
    _F4(0x431,  "STM32F411",                _SECTORS,     512 * K,  _ram(128), 0x2000_3000, _span(0x1FFF_0000, 30), 1),
    _F4(0x421,  "STM32F446",                _SECTORS,     512 * K,  _ram(128), 0x2000_3000, _span(0x1FFF_0000, 30), 1),
    _L0(0x417,  "STM32L05x/L06x",           _PAGES_128,   64 * K,   _ram(8),   0x2000_1000, _span(0x1FF0_0000, 4),  1),
    _L0(0x447,  "STM32L07x/L08x",           _PAGES_128,   192 * K,  _ram(20),  0x2000_1400, _span(0x1FF0_0000, 8),  1),
    _L0(0x457,  "STM32L01x/L02x",           _PAGES_128,   16 * K,   _ram(2),   0x2000_1000, _span(0x1FF0_0000, 4),  1),
    _L4(0x435,  "STM32L43x/L44x",           _PAGES_2K,    256 * K,  _ram(48),  0x2000_3100, _span(0x1FFF_0000, 28), 1),
    _L47(0x415, "STM32L47x/L48x",           _PAGES_2K,    1024 * K, _ram(96),  0x2000_3000, _span(0x1FFF_0000, 28), 2),
    _L4(0x461,  "STM32L496/L4A6",           _PAGES_2K,    1024 * K, _ram(256), 0x2000_3100, _span(0x1FFF_0000, 28), 2),
    _L4(0x464,  "STM32L412/L422",           _PAGES_2K,    128 * K,  _ram(32),  0x2000_2100, _span(0x1FFF_0000, 28), 1),
    _L4(0x460,  "STM32G07x/G08x",           _PAGES_2K,    128 * K,  _ram(36),  0x2000_2700, _span(0x1FFF_0000, 28), 1),
    _L4(0x466,  "STM32G03x/G04x",           _PAGES_2K,    64 * K,   _ram(8),   0x2000_1000, _span(0x1FFF_0000, 28), 1),
    _L4(0x467,  "STM32G0Bx/G0Cx",           _PAGES_2K,    512 * K,  _ram(144), 0x2000_4000, _span(0x1FFF_0000, 28), 2),
)
# fmt: on
"""Every chip that can be flashed."""

_BY_PRODUCT_ID = {chip.product_id: chip for chip in CHIPS}
