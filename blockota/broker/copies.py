"""A broker's copies of releases, stored in the embedded store or in a Kubo node with a staging folder.

An interrupted fetch can resume only if the store accepts single blocks. A Kubo node accepts only whole files, so
fetched blocks are first collected in a staging folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from blockota.errors import Action, ContentError, StoreError, UsageError
from blockota.formats.cid import CID
from blockota.model.manifest import MAX_SIZE
from blockota.stores.gateway import GatewayStore
from blockota.stores.local import LocalStore, collect
from blockota.stores.store import Store, read_whole


class Copies:
    """The copies of a broker.

    Args:
        store: the store in which the copies are kept.
        folder: the folder in which files for a Kubo node are assembled; not used with the embedded store.

    Attributes:
        staging: the store that receives the blocks of a fetched file; the embedded store is its own staging store.

    Raises:
        UsageError: the store is read-only.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        if isinstance(store, GatewayStore):
            raise UsageError(
                "copies cannot be stored in a gateway",
                why="a gateway serves only files that its operator has stored",
                remedy="use a store of your own, such as file:FOLDER or kubo:http://HOST:PORT",
                action=Action.CHOOSE_STORE,
            )
        self._store = store
        self.staging = store if isinstance(store, LocalStore) else LocalStore(folder)

    def is_pinned(self, cid: CID) -> bool:
        """Whether a file is pinned.

        The function always returns False for a Kubo node, because the node does not record which program pinned a file.
        """
        # With a Kubo node, no file is pinned in the staging folder.
        return cid in self.staging.pins()

    def has(self, cid: CID) -> bool:
        """Whether the store still has the root block of a pinned file."""
        return self._store.has(cid)

    def read(self, cid: CID) -> bytes:
        """Read a manifest from the store.

        Raises:
            StoreError: a block is missing, or the store is out of reach.
            ContentError: a block is corrupt.
        """
        return read_whole(self._store, cid, size=MAX_SIZE)

    def verify(self, cid: CID) -> None:
        """Read a file from the store, which verifies each of its blocks.

        Raises:
            StoreError: a block is missing, or the store is out of reach.
            ContentError: a block is corrupt.
        """
        for _ in self._store.open(cid):
            pass

    def pin(self, cid: CID) -> None:
        """Pin a file that is complete in `staging`. A Kubo node receives the whole file, and `staging` is emptied."""
        if self._store is self.staging:
            self._store.pin(cid)
            return
        try:
            self._put(cid)
        except (ContentError, StoreError):
            if not self._store.has(cid):
                raise
            self._store.pin(cid)  # an earlier run stored the file, and was killed while it emptied the staging folder
        collect(self.staging, [cid], keep=())

    def drop(self, cid: CID, *, keep: Iterable[CID], is_foreign: bool) -> None:
        """Unpin a file unless it is foreign, and remove its blocks, except blocks that a file in `keep` uses.

        A Kubo node's own garbage collection removes the blocks of unpinned files.
        """
        if not is_foreign:
            self._store.unpin(cid)
        collect(self.staging, [cid], keep=keep)

    def _put(self, cid: CID) -> None:
        """Put a file from the staging folder into the Kubo node, which pins the file."""
        try:
            # The temporary file is in the staging folder, because the system's temporary folder may be in memory.
            with tempfile.TemporaryFile(dir=self.staging.folder) as copy:
                for part in self.staging.open(cid):
                    copy.write(part)
                copy.seek(0)
                stored = self._store.put(copy)
        except OSError as error:
            raise StoreError(
                f"a file for the store cannot be written to {self.staging.folder}",
                why=error.strerror or str(error),
                remedy="check the folder's permissions and the disk's free space",
            ) from error
        if stored != cid:
            why = f"the address of the stored file is {stored}, not {cid}"
            raise StoreError("the store did not store the given file", why=why)
