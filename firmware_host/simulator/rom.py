"""The boot ROM of a simulated STM32: the device side of AN3155, byte by byte.

The simulated ROM was written only from AN3155 revision 20, and refuses everything that AN3155 does not allow. The ROM
is a coroutine. Each `yield` waits for the next received byte, without a timeout, as the real ROM does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import TypeVar

from firmware_host.simulator.faults import Faults
from firmware_host.simulator.silicon import Silicon

logger = logging.getLogger("firmware_host.simulator")

ACK, NACK = 0x79, 0x1F
INITIALISE = 0x7F
GLOBAL_ERASE, NACKS_BAD_ADDRESSES = 0xFF, 0x31
FIRST_SPECIAL, WHOLE_FLASH, SPECIAL_BANKS = 0xFFF0, 0xFFFF, {0xFFFE: 1, 0xFFFD: 2}


@dataclass(frozen=True)
class Leave:
    """The ROM ends by a jump to the vector table at `jump`, or by a reset if `jump` is None."""

    jump: int | None = None


RESET = Leave()
Result = TypeVar("Result")
Script = Generator[None, int, Result]
"""A part of the ROM: a generator that receives bytes one by one, and returns a result."""


class RefusalError(Exception):
    """The ROM refuses a command, and sends `nacks` NACKs."""

    def __init__(self, reason: str, nacks: int = 1) -> None:
        self.nacks = nacks
        super().__init__(reason)


class Transmitter:
    """The ROM's transmitter. `pending` contains the bytes that are not delivered yet."""

    def __init__(self, faults: Faults, *, greets_twice: bool = False) -> None:
        self.pending = bytearray()
        self._faults, self._acks = faults, 0
        self._greets_twice = greets_twice or bool(faults.extra_ack)

    def ack(self) -> None:
        """Send ACK, unless the fault `lost_ack` suppresses this ACK."""
        self._acks += 1
        if self._acks != self._faults.lost_ack:
            self.pending.append(ACK)

    def greet(self) -> None:
        """Answer the first 0x7F after a reset."""
        self.pending += b"\0" * min(self._faults.leading_zero, 1)
        self.ack()
        self.pending += bytes([ACK] * self._greets_twice)

    def take(self) -> bytes:
        """Return and remove the pending bytes."""
        taken = bytes(self.pending)
        self.pending.clear()
        return taken


def take(count: int) -> Script[bytes]:
    """Receive `count` bytes."""
    received = bytearray()
    for _ in range(count):
        received.append((yield))
    return bytes(received)


def take_counted(count: int, what: str) -> Script[bytes]:
    """Receive `count` + 1 bytes and a checksum of the count and these bytes; refuse a wrong checksum."""
    frame = yield from take(count + 2)
    if checksum(frame) != count:
        raise RefusalError(f"the checksum of the {what} is wrong")
    return frame[:-1]


def checksum(frame: bytes) -> int:
    """Return the XOR of all bytes."""
    return reduce(xor, frame, 0)


class Rom:
    """The bootloader in system memory, from a reset until it jumps or resets."""

    def __init__(self, silicon: Silicon, line: Transmitter, *, faults: Faults) -> None:
        self._silicon, self._profile, self._line = silicon, silicon.profile, line
        self._nacks_when_protected = 2 if faults.double_nack else 1

    def run(self) -> Script[Leave]:
        """Wait for 0x7F, then serve commands (AN3155 section 2)."""
        if (yield) != INITIALISE:
            logger.warning("the first byte was not 0x7F: wrong baud rate measured, all bytes are ignored until reset")
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
        # (1) Receive the code and its complement; Get must list the command.
        code, complement = yield from take(2)
        if code != complement ^ 0xFF or code not in self._profile.commands:
            raise RefusalError(f"{code:#04x} {complement:#04x} is not a command")
        # (2) Readout protection allows only four commands (AN3155 section 3).
        if self._silicon.options.readout_protected and code not in WHEN_PROTECTED:
            raise RefusalError(f"command {code:#04x} under readout protection", self._nacks_when_protected)
        # (3) Send ACK, then process the command's own frames.
        self._line.ack()
        return (yield from COMMANDS[code](self))

    # Sections 3.1 to 3.3: Get, Get Version, Get ID

    def get(self) -> Script[None]:
        """Send the protocol version and the list of commands."""
        commands = self._profile.commands
        return self._answer(bytes((len(commands), self._profile.bootloader_version)) + commands)

    def get_version(self) -> Script[None]:
        """Send the protocol version and two legacy option bytes."""
        return self._answer(bytes((self._profile.bootloader_version, 0, 0)))

    def get_id(self) -> Script[None]:
        """Send the product id."""
        return self._answer(b"\x01" + self._profile.product_id.to_bytes(2, "big"))

    def _answer(self, data: bytes) -> Script[None]:
        yield from ()  # no frame follows the command
        self._line.pending += data
        self._line.ack()

    # Sections 3.4 to 3.6: Read Memory, Go, Write Memory

    def read_memory(self) -> Script[None]:
        """Receive an address and a count, and send the bytes at the address."""
        address = yield from self._address(self._readable)
        count, complement = yield from take(2)
        if count != complement ^ 0xFF:
            raise RefusalError("the count's complement is wrong")
        if address in self._profile.factory and count + 1 < self._profile.factory_read:
            raise RefusalError(f"{count + 1} factory bytes cannot be read; the minimum is {self._profile.factory_read}")
        self._line.ack()
        self._line.pending += self._silicon.read(address, count + 1)
        logger.debug("read %d bytes at %#010x", count + 1, address)

    def go(self) -> Script[Leave]:
        """Receive an address, and jump to the program at that address."""
        frame = yield from take(5)
        address = int.from_bytes(frame[:4], "big")
        if checksum(frame) or not self._in_program_memory(address):
            raise RefusalError(f"cannot go to {address:#010x}")
        self._line.ack()
        return Leave(jump=address)

    def write_memory(self) -> Script[Leave | None]:
        """Receive an address, a count and data, and write the data."""
        silicon, options = self._silicon, self._profile.options
        address = yield from self._address(lambda at: self._in_program_memory(at) or at in options[:1])
        data = yield from take_counted((yield), "data")

        in_flash = address in self._profile.flash
        unit = self._profile.write_alignment if in_flash else 4
        if len(data) % unit or address % unit:
            raise RefusalError(f"{len(data)} bytes at {address:#010x} are not whole units of {unit} bytes")

        if address in options:
            if len(data) > len(options):
                raise RefusalError(f"{len(data)} option bytes, there are {len(options)}")
            return (yield from self._set_options(data, "wrote the option bytes"))

        if not in_flash:
            silicon.write_ram(address, data)
        elif not silicon.flash.program(address, data):
            logger.warning("programming %#010x: some cells were not erased", address)
        logger.debug("wrote %d bytes at %#010x", len(data), address)
        self._line.ack()
        return None

    # Sections 3.7 and 3.8: Erase Memory and Extended Erase Memory; a ROM has one of the two

    def erase(self) -> Script[None]:
        """Receive a list of one-byte page numbers, and erase these pages or the whole flash."""
        count = yield
        if count == GLOBAL_ERASE:
            # Section 3.7: if the second byte is not 0x00, the ROM erases nothing, but sends ACK.
            if (yield) == 0:
                self._erase_at_once(range(self._profile.page_count))
            self._line.ack()
            return
        self._erase_pages(tuple((yield from take_counted(count, "page list"))))

    def extended_erase(self) -> Script[None]:
        """Receive a list of two-byte page numbers, and erase these pages; or erase a bank or the whole flash."""
        head = yield from take(2)
        count = int.from_bytes(head, "big")
        if count >= FIRST_SPECIAL:
            # FFFF erases the whole flash, FFFE and FFFD erase a bank; the other codes are reserved.
            if checksum(head) != (yield):
                raise RefusalError("the checksum of the special erase is wrong")
            bank = SPECIAL_BANKS.get(count, 0)
            if count == WHOLE_FLASH and self._profile.erases_all:
                self._erase_at_once(range(self._profile.page_count))
            elif bank and self._profile.banks > 1 and self._profile.erases_all:
                self._erase_at_once(self._profile.bank_pages(bank))
            else:
                raise RefusalError(f"this chip has no special erase {count:#06x}")
            self._line.ack()
            return

        frame = yield from take(2 * (count + 1) + 1)
        if checksum(head + frame):
            raise RefusalError("the page list's checksum is wrong")
        if count + 1 > self._profile.erase_limit:
            raise RefusalError(f"{count + 1} pages, at most {self._profile.erase_limit} are allowed")
        self._erase_pages(tuple(int.from_bytes(frame[at : at + 2], "big") for at in range(0, len(frame) - 1, 2)))

    def _erase_at_once(self, pages: range) -> None:
        self._silicon.flash.erase_at_once(pages)
        logger.info("erased all of pages %d to %d", pages.start, pages.stop - 1)

    def _erase_pages(self, pages: tuple[int, ...]) -> None:
        for number in pages:
            self._silicon.flash.erase_page(self._profile.page_of_number(number))
        logger.info("erased pages %s", " ".join(map(str, pages)))
        self._line.ack()

    # Sections 3.9 to 3.12: protection; each command ends in a reset

    def write_protect(self) -> Script[Leave]:
        """Receive a list of sectors, and write-protect exactly these sectors."""
        data = self._silicon.options.with_write_protection((yield from take_counted((yield), "sector list")))
        return (yield from self._set_options(data, "set write protection"))

    def write_unprotect(self) -> Script[Leave]:
        """Remove the write protection of all sectors."""
        return self._set_options(self._silicon.options.with_write_protection(()), "removed write protection")

    def readout_protect(self) -> Script[Leave]:
        """Set readout protection."""
        return self._set_options(self._silicon.options.with_readout(protected=True), "set readout protection")

    def readout_unprotect(self) -> Script[Leave]:
        """Erase flash and RAM, then remove readout protection."""
        # PM0075 section 2.4: in the opposite order, a power cut would expose the contents.
        silicon = self._silicon
        silicon.flash.erase_at_once(range(self._profile.page_count), despite_protection=True)
        silicon.ram[:] = bytes(len(silicon.ram))
        data = silicon.options.with_readout(protected=False)
        return self._set_options(data, "removed readout protection, and erased everything")

    def _set_options(self, data: bytes, what: str) -> Script[Leave]:
        yield from ()
        self._silicon.options.write(data)
        logger.info("%s; reset", what)
        self._line.ack()
        return RESET

    def _address(self, usable: Callable[[int], bool]) -> Script[int]:
        frame = yield from take(5)
        if checksum(frame):
            raise RefusalError("the checksum of the address is wrong")
        address = int.from_bytes(frame[:4], "big")
        if not usable(address):
            # AN3155 table 3: a ROM before V3.1 ends the command without a NACK.
            nacks = int(self._profile.bootloader_version >= NACKS_BAD_ADDRESSES)
            raise RefusalError(f"{address:#010x} cannot be used, {nacks} NACKs", nacks=nacks)
        self._line.ack()
        return address

    def _readable(self, address: int) -> bool:
        profile = self._profile
        in_factory = address in profile.factory and profile.factory_read > 0
        return self._in_program_memory(address) or address in profile.system or address in profile.options or in_factory

    def _in_program_memory(self, address: int) -> bool:
        return address in self._profile.flash or address in self._profile.rom_ram


COMMANDS: dict[int, Callable[[Rom], Script[Leave | None]]] = {
    0x00: Rom.get,
    0x01: Rom.get_version,
    0x02: Rom.get_id,
    0x11: Rom.read_memory,
    0x21: Rom.go,
    0x31: Rom.write_memory,
    0x43: Rom.erase,
    0x44: Rom.extended_erase,
    0x63: Rom.write_protect,
    0x73: Rom.write_unprotect,
    0x82: Rom.readout_protect,
    0x92: Rom.readout_unprotect,
}
"""The commands by code (AN3155 table 2). The profile of a chip lists the commands that its ROM has."""
WHEN_PROTECTED = {0x00, 0x01, 0x02, 0x92}
"""The commands allowed under readout protection: Get, Get Version, Get ID and Readout Unprotect."""
