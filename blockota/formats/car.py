"""CAR files: the blocks of one file in one stream, written, and read from somebody who is not believed.

A CARv1 is a header and then sections, each ``varint length | CID | block``. Blocks come depth first from the root.
Where the tree names a block several times the stream may repeat it (``dups=y``) or not (``dups=n``); both are read.
Header roots say nothing, for whoever asks knows what it asked for.

Limits: a section holds at most 2 MiB of block, and all blocks together at most the file's size and `overhead`. So
whoever sends the stream, neither memory (two blocks, and the links of one path) nor time is theirs to choose.

Sources: CARv1 specification (ipld.io/specs/transport/car/carv1), Trustless Gateway specification (specs.ipfs.tech).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from blockota.errors import ContentError
from blockota.formats.cid import CID, DAG_PB, RAW, Block, check_block, read_links, varint, walk

MAX_BLOCK_SIZE = 1 << 21
"""Bytes of the largest block that is taken."""
MAX_KNOWN_BLOCKS = 1 << 13
"""Repeated blocks that `unpack_car` finds again: those of 8 GiB in blocks of 1 MiB."""
_CID_SIZE = 36
_MAX_HEADER_SIZE = 1 << 12
_MAX_VARINT_SIZE = 4
_HEADER_BEGIN, _HEADER_END = b"\xa2\x65roots", b"\x67version\x01"
_MAX_INNER_MEMORY = 1 << 20


def overhead(size: int) -> int:
    """Bytes that the blocks of a file may have above the file's own: 64 KiB and 2 %."""
    return (1 << 16) + size // 50


def largest_block(cid: CID, *, size: int) -> int:
    """Bytes of the largest block under an address that a file of a known size can have.

    Args:
        cid: the block's address, which says whether it holds bytes of the file or links.
        size: bytes of the file; of a block that holds bytes, those that its parent says where they are known.
    """
    return min(size if cid.codec == RAW else overhead(size), MAX_BLOCK_SIZE)


def write_car(root: CID, read_block: Callable[[CID], bytes], *, repeat: bool = True) -> Iterator[bytes]:
    """Yield a CARv1 of a file, piece by piece; each block is checked before it is written.

    Args:
        root: the file's content address, which is also the header's only root.
        read_block: returns the bytes of a block, as a store holds it.
        repeat: whether a block that the tree names again is written again (``dups=y``).

    Raises:
        ContentError: a block is corrupt, or is no UnixFS file.
    """
    written: set[CID] = set()

    def wanted(block: Block) -> bool:
        is_new = block.cid not in written
        written.add(block.cid)
        return is_new

    blocks = walk(root, read_block)
    yield from join_car(root, blocks if repeat else filter(wanted, blocks))


def join_car(root: CID | None, blocks: Iterable[Block]) -> Iterator[bytes]:
    """Yield a CARv1 of blocks in the order in which they come, piece by piece; nothing is checked.

    Args:
        root: the header's only root; `None` for none, where the reader learns it otherwise.
        blocks: those of one file, built or checked by the caller.
    """
    roots = b"\x80" if root is None else b"\x81\xd8\x2a\x58\x25\x00" + bytes(root)
    header = _HEADER_BEGIN + roots + _HEADER_END
    yield varint(len(header)) + header
    for block in blocks:
        yield varint(_CID_SIZE + len(block.data)) + bytes(block.cid)
        yield block.data


def car_size(root: CID, read_block: Callable[[CID], bytes]) -> int:
    """Bytes that `write_car` yields when it repeats blocks; of a file of many blocks only the inner ones are read.

    Raises:
        ContentError: an inner block is corrupt, or is no UnixFS file.
    """
    header = len(_HEADER_BEGIN + _HEADER_END) + 6 + _CID_SIZE
    total = len(varint(header)) + header
    pending: list[tuple[CID, int]] = [(root, -1)]
    while pending:
        cid, size = pending.pop()
        if cid.codec == DAG_PB or size < 0:
            data = check_block(cid, read_block(cid))
            size = len(data)
        if cid.codec == DAG_PB:
            pending += [(link.cid, link.file_size) for link in read_links(Block(cid, data))]
        total += len(varint(_CID_SIZE + size)) + _CID_SIZE + size
    return total


def read_car(
    parts: Iterable[bytes], root: CID, *, size: int, earlier: Callable[[CID], bytes | None]
) -> Iterator[Block]:
    """Yield all blocks of a file depth first, each checked, from a stream that may hold anything.

    Args:
        parts: the stream, cut anywhere.
        root: the file's content address.
        size: the largest file, in bytes, that is taken.
        earlier: asked for a block that does not come next: returns the bytes of one that was yielded before, as
            ``dups=n`` needs it, or `None`. Its answer is checked like any other.

    Raises:
        ContentError: the stream is no CARv1 of just this file, depth first, or is larger than the limits.
    """
    sections = _Sections(parts, root, allowed=size + overhead(size))
    left = size
    for block in walk(root, lambda cid: sections.block(cid, earlier)):
        left -= len(block.data) if block.cid.codec == RAW else 0
        if left < 0:
            raise _refused(root, f"its file is larger than the {size} bytes allowed")
        yield block
    sections.check_end()


def unpack_car(parts: Iterable[bytes], root: CID, *, size: int, into: BinaryIO) -> Iterator[bytes]:
    """Write a file from a CAR, yielding its bytes in order, each block checked before it is written and yielded.

    What was written is good only when the iterator ended without an error.

    Args:
        parts: the stream, cut anywhere.
        root: the file's content address.
        size: the largest file, in bytes, that is taken.
        into: an empty file, open for reading and writing, that can seek; repeated blocks are read from it again.

    Raises:
        ContentError: as `read_car`.
        OSError: `into` cannot be written or read.
    """
    known = _Known(into)
    for block in read_car(parts, root, size=size, earlier=known.find):
        known.add(block)
        if block.cid.codec == RAW:
            yield block.data


class _Known:
    """Blocks that were written: raw ones by their place in the file, inner ones (few and small) themselves."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = self._inner_size = 0
        self._places: dict[CID, tuple[int, int]] = {}
        self._inner: dict[CID, bytes] = {}

    def add(self, block: Block) -> None:
        if block.cid.codec == RAW:
            if len(self._places) < MAX_KNOWN_BLOCKS:
                self._places.setdefault(block.cid, (self._end, len(block.data)))
            self._file.seek(self._end)
            self._file.write(block.data)
            self._end += len(block.data)
        elif block.cid not in self._inner and self._inner_size + len(block.data) <= _MAX_INNER_MEMORY:
            self._inner[block.cid] = block.data
            self._inner_size += len(block.data)

    def find(self, cid: CID) -> bytes | None:
        if cid not in self._places:
            return self._inner.get(cid)
        start, size = self._places[cid]
        self._file.seek(start)
        return self._file.read(size)


class _Sections:
    """The sections of a CARv1, of which only the next one is looked at, and read when it is the one wanted."""

    def __init__(self, parts: Iterable[bytes], root: CID, *, allowed: int) -> None:
        self._root, self._allowed = root, allowed
        self._stream = _Stream(parts)
        self._begun = False
        self._next: tuple[CID, int] | None = None

    def block(self, wanted: CID, earlier: Callable[[CID], bytes | None]) -> bytes:
        """The next section's block when it is the wanted one, else the same block from before."""
        following = self._peek()
        if following and following[0] == wanted:
            self._next = None
            self._spend(following[1])
            return self._exactly(following[1])
        known = earlier(wanted)
        if known is None:
            found = f"the stream has {following[0]}" if following else "the stream ends"
            raise self._refused(f"{found} where {wanted} comes next")
        self._spend(len(known))
        return known

    def check_end(self) -> None:
        if self._next or self._stream.read(1):
            raise self._refused("it goes on behind the file's last block")

    def _peek(self) -> tuple[CID, int] | None:
        if not self._begun:
            self._read_header()
            self._begun = True
        if self._next is None and (length := self._length()) is not None:
            if not _CID_SIZE <= length <= _CID_SIZE + MAX_BLOCK_SIZE:
                raise self._refused(f"a section of {length} bytes is shorter than a CID, or larger than any block")
            self._next = CID.decode(self._exactly(_CID_SIZE)), length - _CID_SIZE
        return self._next

    def _read_header(self) -> None:
        length = self._length() or 0
        if length > _MAX_HEADER_SIZE:
            raise self._refused(f"a header of {length} bytes is larger than any")
        header = self._exactly(length)
        if not (header.startswith(_HEADER_BEGIN) and header.endswith(_HEADER_END)):
            raise self._refused("it does not begin with the header of a CARv1")

    def _length(self) -> int | None:
        """The next section's length, or `None` at the stream's end."""
        byte = self._stream.read(1)
        if not byte:
            return None
        number = byte
        while byte >= b"\x80" and len(number) < _MAX_VARINT_SIZE:
            byte = self._exactly(1)
            number += byte
        value = sum((digit & 0x7F) << 7 * place for place, digit in enumerate(number))
        if varint(value) != number:
            raise self._refused("a length is not written in the shortest form, or is larger than any")
        return value

    def _exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise self._refused("the stream ends inside a section")
        return data

    def _spend(self, size: int) -> None:
        self._allowed -= _CID_SIZE + size
        if self._allowed < 0:
            raise self._refused("its blocks are larger than a file of the size allowed can have")

    def _refused(self, why: str) -> ContentError:
        return _refused(self._root, why)


class _Stream:
    """Bytes that come in parts, read in other parts."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._rest = memoryview(b"")
        self._buffer = bytearray()

    def read(self, count: int) -> bytes:
        """The next bytes: as many as asked for, or fewer at the end."""
        if count <= len(self._rest):
            return self._cut(count).tobytes()
        # One buffer for all, not a list of pieces: a sender that cuts its stream into single bytes must not cost more.
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
        """Move what there is, and is wanted, into the buffer; returns where it ends there."""
        piece = self._cut(stop - start)
        self._buffer[start : start + len(piece)] = piece
        return start + len(piece)

    def _cut(self, count: int) -> memoryview:
        piece, self._rest = self._rest[:count], self._rest[count:]
        return piece


def _refused(root: CID, why: str) -> ContentError:
    return ContentError(f"the CAR of {root} is refused", why=why, remedy="take the image from another source")
