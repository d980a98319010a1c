"""The bytes of a stretch of flash, by address."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from firmware_host.flashing.plan import FlashPlan, common


@dataclass(frozen=True)
class Preserved:
    """Bytes beside the image, in a unit that will be erased; a cautious caller keeps them until the end.

    Attributes:
        address: of the first byte.
        data: the bytes.
    """

    address: int
    data: bytes

    @property
    def span(self) -> range:
        """The addresses of the bytes."""
        return range(self.address, self.address + len(self.data))


class Memory:
    """What a stretch of flash holds, or is to hold; erased where nothing was said.

    Args:
        span: its addresses.
        blank: what an erased byte reads as.
    """

    def __init__(self, span: range, blank: int) -> None:
        """Begin with everything erased."""
        self._start, self._blank = span.start, bytes((blank,))
        self._bytes = bytearray(self._blank * len(span))

    def __getitem__(self, span: range) -> bytes:
        """The bytes of some of its addresses."""
        return bytes(self._bytes[span.start - self._start : span.stop - self._start])

    def __setitem__(self, span: range, data: bytes) -> None:
        """Say what some of its addresses hold."""
        self._bytes[span.start - self._start : span.stop - self._start] = data

    def blank(self, span: range) -> bool:
        """Whether those addresses are erased."""
        return not self[span].strip(self._blank)

    def put(self, kept: Iterable[Preserved], *, within: range) -> None:
        """Say that those of some kept bytes that lie within a span are to be there."""
        for one in kept:
            if part := common(one.span, within):
                self[part] = one.data[part.start - one.address : part.stop - one.address]

    def checksum(self, span: range) -> int:
        """The CRC-32 of those addresses, as zlib computes it."""
        return zlib.crc32(self[span])


def wanted_memory(plan: FlashPlan) -> Memory:
    """What the units of a plan are to hold, as far as the image says; erased beside it."""
    wanted = Memory(plan.span, plan.chip.erased_byte)
    wanted[plan.image.span] = plan.image.data
    return wanted
