"""Bad sources are reported, and the file is fetched completely from an honest source."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from blockota.errors import StoreError
from blockota.formats.cid import CHUNK_SIZE, varint, walk
from blockota.stores.fetch import FetchReport, FileDestination, FileFetch
from blockota.stores.source import Source, Verdict
from tests.support import hostile_gateway as vices
from tests.support.fetch_samples import BLOCKS, IMAGE, LIMITS, ROOT, SMALL, SMALL_BLOCKS, SMALL_ROOT, blocks_of
from tests.support.hostile_gateway import Gateway, Handler, serving

Vice = Callable[[Handler, bytes], object]
FLIPS_FIRST_BIT = vices.flips_bit(0)
BAD: dict[str, tuple[Vice, Verdict, str]] = {
    "lies in the first bit": (FLIPS_FIRST_BIT, Verdict.WRONG, "has another hash"),
    "lies in the middle": (vices.flips_bit(0.5), Verdict.WRONG, "has another hash"),
    "lies in the last bit": (vices.flips_bit(1), Verdict.WRONG, "has another hash"),
    "truncates": (vices.truncates, Verdict.FAILED, "the connection broke"),
    "truncates silently": (vices.truncates_silently, Verdict.WRONG, "has another hash"),
    "stalls": (vices.stalls, Verdict.STALLED, "does not answer"),
    "stalls at once": (vices.stalls_at_once, Verdict.STALLED, "does not answer"),
    "drips": (vices.drips, Verdict.STALLED, "too slow"),
    "drips headers": (vices.drips_headers, Verdict.STALLED, "too slow"),
    "continues for ever": (vices.continues_for_ever, Verdict.FAILED, "more than"),
    "trails for ever": (vices.trails_for_ever, Verdict.FAILED, "buffer too long"),
    "sends without end": (vices.sends_without_end, Verdict.REFUSED, "larger than the"),
    "gzip": (vices.zips, Verdict.UNUSABLE, "content encoding 'gzip'"),
    "login page": (vices.shows_a_page, Verdict.UNUSABLE, "a block was requested, and it answers with text/html"),
    "1 TiB": (vices.announces_a_tebibyte, Verdict.REFUSED, "announces 1099511627776 bytes"),
    "busy": (vices.is_busy, Verdict.FAILED, "status 503"),
    "another machine's loopback": (
        vices.redirects_to("http://127.0.0.2:9{path}"),
        Verdict.REFUSED,
        "redirects to 127.0.0.2",
    ),
    "circle": (vices.redirects_to("{path}"), Verdict.REFUSED, "more than 3 times"),
    "file": (vices.redirects_to("file:///etc/passwd"), Verdict.REFUSED, "which is not followed"),
}
CASES = pytest.mark.parametrize(("vice", "verdict", "why"), BAD.values(), ids=list(BAD))


def run(*gateways: Gateway, small: bool = False) -> tuple[bytes, FetchReport]:
    """Fetch the image, or the small image, from gateways."""
    file = io.BytesIO()
    root, size = (SMALL_ROOT, len(SMALL)) if small else (ROOT, len(IMAGE))
    report = FileFetch(
        root, [Source(g.url) for g in gateways], size=size, into=FileDestination(file), limits=LIMITS
    ).run()
    assert not [request for gateway in gateways for request in gateway.refused]
    return file.getvalue(), report


@CASES
def test_only_the_bad_source_is_named(vice: Vice, verdict: Verdict, why: str) -> None:
    """A fetch from a bad source alone fails; the error contains the source's URL and the reason."""
    with serving(SMALL_BLOCKS, vice) as gateway, pytest.raises(StoreError, match=why) as caught:
        run(gateway, small=True)
    assert f"{gateway.url} {verdict}: " in str(caught.value)


IN_A_CAR = {name: case for name, case in BAD.items() if name not in {"sends without end", "trails for ever"}}
"""The cases for a CAR: two of the sources send the whole file first, and their further bytes are not read."""


@pytest.mark.parametrize(("vice", "verdict"), [case[:2] for case in IN_A_CAR.values()], ids=list(IN_A_CAR))
def test_a_bad_source_of_a_car_is_named(vice: Vice, verdict: Verdict) -> None:
    """A bad source of a CAR is reported with its URL and the verdict."""
    # The first bit of a stream belongs to its header, not to a block.
    found = Verdict.UNUSABLE if vice is FLIPS_FIRST_BIT else verdict
    with serving(BLOCKS, vice) as gateway, pytest.raises(StoreError) as caught:
        run(gateway)
    assert f"{gateway.url} {found}: " in str(caught.value)


@CASES
def test_an_honest_source_makes_up_for_a_bad_one(vice: Vice, verdict: Verdict, why: str) -> None:
    """With one honest and one bad source, the file is fetched completely; the bad source is reported as bad or late."""
    with serving(BLOCKS, vice) as bad, serving(BLOCKS) as good:
        data, report = run(bad, good)
    assert data == IMAGE
    named, served = report.sources
    assert served.verdict == Verdict.SERVED
    assert (named.verdict == verdict and why in named.reason) or named.verdict == Verdict.LATE
    assert named.size == 0


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1.0])
def test_a_lie_anywhere_in_a_car_is_found(place: float) -> None:
    """A flipped bit anywhere in a CAR is detected and reported."""
    with (
        serving(BLOCKS, vices.flips_bit(place)) as gateway,
        pytest.raises(StoreError, match=r"(served wrong data|unusable): .*(hash|CAR)"),
    ):
        run(gateway)


def regions() -> Iterator[tuple[str, int, int]]:
    """Yield the parts of the image's CAR as name, first byte and end; the roots in the header are ignored."""
    yield from (("header length", 0, 1), ("header's beginning", 1, 8), ("header's end", 51, 59))
    place, names = 59, iter(("root", "first leaf", "second leaf", "third leaf", "second leaf again", "last leaf"))
    for block in walk(ROOT, BLOCKS.__getitem__):
        name, length = next(names), len(varint(36 + len(block.data)))
        yield f"length of {name}", place, place + length
        yield f"address of {name}", place + length, place + length + 36
        yield name, place + length + 36, place + length + 36 + len(block.data)
        place += length + 36 + len(block.data)


@pytest.mark.parametrize(("name", "first", "stop"), list(regions()), ids=[region[0] for region in regions()])
def test_a_lie_in_any_part_of_a_car_is_found(name: str, first: int, stop: int) -> None:
    """A flipped first or last bit of the header, a length, a CID or a block of a CAR is detected."""
    for bit in (8 * first, 8 * stop - 1):

        def vice(handler: Handler, data: bytes, bit: int = bit) -> None:
            changed = bytearray(data)
            changed[bit // 8 % len(data)] ^= 1 << bit % 8
            vices.honest(handler, bytes(changed))

        # Changed bytes of a block give a wrong hash; a changed header or address gives a stream that is not a CAR.
        # A changed length can give either.
        verdict: str = Verdict.WRONG
        if name.startswith(("header", "address")):
            verdict = Verdict.UNUSABLE
        elif name.startswith("length"):
            verdict = f"({Verdict.WRONG}|{Verdict.UNUSABLE})"
        with serving(BLOCKS, vice) as gateway, pytest.raises(StoreError, match=f"{gateway.url} {verdict}: "):
            run(gateway)


def test_a_car_that_ends_early_is_gone_on_with() -> None:
    """A source whose CAR ends too early is not reported as bad, because an honest server that fails ends the stream."""

    def vice(handler: Handler, data: bytes) -> None:
        (vices.truncates_silently if "car" in handler.path else vices.honest)(handler, data)

    with serving(BLOCKS, vice) as gateway:
        data, report = run(gateway)
    assert data == IMAGE
    assert report.bad == ()


@pytest.mark.parametrize("has_car", [True, False], ids=["car", "blocks"])
@pytest.mark.parametrize("vice", [vices.closes_after_every_block, vices.chunked])
def test_odd_but_honest_sources_are_used(vice: Vice, *, has_car: bool) -> None:
    """A source that closes the connection after each block, or sends chunked responses, is still used."""
    with serving(BLOCKS, vice, has_car=has_car) as gateway:
        data, report = run(gateway)
    assert data == IMAGE
    assert report.bad == ()


@pytest.mark.parametrize("honest_place", [0, 4])
def test_four_of_five_bad_at_once(honest_place: int) -> None:
    """One honest source suffices beside sources with wrong blocks, a stall, a loopback redirect and a truncation."""
    names = ["lies in the middle", "stalls", "another machine's loopback", "truncates"]
    with ExitStack() as stack:
        gateways = [stack.enter_context(serving(BLOCKS, BAD[name][0])) for name in names]
        honest = stack.enter_context(serving(BLOCKS, after(gateways[names.index("stalls")])))
        data, report = run(*gateways[:honest_place], honest, *gateways[honest_place:])
    assert data == IMAGE
    assert {source.url: source.verdict for source in report.bad} == {
        gateway.url: BAD[name][1] for gateway, name in zip(gateways, names, strict=True)
    }
    assert next(source for source in report.sources if source.url == honest.url).verdict == Verdict.SERVED


def after(other: Gateway) -> Vice:
    """Return a source that responds when a connection to another source has ended, or after 0.35 s."""

    def vice(handler: Handler, data: bytes) -> None:
        other.left.wait(0.35)
        vices.honest(handler, data)

    return vice


def test_a_liar_is_not_asked_again() -> None:
    """A source that served one wrong block receives no further request."""
    with serving(BLOCKS, vices.flips_bit(0.5)) as liar, serving(BLOCKS, after(liar)) as honest:
        run(liar, honest)
    assert sum(liar.asked.values()) == 1


def test_one_that_is_only_late_is_not_called_bad() -> None:
    """If the file is complete before a source answers, the source is reported as late, not as bad."""
    with serving(BLOCKS, vices.stalls_at_once) as late, serving(BLOCKS) as quick:
        data, report = run(late, quick)
    assert data == IMAGE
    assert report.bad == ()
    assert str(report.sources[0]) == f"{late.url} late: other sources served the whole file before it answered"


def test_a_fast_source_serves_more_than_a_slow_one() -> None:
    """A fast source serves more blocks than a slow source."""
    image = b"".join(bytes((n,)) * CHUNK_SIZE for n in range(24))
    root, blocks = blocks_of(image)
    file = io.BytesIO()
    with serving(blocks) as fast, serving(blocks, after(fast)) as slow:
        sources = [Source(slow.url), Source(fast.url)]
        report = FileFetch(root, sources, size=len(image), into=FileDestination(file), limits=LIMITS).run()
    assert file.getvalue() == image
    assert report.bad == ()
    assert report.sources[1].size > 4 * report.sources[0].size


def test_a_dead_port_is_named() -> None:
    """A source with a closed port is reported as failed."""
    with serving(BLOCKS) as closed, serving(BLOCKS) as honest:
        pass
    with serving(BLOCKS) as honest:
        data, report = run(closed, honest)
    assert data == IMAGE
    assert [(source.url, source.verdict) for source in report.bad] == [(closed.url, Verdict.FAILED)]


def test_a_source_without_the_image_is_named() -> None:
    """A source that responds with status 404 is reported, and another source serves the image."""
    with serving({}) as empty, serving(BLOCKS, after(empty)) as honest:
        data, report = run(empty, honest)
    assert data == IMAGE
    [bad] = report.bad
    assert str(bad) == f"{empty.url} does not have it"


def test_memory_is_a_few_blocks() -> None:
    """Fetching a 48 MiB file from four sources takes less than 24 MiB of memory."""
    leaves = [n.to_bytes(2, "big") * (CHUNK_SIZE // 2) for n in range(48)]
    root, blocks = blocks_of(b"".join(leaves))
    with ExitStack() as stack, open("/dev/null", "r+b") as sink:  # noqa: PTH123
        sources = [Source(stack.enter_context(serving(blocks, has_car=False)).url) for _ in range(4)]
        job = FileFetch(root, sources, size=48 * CHUNK_SIZE, into=FileDestination(sink), limits=LIMITS)
        tracemalloc.start()
        job.run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 24 * CHUNK_SIZE
