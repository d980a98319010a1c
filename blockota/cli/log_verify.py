"""``blockota log verify``: check the receipt of an installation, or any other entry of a log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blockota.cli.session import Session, with_session

if TYPE_CHECKING:
    from blockota.ledger.verify import VerifiedEntry
    from blockota.model.proof_file import ProofFile


@click.command()
@click.argument("file", metavar="RECEIPT.json", type=click.Path(path_type=Path))
@click.option(
    "--trust", type=click.Path(path_type=Path), metavar="FILE", help="File with [trust], in place of the settings."
)
@with_session
def verify(session: Session, /, file: Path, trust: Path | None) -> None:
    """Check the proof of a log entry, RECEIPT.json, off line.

    The keys of logs, witnesses and devices come from [trust] in the settings, or from --trust FILE, never from
    RECEIPT.json.

    \b
    Example:  blockota log verify RECEIPT.json --trust trust.toml
    """
    from blockota.files import read_input
    from blockota.ledger.trust import load_trust
    from blockota.ledger.verify import verify_proof
    from blockota.model.proof_file import MAX_PROOF_FILE_SIZE, ProofFile

    keys = load_trust(trust or session.config, environment=os.environ)
    proof = ProofFile.from_json(read_input(file, limit=MAX_PROOF_FILE_SIZE))
    found = verify_proof(proof, keys)
    anchor = {"checked": False} | (proof.anchor.as_fields() if proof.anchor else {})

    def show() -> None:
        session.fields(_rows(found, proof, trusted=len(keys.witnesses), quorum=keys.quorum))
        if found.evidence.remark:
            session.warn(found.evidence.remark)
        session.done(_sentence(found))

    session.result(found.as_fields() | {"anchor": anchor}, show)


def _rows(found: VerifiedEntry, proof: ProofFile, *, trusted: int, quorum: int) -> dict[str, object]:
    from blockota.model.release import show_time

    entry, evidence, rows = found.entry, found.evidence, dict[str, object]()
    rows["entry"] = f"{entry.kind}, index {found.index:,} of the log {found.log_key.name}"
    if entry.device or entry.unique_id:
        unique_id = f", unique id {entry.unique_id.hex()}" if entry.unique_id else ""
        rows["device"] = f"{entry.device or 'not registered'}{unique_id}"
    if entry.release:
        rows["release"] = f"{entry.release}, of the contract {entry.release.contract} on chain {entry.release.chain_id}"
    if entry.image:
        rows["image"] = f"SHA-256 {entry.image.hex()}"
    if entry.previous:
        rows["before"] = f"SHA-256 {entry.previous.hex()}"
    if entry.source:
        rows["source" if entry.kind.names_running_image else "text"] = entry.source
    if entry.order is not None:
        rows["order"] = entry.order
    rows["time"] = f"{show_time(entry.time)}, by the clock of the log's keeper"
    rows["keeper"] = entry.gateway or "not enrolled"
    if entry.gateway and not found.names_gateway:
        rows["keeper"] = f"{entry.gateway}, as the entry states: the log's name does not show it"
    rows["signed by"] = f"the log's key {found.log_key.key_id.hex()}, for {found.head.size:,} entries"
    cosigned = [f"{one.witness} on {show_time(one.time)}" for one in found.witnesses]
    count = f"{len(cosigned)} of {trusted} trusted ones, quorum {quorum}" if trusted else "none is trusted"
    rows["witnesses"] = f"{count}: {', '.join(cosigned)}" if cosigned else count
    rows["evidence"] = f"level {evidence.level}: {evidence.proves}" if evidence.level else evidence.proves
    named = f"the file names block {proof.anchor.block:,} of chain {proof.anchor.chain_id}" if proof.anchor else "none"
    rows["anchor"] = f"not checked ({named})"
    return rows


def _sentence(found: VerifiedEntry) -> str:
    """Return what the receipt proves."""
    entry, evidence = found.entry, found.evidence
    if not entry.kind.names_running_image:
        return f"the log has this {entry.kind}: {evidence.proves}"
    device = f"device {entry.device}" if entry.device else "the board"
    return f"{device} ran {entry.release}, {evidence.kind} at level {evidence.level}: {evidence.proves}"
