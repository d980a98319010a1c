"""How long a simulated board and its line take, by a clock that the simulator's own work does not slow.

Every event has a moment. What the simulator computes, and what a sleep overshoots, is waited that much less
for afterwards: the moments follow from the model alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BITS_PER_BYTE = 11
"""One start bit, eight data bits, even parity, one stop bit (AN3155 section 2)."""
DEFAULT_BAUD = 115200
"""Bits per second on a line whose rate nobody told."""
SPIN = 0.0004
"""Seconds before the end of a wait that are not slept: the kernel wakes a sleeper late by up to that."""


def sleep_exactly(seconds: float) -> None:
    """Wait, to within some microseconds where the processor is free."""
    end = time.monotonic() + seconds
    if seconds > SPIN:
        time.sleep(seconds - SPIN)
    while time.monotonic() < end:
        pass


@dataclass(frozen=True, kw_only=True)
class TimeModel:
    """How long the board and its line take.

    Attributes:
        baud: bits per second on the line; 0 for the rate that the host sets, where the line tells it.
        latency: seconds that the USB adapter holds an answer back.
        cycles_per_instruction: of the emulated core; 1.3 is usual for a Cortex-M3 without flash wait states.
        wait: called with the seconds to pass.
        now: the moment in seconds, of the clock that `wait` lets pass.
    """

    baud: int = 0
    latency: float = 0.0
    cycles_per_instruction: float = 1.3
    wait: Callable[[float], None] = sleep_exactly
    now: Callable[[], float] = time.monotonic

    def wait_until(self, moment: float) -> None:
        """Let the clock come to that moment; one that has passed already is not waited for."""
        remaining = moment - self.now()
        if remaining > 0:
            self.wait(remaining)


class Timeline:
    """Where the line and the chip are in the model's time; without a model everything happens at once.

    Args:
        times: the model.

    Attributes:
        moment: until when the line and the chip are busy, in seconds of the model's clock.
        line_baud: the rate that the host has set, where the line tells it.
    """

    def __init__(self, times: TimeModel | None) -> None:
        """Start now."""
        self._times = times
        self.moment, self.line_baud = 0.0, 0
        self.arrive()

    @property
    def is_modelled(self) -> bool:
        """Whether anything takes time."""
        return self._times is not None

    @property
    def is_fixed(self) -> bool:
        """Whether the model itself says the line's rate."""
        return self._times is not None and self._times.baud > 0

    @property
    def cycles_per_instruction(self) -> float:
        """Of the emulated core."""
        return self._times.cycles_per_instruction if self._times else 1.0

    def arrive(self) -> None:
        """Let what comes from the host begin now, or when the line is free again."""
        if self._times:
            self.moment = max(self.moment, self._times.now())

    def pass_bytes(self, count: int) -> None:
        """Let that many bytes go over the line."""
        if self._times:
            self.moment += count * BITS_PER_BYTE / (self._times.baud or self.line_baud or DEFAULT_BAUD)

    def pass_busy(self, seconds: float) -> None:
        """Let the chip work for that long."""
        if self._times:
            self.moment += seconds

    def deliver(self) -> None:
        """Wait until what the board has said is at the host."""
        if self._times:
            self._times.wait_until(self.moment + self._times.latency)

    def since(self, moment: float, *, otherwise: float) -> float:
        """Return the seconds from that moment until now, or `otherwise` without a model."""
        return self._times.now() - moment if self._times else otherwise
