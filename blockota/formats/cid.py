"""Content addresses (CIDs), and the UnixFS DAG of a file.

The DAG follows the profile ``unixfs-v1-2025`` (IPIP-499), which uses CIDv1, SHA2-256, raw leaves of 1 MiB, and a
balanced tree of inner nodes with at most 1024 links. A file of at most 1 MiB is a single raw block, so the
digest in the file's CID is the SHA-256 of the file.

The reader accepts only the canonical form of the profile: it encodes the links of an inner block again, and compares
the bytes.

Sources: CID specification (github.com/multiformats/cid), DAG-PB specification (ipld.io/specs/codecs/dag-pb/spec),
UnixFS specification (specs.ipfs.tech/unixfs).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from blockota.errors import Action, ContentError, HashMismatchError, UsageError

CHUNK_SIZE = 1 << 20
"""Size in bytes of a full leaf block."""
MAX_LINKS = 1024
"""Largest number of links in an inner block."""
RAW, DAG_PB = 0x55, 0x70
"""Multicodec numbers of leaf and inner blocks."""
_SHA2_256 = b"\x12\x20"  # multihash prefix: function code and digest length
_BINARY_SIZE = 36
_TEXT_SIZE_V0 = 46
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# Field numbers of DAG-PB (PBNode, PBLink) and of UnixFS (Data), and the protobuf wire type of bytes.
_NODE_DATA, _NODE_LINK = 1, 2
_LINK_HASH, _LINK_NAME, _LINK_TOTAL_SIZE = 1, 2, 3
_FILE_BLOCK_SIZE = 4
_UNIXFS_FILE = 2
_LENGTH_DELIMITED = 2
_VARINT_BITS, _VARINT_MORE, _VARINT_MAX_SHIFT = 0x7F, 0x80, 56
_MAX_DEPTH = 8
_MAX_INNER_SIZE = 1 << 17


@dataclass(frozen=True, slots=True)
class CID:
    """A CIDv1 with a SHA2-256 digest.

    Attributes:
        codec: `RAW` or `DAG_PB`.
        digest: the 32 bytes of the block's SHA-256.

    Examples:
        >>> cid = CID.parse("bafkreiacaaur7a3srol7rnqdeeebzsuh5hkdxp4wt7ot4acde6km3isq3m")
        >>> cid == network.fetch("acme-thermo2", "1.0.0").release.cid
        True
    """

    codec: int
    digest: bytes

    def __bytes__(self) -> bytes:
        """The binary form of the CID, 36 bytes."""
        return bytes((1, self.codec)) + _SHA2_256 + self.digest

    def __str__(self) -> str:
        """The text form of the CID: multibase prefix ``b``, then base32 in lower case without padding (RFC 4648)."""
        return _base32(bytes(self))

    @classmethod
    def decode(cls, raw: bytes) -> CID:
        """Decode the binary form of a CID.

        Raises:
            ContentError: the bytes are not a CIDv1 with the SHA2-256 of a raw or dag-pb block.
        """
        if len(raw) == _BINARY_SIZE and raw[0] == 1 and raw[1] in (RAW, DAG_PB) and raw[2:4] == _SHA2_256:
            return cls(raw[1], raw[4:])
        raise ContentError(
            f"the content address 0x{raw[:40].hex()} cannot be used",
            why="only CIDv1 with SHA2-256 over a raw or dag-pb block is supported",
        )

    @classmethod
    def parse(cls, text: str) -> CID:
        """Parse the base32 text form of a CID.

        Raises:
            UsageError: the text is not base32, or not in canonical form.
            ContentError: the CID is of an unsupported kind, as in `decode`.
        """
        try:
            raw = base64.b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8))
        except ValueError:
            raw = b""

        if not raw or _base32(raw) != text:
            raise UsageError(
                f"{text!r} is not a CID",
                why="a CIDv1 in base32 begins with 'b' and consists of the characters a-z and 2-7",
                remedy="copy the CID from the release, or compute it from the file",
                action=Action.COMPUTE_CONTENT_ADDRESS,
            )
        return cls.decode(raw)

    @classmethod
    def parse_any(cls, text: str) -> CID:
        """Parse a CIDv1 with any common multibase prefix (b, B, f, F, k, K, u, U, z), or a CIDv0 in base58.

        Raises:
            UsageError: the text is not a CID in one of these bases.
            ContentError: the CID is of an unsupported kind, as in `decode`.
        """
        if text.startswith("B"):
            return cls.parse(text.lower())
        # The longest form, base16, has two characters for a byte.
        decode = _BASES.get(text[:1]) if len(text) <= 1 + 2 * _BINARY_SIZE else None
        try:
            if len(text) == _TEXT_SIZE_V0 and text.startswith("Qm"):
                return cls.decode(bytes((1, DAG_PB)) + _from_digits(text))
            return cls.decode(decode(text[1:])) if decode else cls.parse(text)
        except ValueError:
            return cls.parse(text)  # raises the error

    @classmethod
    def of(cls, codec: int, block: bytes) -> CID:
        """Compute the CID of a block."""
        return cls(codec, hashlib.sha256(block).digest())


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a DAG, and its CID."""

    cid: CID
    data: bytes


@dataclass(frozen=True, slots=True)
class DagLink:
    """A link to a child block.

    Attributes:
        cid: the child's CID.
        total_size: size in bytes of the child and of all blocks below the child (DAG-PB ``Tsize``).
        file_size: size in bytes of the file data in and below the child (UnixFS ``blocksizes``).
    """

    cid: CID
    total_size: int
    file_size: int


def dag(stream: BinaryIO) -> Iterator[Block]:
    """Yield the blocks of a file's DAG. Children come before parents, and the root comes last.

    The function stores one chunk and the links of one path through the tree in memory, whatever the file's size.
    """
    levels: list[list[DagLink]] = [[]]  # the open links by height, leaves first
    # An empty file has one empty chunk.
    for chunk in chain([_read_chunk(stream)], iter(lambda: _read_chunk(stream), b"")):
        leaf = Block(CID.of(RAW, chunk), chunk)
        yield leaf
        levels[0].append(DagLink(leaf.cid, len(chunk), len(chunk)))
        # A node with the maximum number of links is closed. This adds a link to the node above, which may also be full.
        for height, links in enumerate(levels):
            if len(links) < MAX_LINKS:
                break
            yield _close(levels, height)

    # At the end, every open node is closed. A single link at the top does not get a node: its block is the root.
    for height, links in enumerate(levels):
        is_top = height == len(levels) - 1
        if links and not (is_top and len(links) == 1):
            yield _close(levels, height)


def cid_of(stream: BinaryIO) -> CID:
    """Compute the CID of a file."""
    root = None
    for block in dag(stream):
        root = block.cid
    if root is None:
        raise AssertionError("a DAG has at least one block")
    return root


def read_file(root: CID, fetch: Callable[[CID], bytes]) -> Iterator[bytes]:
    """Yield a file's bytes in order. Each block from `fetch` is verified before its bytes are yielded.

    Raises:
        ContentError: a block does not match its CID, or is not part of a UnixFS file.
    """
    return (block.data for block in walk(root, fetch) if block.cid.codec == RAW)


def walk(root: CID, fetch: Callable[[CID], bytes]) -> Iterator[Block]:
    """Yield all blocks of a file, depth first from the root. Each block is verified before it is yielded.

    If several links lead to a block, the block is fetched and yielded once for each link. The yielded raw blocks,
    joined in order, are the bytes of the file.

    Args:
        root: the file's content address.
        fetch: returns the untrusted bytes of a block.

    Raises:
        ContentError: a block does not match its CID, or is not part of a UnixFS file.
    """
    yield from _walk(DagLink(root, 0, -1), fetch, depth=0)


def read_links(block: Block) -> list[DagLink]:
    """Decode the links of an inner block, at most `MAX_LINKS`, in file order.

    Raises:
        ContentError: the block is not in the canonical form of the profile (DAG-PB specification, "Serial Format").
    """
    cid, data = block.cid, block.data
    if len(data) > _MAX_INNER_SIZE:
        raise _not_a_file(cid, f"an inner block of {len(data)} bytes is larger than the profile allows")
    named, sizes = [], []
    try:
        for number, value in _fields(data):
            if number == _NODE_LINK:
                parts = dict(_fields(value))
                named.append((CID.decode(parts[_LINK_HASH]), int.from_bytes(parts[_LINK_TOTAL_SIZE])))
            else:
                sizes = [int.from_bytes(size) for key, size in _fields(value) if key == _FILE_BLOCK_SIZE]
        links = [DagLink(child, total, size) for (child, total), size in zip(named, sizes, strict=True)]
    except (LookupError, ValueError) as error:
        raise _not_a_file(cid, "its inner block cannot be read") from error
    # Encoding the links again must give the same bytes. Otherwise, one file could have several addresses.
    if not 0 < len(links) <= MAX_LINKS or not all(link.file_size for link in links) or _encode_inner(links) != data:
        raise _not_a_file(cid, "its inner block is not in the profile's form")
    return links


def check_block(cid: CID, data: bytes) -> bytes:
    """Return `data` if it hashes to `cid`.

    Raises:
        HashMismatchError: the SHA-256 of `data` is not the digest in `cid`.
    """
    if hashlib.sha256(data).digest() == cid.digest:
        return data
    raise HashMismatchError(
        f"the block {cid} is corrupt",
        why="the bytes do not hash to the block's CID",
        remedy="store the image again, or fetch it from another source",
    )


def varint(number: int) -> bytes:
    """Encode an unsigned varint (multiformats, protobuf) with 7 bits per byte, low bits first."""
    out = bytearray()
    while number > _VARINT_BITS:
        out.append(number & _VARINT_BITS | _VARINT_MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


def _from_digits(text: str, digits: str = _BASE58) -> bytes:
    """Decode a base58btc or base36 number to bytes. Each leading zero digit is decoded to one leading zero byte."""
    value = 0
    for letter in text:
        value = value * len(digits) + digits.index(letter)
    zeros = len(text) - len(text.lstrip(digits[0]))
    return bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8, "big")


_BASES: dict[str, Callable[[str], bytes]] = {
    **dict.fromkeys("fF", bytes.fromhex),
    **dict.fromkeys("kK", lambda text: _from_digits(text.lower(), _BASE36)),
    "u": lambda text: base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True),
    "U": lambda text: base64.b64decode(text, altchars=b"-_", validate=True),
    "z": _from_digits,
}
"""Decoders by multibase prefix (github.com/multiformats/multibase). Base32 is not in the table: `CID.parse` decodes it.
"""


def _base32(raw: bytes) -> str:
    return "b" + base64.b32encode(raw).decode().rstrip("=").lower()


def _read_chunk(stream: BinaryIO) -> bytes:
    """Read one whole chunk, even if a pipe or socket returns fewer bytes than requested."""
    chunk = stream.read(CHUNK_SIZE)
    while 0 < len(chunk) < CHUNK_SIZE and (more := stream.read(CHUNK_SIZE - len(chunk))):
        chunk += more
    return chunk


def _close(levels: list[list[DagLink]], height: int) -> Block:
    """Encode the open links of one level as an inner block, and add a link to the level above."""
    if height == len(levels) - 1:
        levels.append([])
    links, levels[height] = levels[height], []
    data = _encode_inner(links)
    block = Block(CID.of(DAG_PB, data), data)
    total = len(data) + sum(link.total_size for link in links)
    levels[height + 1].append(DagLink(block.cid, total, sum(link.file_size for link in links)))
    return block


def _encode_inner(links: list[DagLink]) -> bytes:
    """Encode a PBNode.

    The links come before the data, although the links have the higher field number (DAG-PB, "Serial Format").

    The data is a UnixFS message with the fields Type (1, File), filesize (3) and blocksizes (4).
    """
    encoded = bytearray()
    for link in links:
        total_size = b"\x18" + varint(link.total_size)
        encoded += _field(_NODE_LINK, _field(_LINK_HASH, bytes(link.cid)) + _field(_LINK_NAME, b"") + total_size)
    sizes = b"".join(b"\x20" + varint(link.file_size) for link in links)
    file_size = b"\x18" + varint(sum(link.file_size for link in links))
    return bytes(encoded) + _field(_NODE_DATA, bytes((0x08, _UNIXFS_FILE)) + file_size + sizes)


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + varint(len(value)) + value


def _walk(link: DagLink, fetch: Callable[[CID], bytes], *, depth: int) -> Iterator[Block]:
    block = Block(link.cid, check_block(link.cid, fetch(link.cid)))
    children = read_links(block) if link.cid.codec == DAG_PB else []
    size = sum(child.file_size for child in children) if children else len(block.data)
    if link.file_size not in (-1, size):  # -1: the root, which has no parent that records its size
        raise _not_a_file(link.cid, f"it has {size} bytes, and its parent records {link.file_size}")
    # The tree of the largest file has fewer levels. A deeper tree could exhaust the stack.
    if children and depth == _MAX_DEPTH:
        raise _not_a_file(link.cid, f"its tree is deeper than {_MAX_DEPTH}")
    yield block
    for child in children:
        yield from _walk(child, fetch, depth=depth + 1)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ⟨field number, value⟩ for each field of a protobuf message. The value of a varint is 8 big-endian bytes."""
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        value, position = _read_varint(data, position)
        if tag & 7 == _LENGTH_DELIMITED:
            position += value
            yield tag >> 3, data[position - value : position]
        else:
            yield tag >> 3, value.to_bytes(8)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & _VARINT_BITS) << shift
        position, shift = position + 1, shift + 7
        if byte < _VARINT_MORE:
            return value, position
        # Without a limit, a number in a hostile block could be as long as the block.
        if shift > _VARINT_MAX_SHIFT:
            raise ValueError("a varint of more than 9 bytes")


def _not_a_file(cid: CID, why: str) -> ContentError:
    return ContentError(f"{cid} is not a readable file", why=why)
