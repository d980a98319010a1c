"""The time that a simulated board and its line take, independent of the speed of the simulator.

Every event has a moment that depends only on the model. Time that the simulator spent computing, or that a sleep
took too long, is subtracted from the next wait.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BITS_PER_BYTE = 11
"""Start bit, eight data bits, even parity, stop bit (AN3155 section 2)."""
DEFAULT_BAUD = 115200
"""Bits per second on a line of unknown rate."""
SPIN = 0.0004
"""The last seconds of a wait are not slept: the kernel wakes a sleeper up to this late."""


def sleep_exactly(seconds: float) -> None:
    """Wait, to within some microseconds on an idle processor."""
    end = time.monotonic() + seconds
    if seconds > SPIN:
        time.sleep(seconds - SPIN)
    while time.monotonic() < end:
        pass


@dataclass(frozen=True, kw_only=True)
class TimeModel:
    """The parameters of line, adapter and core.

    Attributes:
        baud: bits per second on the line; 0 for the rate that the host sets, if the line transmits it.
        latency: the delay of an answer in the USB adapter, in seconds.
        cycles_per_instruction: of the emulated core; 1.3 is usual for a Cortex-M3 without flash wait states.
        wait: waits for some seconds.
        now: the clock in seconds, which `wait` advances.
    """

    baud: int = 0
    latency: float = 0.0
    cycles_per_instruction: float = 1.3
    wait: Callable[[float], None] = sleep_exactly
    now: Callable[[], float] = time.monotonic


class Timeline:
    """The model's time; without a model everything happens at once.

    Attributes:
        times: the model, or None.
        moment: the end of what line and chip are busy with, in seconds of the model's clock.
        line_baud: the rate that the host has set, if the line transmits it.
    """

    def __init__(self, times: TimeModel | None) -> None:
        self.times = times
        self.moment, self.line_baud = 0.0, 0
        self.arrive()

    def arrive(self) -> None:
        """Begin a transmission of the host: now, or when the line is free."""
        if self.times:
            self.moment = max(self.moment, self.times.now())

    def pass_bytes(self, count: int) -> None:
        """Add the time of this many bytes on the line."""
        if self.times:
            self.moment += count * BITS_PER_BYTE / (self.times.baud or self.line_baud or DEFAULT_BAUD)

    def pass_busy(self, seconds: float) -> None:
        """Add time in which the chip is busy."""
        if self.times:
            self.moment += seconds

    def deliver(self) -> None:
        """Wait until the board's answer has reached the host."""
        if self.times:
            remaining = self.moment + self.times.latency - self.times.now()
            if remaining > 0:
                self.times.wait(remaining)

    def since(self, moment: float, *, otherwise: float) -> float:
        """Return the seconds since a moment; `otherwise` without a model."""
        return self.times.now() - moment if self.times else otherwise
