"""An image of several blocks, a small image, and short timeouts, for the tests of downloads."""

from __future__ import annotations

import hashlib
import io

from blockota.formats.cid import CHUNK_SIZE, CID, dag
from blockota.stores.gateway import TrustlessClient
from blockota.stores.source import Limits, Source

BLANK = b"\xff" * CHUNK_SIZE
IMAGE = (
    hashlib.shake_128(b"one").digest(CHUNK_SIZE) + BLANK + hashlib.shake_128(b"two").digest(CHUNK_SIZE) + BLANK + b"end"
)
"""An image of five leaves, two of them equal, and a root."""
SMALL = hashlib.shake_128(b"small").digest(3000)
"""An image of one block."""
LIMITS = Limits(connect=2.0, silence=1.0, grace=1.0, duplicate_after=0.3)
"""Timeouts in seconds, short but sufficient on a busy machine."""


def blocks_of(data: bytes) -> tuple[CID, dict[CID, bytes]]:
    """Return a file's CID and its blocks."""
    blocks = {block.cid: block.data for block in dag(io.BytesIO(data))}
    return list(blocks)[-1], blocks


ROOT, BLOCKS = blocks_of(IMAGE)
SMALL_ROOT, SMALL_BLOCKS = blocks_of(SMALL)


def read_small(source: Source) -> bytes:
    """Download the small image from a source."""
    with TrustlessClient(source, LIMITS) as client:
        return client.block(SMALL_ROOT).data
