"""Names the memories of an STM32 other than flash.

An error uses the name of the memory in which a part of an image lies. The addresses are from ST's reference manuals:
RM0008 (F1), RM0090 (F4), RM0385 (F7), RM0367 (L0), RM0351 (L4), RM0444 (G0) and others. On two chip families, the same
address can belong to two different memories. If the family is unknown, the name lists both memories.
"""

from __future__ import annotations

from dataclasses import dataclass

from blockota.errors import Action


@dataclass(frozen=True)
class Memory:
    """A memory that a release cannot contain.

    Attributes:
        name: the name of the memory with its article.
        remedy: what to do with the part of the image in this memory, a clause in the imperative.
        action: the command that carries out the remedy; None if BlockOTA does not have such a command.
    """

    name: str
    remedy: str
    action: Action | None = None


_PROGRAMMER = "with ST's programmer in production"
_OPTION_BYTES = Memory(
    "the option bytes",
    "build the file without the option bytes; set the protection on each board after flashing, and other options "
    f"{_PROGRAMMER}",
    Action.PROTECT_BOARD,
)
_OTP = Memory(
    "the one-time-programmable memory",
    f"build the file without it, and program it once {_PROGRAMMER}",
)
_EITHER = Memory("the option bytes or the one-time-programmable memory", _OPTION_BYTES.remedy)
_SYSTEM = Memory("the system memory, which ST programs", "build the file without it")
_RAM = Memory(
    "RAM, which a reset clears",
    "give sections with initial values a load address in flash (AT> in a linker script), and mark others as NOLOAD",
)
_REGISTERS = Memory("the registers of peripherals", f"build the file without them, and set options {_PROGRAMMER}")
_EXTERNAL = Memory(
    "memory outside the chip", "build the file without it, and let the program or another tool write that memory"
)
_EEPROM = Memory(
    "the data EEPROM",
    f"build the file without it; let the program write its initial values, or write them {_PROGRAMMER}",
)

_UNKNOWN = ""
# An address range, the families that it applies to, and their memory in it. The first match counts, so a part of a
# larger range comes before the larger range.
_MEMORIES: tuple[tuple[range, tuple[str, ...], Memory], ...] = (
    (range(0x0808_0000, 0x0808_4000), ("L0", "L1"), _EEPROM),  # other families can have flash there
    (range(0x0BFA_0000, 0x0BFA_0200), (_UNKNOWN, "U5", "L5"), _OTP),
    (range(0x1FF0_F000, 0x1FF0_F410), (_UNKNOWN, "F7"), _OTP),
    (range(0x1FF8_0000, 0x1FF8_00A0), (_UNKNOWN, "L0", "L1"), _OPTION_BYTES),
    (range(0x1FFE_C000, 0x1FFE_C010), (_UNKNOWN, "F4"), _OPTION_BYTES),  # of bank 2
    (range(0x1FFF_0000, 0x1FFF_0020), (_UNKNOWN, "F7"), _OPTION_BYTES),
    (range(0x1FFF_7000, 0x1FFF_7400), (_UNKNOWN, "C0", "G0", "G4", "L4", "WB", "WL"), _OTP),
    (range(0x1FFF_7800, 0x1FFF_7A10), (_UNKNOWN,), _EITHER),
    (range(0x1FFF_7800, 0x1FFF_7A10), ("F2", "F4"), _OTP),
    (range(0x1FFF_7800, 0x1FFF_7A10), ("C0", "G0", "G4", "L4", "WL"), _OPTION_BYTES),
    (range(0x1FFF_8000, 0x1FFF_8080), (_UNKNOWN, "WB"), _OPTION_BYTES),
    (range(0x1FFF_C000, 0x1FFF_C010), (_UNKNOWN, "F2", "F4"), _OPTION_BYTES),
    (range(0x1FFF_F800, 0x1FFF_F840), (_UNKNOWN, "F0", "F1", "F3", "G4", "L4"), _OPTION_BYTES),  # G4, L4: of bank 2
    (range(0x1FF0_0000, 0x2000_0000), (), _SYSTEM),
    (range(0x1000_0000, 0x1FF0_0000), (), _RAM),  # CCM, SRAM2
    (range(0x2000_0000, 0x4000_0000), (), _RAM),
    (range(0x4000_0000, 0x6000_0000), (), _REGISTERS),
    (range(0x6000_0000, 0xA000_0000), (), _EXTERNAL),  # FMC, QUADSPI
    (range(0xE000_0000, 0x1_0000_0000), (), _REGISTERS),
)


@dataclass(frozen=True)
class ChipFlash:
    """The known facts about the flash of a chip.

    Attributes:
        span: the addresses of the flash; all addresses if the flash is not known.
        family: the chip's family without ``STM32``, such as ``F4`` or ``L4P``; empty if it is not known.
    """

    span: range = range(1 << 32)
    family: str = _UNKNOWN


ANY_FLASH = ChipFlash()
"""The flash of an unknown chip."""


def find_memory(address: int, family: str = _UNKNOWN) -> Memory | None:
    """Find the memory of a chip family at an address.

    Returns None if the address may be in flash.
    """
    for span, families, memory in _MEMORIES:
        if address in span and (not families or family[:2] in families):
            return memory
    return None
