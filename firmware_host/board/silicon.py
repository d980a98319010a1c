"""The memories of a simulated chip: cells that program and erase as the real ones do.

Nothing here knows the serial protocol. Addresses are absolute; a page is given by its number.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from blockota.errors import LinkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from firmware_host.board.faults import Faults
    from firmware_host.board.profile import BoardProfile

ERASED = 0xFF
READOUT_OPEN = 0xA5
"""The one value of option byte RDP that leaves the flash readable (PM0075 section 3)."""


class BusFaultError(Exception):
    """The core touched an address where nothing answers; it stops until reset."""


class Silicon:
    """Flash, RAM, system memory and option bytes of one chip.

    Args:
        profile: the chip.
        flash: first contents of the flash, or a file that keeps them (made where it is absent).
        faults: cells that are worn out.
        unique_id: the 96-bit device id.

    Attributes:
        busy_seconds: time that programming and erasing would have taken since power-on.

    Raises:
        UsageError: the first contents are larger than the flash.
        LinkError: the file cannot be used.
    """

    def __init__(self, profile: BoardProfile, flash: bytes | Path, *, faults: Faults, unique_id: bytes) -> None:
        """Power the memories up: erased option bytes but for readout, which is open."""
        self.profile, self._faults = profile, faults
        self.busy_seconds = 0.0
        self.flash = _cells(flash, profile.flash_size)
        self.ram = bytearray(profile.ram_size)
        self.system = _system_memory(profile, unique_id)
        self.options = bytearray([ERASED] * profile.option_size)
        self.set_readout_protection(active=False)
        self.load_options()

    def load_options(self) -> None:
        """Let the option bytes take effect, as every reset does (PM0075 section 2.5)."""
        self.readout_protected = self.options[:2] != bytes((READOUT_OPEN, READOUT_OPEN ^ 0xFF))
        bits = int.from_bytes(self.options[8:16:2], "little")
        per_sector = self.profile.pages_per_sector
        # Pages beyond the last bit share it (RM0008: bit 31 covers the rest of the flash).
        self.protected_pages = frozenset(
            page for page in range(self.profile.page_count) if not bits >> min(page // per_sector, 31) & 1
        )

    def write_options(self, data: bytes) -> None:
        """Erase the option bytes and program them; hardware computes each complement."""
        self.options[:] = bytes([ERASED]) * len(self.options)
        for index in range(0, len(data), 2):
            self.options[index : index + 2] = (data[index], data[index] ^ 0xFF)

    def set_readout_protection(self, *, active: bool) -> None:
        """Set or lift readout protection, from the next reset on."""
        self.write_options(bytes((ERASED if active else READOUT_OPEN, 0)) + self.options[2:])

    def set_write_protection(self, sectors: Iterable[int]) -> None:
        """Protect exactly these sectors against writing, from the next reset on."""
        bits = 0xFFFF_FFFF
        for sector in sectors:
            bits &= ~(1 << sector)
        halfwords = b"".join(bytes((byte, 0)) for byte in (bits & 0xFFFF_FFFF).to_bytes(4, "little"))
        self.write_options(bytes(self.options[:8]) + halfwords)

    def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes.

        Raises:
            BusFaultError: not all of them exist.
        """
        profile = self.profile
        regions = (
            (profile.flash_start, self.flash),
            (profile.ram_start, self.ram),
            (profile.system_start, self.system + self.options),
        )
        for start, cells in regions:
            if start <= address and address + length <= start + len(cells):
                return bytes(cells[address - start : address - start + length])
        raise BusFaultError(f"reading {length} bytes at {address:#010x}")

    def write_ram(self, address: int, data: bytes) -> None:
        """Write to RAM.

        Raises:
            BusFaultError: the data run past its end.
        """
        first = address - self.profile.ram_start
        if first + len(data) > len(self.ram):
            raise BusFaultError(f"writing {len(data)} bytes at {address:#010x}")
        self.ram[first : first + len(data)] = data

    def program(self, address: int, data: bytes) -> bool:
        """Program flash half-word by half-word; return whether every one could be programmed.

        Protected pages and addresses past the end stay as they are, without an error.
        """
        first = address - self.profile.flash_start
        self.busy_seconds += len(data) // 2 * self.profile.halfword_program
        halfwords = [self._program_halfword(first + at, data[at : at + 2]) for at in range(0, len(data), 2)]
        return all(halfwords)

    def _program_halfword(self, offset: int, value: bytes) -> bool:
        if offset >= len(self.flash) or offset // self.profile.page_size in self.protected_pages:
            return True
        # PM0075 section 2.3.3: only an erased half-word is programmed, except to zero.
        if self.flash[offset : offset + 2] != b"\xff\xff" and value != b"\0\0":
            return False
        self.flash[offset : offset + 2] = self._worn(offset, value)
        return True

    def _worn(self, offset: int, value: bytes) -> bytes:
        flipped = self._faults.flipped_bit
        if flipped is None or (flipped - self.profile.flash_start) & ~1 != offset:
            return value
        low, high = value
        return bytes((low, high ^ 1)) if flipped & 1 else bytes((low ^ 1, high))

    def erase_page(self, page: int) -> None:
        """Erase one page; one that is protected or does not exist stays, without an error."""
        self.busy_seconds += self.profile.page_erase
        if page < self.profile.page_count and page not in self.protected_pages:
            self._erase((page,))

    def mass_erase(self) -> None:
        """Erase the whole flash; the controller refuses where a page is protected."""
        self.busy_seconds += self.profile.mass_erase
        if not self.protected_pages:
            self._erase(range(self.profile.page_count))

    def forget_everything(self) -> None:
        """Erase flash and RAM, protected or not: what lifting readout protection does."""
        self.busy_seconds += self.profile.mass_erase
        self._erase(range(self.profile.page_count))
        self.ram[:] = bytes(len(self.ram))

    def _erase(self, pages: Iterable[int]) -> None:
        size = self.profile.page_size
        for page in pages:
            if page != self._faults.sticky_page:
                self.flash[page * size : (page + 1) * size] = bytes([ERASED]) * size


def _system_memory(profile: BoardProfile, unique_id: bytes) -> bytes:
    memory = bytearray(profile.system_size)
    for address, value in (
        (profile.flash_size_register, (profile.flash_size // 1024).to_bytes(2, "little")),
        (profile.unique_id_register, unique_id),
    ):
        memory[address - profile.system_start : address - profile.system_start + len(value)] = value
    return bytes(memory)


def _cells(flash: bytes | Path, size: int) -> bytearray | mmap.mmap:
    if isinstance(flash, bytes):
        _check_size(len(flash), size)
        return bytearray(flash.ljust(size, bytes([ERASED])))
    try:
        return _file_cells(flash, size)
    except OSError as error:
        raise LinkError(
            f"The flash file {flash} cannot be used",
            why=error.strerror or str(error),
            remedy="name a file that can be written",
        ) from error


def _file_cells(path: Path, size: int) -> mmap.mmap:
    with path.open("a+b") as file:
        length = file.tell()
        _check_size(length, size)
        file.write(bytes([ERASED]) * (size - length))
        file.flush()
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), size)


def _check_size(length: int, size: int) -> None:
    if length > size:
        raise UsageError(
            "The flash contents do not fit",
            why=f"{length} bytes, but the chip has {size}",
            remedy="choose a smaller image",
        )
