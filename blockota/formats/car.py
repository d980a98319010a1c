"""CARv1: the blocks of one file in one stream.

A CARv1 is a header followed by sections (section "Format Description" of the CARv1 specification). Each section is
``varint length | CID | block``. Blocks come depth first from the root. If several links lead to a block, the stream may
repeat the block (``dups=y``) or not (``dups=n``). The reader accepts both kinds of streams. The reader ignores the
roots in the header, because the caller passes the root.

A CAR stream is untrusted. The reader limits a block to 2 MiB, and all blocks together to the file's size plus
`overhead`. These limits also limit the reading time. The reader stores at most two blocks and the links of one path in
memory.

A CARv1 on a disk can contain several files. `index_car` returns the positions of the blocks, so that a program can read
single blocks from the CARv1.

Sources: CARv1 specification (ipld.io/specs/transport/car/carv1), Trustless Gateway specification
(specs.ipfs.tech/http-gateways/trustless-gateway, section "CAR Responses").
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from blockota.errors import Action, ContentError
from blockota.formats.cid import CID, RAW, Block, varint, walk

MAX_BLOCK_SIZE = 1 << 21
"""Largest accepted block, in bytes."""
_CID_SIZE = 36
_LINK = b"\xd8\x2a\x58\x25\x00"  # DAG-CBOR: tag 42, a byte string of 37 bytes, the multibase prefix of binary
_LINK_SIZE = len(_LINK) + _CID_SIZE
_MAX_HEADER_SIZE = 1 << 12
_MAX_VARINT_SIZE = 4
# The header is DAG-CBOR: a map {roots: [links], version: 1}, in this order of keys.
_HEADER_BEGIN, _HEADER_END = b"\xa2\x65roots", b"\x67version\x01"
_MAX_ROOTS = 23
"""Largest number of roots. The CBOR head of a longer array would have more than one byte (RFC 8949, section 3)."""


@dataclass(frozen=True)
class CarIndex:
    """The positions of the blocks in a file that is a CARv1.

    Attributes:
        roots: the roots in the header.
        places: position and size of each block's bytes. For a repeated block, the last repetition counts.
    """

    roots: tuple[CID, ...]
    places: dict[CID, tuple[int, int]]


def overhead(size: int) -> int:
    """Return by how many bytes a file's blocks may exceed the file's size: 64 KiB plus 2 % of the size."""
    return (1 << 16) + size // 50


def largest_block(cid: CID, *, size: int) -> int:
    """Return the maximum size in bytes of a block in the tree of a file.

    Args:
        cid: the block's CID. Its codec distinguishes leaves from inner blocks.
        size: the file's size in bytes. If the leaf's parent is known, `size` is the leaf's size according to the
            parent.
    """
    return min(size if cid.codec == RAW else overhead(size), MAX_BLOCK_SIZE)


def join_car(roots: Sequence[CID], blocks: Iterable[Block]) -> Iterator[bytes]:
    """Encode blocks as a CARv1 in the given order, without checking them. Yields the stream in pieces.

    Args:
        roots: the roots in the header, at most 23.
        blocks: the blocks, built or checked by the caller.
    """
    header = _encode_header(roots)
    yield varint(len(header)) + header
    for block in blocks:
        yield varint(_CID_SIZE + len(block.data)) + bytes(block.cid)
        yield block.data


def read_car(
    parts: Iterable[bytes], root: CID, *, size: int, earlier: Callable[[CID], bytes | None]
) -> Iterator[Block]:
    """Yield a file's blocks, depth first, from an untrusted CAR stream. Each block is verified before it is yielded.

    Args:
        parts: the stream, in parts of any size.
        root: the file's content address.
        size: the largest accepted file, in bytes.
        earlier: a function that returns the bytes of an already yielded block, or None. `read_car` calls `earlier` if
            the next block in the stream is not the expected block (``dups=n``), and verifies the returned bytes.

    Raises:
        ContentError: the stream is not a depth-first CARv1 of exactly this file, or exceeds the limits.
    """
    sections = _Sections(parts, root, allowed=size + overhead(size))
    left = size
    for block in walk(root, lambda cid: sections.block(cid, earlier)):
        left -= len(block.data) if block.cid.codec == RAW else 0
        if left < 0:
            raise _refused(root, f"its file is larger than the allowed {size} bytes")
        yield block
    sections.check_end()


def index_car(file: BinaryIO, *, most_blocks: int) -> CarIndex:
    """Find the blocks of an untrusted CARv1 in a seekable file, without reading or verifying the blocks.

    Raises:
        ContentError: the file is not a CARv1, is truncated, or has more than `most_blocks` blocks.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    reader = _Reader(file, _no_index)
    header = reader.header()
    links = header[len(_HEADER_BEGIN) + 1 : -len(_HEADER_END)]
    roots = [CID.decode(links[place - _CID_SIZE : place]) for place in range(_LINK_SIZE, len(links) + 1, _LINK_SIZE)]
    if len(roots) > _MAX_ROOTS or _encode_header(roots) != header:
        raise _no_index("it does not begin with the header of a CARv1")

    places: dict[CID, tuple[int, int]] = {}
    for _ in range(most_blocks + 1):
        if (length := reader.section()) is None:
            return CarIndex(tuple(roots), places)
        cid, position, size = CID.decode(reader.exactly(_CID_SIZE)), file.tell(), length - _CID_SIZE
        if position + size > end:
            raise _no_index("it ends inside a section")
        places[cid] = (position, size)
        file.seek(size, io.SEEK_CUR)
    raise _no_index(f"it has more than {most_blocks:,} blocks")


class _Sections:
    """Reads the sections of a CARv1. A block is read only if its section has the requested CID."""

    def __init__(self, parts: Iterable[bytes], root: CID, *, allowed: int) -> None:
        self._root, self._allowed = root, allowed
        self._stream = _Stream(parts)
        self._reader = _Reader(self._stream, self._refused)
        self._next: tuple[CID, int] | None = None
        self._reader.header()

    def block(self, wanted: CID, earlier: Callable[[CID], bytes | None]) -> bytes:
        """Return the wanted block: from the next section if its CID matches, otherwise from `earlier`."""
        if self._next is None and (length := self._reader.section()) is not None:
            self._next = CID.decode(self._reader.exactly(_CID_SIZE)), length - _CID_SIZE
        if self._next and self._next[0] == wanted:
            size, self._next = self._next[1], None
            self._spend(size)  # checked first, so that a block above the limit is not read
            return self._reader.exactly(size)

        known = earlier(wanted)
        if known is None:
            found = f"the stream has {self._next[0]}" if self._next else "the stream ends"
            raise self._refused(f"{wanted} is expected next, and {found}")
        self._spend(len(known))
        return known

    def check_end(self) -> None:
        if self._next or self._stream.read(1):
            raise self._refused("it continues after the file's last block")

    def _spend(self, size: int) -> None:
        self._allowed -= _CID_SIZE + size
        if self._allowed < 0:
            raise self._refused("its blocks exceed the limit for a file of the allowed size")

    def _refused(self, why: str) -> ContentError:
        return _refused(self._root, why)


class _Readable(Protocol):
    """A stream of bytes."""

    def read(self, count: int, /) -> bytes:
        """Return the next `count` bytes, or fewer at the end of the stream."""


class _Reader:
    """Reads the header and the lengths of a CARv1.

    `refused` turns a reason into an error.
    """

    def __init__(self, stream: _Readable, refused: Callable[[str], ContentError]) -> None:
        self._stream, self._refused = stream, refused

    def header(self) -> bytes:
        length = self._length() or 0
        if length > _MAX_HEADER_SIZE:
            raise self._refused(f"a header of {length} bytes is too large")
        header = self.exactly(length)
        if not (header.startswith(_HEADER_BEGIN) and header.endswith(_HEADER_END)):
            raise self._refused("it does not begin with the header of a CARv1")
        return header

    def section(self) -> int | None:
        """Read the length of the next section, which has a CID and a block; None at the end of the stream."""
        length = self._length()
        if length is not None and not _CID_SIZE <= length <= _CID_SIZE + MAX_BLOCK_SIZE:
            raise self._refused(f"a section of {length} bytes is shorter than a CID, or larger than any block")
        return length

    def exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise self._refused("the stream ends inside a section")
        return data

    def _length(self) -> int | None:
        byte = self._stream.read(1)
        if not byte:
            return None
        number = byte
        while byte >= b"\x80" and len(number) < _MAX_VARINT_SIZE:
            byte = self.exactly(1)
            number += byte
        value = sum((digit & 0x7F) << 7 * place for place, digit in enumerate(number))
        # With zero padding, a length would have several encodings, so that equal files could have different streams.
        if varint(value) != number:
            raise self._refused("a length is not in its shortest form, or too large")
        return value


class _Stream:
    """Reads any number of bytes from a stream that arrives in parts of any size."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._rest = memoryview(b"")
        self._buffer = bytearray()

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, or fewer at the end of the stream."""
        if count <= len(self._rest):
            return self._cut(count).tobytes()
        # One buffer instead of a list of pieces, so that a stream of single bytes does not take more memory.
        if len(self._buffer) < count:
            self._buffer = bytearray(count)
        gathered = self._take(0, count)
        for part in self._parts:
            self._rest = memoryview(part)
            gathered = self._take(gathered, count)
            if gathered == count:
                break
        return bytes(memoryview(self._buffer)[:gathered])

    def _take(self, start: int, stop: int) -> int:
        """Copy available bytes into the buffer. Returns the position after the last copied byte."""
        piece = self._cut(stop - start)
        self._buffer[start : start + len(piece)] = piece
        return start + len(piece)

    def _cut(self, count: int) -> memoryview:
        piece, self._rest = self._rest[:count], self._rest[count:]
        return piece


def _refused(root: CID, why: str) -> ContentError:
    return ContentError(
        f"the CAR of {root} is refused", why=why, remedy="fetch it from another source", action=Action.NAME_SOURCE
    )


def _encode_header(roots: Sequence[CID]) -> bytes:
    links = b"".join(_LINK + bytes(root) for root in roots)
    return _HEADER_BEGIN + bytes((0x80 + len(roots),)) + links + _HEADER_END


def _no_index(why: str) -> ContentError:
    return ContentError("the CAR file is refused", why=why)
