"""Sample files for a Kubo node: pseudo-random files of one to five blocks, and an image with repeated blocks."""

from __future__ import annotations

import hashlib
import io

from blockota.formats.cid import CHUNK_SIZE, CID, Block, cid_of, dag
from tests.support.car_samples import write_car

SIZES = {
    "empty": 0,
    "one-byte": 1,
    "just-one-block": CHUNK_SIZE,
    "two-blocks": CHUNK_SIZE + 1,
    "five-blocks": 4 * CHUNK_SIZE + 77,
}


def content(name: str, size: int) -> bytes:
    """Return pseudo-random bytes that depend on a name."""
    return hashlib.shake_128(name.encode()).digest(size)


def padded(name: str) -> bytes:
    """Return an image as linkers write it: code, three blocks of padding, and a tail."""
    return content(name, CHUNK_SIZE) + b"\xff" * (3 * CHUNK_SIZE) + content(name, CHUNK_SIZE + 9)


def car_of(data: bytes, *, repeat: bool = True) -> tuple[CID, bytes]:
    """Return ⟨root, CAR⟩ of a file."""
    blocks: dict[CID, Block] = {block.cid: block for block in dag(io.BytesIO(data))}
    root = cid_of(io.BytesIO(data))
    return root, b"".join(write_car(root, lambda cid: blocks[cid].data, repeat=repeat))
