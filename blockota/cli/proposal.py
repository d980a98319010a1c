"""``blockota proposal``: what the vendor's Safe is asked, owner by owner."""

from __future__ import annotations

import glob
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.session import Session, with_session
from blockota.errors import ProposalError, RefusedError, StoreError, UsageError
from blockota.release import show_time

if TYPE_CHECKING:
    from blockota.cid import CID
    from blockota.proposal import Proposal, Signature

MAX_IMAGE_SIZE = 1 << 30
_FILE = click.Path(path_type=Path)


@click.group()
def proposal() -> None:
    """Proposals: one transaction of the vendor's Safe each, as a file that its owners sign."""


@proposal.command()
@click.argument("file", type=_FILE)
@click.option("--signature", "signatures", type=_FILE, multiple=True, help="Signature file; those beside FILE too.")
@with_session
def show(session: Session, /, file: Path, signatures: tuple[Path, ...]) -> None:
    """Show what FILE asks for, decoded from its calldata, and who signed it.

    \b
    Example:  blockota proposal show 1.4.0.json
    """
    proposal = _read(file)
    signed = {
        signature.signer: _standing(proposal, signature) for signature in _signatures(session, file, named=signatures)
    }
    fields = json.loads(proposal.to_json()) | {
        "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
        "contract": proposal.contract,
        "expired": int(time.time()) >= proposal.expires,
        "signers": signed,
    }
    session.result(fields, lambda: _show(session, proposal, signed=signed))


@proposal.command()
@click.argument("file", type=_FILE)
@click.option("--key", required=True, metavar="URI", help="keystore:FILE, ape:ALIAS, env:NAME or dev:N.")
@click.option("--image", type=_FILE, help="The image, when it is not in the store.")
@click.option("--offline", is_flag=True, help="Do not ask the chain whether the key is an owner's.")
@click.option("-o", "--output", type=_FILE, help="Signature file to write; beside FILE by default.")
@click.option("--yes", is_flag=True, help="Sign without being asked.")
@with_session
def sign(session: Session, /, file: Path, key: str, image: Path | None, **options: Any) -> None:
    """Check FILE, hash its image, show what it does, and write a signature file.

    \b
    Example:  blockota proposal sign 1.4.0.json --key keystore:alice.json
    """
    from blockota.cli.proposing import refuse_existing
    from blockota.files import write_result
    from blockota.proposal import sign as sign_proposal

    proposal = _read(file)
    _check(session, proposal, image=image)
    if not session.as_json:
        _show_agreement(session, proposal, offline=options["offline"])
        _show(session, proposal, signed={})
    account = session.open_key(key)
    path = options["output"] or file.with_name(f"{file.stem}.{account.address.lower()[:10]}.signature.json")
    refuse_existing(path, why="a signature is made once; the file may belong to an earlier proposal of that name")
    if not options["offline"]:
        _check_signer(session, proposal, signer=account.address)
    if not options["yes"]:
        _ask_consent(session)
    write_result(path, sign_proposal(proposal, account).to_json())
    fields = {"signature": str(path), "signer": account.address, "safeTxHash": "0x" + proposal.safe_tx_hash.hex()}
    session.result(fields, lambda: session.done(f"{path} is the signature of {account.address}"))


@proposal.command()
@click.argument("file", type=_FILE)
@click.option("--key", required=True, metavar="URI", help="Who pays for the transaction; needs not be an owner.")
@click.option("--signature", "signatures", type=_FILE, multiple=True, help="Signature file; those beside FILE too.")
@with_session
def execute(session: Session, /, file: Path, key: str, signatures: tuple[Path, ...]) -> None:
    """Check FILE and its signatures as the Safe will, simulate it, and send it. Anyone may.

    \b
    Example:  blockota proposal execute 1.4.0.json --key env:PAYER_KEY
    """
    from blockota.approval import check_target
    from blockota.multisig import execute as execute_proposal

    proposal = _read(file)
    check_target(proposal, chain_id=session.settings.chain_id, contracts=session.contract_addresses)
    signed = _signatures(session, file, named=signatures)
    account = session.open_key(key)
    receipt = execute_proposal(session.chain, proposal, signatures=signed, account=account, now=int(time.time()))
    transaction = "0x" + receipt.transaction.hex()
    fields = {"transaction": transaction, "block": receipt.block_number, "gas": receipt.gas_used}
    sentence = f"executed in block {receipt.block_number} for {receipt.gas_used:,} gas, transaction {transaction}"
    session.result(fields, lambda: session.done(sentence))


def _read(path: Path) -> Proposal:
    from blockota.files import read_input
    from blockota.proposal import MAX_FILE_SIZE, Proposal

    return Proposal.from_json(read_input(path, limit=MAX_FILE_SIZE))


def _read_signature(path: Path) -> Signature:
    from blockota.files import read_input
    from blockota.proposal import MAX_FILE_SIZE, Signature

    return Signature.from_json(read_input(path, limit=MAX_FILE_SIZE))


def _signatures(session: Session, file: Path, *, named: tuple[Path, ...]) -> list[Signature]:
    """The named signatures, and those beside the proposal that belong to it."""
    digest = _read(file).digest
    found = {path.resolve(): _read_signature(path) for path in named}
    for path in sorted(file.parent.glob(f"{glob.escape(file.stem)}.0x????????.signature.json")):
        signature = _read_signature(path)
        if signature.proposal == digest:
            found.setdefault(path.resolve(), signature)
        elif path.resolve() not in found:
            session.note(f"{path.name} is for another proposal, and was left aside")
    return list(found.values())


def _standing(proposal: Proposal, signature: Signature) -> str:
    from blockota.proposal import check_signature

    try:
        check_signature(proposal, signature)
    except ProposalError as error:
        return f"NOT VALID: {error.what}, {error.why}"
    return "valid; whether it is an owner's is checked when executing"


def _check(session: Session, proposal: Proposal, *, image: Path | None) -> None:
    from blockota.approval import check_images, check_target
    from blockota.stores import read_whole
    from firmware_host.image import read_image

    proposal.check_time(int(time.time()))
    check_target(proposal, chain_id=session.settings.chain_id, contracts=session.contract_addresses)

    def fetch(address: CID, size: int) -> bytes:
        if image:
            return read_image(image, load_address=0, limit=MAX_IMAGE_SIZE).data
        try:
            return read_whole(session.store, address, size=size)
        except StoreError as error:
            raise StoreError(
                "the image cannot be checked", why=error.why, remedy="give it with --image FILE, or name a --store"
            ) from error

    check_images(proposal, fetch)


def _check_signer(session: Session, proposal: Proposal, *, signer: str) -> None:
    from blockota.approval import check_owner
    from blockota.multisig import check_nonce, read_safe

    safe = read_safe(session.chain, proposal.safe)
    check_owner(safe, signer)
    if proposal.nonce < safe.nonce:
        check_nonce(proposal, safe)


def _ask_consent(session: Session) -> None:
    if session.as_json or not sys.stdin.isatty():
        raise UsageError(
            "nobody agreed to sign", why="there is no terminal to ask on", remedy="read the proposal, then say --yes"
        )
    if not click.confirm("Sign this", err=True):
        raise RefusedError("nothing was signed", why="you said no")


def _show_agreement(session: Session, proposal: Proposal, *, offline: bool) -> None:
    """Show what a decision on an agreement is about, which the chain alone knows."""
    if proposal.contract != "FirmwareReplication":
        return
    if offline:
        session.note(
            "Which broker and release the agreement is about, only the chain knows; --offline does not ask it."
        )
        return
    from blockota.broker import find_agreement
    from blockota.cli.replica import as_shown

    session.fields(as_shown(find_agreement(session.replication, proposal.call.arguments["id"])))


def _show(session: Session, proposal: Proposal, *, signed: dict[str, str]) -> None:
    from blockota.intent import describe

    expired = " (EXPIRED)" if time.time() >= proposal.expires else ""
    rows: dict[str, object] = {
        "contract": f"{proposal.contract} {proposal.to}",
        "chain id": proposal.chain_id,
        "Safe": proposal.safe,
        "nonce": proposal.nonce,
        "expires": show_time(proposal.expires) + expired,
        "domain hash": "0x" + proposal.domain_hash.hex(),
        "message hash": "0x" + proposal.message_hash.hex(),
        "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
        "reason given": repr(proposal.reason) if proposal.reason else "none",
    }
    for group in describe(proposal.call):
        session.fields(group)
    session.fields(rows)
    for signer, standing in signed.items():
        session.fields({f"signature of {signer}": standing})
