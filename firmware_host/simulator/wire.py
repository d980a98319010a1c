"""The cable between a host and a simulated board: it comes off, and bits flip on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firmware_host.simulator.faults import Faults


class Wire:
    """Both directions of the cable.

    Args:
        faults: when it comes off, and which bytes it damages.

    Attributes:
        received: bytes that have reached the board.
    """

    def __init__(self, faults: Faults) -> None:
        """Plug the cable in."""
        self._faults = faults
        self.received, self._sent = 0, 0
        self._spent: set[str] = set()
        self._off = ""

    def put_back(self) -> bool:
        """Plug the cable in if it came off; return whether that presses reset, as all but `unplug` do."""
        came_off, self._off = self._off, ""
        return not came_off.startswith("unplug")

    def to_board(self, byte: int) -> int | None:
        """Return the byte as it reaches the board, or None."""
        faults = self._faults
        self._come_off("silent", reached=self.received, limit=faults.silent_after)
        self._come_off("unplug", reached=self.received, limit=faults.unplug_after)
        if self._off:
            return None
        self.received += 1
        return self._flipped(byte) if self.received == faults.flip_received else byte

    def to_host(self, data: bytes) -> bytes:
        """Return what of the data reaches the host."""
        if self._faults.unplug_after_sent is None and self._faults.flip_sent is None:
            return b"" if self._off else data
        return b"".join(map(self._byte_to_host, data))

    def _byte_to_host(self, byte: int) -> bytes:
        self._come_off("unplug of the answer", reached=self._sent, limit=self._faults.unplug_after_sent)
        if self._off:
            return b""
        self._sent += 1
        return bytes([self._flipped(byte) if self._sent == self._faults.flip_sent else byte])

    def _come_off(self, how: str, *, reached: int, limit: int | None) -> None:
        if limit is not None and reached >= limit and how not in self._spent:
            self._spent.add(how)
            self._off = how

    def _flipped(self, byte: int) -> int:
        return byte ^ 1 << self._faults.seed % 8
