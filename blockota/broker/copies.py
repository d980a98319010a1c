"""Where a broker keeps its copies: the embedded store, or a Kubo node with a folder in which files are made whole.

A fetch needs a place that takes single blocks, so that it goes on where it was broken off; a node takes whole files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from blockota.errors import ContentError, StoreError, UsageError
from blockota.formats.cid import CID
from blockota.stores.gateway import GatewayStore
from blockota.stores.local import LocalStore, collect
from blockota.stores.store import Store


class Depot(Protocol):
    """What a broker needs of its store."""

    arrivals: LocalStore
    """Takes the blocks while a file is fetched."""

    def holds_for_others(self, cid: CID) -> bool:
        """Whether a file is pinned already."""

    def holds(self, cid: CID) -> bool:
        """Whether a file is there that was pinned; its root is looked for, not all of it."""

    def pin(self, cid: CID) -> None:
        """Keep a file that is whole among the arrivals."""

    def drop(self, cid: CID, *, keep: Iterable[CID], is_foreign: bool) -> None:
        """Keep a file no longer: unpin it unless the pin is somebody else's, and remove what no kept root needs."""


class LocalDepot:
    """The embedded store.

    Args:
        store: the store.
    """

    def __init__(self, store: LocalStore) -> None:
        """Remember the store."""
        self.arrivals = store

    def holds_for_others(self, cid: CID) -> bool:
        """Whether a file is pinned already."""
        return cid in self.arrivals.pins()

    def holds(self, cid: CID) -> bool:
        """Whether the root is there."""
        return self.arrivals.has(cid)

    def pin(self, cid: CID) -> None:
        """Keep a file."""
        self.arrivals.pin(cid)

    def drop(self, cid: CID, *, keep: Iterable[CID], is_foreign: bool) -> None:
        """Unpin a file, and remove its blocks."""
        if not is_foreign:
            self.arrivals.unpin(cid)
        collect(self.arrivals, [cid], keep=keep)


class StagedDepot:
    """A store that takes whole files, such as a Kubo node.

    Args:
        store: the store.
        folder: where files are made whole.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        """Remember both."""
        self._store, self.arrivals = store, LocalStore(folder)

    def holds_for_others(self, cid: CID) -> bool:
        """Nobody can tell: a node's pins have no owners."""
        del cid
        return False

    def holds(self, cid: CID) -> bool:
        """Whether the store has the root."""
        return self._store.has(cid)

    def pin(self, cid: CID) -> None:
        """Put a file into the store, which pins it, and take it out of the folder."""
        try:
            self._put(cid)
        except (ContentError, StoreError):
            if not self._store.has(cid):
                raise
            self._store.pin(cid)  # it was put by a run that was killed when it took it out of the folder
        collect(self.arrivals, [cid], keep=())

    def _put(self, cid: CID) -> None:
        with self._scratch() as copy:
            for part in self.arrivals.open(cid):
                copy.write(part)
            copy.seek(0)
            stored = self._store.put(copy)
        if stored != cid:
            raise StoreError("the store keeps another file", why=f"it names {stored}, not {cid}")

    def drop(self, cid: CID, *, keep: Iterable[CID], is_foreign: bool) -> None:
        """Unpin a file; the node collects its garbage by itself."""
        if not is_foreign:
            self._store.unpin(cid)
        collect(self.arrivals, [cid], keep=keep)

    @contextmanager
    def _scratch(self) -> Iterator[BinaryIO]:
        """A file on the same disk, which is gone when it is closed."""
        try:
            with tempfile.TemporaryFile(dir=self.arrivals.folder) as file:
                yield file
        except OSError as error:
            raise StoreError(
                f"a file on its way into the store cannot be written to {self.arrivals.folder}",
                why=error.strerror or str(error),
                remedy="check the folder's permissions and the disk's free space",
            ) from error


def open_depot(store: Store, staging: Path) -> Depot:
    """The depot that belongs to a store.

    Args:
        store: the configured store.
        staging: a folder for files on their way into a node.

    Raises:
        UsageError: nothing can be stored there.
    """
    if isinstance(store, GatewayStore):
        raise UsageError(
            "nothing can be kept there",
            why="the configured store is a gateway, which only serves what its owner has stored",
            remedy="name a store of your own with --store, like file:FOLDER or kubo:http://HOST:PORT",
        )
    return LocalDepot(store) if isinstance(store, LocalStore) else StagedDepot(store, staging)
