"""Packets, opcodes and status codes of the ATECC608 on the I2C bus."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

WAKE_ANSWER = bytes.fromhex("04113343")
"""The chip's answer after it woke: a packet with the status 0x11."""
MIN_PACKET, MAX_PACKET = 7, 155
"""The lengths of command packets in bytes, from the count byte to the checksum."""
_POLYNOMIAL = 0x8005


class WordAddress(IntEnum):
    """The first byte of a write on the bus, which selects the meaning of the other bytes."""

    RESET = 0
    SLEEP = 1
    IDLE = 2
    COMMAND = 3


class Opcode(IntEnum):
    """The commands of the model."""

    READ = 0x02
    MAC = 0x08
    WRITE = 0x12
    NONCE = 0x16
    LOCK = 0x17
    RANDOM = 0x1B
    UPDATE_EXTRA = 0x20
    COUNTER = 0x24
    CHECKMAC = 0x28
    INFO = 0x30
    GENKEY = 0x40
    SIGN = 0x41
    VERIFY = 0x45
    SHA = 0x47
    SECUREBOOT = 0x80


class ChipStatus(IntEnum):
    """The status byte in an answer of four bytes."""

    SUCCESS = 0x00
    MISMATCH = 0x01
    PARSE_ERROR = 0x03
    ECC_FAULT = 0x05
    EXECUTION_ERROR = 0x0F
    AFTER_WAKE = 0x11
    COMMUNICATION_ERROR = 0xFF


class ChipStatusError(Exception):
    """The chip answers with a status other than success.

    Attributes:
        status: the status byte.
    """

    def __init__(self, status: ChipStatus) -> None:
        super().__init__(f"the secure element answered {status.name} (0x{status:02x})")
        self.status = status


@dataclass(frozen=True)
class ChipCommand:
    """A command packet without count and checksum.

    Attributes:
        opcode: the command; any byte.
        mode: the parameter Param1, one byte.
        param2: the parameter Param2, two bytes.
        data: the other bytes of the packet.
    """

    opcode: int
    mode: int = 0
    param2: int = 0
    data: bytes = b""

    def encoded(self) -> bytes:
        """Return the packet in the form that follows the word address on the bus."""
        body = bytes((self.opcode, self.mode)) + self.param2.to_bytes(2, "little") + self.data
        return with_checksum(body)


def crc16(data: bytes) -> int:
    """Return the chip's checksum: CRC-16, polynomial 0x8005, initial value 0, lowest bit of each byte first."""
    register = 0
    for byte in data:
        for bit in range(8):
            differs = (byte >> bit & 1) != register >> 15
            register = register << 1 & 0xFFFF
            if differs:
                register ^= _POLYNOMIAL
    return register


def with_checksum(body: bytes) -> bytes:
    """Return a packet: the number of its bytes, the body, and the checksum of number and body, low byte first."""
    counted = bytes([len(body) + 3]) + body
    return counted + crc16(counted).to_bytes(2, "little")


def decode(packet: bytes) -> ChipCommand:
    """Return the command in a packet that the bus delivered.

    Raises:
        ChipStatusError: the checksum or the length is wrong (communication error), or the packet is too short or too
            long for a command (parse error).
    """
    if len(packet) < 1 or len(packet) != packet[0] or crc16(packet[:-2]).to_bytes(2, "little") != packet[-2:]:
        raise ChipStatusError(ChipStatus.COMMUNICATION_ERROR)
    if not MIN_PACKET <= len(packet) <= MAX_PACKET:
        raise ChipStatusError(ChipStatus.PARSE_ERROR)
    return ChipCommand(packet[1], packet[2], int.from_bytes(packet[3:5], "little"), packet[5:-2])
