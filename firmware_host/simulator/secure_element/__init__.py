"""A model of Microchip's secure element ATECC608 at the level of its commands.

The model was written from Microchip's data sheets, shares no code with the driver in ``device/``, and is compared with
Microchip's own library in ``tests/peers/secure_element``. If the public documents leave a rule open, the model
implements the stricter variant. A driver that works with the model therefore works with each variant. The model has
three strict rules. A command that uses TempKey or the message digest buffer clears this register. Keys work only after
the data zone is locked. A slot can be locked only after the data zone.

The model does not have AES, ECDH, KDF, PrivWrite, DeriveKey, SelfTest, encrypted reads and writes, limited use of keys,
and the single-wire interface. The model answers such commands with a parse error or an execution error.

Example:
    element = SecureElement(clock=time.monotonic)
    element.wake()
    element.write(WordAddress.COMMAND, ChipCommand(Opcode.INFO).encoded())
    answer = element.read(7)  # None until the command's time has passed
"""

from firmware_host.simulator.secure_element.element import (
    EXECUTION_TIMES,
    WAKE_TIME,
    WATCHDOG,
    ChipFaults,
    PowerState,
    SecureElement,
)
from firmware_host.simulator.secure_element.memory import ElementMemory
from firmware_host.simulator.secure_element.protocol import (
    WAKE_ANSWER,
    ChipCommand,
    ChipStatus,
    ChipStatusError,
    Opcode,
    WordAddress,
    crc16,
    with_checksum,
)

__all__ = [
    "EXECUTION_TIMES",
    "WAKE_ANSWER",
    "WAKE_TIME",
    "WATCHDOG",
    "ChipCommand",
    "ChipFaults",
    "ChipStatus",
    "ChipStatusError",
    "ElementMemory",
    "Opcode",
    "PowerState",
    "SecureElement",
    "WordAddress",
    "crc16",
    "with_checksum",
]
