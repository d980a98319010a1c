"""The option bytes of a simulated chip: protection against reading and writing.

What is written takes effect at the next reset, as PM0075 section 2.5 says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_host.board.power import PowerCutError, Supply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmware_host.board.profile import BoardProfile

READOUT_OPEN = 0xA5
"""The one value of option byte RDP that leaves the flash of an F1 readable (PM0075 section 3)."""
WRITE_PROTECTION = slice(8, 16)
PROTECTION_BITS = 32
ERASED = 0xFF


class OptionBytes:
    """The sixteen option bytes of an STM32F1: RDP, USER, two data bytes, WRP0 to WRP3, each with its complement.

    Args:
        profile: the chip.
        supply: what feeds the controller.

    Attributes:
        raw: the bytes as they are read.
        readout_protected: whether the flash is closed to readers, since the last `load`.
        protected_pages: pages closed to writers, since the last `load`.
    """

    def __init__(self, profile: BoardProfile, *, supply: Supply) -> None:
        """Leave everything open."""
        self._profile, self._supply = profile, supply
        self.raw = bytearray([READOUT_OPEN, READOUT_OPEN ^ 0xFF, *[ERASED, 0] * (profile.option_size // 2 - 1)])
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
        for at in range(0, len(data), 2):
            pair = bytes((data[at], data[at] ^ 0xFF))
            self.raw[at : at + 2], power_failed = self._supply.program(bytes(self.raw[at : at + 2]), pair)
            if power_failed:
                raise PowerCutError("while programming the option bytes")

    def keep(self, data: bytes) -> None:
        """Hold these bytes without an operation of the controller, as if they had been written before."""
        self.raw[0::2] = data[0::2]
        self.raw[1::2] = bytes(byte ^ 0xFF for byte in data[0::2])

    def with_readout(self, *, protected: bool) -> bytes:
        """Return what to write to set or lift readout protection, and change nothing else."""
        return bytes((ERASED if protected else READOUT_OPEN, 0)) + self.raw[2:]

    def with_write_protection(self, sectors: Iterable[int]) -> bytes:
        """Return what to write to protect exactly these sectors, and change nothing else.

        A sector that has no bit is ignored: the ROM does not check its number (AN3155 section 3.9).
        """
        bits = (1 << PROTECTION_BITS) - 1
        for sector in sectors:
            bits &= ~(1 << sector)
        halfwords = b"".join(bytes((byte, 0)) for byte in (bits & 0xFFFF_FFFF).to_bytes(4, "little"))
        return bytes(self.raw[: WRITE_PROTECTION.start]) + halfwords
