"""I2C1 of an STM32F103 as a master (RM0008 section 26), with a secure element as the only other device on the bus.

A transfer takes no simulated time. This is harmless, because the driver polls the registers. A command in the chip also
takes much longer than its bytes on the bus. Like the real controller, the model does nothing if it has no clock, if its
pins are not configured, or if it is switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from firmware_host.simulator.secure_element.element import SecureElement

REGISTERS = range(0x4000_5400, 0x4000_5424)
CR1, CR2, DR, SR1, SR2, CCR, TRISE = (REGISTERS.start + at for at in (0x00, 0x04, 0x10, 0x14, 0x18, 0x1C, 0x20))
ENABLED, START, STOP, ACKNOWLEDGE, RESET = 1 << 0, 1 << 8, 1 << 9, 1 << 10, 1 << 15
"""Bits of CR1."""
STARTED, ADDRESSED, FINISHED, RECEIVED, EMPTY, REFUSED = 1 << 0, 1 << 1, 1 << 2, 1 << 6, 1 << 7, 1 << 10
"""Bits of SR1."""
RCC_APB1ENR, GPIOB_CRL = 0x4002_101C, 0x4001_0C00
_CLOCKED, _SLOWEST_WAKE = 1 << 21, 100_000
_OPEN_DRAIN = 3
"""The upper two bits of a pin's configuration: alternate function, open drain (RM0008 section 9.2.1)."""


class _Phase(Enum):
    IDLE = auto()
    STARTED = auto()
    WRITING = auto()
    READING = auto()


class I2cMaster:
    """The registers of I2C1, from one reset to the next reset.

    Args:
        element: the chip on the bus.
        register: returns the value of a register outside I2C1.
    """

    def __init__(self, element: SecureElement, register: Callable[[int], int]) -> None:
        self._element, self._register = element, register
        self._reset()

    def _reset(self) -> None:
        self._values: dict[int, int] = {}
        self._phase, self._is_addressed, self._is_refused = _Phase.IDLE, False, False
        self._sent, self._received = bytearray(), b""

    @property
    def _works(self) -> bool:
        pins = self._register(GPIOB_CRL) >> 24
        has_pins = all(pins >> shift & 3 and pins >> shift + 2 & 3 == _OPEN_DRAIN for shift in (0, 4))
        return bool(self._register(RCC_APB1ENR) & _CLOCKED) and has_pins

    def read(self, register: int) -> int:
        """Return the value that the core reads, with the side effects of reading the register."""
        if not self._works:
            return 0
        if register == SR1:
            return self._status()
        if register == SR2:  # after SR1, this ends the phase of the address (section 26.6.7)
            self._is_addressed = False
            return 3 if self._phase is not _Phase.IDLE else 0

        if register == DR:
            byte, self._received = self._received[:1], b""
            is_last = self._values.get(CR1, 0) & STOP or not self._values.get(CR1, 0) & ACKNOWLEDGE
            if self._phase is _Phase.READING and not is_last:
                self._received = self._element.read(1) or b"\xff"
            elif self._phase is _Phase.READING:
                self._finish()
            return byte[0] if byte else 0
        return self._values.get(register, 0)

    def write(self, register: int, value: int) -> None:
        """Write a register."""
        if not self._works:
            return
        if register == CR1:
            self._control(value)
        elif register == DR:
            self._send(value & 0xFF)
        elif register == SR1:
            self._is_refused &= bool(value & REFUSED)
        else:
            self._values[register] = value

    def _status(self) -> int:
        is_writing = self._phase is _Phase.WRITING and not self._is_addressed
        is_reading = self._phase is _Phase.READING and not self._is_addressed

        flags = {
            STARTED: self._phase is _Phase.STARTED,
            ADDRESSED: self._is_addressed,
            REFUSED: self._is_refused,
            EMPTY: is_writing,
            FINISHED: is_writing and bool(self._sent),
            RECEIVED: is_reading and bool(self._received),
        }
        return sum(flag for flag, is_set in flags.items() if is_set)

    def _control(self, value: int) -> None:
        if value & RESET:
            self._reset()
            return
        self._values[CR1] = value
        if not value & ENABLED:
            return

        if value & START:
            self._deliver()
            self._phase, self._values[CR1] = _Phase.STARTED, value & ~START
        if value & STOP and self._phase is not _Phase.READING:
            self._finish()

    def _send(self, byte: int) -> None:
        if self._phase is _Phase.WRITING and not self._is_addressed:
            self._sent.append(byte)
        elif self._phase is _Phase.STARTED:
            self._address(byte)

    def _address(self, byte: int) -> None:
        is_read, self._sent = bool(byte & 1), bytearray()
        if not byte and self._clock_hz() <= _SLOWEST_WAKE:
            self._element.wake()  # eight bits of zero hold SDA low for 80 microseconds
        acknowledged = byte >> 1 == self._element.address and self._element.acknowledges()
        if acknowledged and is_read:
            self._received = self._element.read(1) or b""
            acknowledged = bool(self._received)
        self._is_addressed, self._is_refused = acknowledged, not acknowledged
        if acknowledged:
            self._phase = _Phase.READING if is_read else _Phase.WRITING

    def _clock_hz(self) -> float:
        half_period = self._values.get(CCR, 0) & 0xFFF
        return (self._values.get(CR2, 0) & 0x3F) * 1e6 / (2 * half_period) if half_period else float("inf")

    def _deliver(self) -> None:
        """Pass the written bytes to the chip. A new start condition also ends the previous transfer."""
        if self._phase is _Phase.WRITING and self._sent:
            self._element.write(self._sent[0], bytes(self._sent[1:]))
        self._sent = bytearray()

    def _finish(self) -> None:
        self._deliver()
        self._phase, self._is_addressed = _Phase.IDLE, False
        self._values[CR1] = self._values.get(CR1, 0) & ~STOP
