"""Calculate the minimum time to flash an STM32F103 over its bootloader, from the protocol and the data sheet.

The frames are those of AN3155 (sections 3.4, 3.6 and 3.7); each frame is acknowledged before the next frame is sent.
The times of the flash are the typical times of DS5319. The USB adapter delays every acknowledgement by its latency.
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_host.bootloader.an3155 import MAX_BLOCK

BITS_PER_BYTE = 11
HALFWORD_PROGRAM = 52.5e-6
"""Seconds to program two bytes (DS5319 table 28, typical)."""
MASS_ERASE = 30e-3
"""Seconds to erase the whole flash (DS5319 table 28, typical)."""
ANSWERS_A_BLOCK = 3
"""The command, the address, and the data or length of a block are acknowledged one by one."""
WRITE_OVERHEAD = 2 + 5 + 2 + 3
"""The bytes of a write without its data: command, address, count and checksum out, three ACKs in."""
READ_OVERHEAD = 2 + 5 + 2 + 3
"""The bytes of a read without its data: command, address, count out, three ACKs in."""


@dataclass(frozen=True)
class Line:
    """A serial line.

    Attributes:
        baud: the speed of the line in bits per second.
        latency: the delay of each acknowledgement in the USB adapter, in seconds.
    """

    baud: int
    latency: float

    def write_seconds(self, size: int) -> float:
        """Return the seconds to write this number of bytes, in whole blocks, into erased flash."""
        blocks = -(-size // MAX_BLOCK)
        program = MAX_BLOCK / 2 * HALFWORD_PROGRAM
        return blocks * (self._wire_seconds(MAX_BLOCK + WRITE_OVERHEAD) + program + ANSWERS_A_BLOCK * self.latency)

    def read_seconds(self, size: int) -> float:
        """Return the seconds to read this number of bytes, in whole blocks."""
        blocks = -(-size // MAX_BLOCK)
        return blocks * (self._wire_seconds(MAX_BLOCK + READ_OVERHEAD) + ANSWERS_A_BLOCK * self.latency)

    def flash_seconds(self, size: int) -> float:
        """Return the seconds to erase the whole flash, write this number of bytes and read them back."""
        return MASS_ERASE + self.write_seconds(size) + self.read_seconds(size)

    def _wire_seconds(self, count: int) -> float:
        return count * BITS_PER_BYTE / self.baud
