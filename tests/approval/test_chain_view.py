"""Chain view files are read back as written, and malformed files are refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.chain_view import ChainView, SafeState
from blockota.approval.intent import OWNED_REGISTRIES
from blockota.approval.proposal import Proposal
from blockota.approval.signature import from_json as read_signatures
from blockota.approval.transaction_builder import from_builder
from blockota.errors import ProposalError
from blockota.formats.cid import CID
from blockota.formats.cid import RAW as RAW_CODEC
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Product, Region, Release, Status, Version
from blockota.strict_json import load_object
from tests.support.samples import CONTRACT, NOW, PRODUCT, SAFE, code, release_of
from tests.support.sampling import sampled
from tests.support.strategies import addresses, json_values, names, uint64, versions

AGREEMENT = Agreement(
    3, CONTRACT, PRODUCT.name, Version(1, 1, 0), NOW + 60, AgreementStatus.ACCEPTED, "https://broker.example/"
)
VIEW = ChainView(
    chain_id=1337,
    block_number=100,
    block_hash=bytes(range(32)),
    block_time=NOW,
    contract=CONTRACT,
    replication=SAFE,
    safe=SafeState(SAFE, (CONTRACT, SAFE), 2, 7, "1.5.0"),
    products=(replace(PRODUCT, minimum_version=Version(1, 0, 0)),),
    newest=(replace(release_of(code()), previous=Version(1, 0, 0), dag_root=bytes(32)),),
    agreements=(AGREEMENT,),
    contract_owners=(CONTRACT,),
)
RAW = VIEW.to_json()

hashes = st.binary(min_size=32, max_size=32)
products = st.builds(
    Product,
    name=names,
    oem=names,
    chip_id=uint64,
    region=st.builds(Region, uint64, uint64),
    minimum_version=st.none() | versions,
    paired=st.booleans(),
)
releases = st.builds(
    Release,
    product=names,
    version=versions,
    sha256=hashes,
    size=uint64,
    load_address=uint64,
    active_from=uint64,
    chip_id=uint64,
    status=st.sampled_from(Status),
    previous=st.none() | versions,
    dag_root=st.none() | hashes,
)
agreements = st.builds(
    Agreement,
    number=uint64,
    broker=addresses,
    product=names,
    version=versions,
    expires_at=uint64,
    status=st.sampled_from(AgreementStatus),
    uri=st.text(max_size=20),
)
views = st.builds(
    ChainView,
    chain_id=uint64,
    block_number=uint64,
    block_hash=hashes,
    block_time=uint64,
    contract=st.none() | addresses,
    replication=st.none() | addresses,
    registries=st.dictionaries(st.sampled_from(OWNED_REGISTRIES), addresses),
    answers=st.dictionaries(
        st.tuples(addresses, st.binary(max_size=40)), st.none() | st.binary(max_size=40), max_size=3
    ),
    safe=st.builds(
        SafeState, addresses, st.lists(addresses, max_size=4).map(tuple), uint64, uint64, st.just("1.3.0+L2")
    ),
    products=st.lists(products, max_size=3, unique_by=lambda product: product.name).map(tuple),
    newest=st.lists(releases, max_size=3, unique_by=lambda release: release.product).map(tuple),
    agreements=st.lists(agreements, max_size=3, unique_by=lambda agreement: agreement.number).map(tuple),
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every node of a JSON value, the root included."""
    inside: dict[Any, Any] = {}
    if isinstance(value, (dict, list)):
        inside = value if isinstance(value, dict) else dict(enumerate(value))
    return [path, *(place for key, child in inside.items() for place in places(child, (*path, key)))]


def changed(path: tuple[str | int, ...], value: Any) -> bytes:
    """Return the chain view file with the value at one path replaced."""
    root = json.loads(RAW)
    target = root
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return json.dumps(root).encode()


PLACES = places(json.loads(RAW))[1:]


def refusal(raw: bytes) -> str:
    """Return the text of the error that reading a chain view file raises."""
    with pytest.raises(ProposalError) as refused:
        ChainView.from_json(raw)
    assert refused.value.why
    return str(refused.value)


@settings(max_examples=60, deadline=None)
@given(views)
def test_a_file_is_read_back(view: ChainView) -> None:
    """A chain view survives writing and reading, and equal views are written as equal bytes."""
    assert ChainView.from_json(view.to_json()) == view
    assert ChainView.from_json(view.to_json()).to_json() == view.to_json()


def test_entries_are_found_by_name_and_number() -> None:
    """A chain view finds a product, release or agreement by its name or number, and returns None for an unknown key."""
    assert VIEW.product(PRODUCT.name) == VIEW.products[0]
    assert VIEW.newest_of(PRODUCT.name) == VIEW.newest[0]
    assert VIEW.agreement(3) == AGREEMENT
    assert (VIEW.product("other"), VIEW.newest_of("other"), VIEW.agreement(4)) == (None, None, None)


WRONG_VALUES: tuple[Any, ...] = (
    -1,
    1 << 64,
    True,
    "\x1b[2J",
    "x" * 500,
    [[]],
    {"a": 1},
    "0x",
    "1.0",
    "\u202e1.0.0",
    "\ud800",
)


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_wrong_value_is_refused_in_one_sentence(path: tuple[str | int, ...]) -> None:
    """The error for a wrong value names the field, is short, and contains no control characters."""
    names = [key.rstrip("s") for key in path if isinstance(key, str)]
    for value in WRONG_VALUES:
        if path[-1] == "uri" and isinstance(value, str):
            continue  # a broker may choose any URI; the URI is escaped when it is printed
        if (path[-1], value) == ("paired", True) or (path[-1] in ("product", "oem") and value in ("0x", "1.0")):
            continue
        sentence = refusal(changed(path, value))
        assert sentence.startswith(
            ("the file is not a chain view: its field", "the file is of another kind: its format")
        )
        assert sentence.isprintable()
        assert len(sentence) < 250
        assert any(name in sentence for name in names) or "is missing" in sentence


@settings(max_examples=150, deadline=None)
@given(path=st.sampled_from(PLACES), value=json_values)
def test_another_value_is_refused_or_read_as_it_stands(path: tuple[str | int, ...], value: Any) -> None:
    """A chain view file with any replaced value is refused, or is read and written back unchanged."""
    raw = changed(path, value)
    try:
        found = ChainView.from_json(raw)
    except ProposalError:
        return
    assert repr(json.loads(found.to_json())) == repr(json.loads(raw))


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_field_is_refused(path: tuple[str | int, ...]) -> None:
    """A chain view file without one of its fields is refused; a file with one list entry less is accepted."""
    root = json.loads(RAW)
    target = root
    for key in path[:-1]:
        target = target[key]
    del target[path[-1]]
    raw = json.dumps(root).encode()
    if isinstance(path[-1], int):
        ChainView.from_json(raw)
    else:
        assert f"'{path[-1]}' is missing" in refusal(raw) or path[-1] == "format"


@pytest.mark.parametrize("path", [(), ("block",), ("contracts",), ("safe",), ("products", 0), ("newest", 0)], ids=str)
def test_a_field_that_does_not_belong_is_refused(path: tuple[str | int, ...]) -> None:
    """A chain view file with an unknown field is refused."""
    assert "fields that a chain view cannot have" in refusal(changed((*path, "note"), "believe me"))


@pytest.mark.parametrize(("name", "key"), [("products", "product"), ("newest", "product"), ("agreements", "number")])
def test_two_entries_about_one_thing_are_refused(name: str, key: str) -> None:
    """A chain view file with two entries for one product, release or agreement is refused."""
    entry = json.loads(RAW)[name][0]
    assert f"{name} has two entries with the same {key}" in refusal(changed((name,), [entry, entry]))


def test_a_content_address_that_contradicts_the_hash_is_refused() -> None:
    """A chain view is refused if the CID of a release does not contain the SHA-256 digest of the image."""
    sentence = refusal(changed(("newest", 0, "cid"), str(CID(RAW_CODEC, bytes(32)))))
    assert "cid is not the content address of sha256" in sentence


DEEP = b"[" * 400 + b"]" * 400
WRONG_FILES = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "cut": RAW[:-9],
    "two objects": RAW + RAW,
    "a key twice": RAW.replace(b'"nonce": 7', b'"nonce": 7, "nonce": 8'),
    "a key twice by an escape": RAW.replace(b'"nonce": 7', b'"nonce": 7, "n\\u006fnce": 8'),
    "the format twice": RAW.replace(b"{", b'{"format": "blockota-view-2",', 1),
    "a number of 5000 digits": RAW.replace(b'"nonce": 7', b'"nonce": ' + b"7" * 5000),
    "an exponent": RAW.replace(b'"nonce": 7', b'"nonce": 7e0'),
    "a fraction": RAW.replace(b'"nonce": 7', b'"nonce": 7.0'),
    "infinity": RAW.replace(b'"nonce": 7', b'"nonce": Infinity'),
    "no number": RAW.replace(b'"nonce": 7', b'"nonce": NaN'),
    "UTF-16": RAW.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + RAW,
    "no UTF-8": b"\xff" + RAW,
    "nested": RAW.replace(b'"nonce": 7', b'"nonce": ' + DEEP),
    "nested without end": b"[" * 500_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}


@pytest.mark.parametrize("raw", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_that_is_not_a_view_is_refused(raw: bytes) -> None:
    """Bytes that are not a chain view are refused with a printable error."""
    assert refusal(raw).isprintable()


@pytest.mark.parametrize("depth", [33, 300, 470, 950, 5000])
@pytest.mark.parametrize("key", ["meta", "nonce", "safe", "owners", "transactions", "signatures", "intent"])
def test_every_reader_refuses_deep_nesting(depth: int, key: str) -> None:
    """Every file reader refuses JSON that is nested more than 32 levels deep."""
    inner = b'{"a":' * depth + b"[]" + b"}" * depth
    for form in ("blockota-proposal-1", "blockota-view-2", "blockota-signatures-2"):
        raw = b'{"format":"%s","%s":%s}' % (form.encode(), key.encode(), inner)
        for read in (Proposal.from_json, ChainView.from_json, read_signatures, from_builder):
            with pytest.raises(ProposalError) as refused:
                read(raw)
            assert "more than 32 levels" in str(refused.value)


BRACKETS = {
    "in a text": (b'{"a":"' + b"[" * 1000 + b'"}', True),
    "behind an escaped quote": (b'{"a":"\\"' + b"[" * 1000 + b'"}', True),
    "behind an escaped backslash": (b'{"a":"\\\\","b":' + b"[" * 33 + b"]" * 33 + b"}", False),
    "side by side": (b'{"a":[' + b",".join([b"[]"] * 1000) + b"]}", True),
    "at the limit": (b'{"a":' + b"[" * 31 + b"]" * 31 + b"}", True),
    "beyond the limit": (b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", False),
    "in a text without end": (b'{"a":"' + b"[" * 1000, False),
    "many escaped quotes without end": (b'{"a":"' + b'\\"' * 300_000 + b"\\", False),
}


@pytest.mark.parametrize(("raw", "good"), BRACKETS.values(), ids=BRACKETS)
def test_levels_are_counted_as_json_counts_them(raw: bytes, good: bool) -> None:  # noqa: FBT001 - a row of a table
    """JSON with more than 32 levels is refused; brackets inside strings do not count as levels."""
    if good:
        assert load_object(raw) == json.loads(raw)
        return
    with pytest.raises(ProposalError):
        load_object(raw)


def test_a_number_without_end_is_refused_in_words() -> None:
    """JSON with the largest uint256 is accepted; for a number of 10,000 digits, BlockOTA raises its own error."""
    with pytest.raises(ProposalError, match="a number has 10,000 digits"):
        load_object(b'{"value": ' + b"1" * 10_000 + b"}")
    assert load_object(b'{"value": %d}' % (2**256 - 1)) == {"value": 2**256 - 1}


def test_a_raised_recursion_limit_has_no_effect() -> None:
    """Deeply nested JSON is refused even if another library has raised Python's recursion limit."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            with pytest.raises(ProposalError, match="nested"):
                load_object(opening * 150_000 + b"1" + closing * 150_000)
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.sampled
@settings(max_examples=len(sampled(range(200), one_in=4)), deadline=None)
@given(json_values, st.sampled_from([Proposal.from_json, ChainView.from_json, read_signatures, from_builder]))
def test_no_json_is_answered_by_a_traceback(value: Any, read: Any) -> None:
    """Arbitrary JSON, even with one of our format names, is refused with a reason."""
    forms = ("blockota-proposal-1", "blockota-view-2", "blockota-signatures-2", "meta")
    for fields in (value, *({"format": form, **value} for form in forms if isinstance(value, dict))):
        with pytest.raises(ProposalError) as refused:
            read(json.dumps(fields).encode())
        assert refused.value.why


@pytest.mark.sampled
@settings(max_examples=len(sampled(range(200), one_in=4)), deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_no_bytes_are_answered_by_a_traceback(raw: bytes) -> None:
    """Arbitrary bytes are either read as a JSON object or refused."""
    try:
        found = load_object(raw)
    except ProposalError:
        return
    assert found == json.loads(raw)
