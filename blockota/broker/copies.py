"""Where a broker keeps its copies: the embedded store, or a Kubo node with a staging folder.

An interrupted fetch can only be continued in a store that takes single blocks. A node takes whole files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from blockota.errors import Action, ContentError, StoreError, UsageError
from blockota.formats.cid import CID
from blockota.stores.gateway import GatewayStore
from blockota.stores.local import LocalStore, collect
from blockota.stores.store import Store


class Copies:
    """The copies of a broker.

    Args:
        store: the store in which they are kept.
        folder: where files are assembled for a store that takes whole files; the embedded store needs none.

    Attributes:
        staging: takes the blocks of a file while it is fetched; the embedded store is its own staging area.

    Raises:
        UsageError: the store is read-only.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        if isinstance(store, GatewayStore):
            raise UsageError(
                "copies cannot be stored in a gateway",
                why="a gateway only serves what its operator has stored",
                remedy="use a store of your own, such as file:FOLDER or kubo:http://HOST:PORT",
                action=Action.CHOOSE_STORE,
            )
        self._store = store
        self.staging = store if isinstance(store, LocalStore) else LocalStore(folder)

    def is_pinned(self, cid: CID) -> bool:
        """Whether a file is pinned; False for a node, which does not record whose a pin is."""
        # Nothing is ever pinned in the staging folder of a node.
        return cid in self.staging.pins()

    def has(self, cid: CID) -> bool:
        """Whether the root of a pinned file is still there."""
        return self._store.has(cid)

    def pin(self, cid: CID) -> None:
        """Keep a file that is complete in `staging`: a node gets it as a whole, and the staging folder is emptied."""
        if self._store is self.staging:
            self._store.pin(cid)
            return
        try:
            self._put(cid)
        except (ContentError, StoreError):
            if not self._store.has(cid):
                raise
            self._store.pin(cid)  # an earlier run was killed after the put, while it emptied the staging folder
        collect(self.staging, [cid], keep=())

    def drop(self, cid: CID, *, keep: Iterable[CID], is_foreign: bool) -> None:
        """Unpin a file unless the pin is another program's, and remove the blocks that no kept root needs.

        A node collects its garbage itself.
        """
        if not is_foreign:
            self._store.unpin(cid)
        collect(self.staging, [cid], keep=keep)

    def _put(self, cid: CID) -> None:
        """Put a file from the staging folder into the node, which pins it."""
        try:
            # On the disk of the staging folder: the file can be larger than a temporary folder in memory.
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
            raise StoreError("the store has stored another file", why=f"its address is {stored}, not {cid}")
