"""Prepare the anchor of a log on the gateway chain: choose the size to anchor, and make the consistency proof."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.update_ledger import TreeGrowth, UpdateLedgerContract
from blockota.errors import Action, RefusedError
from blockota.formats.notes import Note, NoteAlgorithm, VerifierKey
from blockota.formats.tlog import EMPTY_TREE, TILE_WIDTH, TreeHead
from blockota.ledger.reader import LogReader
from blockota.model.anchored_log import AnchoredLog, LogState

EVERY = TILE_WIDTH
"""A log is usually anchored at a multiple of this size. Proofs between full tiles are short, so that the anchor costs a
fifth less gas than at other sizes."""


@dataclass(frozen=True)
class PlannedAnchor:
    """The next anchor of a log.

    Attributes:
        keeper: the identity that keeps the log.
        anchored: the tree that is anchored now.
        growth: the larger tree to anchor, with its consistency proof; None if the log has too few new entries.
    """

    keeper: UUID
    anchored: TreeHead
    growth: TreeGrowth | None


def plan_anchor(
    reader: LogReader, account: str, ledger: UpdateLedgerContract, identities: IdentitiesContract, *, every: int = EVERY
) -> PlannedAnchor:
    """Read the anchored size, and prove that the published log continues the anchored tree.

    Args:
        reader: the published log.
        account: the address of the account of the log's keeper.
        ledger: the contract with the anchors.
        identities: the registry of the keepers of logs.
        every: only tree sizes that are multiples of this number are anchored. With 1, all published entries are
            anchored.

    Raises:
        RefusedError: the account belongs to no identity, the log does not belong to the account's identity, the log
            does not continue the anchored log, or the log is suspended or retired.
        ContentError: the log is damaged.
        ChainError: the node is out of reach.
    """
    keeper = identities.known_identity(account)
    note = reader.note()
    _check_key(reader, note, keeper.uuid, keeper.keys.log_key)

    record = ledger.log(keeper.uuid)
    anchored = TreeHead(record.size, record.root) if record else EMPTY_TREE
    published = reader.head().size
    if record:
        _check_continuation(reader, record, published)

    size = published - published % every
    if size <= anchored.size:
        return PlannedAnchor(keeper.uuid, anchored, None)
    proof = reader.prove_consistency(anchored.size, size)
    return PlannedAnchor(keeper.uuid, anchored, TreeGrowth(size, reader.head_at(size).root, tuple(proof)))


def _check_key(reader: LogReader, note: Note | None, keeper: UUID, log_key: bytes | None) -> None:
    """Check that the identity's log key in the registry signed the published checkpoint."""
    if note is None:
        raise RefusedError(
            "there is nothing to anchor",
            why=f"the log {reader.name} has not published a checkpoint",
            remedy="publish a checkpoint first",
        )
    if log_key is None:
        raise RefusedError(
            "the log cannot be anchored",
            why=f"the registry has no key for a log of {keeper}",
            remedy="ask the city to enrol the key of the log",
        )

    key = VerifierKey(note.text.partition("\n")[0], NoteAlgorithm.ED25519, log_key)
    try:
        is_signed = note.is_signed_by(key)
    except ValueError as error:
        raise reader.damaged(str(error)) from error
    if not is_signed:
        raise RefusedError(
            f"the log {reader.name} does not belong to {keeper}",
            why=f"its checkpoint is not signed by the key that the registry has for this log, {log_key.hex()}",
            remedy="use the account and the log of the same identity; after a key rotation, publish a new checkpoint",
        )


def _check_continuation(reader: LogReader, record: AnchoredLog, published: int) -> None:
    """Check that the published log has the anchored entries, and that the log is neither suspended nor retired."""
    if record.state is not LogState.GROWING:
        raise RefusedError(
            "the log cannot be anchored",
            why=f"the status of the log in the contract is {record.state}",
            remedy="an Administrator decides on suspended logs; a retired log is continued by a log of a new identity",
            action=Action.SHOW_LOG,
        )

    if record.size > published or reader.head_at(record.size).root != record.root:
        found = f"its size is only {published}" if record.size > published else "it has another root at this size"
        raise RefusedError(
            f"the log {reader.name} does not continue the anchored log",
            why=f"the log was anchored at size {record.size}, and {found}",
            remedy="restore the newest copy of the log's folder; if no copy exists, have the city retire the identity",
        )
