"""A Kubo node implements the store interface."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from blockota.errors import StoreError
from blockota.formats.cid import CHUNK_SIZE, CID, RAW, Block, cid_of, dag
from blockota.stores.kubo import KuboStore
from blockota.stores.store import open_store, read_whole
from tests.peers.kubo.node import Kind, Node, running_node
from tests.peers.kubo.samples import SIZES, content, padded


@pytest.mark.parametrize("shape", SIZES)
def test_a_file_comes_back(node: Node, shape: str) -> None:
    """A file of any size is stored under our CID, pinned, and read back."""
    data = content(f"comes back {shape}", SIZES[shape])
    cid = node.store.put(io.BytesIO(data))
    assert cid == cid_of(io.BytesIO(data))
    assert node.pins()[str(cid)] == "recursive"
    assert read_whole(node.store, cid, size=len(data)) == data


def test_45_mib_go_through(node: Node) -> None:
    """An image of 45 MiB is uploaded and read back without library warnings."""
    data = content("45 MiB", 45 << 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cid = node.store.put(io.BytesIO(data))
        assert read_whole(node.store, cid, size=len(data)) == data


def test_repeated_blocks_come_back(node: Node) -> None:
    """A file with repeated blocks is read back completely, although Kubo sends each block once."""
    data = padded("repeated")
    cid = node.store.put(io.BytesIO(data))
    assert read_whole(node.store, cid, size=len(data)) == data


@pytest.mark.parametrize("place", [0, 1, -1], ids=["first", "second", "root"])
def test_a_corrupt_block_is_replaced(node: Node, place: int) -> None:
    """If a block decayed on the node's disk, storing the file again replaces the block."""
    data = content(f"decays at {place}", 2 * CHUNK_SIZE + 5)
    cid = node.store.put(io.BytesIO(data))
    block = list(dag(io.BytesIO(data)))[place]
    path = decay(node, block)
    assert node.store.put(io.BytesIO(data)) == cid
    assert path.read_bytes() == block.data
    assert read_whole(node.store, cid, size=len(data)) == data
    assert node.pins()[str(cid)] == "recursive"


def test_a_corrupt_block_that_another_file_pins_is_reported(node: Node) -> None:
    """A corrupt block that belongs to another pinned file cannot be replaced, and the error names the block."""
    first, second = (content("pinned twice", CHUNK_SIZE) + end for end in (b"a", b"b"))
    node.store.put(io.BytesIO(first))
    leaf = next(dag(io.BytesIO(second)))
    decay(node, leaf)
    with pytest.raises(StoreError, match=f"cannot replace the corrupt block {leaf.cid}: pinned"):
        node.store.put(io.BytesIO(second))


def decay(node: Node, block: Block) -> Path:
    """Change the last byte of a block on the node's disk, and return the path of the block."""
    path = next(path for path in (node.repo / "blocks").rglob("*.data") if path.read_bytes() == block.data)
    path.write_bytes(block.data[:-1] + bytes((block.data[-1] ^ 1,)))
    return path


@contextmanager
def pipe(data: bytes) -> Iterator[BinaryIO]:
    """Yield the reading end of a pipe that contains the data."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as end:
            end.write(data)

    threading.Thread(target=write).start()
    with os.fdopen(reading, "rb") as end:
        yield end


def test_a_pipe_can_be_put(node: Node) -> None:
    """A pipe can be stored, because a file is read only once."""
    data = content("a pipe", 2 * CHUNK_SIZE + 5)
    with pipe(data) as end:
        assert node.store.put(end) == cid_of(io.BytesIO(data))


def test_a_corrupt_block_is_not_replaced_from_a_pipe(node: Node) -> None:
    """A corrupt block of a file from a pipe is removed, and the error requests that the file be stored again."""
    data = content("decays before a pipe", CHUNK_SIZE + 5)
    cid = node.store.put(io.BytesIO(data))
    decay(node, next(dag(io.BytesIO(data))))
    with pipe(data) as end, pytest.raises(StoreError, match=r"which were removed\. Store the file again"):
        node.store.put(end)
    with pipe(data) as end:
        assert node.store.put(end) == cid
    assert read_whole(node.store, cid, size=len(data)) == data


def test_a_file_is_put_from_where_it_stands(node: Node) -> None:
    """A file is stored from its current position on."""
    file = io.BytesIO(b"header" + content("position", CHUNK_SIZE + 1))
    file.seek(6)
    cid = node.store.put(file)
    assert read_whole(node.store, cid, size=1 << 22) == content("position", CHUNK_SIZE + 1)


def test_progress_counts_every_block(node: Node) -> None:
    """Upload progress counts every byte of the file, including repeated blocks."""
    data = padded("progress")
    progress: list[int] = []
    node.store.put(io.BytesIO(data), on_progress=progress.append)
    inner = progress.pop()
    assert progress == [CHUNK_SIZE] * 5 + [9]
    assert inner < 1 << 10


class BrokenFile(io.BytesIO):
    """A file whose reading fails after the first chunk."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the first chunk; raise on the second."""
        if self.tell() >= CHUNK_SIZE:
            raise RuntimeError("the medium is gone")
        return super().read(size)


def test_a_file_that_breaks_off_is_not_stored(node: Node) -> None:
    """If reading the file fails, the exception is raised and nothing is pinned."""
    before = node.pins()
    with pytest.raises(RuntimeError, match="the medium is gone"):
        node.store.put(BrokenFile(content("breaks off", 3 * CHUNK_SIZE)))
    assert node.pins() == before


def test_has_finds_a_stored_root(node: Node) -> None:
    """`has` returns true for a stored root and false for an unknown one."""
    assert node.store.has(node.store.put(io.BytesIO(b"here")))
    assert not node.store.has(cid_of(io.BytesIO(b"never put")))


def test_a_missing_file_is_reported(node: Node) -> None:
    """Reading a missing file raises StoreError."""
    with pytest.raises(StoreError, match="does not have all blocks"):
        next(node.store.open(cid_of(io.BytesIO(b"never put either"))))


def test_pinned_survives_garbage_collection(node: Node) -> None:
    """Garbage collection keeps pinned files and removes unpinned ones."""
    kept, dropped = content("kept", 3 * CHUNK_SIZE), content("dropped", 3 * CHUNK_SIZE)
    store = node.store
    kept_cid, dropped_cid = store.put(io.BytesIO(kept)), store.put(io.BytesIO(dropped))
    store.unpin(dropped_cid)
    assert store.has(dropped_cid)
    node.ipfs("repo", "gc")
    assert read_whole(store, kept_cid, size=len(kept)) == kept
    assert not store.has(dropped_cid)


def test_pins_are_marks(node: Node) -> None:
    """Pinning and unpinning are idempotent."""
    store = node.store
    cid = store.put(io.BytesIO(b"marked"))
    store.pin(cid)
    store.unpin(cid)
    store.unpin(cid)
    assert str(cid) not in node.pins()
    store.pin(cid)
    assert node.pins()[str(cid)] == "recursive"


def test_what_is_not_there_cannot_be_pinned(node: Node) -> None:
    """Pinning a missing root raises StoreError."""
    with pytest.raises(StoreError, match="could not pin"):
        node.store.pin(cid_of(io.BytesIO(b"absent")))


def test_a_missing_block_is_named(node: Node) -> None:
    """Blocks before a missing block are read, and the error contains the missing block's CID."""
    data = content("a hole", 4 * CHUNK_SIZE)
    store = node.store
    cid = store.put(io.BytesIO(data))
    missing = CID.of(RAW, data[2 * CHUNK_SIZE : 3 * CHUNK_SIZE])
    store.unpin(cid)
    node.ipfs("block", "rm", str(missing))
    parts = store.open(cid)
    assert next(parts) + next(parts) == data[: 2 * CHUNK_SIZE]
    with pytest.raises(StoreError, match=str(missing)):
        next(parts)
    with pytest.raises(StoreError, match="could not pin"):
        store.pin(cid)


def test_an_image_has_its_own_hash_as_address(node: Node) -> None:
    """The CID of an image with one block contains the image's SHA-256."""
    data = content("one block", 64 << 10)
    cid = node.store.put(io.BytesIO(data))
    assert node.store.read_block(cid) == data
    assert hashlib.sha256(data).digest() == cid.digest


def test_the_url_names_the_store(node: Node) -> None:
    """``kubo:URL`` opens a Kubo store, also with a slash at the end."""
    assert isinstance(open_store(f"kubo:{node.api}/"), KuboStore)
    data = b"by its URL"
    assert open_store(f"kubo:{node.api}/").put(io.BytesIO(data)) == cid_of(io.BytesIO(data))


def test_proxies_are_not_asked(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy settings of the environment are ignored, so that the secret is not sent to a proxy."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert not node.store.has(cid_of(io.BytesIO(b"asked without a proxy")))


def test_the_path_of_a_file_is_not_sent(node: Node, tmp_path: Path) -> None:
    """An opened file on disk can be stored, and is found under its CID."""
    path = tmp_path / "thermo.bin"
    path.write_bytes(content("named", CHUNK_SIZE + 3))
    with path.open("rb") as file:
        assert node.store.has(node.store.put(file))


def test_other_nodes_are_asked(kubo: Path, tmp_path: Path) -> None:
    """An online Kubo node fetches a file from another node and can pin it."""
    data, online = content("elsewhere", 3 * CHUNK_SIZE), Kind(is_online=True)
    for name in ("vendor", "broker"):
        (tmp_path / name).mkdir()
    with (
        running_node(kubo, tmp_path / "vendor", kind=online) as vendor,
        running_node(kubo, tmp_path / "broker", kind=online) as broker,
    ):
        cid = vendor.store.put(io.BytesIO(data))
        broker.ipfs("swarm", "connect", json.loads(vendor.ipfs("id"))["Addresses"][0])
        assert not broker.store.has(cid)
        assert b"".join(broker.store.search(cid)) == data
        broker.store.pin(cid)
        assert broker.pins()[str(cid)] == "recursive"
