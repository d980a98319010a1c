"""What a receiver makes of bytes that were sent at another rate or in another format than its own.

The levels on the wire are followed bit by bit, so a wrong setting shows as it does on a bench: parity `N` where the
ROM waits for a parity bit goes unnoticed in single bytes, and garbles bytes that come back to back.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LineSettings:
    """How one end of the line is set.

    Attributes:
        baud: bits a second; 0 where nobody knows, and then nothing is garbled.
        parity: ``E``, ``O`` or ``N``.
        data_bits: of a byte.
    """

    baud: int = 0
    parity: str = "E"
    data_bits: int = 8

    @property
    def frame_bits(self) -> int:
        """Bits from the start bit to the last one before the stop bit."""
        return 1 + self.data_bits + (self.parity != "N")


def received(data: bytes, sent: LineSettings, *, heard: LineSettings) -> bytes:
    """Return what arrives of bytes that are sent without a pause between them.

    A parity or framing error does not hold a byte back: the USART of an STM32 delivers it (RM0008 section 27.3.3).
    """
    if sent == heard or not sent.baud or not heard.baud:
        return data
    wave = _Wave(data, sent)
    bit, arrived, moment = sent.baud / heard.baud, bytearray(), 0.0
    while (start := wave.next_start(int(moment))) is not None:
        if wave.level(start + 0.5 * bit):  # too short for a start bit
            moment = start + 0.5 * bit
            continue
        levels = (wave.level(start + (place + 1.5) * bit) << place for place in range(heard.data_bits))
        arrived.append(sum(levels))
        moment = start + (heard.frame_bits + 0.5) * bit
    return bytes(arrived)


class _Wave:
    """The levels on the wire, one for each of the sender's bit times; the line is high before and after."""

    def __init__(self, data: bytes, settings: LineSettings) -> None:
        self._levels = [1, *(level for byte in data for level in _frame(byte, settings))]

    def level(self, moment: float) -> int:
        index = int(moment)
        return self._levels[index] if index < len(self._levels) else 1

    def next_start(self, index: int) -> int | None:
        """Where the line falls next, after it was high."""
        while index < len(self._levels) and not self._levels[index]:
            index += 1
        while index < len(self._levels) and self._levels[index]:
            index += 1
        return index if index < len(self._levels) else None


def _frame(byte: int, settings: LineSettings) -> list[int]:
    bits = [byte >> place & 1 for place in range(settings.data_bits)]
    parity = [] if settings.parity == "N" else [(sum(bits) + (settings.parity == "O")) % 2]
    return [0, *bits, *parity, 1]
