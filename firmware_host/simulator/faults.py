"""Faults of a simulated board and its line."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

from blockota.errors import UsageError

MAX_NOISE = 65536
"""The most bytes of noise: more than the buffers of a line would block the board."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """A set of faults; None or 0 means that a fault does not occur. Counts start at 1 when the board is made.

    A flipped bit on the line is a parity error, and the byte arrives nevertheless: the USART of an STM32 sets its
    parity flag and delivers the byte (RM0008 section 27.3), and AN3155 does not say that the ROM reads the flag. A
    host's driver delivers it as well, unless it is set to check.

    Attributes:
        silent_after: the cable comes off after this many received bytes; reconnecting it resets the board.
        unplug_after: the same, and reconnecting it does not reset the board: the ROM still waits.
        unplug_after_sent: the same, counted in bytes that the board sent.
        flip_received: number of a byte to the board of which one bit flips on the line.
        flip_sent: number of a byte from the board of which one bit flips on the line.
        noise_at_open: number of arbitrary bytes that the host receives when it opens the line.
        lost_ack: number of an ACK that is not sent.
        leading_zero: 1 for a 0x00 before the ROM's first ACK after a reset.
        extra_ack: 1 for a second ACK after the first, as the STM32L412 sends.
        double_nack: 1 for a ROM that refuses Read, Go and Write with two NACKs under readout protection, as some do.
        flipped_bit: flash address of a byte whose lowest bit is always programmed wrong.
        sticky_page: number of a page that no longer erases.
        power_cut_after: power fails after this many received bytes.
        power_cut_before_program: power fails before this program operation (a half-word on an F1).
        power_cut_in_program: power fails within it, which leaves its cells half programmed.
        power_cut_in_erase: power fails within this erase of a page or of everything, which leaves a mixture.
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
    seed: int = 0

    def adding(self, text: str) -> Self:
        """Return these faults and one more, written ``NAME=VALUE``, or ``NAME`` for 1.

        Raises:
            UsageError: there is no such fault, or the value is invalid.
        """
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
            raise UsageError(f"the fault {name} cannot have the value {number}", remedy=f"write {MAX_NOISE} at most")
        return replace(self, **{name.replace("-", "_"): number})


NO_FAULTS = Faults()

FAULT_NAMES = tuple(field.name.replace("_", "-") for field in fields(Faults))
"""The names that `Faults.adding` accepts."""
