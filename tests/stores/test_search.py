"""The search for an image: first the store, then stages of sources; all bytes are verified."""

from __future__ import annotations

import io
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from blockota.errors import Action, StoreError, UsageError, VerificationError
from blockota.formats.cid import CHUNK_SIZE, CID
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Release, Version
from blockota.stores.gateway import GatewayStore
from blockota.stores.kubo import KuboStore
from blockota.stores.local import LocalStore
from blockota.stores.search import (
    MAX_URL,
    NETWORK,
    Candidate,
    SearchObserver,
    SearchStage,
    announced,
    find_image,
    named,
)
from blockota.stores.source import NO_CREDENTIALS, Source, SourceReport
from blockota.stores.store import Store
from tests.support import hostile_gateway as vices
from tests.support.fetch_samples import BLOCKS, IMAGE, ROOT, SMALL, SMALL_BLOCKS, blocks_of
from tests.support.hostile_gateway import Gateway, Handler, serving
from tests.support.samples import PRODUCT, release_of

LARGE = release_of(IMAGE, dag_root=ROOT.digest)
Serve = Callable[..., Gateway]


@dataclass
class Search:
    """A search together with the messages and the progress that it reported."""

    store: Store
    notes: list[str] = field(default_factory=list)
    progress: list[int] = field(default_factory=list)

    def __call__(self, release: Release, *stages: list[Candidate]) -> bytes:
        """Search for an image; each list of candidates is a stage."""
        file = io.BytesIO()
        find_image(
            release,
            self.store,
            stages=[SearchStage(f"stage {number}", partial(list, stage)) for number, stage in enumerate(stages)],
            into=file,
            observer=SearchObserver(self.notes.append, self.progress.append),
        )
        return file.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def search(store: LocalStore) -> Search:
    """Return a search that begins with the empty store."""
    return Search(store)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts gateways with all blocks of the samples."""
    with ExitStack() as stack:

        def start(
            vice: Callable[[Handler, bytes], object] = vices.honest, blocks: dict[CID, bytes] | None = None
        ) -> Gateway:
            return stack.enter_context(serving(BLOCKS | SMALL_BLOCKS if blocks is None else blocks, vice))

        yield start


def replica(uri: str) -> Agreement:
    """Return an accepted agreement whose replica has a URL."""
    return Agreement(1, "0x", PRODUCT.name, Version(1, 1, 0), 0, AgreementStatus.ACCEPTED, uri)


def asked(*gateways: Gateway) -> list[Candidate]:
    """Return gateways as candidates."""
    return [Source(gateway.url) for gateway in gateways]


@pytest.mark.parametrize("image", [SMALL, IMAGE], ids=["one block", "five blocks"])
def test_stored_blocks_are_not_requested(store: LocalStore, search: Search, image: bytes, serve: Serve) -> None:
    """If the store has the image, no source receives a request."""
    store.put(io.BytesIO(image))
    gateway = serve()
    release = release_of(SMALL) if image == SMALL else LARGE
    assert search(release, asked(gateway)) == image
    assert not gateway.asked
    assert not search.notes
    assert search.progress[-1] == len(image)


@pytest.mark.parametrize("image", [SMALL, IMAGE], ids=["one block", "five blocks"])
def test_what_the_store_lacks_is_kept_there(store: LocalStore, search: Search, image: bytes, serve: Serve) -> None:
    """A fetched image is pinned in the store, and the next search finds it in the store."""
    gateway = serve()
    release = release_of(SMALL) if image == SMALL else LARGE
    assert search(release, asked(gateway)) == image
    assert (store.folder / "pins" / str(release.cid)).exists()
    assert search.progress == sorted(search.progress)
    assert search.progress[-1] == len(image)
    assert Search(store)(release) == image


def test_one_honest_source_of_four_is_enough(search: Search, serve: Serve) -> None:
    """The image is found if one of four sources is honest; a source with wrong blocks is reported."""
    liar, ignorant, honest = serve(vices.flips_bit(0.5)), serve(blocks={}), serve()
    gone: list[Candidate] = [Source("http://127.0.0.1:9")]
    assert search(LARGE, [*asked(liar, ignorant, honest), *gone]) == IMAGE
    notes = " ".join(search.notes)
    assert search.notes[0] == "Asking stage 0 for the image (4 sources)."
    assert f"Not asked again: {liar.url} served wrong data: " in notes
    assert f"Not asked again: {honest.url}" not in notes


def test_a_later_stage_is_asked_only_when_those_before_did_not_serve(search: Search, serve: Serve) -> None:
    """The sources of a later stage receive requests only for blocks that earlier stages did not serve."""
    held = dict(list(BLOCKS.items())[-1:])
    first, second, third = serve(blocks=held), serve(), serve()
    assert search(LARGE, asked(first), [], asked(second), asked(third)) == IMAGE
    assert not third.asked
    assert not [path for path in second.asked if f"/{ROOT}?" in path]
    assert [note for note in search.notes if note.startswith("Asking")] == [
        "Asking stage 0 for the image (1 source).",
        "Asking stage 2 for the image (1 source).",
    ]


def test_a_store_that_only_serves_keeps_nothing(serve: Serve) -> None:
    """If the store is read-only, the image is fetched from a source and not stored."""
    empty, honest = serve(blocks={}), serve()
    assert Search(GatewayStore(Source(empty.url)))(LARGE, asked(honest)) == IMAGE


def test_a_corrupt_block_of_the_store_is_replaced(store: LocalStore, search: Search, serve: Serve) -> None:
    """If one block of the image in the store is corrupt, only this block is fetched and replaced."""
    store.put(io.BytesIO(IMAGE))
    leaf = next(iter(BLOCKS))
    spoil(store, leaf)
    gateway = serve()
    assert search(LARGE, asked(gateway)) == IMAGE
    assert search.notes[0].startswith(f"Not taken from the store: the block {leaf} is corrupt")
    assert list(gateway.asked) == [f"/ipfs/{leaf}?format=raw"]
    assert b"".join(store.open(ROOT)) == IMAGE


def spoil(store: LocalStore, cid: CID) -> None:
    """Overwrite a block of a store with other bytes."""
    (store.folder / "blocks" / str(cid)[-3:-1] / str(cid)).write_bytes(b"tampered")


def test_a_missing_image_without_sources_is_a_store_error(search: Search) -> None:
    """If the store lacks the image and no source is known, the search raises the store's error."""
    with pytest.raises(StoreError, match=r"does not have .* Ask the vendor for the address of its repository"):
        search(LARGE, [])


def test_a_corrupt_store_without_sources_fails_check_four(store: LocalStore, search: Search) -> None:
    """A corrupt image in the store fails check 4 if no source is known; the error contains the block's CID."""
    cid = store.put(io.BytesIO(SMALL))
    spoil(store, cid)
    with pytest.raises(VerificationError, match=rf"not the release: .*{cid} is corrupt") as failed:
        search(release_of(SMALL), [])
    assert (failed.value.number, failed.value.action) == (4, Action.TAKE_IMAGE_ELSEWHERE)


def test_more_bytes_than_recorded_fail_check_four(store: LocalStore, search: Search, serve: Serve) -> None:
    """An image that is longer than its record fails check 4, whether it comes from the store or from a source."""
    short = release_of(IMAGE, dag_root=ROOT.digest, size=CHUNK_SIZE)
    with pytest.raises(VerificationError, match=r"has .* bytes, and its parent records 1048576") as failed:
        search(short, asked(serve(), serve()))
    assert failed.value.number == 4
    store.put(io.BytesIO(IMAGE))
    with pytest.raises(VerificationError, match=r"has .* bytes, and its parent records 1048576") as failed:
        search(short)
    assert failed.value.number == 4


def test_only_wrong_data_fails_check_four(search: Search, serve: Serve) -> None:
    """If every source sends wrong bytes, check 4 fails, and the error lists the sources."""
    bad = [serve(vices.flips_bit(place)) for place in (0, 1)]
    with pytest.raises(VerificationError, match="every image that was found differs") as failed:
        search(release_of(SMALL), asked(*bad))
    assert failed.value.number == 4
    assert all(one.url in failed.value.why for one in bad)


def test_an_image_that_no_source_serves_is_reported_with_all_sources(search: Search, serve: Serve) -> None:
    """The error for an image that was not found contains the release, the store, and the verdict on each source."""
    liar, ignorant = serve(vices.flips_bit(0)), serve(blocks={})
    with pytest.raises(StoreError, match=r"acme-thermo2 1.1.0 was not found: the store .* does not have") as failed:
        search(release_of(SMALL), asked(liar), asked(ignorant))
    assert f"{liar.url} served wrong data" in failed.value.why
    assert f"{ignorant.url} does not have it" in failed.value.why
    assert failed.value.action is Action.NAME_SOURCE


@pytest.mark.parametrize("place", ["http://127.0.0.1:{}", "http://localhost:{}", "http://[::ffff:127.0.0.1]:{}"])
def test_an_announced_private_address_is_not_asked(search: Search, serve: Serve, place: str) -> None:
    """A broker's source with a private address is used on a local chain, but not on a public chain (SSRF)."""
    gateway = serve()
    uri = place.format(gateway.url.rpartition(":")[2])
    with pytest.raises(StoreError, match=r"leads to .*, which is in a private network or this machine"):
        search(LARGE, list(announced([replica(uri)], is_local_chain=False)))
    assert not gateway.asked
    if place.startswith("http://127"):
        assert search(LARGE, list(announced([replica(uri)], is_local_chain=True))) == IMAGE


def test_the_vendor_s_private_address_is_asked_though_a_broker_announces_the_same(search: Search, serve: Serve) -> None:
    """A source from the settings is used even if a broker announces the same URL."""
    gateway = serve()
    stranger = announced([replica(gateway.url + "/")], is_local_chain=False)
    assert search(LARGE, [*asked(gateway), *stranger]) == IMAGE


@pytest.mark.parametrize(
    "uri",
    [
        "ipfs://bafy",
        "file:///etc/passwd",
        "https://",
        "https://a b",
        "https://user@host",
        "https://host/?q=1",
        "\x1b[2J",
    ],
    ids=["ipfs", "file", "no-host", "space", "user", "query", "control"],
)
def test_an_announced_text_that_is_not_a_url_is_reported(search: Search, uri: str) -> None:
    """An announced source that is not a URL is skipped, and the reason is reported."""
    with pytest.raises(StoreError, match=r"refused: the URL (does not begin|contains|has) "):
        search(LARGE, list(announced([replica(uri)], is_local_chain=True)))


def test_an_announced_text_without_end_is_cut() -> None:
    """An announced URL above the maximum length is not requested, and is printed truncated."""
    (report,) = announced([replica("https://host/" + "a" * MAX_URL)], is_local_chain=True)
    assert isinstance(report, SourceReport)
    assert len(str(report)) < 200


@pytest.mark.parametrize("uri", ["https://host/x", "https://host/x/", "https://host/x/ipfs", "https://host/x/ipfs/"])
def test_an_announced_path_may_end_in_the_namespace(uri: str) -> None:
    """An announced URL may end in ``/ipfs``; this ending is removed, because each request appends it."""
    assert list(announced([replica(uri)], is_local_chain=True)) == [Source("https://host/x")]


def test_a_named_address_may_end_in_the_namespace_and_not_in_a_file() -> None:
    """A URL from the settings may end in ``/ipfs/``, but a URL that continues with a CID is refused."""
    assert list(named(["https://host/ipfs/"], NO_CREDENTIALS)) == [Source("https://host")]
    with pytest.raises(UsageError, match="Give the part of the URL before /ipfs/"):
        list(named([f"https://host/ipfs/{ROOT}"], NO_CREDENTIALS))


@pytest.mark.parametrize("image", [SMALL, IMAGE], ids=["one block", "five blocks"])
def test_a_store_that_cannot_take_a_block_keeps_nothing(
    store: LocalStore, search: Search, serve: Serve, image: bytes
) -> None:
    """If blocks cannot be stored, the image is fetched without being stored or pinned, and a note reports this."""
    store.folder.mkdir()
    (store.folder / "blocks").write_bytes(b"in the way")
    gateway = serve()
    assert search(release_of(SMALL) if image == SMALL else LARGE, asked(gateway)) == image
    notes = [note for note in search.notes if not note.startswith("Asking")]
    assert notes[-1].startswith(f"Not kept in the store: the store {store.folder} cannot be used, Not a directory")
    assert len([note for note in notes if note.startswith("Not kept")]) == 1
    assert store.pins() == set()


def test_a_full_disk_of_the_store_keeps_nothing(store: LocalStore, search: Search, serve: Serve) -> None:
    """If the disk of the store is full, the image is fetched without being pinned."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_SIZE // 2, before[1]))
    try:
        assert search(LARGE, asked(serve())) == IMAGE
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len([note for note in search.notes if "Not kept in the store" in note and "File too large" in note]) == 1
    assert store.pins() == set()


def test_a_block_that_cannot_be_read_is_fetched(store: LocalStore, search: Search, serve: Serve) -> None:
    """A block that the store cannot read, as on a bad sector, is reported and fetched from a source."""
    store.put(io.BytesIO(IMAGE))
    leaf = next(iter(BLOCKS))
    path = store.folder / "blocks" / str(leaf)[-3:-1] / str(leaf)
    path.unlink()
    path.mkdir()
    gateway = serve()
    assert search(LARGE, asked(gateway)) == IMAGE
    assert search.notes[0].startswith(f"Not taken from the store: the store {store.folder} cannot be used, Is a dir")
    assert list(gateway.asked) == [f"/ipfs/{leaf}?format=raw"]


def test_a_search_that_finds_nothing_creates_no_store(tmp_path: Path, serve: Serve) -> None:
    """A failed search does not create the folder of the store; a successful search pins the image in the store."""
    store = LocalStore(tmp_path / "new")
    with pytest.raises(StoreError, match="was not found"):
        Search(store)(LARGE, asked(serve(blocks={})))
    assert not store.folder.exists()
    assert Search(store)(LARGE, asked(serve())) == IMAGE
    assert store.pins() == {LARGE.cid}


def test_a_store_whose_name_the_system_refuses_keeps_nothing(tmp_path: Path, serve: Serve) -> None:
    """If the path of the store is too long for the system, the image is fetched without being stored."""
    search = Search(LocalStore(tmp_path / ("x" * 300)))
    assert search(LARGE, asked(serve())) == IMAGE
    assert any("File name too long" in note for note in search.notes)


def test_a_store_in_use_keeps_nothing(tmp_path: Path, serve: Serve) -> None:
    """If the store is locked by another process, the image is fetched without being stored."""
    store = LocalStore(tmp_path / "store", timeout=0.1)
    search = Search(store)
    with LocalStore(store.folder).locked(exclusive=True):
        assert search(LARGE, asked(serve())) == IMAGE
    assert "is in use" in search.notes[0]


def test_a_node_that_does_not_run_is_reported(serve: Serve) -> None:
    """If the Kubo node of the store is unreachable, a note reports it, and the image is fetched from a source."""
    search = Search(KuboStore("http://127.0.0.1:9"))
    assert search(LARGE, asked(serve())) == IMAGE
    assert search.notes[0].startswith("Not taken from the store: the Kubo node at http://127.0.0.1:9 could not read")
    assert "Connection refused" in search.notes[0]


def test_an_image_whose_blocks_do_not_match_its_hash_is_left_to_check_four(search: Search, serve: Serve) -> None:
    """A search returns the file of a record's DAG root, even if the record's SHA-256 belongs to another file."""
    root, blocks = blocks_of(IMAGE[::-1])
    assert search(release_of(IMAGE, dag_root=root.digest), asked(serve(blocks=blocks))) == IMAGE[::-1]


@dataclass
class NetworkedStore(LocalStore):
    """An empty store of an IPFS node, which finds the image in the node's network and counts these searches."""

    folder: Path
    url: str = "http://127.0.0.1:5001/k3y-in-the-path"
    searches: int = 0

    def __post_init__(self) -> None:
        """Initialise the local store in the folder."""
        LocalStore.__init__(self, self.folder)

    def search(self, cid: CID) -> Iterator[bytes]:
        """Yield the image, and count the search in the network."""
        assert cid == ROOT
        self.searches += 1
        yield IMAGE


def test_the_network_is_asked_once_and_last(tmp_path: Path, serve: Serve) -> None:
    """The IPFS network is searched only if it is a stage of the search and no earlier source has the image."""
    store, notes = NetworkedStore(tmp_path / "store"), list[str]()
    empty = SearchStage("empty", lambda: [Source(serve(blocks={}).url)])
    good = SearchStage("good", lambda: [Source(serve().url)])
    for stages, searches in (([empty], None), ([NETWORK, empty, good], 0), ([NETWORK, empty], 1)):
        file, store.searches = io.BytesIO(), 0
        if searches is None:
            with pytest.raises(StoreError):
                find_image(LARGE, store, stages=stages, into=file)
            assert store.searches == 0
            continue
        kept = NetworkedStore(tmp_path / f"store {len(stages)}")
        find_image(LARGE, kept, stages=stages, into=file, observer=SearchObserver(notes.append))
        assert (file.getvalue(), kept.searches) == (IMAGE, searches)
    assert "the Kubo node at http://127.0.0.1:5001/…;" in notes[-1]


def test_no_message_shows_the_path_of_a_sources_url(search: Search, serve: Serve) -> None:
    """Messages contain the host of a source's URL but not its path, which can be the key of a hosted gateway."""
    for vice in (vices.is_busy, vices.zips, vices.redirects_to("ftp://elsewhere.example/k3y-in-the-path")):
        source = Source(f"{serve(vice).url}/k3y-in-the-path")
        with pytest.raises(StoreError) as caught:
            search(LARGE, [source])
        said = f"{caught.value} {caught.value.why} {search.notes}"
        assert f"{source.url.removesuffix('/k3y-in-the-path')}/… " in said
        assert "k3y" not in said
