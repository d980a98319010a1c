"""A file is fetched from honest gateways: as a CAR, by single blocks, from many sources, and after an interruption."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from blockota.errors import ContentError, StoreError
from blockota.formats.cid import CHUNK_SIZE, CID
from blockota.stores.fetch import FetchReport, FileDestination, FileFetch, StoreDestination
from blockota.stores.local import LocalStore
from blockota.stores.source import Source, Verdict
from tests.support.fetch_samples import BLOCKS, IMAGE, LIMITS, ROOT, SMALL, SMALL_BLOCKS, SMALL_ROOT, blocks_of
from tests.support.hostile_gateway import (
    Gateway,
    Handler,
    chunked,
    closes_after_every_block,
    honest,
    serving,
    truncates,
)


def fetched(*gateways: Gateway, cid: CID = ROOT, size: int = len(IMAGE)) -> tuple[bytes, FetchReport]:
    """Fetch a file from gateways, and return it with the report; assert that all requests were valid."""
    file = io.BytesIO()
    sources = [Source(gateway.url) for gateway in gateways]
    report = FileFetch(cid, sources, size=size, into=FileDestination(file), limits=LIMITS).run()
    assert not [request for gateway in gateways for request in gateway.refused]
    return file.getvalue(), report


@pytest.mark.parametrize("vice", [honest, chunked])
@pytest.mark.parametrize("repeat", [True, False], ids=["dups=y", "dups=n"])
def test_one_source_is_asked_once(vice: Callable[[Handler, bytes], None], *, repeat: bool) -> None:
    """A single source receives one request for a CAR, whether or not the CAR repeats blocks."""
    with serving(BLOCKS, vice, repeat=repeat) as gateway:
        data, report = fetched(gateway)
    assert data == IMAGE
    assert sum(gateway.asked.values()) == 1
    assert report.bad == ()
    assert report.sources[0].verdict == Verdict.SERVED
    assert report.sources[0].size > 3 * CHUNK_SIZE


@pytest.mark.parametrize(("has_car", "order"), [(False, ""), (True, "version=1"), (True, "version=1; order=unk")])
def test_without_a_car_in_order_blocks_are_asked_for(order: str, *, has_car: bool) -> None:
    """If a source has no depth-first CAR, each block is requested once, even if the file repeats it."""
    with serving(BLOCKS, has_car=has_car, order=order) as gateway:
        data, report = fetched(gateway)
    assert data == IMAGE
    assert sum(gateway.asked.values()) == 1 + len(BLOCKS)
    assert str(report.sources[0]) == f"{gateway.url} served"


def test_a_small_image_is_one_block() -> None:
    """A file of one block is requested as a block, not as a CAR."""
    with serving(SMALL_BLOCKS) as gateway:
        data, _ = fetched(gateway, cid=SMALL_ROOT, size=len(SMALL))
    assert data == SMALL
    assert list(gateway.asked) == [f"/ipfs/{SMALL_ROOT}?format=raw"]


def test_an_empty_image_is_fetched() -> None:
    """The empty block of an empty file is fetched as well."""
    root, blocks = blocks_of(b"")
    with serving(blocks) as gateway:
        data, _ = fetched(gateway, cid=root, size=0)
    assert data == b""
    assert sum(gateway.asked.values()) == 1


def test_many_sources_share_the_work() -> None:
    """A fetch distributes the blocks of a file over several sources, and completes the file."""
    image = bytes(range(256)) * 4096 * 4 + b"".join(bytes((n,)) * CHUNK_SIZE for n in range(20))
    root, blocks = blocks_of(image)
    with ExitStack() as stack:
        gateways = [stack.enter_context(serving(blocks)) for _ in range(3)]
        data, report = fetched(*gateways, cid=root, size=len(image))
    assert data == image
    assert sum(source.size for source in report.sources) >= sum(map(len, blocks.values()))
    assert [source.url for source in report.sources] == [gateway.url for gateway in gateways]
    assert sum(source.verdict == Verdict.SERVED for source in report.sources) > 1


@pytest.mark.parametrize("vice", [truncates, closes_after_every_block])
def test_a_broken_car_is_gone_on_with_by_blocks(vice: Callable[[Handler, bytes], None]) -> None:
    """If a CAR breaks off, only the missing blocks are requested."""
    with serving(BLOCKS, lambda handler, data: (vice if "car" in handler.path else honest)(handler, data)) as gateway:
        data, report = fetched(gateway)
    assert data == IMAGE
    assert report.bad == ()
    assert 1 < sum(gateway.asked.values()) < 1 + len(BLOCKS)


def test_a_fetch_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """A later fetch requests only the missing and the corrupt blocks of the store."""
    store = LocalStore(tmp_path)
    leaves = [cid for cid in BLOCKS if cid != ROOT]
    partial = {cid: BLOCKS[cid] for cid in (ROOT, *leaves[:2])}
    with serving(partial) as gateway, pytest.raises(StoreError, match="does not have"):
        FileFetch(ROOT, [Source(gateway.url)], size=len(IMAGE), into=StoreDestination(store), limits=LIMITS).run()
    spoilt = tmp_path / "blocks" / str(leaves[0])[-3:-1] / str(leaves[0])
    spoilt.write_bytes(b"spoilt")
    file, progress = io.BytesIO(), list[int]()
    with serving(BLOCKS) as gateway, FileDestination(file, store=store) as into:
        FileFetch(ROOT, [Source(gateway.url)], size=len(IMAGE), into=into).run(progress.append)
    assert file.getvalue() == IMAGE
    assert sorted(gateway.asked) == sorted(f"/ipfs/{cid}?format=raw" for cid in (leaves[0], *leaves[2:]))
    assert sum(progress) == len(IMAGE)
    assert b"".join(store.open(ROOT)) == IMAGE


def test_what_is_there_needs_no_source(tmp_path: Path) -> None:
    """A file that is complete in the store is fetched without any source."""
    store = LocalStore(tmp_path)
    store.put(io.BytesIO(IMAGE))
    file = io.BytesIO()
    with FileDestination(file, store=store) as into:
        assert FileFetch(ROOT, [], size=len(IMAGE), into=into).run().sources == ()
    assert file.getvalue() == IMAGE


def test_without_a_source_nothing_comes() -> None:
    """A fetch without sources raises a `StoreError` with the reason."""
    with pytest.raises(StoreError, match="no source to ask"):
        FileFetch(ROOT, [], size=len(IMAGE), into=FileDestination(io.BytesIO())).run()


@pytest.mark.parametrize("size", [len(IMAGE) - 1, len(IMAGE) + 1, 0])
def test_a_file_of_another_size_is_refused(size: int) -> None:
    """If the root states another size than the record, the fetch fails before it requests a leaf."""
    with serving(BLOCKS, has_car=False) as gateway, pytest.raises(ContentError, match="is not the image"):
        fetched(gateway, size=size)
    assert sum(gateway.asked.values()) <= 2


def test_a_source_named_twice_is_asked_once() -> None:
    """Two URLs that differ only in a trailing slash count as one source."""
    with serving(BLOCKS) as gateway:
        sources = [Source(gateway.url), Source(gateway.url + "/")]
        report = FileFetch(ROOT, sources, size=len(IMAGE), into=FileDestination(io.BytesIO())).run()
    assert len(report.sources) == 1


def test_an_error_of_the_caller_ends_the_fetch() -> None:
    """An exception in the progress callback ends the fetch, and is raised to the caller."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with serving(BLOCKS) as gateway, pytest.raises(KeyboardInterrupt):
        FileFetch(ROOT, [Source(gateway.url)], size=len(IMAGE), into=FileDestination(io.BytesIO())).run(interrupt)


def test_a_full_disk_is_a_sentence() -> None:
    """If the disk is full, the error names the local file instead of a source."""
    with serving(BLOCKS) as gateway, Path("/dev/full").open("r+b", buffering=0) as full:
        job = FileFetch(ROOT, [Source(gateway.url)], size=len(IMAGE), into=FileDestination(full), limits=LIMITS)
        with pytest.raises(StoreError, match=r"cannot be written: No space left"):
            job.run()
    assert job.report().bad == ()
