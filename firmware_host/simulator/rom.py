"""The boot ROM of a simulated STM32: the device's side of AN3155, byte by byte.

Written from AN3155 revision 20 alone, and stricter than a host must be: whatever the note does
not allow is refused. The ROM is a coroutine: each `yield` waits for the next received byte, for
ever if need be, as the real one does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from firmware_host.simulator.crc import crc32_of_words
from firmware_host.simulator.erasing import Eraser
from firmware_host.simulator.frames import (
    NACK,
    RESET,
    Leave,
    RefusalError,
    Script,
    Transmitter,
    checksum,
    complements,
    take,
    take_word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from firmware_host.simulator.silicon import Silicon

logger = logging.getLogger("firmware_host.simulator")

INITIALISE = 0x7F
ALLOWED_WHEN_PROTECTED = frozenset((0x00, 0x01, 0x02, 0x92))


class Rom:
    """The system-memory bootloader, from reset until it jumps or resets.

    Args:
        silicon: the memories it works on.
        line: where its answers go.
        nacks_when_protected: NACKs to a command that readout protection forbids.
    """

    def __init__(self, silicon: Silicon, line: Transmitter, *, nacks_when_protected: int = 1) -> None:
        """Keep the parts; nothing runs before `run`."""
        self._silicon, self._profile, self._line = silicon, silicon.profile, line
        self._nacks_when_protected = nacks_when_protected
        eraser = Eraser(silicon, line)
        self._answers: dict[int, Callable[[], Leave | None]] = {
            0x00: self._get,
            0x01: self._get_version,
            0x02: self._get_id,
            0x73: self._write_unprotect,
            0x82: self._readout_protect,
            0x92: self._readout_unprotect,
        }
        self._dialogues: dict[int, Callable[[], Script[Leave | None]]] = {
            0x11: self._read_memory,
            0x21: self._go,
            0x31: self._write_memory,
            0x43: eraser.erase,
            0x44: eraser.extended_erase,
            0x63: self._write_protect,
            0xA1: self._get_checksum,
        }

    def run(self) -> Script[Leave]:
        """Wait for 0x7F, then serve commands (AN3155 section 2)."""
        if (yield) != INITIALISE:
            logger.warning("the first byte was not 0x7F: wrong baud rate measured, deaf until reset")
            while True:
                yield
        self._line.greet()
        leave = None
        while leave is None:
            try:
                leave = yield from self._command()
            except RefusalError as refusal:
                logger.warning("refused: %s", refusal)
                self._line.pending += bytes([NACK]) * refusal.nacks
        return leave

    def _command(self) -> Script[Leave | None]:
        code, complement = yield from take(2)
        if not complements(code, complement) or code not in self._profile.commands:
            raise RefusalError(f"{code:#04x} {complement:#04x} is no command")
        if self._silicon.options.readout_protected and code not in ALLOWED_WHEN_PROTECTED:
            reason = f"command {code:#04x} under readout protection"
            raise RefusalError(reason, self._nacks_when_protected)
        self._line.ack()
        if code in self._answers:
            return self._answers[code]()
        return (yield from self._dialogues[code]())

    def _get(self) -> None:
        commands = self._profile.commands
        self._line.pending += bytes((len(commands), self._profile.bootloader_version)) + commands
        self._line.ack()

    def _get_version(self) -> None:
        self._line.pending += bytes((self._profile.bootloader_version, 0, 0))
        self._line.ack()

    def _get_id(self) -> None:
        self._line.pending += b"\x01" + self._profile.product_id.to_bytes(2, "big")
        self._line.ack()

    def _read_memory(self) -> Script[None]:
        address = yield from self._address(self._readable)
        count, complement = yield from take(2)
        if not complements(count, complement):
            raise RefusalError("the count's complement is wrong")
        if address in self._profile.factory and count + 1 < self._profile.factory_read:
            raise RefusalError(f"{count + 1} bytes of the factory's, at least {self._profile.factory_read}")
        self._line.ack()
        self._line.pending += self._silicon.read(address, count + 1)
        logger.debug("read %d bytes at %#010x", count + 1, address)

    def _go(self) -> Script[Leave]:
        frame = yield from take(5)
        address = int.from_bytes(frame[:4], "big")
        if checksum(frame) or not self._can_start(address):
            raise RefusalError(f"cannot go to {address:#010x}")
        self._line.ack()
        return Leave(jump=address)

    def _write_memory(self) -> Script[Leave | None]:
        address = yield from self._address(self._writable)
        count = yield
        frame = yield from take(count + 2)
        if checksum(frame) != count:
            raise RefusalError("the data's checksum is wrong")
        whole = self._profile.write_alignment if self._silicon.flash.holds(address) else 4
        if (count + 1) % whole or address % whole:
            raise RefusalError(f"{count + 1} bytes at {address:#010x} are not whole units of {whole} bytes")
        return self._store(address, frame[:-1])

    def _store(self, address: int, data: bytes) -> Leave | None:
        if address == self._profile.option_start:
            return self._store_options(data)
        if self._silicon.flash.holds(address):
            if not self._silicon.flash.program(address, data):
                logger.warning("programming %#010x: some cells were not erased", address)
                if self._profile.program_error_nacks:
                    raise RefusalError("the flash controller reports an error")
        else:
            self._silicon.write_ram(address, data)
        logger.debug("wrote %d bytes at %#010x", len(data), address)
        self._line.ack()
        return None

    def _store_options(self, data: bytes) -> Leave:
        if len(data) > self._profile.option_size:
            raise RefusalError(f"{len(data)} option bytes, there are {self._profile.option_size}")
        self._silicon.options.write(data)
        return self._ack_and_reset("wrote the option bytes")

    def _get_checksum(self) -> Script[None]:
        # AN3155 section 3.15: address, words, polynomial and first value, each with its checksum and an ACK.
        address = yield from self._address(self._readable)
        values = []
        for name in ("size", "polynomial", "first value"):
            values.append((yield from take_word(name)))
            self._line.ack()
        words, polynomial, initial = values
        data = self._silicon.read(address, 4 * words)
        result = crc32_of_words(data, polynomial=polynomial, initial=initial).to_bytes(4, "big")
        self._line.ack()
        self._line.pending += result + bytes([checksum(result)])

    def _write_protect(self) -> Script[Leave]:
        count = yield
        frame = yield from take(count + 2)
        if checksum(frame) != count:
            raise RefusalError("the sector list's checksum is wrong")
        self._protect(frame[:-1])
        return self._ack_and_reset("set write protection")

    def _write_unprotect(self) -> Leave:
        self._protect(())
        return self._ack_and_reset("lifted write protection")

    def _readout_protect(self) -> Leave:
        self._close(protected=True)
        return self._ack_and_reset("set readout protection")

    def _readout_unprotect(self) -> Leave:
        # PM0075 section 3.1.2: the flash is erased before it is open, or a power cut would lay it bare.
        self._silicon.forget_everything()
        self._close(protected=False)
        return self._ack_and_reset("lifted readout protection, and erased everything")

    def _protect(self, sectors: Iterable[int]) -> None:
        options = self._silicon.options
        options.write(options.with_write_protection(sectors))

    def _close(self, *, protected: bool) -> None:
        options = self._silicon.options
        options.write(options.with_readout(protected=protected))

    def _address(self, usable: Callable[[int], bool]) -> Script[int]:
        frame = yield from take(5)
        if checksum(frame):
            raise RefusalError("the address's checksum is wrong")
        address = int.from_bytes(frame[:4], "big")
        if not usable(address):
            # AN3155 table 3: ROMs before V3.1 break the command off without a NACK.
            nacks = int(self._profile.nacks_bad_addresses)
            raise RefusalError(f"{address:#010x} cannot be used, {nacks} NACKs", nacks=nacks)
        self._line.ack()
        return address

    def _readable(self, address: int) -> bool:
        profile = self._profile
        in_system = profile.system_start <= address < profile.system_start + profile.system_size
        in_options = profile.option_start <= address < profile.option_start + profile.option_size
        in_factory = address in profile.factory and profile.factory_read > 0
        return self._can_start(address) or in_system or in_options or in_factory

    def _writable(self, address: int) -> bool:
        return self._can_start(address) or address == self._profile.option_start

    def _can_start(self, address: int) -> bool:
        profile = self._profile
        ram_end = profile.ram_start + profile.ram_size
        in_flash = profile.flash_start <= address < profile.flash_start + profile.flash_size
        return in_flash or profile.ram_start + profile.ram_reserved <= address < ram_end

    def _ack_and_reset(self, what: str) -> Leave:
        logger.info("%s; reset", what)
        self._line.ack()
        return RESET
