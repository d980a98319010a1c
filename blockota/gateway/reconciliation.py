"""Bring the state of a gateway into agreement with its log.

The reconciliation runs before the gateway serves devices. Without the reconciliation, a gateway whose state was lost,
or restored from an older copy, would log some statements a second time. If a log has two entries about the installation
of one release on one device, UpdateLedger suspends the log. The reconciliation adds the facts to the state that only
the log contains: the last running image of each device, the installations, and the events.
"""

from __future__ import annotations

from dataclasses import replace

from blockota.errors import RefusedError
from blockota.gateway.entries import event_digest
from blockota.gateway.planning import FIRMWARE
from blockota.gateway.state import DeviceRecord, GatewayState, StateChanges
from blockota.ledger.log import TileLog
from blockota.model.delivery import Delivery
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry


def reconcile(state: GatewayState, log: TileLog) -> int:
    """Copy facts from the log to the state if the state lacks them.

    Returns:
        The number of added entries.

    Raises:
        RefusedError: the log lacks entries that the state has recorded.
        ContentError: the log is damaged.
    """
    known, size = state.log_size, len(log)
    if known > size:
        raise RefusedError(
            f"the log in {log.folder} is older than the gateway's state",
            why=f"it has {size:,} entries, but the state records {known:,}",
            remedy="restore the newest copy of the log; without a copy, the city must retire the gateway's identity",
        )

    # An entry that waits in the outbox was appended, but its index is not recorded yet.
    waiting = {entry: sequence for sequence, entry in state.outbox()}
    new = list(enumerate(log.entries(known), known))
    state.appended([(waiting[raw], index) for index, raw in new if raw in waiting])

    unknown = [(index, LogEntry.decode(raw)) for index, raw in new if raw not in waiting]
    if unknown:
        _learn(state, unknown, size)
    return len(unknown)


def _learn(state: GatewayState, entries: list[tuple[int, LogEntry]], size: int) -> None:
    deliveries = {(device, slot): delivery for device, slot, delivery in state.deliveries()}
    records, events = state.devices(), list[tuple[int, int, bytes, int]]()
    for index, entry in entries:
        # Only entries about the running image change the state of a delivery.
        if entry.kind.names_running_image and entry.device:
            is_configuration = entry.kind is EntryKind.CONFIGURATION and entry.release is not None
            slot = entry.release.product if is_configuration and entry.release else FIRMWARE
            before = deliveries.get((entry.device, slot), Delivery(attempt=state.first_attempt))
            deliveries[entry.device, slot] = _after(before, entry)

        # A device numbers its events apart from its other statements.
        if entry.kind is EntryKind.EVENT and entry.counter is not None:
            events.append((entry.device, entry.counter, event_digest(entry.source or ""), index))
        elif entry.counter is not None:
            record = records.get(entry.device, DeviceRecord())
            records[entry.device] = replace(record, counter=max(record.counter, entry.counter))

    state.learn(StateChanges(state.time, deliveries, records), events, log_size=size)


def _after(delivery: Delivery, entry: LogEntry) -> Delivery:
    """Return the state of a delivery after a log entry about the running image. The state has no target."""
    installed = delivery.installed
    if entry.release and entry.level is not EvidenceLevel.B:
        installed |= {entry.release.digest}
    return Delivery(
        running=entry.image,
        logged=(entry.image, entry.level) if entry.image and entry.level else None,
        installed=installed,
        given_up=delivery.given_up,
        attempt=delivery.attempt + 1,
    )
