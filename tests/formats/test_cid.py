"""CIDs equal Kubo's published vectors, and files are read back from their DAGs."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import ContentError, UsageError
from blockota.formats.cid import CHUNK_SIZE, CID, DAG_PB, MAX_LINKS, RAW, Block, check_block, cid_of, dag, read_file

HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
EMPTY = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
LEAF = bytes(CHUNK_SIZE)
SIZES = (1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 2 * CHUNK_SIZE + 7)
any_cid = st.builds(CID, st.sampled_from((RAW, DAG_PB)), st.binary(min_size=32, max_size=32))


class Zeros:
    """Many zeros, then a tail."""

    def __init__(self, size: int, tail: bytes) -> None:
        """Start at the first zero."""
        self._left, self._tail = size, tail

    def read(self, size: int) -> bytes:
        """The next bytes."""
        zeros, self._left = min(size, self._left), self._left - min(size, self._left)
        part = LEAF[:zeros] or self._tail
        self._tail = self._tail if zeros else b""
        return part


def blocks_of(data: bytes) -> list[Block]:
    """Return the DAG of some bytes."""
    return list(dag(io.BytesIO(data)))


def read_back(blocks: list[Block]) -> bytes:
    """Read the file from its blocks; the last block is the root."""
    held = {block.cid: block.data for block in blocks}
    return b"".join(read_file(blocks[-1].cid, held.__getitem__))


@pytest.mark.parametrize(("data", "cid"), [(b"hello world", HELLO), (b"", EMPTY)])
def test_small_vectors(data: bytes, cid: str) -> None:
    """A small file has the CID that Kubo computes."""
    assert str(cid_of(io.BytesIO(data))) == cid


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_the_leaf(size: int) -> None:
    """A file of up to 1 MiB is one raw block, and a larger file is a tree; both are read back."""
    data = os.urandom(size)
    blocks = blocks_of(data)
    leaves = -(-size // CHUNK_SIZE)
    assert [block.cid.codec for block in blocks] == [RAW] * leaves + [DAG_PB] * (leaves > 1)
    assert read_back(blocks) == data


def test_the_digest_of_one_block_is_the_sha256_of_the_file() -> None:
    """The CID of a small image contains the SHA-256 digest that the chain records."""
    data = os.urandom(CHUNK_SIZE)
    assert cid_of(io.BytesIO(data)).digest == hashlib.sha256(data).digest()


@settings(max_examples=20, deadline=None)
@given(seed=st.binary(max_size=64), size=st.integers(0, 3 * CHUNK_SIZE + 1))
def test_every_file_is_read_back(seed: bytes, size: int) -> None:
    """Any file is read back from its DAG, and each block matches its CID."""
    data = hashlib.shake_128(seed).digest(size)
    blocks = blocks_of(data)
    assert read_back(blocks) == data
    assert all(CID.of(block.cid.codec, block.data) == block.cid for block in blocks)


def test_a_tree_of_three_levels_is_read_back() -> None:
    """A file of 1025 leaves has two inner blocks below its root and is read in order."""
    held: dict[CID, bytes] = {}
    for block in dag(cast("BinaryIO", Zeros(MAX_LINKS * CHUNK_SIZE, tail=b"the end"))):
        held[block.cid] = block.data
        root = block.cid
    *leaves, last = read_file(root, held.__getitem__)
    assert (len(held), last) == (5, b"the end")
    assert leaves == [LEAF] * MAX_LINKS


@pytest.mark.parametrize("size", [0, 10, CHUNK_SIZE + 100_000])
def test_a_pipe_has_the_address_of_the_file(size: int) -> None:
    """Short reads from a pipe do not change the CID of a file."""
    data = os.urandom(size)
    reader, writer = os.pipe()
    thread = threading.Thread(target=write_slowly, args=(writer, data))
    thread.start()
    with open(reader, "rb", buffering=0) as stream:  # noqa: PTH123 - a descriptor has no path
        assert cid_of(cast("BinaryIO", stream)) == cid_of(io.BytesIO(data))
    thread.join()


def write_slowly(descriptor: int, data: bytes) -> None:
    """Write the data to a pipe in pieces of 40,009 bytes, and close the pipe."""
    with open(descriptor, "wb", buffering=0) as pipe:
        pipe.writelines(data[start : start + 40_009] for start in range(0, len(data), 40_009))


@given(any_cid)
def test_both_forms_of_an_address_are_inverse(cid: CID) -> None:
    """A CID is read back from its text and from its bytes."""
    assert CID.parse(str(cid)) == CID.parse_any(str(cid)) == cid
    assert CID.decode(bytes(cid)) == cid


def wrong_texts() -> Iterator[str]:
    """Yield invalid texts that resemble a CID."""
    yield from ("", "b", "bafy", HELLO.upper(), f" {HELLO}", HELLO[:-1], f"{HELLO}a", HELLO.replace("f", "1"))
    yield from (HELLO[:-1] + "f", "z" + HELLO[1:], HELLO[:-1] + "é", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG")


@pytest.mark.parametrize("text", wrong_texts())
def test_a_text_that_is_not_an_address_is_refused(text: str) -> None:
    """Mistyped CIDs and CIDs in other encodings are refused with a reason."""
    with pytest.raises((UsageError, ContentError)) as refused:
        CID.parse(text)
    assert refused.value.why


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(36),
        b"\x01\x55\x12\x20" + bytes(31),
        b"\x01\x55\x12\x20" + bytes(33),
        b"\x02\x55\x12\x20" + bytes(32),
        b"\x01\x71\x12\x20" + bytes(32),
        b"\x01\x55\x1b\x20" + bytes(32),
        b"\x01\x55\x12\x1f" + bytes(32),
    ],
)
def test_other_kinds_of_address_are_refused(raw: bytes) -> None:
    """A CID with another version, codec, hash function or length is refused; the error shows its bytes."""
    with pytest.raises(ContentError, match=f"0x{raw.hex()} cannot be used"):
        CID.decode(raw)


@given(data=st.binary(min_size=1, max_size=200), bit=st.integers(0, 1599))
def test_a_block_is_known_by_every_bit(data: bytes, bit: int) -> None:
    """A block with a flipped bit does not match its CID."""
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    assert check_block(CID.of(RAW, data), data) == data
    with pytest.raises(ContentError, match="corrupt"):
        check_block(CID.of(RAW, data), bytes(changed))


FORMS = [
    "bafybeihemmn74agfg5l5rhehyzxnue6th266t4qubin42hnrkaxzeb7kqa",
    "BAFYBEIHEMMN74AGFG5L5RHEHYZXNUE6TH266T4QUBIN42HNRKAXZEB7KQA",
    "f01701220e4631bfe00c53757d89c87c66eda13d33ebde9f2140a1bcd1db1502f9207ea80",
    "F01701220E4631BFE00C53757D89C87C66EDA13D33EBDE9F2140A1BCD1DB1502F9207EA80",
    "uAXASIORjG_4AxTdX2JyHxm7aE9M-venyFAobzR2xUC-SB-qA",
    "UAXASIORjG_4AxTdX2JyHxm7aE9M-venyFAobzR2xUC-SB-qA",
    "zdj7WkoRgoAhuNUuD5o4f4jxMQFdGXEDdSvGZ6JLEJQLV1kGo",
    "k2jmtxx217dq1nb2zwnm8seey9x28op13t18cx4ke31a9sii9v59kvpc",
    "K2JMTXX217DQ1NB2ZWNM8SEEY9X28OP13T18CX4KE31A9SII9V59KVPC",
]
"""One CID in the forms that Kubo 0.43 accepts and resolves to the same block."""


def test_a_cid_is_read_in_any_usual_base() -> None:
    """A CID is parsed from base16, base32, base36, base58btc and base64url; other texts are refused."""
    assert {CID.parse_any(form) for form in FORMS} == {CID.parse(FORMS[0])}
    digest = hashlib.sha256(b"a block").digest()
    for text in (
        "",
        "b",
        "z",
        "z0OIl",
        "f0",
        "u!",
        "m" + FORMS[4][1:],
        "k2",
        "k!",
        "U" + FORMS[4][1:] + "A",
        "z" * 300,
        "Qm" + "0" * 44,
        "ü",
    ):
        with pytest.raises((UsageError, ContentError)):
            CID.parse_any(text)
    assert CID.parse_any("f" + bytes(CID(RAW, digest)).hex()) == CID(RAW, digest)


def test_a_cid_of_version_0_names_a_dag() -> None:
    """A CIDv0, a multihash in base58, is parsed to a CIDv1 with the codec dag-pb."""
    found = CID.parse_any("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG")
    assert str(found) == "bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34"
