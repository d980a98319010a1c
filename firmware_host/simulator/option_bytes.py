"""The option bytes of a simulated chip: protection against reading and writing.

What is written takes effect at the next reset, as PM0075 section 2.5 says. Those of the F1 are kept in full; of
the other families only RDP does anything here, and write protection is kept beside the bytes, not among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_host.simulator.power import PowerCutError, Supply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firmware_host.simulator.profiles import BoardProfile

READOUT_OPEN = 0xA5
"""The one value of option byte RDP that leaves the flash of an F1 readable (PM0075 section 3)."""
WRITE_PROTECTION = slice(8, 16)
PROTECTION_BITS = 32
ERASED = 0xFF
OPEN_AT_LEVEL_0, CLOSED_FOR_EVER = 0xAA, 0xCC
"""RDP of the other families: level 0, and level 2, at which there is no boot ROM any more; all else is level 1."""
RDP_OFFSETS = {"F4": 1, "L0": 0, "L4": 0}
COMPLEMENT_WIDTHS = {"F4": 0, "L0": 2, "L4": 4}
"""Bytes after which as many follow that are their complement; 0 where there are none to be read."""


class OptionBytes:
    """The sixteen option bytes of an STM32F1: RDP, USER, two data bytes, WRP0 to WRP3, each with its complement.

    Args:
        profile: the chip.
        supply: what feeds the controller.

    Attributes:
        raw: the bytes as they are read.
        readout_protected: whether the flash is closed to readers, since the last `load`.
        protected_pages: pages closed to writers, since the last `load`.
        closed_for_ever: whether the boot ROM is shut as well, which an F1 does not know.
    """

    closed_for_ever = False

    def __init__(self, profile: BoardProfile, *, supply: Supply) -> None:
        """Leave everything open."""
        self._profile, self._supply = profile, supply
        self.raw = bytearray(profile.option_size)
        self.keep(bytes([READOUT_OPEN]).ljust(profile.option_size, bytes([ERASED])))
        self.load()

    def load(self) -> None:
        """Let the bytes take effect, as every reset does.

        A byte that its complement does not match counts as erased (RM0008 section 3.3.2), which for RDP
        means protected.
        """
        self.readout_protected = self.raw[:2] != bytes((READOUT_OPEN, READOUT_OPEN ^ 0xFF))
        pairs = bytes(self.raw[WRITE_PROTECTION])
        bits = int.from_bytes(
            bytes(pairs[at] if pairs[at] ^ pairs[at + 1] == ERASED else ERASED for at in range(0, len(pairs), 2)),
            "little",
        )
        per_sector = self._profile.pages_per_sector
        # Pages beyond the last bit share it (RM0008: bit 31 covers the rest of the flash).
        self.protected_pages = frozenset(
            page
            for page in range(self._profile.page_count)
            if not bits >> min(page // per_sector, PROTECTION_BITS - 1) & 1
        )

    def write(self, data: bytes) -> None:
        """Erase all bytes, then program these; hardware computes each complement from the even byte.

        Raises:
            PowerCutError: power failed on the way.
        """
        cells, power_failed = self._supply.erase(bytes(self.raw), bytes([ERASED]) * len(self.raw))
        self.raw[:] = cells
        if power_failed:
            raise PowerCutError("while erasing the option bytes")
        for at, unit in enumerate(self._units(data)):
            span = slice(at * len(unit), (at + 1) * len(unit))
            self.raw[span], power_failed = self._supply.program(bytes(self.raw[span]), unit)
            if power_failed:
                raise PowerCutError("while programming the option bytes")

    def _units(self, data: bytes) -> Iterator[bytes]:
        """What the controller programs in one operation each."""
        for at in range(0, len(data), 2):
            yield bytes((data[at], data[at] ^ 0xFF))

    def keep(self, data: bytes) -> None:
        """Hold these bytes without an operation of the controller, as if they had been written before."""
        kept = b"".join(self._units(data))
        self.raw[: len(kept)] = kept

    def with_readout(self, *, protected: bool) -> bytes:
        """Return what to write to set or lift readout protection, and change nothing else."""
        return bytes((ERASED if protected else READOUT_OPEN, 0)) + self.raw[2:]

    def with_write_protection(self, sectors: Iterable[int]) -> bytes:
        """Return what to write to protect exactly these sectors, from the next reset on; change nothing else.

        A sector that has no bit is ignored: the ROM does not check its number (AN3155 section 3.9).
        """
        bits = (1 << PROTECTION_BITS) - 1
        for sector in sectors:
            bits &= ~(1 << sector)
        halfwords = b"".join(bytes((byte, 0)) for byte in (bits & 0xFFFF_FFFF).to_bytes(4, "little"))
        return bytes(self.raw[: WRITE_PROTECTION.start]) + halfwords


class LeveledOptionBytes(OptionBytes):
    """The option bytes of an F4, L0, L4 or G0: RDP has three levels."""

    def __init__(self, profile: BoardProfile, *, supply: Supply) -> None:
        """Leave everything open."""
        self._rdp = RDP_OFFSETS[profile.option_format]
        self._complement_width = COMPLEMENT_WIDTHS[profile.option_format]
        self._sectors: frozenset[int] = frozenset()
        super().__init__(profile, supply=supply)
        self.keep(self.with_readout(protected=False))
        self.load()

    def load(self) -> None:
        """Let the bytes take effect, as every reset does."""
        level = self.raw[self._rdp]
        self.readout_protected = level != OPEN_AT_LEVEL_0
        self.closed_for_ever = level == CLOSED_FOR_EVER
        per_sector = self._profile.pages_per_sector
        self.protected_pages = frozenset(
            page for page in range(self._profile.page_count) if page // per_sector in self._sectors
        )

    def with_readout(self, *, protected: bool) -> bytes:
        """Return what to write to set level 1 or level 0, and change nothing else."""
        data = bytearray(self.raw)
        data[self._rdp] = ERASED if protected else OPEN_AT_LEVEL_0
        return bytes(data)

    def with_write_protection(self, sectors: Iterable[int]) -> bytes:
        """Protect exactly these sectors from the next reset on; the bytes to be written do not show it."""
        self._sectors = frozenset(sectors)
        return bytes(self.raw)

    def _units(self, data: bytes) -> Iterator[bytes]:
        width = self._complement_width
        step = 2 * width or 4
        for at in range(0, len(data), step):
            value = data[at : at + (width or step)]
            yield value + (bytes(byte ^ 0xFF for byte in value) if width else b"")


def option_bytes(profile: BoardProfile, *, supply: Supply) -> OptionBytes:
    """Return the option bytes that this chip has, everything open."""
    kind = OptionBytes if profile.option_format == "F1" else LeveledOptionBytes
    return kind(profile, supply=supply)
