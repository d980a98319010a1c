"""The chips that can be simulated: one row of the table per chip, one chip per product id.

To add a chip, add a row to the table `_ROWS`. If the chip belongs to no family above the table, add a family as well.

The table was compiled from ST's documents independently of the client's chip table. The two tables share no code and no
data, and a test compares them. Product ids, bootloader versions, the RAM that the ROM uses, system memory and start-up
times are from AN2606. Memory maps are from the reference manuals named at each family. Times are the typical values of
the data sheets. A comment marks each assumed value for which no document was found.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate

K = 1024
FIRST_ERASE, EXTENDED_ERASE = 0x43, 0x44


@dataclass(frozen=True)
class BoardProfile:
    """One simulated chip. Sizes are in bytes, times are typical values in seconds, and a start is the first address.

    Attributes:
        product_id: the product id that the ROM answers to Get ID.
        bootloader_version: the version in packed decimal, such as 0x22 for V2.2.
        ram_reserved: the number of bytes at the start of RAM that the ROM uses; the ROM refuses access to them.
        banks: the number of flash banks that can be erased separately; 1 if the flash has no banks.
        boot_seconds: the time from a reset until the ROM listens.
        commands: the codes in the answer to Get, in the order of the answer.
        page_size: the size of a page, if all pages have the same size.
        sectors: the sizes of the sectors in order; empty if all erase units have the size `page_size`.
        option_format: the format of the option bytes: ``F1``, ``F4``, ``L0`` or ``L4``.
        factory: the addresses outside the system memory that the factory wrote.
        factory_read: the minimum length of a read that starts within `factory`; 0 if no read may start there.
        flash_size_register: the address of the flash size in KiB.
        pages_per_sector: the number of pages that one sector number of Write Protect covers.
        write_alignment: the ROM refuses a write to flash unless its start and end are multiples of this number.
        program_unit: the number of bytes that the controller programs in one operation.
        sector_erase: the times to erase a sector, by sector size; empty if every page takes `page_erase`.
        max_baud: the highest baud rate that the ROM measures correctly.
        erases_all: whether the ROM has a mass erase.
        erase_limit: the number of pages that one erase command accepts.
        blank_only: whether the controller refuses to program cells that are not erased, except to zero.
        greets_twice: whether the ROM sends a second ACK after the first one.
        runs_code: whether applications for this chip can be emulated.
        program_error_nacks: whether the ROM answers NACK to a write to cells that are not erased. The behaviour of
            V2.2 is not documented.
        reported_flash_size: the value of the flash size register in bytes if it differs from `flash_size`, else 0.
    """

    name: str
    product_id: int
    bootloader_version: int
    flash_size: int
    ram_size: int
    ram_reserved: int
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
    unique_id_register: int
    pages_per_sector: int
    program_unit: int
    program_time: float
    page_erase: float
    page_size: int
    sectors: tuple[int, ...] = ()
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
    program_error_nacks: bool = False
    reported_flash_size: int = 0
    flash_start: int = 0x0800_0000
    ram_start: int = 0x2000_0000

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """The offset of each page from the start of flash, followed by the size of the flash."""
        sizes = self.sectors or (self.page_size,) * (self.flash_size // self.page_size)
        return tuple(accumulate(sizes, initial=0))

    @property
    def page_count(self) -> int:
        """The number of pages or sectors of the flash."""
        return len(self._starts) - 1

    def page_span(self, page: int) -> range:
        """Return the offsets of a page's bytes from the start of flash."""
        return range(self._starts[page], self._starts[page + 1])

    def page_at(self, offset: int) -> int:
        """Return the number of the page at an offset from the start of flash."""
        return bisect_right(self._starts, offset) - 1

    def bank_pages(self, bank: int) -> range:
        """Return the page numbers of a bank; the first bank has number 1."""
        size = self.page_count // self.banks
        return range((bank - 1) * size, bank * size)

    def erase_time(self, page: int) -> float:
        """Return the typical time to erase a page; the erase of a missing page takes `page_erase`."""
        if not self.sector_erase or page >= self.page_count:
            return self.page_erase
        return dict(self.sector_erase)[len(self.page_span(page))]


def _commands(erase: int) -> bytes:
    return bytes((0x00, 0x01, 0x02, 0x11, 0x21, 0x31, erase, 0x63, 0x73, 0x82, 0x92))


_BANK = (*[16 * K] * 4, 64 * K)

# Families: each is a partial BoardProfile with the values that its rows share.

# RM0008 (memory map, option bytes), DS5319 (times). Pages of 1 KiB up to 128 KiB of flash, of 2 KiB above.
_F1 = partial(
    BoardProfile,
    commands=_commands(FIRST_ERASE),
    option_start=0x1FFF_F800,
    option_size=16,
    option_format="F1",
    flash_size_register=0x1FFF_F7E0,
    unique_id_register=0x1FFF_F7E8,
    pages_per_sector=4,
    program_unit=2,
    program_time=52.5e-6,
    page_erase=30e-3,
    page_size=K,
    erase_limit=255,
    runs_code=True,
)
_F1_LARGE = partial(_F1, pages_per_sector=2, page_size=2 * K)
# Its clock tree differs (RM0008 section 8), so applications are not emulated.
_F107 = partial(_F1_LARGE, runs_code=False)
_F1_XL = partial(_F1_LARGE, commands=_commands(EXTENDED_ERASE), erase_limit=0xFFF0)

# RM0090 (sectors; a bit that is zero already may be programmed again), DS8626 (times).
_F4 = partial(
    BoardProfile,
    commands=_commands(EXTENDED_ERASE),
    option_start=0x1FFF_C000,
    option_size=16,
    option_format="F4",
    factory=range(0x1FFF_7A00, 0x1FFF_7B20),
    factory_read=256,
    flash_size_register=0x1FFF_7A22,
    unique_id_register=0x1FFF_7A10,
    pages_per_sector=1,
    program_unit=4,
    program_time=16e-6,
    page_erase=0.25,
    page_size=16 * K,
    sector_erase=((16 * K, 0.25), (64 * K, 0.55), (128 * K, 1.0)),
    blank_only=False,
)
_F4_512K = partial(_F4, sectors=(*_BANK, *[128 * K] * 3))
_F4_1M = partial(_F4, sectors=(*_BANK, *[128 * K] * 7))
_F4_2M = partial(_F4, sectors=(*_BANK, *[128 * K] * 7) * 2)

# RM0367: pages of 128 bytes, erased to zero. No mass erase: stm32flash's table has none for any L0 either.
_L0 = partial(
    BoardProfile,
    commands=_commands(EXTENDED_ERASE),
    option_start=0x1FF8_0000,
    option_size=0x20,
    option_format="L0",
    factory=range(0x1FF8_0020, 0x1FF8_0080),
    factory_read=0,  # a read that starts at the option bytes reaches it
    flash_size_register=0x1FF8_007C,
    unique_id_register=0x1FF8_0050,
    pages_per_sector=32,
    program_unit=4,
    program_time=0.2e-3,  # a half page of 64 bytes takes 3.2 ms
    page_erase=3.2e-3,
    page_size=128,
    erases_all=False,
    erase_limit=511,
    erased=b"\x00",
)

# RM0394 (L4), RM0444 (G0).
_L4 = partial(
    BoardProfile,
    commands=_commands(EXTENDED_ERASE),
    option_start=0x1FFF_7800,
    option_size=16,
    option_format="L4",
    factory=range(0x1FFF_7500, 0x1FFF_7700),
    flash_size_register=0x1FFF_75E0,
    unique_id_register=0x1FFF_7590,
    pages_per_sector=1,
    write_alignment=8,
    program_unit=8,
    program_time=82e-6,
    page_erase=22e-3,
    page_size=2 * K,
)
_L412 = partial(_L4, greets_twice=True)
_G0 = partial(_L4, program_time=85e-6)

# Notes on rows:
# F103: 1.227 ms until the ROM listens (AN2606). F103x6 are also sold relabelled as x8.
# F107: the ROM is V2.2 and reports V2.0 (AN2606).
# F4: the RAM that V9.0 uses; V3.x uses 8 KiB.
# L0: the mass erase happens only when readout protection is removed, and is assumed to go page by page; the start-up
#     time is assumed.
# L011: the ROM uses all RAM.
# L4: 2.56 s is the maximum of the L47x without LSE; the same time is assumed for the others.
# fmt: off
_ROWS: tuple[BoardProfile, ...] = (
    #         name           id     version flash   RAM      reserved system memory       banks mass erase   start-up
    _F1(      "stm32f103c6", 0x412, 0x22,   32 * K,  10 * K, 0x0200, 0x1FFF_F000,  2 * K, 1, 30e-3,         1.227e-3),
    _F1(      "stm32f103c8", 0x410, 0x22,   64 * K,  20 * K, 0x0200, 0x1FFF_F000,  2 * K, 1, 30e-3,         1.227e-3),
    _F1_LARGE("stm32f103rc", 0x414, 0x22,  256 * K,  48 * K, 0x0200, 0x1FFF_F000,  2 * K, 1, 30e-3,         1.227e-3),
    _F1(      "stm32f100rb", 0x420, 0x22,  128 * K,   8 * K, 0x0200, 0x1FFF_F000,  2 * K, 1, 30e-3,         1.227e-3),
    _F1_LARGE("stm32f100re", 0x428, 0x22,  512 * K,  32 * K, 0x0200, 0x1FFF_F000,  2 * K, 1, 30e-3,         1.227e-3),
    _F107(    "stm32f107vc", 0x418, 0x20,  256 * K,  64 * K, 0x1000, 0x1FFF_B000, 18 * K, 1, 30e-3,         1.227e-3),
    _F1_XL(   "stm32f103zg", 0x430, 0x30, 1024 * K,  96 * K, 0x0800, 0x1FFF_E000,  6 * K, 2, 30e-3,         1.227e-3),
    _F4_1M(   "stm32f407vg", 0x413, 0x31, 1024 * K, 128 * K, 0x3000, 0x1FFF_0000, 30 * K, 1, 8.0,           0.074),
    _F4_2M(   "stm32f429zi", 0x419, 0x31, 2048 * K, 192 * K, 0x3000, 0x1FFF_0000, 30 * K, 2, 16.0,          0.074),
    _F4_512K( "stm32f401re", 0x433, 0x31,  512 * K,  96 * K, 0x3000, 0x1FFF_0000, 30 * K, 1, 4.0,           0.074),
    _F4_512K( "stm32f411re", 0x431, 0x31,  512 * K, 128 * K, 0x3000, 0x1FFF_0000, 30 * K, 1, 4.0,           0.074),
    _F4_512K( "stm32f446re", 0x421, 0x31,  512 * K, 128 * K, 0x3000, 0x1FFF_0000, 30 * K, 1, 4.0,           0.074),
    _L0(      "stm32l053r8", 0x417, 0x31,   64 * K,   8 * K, 0x1000, 0x1FF0_0000,  4 * K, 1, 3.2e-3 * 512,  0.02),
    _L0(      "stm32l073rz", 0x447, 0x31,  192 * K,  20 * K, 0x1400, 0x1FF0_0000,  8 * K, 2, 3.2e-3 * 1536, 0.02),
    _L0(      "stm32l011k4", 0x457, 0x31,   16 * K,   2 * K, 0x0800, 0x1FF0_0000,  4 * K, 1, 3.2e-3 * 128,  0.02),
    _L4(      "stm32l433rc", 0x435, 0x31,  256 * K,  48 * K, 0x3100, 0x1FFF_0000, 28 * K, 1, 22e-3,         2.56),
    _L4(      "stm32l476rg", 0x415, 0x31, 1024 * K,  96 * K, 0x3000, 0x1FFF_0000, 28 * K, 2, 22e-3,         2.56),
    _L4(      "stm32l496rg", 0x461, 0x31, 1024 * K, 256 * K, 0x3100, 0x1FFF_0000, 28 * K, 2, 22e-3,         2.56),
    _L412(    "stm32l412kb", 0x464, 0x31,  128 * K,  32 * K, 0x2100, 0x1FFF_0000, 28 * K, 1, 22e-3,         2.56),
    _G0(      "stm32g071rb", 0x460, 0x31,  128 * K,  36 * K, 0x2700, 0x1FFF_0000, 28 * K, 1, 22e-3,         0.39e-3),
    _G0(      "stm32g031k8", 0x466, 0x31,   64 * K,   8 * K, 0x1000, 0x1FFF_0000,  8 * K, 1, 22e-3,         0.39e-3),
    _G0(      "stm32g0b1re", 0x467, 0x31,  512 * K, 144 * K, 0x4000, 0x1FFF_0000, 28 * K, 2, 22e-3,         0.39e-3),
)
# fmt: on

PROFILES = {profile.name: profile for profile in _ROWS}
"""Every chip that can be simulated, by name."""
STM32F103C8 = PROFILES["stm32f103c8"]
