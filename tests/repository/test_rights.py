"""The decisions of a repository about what it may serve, and the parsing of requests, without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import ContentError, UsageError
from blockota.formats.cid import CID, DAG_PB, RAW
from blockota.model.agreement import AgreementStatus
from blockota.model.rights import rights_at
from blockota.repository.request import RefusedRequestError, Wanted, byte_range, has_etag, read_address, read_wanted
from blockota.repository.tokens import Tokens, new_token
from blockota.repository.tree import blocks_for_bytes, read_tree, subtree
from tests.support.fetch_samples import BLOCKS, IMAGE, ROOT, SMALL_ROOT
from tests.support.repository_process import BIG_CLAIM, NOW, SMALL_CLAIM, agreed, revoked

MANIFEST = CID.of(RAW, b"{}")
CAR = "application/vnd.ipld.car"


def test_a_vendor_serves_what_is_not_revoked() -> None:
    """A repository serves images and manifests of active releases, and reports images of revoked releases as gone."""
    rights = rights_at(NOW, [replace(BIG_CLAIM, manifest=MANIFEST), revoked(SMALL_CLAIM)])
    assert (rights.releases, set(rights.roots), set(rights.gone)) == (1, {ROOT, MANIFEST}, {SMALL_ROOT})


def test_a_file_of_two_releases_needs_one_of_them() -> None:
    """An image that is revoked for one product but active for another product is served."""
    rights = rights_at(NOW, [revoked(SMALL_CLAIM), SMALL_CLAIM])
    assert (set(rights.roots), set(rights.gone)) == ({SMALL_ROOT}, set())


def test_an_agreement_ends_at_its_time_on_the_chain() -> None:
    """An agreement ends when the chain's time reaches its expiry; the rights contain the next expiry time."""
    claims = [agreed(SMALL_CLAIM, NOW + 10), agreed(BIG_CLAIM, NOW + 20)]
    assert [rights_at(NOW + wait, claims).releases for wait in (9, 10, 19, 20)] == [2, 1, 1, 0]
    assert [rights_at(NOW + wait, claims).changes_at for wait in (9, 10, 20)] == [NOW + 10, NOW + 20, None]


@pytest.mark.parametrize("status", AgreementStatus, ids=str)
def test_only_accepted_agreements_are_served(status: AgreementStatus) -> None:
    """A broker serves an image only under an accepted agreement; after the agreement has ended, the status is 410."""
    claim = agreed(SMALL_CLAIM, NOW + 9)
    assert claim.agreement
    rights = rights_at(NOW, [replace(claim, agreement=replace(claim.agreement, status=status))])
    assert (SMALL_ROOT in rights.roots) == (status is AgreementStatus.ACCEPTED)
    assert (SMALL_ROOT in rights.gone) == (status in (AgreementStatus.WITHDRAWN, AgreementStatus.TERMINATED))


def test_a_tree_has_every_length_before_a_leaf_is_read() -> None:
    """The sizes of all blocks of a DAG are computed from its inner blocks. No leaf is read."""
    inner = {cid: data for cid, data in BLOCKS.items() if cid.codec != RAW}
    entries = read_tree(ROOT, inner.__getitem__, size=len(IMAGE))
    assert [entry.size for entry in entries] == [len(BLOCKS[entry.cid]) for entry in entries]
    assert (entries[0].stop, subtree(entries, 0), subtree(entries, 2)) == (len(IMAGE), entries, (entries[2],))
    assert blocks_for_bytes(entries, first=entries[3].start, last=entries[3].start) == (entries[0], entries[3])


def test_a_vendor_cannot_make_a_broker_hold_a_monster() -> None:
    """A DAG that is larger than the recorded size, or has too many blocks, is refused."""
    inner = {cid: data for cid, data in BLOCKS.items() if cid.codec != RAW}
    with pytest.raises(ContentError, match="exceeds"):
        read_tree(ROOT, inner.__getitem__, size=len(IMAGE) - 1)
    crumbs, root = crumbled(40)
    with pytest.raises(ContentError, match="too many blocks"):
        read_tree(root, crumbs.__getitem__, size=40)


def crumbled(pieces: int) -> tuple[dict[CID, bytes], CID]:
    """Return the blocks and the root of a DAG with leaves of one byte, encoded without our code."""
    links = b"".join(
        b"\x12\x2a\x0a\x24" + bytes(CID.of(RAW, bytes((number,)))) + b"\x12\x00\x18\x01" for number in range(pieces)
    )
    sizes = b"\x20\x01" * pieces
    inner = b"\x08\x02\x18" + bytes((pieces,)) + sizes
    data = links + b"\x0a" + bytes((len(inner),)) + inner
    root = CID.of(DAG_PB, data)
    return {root: data}, root


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ({"format": "raw"}, "", Wanted(is_car=False)),
        ({"format": "raw"}, CAR, Wanted(is_car=False)),
        ({"format": "car"}, "", Wanted(is_car=True)),
        ({"format": "car"}, f"{CAR}; dups=y", Wanted(is_car=True, repeat=True)),
        ({"format": "car", "car-dups": "n"}, f"{CAR}; dups=y", Wanted(is_car=True)),
        ({"format": "car", "dag-scope": "block"}, "", Wanted(is_car=True, scope="block")),
        ({"format": "car", "entity-bytes": "1:-2"}, "", Wanted(is_car=True, scope="entity", span=(1, -2))),
        ({}, f"{CAR}; order=dfs; dups=y; version=1", Wanted(is_car=True, repeat=True, is_named=False)),
        ({}, f"{CAR};order=foo, {CAR};order=dfs;dups=y;q=0.5", Wanted(is_car=True, repeat=True, is_named=False)),
        ({}, f"{CAR};q=0.1, application/vnd.ipld.raw;q=0.9", Wanted(is_car=False, is_named=False)),
        ({}, f'{CAR};q=0, text/html, APPLICATION/VND.IPLD.RAW;q="1"', Wanted(is_car=False, is_named=False)),
    ],
    ids=range(11),
)
def test_a_form_is_named_by_query_or_header(query: dict[str, str], accept: str, expected: Wanted) -> None:
    """The query parameters take precedence over the Accept header when the format is selected."""
    assert read_wanted(query, accept) == expected


@given(st.dictionaries(st.sampled_from(["format", "car-dups", "dag-scope", "entity-bytes"]), st.text()), st.text())
def test_any_request_is_understood_or_refused(query: dict[str, str], accept: str) -> None:
    """Any query and Accept header are parsed, or refused with status 400 or 406."""
    try:
        read_wanted(query, accept)
    except RefusedRequestError as refusal:
        assert refusal.status in (400, 406)  # noqa: PT017 - most texts are refused


@given(st.text())
def test_any_address_is_read_or_refused(text: str) -> None:
    """Any text is parsed as a CID, or refused with status 400 or 404."""
    try:
        assert str(read_address(text)) == text
    except RefusedRequestError as refusal:
        assert refusal.status in (400, 404)  # noqa: PT017 - most texts are refused


@given(st.one_of(st.text(), st.from_regex(r"bytes=\d{0,20}-\d{0,20}")), st.integers(0, 1 << 21))
def test_any_range_is_inside_or_refused(header: str, size: int) -> None:
    """Any Range header selects a part of the block, is ignored, or is refused with an error that contains the size."""
    try:
        part = byte_range(header, size)
    except RefusedRequestError as refusal:
        assert refusal.headers == {"Content-Range": f"bytes */{size}"}  # noqa: PT017 - as above
    else:
        assert part is None or 0 <= part[0] < part[1] <= size


def test_a_validator_is_found_in_a_list() -> None:
    """An ETag matches itself, a list with it, its weak form, and ``*``."""
    assert [has_etag(text, '"a"') for text in ('"a"', 'W/"a"', '"b", "a"', "*", '"b"', "")] == [True] * 4 + [False] * 2


def test_tokens_are_kept_as_hashes(tmp_path: Path) -> None:
    """The token file contains hashes of tokens. A change of the file takes effect after `reload`."""
    path, (token, line) = tmp_path / "tokens", new_token("plant-7")
    assert token not in line
    path.write_text(line)
    tokens = Tokens(path)
    assert [tokens.holder(value) for value in (f"Bearer {token}", f"bearer {token}", token, "")] == ["plant-7"] * 2 + [
        None
    ] * 2
    path.write_text("")
    assert (tokens.holder(f"Bearer {token}"), tokens.count) == ("plant-7", 1)
    tokens.reload()
    assert (tokens.holder(f"Bearer {token}"), tokens.count) == (None, 0)


@pytest.mark.parametrize("broken", ["plant-8", None], ids=["mistake", "gone"])
def test_a_broken_token_file_refuses_all_clients(tmp_path: Path, broken: str | None) -> None:
    """An invalid token file is tolerated at the first reload; from the second reload on, all tokens are refused."""
    path, (token, line) = tmp_path / "tokens", new_token("plant-7")
    path.write_text(line)
    tokens = Tokens(path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(f"# {line} was stolen\n{broken}\n")
    for holder, count in (("plant-7", 1), (None, 0), (None, 0)):
        tokens.reload()
        assert (tokens.holder(f"Bearer {token}"), tokens.count, bool(tokens.trouble)) == (holder, count, True)
    path.write_text(line)
    tokens.reload()
    assert (tokens.holder(f"Bearer {token}"), tokens.count, tokens.trouble) == ("plant-7", 1, "")


@pytest.mark.parametrize("text", ["plant-7 abc", "plant-7", f"a b {'0' * 64}", f"{'0' * 64}"], ids=range(4))
def test_a_bad_file_of_tokens_is_named(tmp_path: Path, text: str) -> None:
    """The error for an invalid token file contains the line number."""
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n{text}\n")
    with pytest.raises(UsageError, match="line 2"):
        Tokens(path)
    with pytest.raises(UsageError):
        new_token("two words")
