"""The evidence for the contents of a page: a log entry with its proof, or a transaction with its signers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from blockota.bindings.safe_execution import SafeExecution, read_execution
from blockota.chain.records import TransactionCall
from blockota.errors import BlockOTAError, RefusedError
from blockota.formats.notes import Checkpoint, NoteAlgorithm, VerifierKey
from blockota.formats.public_key import KeyKind
from blockota.ledger.anchored import find_anchor
from blockota.ledger.reader import EntryProof
from blockota.model.evidence import Evidence, judge
from blockota.model.proof_file import Anchor, ProofFile
from blockota.model.receipt import LogEntry
from blockota.operations.archive import Happening
from blockota.operations.room import Room
from blockota.operations.views import happenings_of_transaction


@dataclass(frozen=True)
class EntryEvidence:
    """An entry, and what proves it.

    Attributes:
        keeper: UUID of the identity that writes the log.
        number: index of the entry.
        raw: the bytes of the entry.
        entry: the decoded entry; None if the bytes are not a valid entry.
        judged: what the entry proves, judged with the device's key in the registry; None if the entry or the device's
            signature is not valid.
        proof: the proof file of the entry; None if the proof cannot be made.
        origin: the log's origin in the checkpoint; empty without a proof.
        size: the size of the log in the checkpoint; 0 without a proof.
        anchor: the anchor that covers the entry; None if no anchor covers it.
        trouble: why the proof is missing or the entry cannot be decoded; empty if there is no error.
    """

    keeper: UUID
    number: int
    raw: bytes
    entry: LogEntry | None
    judged: Evidence | None = None
    proof: ProofFile | None = None
    origin: str = ""
    size: int = 0
    anchor: Anchor | None = None
    trouble: str = ""

    @classmethod
    def find(cls, room: Room, keeper: UUID, number: int) -> Self | None:
        """Return the evidence for a verified entry; None if the archive does not have the entry."""
        found = room.archive.rows("SELECT raw FROM entry WHERE keeper = ? AND number = ?", (keeper.bytes, number))
        if not found:
            return None

        raw: bytes = found[0][0]
        trouble, judged, entry = "", None, None

        # (1) What the entry states, and whether the key of its device signed it.
        try:
            entry = LogEntry.decode(raw)
            device = room.state.city.devices.get(entry.device) if room.state.city else None
            judged = judge(entry, device.key.data if device and device.key else None)
        except RefusedError as error:
            trouble = f"{error.what}: {error.why}"

        # (2) That the log has the entry, and the anchor on the chain that covers it.
        try:
            proof, anchor = _prove(room, keeper, number, raw)
        except BlockOTAError as error:
            trouble = trouble or (f"{error.what}: {error.why}" if error.why else error.what)
            return cls(keeper, number, raw, entry, judged, trouble=trouble)

        checkpoint = Checkpoint.parse(proof.checkpoint.text)
        file = ProofFile(proof.entry, number, proof.path, proof.checkpoint.encode().decode(), anchor)
        size, origin = checkpoint.head.size, checkpoint.origin
        return cls(keeper, number, raw, entry, judged, file, origin, size, anchor, trouble)


def trust_file(room: Room, evidence: EntryEvidence) -> str:
    """Return a table ``[trust]`` with the registered keys of an entry's log and device.

    A viewer who does not trust the room can read the registries through another node, and compare the keys.
    """
    city = room.state.city
    keys = city.log_keys.get(evidence.keeper, ()) if city else ()
    logs = [str(VerifierKey(evidence.origin, NoteAlgorithm.ED25519, key)) for key in keys]
    lines = [f"# The keys in the registries at block {city.block.number:,} of the gateway chain." if city else ""]
    lines += ["[trust]", f"logs = {json.dumps(logs)}"]
    device = city.devices.get(evidence.entry.device) if city and evidence.entry else None
    if device and device.key and device.key.kind is KeyKind.P256:
        lines += ["", "[trust.devices]", f'{device.number} = """', device.key.pem.strip(), '"""']
    return "\n".join(lines) + "\n"


def _prove(room: Room, keeper: UUID, number: int, raw: bytes) -> tuple[EntryProof, Anchor | None]:
    """Return the proof of an entry, and the anchor that covers the entry.

    Raises:
        RefusedError: the settings do not name the log, or the log contradicts its anchor, its key or an earlier state.
        ContentError: the log is damaged.
        ChainError: the node is out of reach.
    """
    follower = room.log_follower(keeper)
    if follower is None:
        raise RefusedError(
            f"the log of {keeper} is not followed",
            why="the settings of the room do not name it",
            remedy="add the log to [operations.logs]",
        )
    proof = follower.reader.prove_inclusion(number)
    # The checkpoint and the entry are read again from the log, and may be others than those that were verified.
    follower.check_signature(proof.checkpoint, room.state.city.log_keys.get(keeper, ()) if room.state.city else ())
    if proof.entry != raw:
        raise RefusedError(
            f"the log {follower.reader.name} contradicts itself",
            why=f"its entry {number} differs from the verified entry",
        )
    anchored = room.state.city.logs.get(keeper) if room.state.city else None
    if room.city is None or anchored is None or anchored.size <= number:
        return proof, None
    return proof, find_anchor(follower.reader, proof, keeper, room.city.ledger)


@dataclass(frozen=True)
class TransactionView:
    """A transaction with its events and signers.

    Attributes:
        chain: id of the chain.
        block: number of the block.
        happenings: the archived events of the transaction.
        sent: the transaction, read from the node; None if the node does not answer.
        execution: the signers of the Safe; None if the transaction does not execute a Safe's transaction.
        gas_used: the gas that the transaction used.
        trouble: why the node does not answer; empty if the node answers.
    """

    chain: int
    block: int
    happenings: tuple[Happening, ...]
    sent: TransactionCall | None = None
    execution: SafeExecution | None = None
    gas_used: int | None = None
    trouble: str = ""

    @classmethod
    def find(cls, room: Room, chain: int, block: int, transaction: bytes) -> Self:
        """Return a transaction."""
        found = tuple(happenings_of_transaction(room.archive, chain, transaction, block))
        connection = next((one for one in room.connections if one.settings.chain_id == chain), None)
        if not found or connection is None:
            return cls(chain, block, found, trouble="" if connection else "the room does not follow this chain")

        try:
            sent, receipt = connection.chain.transaction(transaction), connection.chain.receipt(transaction)
        except BlockOTAError as error:
            return cls(chain, block, found, trouble=f"{error.what}: {error.why}" if error.why else error.what)
        if sent is None or receipt is None:
            return cls(chain, block, found, trouble="the node does not keep this transaction")

        return cls(chain, block, found, sent, read_execution(sent, receipt), receipt.gas_used)
