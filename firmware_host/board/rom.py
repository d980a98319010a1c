"""The boot ROM of a simulated STM32: the device's side of AN3155, byte by byte.

Written from AN3155 revision 20 alone, and stricter than a host must be: whatever the note does
not allow is refused. The ROM is a coroutine: each `yield` waits for the next received byte, for
ever if need be, as the real one does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from firmware_host.board.faults import Faults
    from firmware_host.board.silicon import Silicon

logger = logging.getLogger("firmware_host.board")

ACK, NACK = 0x79, 0x1F
INITIALISE = 0x7F
ALL_BITS = GLOBAL_ERASE = 0xFF
ALLOWED_WHEN_PROTECTED = frozenset((0x00, 0x01, 0x02, 0x92))


@dataclass(frozen=True)
class Leave:
    """The ROM has ended: it jumps to the vector table at `jump`, or resets where that is None."""

    jump: int | None = None


RESET = Leave()
Result = TypeVar("Result")
Script = Generator[None, int, Result]
"""A part of the ROM: takes received bytes one by one, and ends with a result."""


class RefusalError(Exception):
    """A command is broken off.

    Args:
        reason: for the log.
        nacks: how many NACKs the host gets.
    """

    def __init__(self, reason: str, nacks: int = 1) -> None:
        """Keep the number of NACKs beside the reason."""
        self.nacks = nacks
        super().__init__(reason)


class Transmitter:
    """The ROM's end of the line to the host.

    Args:
        faults: an ACK that gets lost, and what is said too much.

    Attributes:
        pending: bytes on their way to the host.
    """

    def __init__(self, faults: Faults) -> None:
        """Start with nothing sent."""
        self.pending = bytearray()
        self._faults, self._acks = faults, 0

    def ack(self) -> None:
        """Send ACK, unless it is the one that gets lost."""
        self._acks += 1
        if self._acks != self._faults.lost_ack:
            self.pending.append(ACK)

    def greet(self) -> None:
        """Answer the first 0x7F."""
        self.pending += b"\0" * min(self._faults.leading_zero, 1)
        self.ack()
        self.pending += bytes([ACK]) * min(self._faults.extra_ack, 1)

    def take(self) -> bytes:
        """Return what is pending, and forget it."""
        taken = bytes(self.pending)
        self.pending.clear()
        return taken


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
            0x43: self._erase_memory,
            0x63: self._write_protect,
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
        code, complement = yield from _take(2)
        if not _complements(code, complement) or code not in self._profile.commands:
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
        count, complement = yield from _take(2)
        if not _complements(count, complement):
            raise RefusalError("the count's complement is wrong")
        self._line.ack()
        self._line.pending += self._silicon.read(address, count + 1)
        logger.debug("read %d bytes at %#010x", count + 1, address)

    def _go(self) -> Script[Leave]:
        frame = yield from _take(5)
        address = int.from_bytes(frame[:4], "big")
        if _checksum(frame) or not self._can_start(address):
            raise RefusalError(f"cannot go to {address:#010x}")
        self._line.ack()
        return Leave(jump=address)

    def _write_memory(self) -> Script[Leave | None]:
        address = yield from self._address(self._writable)
        count = yield
        frame = yield from _take(count + 2)
        if _checksum(frame) != count:
            raise RefusalError("the data's checksum is wrong")
        if (count + 1) % 4 or address % 4:
            raise RefusalError(f"{count + 1} bytes at {address:#010x} are not whole words")
        return self._store(address, frame[:-1])

    def _store(self, address: int, data: bytes) -> Leave | None:
        if address == self._profile.option_start:
            return self._store_options(data)
        if address < self._profile.ram_start:
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

    def _erase_memory(self) -> Script[None]:
        count = yield
        if count == GLOBAL_ERASE:
            self._erase_globally((yield))
            return
        frame = yield from _take(count + 2)
        if _checksum(frame) != count:
            raise RefusalError("the page list's checksum is wrong")
        for page in frame[:-1]:
            self._silicon.flash.erase_page(page)
        logger.info("erased pages %s", " ".join(map(str, frame[:-1])))
        self._line.ack()

    def _erase_globally(self, checksum: int) -> None:
        # AN3155 section 3.7: another byte than 0x00 erases nothing, and is acknowledged.
        if checksum == 0:
            self._silicon.flash.erase_pages_at_once(range(self._profile.page_count))
            logger.info("erased the whole flash")
        self._line.ack()

    def _write_protect(self) -> Script[Leave]:
        count = yield
        frame = yield from _take(count + 2)
        if _checksum(frame) != count:
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
        frame = yield from _take(5)
        if _checksum(frame):
            raise RefusalError("the address's checksum is wrong")
        address = int.from_bytes(frame[:4], "big")
        if not usable(address):
            # AN3155 table 3: V2.2 breaks the command off without a NACK.
            raise RefusalError(f"{address:#010x} cannot be used, broken off in silence", nacks=0)
        self._line.ack()
        return address

    def _readable(self, address: int) -> bool:
        profile = self._profile
        end = profile.option_start + profile.option_size
        return self._can_start(address) or profile.system_start <= address < end

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


def _take(count: int) -> Script[bytes]:
    received = bytearray()
    for _ in range(count):
        received.append((yield))
    return bytes(received)


def _complements(byte: int, other: int) -> bool:
    return byte ^ other == ALL_BITS


def _checksum(frame: bytes) -> int:
    return reduce(xor, frame, 0)
