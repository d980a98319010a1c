"""The catalogue: which files are served now, with the blocks of each.

The chain records which files may be served. The store shows which of them are complete. Both are read at the start and
again from time to time, since either changes while the repository runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from blockota.bindings.serving_rights import Reading
from blockota.errors import BlockOTAError, ContentError, StoreError
from blockota.formats.cid import CID, RAW, check_block
from blockota.model.rights import Rights, rights_at
from blockota.repository.blocks import Blocks, BlockStore, FileStore
from blockota.repository.tree import TreeBlock, read_tree, subtree

_EMPTY = CID.of(RAW, b"")
_MIN_PAUSE = 0.2
_STORE_TIMEOUT = 30.0
"""Seconds after which a store that is being read is reported as not answering."""


@dataclass(frozen=True)
class ServedFiles:
    """The files that are served at one time.

    Attributes:
        rights: what may be served.
        trees: the blocks of each file that is complete in the store.
        missing: why each other file that may be served is not.
        places: the first occurrence of each block: ⟨root, index in its tree⟩.
    """

    rights: Rights
    trees: Mapping[CID, tuple[TreeBlock, ...]]
    missing: Mapping[CID, str]
    places: Mapping[CID, tuple[CID, int]]

    def find(self, cid: CID) -> tuple[TreeBlock, ...] | None:
        """A block that is served and all blocks below it; None if it is not served."""
        place = self.places.get(cid)
        return subtree(self.trees[place[0]], place[1]) if place else None

    def within(self, rights: Rights) -> ServedFiles:
        """The files that remain under other rights; the store is not read."""
        trees = {root: tree for root, tree in self.trees.items() if root in rights.roots}
        missing = {root: why for root, why in self.missing.items() if root in rights.roots}
        return ServedFiles(rights, trees, missing, _places(trees))


class Catalogue:
    """The files that are served, kept up to date.

    Args:
        read: reads from the chain what may be served, such as `RightsReader.read`.
        store: the store with the blocks.
        refresh: seconds between two readings of the chain.
        timeout: seconds for which the chain's last answer counts while the chain is out of reach.
        clock: monotonic seconds.

    Attributes:
        files: what is served now.
        blocks: reads the blocks.
        refresh_seconds: seconds between two readings of the chain.
        trouble: why the last reading of the chain failed; empty if it did not.

    Raises:
        ChainError: the chain is out of reach.
        RefusedError: its answer cannot be understood.
        StoreError: the store is out of reach.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        store: BlockStore,
        *,
        refresh: float = 30.0,
        timeout: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_chain, self._store, self._clock = read, store, clock
        self.refresh_seconds, self._timeout = refresh, timeout
        self.blocks = Blocks(store)
        self.trouble = ""
        self._read_at, self._reading = clock(), read()
        self._store_failure, self._store_since = "", clock()
        self._reads_store = False
        self.files = find_files(self._rights(), store)

    @property
    def age(self) -> float:
        """Seconds since the chain was last read."""
        return self._clock() - self._read_at

    @property
    def is_open(self) -> bool:
        """Whether the chain's last answer still counts."""
        return self.age <= self._timeout

    @property
    def pause(self) -> float:
        """Seconds until the next refresh; an agreement that expires makes it earlier."""
        changes_at = self.files.rights.changes_at
        until_change = self.refresh_seconds if changes_at is None else changes_at - self._time()
        return max(min(self.refresh_seconds, until_change), _MIN_PAUSE)

    @property
    def store_trouble(self) -> str:
        """Why the store cannot be read; empty if it can."""
        waited = self._clock() - self._store_since
        if self._reads_store and waited > _STORE_TIMEOUT:
            return f"the store has not answered for {waited:.0f} s."
        return self._store_failure

    @property
    def status(self) -> str:
        """One of ok, incomplete, stale, failing and closed."""
        if not self.is_open:
            return "closed"
        if self.store_trouble:
            return "failing"
        if self.trouble:
            return "stale"
        return "incomplete" if self.files.missing else "ok"

    def health(self) -> dict[str, object]:
        """The JSON object of ``/health``."""
        rights = self.files.rights
        return {
            "status": self.status,
            "releases": rights.releases,
            "files": len(self.files.trees),
            "missing": {str(cid): why for cid, why in self.files.missing.items()},
            "manifestsKnown": self._reading.manifests_known,
            "chainBlock": self._reading.block,
            "chainTime": self._reading.time,
            "chainReadSecondsAgo": round(self.age, 1),
            "storeTrouble": self.store_trouble,
            "trouble": self.trouble,
        }

    def refresh(self) -> None:
        """Read chain and store again. If the chain is out of reach its last answer is kept, but agreements expire."""
        began = self._clock()
        try:
            reading = self._read_chain()
        except BlockOTAError as error:
            self.trouble = str(error)
        else:
            # From before the request: what the node answered may be as old.
            self.trouble, self._read_at, self._reading = "", began, reading

        # Rights that ended take effect now: the store may take long to answer.
        self.files = self.files.within(self._rights())

        self._store_since, self._reads_store = self._clock(), True
        failed = frozenset(self.blocks.failed)
        try:
            found = find_files(self.files.rights, self._store, before=self.files, failed=failed)
        except StoreError as error:
            self._store_failure = str(error)
        else:
            self.files, self._store_failure = found, ""
            self.blocks.failed -= failed & found.places.keys()  # they were read without an error
        finally:
            self._reads_store = False

    def _rights(self) -> Rights:
        return rights_at(self._time(), self._reading.claims)

    def _time(self) -> int:
        """The chain's time now: that of the last reading, and what passed since."""
        return int(self._reading.time + self.age)


def find_files(
    rights: Rights, store: BlockStore, *, before: ServedFiles | None = None, failed: Collection[CID] = ()
) -> ServedFiles:
    """Find the files in a store that may be served.

    Args:
        rights: what may be served.
        store: the store with the blocks.
        before: the files found last; their trees are not read again.
        failed: blocks that could not be sent to a client; they are read.

    Raises:
        StoreError: the store is out of reach.
    """
    trees: dict[CID, tuple[TreeBlock, ...]] = {}
    missing: dict[CID, str] = {}
    check_reach(store)
    for root, size in rights.roots.items():
        try:
            known = before.trees.get(root, ()) if before else ()
            # A Kubo node is asked for the root of a known file alone: asking for all blocks takes long.
            asked = known if isinstance(store, FileStore) else known[:1]
            if not known or not all(store.has(block.cid) for block in asked):
                known = _complete_tree(root, store, size=size)
            trees[root] = known
            for cid in {block.cid for block in trees[root]}.intersection(failed):
                check_block(cid, store.read_block(cid))
        except (StoreError, ContentError) as error:
            check_reach(store)  # a store that is out of reach does not make its files missing
            trees.pop(root, None)
            missing[root] = str(error)
    return ServedFiles(rights, trees, missing, _places(trees))


def check_reach(store: BlockStore) -> None:
    """Ask a store for a block, to verify that it answers.

    Raises:
        StoreError: it is out of reach.
    """
    store.has(_EMPTY)


def _places(trees: Mapping[CID, tuple[TreeBlock, ...]]) -> dict[CID, tuple[CID, int]]:
    places: dict[CID, tuple[CID, int]] = {}
    for root, blocks in trees.items():
        for index, block in enumerate(blocks):
            places.setdefault(block.cid, (root, index))
    return places


def _complete_tree(root: CID, store: BlockStore, *, size: int) -> tuple[TreeBlock, ...]:
    blocks = read_tree(root, store.read_block, size=size)
    absent = sum(not store.has(cid) for cid in {block.cid for block in blocks})
    if absent:
        raise StoreError(f"the store has parts of {root} only", why=f"{absent} of its blocks are missing")
    return blocks
