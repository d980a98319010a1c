"""What ``replica check`` found, for people and machines, and as an exit status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blockota.cli.session import Session
from blockota.errors import BlockOTAError, ContentError, StoreError

if TYPE_CHECKING:
    from blockota.stores.probe import Probe


def failure_of(probes: Sequence[Probe]) -> BlockOTAError | None:
    """What is wrong with replicas: a lie weighs more than an absence, None where all serve."""
    from blockota.stores.probe import ProbeStatus

    liars = [one.agreement.uri for one in probes if one.standing is ProbeStatus.LIES]
    absent = [one.agreement.uri for one in probes if one.standing is ProbeStatus.GONE]
    if liars:
        remedy = "tell the vendor, who can end the agreement by `blockota replica terminate`"
        return ContentError(f"{len(liars)} of {len(probes)} replicas lie", why=", ".join(liars), remedy=remedy)
    if absent:
        remedy = "tell the brokers, and check again"
        return StoreError(f"{len(absent)} of {len(probes)} replicas do not serve", why=", ".join(absent), remedy=remedy)
    return None


def show_probes(session: Session, probes: Sequence[Probe], *, error: BlockOTAError | None) -> None:
    """Print what was found; with JSON and an error, the error's object says it."""
    fields = {"replicas": [_as_fields(one) for one in probes]}
    if session.as_json and error:
        session.result_of_failure(error, fields)
        return
    columns = ("NUMBER", "PRODUCT", "VERSION", "REPLICA", "STANDING", "BLOCKS", "SECONDS", "WHY")
    session.result(fields, lambda: session.table(columns, [_row(one) for one in probes]))


def _row(one: Probe) -> tuple[object, ...]:
    found = one.agreement
    facts = (found.number, found.product, found.version, found.uri)
    return (*facts, one.standing, one.blocks, f"{one.seconds:.2f}", one.why or "-")


def _as_fields(one: Probe) -> dict[str, Any]:
    return {
        "number": one.agreement.number,
        "broker": one.agreement.broker,
        "product": one.agreement.product,
        "version": str(one.agreement.version),
        "uri": one.agreement.uri,
        "standing": str(one.standing),
        "blocks": one.blocks,
        "seconds": round(one.seconds, 3),
        "lastBlock": str(one.block),
        "why": one.why,
    }
