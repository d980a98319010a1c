"""Small logs in memory, with heads and proofs made by `blockota.formats.tlog`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockota.formats.tlog import TreeHead, leaf_hash, node_hash, prove_consistency, prove_inclusion, tree_head
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry, ReleaseId
from tests.support.identities import UUIDS

GATEWAY, ADMINISTRATOR, OPERATOR, OTHER_GATEWAY = UUIDS[:4]
"""The identities of the city's fixture (conftest.py)."""


@dataclass(frozen=True)
class MemoryLog:
    """The entries of a log."""

    entries: Sequence[bytes]

    def head(self, size: int | None = None) -> TreeHead:
        """Return the tree head of the first `size` entries, by default of all entries."""
        return tree_head(self._node, len(self.entries) if size is None else size)

    def growth(self, earlier: int = 0, size: int | None = None) -> tuple[int, bytes, list[bytes]]:
        """Return the arguments of `anchor` that extend the anchored log from `earlier` to `size` entries."""
        head = self.head(size)
        return head.size, head.root, prove_consistency(self._node, earlier, head.size) if earlier else []

    def proven(self, index: int, size: int | None = None) -> dict[str, object]:
        """Return an entry with its inclusion path as an argument of `suspect`."""
        path = prove_inclusion(self._node, index, self.head(size).size)
        return {"data": self.entries[index], "index": index, "path": path}

    def _node(self, height: int, position: int) -> bytes:
        if height == 0:
            return leaf_hash(self.entries[position])
        return node_hash(self._node(height - 1, 2 * position), self._node(height - 1, 2 * position + 1))


def device_entry(kind: EntryKind, device: int, release: ReleaseId, *, time: int) -> bytes:
    """Return an entry for a device in the log of `GATEWAY`."""
    return LogEntry(
        kind=kind,
        time=time,
        device=device,
        release=release,
        image=bytes([1]) * 32,
        level=EvidenceLevel.B,
        gateway=GATEWAY,
    ).encode()
