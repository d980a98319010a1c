"""The registers of an STM32F1's flash controller, with which a running program erases and programs flash (PM0075).

The model has the unlock keys, page and mass erases, the programming of half-words, and the errors of these operations.
Writes to the option bytes and the access control register have no effect.
"""

from __future__ import annotations

from collections.abc import Callable

from firmware_host.simulator.silicon import Flash

REGISTERS = range(0x4002_2004, 0x4002_2018)
KEYR, SR, CR, AR = (REGISTERS.start + at for at in (0x00, 0x08, 0x0C, 0x10))
KEYS = (0x4567_0123, 0xCDEF_89AB)
HALF_WORD = 2
ERASED = b"\xff\xff"

BUSY, PROGRAM_ERROR, PROTECTION_ERROR, DONE = 1 << 0, 1 << 2, 1 << 4, 1 << 5
"""Bits of SR (PM0075 section 3.4); the last three are cleared by writing ones."""
PROGRAM, PAGE_ERASE, MASS_ERASE, STARTED, LOCKED = 1 << 0, 1 << 1, 1 << 2, 1 << 6, 1 << 7
"""Bits of CR (PM0075 section 3.5)."""


class FlashBusError(Exception):
    """The flash controller responds to an access with a bus error."""


class FlashController:
    """The registers, from one reset to the next reset.

    Attributes:
        busy: seconds until the last operation ends; the caller decreases this value as time passes.
    """

    def __init__(self, flash: Flash) -> None:
        self._flash = flash
        self._keys_given, self._is_jammed = 0, False
        self._status, self._control, self._address = 0, LOCKED, 0
        self._last, self._before = range(0), b""
        self.busy = 0.0

    def read(self, register: int) -> int:
        """Return the value of a register."""
        status = self._status | (BUSY if self.busy > 0 else 0)
        return {SR: status, CR: self._control, AR: self._address}.get(register, 0)

    def write(self, register: int, value: int) -> range:
        """Write a register, and return the addresses of the flash cells that the write has changed.

        The emulator must translate the code at these addresses again.

        Raises:
            FlashBusError: the key is wrong; the controller is then locked until a reset (section 2.3.2).
        """
        if register == KEYR:
            self._take_key(value)
        elif register == SR:
            self._status &= ~(value & (PROGRAM_ERROR | PROTECTION_ERROR | DONE))
        elif register == AR and not self._control & LOCKED:
            self._address = value
        elif register == CR and not self._control & LOCKED:
            self._control = value & (PROGRAM | PAGE_ERASE | MASS_ERASE | LOCKED)
            if value & LOCKED:
                self._keys_given = 0
            elif value & STARTED and value & (PAGE_ERASE | MASS_ERASE):
                return self._erase(everything=bool(value & MASS_ERASE))
        return range(0)

    def store(self, address: int, value: int, *, size: int) -> range:
        """Program a half-word that the core stores in the flash, and return the addresses of the changed cells.

        Raises:
            FlashBusError: the bit PG is not set, or the core stores another size (section 2.3.3).
        """
        if self._control & LOCKED or not self._control & PROGRAM or size != HALF_WORD or address % HALF_WORD:
            raise FlashBusError(f"a store of {size} bytes at {address:#010x}")
        addresses = range(address, address + size)
        if self._flash.is_protected(addresses):
            self._status |= PROTECTION_ERROR
            return range(0)
        is_programmed = self._operate(addresses, lambda: self._flash.program(address, value.to_bytes(size, "little")))
        self._status |= DONE if is_programmed else PROGRAM_ERROR
        return range(0) if self._before == ERASED else addresses

    def interrupt(self) -> None:
        """Change the cells of an unfinished operation as a power failure would."""
        if self.busy > 0:
            self._flash.interrupt(self._last, self._before)

    def _take_key(self, value: int) -> None:
        if self._is_jammed or not self._control & LOCKED or value != KEYS[self._keys_given]:
            self._is_jammed, self._control = True, LOCKED
            raise FlashBusError(f"the key {value:#010x}")
        self._keys_given += 1
        if self._keys_given == len(KEYS):
            self._keys_given, self._control = 0, 0

    def _erase(self, *, everything: bool) -> range:
        addresses = self._flash.addresses if everything else self._flash.page_around(self._address)
        if self._flash.is_protected(addresses):
            self._status |= PROTECTION_ERROR
            return range(0)
        self._operate(addresses, lambda: self._flash.erase(addresses))
        self._status |= DONE
        return addresses

    def _operate(self, addresses: range, operation: Callable[[], bool]) -> bool:
        self._last, self._before = addresses, self._flash.read(addresses)
        # An operation that a planned power cut interrupts has left its cells as they are then: `busy` stays 0.
        until, self.busy = self.busy - self._flash.busy_seconds, 0.0
        result = operation()
        self.busy = until + self._flash.busy_seconds
        return result
