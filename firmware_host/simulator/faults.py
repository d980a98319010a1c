"""The faults of a simulated board and its serial line."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

from blockota.errors import UsageError

MAX_NOISE = 65536
"""The maximum number of noise bytes; noise that exceeds the line's buffers would block the board."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """A set of faults. None or 0 means that a fault does not occur. Bytes and operations are counted from 1.

    Counting begins when the board is created.

    A byte with a flipped bit still arrives. The USART of an STM32 sets its parity flag and delivers the byte (RM0008
    section 27.3), and AN3155 does not specify that the ROM reads the flag. By default, the host's driver delivers such
    a byte, too.

    Attributes:
        silent_after: the cable is unplugged after this number of received bytes, and reconnecting it resets the board.
        unplug_after: like `silent_after`, but reconnecting does not reset the board, so the ROM still waits for a byte.
        unplug_after_sent: like `unplug_after`, but the bytes that the board sends are counted.
        flip_received: the number of the byte in which one bit flips on the line, among the bytes sent to the board.
        flip_sent: the number of the byte in which one bit flips on the line, among the bytes sent by the board.
        noise_at_open: the number of arbitrary bytes that the host receives when it opens the line.
        lost_ack: the ordinal number of the ACK that is not sent.
        leading_zero: 1 for a ROM that sends a 0x00 before its first ACK after a reset.
        extra_ack: 1 for a ROM that answers the first 0x7F with two ACKs, as the STM32L412 does.
        double_nack: 1 for a ROM that refuses commands under readout protection with two NACKs, as some ROMs do.
        flipped_bit: flash address of the byte whose lowest bit is always programmed wrong.
        sticky_page: the number of the page that cannot be erased.
        power_cut_after: power fails after this number of received bytes.
        power_cut_before_program: power fails before the program operation with this number; on an F1, one operation
            programs a half-word.
        power_cut_in_program: power fails within the program operation with this number; the operation's cells are half
            programmed.
        power_cut_in_erase: power fails within the page or mass erase with this number; some of the bits are erased.
        power_cut_in_operation: power fails within the operation with this number; programs and erases are counted
            together.
        torn: selects the cells that an interrupted operation has changed: 1 selects no cell, 2 all cells, and 3 the
            first half of the cells. Any other number selects some bits of all cells.
        seed: selects the bits that flip, and the bits that an interrupted operation has changed.
    """

    silent_after: int | None = None
    unplug_after: int | None = None
    unplug_after_sent: int | None = None
    flip_received: int | None = None
    flip_sent: int | None = None
    noise_at_open: int = 0
    lost_ack: int | None = None
    leading_zero: int = 0
    extra_ack: int = 0
    double_nack: int = 0
    flipped_bit: int | None = None
    sticky_page: int | None = None
    power_cut_after: int | None = None
    power_cut_before_program: int | None = None
    power_cut_in_program: int | None = None
    power_cut_in_erase: int | None = None
    power_cut_in_operation: int | None = None
    torn: int = 0
    seed: int = 0

    def adding(self, text: str) -> Self:
        """Return a copy of the faults with one more fault, written ``NAME=VALUE``, or ``NAME`` for the value 1."""
        name, _, value = text.partition("=")
        if name not in FAULT_NAMES:
            raise UsageError(f"unknown fault {name!r}", remedy=f"choose one of {', '.join(FAULT_NAMES)}")

        try:
            number = int(value or "1", 0)
        except ValueError:
            number = -1
        if number < 0:
            raise UsageError(
                f"the fault {name} cannot have the value {value!r}",
                remedy=f"write a number, as in {name}=12 or {name}=0x08000400",
            )

        if name == "noise-at-open" and number > MAX_NOISE:
            raise UsageError(
                f"the fault {name} cannot have the value {number}", remedy=f"write a number up to {MAX_NOISE}"
            )
        return replace(self, **{name.replace("-", "_"): number})


NO_FAULTS = Faults()
FAULT_NAMES = tuple(field.name.replace("_", "-") for field in fields(Faults))
