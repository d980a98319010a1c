"""The memories of a simulated chip, by absolute address, as the core and the boot ROM access them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from firmware_host.simulator.faults import Faults
from firmware_host.simulator.flash import Flash, Supply
from firmware_host.simulator.option_bytes import option_bytes
from firmware_host.simulator.profiles import BoardProfile


class BusFaultError(Exception):
    """The core accessed an address without memory, and stops until it is reset."""


class Silicon:
    """Flash, RAM, system memory and option bytes of one chip.

    A read or write of addresses without memory raises BusFaultError.

    Attributes:
        factory: the bytes that the factory wrote outside the system memory.
    """

    def __init__(self, profile: BoardProfile, flash: bytes | Path, *, faults: Faults, unique_id: bytes) -> None:
        self.profile = profile
        supply = Supply(faults)
        self.flash = Flash(profile, flash, faults=faults, supply=supply)
        self.options = option_bytes(profile, supply=supply)
        self.ram = bytearray(profile.ram_size)
        self.system, self.factory = bytearray(len(profile.system)), bytearray(len(profile.factory))
        kib = (profile.reported_flash_size or profile.flash_size) // 1024
        if kib in profile.flash_size_codes:
            kib = profile.flash_size_codes.index(kib)
        words = [(at, unique_id[4 * index :][:4]) for index, at in enumerate(profile.unique_id_registers)]
        if profile.flash_size_register:
            words.append((profile.flash_size_register, kib.to_bytes(2, "little")))
        span, cells = (profile.factory, self.factory) if profile.factory else (profile.system, self.system)
        for address, value in words:
            cells[address - span.start : address - span.start + len(value)] = value
        self.load_options()

    def load_options(self) -> None:
        """Make the option bytes effective, as every reset does."""
        self.options.load()
        self.flash.protected = self.options.protected_pages

    def protect(self, *, readout: bool, sectors: Iterable[int]) -> None:
        """Set the option bytes without an operation of the flash controller; they take effect at the next reset."""
        self.options.store(self.options.with_readout(protected=readout))
        self.options.store(self.options.with_write_protection(sectors))

    def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes from `address` on."""
        profile = self.profile
        regions = (
            (profile.flash_start, self.flash.cells),
            (profile.ram_start, self.ram),
            (profile.system.start, self.system),
            (profile.options.start, self.options.raw[: len(profile.options)]),
            (profile.factory.start, self.factory),
        )
        data, end = b"", address + length
        # A read may continue from one region into the next.
        while (at := address + len(data)) < end:
            for start, cells in regions:
                if start <= at < start + len(cells):
                    data += bytes(cells[at - start : end - start])
                    break
            else:
                raise BusFaultError(f"reading at {at:#010x}")
        return data

    def write_ram(self, address: int, data: bytes) -> None:
        """Write data to RAM."""
        first = address - self.profile.ram_start
        if first + len(data) > len(self.ram):
            raise BusFaultError(f"writing {len(data)} bytes at {address:#010x}")
        self.ram[first : first + len(data)] = data
