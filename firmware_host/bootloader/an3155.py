"""Encode and decode the frames of the STM32 USART bootloader (ST application note AN3155).

No I/O. An `Exchange` is one command: the frames that the host sends in order. The device answers each frame with ACK or
NACK before the host may send the next frame. Numbers are big-endian. A checksum is the exclusive-or of the bytes before
it, and a single byte is followed by its complement. An argument that does not fit its frame raises RefusedError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from operator import xor

from blockota.errors import BoardProtocolError, RefusedError

SYNC = 0x7F
"""The first byte after a reset, from which the device measures the baud rate (AN3155 section 2)."""
ACK, NACK = 0x79, 0x1F
"""The answer of the device that accepts or refuses the last frame."""
BUSY = 0x76
"""The device is busy and will answer later. BUSY is defined in AN4221, a related protocol, and not in AN3155."""
MAX_BLOCK, WRITE_MULTIPLE = 256, 4
"""The maximum number of bytes that one Read Memory or Write Memory transfers. A Write Memory transfers a multiple of
the second number."""


class Command(IntEnum):
    """The command codes of AN3155 table 2."""

    GET = 0x00
    GET_ID = 0x02
    READ_MEMORY = 0x11
    GO = 0x21
    WRITE_MEMORY = 0x31
    ERASE = 0x43
    EXTENDED_ERASE = 0x44
    WRITE_PROTECT = 0x63
    WRITE_UNPROTECT = 0x73
    READOUT_PROTECT = 0x82
    READOUT_UNPROTECT = 0x92

    @property
    def title(self) -> str:
        """The command's name, as AN3155 writes it."""
        return self.name.replace("_", " ").title()


ERASE_LIMITS = {Command.ERASE: 255, Command.EXTENDED_ERASE: 0xFFF0}
"""The maximum number of pages in one command. The frame contains the number minus one, and greater counts mean special
erases."""


@dataclass(frozen=True)
class Exchange:
    """One command as the frames that the host sends.

    `address` is only used in messages. With `closing_ack`, the device sends a second ACK when the command is complete.
    """

    command: Command
    frames: tuple[bytes, ...]
    address: int | None = None
    closing_ack: bool = False

    @property
    def title(self) -> str:
        """The command's name and address, for messages."""
        where = "" if self.address is None else f" at {self.address:#010x}"
        return f"{self.command.title}{where}"


@dataclass(frozen=True)
class Capabilities:
    """The device's answer to Get.

    `version` is in packed decimal, such as 0x22 for version 2.2.
    """

    version: int
    commands: frozenset[int]

    @property
    def version_text(self) -> str:
        """The version as text, such as ``2.2``."""
        return f"{self.version >> 4}.{self.version & 0x0F}"


def checksum(data: bytes) -> int:
    """Return the exclusive-or of all bytes; 0 for empty data."""
    return reduce(xor, data, 0)


def with_checksum(data: bytes) -> bytes:
    """Return the bytes, followed by their checksum."""
    return data + bytes((checksum(data),))


def with_complement(value: int) -> bytes:
    """Return a single byte, followed by its complement."""
    return bytes((value, value ^ 0xFF))


def bare(command: Command) -> Exchange:
    """Return the exchange of a command without arguments.

    A command that changes a protection ends with a second ACK and a reset.
    """
    return _exchange(command, closing_ack=command not in {Command.GET, Command.GET_ID})


def read_memory(address: int, length: int) -> Exchange:
    """Return the exchange that reads 1 to 256 bytes (AN3155 section 3.4)."""
    if not 1 <= length <= MAX_BLOCK:
        raise _unsendable(f"reads 1 to {MAX_BLOCK} bytes at once, not {length}")
    return _exchange(Command.READ_MEMORY, with_complement(length - 1), address=address)


def go(address: int) -> Exchange:
    """Return the exchange that starts the program whose vector table is at an address (AN3155 section 3.5)."""
    return _exchange(Command.GO, address=address)


def write_memory(address: int, data: bytes) -> Exchange:
    """Return the exchange that writes 4 to 256 bytes, a multiple of four (AN3155 section 3.6)."""
    if not 0 < len(data) <= MAX_BLOCK or len(data) % WRITE_MULTIPLE:
        raise _unsendable(f"writes 4 to {MAX_BLOCK} bytes, a multiple of {WRITE_MULTIPLE}, not {len(data)}")
    frame = with_checksum(bytes((len(data) - 1,)) + data)
    return _exchange(Command.WRITE_MEMORY, frame, address=address)


def erase(command: Command, pages: Sequence[int]) -> Exchange:
    """Return the exchange that erases pages or sectors by one of the two erase commands (AN3155 sections 3.7, 3.8)."""
    limit = ERASE_LIMITS[command]
    if not 1 <= len(pages) <= limit:
        raise _unsendable(f"erases 1 to {limit} pages at once, not {len(pages)}")
    width = 1 if command is Command.ERASE else 2
    return _exchange(command, with_checksum(_numbers((len(pages) - 1, *pages), width=width)))


def erase_all(command: Command) -> Exchange:
    """Return the exchange that erases the whole flash: a global erase (Erase) or a mass erase (Extended Erase)."""
    return _exchange(command, with_complement(0xFF) if command is Command.ERASE else with_checksum(b"\xff\xff"))


def write_protect(sectors: Sequence[int]) -> Exchange:
    """Return the exchange that write-protects exactly these 1 to 256 sectors.

    The device resets after the command (AN3155 section 3.9).
    """
    if not 1 <= len(sectors) <= MAX_BLOCK:
        raise _unsendable(f"protects 1 to {MAX_BLOCK} sectors at once, not {len(sectors)}")
    # AN3155 section 3.9: the count on the line is one less than the number of sectors.
    return _exchange(Command.WRITE_PROTECT, with_checksum(_numbers((len(sectors) - 1, *sectors), width=1)))


def parse_capabilities(payload: bytes) -> Capabilities:
    """Decode the payload of the answer to Get: the version, then one byte for each command.

    The count before the payload and the ACK after the payload are not part of `payload`.
    """
    if not payload[1:]:
        raise BoardProtocolError("the board's answer to Get lists no command", why=f"it is {payload.hex()!r}")
    return Capabilities(version=payload[0], commands=frozenset(payload[1:]))


def parse_product_id(payload: bytes) -> int:
    """Decode the answer to Get ID.

    The answer has two bytes, or one byte if the bootloader has version 2.0. Further bytes, which some devices send, are
    ignored.
    """
    return int.from_bytes(payload[:2], "big")


def _exchange(command: Command, *frames: bytes, address: int | None = None, closing_ack: bool = False) -> Exchange:
    if address is not None:
        frames = (with_checksum(_numbers((address,), width=4)), *frames)
    return Exchange(command, (with_complement(command), *frames), address, closing_ack)


def _numbers(numbers: Sequence[int], *, width: int) -> bytes:
    try:
        return b"".join(number.to_bytes(width, "big") for number in numbers)
    except OverflowError as error:
        raise _unsendable(f"sends each number in {width} bytes, and one of these does not fit") from error


def _unsendable(rule: str) -> RefusedError:
    return RefusedError("the command cannot be sent", why=f"AN3155 {rule}")
