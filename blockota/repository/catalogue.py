"""The catalogue: the files that are currently served, with the blocks of each file.

The chain records which files may be served, and the store shows which files are complete. Chain and store are read at
the start and then periodically, because both change while the repository runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from blockota.bindings.serving_rights import Reading
from blockota.errors import BlockOTAError, ContentError, StoreError
from blockota.formats.cid import CID, RAW, check_block
from blockota.model.rights import DeltaReader, Rights, rights_at
from blockota.repository.blocks import Blocks, BlockStore, FileStore
from blockota.repository.tree import TreeBlock, read_tree, subtree

_EMPTY = CID.of(RAW, b"")
_MIN_PAUSE = 0.2
_STORE_TIMEOUT = 30.0
"""Seconds after which a store that is being read is reported as not answering."""


@dataclass(frozen=True)
class ServedFiles:
    """The files that are served at one moment.

    Attributes:
        rights: the rights to serve files.
        trees: the blocks of each file that is complete in the store.
        missing: for each file that may be served but is not complete in the store, the reason.
        places: for each block, the root of a file that contains the block, and the block's index in the file's tree.
    """

    rights: Rights
    trees: Mapping[CID, tuple[TreeBlock, ...]]
    missing: Mapping[CID, BlockOTAError]
    places: Mapping[CID, tuple[CID, int]]

    def find(self, cid: CID) -> tuple[TreeBlock, ...] | None:
        """Return a served block and all blocks below it; None if the block is not served."""
        place = self.places.get(cid)
        return subtree(self.trees[place[0]], place[1]) if place else None

    def within(self, rights: Rights) -> ServedFiles:
        """Return the subset of the files that may be served under `rights`, without reading the store."""
        trees = {root: tree for root, tree in self.trees.items() if root in rights.roots}
        missing = {root: why for root, why in self.missing.items() if root in rights.roots}
        return ServedFiles(rights, trees, missing, _places(trees))


class Catalogue:
    """Keeps the list of served files up to date.

    Args:
        read: reads from the chain which files may be served, such as `RightsReader.read`.
        store: the store with the blocks.
        refresh: seconds between two reads of the chain.
        timeout: seconds for which the result of the last read stays valid while the chain is out of reach.
        clock: returns monotonic seconds.

    Attributes:
        files: the files that are currently served.
        blocks: reads and verifies the blocks.
        refresh_seconds: seconds between two reads of the chain.
        repair: an instruction for the operator to repair missing and corrupt blocks; empty without an instruction.
        trouble: the reason why the chain could not be read last time; empty if it was read.

    Raises:
        ChainError: the chain is out of reach.
        RefusedError: a contract's return data is not valid.
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
        self.repair = ""
        self.trouble = ""
        self._deltas = DeltaReader(store.read_block)
        self._read_at, self._reading = clock(), read()
        self._store_failure, self._store_since = "", clock()
        self._reads_store = False

        check_reach(store)
        self._add_deltas()
        self.files = find_files(self._rights(), store)

    @property
    def age(self) -> float:
        """Seconds since the chain was last read."""
        return self._clock() - self._read_at

    @property
    def block(self) -> int:
        """The block at which the chain was last read."""
        return self._reading.block

    @property
    def is_open(self) -> bool:
        """Whether the result of the last read of the chain is still valid."""
        return self.age <= self._timeout

    @property
    def pause(self) -> float:
        """Seconds until the next refresh: `refresh_seconds`, or less if an agreement expires earlier."""
        changes_at = self.files.rights.changes_at
        until_change = self.refresh_seconds if changes_at is None else changes_at - self._time()
        return max(min(self.refresh_seconds, until_change), _MIN_PAUSE)

    @property
    def store_trouble(self) -> str:
        """The reason why the store cannot be read; empty while the store works."""
        waited = self._clock() - self._store_since
        if self._reads_store and waited > _STORE_TIMEOUT:
            return f"the store has not answered for {waited:.0f} s."
        return self._store_failure

    @property
    def status(self) -> str:
        """The repository's status: ok, incomplete, stale, failing or closed."""
        if not self.is_open:
            return "closed"
        if self.store_trouble:
            return "failing"
        if self.trouble:
            return "stale"
        return "incomplete" if self.files.missing else "ok"

    def health(self) -> dict[str, object]:
        """Return the JSON object of ``/health``."""
        rights = self.files.rights
        return {
            "status": self.status,
            "releases": rights.releases,
            "files": len(self.files.trees),
            "missing": {str(cid): self.explain(error) for cid, error in self.files.missing.items()},
            "manifestsKnown": self._reading.manifests_known,
            "chainBlock": self._reading.block,
            "chainTime": self._reading.time,
            "chainReadSecondsAgo": round(self.age, 1),
            "storeTrouble": self.store_trouble,
            "trouble": self.trouble,
        }

    def explain(self, error: BlockOTAError) -> str:
        """Return the reason why a block is not served, and the operator's remedy."""
        return f"{error.what}: {error.why}. {self.repair}" if self.repair else str(error)

    def label(self, root: CID) -> str:
        """Return the label of a file for logs, which names the file's release."""
        files = (file for claim in self._reading.claims for file in claim.files())
        return next((file.label for file in files if file.cid == root), str(root))

    def refresh(self) -> None:
        """Read chain and store again.

        While the chain is out of reach, the result of the last read is used. Even then, files of expired agreements are
        not served.
        """
        began = self._clock()
        try:
            reading = self._read_chain()
        except BlockOTAError as error:
            self.trouble = str(error)
        else:
            # The age counts from the start of the request, because the node's answer may be that old.
            self.trouble, self._read_at, self._reading = "", began, reading
            self._add_deltas(from_memory=True)

        # First remove the files whose rights ended, because reading the store may take long.
        self.files = self.files.within(self._rights())

        self._store_since, self._reads_store = self._clock(), True
        failed = frozenset(self.blocks.failed)
        try:
            check_reach(self._store)
            self._add_deltas()
            found = find_files(self._rights(), self._store, before=self.files, failed=failed)
        except StoreError as error:
            self._store_failure = str(error)
        else:
            self.files, self._store_failure = found, ""
            self.blocks.failed -= failed & found.places.keys()  # these blocks could be read
        finally:
            self._reads_store = False

    def _add_deltas(self, *, from_memory: bool = False) -> None:
        """Read the stored manifests, and add their delta patches to the files that may be served."""
        claims = self._reading.claims
        claims = tuple(self._deltas.with_deltas(claim, from_memory=from_memory) for claim in claims)
        self._reading = replace(self._reading, claims=claims)

    def _rights(self) -> Rights:
        return rights_at(self._time(), self._reading.claims)

    def _time(self) -> int:
        """Estimate the chain's current time as the block time of the last read plus the seconds since the read."""
        return int(self._reading.time + self.age)


def find_files(
    rights: Rights, store: BlockStore, *, before: ServedFiles | None = None, failed: Collection[CID] = ()
) -> ServedFiles:
    """Find the files that may be served and are complete in the store.

    Args:
        rights: the rights to serve files.
        store: the store with the blocks.
        before: the files that the last search found. Their trees are not read again.
        failed: blocks that could not be sent to a client. They are read again.

    Raises:
        StoreError: the store is out of reach.
    """
    trees: dict[CID, tuple[TreeBlock, ...]] = {}
    missing: dict[CID, BlockOTAError] = {}
    check_reach(store)
    for root, size in rights.roots.items():
        try:
            known = before.trees.get(root, ()) if before else ()
            # A Kubo node is asked only for the root of a known file, because asking for all blocks takes long.
            asked = known if isinstance(store, FileStore) else known[:1]
            if not known or not all(store.has(block.cid) for block in asked):
                known = _complete_tree(root, store, size=size)
            trees[root] = known
            for cid in {block.cid for block in trees[root]}.intersection(failed):
                check_block(cid, store.read_block(cid))
        except (StoreError, ContentError) as error:
            check_reach(store)  # if the store is out of reach, the file is not missing
            trees.pop(root, None)
            missing[root] = error
    return ServedFiles(rights, trees, missing, _places(trees))


def check_reach(store: BlockStore) -> None:
    """Request a block from a store, to verify that the store answers.

    Raises:
        StoreError: the store is out of reach.
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
        raise StoreError(f"the store has only parts of {root}", why=f"{absent} of the file's blocks are missing")
    return blocks
