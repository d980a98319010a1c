"""A Kubo node as a store: blocks go in and out as CAR files over its RPC API.

The DAG is built here and only its blocks are pushed (``dag/import``), so no setting of the node changes an address. One
request carries two CARs, the blocks and then their root, under the lock that keeps the node's garbage collection out.
What is read (``dag/export``) is checked block by block, for a node tells of an error in the midst of a stream only in
an HTTP trailer that no Python client reads.

The node is somebody's own: it is not believed, but it may take the time and the memory of its answers.

Source: Kubo RPC API v0 (docs.ipfs.tech/reference/kubo/rpc), read and tried with Kubo 0.43.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import BinaryIO

from blockota.errors import StoreError
from blockota.formats.car import join_car, read_car
from blockota.formats.cid import CID, RAW, Block, dag
from blockota.stores.kubo_api import ABSENT, PATIENCE, KuboApi

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
            stream: the file's bytes, read once.
            on_progress: is told the bytes of each block of the file.

        Returns:
            The content address of the file.

        Raises:
            StoreError: the node is out of reach, refuses, or cannot store or pin it.
        """
        upload = _Upload(stream, on_progress=on_progress)
        # The root is known when the blocks are sent, so it follows in a second CAR, whose roots are pinned as well.
        files = [_Pieces(upload.blocks()), _Pieces(upload.root_alone())]
        with self._api.translated("store the file"):
            self._check_import(upload, self._api.client.dag.imprt(files, opts={"pin-roots": "true"}).as_json())
        return upload.root

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield the bytes of a file that the node itself holds, in order; every block is checked before it is yielded.

        Raises:
            NotHeldError: the node does not hold a block.
            StoreError: it is out of reach.
            ContentError: a block is corrupt.
        """
        return self._export(cid, offline=True)

    def search(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes as `open`; what it does not hold, a node that is online looks for on the IPFS network.

        Raises:
            StoreError: it finds nobody who has a block, for as long as it is waited for, or is out of reach.
            ContentError: a block is corrupt.
        """
        return self._export(cid, offline=False)

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

    def _export(self, cid: CID, *, offline: bool) -> Iterator[bytes]:
        # The stream has each block once; padding repeats some, and mostly the same one.
        earlier = lru_cache(maxsize=2)(self.read_block)
        with (
            self._api.translated(f"read {cid}"),
            self._api.client.dag.export(str(cid), stream=True, offline=offline) as parts,
        ):
            for block in read_car(parts, cid, size=_LARGEST_FILE, earlier=earlier):
                if block.cid.codec == RAW:
                    yield block.data

    def _check_import(self, upload: _Upload, answer: object) -> None:
        root = upload.root
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


class _Upload:
    """The blocks of a file as they are built, and then its root, each in a CAR."""

    root: CID

    def __init__(self, stream: BinaryIO, *, on_progress: Callable[[int], object]) -> None:
        self._stream, self._on_progress = stream, on_progress

    def blocks(self) -> Iterator[bytes]:
        """A CAR without a root; a block that the file repeats is in it once."""
        yield from join_car(None, self._new_blocks())

    def root_alone(self) -> Iterator[bytes]:
        """A CAR with the root and no block."""
        yield from join_car(self.root, ())

    def _new_blocks(self) -> Iterator[Block]:
        sent: set[CID] = set()
        for block in dag(self._stream):
            self.root = block.cid
            self._on_progress(len(block.data))
            if block.cid not in sent:
                sent.add(block.cid)
                yield block


class _Pieces:
    """Pieces as a file to upload; without a name, which the client would send along with its folder."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = filter(None, pieces)

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")
