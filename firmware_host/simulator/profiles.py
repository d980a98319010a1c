"""Every chip that can be simulated: one part for each product id.

Product ids, versions, RAM, system memory and times to boot are AN2606's; memory maps are the reference manuals';
times are the data sheets' typical ones. Where a document does not say, the comment here does. Nothing in this table
comes from the one that our client has.
"""

from __future__ import annotations

from dataclasses import replace

from firmware_host.simulator.profile import EXTENDED_ERASE, FIRST_ERASE, BoardProfile

KIB = 1024


def _commands(erase: int) -> bytes:
    return bytes((0x00, 0x01, 0x02, 0x11, 0x21, 0x31, erase, 0x63, 0x73, 0x82, 0x92))


STM32F103C8 = BoardProfile(
    name="stm32f103c8",
    product_id=0x410,
    bootloader_version=0x22,
    commands=_commands(FIRST_ERASE),
    flash_start=0x0800_0000,
    flash_size=64 * KIB,
    page_size=KIB,
    ram_start=0x2000_0000,
    ram_size=20 * KIB,
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
    erase_limit=255,
    runs_code=True,
)
"""Medium density, 64 KiB: AN2606 (product id, V2.2, RAM, time to boot), RM0008 (memory map), DS5319 (times)."""

STM32F103C6 = replace(STM32F103C8, name="stm32f103c6", product_id=0x412, flash_size=32 * KIB, ram_size=10 * KIB)
"""Low density, which is also sold relabelled as C8."""

STM32F103RC = replace(
    STM32F103C8,
    name="stm32f103rc",
    product_id=0x414,
    flash_size=256 * KIB,
    page_size=2 * KIB,
    ram_size=48 * KIB,
    pages_per_sector=2,
)
"""High density: pages of 2 KiB, and more sectors than protection bits."""

_F1 = (
    STM32F103C6,
    STM32F103C8,
    STM32F103RC,
    replace(STM32F103C8, name="stm32f100rb", product_id=0x420, flash_size=128 * KIB, ram_size=8 * KIB),
    replace(STM32F103RC, name="stm32f100re", product_id=0x428, flash_size=512 * KIB, ram_size=32 * KIB),
    # The ROM is V2.2 and says V2.0 (AN2606). Its clock tree is another one, so programs are not run.
    replace(
        STM32F103RC,
        name="stm32f107vc",
        product_id=0x418,
        bootloader_version=0x20,
        ram_size=64 * KIB,
        ram_reserved=0x1000,
        system_start=0x1FFF_B000,
        system_size=18 * KIB,
        runs_code=False,
    ),
    replace(
        STM32F103RC,
        name="stm32f103zg",
        product_id=0x430,
        bootloader_version=0x30,
        commands=_commands(EXTENDED_ERASE),
        flash_size=1024 * KIB,
        ram_size=96 * KIB,
        ram_reserved=0x800,
        system_start=0x1FFF_E000,
        system_size=6 * KIB,
        banks=2,
        erase_limit=0xFFF0,
    ),
)

_BANK = (*[16 * KIB] * 4, 64 * KIB)
_STM32F407VG = BoardProfile(
    name="stm32f407vg",
    product_id=0x413,
    bootloader_version=0x31,
    commands=_commands(EXTENDED_ERASE),
    flash_start=0x0800_0000,
    flash_size=1024 * KIB,
    page_size=16 * KIB,
    sectors=(*_BANK, *[128 * KIB] * 7),
    ram_start=0x2000_0000,
    ram_size=128 * KIB,
    ram_reserved=0x3000,  # V9.0's; V3.x takes 8 KiB
    system_start=0x1FFF_0000,
    system_size=30 * KIB,
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
    sector_erase=((16 * KIB, 0.25), (64 * KIB, 0.55), (128 * KIB, 1.0)),
    mass_erase=8.0,
    boot_seconds=0.074,
    blank_only=False,
)
"""DS8626 (times), RM0090 (sectors; a bit that is zero already may be programmed again)."""

_SMALL_F4 = (*_BANK, *[128 * KIB] * 3)
_F4 = (
    _STM32F407VG,
    replace(
        _STM32F407VG,
        name="stm32f429zi",
        product_id=0x419,
        flash_size=2048 * KIB,
        sectors=(*_BANK, *[128 * KIB] * 7) * 2,
        ram_size=192 * KIB,
        mass_erase=16.0,
        banks=2,
    ),
    *(
        replace(
            _STM32F407VG,
            name=name,
            product_id=product_id,
            flash_size=512 * KIB,
            sectors=_SMALL_F4,
            ram_size=ram_size,
            mass_erase=4.0,
        )
        for name, product_id, ram_size in (
            ("stm32f401re", 0x433, 96 * KIB),
            ("stm32f411re", 0x431, 128 * KIB),
            ("stm32f446re", 0x421, 128 * KIB),
        )
    ),
)

_STM32L053R8 = BoardProfile(
    name="stm32l053r8",
    product_id=0x417,
    bootloader_version=0x31,
    commands=_commands(EXTENDED_ERASE),
    flash_start=0x0800_0000,
    flash_size=64 * KIB,
    page_size=128,
    ram_start=0x2000_0000,
    ram_size=8 * KIB,
    ram_reserved=0x1000,
    system_start=0x1FF0_0000,
    system_size=4 * KIB,
    option_start=0x1FF8_0000,
    option_size=0x20,
    option_format="L0",
    factory=range(0x1FF8_0020, 0x1FF8_0080),
    factory_read=0,  # a read from the option bytes on reaches it
    flash_size_register=0x1FF8_007C,
    unique_id_register=0x1FF8_0050,
    pages_per_sector=32,
    program_unit=4,
    program_time=0.2e-3,  # a half page of 64 bytes takes 3.2 ms
    page_erase=3.2e-3,
    mass_erase=3.2e-3 * 512,  # of lifting readout protection; assumed to go page by page
    boot_seconds=0.02,  # assumed
    erases_all=False,
    erase_limit=511,
    erased=b"\x00",
)
"""RM0367: pages of 128 bytes that are erased to zero. stm32flash's table denies all L0 parts a mass erase."""

_L0 = (
    _STM32L053R8,
    replace(
        _STM32L053R8,
        name="stm32l073rz",
        product_id=0x447,
        flash_size=192 * KIB,
        ram_size=20 * KIB,
        ram_reserved=0x1400,
        system_size=8 * KIB,
        mass_erase=3.2e-3 * 1536,
        banks=2,
    ),
    # The ROM takes all RAM there is.
    replace(
        _STM32L053R8,
        name="stm32l011k4",
        product_id=0x457,
        flash_size=16 * KIB,
        ram_size=2 * KIB,
        ram_reserved=2 * KIB,
        mass_erase=3.2e-3 * 128,
    ),
)

_STM32L433RC = BoardProfile(
    name="stm32l433rc",
    product_id=0x435,
    bootloader_version=0x31,
    commands=_commands(EXTENDED_ERASE),
    flash_start=0x0800_0000,
    flash_size=256 * KIB,
    page_size=2 * KIB,
    ram_start=0x2000_0000,
    ram_size=48 * KIB,
    ram_reserved=0x3100,
    system_start=0x1FFF_0000,
    system_size=28 * KIB,
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
    mass_erase=22e-3,
    boot_seconds=2.56,  # as the STM32L47x takes at most, without LSE; the others are assumed alike
)
_STM32G071RB = replace(
    _STM32L433RC,
    name="stm32g071rb",
    product_id=0x460,
    flash_size=128 * KIB,
    ram_size=36 * KIB,
    ram_reserved=0x2700,
    program_time=85e-6,
    boot_seconds=0.39e-3,
)
_L4_G0 = (
    _STM32L433RC,
    replace(
        _STM32L433RC,
        name="stm32l476rg",
        product_id=0x415,
        flash_size=1024 * KIB,
        ram_size=96 * KIB,
        ram_reserved=0x3000,
        banks=2,
    ),
    replace(_STM32L433RC, name="stm32l496rg", product_id=0x461, flash_size=1024 * KIB, ram_size=256 * KIB, banks=2),
    replace(
        _STM32L433RC,
        name="stm32l412kb",
        product_id=0x464,
        flash_size=128 * KIB,
        ram_size=32 * KIB,
        ram_reserved=0x2100,
        greets_twice=True,
    ),
    _STM32G071RB,
    replace(
        _STM32G071RB,
        name="stm32g031k8",
        product_id=0x466,
        flash_size=64 * KIB,
        ram_size=8 * KIB,
        ram_reserved=0x1000,
        system_size=8 * KIB,
    ),
    replace(
        _STM32G071RB,
        name="stm32g0b1re",
        product_id=0x467,
        flash_size=512 * KIB,
        ram_size=144 * KIB,
        ram_reserved=0x4000,
        banks=2,
    ),
)

PROFILES = {profile.name: profile for profile in (*_F1, *_F4, *_L0, *_L4_G0)}
"""Every chip that can be simulated, by name."""
