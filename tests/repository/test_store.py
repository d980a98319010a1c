"""If its chain or store fails, a repository reports this, still serves images within its rights, and recovers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.bindings.serving_rights import Reading
from blockota.errors import ChainError, ContentError, StoreError
from blockota.formats.cid import CHUNK_SIZE, CID, RAW, Block, dag
from blockota.model.draft import Patch
from blockota.model.manifest import Manifest
from blockota.model.rights import Claim
from blockota.repository.blocks import Blocks
from blockota.repository.catalogue import Catalogue
from blockota.stores.local import LocalStore
from tests.support.fetch_samples import BLOCKS, IMAGE, ROOT, SMALL, SMALL_ROOT
from tests.support.repository_process import BIG_CLAIM, CLAIMS, LARGE, LARGE_ROOT, NOW, SMALL_CLAIM, agreed, revoked


class Scripted:
    """A chain that either returns the current claims or is unreachable."""

    def __init__(self) -> None:
        """Start with a reachable chain."""
        self.answer: tuple[Claim, ...] | None = CLAIMS

    def read(self) -> Reading:
        """Return the current claims."""
        if self.answer is None:
            raise ChainError("no node answers")
        return Reading(NOW, self.answer)


class Clock:
    """A clock whose time is set by the test."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A local store with two of the three images."""
    found = LocalStore(tmp_path)
    found.put(io.BytesIO(IMAGE))
    found.put(io.BytesIO(SMALL))
    return found


def test_a_chain_out_of_reach_is_remembered_for_a_while(store: LocalStore) -> None:
    """While the chain is unreachable, the last claims are valid for a limited time, and agreements still expire."""
    chain, clock = Scripted(), Clock()
    chain.answer = (BIG_CLAIM, agreed(SMALL_CLAIM, NOW + 50))
    catalogue = Catalogue(chain.read, store, timeout=100, clock=clock)
    assert (catalogue.health()["status"], catalogue.pause, catalogue.health()["releases"]) == ("ok", 30, 2)
    chain.answer, clock.now = None, 60
    catalogue.refresh()
    assert (catalogue.health()["status"], catalogue.health()["releases"], catalogue.is_open) == ("stale", 1, True)
    assert "no node answers" in str(catalogue.health()["trouble"])
    clock.now = 101
    assert (catalogue.health()["status"], catalogue.is_open) == ("closed", False)
    chain.answer = CLAIMS
    catalogue.refresh()
    assert (catalogue.health()["status"], catalogue.is_open, catalogue.health()["trouble"]) == ("incomplete", True, "")


def test_without_a_chain_nothing_begins(store: LocalStore) -> None:
    """A repository does not start if the chain is unreachable."""
    chain = Scripted()
    chain.answer = None
    with pytest.raises(ChainError):
        Catalogue(chain.read, store)


def test_what_comes_later_is_served_later(store: LocalStore) -> None:
    """An image that lacks blocks is served only after a refresh has found all of its blocks."""
    catalogue = Catalogue(Scripted().read, store)
    assert catalogue.files.missing.keys() == {LARGE_ROOT}
    assert catalogue.files.find(LARGE_ROOT) is None
    blocks = list(dag(io.BytesIO(LARGE)))
    store.write_block(blocks[-1])
    catalogue.refresh()
    assert "12 of the file's blocks are missing" in str(catalogue.files.missing[LARGE_ROOT])
    for block in blocks:
        store.write_block(block)
    catalogue.refresh()
    assert (catalogue.files.missing, catalogue.files.find(LARGE_ROOT) is not None) == ({}, True)


def test_what_was_removed_is_missing_and_not_a_failure(store: LocalStore) -> None:
    """An image that another process removes is reported as missing, and served again after it is stored again."""
    catalogue = Catalogue(Scripted().read, store)
    assert catalogue.files.find(SMALL_ROOT)
    store.remove_block(SMALL_ROOT)
    catalogue.refresh()
    assert (catalogue.files.find(SMALL_ROOT), SMALL_ROOT in catalogue.files.missing) == (None, True)
    store.put(io.BytesIO(SMALL))
    catalogue.refresh()
    assert catalogue.files.find(SMALL_ROOT)


@pytest.mark.parametrize("harm", ["gone", "rotten"])
def test_a_leaf_that_cannot_be_served_makes_its_file_missing(store: LocalStore, harm: str) -> None:
    """An image with a lost or corrupt leaf is reported as missing until the leaf is restored."""
    catalogue = Catalogue(Scripted().read, store)
    leaf = CID.of(RAW, IMAGE[:CHUNK_SIZE])
    if harm == "gone":
        store.remove_block(leaf)
    else:
        next(store.folder.glob(f"blocks/*/{leaf}")).write_bytes(bytes(CHUNK_SIZE))
        with pytest.raises(ContentError):
            asyncio.run(catalogue.blocks.get(leaf))
    catalogue.refresh()
    assert (catalogue.files.find(ROOT), catalogue.health()["status"]) == (None, "incomplete")
    assert {"gone": "1 of the file's blocks are missing", "rotten": f"{leaf} is corrupt"}[harm] in str(
        catalogue.files.missing[ROOT]
    )
    store.write_block(Block(leaf, IMAGE[:CHUNK_SIZE]))
    catalogue.refresh()
    assert catalogue.files.find(ROOT)
    assert asyncio.run(catalogue.blocks.get(leaf)) == IMAGE[:CHUNK_SIZE]


class Unsteady(LocalStore):
    """A store that can be unreachable, like a stopped node, or can hang."""

    is_down = False
    asked: Callable[[], object] = staticmethod(lambda: None)

    def has(self, cid: CID) -> bool:
        """Return whether the store has a block."""
        self.asked()
        if self.is_down:
            raise StoreError("the node cannot be reached", why="connection refused")
        return super().has(cid)


def test_an_unreachable_store_is_reported_and_the_catalogue_kept(store: LocalStore) -> None:
    """While the store is unreachable, the health status reports the reason; the images do not count as missing."""
    chain, unsteady = Scripted(), Unsteady(store.folder)
    catalogue = Catalogue(chain.read, unsteady)
    unsteady.is_down, chain.answer = True, (BIG_CLAIM, revoked(SMALL_CLAIM))
    catalogue.refresh()
    health = catalogue.health()
    assert (health["status"], health["files"], health["missing"]) == ("failing", 1, {})
    assert "connection refused" in str(health["storeTrouble"])
    assert (catalogue.files.find(SMALL_ROOT), SMALL_ROOT in catalogue.files.rights.gone) == (None, True)
    unsteady.is_down = False
    catalogue.refresh()
    assert (catalogue.health()["status"], catalogue.health()["storeTrouble"]) == ("ok", "")
    assert catalogue.files.find(ROOT)


def test_a_store_that_hangs_is_reported_while_it_hangs(store: LocalStore) -> None:
    """The health status becomes "failing" while the store hangs, and recovers afterwards."""
    clock, unsteady = Clock(), Unsteady(store.folder)
    catalogue = Catalogue(Scripted().read, unsteady, clock=clock)
    statuses: list[object] = []

    def hang() -> None:
        statuses.append(catalogue.health()["status"])
        clock.now += 40
        statuses.append(catalogue.health()["status"])
        unsteady.asked = lambda: None

    unsteady.asked = hang
    catalogue.refresh()
    assert statuses == ["incomplete", "failing"]
    assert catalogue.health()["status"] == "incomplete"


def test_a_repository_whose_store_is_out_of_reach_does_not_begin(store: LocalStore) -> None:
    """A repository does not start if its store is unreachable."""
    unsteady = Unsteady(store.folder)
    unsteady.is_down = True
    with pytest.raises(StoreError):
        Catalogue(Scripted().read, unsteady)


def checked(store: LocalStore, work: Callable[[Blocks], object]) -> Blocks:
    """Verify a block through `Blocks` without a cache, call `work`, and return the `Blocks`."""
    blocks = Blocks(store, capacity=0)
    assert asyncio.run(blocks.get(SMALL_ROOT)) == SMALL
    work(blocks)
    return blocks


def test_a_checked_file_is_sent_until_it_changes(store: LocalStore) -> None:
    """A verified block file is sent without another check until the file changes."""
    path = next(store.folder.glob(f"blocks/*/{SMALL_ROOT}"))
    blocks = checked(store, lambda _: None)
    with blocks.open(SMALL_ROOT, size=len(SMALL)) or io.BytesIO() as file:
        assert file.read() == SMALL
    assert blocks.open(SMALL_ROOT, size=len(SMALL) - 1) is None
    path.write_bytes(b"x" * len(SMALL))
    assert blocks.open(SMALL_ROOT, size=len(SMALL)) is None
    with pytest.raises(ContentError, match="corrupt"):
        asyncio.run(blocks.get(SMALL_ROOT))
    path.unlink()
    assert blocks.open(SMALL_ROOT, size=len(SMALL)) is None
    with pytest.raises(StoreError):
        asyncio.run(blocks.get(SMALL_ROOT))


class Slow:
    """A store that counts how many blocks are read."""

    def __init__(self) -> None:
        """Set the count to zero."""
        self.reads = 0

    def has(self, cid: CID) -> bool:
        """Return whether the store has a block."""
        return cid in BLOCKS

    def read_block(self, cid: CID) -> bytes:
        """Return a block."""
        self.reads += 1
        return BLOCKS[cid]


def test_a_block_is_read_once_for_all_who_want_it() -> None:
    """A hundred simultaneous requests for a block cause one read of the block, and the memory cache is limited."""
    store, leaves = Slow(), [cid for cid in BLOCKS if cid.codec == RAW]

    async def play() -> None:
        blocks = Blocks(store, capacity=2 << 20)
        await asyncio.gather(*(blocks.get(leaves[0]) for _ in range(100)))
        assert store.reads == 1
        for leaf in leaves * 2:
            await blocks.get(leaf)
        assert store.reads > len(leaves)

    asyncio.run(play())


def test_deltas_are_served_with_their_manifest(store: LocalStore) -> None:
    """A delta of a release is served only after the release's manifest is in the store."""
    patch = Patch.of(SMALL_CLAIM.release, b"a patch", compression="crle")
    release = BIG_CLAIM.release
    manifest = Manifest(*(release.product, release.version, release.sha256, release.size), deltas=(patch.delta,))
    chain = Scripted()
    chain.answer = (replace(BIG_CLAIM, manifest=manifest.cid),)
    catalogue = Catalogue(chain.read, store)
    assert (set(catalogue.files.trees), set(catalogue.files.missing)) == ({ROOT}, {manifest.cid})
    store.put(io.BytesIO(manifest.to_json()))
    catalogue.refresh()
    assert set(catalogue.files.missing) == {patch.delta.cid}
    assert catalogue.label(patch.delta.cid).startswith("delta of ")
    store.put(io.BytesIO(patch.data))
    catalogue.refresh()
    assert set(catalogue.files.trees) == {ROOT, manifest.cid, patch.delta.cid}
    chain.answer = (revoked(replace(BIG_CLAIM, manifest=manifest.cid)),)
    catalogue.refresh()
    assert (set(catalogue.files.trees), set(catalogue.files.rights.gone)) == (
        set(),
        {ROOT, manifest.cid, patch.delta.cid},
    )
