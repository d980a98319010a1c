"""What is served now: the files that may be, as far as the store holds them, and the blocks below them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from blockota.cid import CID
from blockota.errors import ContentError, StoreError
from blockota.repository.rights import Rights
from blockota.repository.tree import Entry, below, read_tree


@runtime_checkable
class BlockStore(Protocol):
    """A store that gives single blocks."""

    def has(self, cid: CID) -> bool:
        """Whether a block is there."""

    def read_block(self, cid: CID) -> bytes:
        """What the store has under a block's address, unchecked."""


@dataclass(frozen=True)
class Catalogue:
    """What is served.

    Attributes:
        rights: what may be served.
        trees: the blocks of each file that is there whole.
        missing: why each other file that may be served is not there.
        places: where each block is first named: ⟨root, index⟩.
    """

    rights: Rights
    trees: Mapping[CID, tuple[Entry, ...]]
    missing: Mapping[CID, str]
    places: Mapping[CID, tuple[CID, int]]

    def find(self, cid: CID) -> tuple[Entry, ...] | None:
        """A block that is served, with all blocks below it."""
        place = self.places.get(cid)
        return below(self.trees[place[0]], place[1]) if place else None


def catalogue_of(rights: Rights, store: BlockStore, *, before: Catalogue | None = None) -> Catalogue:
    """Look through the store for what may be served.

    Args:
        rights: what may be served.
        store: where the blocks are.
        before: the last catalogue; what it found is not looked for again.
    """
    trees: dict[CID, tuple[Entry, ...]] = {}
    missing: dict[CID, str] = {}
    for root, size in rights.roots.items():
        try:
            known = before.trees.get(root) if before else None
            # What is removed loses its root last, so the root tells whether a file is still there.
            trees[root] = known if known and store.has(root) else _whole_tree(root, store, size=size)
        except (StoreError, ContentError) as error:
            missing[root] = str(error)
    places: dict[CID, tuple[CID, int]] = {}
    for root, entries in trees.items():
        for index, entry in enumerate(entries):
            places.setdefault(entry.cid, (root, index))
    return Catalogue(rights, trees, missing, places)


def _whole_tree(root: CID, store: BlockStore, *, size: int) -> tuple[Entry, ...]:
    entries = read_tree(root, store.read_block, size=size)
    absent = sum(not store.has(cid) for cid in {entry.cid for entry in entries})
    if absent:
        raise StoreError(f"the store holds {root} in part only", why=f"{absent} of its blocks are missing")
    return entries
