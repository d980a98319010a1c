"""What the host must know of a chip, one row a product id.

The product id is what the bootloader answers to Get ID. Addresses are from ST's AN2606 (table of the
device-dependent bootloader parameters) and the reference manuals; erase times are the data sheets' maxima.
Only the STM32F103 rows are exercised here; the others have not met a board yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, repeat

FLASH_BASE = 0x0800_0000
"""Where the main flash of every chip in the table begins."""
_KIB = 1024
_RAM_BASE = 0x2000_0000
_LAST_PROTECTION_BIT = 31


@dataclass(frozen=True)
class EraseUnit:
    """A page or sector: the least that can be erased.

    Attributes:
        number: what the erase commands call it.
        address: of its first byte.
        size: in bytes.
    """

    number: int
    address: int
    size: int

    @property
    def span(self) -> range:
        """Its addresses."""
        return range(self.address, self.address + self.size)


@dataclass(frozen=True)
class IdentityBlock:
    """Where the factory left the flash size and the unique id, to be read in one block.

    Attributes:
        span: the addresses to read; some chips refuse a shorter read.
        flash_size: address of the flash size, in KiB, two bytes.
        unique_id: address of the unique id, twelve bytes.
    """

    span: range
    flash_size: int
    unique_id: int


@dataclass(frozen=True)
class Chip:
    """A family of chips that share a product id.

    Attributes:
        product_id: what the bootloader answers to Get ID.
        name: ST's name for the family.
        layout: runs of (units, bytes a unit) from the flash base; the last run goes on to the end.
        flash_limit: bytes of flash that the largest of the family has.
        ram: the addresses of the RAM.
        free_ram: the first address in it that the bootloader does not need itself.
        system_memory: the addresses of the bootloader.
        option_bytes: the addresses of the option bytes.
        identity: where the flash size and the unique id are.
        unit_erase_seconds: the longest that erasing one unit takes.
        mass_erase_seconds: the longest that erasing everything takes; 0 where no command does it.
        ready_seconds: the longest from a reset until the bootloader listens (AN2606, start-up times).
        banks: halves of the flash that can be erased by themselves.
        write_alignment: bytes; a write starts at a multiple of it and is as long as one.
        erase_limit: units that one erase command takes at most.
        erased_byte: what an erased byte reads as.
        units_per_protection_bit: pages that one write-protection bit covers; 0 where this is not known.
        stub_clock_hz: the core's clock in Hz that the bootloader leaves at Go (AN2606), from which the time of a
            program in RAM is foreseen; 0 where none is to be run.
    """

    product_id: int
    name: str
    layout: tuple[tuple[int, int], ...]
    flash_limit: int
    ram: range
    free_ram: int
    system_memory: range
    option_bytes: range
    identity: IdentityBlock
    unit_erase_seconds: float
    mass_erase_seconds: float = 0.0
    ready_seconds: float = 0.01
    banks: int = 1
    write_alignment: int = 4
    erase_limit: int = 255
    erased_byte: int = 0xFF
    units_per_protection_bit: int = 0
    stub_clock_hz: int = 0

    @property
    def flash_base(self) -> int:
        """Address of the first byte of the main flash."""
        return FLASH_BASE

    @property
    def bootloader_ram(self) -> range:
        """The addresses of the RAM that may be read and written through the bootloader."""
        return range(self.free_ram, max(self.free_ram, self.ram.stop))

    def flash(self, size: int) -> range:
        """The addresses of a main flash of `size` bytes."""
        return range(FLASH_BASE, FLASH_BASE + size)

    def erase_units(self, flash_size: int) -> tuple[EraseUnit, ...]:
        """The pages or sectors of a flash of `flash_size` bytes, in order of address."""
        runs = chain.from_iterable(repeat(size, count) for count, size in self.layout)
        sizes = chain(runs, repeat(self.layout[-1][1]))
        units: list[EraseUnit] = []
        address = FLASH_BASE
        while address < FLASH_BASE + flash_size:
            units.append(EraseUnit(len(units), address, next(sizes)))
            address = units[-1].span.stop
        return tuple(units)

    def readable(self, flash_size: int) -> tuple[range, ...]:
        """The addresses that Read Memory may be asked for."""
        return (*self.writable(flash_size), self.system_memory, self.option_bytes, self.identity.span)

    def writable(self, flash_size: int) -> tuple[range, ...]:
        """The addresses that Write Memory and Go may be asked for."""
        return (self.flash(flash_size), self.bootloader_ram)

    def write_protected_units(self, option_bytes: bytes, flash_size: int) -> tuple[int, ...] | None:
        """The numbers of the pages that the option bytes protect from writing.

        Args:
            option_bytes: all of them, as read from the chip.
            flash_size: in bytes.

        Returns:
            The numbers in order, or None where the table does not say how this chip keeps them.
        """
        if not self.units_per_protection_bit:
            return None
        # Offset 8: WRP0, its complement, WRP1 and so on; a clear bit protects (RM0008, PM0075 section 2.6).
        pairs = [(option_bytes[at], option_bytes[at + 1]) for at in (8, 10, 12, 14)]
        # Where a byte and its complement disagree the chip itself takes it for 0xFF: nothing protected.
        valid = bytes(low if low == ~high & 0xFF else 0xFF for low, high in pairs)
        mask = int.from_bytes(valid, "little")
        return tuple(
            unit.number for unit in self.erase_units(flash_size) if not mask >> self.protection_bit(unit.number) & 1
        )

    def protection_bit(self, page: int) -> int:
        """The number of the write-protection bit that covers a page; the last one covers all that remain."""
        return min(page // self.units_per_protection_bit, _LAST_PROTECTION_BIT)


def find_chip(product_id: int) -> Chip | None:
    """The table's row for a product id, or None."""
    return _BY_PRODUCT_ID.get(product_id)


def _ram(kib: int) -> range:
    return range(_RAM_BASE, _RAM_BASE + kib * _KIB)


def _pages(size: int) -> tuple[tuple[int, int], ...]:
    return ((1, size),)


_F4_BANK = ((4, 16 * _KIB), (1, 64 * _KIB), (7, 128 * _KIB))

_F103 = Chip(
    product_id=0x410,
    name="STM32F10x medium-density",
    layout=_pages(_KIB),
    flash_limit=128 * _KIB,
    ram=_ram(20),
    free_ram=0x2000_0200,
    system_memory=range(0x1FFF_F000, 0x1FFF_F800),
    option_bytes=range(0x1FFF_F800, 0x1FFF_F810),
    identity=IdentityBlock(range(0x1FFF_F7E0, 0x1FFF_F7F4), 0x1FFF_F7E0, 0x1FFF_F7E8),
    unit_erase_seconds=0.040,
    mass_erase_seconds=0.040,
    units_per_protection_bit=4,
    stub_clock_hz=24_000_000,
)
_F103_WIDE = replace(_F103, layout=_pages(2 * _KIB), units_per_protection_bit=2)

_F405 = Chip(
    product_id=0x413,
    name="STM32F405/407/415/417",
    layout=_F4_BANK,
    flash_limit=1024 * _KIB,
    ram=_ram(128),
    free_ram=0x2000_3000,
    system_memory=range(0x1FFF_0000, 0x1FFF_7800),
    option_bytes=range(0x1FFF_C000, 0x1FFF_C010),
    # A read of the two bytes alone is refused; the block of 256 is not.
    identity=IdentityBlock(range(0x1FFF_7A10, 0x1FFF_7B10), 0x1FFF_7A22, 0x1FFF_7A10),
    unit_erase_seconds=2.0,
    mass_erase_seconds=16.0,
    ready_seconds=0.2,
)

_L05 = Chip(
    product_id=0x417,
    name="STM32L05x/L06x",
    layout=_pages(128),
    flash_limit=64 * _KIB,
    ram=_ram(8),
    free_ram=0x2000_1000,
    system_memory=range(0x1FF0_0000, 0x1FF0_1000),
    option_bytes=range(0x1FF8_0000, 0x1FF8_0020),
    # A read at 0x1FF8007C alone is refused.
    identity=IdentityBlock(range(0x1FF8_0000, 0x1FF8_0080), 0x1FF8_007C, 0x1FF8_0050),
    unit_erase_seconds=0.004,
    write_alignment=128,
    erase_limit=511,
    erased_byte=0x00,
)

_L43 = Chip(
    product_id=0x435,
    name="STM32L43x/L44x",
    layout=_pages(2 * _KIB),
    flash_limit=256 * _KIB,
    ram=_ram(48),
    free_ram=0x2000_3100,
    system_memory=range(0x1FFF_0000, 0x1FFF_7000),
    option_bytes=range(0x1FFF_7800, 0x1FFF_7810),
    identity=IdentityBlock(range(0x1FFF_7590, 0x1FFF_75E2), 0x1FFF_75E0, 0x1FFF_7590),
    unit_erase_seconds=0.040,
    mass_erase_seconds=0.040,
    ready_seconds=0.1,
    write_alignment=8,
)

CHIPS: tuple[Chip, ...] = (
    _F103,
    replace(_F103, product_id=0x412, name="STM32F10x low-density", flash_limit=32 * _KIB, ram=_ram(10)),
    replace(_F103, product_id=0x420, name="STM32F100 medium-density", ram=_ram(8)),
    replace(_F103_WIDE, product_id=0x414, name="STM32F10x high-density", flash_limit=512 * _KIB, ram=_ram(64)),
    replace(_F103_WIDE, product_id=0x428, name="STM32F100 high-density", flash_limit=512 * _KIB, ram=_ram(32)),
    replace(
        _F103_WIDE,
        product_id=0x418,
        name="STM32F105/F107",
        flash_limit=256 * _KIB,
        ram=_ram(64),
        free_ram=0x2000_1000,
        system_memory=range(0x1FFF_B000, 0x1FFF_F800),
        stub_clock_hz=0,
    ),
    replace(
        _F103_WIDE,
        product_id=0x430,
        name="STM32F10x XL-density",
        banks=2,
        flash_limit=1024 * _KIB,
        ram=_ram(96),
        free_ram=0x2000_0800,
        system_memory=range(0x1FFF_E000, 0x1FFF_F800),
        stub_clock_hz=0,
    ),
    _F405,
    replace(
        _F405,
        product_id=0x419,
        name="STM32F42x/F43x",
        banks=2,
        layout=_F4_BANK + _F4_BANK,
        flash_limit=2048 * _KIB,
        ram=_ram(192),
    ),
    replace(_F405, product_id=0x433, name="STM32F401xD/E", flash_limit=512 * _KIB, ram=_ram(96)),
    replace(_F405, product_id=0x431, name="STM32F411", flash_limit=512 * _KIB),
    replace(_F405, product_id=0x421, name="STM32F446", flash_limit=512 * _KIB),
    _L05,
    replace(
        _L05,
        product_id=0x447,
        name="STM32L07x/L08x",
        flash_limit=192 * _KIB,
        ram=_ram(20),
        free_ram=0x2000_1400,
        system_memory=range(0x1FF0_0000, 0x1FF0_2000),
    ),
    replace(_L05, product_id=0x457, name="STM32L01x/L02x", flash_limit=16 * _KIB, ram=_ram(2)),
    _L43,
    replace(
        _L43,
        product_id=0x415,
        name="STM32L47x/L48x",
        banks=2,
        ready_seconds=2.7,
        flash_limit=1024 * _KIB,
        ram=_ram(96),
        free_ram=0x2000_3000,
    ),
    replace(_L43, product_id=0x461, name="STM32L496/L4A6", banks=2, flash_limit=1024 * _KIB, ram=_ram(256)),
    replace(
        _L43,
        product_id=0x464,
        name="STM32L412/L422",
        flash_limit=128 * _KIB,
        ram=_ram(32),
        free_ram=0x2000_2100,
    ),
    replace(
        _L43,
        product_id=0x460,
        name="STM32G07x/G08x",
        flash_limit=128 * _KIB,
        ram=_ram(36),
        free_ram=0x2000_2700,
    ),
    replace(
        _L43,
        product_id=0x466,
        name="STM32G03x/G04x",
        flash_limit=64 * _KIB,
        ram=_ram(8),
        free_ram=0x2000_1000,
    ),
    replace(
        _L43,
        product_id=0x467,
        name="STM32G0Bx/G0Cx",
        banks=2,
        flash_limit=512 * _KIB,
        ram=_ram(144),
        free_ram=0x2000_4000,
    ),
)
"""Every chip that the host knows."""

_BY_PRODUCT_ID = {chip.product_id: chip for chip in CHIPS}
