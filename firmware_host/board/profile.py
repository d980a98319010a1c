"""What tells one simulated chip from another: its memories, its boot ROM, its times."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class BoardProfile:
    """One chip, as its data sheet and AN2606 describe it; sizes in bytes, times in seconds.

    Attributes:
        name: the part's name in lower case, as the command line takes it.
        product_id: what Get ID answers (AN2606, table of bootloader product ids).
        bootloader_version: the boot ROM's version in BCD, 0x22 for V2.2.
        commands: the command codes that Get lists, in its order.
        ram_reserved: bytes at the start of RAM that the ROM uses and refuses to others.
        pages_per_sector: pages that one write-protection bit covers.
        program_unit: bytes that the controller programs in one operation.
        program_time: typical time of one such operation.
        page_erase: typical time to erase one page.
        mass_erase: typical time to erase the whole flash.
        boot_seconds: from a reset until the ROM listens.
        erased: what an erased byte holds.
        blank_only: whether the controller refuses to program what is not erased, except to zero.
        program_error_nacks: whether the ROM answers NACK when a cell that is not erased was to
            be programmed; unknown for V2.2, so it can be set.
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
    erased: bytes = b"\xff"
    blank_only: bool = True
    program_error_nacks: bool = False

    @property
    def page_count(self) -> int:
        """Number of erase pages of the flash."""
        return self.flash_size // self.page_size

    def page_span(self, page: int) -> range:
        """Offsets of the bytes of a page from the start of flash."""
        return range(page * self.page_size, (page + 1) * self.page_size)

    def page_at(self, offset: int) -> int:
        """Number of the page at that offset from the start of flash."""
        return offset // self.page_size

    def erase_time(self, _page: int) -> float:
        """Typical time to erase that page."""
        return self.page_erase


STM32F103C8 = BoardProfile(
    name="stm32f103c8",
    product_id=0x410,
    bootloader_version=0x22,
    commands=bytes((0x00, 0x01, 0x02, 0x11, 0x21, 0x31, 0x43, 0x63, 0x73, 0x82, 0x92)),
    flash_start=0x0800_0000,
    flash_size=64 * 1024,
    page_size=1024,
    ram_start=0x2000_0000,
    ram_size=20 * 1024,
    ram_reserved=0x200,
    system_start=0x1FFF_F000,
    system_size=2048,
    option_start=0x1FFF_F800,
    option_size=16,
    flash_size_register=0x1FFF_F7E0,
    unique_id_register=0x1FFF_F7E8,
    pages_per_sector=4,
    program_unit=2,
    program_time=52.5e-6,
    page_erase=30e-3,
    mass_erase=30e-3,
    boot_seconds=1.227e-3,
)
"""Medium density, 64 KiB: AN2606 (product id, V2.2, RAM, time to boot), RM0008 (memory map), DS5319 (times)."""

STM32F103C6 = replace(STM32F103C8, name="stm32f103c6", product_id=0x412, flash_size=32 * 1024, ram_size=10 * 1024)
"""Low density, which is also sold relabelled as C8."""

STM32F103RC = replace(
    STM32F103C8,
    name="stm32f103rc",
    product_id=0x414,
    flash_size=256 * 1024,
    page_size=2048,
    ram_size=48 * 1024,
    pages_per_sector=2,
)
"""High density: pages of 2 KiB, and more sectors than protection bits."""

PROFILES = {profile.name: profile for profile in (STM32F103C6, STM32F103C8, STM32F103RC)}
"""Every chip that can be simulated, by name."""
