"""The timing of a simulated board and its serial line, independent of the speed of the simulator.

The time of every event depends only on the time model. The next wait is shortened by the time that the simulator spent
computing, and by the time that a sleep took too long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

BITS_PER_BYTE = 11
"""Start bit, eight data bits, even parity, stop bit (AN3155 section 2)."""
DEFAULT_BAUD = 115200
"""The assumed baud rate if neither the model nor the host sets one."""
SPIN = 0.0004
"""The last part of a wait, in seconds, that is not slept, because the kernel wakes a thread up to this much late."""


def sleep_exactly(seconds: float) -> None:
    """Wait for a number of seconds, accurate to some microseconds on an idle processor."""
    end = time.monotonic() + seconds
    if seconds > SPIN:
        time.sleep(seconds - SPIN)
    while time.monotonic() < end:
        pass


@dataclass(frozen=True, kw_only=True)
class TimeModel:
    """The timing parameters of the serial line, the USB adapter and the core.

    Attributes:
        baud: the baud rate of the line; 0 selects the rate that the host sets, if the line transmits that setting.
        latency: the delay of an answer in the USB adapter, in seconds.
        cycles_per_instruction: clock cycles per instruction; 1.3 is usual for a Cortex-M3 without flash wait states.
        wait: waits for a number of seconds.
        now: returns the time in seconds, which `wait` advances.
    """

    baud: int = 0
    latency: float = 0.0
    cycles_per_instruction: float = 1.3
    wait: Callable[[float], None] = sleep_exactly
    now: Callable[[], float] = time.monotonic


class Timeline:
    """The simulated time of one board; without a time model every operation is instantaneous.

    Attributes:
        times: the time model, or None.
        moment: the time until which the line and the chip are busy, in seconds of the model's clock.
        line_baud: the baud rate that the host has set, if the line transmits that setting; otherwise 0.
    """

    def __init__(self, times: TimeModel | None) -> None:
        self.times = times
        self.moment, self.line_baud = 0.0, 0
        self.arrive()

    def arrive(self) -> None:
        """Begin a transmission of the host, now or when the line is no longer busy."""
        if self.times:
            self.moment = max(self.moment, self.times.now())

    def pass_bytes(self, count: int) -> None:
        """Add the transmission time of `count` bytes."""
        if self.times:
            self.moment += count * BITS_PER_BYTE / (self.times.baud or self.line_baud or DEFAULT_BAUD)

    def pass_busy(self, seconds: float) -> None:
        """Add a time during which the chip is busy."""
        if self.times:
            self.moment += seconds

    def deliver(self) -> None:
        """Wait until the board's answer has reached the host."""
        if self.times:
            remaining = self.moment + self.times.latency - self.times.now()
            if remaining > 0:
                self.times.wait(remaining)

    def since(self, moment: float, *, otherwise: float) -> float:
        """Return the seconds since `moment`, or `otherwise` without a time model."""
        return self.times.now() - moment if self.times else otherwise
