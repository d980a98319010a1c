"""Where a broker keeps its copies: the embedded store, or a Kubo node with a staging folder.

An interrupted fetch can only be continued in a store that takes single blocks. A node takes whole files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from blockota.errors import Action, ContentError, StoreError, UsageError
from blockota.formats.cid import CID
from blockota.stores.gateway import GatewayStore
from blockota.stores.local import LocalStore, collect
from blockota.stores.store import Store


class Copies(Protocol):
    """The copies of a broker.

    Attributes:
        staging: takes the blocks of a file while it is fetched.
    """

    staging: LocalStore

    def is_pinned(self, cid: CID) -> bool:
        """Whether a file is pinned; False if the store cannot attribute pins."""

    def has(self, cid: CID) -> bool:
        """Whether the root of a pinned file is still there."""

    def pin(self, cid: CID) -> None:
        """Keep a file that is complete in `staging`."""

    def drop(self, cid: CID, *, keep: Iterable[CID], is_foreign: bool) -> None:
        """Unpin a file unless the pin is another program's, and remove the blocks that no kept root needs."""


class LocalCopies:
    """Copies in the embedded store, which is its own staging area."""

    def __init__(self, store: LocalStore) -> None:
        self.staging = store

    def is_pinned(self, cid: CID) -> bool:
        """Whether a file is pinned."""
        return cid in self.staging.pins()

    def has(self, cid: CID) -> bool:
        """Whether the root is there."""
        return self.staging.has(cid)

    def pin(self, cid: CID) -> None:
        """Pin a file."""
        self.staging.pin(cid)

    def drop(self, cid: CID, *, keep: Iterable[CID], is_foreign: bool) -> None:
        """Unpin a file, and remove its blocks."""
        if not is_foreign:
            self.staging.unpin(cid)
        collect(self.staging, [cid], keep=keep)


class StagedCopies:
    """Copies in a store that takes whole files, such as a Kubo node.

    Args:
        store: the store.
        folder: where files are assembled.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self.staging = store, LocalStore(folder)

    def is_pinned(self, cid: CID) -> bool:
        """False: a node does not record whose a pin is."""
        del cid
        return False

    def has(self, cid: CID) -> bool:
        """Whether the store has the root."""
        return self._store.has(cid)

    def pin(self, cid: CID) -> None:
        """Put a file into the store, which pins it, and remove it from the staging folder."""
        try:
            self._put(cid)
        except (ContentError, StoreError):
            if not self._store.has(cid):
                raise
            self._store.pin(cid)  # an earlier run was killed after the put, while it emptied the staging folder
        collect(self.staging, [cid], keep=())

    def _put(self, cid: CID) -> None:
        with self._scratch_file() as copy:
            for part in self.staging.open(cid):
                copy.write(part)
            copy.seek(0)
            stored = self._store.put(copy)
        if stored != cid:
            raise StoreError("the store has stored another file", why=f"its address is {stored}, not {cid}")

    def drop(self, cid: CID, *, keep: Iterable[CID], is_foreign: bool) -> None:
        """Unpin a file; the node collects its garbage itself."""
        if not is_foreign:
            self._store.unpin(cid)
        collect(self.staging, [cid], keep=keep)

    @contextmanager
    def _scratch_file(self) -> Iterator[BinaryIO]:
        """A temporary file on the disk of the staging folder."""
        try:
            with tempfile.TemporaryFile(dir=self.staging.folder) as file:
                yield file
        except OSError as error:
            raise StoreError(
                f"a file for the store cannot be written to {self.staging.folder}",
                why=error.strerror or str(error),
                remedy="check the folder's permissions and the disk's free space",
            ) from error


def open_copies(store: Store, staging: Path) -> Copies:
    """Open the copies in a store.

    Args:
        store: the configured store.
        staging: a folder for files on their way into a node.

    Raises:
        UsageError: the store is read-only.
    """
    if isinstance(store, GatewayStore):
        raise UsageError(
            "copies cannot be stored in a gateway",
            why="a gateway only serves what its operator has stored",
            remedy="use a store of your own, such as file:FOLDER or kubo:http://HOST:PORT",
            action=Action.CHOOSE_STORE,
        )
    return LocalCopies(store) if isinstance(store, LocalStore) else StagedCopies(store, staging)
