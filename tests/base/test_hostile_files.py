"""Hostile files and calldata: terminal escapes, excessive sizes and misleading characters."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_utils.abi import function_abi_to_4byte_selector
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.chain_view import ChainView, SafeState
from blockota.approval.intent import SAFE as SAFE_INTERFACE
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import red_flags
from blockota.approval.signature import from_json as read_signatures
from blockota.approval.signature import sign, to_json
from blockota.approval.transaction_builder import from_builder, to_builder
from blockota.errors import ProposalError, UsageError, plain
from blockota.files import read_input
from blockota.formats.abi import artifact, interface
from blockota.keys import dev_account
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Version
from blockota.strict_json import MAX_FILE_SIZE
from tests.support.samples import CONTRACT, NOW, PRODUCT, SAFE, code, proposal_with, release_of

GIB = 1 << 30
MIB = 1 << 20
OWNER = dev_account(1)
PROPOSAL = proposal_with()
AGREEMENT = Agreement(3, CONTRACT, PRODUCT.name, Version(1, 1, 0), NOW, AgreementStatus.ACCEPTED, "https://x.example/")
VIEW = ChainView(
    chain_id=1337,
    block_number=100,
    block_hash=bytes(32),
    block_time=NOW,
    contract=CONTRACT,
    replication=None,
    safe=SafeState(SAFE, (OWNER.address,), 1, 7, "1.5.0"),
    products=(PRODUCT,),
    newest=(release_of(code()),),
    agreements=(AGREEMENT,),
)
HIDDEN = {
    "a line": "\n",
    "a return": "\r",
    "a backspace": "\b",
    "a colour": "\x1b[31m",
    "a cleared screen": "\x1b[2J\x1b[H",
    "a C1 control": "\x9b2J",
    "a title": "\x1b]0;x\x07",
    "right to left": "\u202e",
    "a right-to-left mark": "\u200f",
    "an Arabic letter mark": "\u061c",
    "an isolate": "\u2067",
    "nothing wide": "\u200b",
    "a soft hyphen": "\u00ad",
    "a byte order mark": "\ufeff",
    "a tag": "\U000e0041",
    "a line separator": "\u2028",
    "a hard space": "\xa0",
    "a private letter": "\ue000",
    "half a pair": "\ud800",
    "a null": "\0",
}
READERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "proposal": (PROPOSAL.to_json(), Proposal.from_json),
    "view": (VIEW.to_json(), ChainView.from_json),
    "signatures": (to_json([sign(PROPOSAL, OWNER)]), read_signatures),
    "Transaction Builder": (to_builder(PROPOSAL), from_builder),
}


def texts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all text values inside a JSON value."""
    if isinstance(value, str):
        return [path]
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, child in inside for place in texts(child, (*path, key))]


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize(("raw", "read"), READERS.values(), ids=READERS)
def test_no_text_field_reaches_a_terminal_unescaped(raw: bytes, read: Callable[[bytes], object], hidden: str) -> None:
    """Control characters in any text field of a file are refused, or escaped when they are printed."""
    kept = {("agreements", 0, "uri"), ("meta", "name"), ("meta", "description")}
    for path in texts(json.loads(raw)):
        root = json.loads(raw)
        root.get("meta", {}).pop("checksum", None)
        target = root
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = f"{'' if path == ('meta', 'checksum') else target[path[-1]]}{hidden}"
        try:
            read(json.dumps(root).encode())
        except ProposalError as refused:
            sentence = str(refused)
        else:
            assert path in kept or path[0] == "meta" or path in {("version",), ("createdAt",)}
            sentence = plain(target[path[-1]])
        assert sentence.isprintable()
        assert hidden not in sentence


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("name", ["reason", "proposer"])
def test_words_of_a_proposer_are_one_plain_line(name: str, hidden: str) -> None:
    """Control and invisible characters are refused anywhere in the reason and the proposer's name."""
    for words in (hidden + "release", f"rel{hidden}ease", "release" + hidden, hidden):
        fields = json.loads(PROPOSAL.to_json()) | {name: words}
        with pytest.raises(ProposalError, match="cannot be shown safely"):
            Proposal.from_json(json.dumps(fields).encode())


nasty = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [letter for letter in HIDDEN.values() if letter != "\ud800"]
)
word = st.binary(min_size=32, max_size=32) | nasty.map(lambda text: text.encode()[:32].ljust(32, b"\0"))
uint64 = st.integers(0, (1 << 64) - 1)
releases = st.fixed_dictionaries(
    {
        "product": word,
        "version": uint64,
        "sha256": word,
        "size": st.integers(0, (1 << 32) - 1),
        "loadAddress": st.integers(0, (1 << 32) - 1),
        "activeFrom": st.integers(0, (1 << 40) - 1),
        "dagRoot": word,
        "manifest": word,
    }
)
called = st.one_of(
    st.tuples(st.just("publish"), st.tuples(st.lists(releases, max_size=3))),
    st.tuples(st.just("revoke"), st.tuples(word, uint64, nasty)),
    st.tuples(st.just("setMinimumVersion"), st.tuples(word, uint64)),
    st.tuples(st.just("unpairOem"), st.tuples(word)),
    st.tuples(
        st.just("pairOem"),
        st.tuples(word, word, st.integers(0, 0xFFFF), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)),
    ),
)


@settings(max_examples=150, deadline=None)
@given(called)
def test_texts_of_the_calldata_are_shown_safely(call: tuple[str, tuple[Any, ...]]) -> None:
    """Texts decoded from calldata are printable in the description and the red flags of a proposal."""
    proposal = proposal_with(data=interface("BlockOTA").encode_call(call[0], *call[1]))
    shown = [value for group in proposal.intent for pair in group.items() for value in pair]
    shown += [flag.what for flag in red_flags(proposal, VIEW, signer=None, now=NOW)]
    assert all(text.isprintable() for text in shown)
    assert Proposal.from_json(proposal.to_json()) == proposal


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["BlockOTA", SAFE_INTERFACE]), st.sampled_from([CONTRACT, SAFE]), st.binary(max_size=200))
def test_any_calldata_is_described(contract: str, target: str, tail: bytes) -> None:
    """Random bytes after the selector of any known function are described in printable text."""
    for entry in artifact(contract)["abi"]:
        if entry["type"] == "function":
            proposal = proposal_with(to=target, data=function_abi_to_4byte_selector(entry) + tail)
            assert all(text.isprintable() for group in proposal.intent for text in group.values())


@pytest.mark.parametrize("read", [read for _, read in READERS.values()], ids=READERS)
def test_a_file_of_a_gibibyte_is_refused_at_once(tmp_path: Path, read: Callable[[bytes], object]) -> None:
    """A file of 1 GiB is refused because of its size, before it is read into memory."""
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(GIB)
    tracemalloc.start()
    with pytest.raises(UsageError, match=f"large.json is too large: files of more than {MAX_FILE_SIZE:,} bytes"):
        read(read_input(path, limit=MAX_FILE_SIZE))
    assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    tracemalloc.stop()


LONG = {
    "spaces": b" " * MAX_FILE_SIZE,
    "zeros": bytes(MAX_FILE_SIZE),
    "digits": b"9" * MAX_FILE_SIZE,
    "a text": b'"' + b"a" * (MAX_FILE_SIZE - 2) + b'"',
    "a list": b"[" + b"0," * (MAX_FILE_SIZE // 2 - 1) + b"0]",
    "keys": b"{" + b",".join(b'"%d":0' % number for number in range(80_000)) + b"}",
    "backslashes": b'{"a":"' + b"\\" * (MAX_FILE_SIZE - 8) + b'"}',
    "a long reason": PROPOSAL.to_json().replace(b"release 1.1.0", b"a" * (MAX_FILE_SIZE - 4000)),
    "long calldata": PROPOSAL.to_json().replace(b'"data": "0x', b'"data": "0x' + b"00" * 400_000),
    "many owners": VIEW.to_json().replace(b'"owners": [', b'"owners": [' + b'"%s",' % SAFE.encode() * 20_000),
    "many signatures": READERS["signatures"][0].replace(
        b'"signatures": [', b'"signatures": [' + b'{"signer":1},' * 70_000
    ),
    "many transactions": READERS["Transaction Builder"][0].replace(
        b'"transactions": [', b'"transactions": [' + b"{}," * 300_000
    ),
}


@pytest.mark.parametrize("raw", LONG.values(), ids=LONG)
def test_the_largest_files_are_answered_soon(raw: bytes) -> None:
    """Parsing a file of the maximum size takes less than 3 seconds of CPU time, whatever it contains."""
    for _, read in READERS.values():
        began = time.process_time()
        with contextlib.suppress(ProposalError):
            read(raw)
        assert time.process_time() - began < 3
