"""A Kubo node as a store: blocks go in and out as CAR files over its RPC API.

The DAG is built here and only its blocks are pushed (``dag/import``), so no setting of the node changes an address.
What is read (``dag/export``) is checked block by block, for a node tells of an error in the midst of a stream only in
an HTTP trailer that no Python client reads.

The node is somebody's own: it is not believed, but it may take the time and the memory of its answers.

Source: Kubo RPC API v0 (docs.ipfs.tech/reference/kubo/rpc), read and tried with Kubo 0.43.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import BinaryIO

from blockota.car import join_car, read_car
from blockota.cid import CID, RAW, Block, dag
from blockota.errors import StoreError
from blockota.stores.kubo_api import ABSENT, PATIENCE, PIECE_SIZE, KuboApi

_NOT_PINNED = ("not pinned",)
_LARGEST_FILE = 1 << 40


class KuboStore:
    """A content store in a Kubo node; nothing is asked before the first use.

    Args:
        url: the node's RPC API, such as ``http://127.0.0.1:5001``.
        authorization: ``basic:USER:PASSWORD`` or ``bearer:TOKEN``, as in the node's ``API.Authorizations``.
        patience: seconds to wait for the node's next byte.

    Raises:
        UsageError: one of them cannot be used.
    """

    def __init__(self, url: str, *, authorization: str = "", patience: float = PATIENCE) -> None:
        """Remember where the node is."""
        self.url = url
        self._api = KuboApi(url, authorization=authorization, patience=patience)

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Store a file and pin it.

        Args:
            stream: the file's bytes; they are read twice, so what cannot seek is copied to a temporary file.
            on_progress: is told the bytes of each block sent, as often as the file repeats it.

        Returns:
            The content address of the file.

        Raises:
            StoreError: the node is out of reach, refuses, or cannot store or pin it.
        """
        with self._api.translated("store the file"), _seekable(stream) as file:
            layout = _Layout(file)
            body = _Body(join_car(layout.root, layout.blocks(on_progress)))
            self._check_import(layout.root, self._api.client.dag.imprt(body, opts={"pin-roots": "true"}).as_json())
        return layout.root

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order; every block is checked before it is yielded.

        What the node does not hold, a node that is online looks for on the IPFS network.

        Raises:
            StoreError: the node is out of reach, or neither holds nor finds a block.
            ContentError: a block is corrupt.
        """
        # The stream has each block once; padding repeats some, and mostly the same one.
        earlier = lru_cache(maxsize=2)(self.read_block)
        with (
            self._api.translated(f"read {cid}"),
            self._api.client.dag.export(str(cid), stream=True) as parts,
        ):
            for block in read_car(parts, cid, size=_LARGEST_FILE, earlier=earlier):
                if block.cid.codec == RAW:
                    yield block.data

    def has(self, cid: CID) -> bool:
        """Whether the node itself holds the root block (`open` tells whether the file is whole).

        Raises:
            StoreError: the node is out of reach.
        """
        return self._api.succeeds(
            lambda: self._api.client.block.stat(str(cid), offline=True), f"look for {cid}", unless=ABSENT
        )

    def read_block(self, cid: CID) -> bytes:
        """What the node itself holds under a block's address, unchecked.

        Raises:
            StoreError: it does not hold the block, or is out of reach.
        """
        with self._api.translated(f"read the block {cid}"):
            data: bytes = self._api.client.block.get(str(cid), offline=True)
        return data

    def pin(self, cid: CID) -> None:
        """Mark a root as one to keep with all that it names; the node must hold all of it.

        Raises:
            StoreError: it does not, or is out of reach.
        """
        with self._api.translated(f"pin {cid}"):
            self._api.client.pin.add(str(cid), offline=True)

    def unpin(self, cid: CID) -> None:
        """Take the mark away, if there is one; the blocks stay until the node collects garbage.

        Raises:
            StoreError: the node is out of reach.
        """
        self._api.succeeds(lambda: self._api.client.pin.rm(str(cid)), f"unpin {cid}", unless=_NOT_PINNED)

    def _check_import(self, root: CID, answer: object) -> None:
        match answer:
            case {"Root": {"Cid": {"/": str(found)}, "PinErrorMsg": str(failure)}}:
                pass
            case _:
                raise self._api.not_kubo("its answer to an import is not Kubo's")
        if found != str(root):
            raise StoreError(
                f"the Kubo node at {self.url} stored another file", why=f"it names {found[:100]}, not {root}"
            )
        if failure:
            raise StoreError(
                f"the Kubo node at {self.url} stored {root}, but did not pin it",
                why=failure,
                remedy=f"try `ipfs pin add {root}` there before its next garbage collection",
            )


class _Layout:
    """Where in a file each block of its DAG lies; inner blocks, which are few and small, are kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[CID, tuple[int, int]] = {}
        self._times: Counter[CID] = Counter()
        self._inner: list[Block] = []
        position = file.tell()
        for block in dag(file):
            self.root = block.cid
            self._times[block.cid] += 1
            if block.cid.codec == RAW:
                self._places.setdefault(block.cid, (position, len(block.data)))
                position += len(block.data)
            else:
                self._inner.append(block)

    def blocks(self, on_progress: Callable[[int], object]) -> Iterator[Block]:
        """Each block once, unchecked: should the file change meanwhile, the node refuses what does not hash."""
        for block in chain(self._leaves(), self._inner):
            on_progress(len(block.data) * self._times[block.cid])
            yield block

    def _leaves(self) -> Iterator[Block]:
        for cid, (start, size) in self._places.items():
            self._file.seek(start)
            yield Block(cid, self._file.read(size))


class _Body:
    """Pieces as a file to upload; without a name, which the client would send along with its folder."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = filter(None, pieces)

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")


@contextmanager
def _seekable(stream: BinaryIO) -> Iterator[BinaryIO]:
    if stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        while piece := stream.read(PIECE_SIZE):
            copy.write(piece)
        copy.seek(0)
        yield copy
