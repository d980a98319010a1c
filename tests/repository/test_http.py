"""A repository serves the trustless gateway protocol over real connections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockota.formats.car import MAX_BLOCK_SIZE, read_car
from blockota.formats.cid import CHUNK_SIZE, CID, DAG_PB, RAW
from blockota.stores.fetch import FileDestination, FileFetch
from blockota.stores.source import Source
from tests.support.car_samples import block_addresses
from tests.support.fetch_samples import BLOCKS, IMAGE, ROOT, SMALL, SMALL_ROOT
from tests.support.repository_process import SECRET, Running, running

SECRET_ROOT = CID.of(RAW, SECRET)
TEN = {"Range": "bytes=10-19"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running repository with three images."""
    with running(tmp_path_factory.mktemp("repository")) as found:
        yield found


def raw(cid: CID) -> str:
    """Return the path that requests a raw block."""
    return f"/ipfs/{cid}?format=raw"


def car(cid: CID, more: str = "") -> str:
    """Return the path that requests a CAR."""
    return f"/ipfs/{cid}?format=car{more}"


def test_blocks_come_as_they_are(repository: Running) -> None:
    """Every block is served under its CID, including blocks that are sent directly from a verified file."""
    for _ in range(2):
        for cid, data in BLOCKS.items():
            assert repository.get(raw(cid)).content == data
        assert repository.get(raw(SMALL_ROOT)).content == SMALL


def test_headers_are_those_of_the_specification(repository: Running) -> None:
    """The response headers declare a block immutable, state its media type, and forbid content sniffing."""
    headers = repository.get(raw(SMALL_ROOT)).headers
    assert headers["Content-Type"] == "application/vnd.ipld.raw"
    assert (
        headers["Content-Disposition"]
        == f"attachment; filename=\"{SMALL_ROOT}.bin\"; filename*=UTF-8''{SMALL_ROOT}.bin"
    )
    assert headers["Cache-Control"] == "public, max-age=29030400, immutable"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Ipfs-Path"] == f"/ipfs/{SMALL_ROOT}"
    assert headers["X-Ipfs-Roots"] == str(SMALL_ROOT)
    assert "Content-Location" not in headers


def test_the_accept_header_will_do(repository: Running) -> None:
    """If the Accept header selects a format, Content-Location contains the URL path that always returns this format."""
    answer = repository.get(f"/ipfs/{SMALL_ROOT}", headers={"Accept": "application/vnd.ipld.raw"})
    assert answer.content == SMALL
    assert (answer.headers["Content-Location"], answer.headers["Vary"]) == (raw(SMALL_ROOT), "Accept")


@pytest.mark.parametrize(
    "path", [raw(ROOT), raw(SMALL_ROOT), car(ROOT), car(ROOT, "&car-dups=y"), "/ipfs/bafkqaaa?format=raw"]
)
def test_head_is_get_without_the_body(repository: Running, path: str) -> None:
    """HEAD has the same status and headers as GET, including the length, and no body."""
    got, asked = repository.get(path), repository.get(path, method="HEAD")
    assert (asked.status_code, asked.content) == (got.status_code, b"")
    assert {**asked.headers, "Date": ""} == {**got.headers, "Date": ""}
    assert int(asked.headers["Content-Length"]) == len(got.content)


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-0", 206, SMALL[:1]),
        ("bytes=10-19", 206, SMALL[10:20]),
        ("bytes=2990-", 206, SMALL[2990:]),
        ("bytes=-7", 206, SMALL[-7:]),
        ("bytes=-99999", 206, SMALL),
        ("bytes=2999-99999999999", 206, SMALL[2999:]),
        ("bytes=0-1,5-6", 200, SMALL),
        ("bytes=9-3", 200, SMALL),
        ("lines=1-2", 200, SMALL),
        ("bytes=3000-", 416, None),
        ("bytes=-0", 416, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_ranges(repository: Running, asked: str, status: int, expected: bytes | None) -> None:
    """A single byte range is served. A range outside the block is refused. Other Range headers are ignored."""
    for _ in range(2):
        answer = repository.get(raw(SMALL_ROOT), headers={"Range": asked})
        assert answer.status_code == status
        if expected is None:
            assert answer.headers["Content-Range"] == "bytes */3000"
        else:
            assert answer.content == expected


def test_a_range_of_something_else_is_the_whole(repository: Running) -> None:
    """If-Range with a different ETag returns the whole block."""
    etag = repository.get(raw(SMALL_ROOT)).headers["ETag"]
    assert repository.get(raw(SMALL_ROOT), headers={**TEN, "If-Range": etag}).content == SMALL[10:20]
    assert repository.get(raw(SMALL_ROOT), headers={**TEN, "If-Range": '"other"'}).content == SMALL
    assert repository.get(raw(SMALL_ROOT), headers=TEN, method="HEAD").status_code == 200


@pytest.mark.parametrize(
    "path", [raw(SMALL_ROOT), car(ROOT), car(ROOT, "&dag-scope=block")], ids=["raw", "car", "block"]
)
def test_what_a_client_has_is_not_sent_again(repository: Running, path: str) -> None:
    """If-None-Match with the ETag, weak or strong, or with ``*`` is answered with status 304."""
    etag = repository.get(path, method="HEAD").headers["ETag"]
    for validator in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = repository.get(path, headers={"If-None-Match": validator})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
    assert repository.get(path, headers={"If-None-Match": '"x"'}, method="HEAD").status_code == 200


def test_each_form_has_its_own_validator(repository: Running) -> None:
    """The formats of an image have different ETags, so that caches do not confuse the formats."""
    forms = [raw(ROOT), *(car(ROOT, more) for more in ("", "&car-dups=y", "&dag-scope=block", "&entity-bytes=0:1"))]
    assert len({repository.get(path, method="HEAD").headers["ETag"] for path in forms}) == len(forms)


def blocks_in(repository: Running, more: str) -> list[CID]:
    """Return the CIDs of a CAR's blocks in order, after verifying each block."""
    answer = repository.get(car(ROOT, more))
    assert answer.headers["Content-Type"].startswith("application/vnd.ipld.car; version=1; order=dfs; dups=")
    return block_addresses(answer.content)


def test_cars_are_what_the_client_asked_for(repository: Running) -> None:
    """A CAR is served with or without duplicate blocks, for the root block alone, and for a byte range."""
    leaves = [CID.of(RAW, IMAGE[at : at + CHUNK_SIZE]) for at in range(0, len(IMAGE), CHUNK_SIZE)]
    assert blocks_in(repository, "&car-dups=y") == [ROOT, *leaves]
    assert blocks_in(repository, "&dag-scope=entity") == [ROOT, *dict.fromkeys(leaves)]
    assert blocks_in(repository, "&dag-scope=block") == [ROOT]
    assert blocks_in(repository, "&entity-bytes=0:0") == [ROOT, leaves[0]]
    assert blocks_in(repository, f"&entity-bytes={CHUNK_SIZE - 1}:{CHUNK_SIZE}") == [ROOT, *leaves[:2]]
    assert blocks_in(repository, "&entity-bytes=-2:*") == [ROOT, leaves[4]]
    assert blocks_in(repository, "&entity-bytes=99999999:*") == [ROOT]
    # With another dag-scope the byte range is ignored, as in Kubo (tests/peers/kubo/test_repository.py).
    assert blocks_in(repository, "&dag-scope=all&entity-bytes=0:0") == [ROOT, *dict.fromkeys(leaves)]
    assert blocks_in(repository, "&dag-scope=block&entity-bytes=0:0") == [ROOT]


def test_a_leaf_is_a_car_too(repository: Running) -> None:
    """A leaf block can be requested as the root of a CAR."""
    leaf = next(cid for cid in BLOCKS if cid.codec == RAW)
    content = repository.get(car(leaf)).content
    assert [block.cid for block in read_car([content], leaf, size=MAX_BLOCK_SIZE, earlier=lambda _: None)] == [leaf]


def test_our_own_fetch_gets_the_image(repository: Running, tmp_path: Path) -> None:
    """The client in `blockota.stores` downloads an image from a repository."""
    with (tmp_path / "image").open("w+b") as file:
        FileFetch(ROOT, [Source(repository.url)], size=len(IMAGE), into=FileDestination(file)).run()
    assert (tmp_path / "image").read_bytes() == IMAGE


def test_the_probe_is_answered(repository: Running) -> None:
    """The gateway probe, which requests the CID of an empty block, is answered as a raw block and as a CAR."""
    assert (
        repository.get("/ipfs/bafkqaaa?format=raw").status_code,
        repository.get("/ipfs/bafkqaaa?format=raw").content,
    ) == (200, b"")
    assert (
        repository.get("/ipfs/bafkqaaa?format=car").content[1:]
        == b"\xa2\x65roots\x81\xd8\x2a\x45\x00\x01\x55\x00\x00\x67version\x01"
    )
    assert repository.get("/ipfs/bafkqaaa?format=car").content[0] == 25


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (f"/ipfs/{SMALL_ROOT}", "", 400),
        (f"/ipfs/{SMALL_ROOT}", "*/*", 400),
        (f"/ipfs/{SMALL_ROOT}", "text/html", 406),
        (f"/ipfs/{SMALL_ROOT}?format=tar", "*/*", 406),
        (f"/ipfs/{SMALL_ROOT}", "application/vnd.ipld.car; version=2", 406),
        (car(SMALL_ROOT, "&car-version=2"), "*/*", 406),
        (car(SMALL_ROOT, "&car-order=bfs"), "*/*", 406),
        (car(SMALL_ROOT, "&dag-scope=some"), "*/*", 400),
        (car(SMALL_ROOT, "&entity-bytes=1"), "*/*", 400),
        (raw(SECRET_ROOT), "*/*", 404),
        (car(SECRET_ROOT), "*/*", 404),
        (raw(CID(DAG_PB, SMALL_ROOT.digest)), "*/*", 404),
        ("/ipfs/bnothing?format=raw", "*/*", 400),
        ("/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG?format=raw", "*/*", 404),
        (f"/ipfs/{SMALL_ROOT}/manifest.json?format=raw", "*/*", 400),
        (f"/ipns/{SMALL_ROOT}?format=raw", "*/*", 404),
        ("/", "*/*", 404),
    ],
    ids=range(17),
)
def test_refusals_have_a_status_and_a_sentence(repository: Running, path: str, accept: str, status: int) -> None:
    """A refusal has a status and a one-line plain text, and must not be cached."""
    answer = repository.get(path, headers={"Accept": accept})
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.text.endswith(".\n")


def test_only_reading_is_possible(repository: Running) -> None:
    """Methods other than GET, HEAD and OPTIONS are refused with status 405."""
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
        answer = repository.get(raw(SMALL_ROOT), method=method)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_a_browser_may_read_from_any_page(repository: Running) -> None:
    """Every response has the CORS headers, and a preflight request is answered without content."""
    for path in (raw(SMALL_ROOT), car(ROOT), raw(SECRET_ROOT), "/health", "/"):
        headers = repository.get(path, headers={"Origin": "https://page.example"}).headers
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "Content-Range" in headers["Access-Control-Expose-Headers"]
    asked = {"Origin": "https://page.example", "Access-Control-Request-Headers": "authorization, range"}
    answer = repository.get(raw(SMALL_ROOT), method="OPTIONS", headers=asked)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    assert {"Authorization", "Range"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fw%201.2.bin", "attachment; filename=\"fw 1.2.bin\"; filename*=UTF-8''fw%201.2.bin"),
        ("a%22%0d%0aX%3a%20b%c3%bc", "attachment; filename=\"a___X_ b_\"; filename*=UTF-8''a%22%0D%0AX%3A%20b%C3%BC"),
        ("..%2f..%2fetc", "attachment; filename=\".._.._etc\"; filename*=UTF-8''..%2F..%2Fetc"),
    ],
)
def test_the_request_names_the_file(repository: Running, name: str, expected: str) -> None:
    """The `filename` parameter sets the name in Content-Disposition, where unsafe characters are replaced."""
    for path in (raw(SMALL_ROOT), car(ROOT)):
        assert repository.get(f"{path}&filename={name}").headers["Content-Disposition"] == expected


def test_a_missing_file_is_not_cached_by_a_proxy(repository: Running) -> None:
    """With `Cache-Control: only-if-cached`, a published file is served; for other files, the status is 412."""
    headers = {"Cache-Control": "only-if-cached"}
    assert repository.get(raw(SECRET_ROOT), headers=headers).status_code == 412
    assert repository.get(raw(SMALL_ROOT), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "/ipfs/../store/blocks",
        f"/ipfs/%2e%2e/{SECRET_ROOT}",
        f"/ipfs/..%2f..%2fpins%2f{SECRET_ROOT}",
        f"/ipfs/{SECRET_ROOT}%00?format=raw",
        f"/ipfs/{str(SECRET_ROOT).upper()}?format=raw",
        f"//{SECRET_ROOT}?format=raw",
        f"/ipfs//{SECRET_ROOT}?format=raw",
        f"/IPFS/{SECRET_ROOT}?format=raw",
        f"/ipfs/{SMALL_ROOT}/../{SECRET_ROOT}?format=raw",
        f"/ipfs/{'b' * 9000}?format=raw",
        "/ipfs/\xff\xfe",
        f"http://elsewhere/ipfs/{SECRET_ROOT}?format=raw",
    ],
    ids=range(12),
)
def test_no_path_leads_out_of_the_catalogue(repository: Running, target: str) -> None:
    """Paths that try to reach unpublished files are refused, and no byte of such a file is sent."""
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1")
    answer = repository.say(request)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404"), answer[:100]
    assert SECRET not in answer


def test_health_is_for_machines(repository: Running) -> None:
    """``/health`` returns the number of releases and of missing images as JSON."""
    answer = repository.get("/health")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (answer.json()["status"], answer.json()["releases"], answer.json()["missing"]) == ("ok", 3, {})
