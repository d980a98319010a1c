"""What can go wrong with a simulated board, on request."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

from blockota.errors import UsageError

MAX_NOISE = 65536
"""Bytes of noise at most: more than a line's buffers hold would only block the board."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """A set of faults; None or 0 is none. Everything is counted from 1 since the board was made.

    A flipped bit on the line is a parity error, and the byte arrives all the same: the USART of an STM32 sets
    its parity flag and still hands the byte over (RM0008 section 27.3.4), and the ROM is not said to look at
    the flag; a host's driver hands it over as well, unless it was asked to check.

    Attributes:
        silent_after: the cable comes off after that many received bytes; putting it back presses reset.
        unplug_after: the same, and putting it back does not press reset: the ROM still waits.
        unplug_after_sent: the same, counted in bytes that the board sent.
        flip_received: number of a byte to the board of which one bit flips on the line.
        flip_sent: number of a byte from the board of which one bit flips on the line.
        noise_at_open: random-looking bytes that the host receives when it opens the line.
        lost_ack: number of an ACK that is not sent.
        leading_zero: 1 for a 0x00 before the ROM's first ACK after a reset.
        extra_ack: 1 for a second ACK after the first, as the ROM of the STM32L412 sends.
        double_nack: 1 for a ROM that refuses Read, Go and Write with two NACKs under readout
            protection, as some do.
        flipped_bit: flash address of a byte whose lowest bit is always programmed wrong.
        sticky_page: number of a page that no longer erases.
        power_cut_after: power fails after that many received bytes.
        power_cut_before_program: power fails before that program operation (a half-word, on an F1).
        power_cut_in_program: power fails within it, which leaves its cells half programmed.
        power_cut_in_erase: power fails within that erase of a page or of everything, which leaves a mixture.
        seed: chooses the bits that flip, and the bits that a broken-off operation has changed.
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
            UsageError: there is no such fault, or the value is no number.
        """
        name, _, value = text.partition("=")
        if name not in FAULT_NAMES:
            raise UsageError(f"There is no fault {name!r}", remedy=f"choose one of {', '.join(FAULT_NAMES)}")
        number = _number(value or "1", name)
        if name == "noise-at-open" and number > MAX_NOISE:
            raise UsageError(f"The fault {name} cannot take the value {number}", remedy=f"write {MAX_NOISE} at most")
        return replace(self, **{name.replace("-", "_"): number})


def _number(text: str, name: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if number < 0:
        raise UsageError(
            f"The fault {name} cannot take the value {text!r}",
            remedy=f"write a number, as in {name}=12 or {name}=0x08000400",
        )
    return number


NO_FAULTS = Faults()

FAULT_NAMES = tuple(field.name.replace("_", "-") for field in fields(Faults))
"""The faults, as the command line spells them."""
