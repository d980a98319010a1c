"""The option bytes of a simulated chip: readout protection and write protection.

Option bytes take effect at the next reset (PM0075 section 2.5). The option bytes of the F1 are modelled completely. Of
the other families only RDP is modelled; the simulator stores their write protection separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from firmware_host.simulator.flash import Supply
from firmware_host.simulator.profiles import BoardProfile

READOUT_OPEN = 0xA5
"""The only value of RDP that leaves the flash of an F1 readable (PM0075 section 2.5)."""
WRITE_PROTECTION = slice(8, 16)
PROTECTION_BITS = 32
HIDDEN_SIZE = 16
"""The number of option bytes that are kept where the ROM cannot read them."""
ERASED = 0xFF
LEVEL_0, LEVEL_2 = 0xAA, 0xCC
"""RDP values of the other families; any other value means level 1. Level 2 is permanent and disables the boot ROM."""
FORMATS = {"F0": (0, 1), "F4": (1, 0), "L0": (0, 2), "L4": (0, 4), "none": (0, 0)}
"""The place of RDP, and the number of option bytes that are followed by their complement; 0 without complements."""


class OptionBytes:
    """The sixteen option bytes of an STM32F1: RDP, USER, two data bytes, WRP0 to WRP3, each with its complement.

    Attributes:
        raw: the option bytes as the core reads them.
        readout_protected: whether readout protection is in effect since the last `load`.
        protected_pages: the pages whose write protection is in effect since the last `load`.
        boot_rom_disabled: whether readout protection is at level 2, which an F1 does not have.
    """

    boot_rom_disabled = False

    def __init__(self, profile: BoardProfile, *, supply: Supply) -> None:
        self._profile, self._supply = profile, supply
        size = len(profile.options) or HIDDEN_SIZE
        self.raw = bytearray(size)
        self.store(bytes([READOUT_OPEN]).ljust(size, bytes([ERASED])))
        self.load()

    def load(self) -> None:
        """Make the option bytes effective, as every reset does.

        A byte that does not match its complement counts as erased (PM0075 section 2.5). An erased RDP byte means that
        readout protection is on.
        """
        self.readout_protected = self.raw[:2] != bytes((READOUT_OPEN, READOUT_OPEN ^ 0xFF))
        pairs = zip(self.raw[WRITE_PROTECTION][::2], self.raw[WRITE_PROTECTION][1::2], strict=True)
        bits = int.from_bytes(bytes(byte if byte ^ other == ERASED else ERASED for byte, other in pairs), "little")
        # Bit 31 covers the rest of the flash (PM0075 section 2.5).
        self._protect(lambda sector: not bits >> min(sector, PROTECTION_BITS - 1) & 1)

    def _protect(self, is_protected: Callable[[int], bool]) -> None:
        pages, per_sector = range(self._profile.page_count), self._profile.pages_per_sector
        self.protected_pages = frozenset(page for page in pages if is_protected(page // per_sector))

    def write(self, data: bytes) -> None:
        """Erase all option bytes, and program `data`; the hardware computes the complements."""
        self._supply.erase(self.raw, [range(len(self.raw))], erased=b"\xff", what=" the option bytes")
        for index, unit in enumerate(self._units(data)):
            self._supply.program(self.raw, index * len(unit), unit, what="the option bytes")

    def _units(self, data: bytes) -> Iterator[bytes]:
        """Yield the units that the controller programs, one unit per operation."""
        for at in range(0, len(data), 2):
            yield bytes((data[at], data[at] ^ 0xFF))

    def store(self, data: bytes) -> None:
        """Set the option bytes without an operation of the flash controller."""
        kept = b"".join(self._units(data))
        self.raw[: len(kept)] = kept

    def with_readout(self, *, protected: bool) -> bytes:
        """Return option bytes that set or remove readout protection and keep the other settings."""
        return bytes((ERASED if protected else READOUT_OPEN, 0)) + self.raw[2:]

    def with_write_protection(self, sectors: Iterable[int]) -> bytes:
        """Return option bytes that write-protect exactly these sectors and keep the other settings.

        A sector without a protection bit is ignored, because the ROM does not check the numbers (AN3155 section 3.9).
        """
        bits = (1 << PROTECTION_BITS) - 1
        for sector in sectors:
            bits &= ~(1 << sector)
        halfwords = b"".join(bytes((byte, 0)) for byte in (bits & 0xFFFF_FFFF).to_bytes(4, "little"))
        return bytes(self.raw[: WRITE_PROTECTION.start]) + halfwords


class LeveledOptionBytes(OptionBytes):
    """The option bytes of all families but the F1: RDP has three levels."""

    def __init__(self, profile: BoardProfile, *, supply: Supply) -> None:
        self._rdp, self._complemented = FORMATS[profile.option_format]
        self._sectors: frozenset[int] = frozenset()
        super().__init__(profile, supply=supply)
        self.store(self.with_readout(protected=False))
        self.load()

    def load(self) -> None:
        """Make the option bytes effective, as every reset does."""
        level = self.raw[self._rdp]
        self.readout_protected, self.boot_rom_disabled = level != LEVEL_0, level == LEVEL_2
        self._protect(self._sectors.__contains__)

    def with_readout(self, *, protected: bool) -> bytes:
        """Return option bytes that set readout protection to level 1 or 0 and keep the other settings."""
        data = bytearray(self.raw)
        data[self._rdp] = ERASED if protected else LEVEL_0
        return bytes(data)

    def with_write_protection(self, sectors: Iterable[int]) -> bytes:
        """Write-protect exactly these sectors from the next reset on; return the unchanged option bytes."""
        self._sectors = frozenset(sectors)
        return bytes(self.raw)

    def _units(self, data: bytes) -> Iterator[bytes]:
        width = self._complemented
        step = 2 * width or 4
        for at in range(0, len(data), step):
            value = data[at : at + (width or step)]
            yield value + (bytes(byte ^ 0xFF for byte in value) if width else b"")


def option_bytes(profile: BoardProfile, *, supply: Supply) -> OptionBytes:
    """Return the option bytes of a chip without protection."""
    kind = OptionBytes if profile.option_format == "F1" else LeveledOptionBytes
    return kind(profile, supply=supply)
