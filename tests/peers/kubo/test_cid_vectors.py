"""Kubo's published CIDs of large files, whose bytes are a key stream."""

from __future__ import annotations

import hashlib
from typing import BinaryIO, cast

import pytest
from Crypto.Cipher import ChaCha20

from blockota.formats.cid import cid_of


class KeyStream:
    """The pseudorandom bytes of Kubo's large test files.

    The bytes are a ChaCha20 key stream, with the seed's SHA-256 as key and a zero nonce.

    Source: ipfs/kubo, test/cli/cid_profiles_test.go.
    """

    def __init__(self, seed: str, size: int) -> None:
        """Start at the beginning of the stream."""
        self._cipher = ChaCha20.new(key=hashlib.sha256(seed.encode()).digest(), nonce=bytes(12))
        self._left = size

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end of the stream."""
        size = min(size, self._left)
        self._left -= size
        return self._cipher.encrypt(bytes(size))


@pytest.mark.parametrize(
    ("mebibytes", "cid"),
    [
        (1024, "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"),
        (1025, "bafybeihmzokxxjqwxjcryerhp5ezpcog2wcawfryb2xm64xiakgm4a5jue"),
    ],
)
def test_large_vectors(mebibytes: int, cid: str) -> None:
    """Files of 1024 and 1025 leaves have the CIDs that Kubo publishes."""
    stream = KeyStream("v1-2025-seed", mebibytes << 20)
    assert str(cid_of(cast("BinaryIO", stream))) == cid
