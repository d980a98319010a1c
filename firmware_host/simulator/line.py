"""The serial line between a host and a simulated board: signal levels on the wire, cable faults, and timing.

The time model alone determines the time of each event. If the simulator computes or sleeps for too long, it shortens
the next wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from firmware_host.simulator.faults import Faults

BITS_PER_BYTE = 11
"""Start bit, eight data bits, even parity, stop bit (AN3155 section 2)."""
DEFAULT_BAUD = 115200
"""The assumed baud rate if neither the model nor the host sets one."""
SPIN = 0.0004
"""The last part of a wait, in seconds, that is not slept, because the kernel wakes a thread up to this much late."""


@dataclass(frozen=True)
class LineSettings:
    """The settings of one end of the serial line. With an unknown baud rate (0), no byte is corrupted."""

    baud: int = 0
    parity: str = "E"
    data_bits: int = 8

    @property
    def frame_bits(self) -> int:
        """The number of bits of a byte on the wire, without the stop bit."""
        return 1 + self.data_bits + (self.parity != "N")


@dataclass(frozen=True)
class BoardSide:
    """The board's side of the line: its parity, and whether both directions share one wire, which returns an echo."""

    parity: str = "E"
    half_duplex: bool = False


def received(data: bytes, sent: LineSettings, *, heard: LineSettings) -> bytes:
    """Return the bytes that a receiver with the settings `heard` decodes, if `data` is sent without pauses.

    The signal is simulated bit by bit. If the sender does not send the parity bit that the receiver expects, only bytes
    that follow each other without a pause are corrupted. A byte with a parity or framing error is delivered, as by the
    USART of an STM32 (RM0008 section 27.3.3).
    """
    if sent == heard or not sent.baud or not heard.baud:
        return data
    wave = _wave(data, sent)

    def level(moment: float) -> int:
        return wave[int(moment)] if moment < len(wave) else 1

    bit, arrived, moment = sent.baud / heard.baud, bytearray(), 0.0
    while (high := wave.find(b"\x01\x00", int(moment))) >= 0:
        start = high + 1
        # The receiver samples the middle of each bit, the start bit included.
        if level(start + 0.5 * bit):
            moment = start + 0.5 * bit
            continue
        arrived.append(sum(level(start + (place + 1.5) * bit) << place for place in range(heard.data_bits)))
        moment = start + (heard.frame_bits + 0.5) * bit
    return bytes(arrived)


def _wave(data: bytes, settings: LineSettings) -> bytes:
    """Return the signal levels on the wire, one per bit time of the sender; before and after, the line is high."""
    levels = bytearray(b"\x01")
    for byte in data:
        bits = [byte >> place & 1 for place in range(settings.data_bits)]
        parity = [] if settings.parity == "N" else [(sum(bits) + (settings.parity == "O")) % 2]
        levels += bytes((0, *bits, *parity, 1))
    return bytes(levels)


class Cable:
    """Both directions of the cable, with the faults that disconnect the cable or flip bits."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.received = self._sent = 0  # bytes that have reached the board, and the host
        self._spent: set[str] = set()
        self._disconnected_by = ""

    def reconnect(self) -> bool:
        """Connect the cable again; return whether the board is reset: True except after an `unplug` fault."""
        fault, self._disconnected_by = self._disconnected_by, ""
        return not fault.startswith("unplug")

    def to_board(self, byte: int) -> int | None:
        """Return the byte that reaches the board, possibly changed by a fault; None if the cable is disconnected."""
        faults = self._faults
        self._disconnect("silent", reached=self.received, limit=faults.silent_after)
        self._disconnect("unplug", reached=self.received, limit=faults.unplug_after)
        if self._disconnected_by:
            return None
        self.received += 1
        return self._flipped(byte) if self.received == faults.flip_received else byte

    def echo(self, data: bytes) -> bytes:
        """Return the echo on a half-duplex line, with the line's faults; call this method before `to_board`."""
        place = (self._faults.flip_received or 0) - self.received - 1
        if not 0 <= place < len(data):
            return data
        return data[:place] + bytes((self._flipped(data[place]),)) + data[place + 1 :]

    def to_host(self, data: bytes) -> bytes:
        """Return the part of the data that reaches the host."""
        if self._faults.unplug_after_sent is None and self._faults.flip_sent is None:
            return b"" if self._disconnected_by else data
        arrived = bytearray()
        for byte in data:
            self._disconnect("unplug of the answer", reached=self._sent, limit=self._faults.unplug_after_sent)
            if self._disconnected_by:
                break
            self._sent += 1
            arrived.append(self._flipped(byte) if self._sent == self._faults.flip_sent else byte)
        return bytes(arrived)

    def _disconnect(self, fault: str, *, reached: int, limit: int | None) -> None:
        """Disconnect the cable once per fault."""
        if limit is not None and reached >= limit and fault not in self._spent:
            self._spent.add(fault)
            self._disconnected_by = fault

    def _flipped(self, byte: int) -> int:
        return byte ^ 1 << self._faults.seed % 8


def sleep_exactly(seconds: float) -> None:
    """Wait for a number of seconds, accurate to some microseconds on an idle processor."""
    end = time.monotonic() + seconds
    if seconds > SPIN:
        time.sleep(seconds - SPIN)
    while time.monotonic() < end:
        pass


@dataclass(frozen=True, kw_only=True)
class TimeModel:
    """The timing of the serial line, the USB adapter and the core, in seconds; `wait` lets the time `now` advance.

    Attributes:
        baud: the baud rate of the line; 0 selects the rate that the host sets, if the kind of line transmits this
            setting.
        latency: the delay of an answer in the USB adapter.
        cycles_per_instruction: clock cycles per instruction; 1.3 is usual for a Cortex-M3 without flash wait states.
    """

    baud: int = 0
    latency: float = 0.0
    cycles_per_instruction: float = 1.3
    wait: Callable[[float], None] = sleep_exactly
    now: Callable[[], float] = time.monotonic


class Timeline:
    """The simulated time of one board; without a time model every operation is instantaneous.

    Line and chip are busy until `moment`. `line_baud` is the rate that the host has set; 0 if the rate is unknown.
    """

    def __init__(self, times: TimeModel | None) -> None:
        self.times = times
        self.moment, self.line_baud = 0.0, 0
        self.arrive()

    def arrive(self) -> None:
        """Begin a transmission of the host, now or as soon as the line is no longer busy."""
        if self.times:
            self.moment = max(self.moment, self.times.now())

    def pass_bytes(self, count: int, *, busy: float = 0.0) -> None:
        """Add a time during which the chip is busy, and the transmission time of `count` bytes."""
        if self.times:
            self.moment += busy + count * BITS_PER_BYTE / (self.times.baud or self.line_baud or DEFAULT_BAUD)

    def deliver(self) -> None:
        """Wait until the board's answer has reached the host."""
        if self.times:
            remaining = self.moment + self.times.latency - self.times.now()
            if remaining > 0:
                self.times.wait(remaining)

    def since(self, moment: float, *, otherwise: float) -> float:
        """Return the seconds since `moment`, or `otherwise` without a time model."""
        return self.times.now() - moment if self.times else otherwise
