"""Compare a verified entry with the gateway chain: find the entry's anchor, the log's keeper, and later events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.update_ledger import UpdateLedgerContract
from blockota.errors import RefusedError
from blockota.formats.notes import Checkpoint
from blockota.formats.tlog import is_consistent
from blockota.ledger.reader import EntryProof, LogReader
from blockota.ledger.verify import VerifiedEntry
from blockota.model.anchored_log import AnchoredLog, LogState
from blockota.model.device import DeviceVersion
from blockota.model.identity import Identity
from blockota.model.proof_file import Anchor
from blockota.model.release import show_time


@dataclass(frozen=True)
class CheckedAnchor:
    """An anchor that the gateway chain confirms.

    Attributes:
        chain_id: the id of the gateway chain.
        block: number of the block with the anchor.
        time: Unix time of the anchor's block, in seconds. The entry existed at this time.
        size: the number of entries that were anchored.
        keeper: the current record of the identity that keeps the log.
        log: the log's newest anchor.
    """

    chain_id: int
    block: int
    time: int
    size: int
    keeper: Identity
    log: AnchoredLog

    @property
    def remarks(self) -> Iterator[str]:
        """Later events that concern the log or its keeper. These events do not invalidate the proof of the entry."""
        keeper = f"{self.keeper.kind} {self.keeper.uuid}"
        if self.keeper.banned_at is not None:
            # In the second of the ban, an anchor came first: the contract refuses the anchors of a banned keeper.
            when = "after" if self.keeper.banned_at >= self.time else "before"
            lifted = "" if self.keeper.banned else "; the ban was lifted"
            yield f"the {keeper} was banned on {show_time(self.keeper.banned_at)}, {when} this anchor{lifted}"
        if self.keeper.retired:
            yield f"the {keeper} is retired"
        if self.log.state is not LogState.GROWING:
            suspicion = self.log.suspicion
            why = f": device {suspicion.device} has two installs of one release" if suspicion else ""
            yield f"the log is {self.log.state}{why}"

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a checked anchor, as in ``log verify --chain --json``."""
        return {
            "checked": True,
            "chainId": self.chain_id,
            "block": self.block,
            "time": self.time,
            "size": self.size,
            "keeper": self.keeper.as_fields(),
            "log": self.log.as_fields(),
        }


def check_anchor(
    found: VerifiedEntry,
    anchor: Anchor | None,
    ledger: UpdateLedgerContract,
    identities: IdentitiesContract,
    *,
    confirmations: int,
) -> CheckedAnchor:
    """Check the anchor that a proof file names.

    Args:
        found: the verified entry of the proof file.
        anchor: the anchor that the file names.
        ledger: the contract with the anchors.
        identities: the registry of the keepers of logs.
        confirmations: the number of blocks that must follow the block of the anchor.

    Raises:
        RefusedError: the entry is not anchored, or the anchor contradicts the checkpoint or the keeper's key.
        ChainError: the node is out of reach, or no longer has the events of the anchor's block.
    """
    keeper = found.entry.gateway
    if anchor is None or keeper is None:
        why = "the entry names no gateway" if keeper is None else "the file names no anchor"
        raise _not_anchored(why)
    if anchor.chain_id != ledger.chain.chain_id:
        raise _not_anchored(f"the file names chain {anchor.chain_id}, and the gateway chain is {ledger.chain.chain_id}")

    # (1) The contract's event is in the block, and the block is confirmed.
    confirmed = ledger.chain.head().last_confirmed(confirmations)
    if anchor.block > confirmed:
        raise _not_anchored(f"block {anchor.block} is not confirmed; the newest confirmed block is {confirmed}")
    events = ledger.anchors(keeper, from_block=anchor.block, to_block=anchor.block)
    anchored = next((one.head for one in events if one.head.size == anchor.size), None)
    if anchored is None:
        raise _not_anchored(f"the contract {ledger.address} has no anchor of size {anchor.size} in that block")

    # (2) The anchored tree has the entry, and it is one log with that of the checkpoint.
    if found.index >= anchored.size:
        raise _not_anchored(f"the anchor has the size {anchored.size}, and the index of the entry is {found.index}")
    earlier, later = sorted((anchored, found.head), key=lambda head: head.size)
    if not is_consistent(earlier, later, anchor.proof):
        raise RefusedError(
            "the log contradicts its anchor",
            why=f"the checkpoint of size {found.head.size} is not consistent with the anchor of size {anchored.size}, "
            "so the keeper publishes different logs, or the file is damaged",
            remedy="keep the receipt as evidence, and report the log to the city",
        )

    # (3) The log's key is one of the keeper.
    record = identities.known_identity(keeper)
    if found.log_key.key not in {one.keys.log_key for one in identities.generations(keeper)}:
        raise RefusedError(
            f"the log does not belong to the {record.kind} {keeper}",
            why=f"the registry has no key {found.log_key.key_id.hex()} for a log of this identity",
            remedy="do not rely on the receipt; report the log to the city",
        )
    log = ledger.log(keeper)
    if log is None:
        raise _not_anchored("the contract has no log of the gateway")
    time = ledger.chain.head(anchor.block).time
    return CheckedAnchor(anchor.chain_id, anchor.block, time, anchored.size, record, log)


def check_device_key(device: int, key: bytes, versions: Sequence[DeviceVersion]) -> str:
    """Compare the key that verified a device's signature with the keys in DeviceRegistry.

    Args:
        device: number of the device.
        key: the trusted key of the device, x and y.
        versions: all versions of the device in the registry, the current version first.

    Returns:
        A remark if the device has replaced the trusted key by a newer key; empty if the trusted key is the current key.

    Raises:
        RefusedError: the device never had this key.
    """
    version = next((one for one in versions if one.key and one.key.data == key), None)
    if version is None:
        raise RefusedError(
            f"the trusted key does not belong to device {device}",
            why="the registry of devices never had this key for the device",
            remedy="do not rely on the receipt; get the key of the device from the gateway chain",
        )
    return "" if version is versions[0] else f"device {device} has another key since block {version.to_block}"


def find_anchor(reader: LogReader, proof: EntryProof, keeper: UUID, ledger: UpdateLedgerContract) -> Anchor | None:
    """Find the oldest anchor of a tree that includes an entry; None if the entry is not anchored yet.

    Args:
        reader: the log.
        proof: the entry with its proof to a checkpoint of the log.
        keeper: the identity that keeps the log.
        ledger: the contract.

    Raises:
        RefusedError: the anchored log is larger than the published log, or differs from it.
        ContentError: the log is damaged.
        ChainError: the node is out of reach, or no longer has the events.
    """
    event = next((one for one in ledger.anchors(keeper) if proof.index < one.head.size), None)
    if event is None:
        return None

    if reader.head_at(event.head.size) != event.head:
        raise RefusedError(
            "the log contradicts its anchor",
            why=f"its root at size {event.head.size} differs from the root in the anchor of block {event.block}",
            remedy="use the log that was anchored, because this log is a different log or a modified copy",
        )

    # The proof's checkpoint can be older or newer than the anchor.
    earlier, later = sorted((event.head.size, Checkpoint.parse(proof.checkpoint.text).head.size))
    consistency = reader.prove_consistency(earlier, later)
    return Anchor(ledger.chain.chain_id, event.block, event.head.size, tuple(consistency))


def _not_anchored(why: str) -> RefusedError:
    return RefusedError(
        "the entry is not anchored",
        why=why,
        remedy="ask the keeper of the log for a receipt with an anchor",
    )
