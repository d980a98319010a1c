"""``blockota log verify`` and ``blockota log receipt``: check the proof of a log entry, and make such a proof."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blockota.cli.parameters import NumberRange
from blockota.cli.session import Session, with_session
from blockota.files import read_input, refuse_overwriting, write_result
from blockota.ledger.trust import TrustedKeys, load_trust
from blockota.ledger.verify import VerifiedEntry, verify_proof
from blockota.model.proof_file import MAX_PROOF_FILE_SIZE, ProofFile
from blockota.model.receipt import LogEntry
from blockota.model.release import show_time

if TYPE_CHECKING:
    from blockota.ledger.anchored import CheckedAnchor


@click.command()
@click.argument("file", metavar="RECEIPT.json", type=click.Path(path_type=Path))
@click.option(
    "--trust", type=click.Path(path_type=Path), metavar="FILE", help="File with [trust], in place of the settings."
)
@click.option("--chain", "asks_chain", is_flag=True, help="Ask the gateway chain for the anchor and for bans.")
@with_session
def verify(session: Session, /, file: Path, trust: Path | None, *, asks_chain: bool) -> None:
    """Check RECEIPT.json, the proof of a log entry, off line.

    The keys of logs, witnesses and devices come from [trust] in the settings, or from --trust FILE, never from
    RECEIPT.json. With --chain, the anchor that RECEIPT.json names and the key of the device are compared with the
    gateway chain.

    \b
    Example:  blockota log verify RECEIPT.json --trust trust.toml
    """
    keys = load_trust(trust or session.config, environment=os.environ)
    proof = ProofFile.from_json(read_input(file, limit=MAX_PROOF_FILE_SIZE))
    found = verify_proof(proof, keys)
    anchored, replaced = _check_on_chain(session, proof, found, keys) if asks_chain else (None, "")
    remarks = [*filter(None, [found.evidence.remark, replaced]), *(anchored.remarks if anchored else ())]

    def show() -> None:
        rows = _rows(found, trusted=len(keys.witnesses), quorum=keys.quorum)
        rows["anchor"] = _anchor_row(proof, anchored)
        if remarks:
            rows["warning"] = "; ".join(remarks)
        session.fields(rows)
        session.done(_proven_sentence(found))

    unchecked = {"checked": False} | (proof.anchor.as_fields() if proof.anchor else {})
    anchor = anchored.as_fields() if anchored else unchecked
    session.result(found.as_fields() | {"anchor": anchor, "remarks": remarks}, show)


def _check_on_chain(
    session: Session, proof: ProofFile, found: VerifiedEntry, keys: TrustedKeys
) -> tuple[CheckedAnchor, str]:
    """Compare the anchor and the device's key with the gateway chain. Returns the anchor, and why the key differs."""
    from blockota.bindings.devices import DevicesContract
    from blockota.bindings.identities import IdentitiesContract
    from blockota.bindings.update_ledger import UpdateLedgerContract
    from blockota.ledger.anchored import check_anchor, check_device_key

    chain, device = session.gateway, found.entry.device
    contracts = chain.open(UpdateLedgerContract), chain.open(IdentitiesContract)
    anchored = check_anchor(found, proof.anchor, *contracts, confirmations=chain.settings.confirmations)
    if not found.evidence.is_signed:
        return anchored, ""

    versions = chain.open(DevicesContract).versions(device)
    return anchored, check_device_key(device, keys.devices[device], versions)


@click.command()
@click.argument("index", type=NumberRange(min=0))
@click.option(
    "--log",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder of the log; by default from [log].",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option("--chain", "asks_chain", is_flag=True, help="Name the first anchor of the entry on the gateway chain.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@with_session
def receipt(
    session: Session, /, index: int, folder: Path | None, output: Path, *, asks_chain: bool, force: bool
) -> None:
    """Write the proof of the entry with the index INDEX to a file.

    The proof belongs to the newest checkpoint of the log. Anyone who trusts the log's key can check the proof off line.

    \b
    Example:  blockota log receipt 4321 -o RECEIPT.json
    """
    from blockota.bindings.update_ledger import UpdateLedgerContract
    from blockota.ledger.anchored import find_anchor
    from blockota.ledger.log import TileLog
    from blockota.ledger.log_settings import load_log

    refuse_overwriting(output, None, force=force)
    reader = TileLog(folder or load_log(session.config, environment=os.environ).folder).published
    proof = reader.prove_inclusion(index)

    entry, anchor = LogEntry.decode(proof.entry), None
    if asks_chain and entry.gateway:
        anchor = find_anchor(reader, proof, entry.gateway, session.gateway.open(UpdateLedgerContract))

    file = ProofFile(proof.entry, index, proof.path, proof.checkpoint.encode().decode(), anchor)
    write_result(output, file.to_json())

    fields = {"file": str(output), "entry": entry.as_fields(), "anchor": anchor.as_fields() if anchor else None}
    anchored = f"anchored in block {anchor.block}" if anchor else "without an anchor"
    session.result(fields, lambda: session.done(f"{output} proves the entry {index} ({entry.kind}), {anchored}"))


def counted_entries(count: int) -> str:
    """Return a number of entries as text, such as ``1 entry``."""
    return f"{count:,} entr{'y' if count == 1 else 'ies'}"


def _anchor_row(proof: ProofFile, anchored: CheckedAnchor | None) -> str:
    if anchored:
        keeper = f"{anchored.keeper.kind} {anchored.keeper.uuid}"
        where = f"block {anchored.block:,} of chain {anchored.chain_id}"
        return f"{where}, {show_time(anchored.time)}, by the {keeper}, whose log has this key"
    if proof.anchor:
        return f"not checked (the file names block {proof.anchor.block:,} of chain {proof.anchor.chain_id})"
    return "not checked (the file names none)"


def _rows(found: VerifiedEntry, *, trusted: int, quorum: int) -> dict[str, object]:
    entry, evidence, rows = found.entry, found.evidence, dict[str, object]()

    # What the entry states.
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

    # Who states it, and when.
    rows["time"] = f"{show_time(entry.time)}, by the clock of the log's keeper"
    rows["keeper"] = entry.gateway or "not enrolled"
    if entry.gateway and not found.names_gateway:
        rows["keeper"] = f"{entry.gateway}, as the entry states: the log's name does not show it"

    # How far it is proven.
    rows["signed by"] = f"the log's key {found.log_key.key_id.hex()}, for {counted_entries(found.head.size)}"
    cosigned = [f"{one.witness} on {show_time(one.time)}" for one in found.witnesses]
    count = f"{len(cosigned)} of {trusted} trusted ones, quorum {quorum}" if trusted else "none is trusted"
    rows["witnesses"] = f"{count}: {', '.join(cosigned)}" if cosigned else count
    rows["evidence"] = f"level {evidence.level}: {evidence.proves}" if evidence.level else evidence.proves
    return rows


def _proven_sentence(found: VerifiedEntry) -> str:
    """Return a sentence that states what the receipt proves."""
    entry, evidence = found.entry, found.evidence
    if not entry.kind.names_running_image:
        return f"the log has this {entry.kind}: {evidence.proves}"
    device = f"device {entry.device}" if entry.device else "the board"
    return f"{device} ran {entry.release}, {evidence.kind} at level {evidence.level}: {evidence.proves}"
