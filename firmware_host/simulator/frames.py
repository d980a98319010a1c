"""How a simulated boot ROM receives bytes: coroutines that wait for one after the other, without a limit."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from firmware_host.simulator.faults import Faults

ACK, NACK = 0x79, 0x1F
ALL_BITS = 0xFF


@dataclass(frozen=True)
class Leave:
    """The ROM ends: it jumps to the vector table at `jump`, or resets where that is None."""

    jump: int | None = None


RESET = Leave()
Result = TypeVar("Result")
Script = Generator[None, int, Result]
"""A part of the ROM: receives bytes one by one, and returns a result."""


class RefusalError(Exception):
    """The ROM refuses a command.

    Args:
        reason: for the log.
        nacks: how many NACKs it sends.
    """

    def __init__(self, reason: str, nacks: int = 1) -> None:
        self.nacks = nacks
        super().__init__(reason)


class Transmitter:
    """The ROM's end of the line to the host.

    Args:
        faults: an ACK that is lost, and extra bytes.
        greets_twice: whether the first ACK after a reset is sent twice.

    Attributes:
        pending: bytes on their way to the host.
    """

    def __init__(self, faults: Faults, *, greets_twice: bool = False) -> None:
        self.pending = bytearray()
        self._faults, self._acks = faults, 0
        self._greets_twice = greets_twice or bool(faults.extra_ack)

    def ack(self) -> None:
        """Send ACK, unless it is the lost one."""
        self._acks += 1
        if self._acks != self._faults.lost_ack:
            self.pending.append(ACK)

    def greet(self) -> None:
        """Answer the first 0x7F."""
        self.pending += b"\0" * min(self._faults.leading_zero, 1)
        self.ack()
        self.pending += bytes([ACK] * self._greets_twice)

    def take(self) -> bytes:
        """Return the pending bytes, and clear them."""
        taken = bytes(self.pending)
        self.pending.clear()
        return taken


def take(count: int) -> Script[bytes]:
    """Receive this many bytes."""
    received = bytearray()
    for _ in range(count):
        received.append((yield))
    return bytes(received)


def take_word(what: str) -> Script[int]:
    """Receive a big-endian word and its checksum.

    Raises:
        RefusalError: the checksum is wrong.
    """
    frame = yield from take(5)
    if checksum(frame):
        raise RefusalError(f"the checksum of the {what} is wrong")
    return int.from_bytes(frame[:4], "big")


def complements(byte: int, other: int) -> bool:
    """Whether every bit of one byte is the inverse of the other's."""
    return byte ^ other == ALL_BITS


def checksum(frame: bytes) -> int:
    """Return the XOR of all bytes."""
    return reduce(xor, frame, 0)
