"""What can go wrong with a simulated board, on request."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

from blockota.errors import UsageError

MAX_NOISE = 65536
"""Bytes of noise at most: more than a line's buffers hold would only block the board."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """A set of faults; None or 0 is none.

    Attributes:
        silent_after: the cable comes off after that many received bytes; once, until a reset.
        flipped_bit: flash address of a byte whose lowest bit is always programmed wrong.
        sticky_page: number of a page that no longer erases.
        noise_at_open: random-looking bytes that the host receives when it opens the line.
        lost_ack: the ACK of that number, counted from 1 since power-on, is not sent.
        double_nack: 1 for a ROM that refuses Read, Go and Write with two NACKs under readout
            protection, as some do.
    """

    silent_after: int | None = None
    flipped_bit: int | None = None
    sticky_page: int | None = None
    noise_at_open: int = 0
    lost_ack: int | None = None
    double_nack: int = 0

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
