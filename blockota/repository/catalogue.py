"""What is served now: the files that may be, as far as the store holds them, and the blocks below them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import FileIO
from typing import Protocol, runtime_checkable

from blockota.errors import ContentError, StoreError
from blockota.formats.cid import CID, RAW, check_block
from blockota.model.rights import Rights
from blockota.repository.tree import Entry, below, read_tree

_NOTHING = CID.of(RAW, b"")


@runtime_checkable
class BlockStore(Protocol):
    """A store that gives single blocks."""

    def has(self, cid: CID) -> bool:
        """Whether a block is there."""

    def read_block(self, cid: CID) -> bytes:
        """What the store has under a block's address, unchecked."""


@runtime_checkable
class FileStore(Protocol):
    """A store in which a block is a file, which the system can send without our reading it."""

    def open_block(self, cid: CID) -> FileIO:
        """The file of a block, unchecked; the caller closes it."""


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

    def within(self, rights: Rights) -> Catalogue:
        """What of it other rights allow, before anybody has looked through the store again."""
        trees = {root: tree for root, tree in self.trees.items() if root in rights.roots}
        missing = {root: why for root, why in self.missing.items() if root in rights.roots}
        return Catalogue(rights, trees, missing, _places(trees))


def catalogue_of(
    rights: Rights, store: BlockStore, *, before: Catalogue | None = None, failed: Collection[CID] = ()
) -> Catalogue:
    """Look through the store for what may be served.

    Args:
        rights: what may be served.
        store: where the blocks are.
        before: the last catalogue; the trees that it found are not read again.
        failed: blocks that could not be served; they are read.

    Raises:
        StoreError: the store is out of reach.
    """
    trees: dict[CID, tuple[Entry, ...]] = {}
    missing: dict[CID, str] = {}
    check_reach(store)
    for root, size in rights.roots.items():
        try:
            known = before.trees.get(root) if before else None
            trees[root] = known if known and _is_there(known, store) else _whole_tree(root, store, size=size)
            for cid in {entry.cid for entry in trees[root]}.intersection(failed):
                check_block(cid, store.read_block(cid))
        except (StoreError, ContentError) as error:
            check_reach(store)
            trees.pop(root, None)
            missing[root] = str(error)
    return Catalogue(rights, trees, missing, _places(trees))


def check_reach(store: BlockStore) -> None:
    """See that a store answers.

    Raises:
        StoreError: it is out of reach.
    """
    store.has(_NOTHING)


def _places(trees: Mapping[CID, tuple[Entry, ...]]) -> dict[CID, tuple[CID, int]]:
    places: dict[CID, tuple[CID, int]] = {}
    for root, entries in trees.items():
        for index, entry in enumerate(entries):
            places.setdefault(entry.cid, (root, index))
    return places


def _is_there(entries: tuple[Entry, ...], store: BlockStore) -> bool:
    """Whether a file is still there. A node, which would be asked for long, is asked for the root alone."""
    looked_for = entries if isinstance(store, FileStore) else entries[:1]
    return all(store.has(entry.cid) for entry in looked_for)


def _whole_tree(root: CID, store: BlockStore, *, size: int) -> tuple[Entry, ...]:
    entries = read_tree(root, store.read_block, size=size)
    absent = sum(not store.has(cid) for cid in {entry.cid for entry in entries})
    if absent:
        raise StoreError(f"the store holds {root} in part only", why=f"{absent} of its blocks are missing")
    return entries
