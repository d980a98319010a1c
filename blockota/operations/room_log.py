"""The log of the operations room. Each sign-in, dismissal, prepared order and prepared ban becomes an entry.

The room is an identity of the kind Cloud. The contracts refuse all orders and bans of this kind of identity.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.update_ledger import UpdateLedgerContract
from blockota.formats.notes import NoteSigner
from blockota.ledger.anchoring import plan_anchor
from blockota.ledger.log import TileLog
from blockota.ledger.witnesses import Witness, publish_witnessed
from blockota.model.receipt import EntryKind, LogEntry, printable

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_LONG_TEXT = 4000


class RoomLog:
    """Appends to the log of the room.

    Args:
        log: the log.
        signer: the key of the log.
        identity: UUID of the room.
        witnesses: the witnesses that are asked to sign checkpoints.
    """

    def __init__(self, log: TileLog, signer: NoteSigner, identity: UUID, witnesses: tuple[Witness, ...] = ()) -> None:
        self.log, self.identity = log, identity
        self._signer, self._witnesses = signer, witnesses

    def record(self, what: str, *, now: int | None = None) -> int:
        """Append an entry of the kind event, and publish it.

        Returns:
            The index of the entry.

        Raises:
            StoreError: the log's folder cannot be written.
            RefusedError: a witness has signed a checkpoint that contradicts the log.
        """
        entry = LogEntry(
            kind=EntryKind.EVENT,
            time=int(time.time()) if now is None else now,
            gateway=self.identity,
            source=printable(what[:_LONG_TEXT]),
        )
        [number] = self.log.append([entry.encode()])
        publish_witnessed(self.log, self._signer, self._witnesses)
        return number


def anchor_log(
    log: RoomLog, account: BaseAccount, ledger: UpdateLedgerContract, identities: IdentitiesContract
) -> int | None:
    """Anchor all published entries of the room's log.

    Returns:
        The anchored number of entries; None if the log has not grown since its last anchor.

    Raises:
        RefusedError: the account does not belong to the room, or the log does not continue the anchored log.
        ChainError: the node is out of reach.
    """
    planned = plan_anchor(log.log.published, account.address, ledger, identities, every=1)
    if planned.growth is None:
        return None
    ledger.anchor(account, planned.growth)
    return planned.growth.size
