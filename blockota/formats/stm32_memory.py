"""Names the memories of an STM32 that are not flash, so that an image with a part in one is refused by its name.

The addresses are from ST's reference manuals: RM0008 (F1), RM0090 (F4), RM0385 (F7), RM0367 (L0), RM0351 (L4), RM0444
(G0) and others. A few addresses belong to different memories on different families; their name lists both.
"""

from __future__ import annotations

from dataclasses import dataclass

from blockota.errors import Action

K = 1024


@dataclass(frozen=True)
class Memory:
    """A memory that a release cannot contain.

    Attributes:
        name: the name of the memory with its article.
        remedy: what to do with them, a clause in the imperative.
        action: the command that does it, if there is one.
    """

    name: str
    remedy: str
    action: Action | None = None


_PROGRAMMER = "with ST's programmer in production"
_OPTION_BYTES = Memory(
    "the option bytes",
    f"build the file without them; set other options {_PROGRAMMER}, and the protection on each board after flashing",
    Action.PROTECT_BOARD,
)
_OTP = Memory(
    "the one-time-programmable memory",
    f"build the file without it, and program it once {_PROGRAMMER}",
)
_OPTION_BYTES_OR_OTP = Memory("the option bytes or the one-time-programmable memory", _OPTION_BYTES.remedy)
_SYSTEM = Memory("the system memory, which ST programs", "build the file without it")
_RAM = Memory(
    "RAM, which a reset clears",
    "give sections with initial values a load address in flash (AT> in a linker script), and mark others as NOLOAD",
)
_REGISTERS = Memory("the registers of peripherals", f"build the file without them, and set options {_PROGRAMMER}")
_EXTERNAL = Memory(
    "memory outside the chip", "build the file without it, and let the program or another tool write that memory"
)
EEPROM = Memory(
    "the data EEPROM",
    f"build the file without it; let the program write its initial values, or write them {_PROGRAMMER}",
)
"""The data EEPROM of an STM32L0 or L1; other families have flash at its addresses."""
EEPROM_SPAN = range(0x0808_0000, 0x0808_4000)
"""The addresses of the data EEPROM of an STM32L0 or L1 (RM0367, RM0038)."""

# The first match counts, so parts of a larger range come before it.
_MEMORIES: tuple[tuple[range, Memory], ...] = (
    (range(0x0BFA_0000, 0x0BFA_0200), _OTP),  # U5, L5
    (range(0x1FF0_F000, 0x1FF0_F410), _OTP),  # F7
    (range(0x1FF8_0000, 0x1FF8_00A0), _OPTION_BYTES),  # L0, L1
    (range(0x1FFE_C000, 0x1FFE_C010), _OPTION_BYTES),  # F42x, bank 2
    (range(0x1FFF_0000, 0x1FFF_0020), _OPTION_BYTES),  # F7
    (range(0x1FFF_7000, 0x1FFF_7400), _OTP),  # L4, G0, G4
    (range(0x1FFF_7800, 0x1FFF_7A10), _OPTION_BYTES_OR_OTP),  # L4, G0, G4: option bytes; F2, F4: OTP
    (range(0x1FFF_8000, 0x1FFF_8080), _OPTION_BYTES),  # WB
    (range(0x1FFF_C000, 0x1FFF_C010), _OPTION_BYTES),  # F2, F4
    (range(0x1FFF_F800, 0x1FFF_F840), _OPTION_BYTES),  # F0, F1, F3; L4 and G4, bank 2
    (range(0x1FF0_0000, 0x2000_0000), _SYSTEM),
    (range(0x1000_0000, 0x1FF0_0000), _RAM),  # CCM, SRAM2
    (range(0x2000_0000, 0x4000_0000), _RAM),
    (range(0x4000_0000, 0x6000_0000), _REGISTERS),
    (range(0x6000_0000, 0xA000_0000), _EXTERNAL),  # FMC, QUADSPI
    (range(0xE000_0000, 0x1_0000_0000), _REGISTERS),
)


def find_memory(address: int) -> Memory | None:
    """Return the memory at an address; None if the address may be in flash."""
    return next((memory for span, memory in _MEMORIES if address in span), None)
