"""Sources that are slow on purpose do not delay a fetch for long."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from blockota.formats.cid import CID
from blockota.stores.fetch import FetchReport, FileDestination, FileFetch
from blockota.stores.gateway import GatewayStore
from blockota.stores.local import LocalStore
from blockota.stores.search import SearchStage, find_image
from blockota.stores.source import Source, Verdict
from tests.support import hostile_gateway as vices
from tests.support.fetch_samples import BLOCKS, IMAGE, LIMITS, ROOT, SMALL, SMALL_BLOCKS, SMALL_ROOT
from tests.support.hostile_gateway import Gateway, Handler, serving
from tests.support.samples import release_of

FAST_ENOUGH = replace(LIMITS, joining=0.5, slowest=40)
"""Limits whose slowest allowed rate is below the rate of `drips_on`."""
FILES = {"one block": (SMALL_ROOT, SMALL), "five blocks": (ROOT, IMAGE)}
BOTH = pytest.mark.parametrize("name", list(FILES))
Serve = Callable[..., Gateway]


def drips_on(handler: Handler, data: bytes) -> None:
    """Send five bytes ten times a second, within the limits, so that even the smallest sample takes a minute."""
    handler.head(len(data))
    for start in range(0, len(data), 5):
        handler.body(data[start : start + 5])
        handler.pause(0.1)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts gateways with all blocks of the samples."""
    with ExitStack() as stack:

        def start(vice: Callable[[Handler, bytes], object] = vices.honest) -> Gateway:
            return stack.enter_context(serving(BLOCKS | SMALL_BLOCKS, vice))

        yield start


def fetched(cid: CID, size: int, *stages: list[Gateway]) -> tuple[bytes, FetchReport]:
    """Fetch a file from stages of gateways, and return it with the report."""
    file = io.BytesIO()
    later = iter([[Source(gateway.url) for gateway in stage] for stage in stages])
    job = FileFetch(cid, (), size=size, into=FileDestination(file), limits=FAST_ENOUGH)
    report = job.run(more=lambda: next(later, None))
    return file.getvalue(), report


@BOTH
@pytest.mark.parametrize("count", [1, 3, 8, 17])
def test_the_last_of_many_that_drip_is_asked(name: str, count: int, serve: Serve) -> None:
    """An honest source receives requests even if many slow sources precede it in its stage."""
    cid, image = FILES[name]
    slow, honest = [serve(drips_on) for _ in range(count)], serve()
    data, report = fetched(cid, len(image), [*slow, honest])
    assert data == image
    assert report.sources[-1].verdict == Verdict.SERVED
    assert report.bad == ()


@BOTH
@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_later_stage_joins_one_that_drips(name: str, before: int, serve: Serve) -> None:
    """Later stages are added one by one while slow sources of earlier stages continue."""
    cid, image = FILES[name]
    slow, honest = [[serve(drips_on)] for _ in range(before)], serve()
    data, report = fetched(cid, len(image), *slow, [honest])
    assert data == image
    assert report.sources[-1].verdict == Verdict.SERVED


def test_a_stage_that_is_fast_enough_is_not_interrupted(serve: Serve) -> None:
    """A later stage receives no request while the first stage is fast enough."""
    first, second = serve(), serve()
    data, _ = fetched(ROOT, len(IMAGE), [first], [second])
    assert data == IMAGE
    assert not second.asked


def test_the_car_of_a_slow_source_is_left_for_single_blocks(serve: Serve) -> None:
    """If a second source is added, the CAR from a slow first source is abandoned, and single blocks are requested."""

    def vice(handler: Handler, data: bytes) -> None:
        handler.head(len(data))
        for start in range(0, len(data), 1 << 18):
            handler.body(data[start : start + (1 << 18)])
            handler.pause(0.3)

    first, second = serve(vice), serve(vice)
    data, report = fetched(ROOT, len(IMAGE), [first], [second])
    assert data == IMAGE
    assert all(source.size for source in report.sources)
    assert len(first.asked) > 1


@pytest.mark.parametrize(("cid", "limit"), [(SMALL_ROOT, len(SMALL)), (ROOT, 1 << 18)], ids=["one block", "a root"])
def test_no_block_may_be_larger_than_the_file_allows(cid: CID, limit: int, serve: Serve) -> None:
    """A block is refused if its announced size exceeds the file's size, or 256 KiB for a root."""

    def vice(handler: Handler, data: bytes) -> None:
        del data
        vices.honest(handler, b"x" * (limit + 1))

    image = SMALL if cid == SMALL_ROOT else IMAGE
    honest = serve()
    data, report = fetched(cid, len(image), [serve(vice), serve(vice)], [honest])
    assert data == image
    assert all("it announces" in source.reason for source in report.bad)
    assert len(report.bad) == 2


@pytest.mark.parametrize("place", ["same stage", "later stage", "store"])
def test_the_default_limits_do_not_wait_for_a_source_that_drips(
    place: str, tmp_path_factory: pytest.TempPathFactory, serve: Serve
) -> None:
    """A fetch does not wait long for a source or store that sends only one byte every half second."""
    is_waited_for = threading.Event()

    def vice(handler: Handler, data: bytes) -> None:
        handler.head(len(data))
        for byte in data[:200]:
            handler.body(bytes((byte,)))
            handler.pause(0.5)
        if not handler.gateway.ended.is_set():
            is_waited_for.set()

    slow, honest = Source(serve(vice).url), Source(serve().url)
    stages = {"same stage": [[slow, honest]], "later stage": [[slow], [], [honest]], "store": [[honest]]}[place]
    store = GatewayStore(slow) if place == "store" else LocalStore(tmp_path_factory.mktemp("store"))
    file = io.BytesIO()
    find_image(
        release_of(SMALL),
        store,
        stages=[SearchStage("some", lambda stage=stage: stage) for stage in stages],  # type: ignore[misc]
        into=file,
    )
    assert file.getvalue() == SMALL
    assert not is_waited_for.is_set()
