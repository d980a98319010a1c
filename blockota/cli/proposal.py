"""``blockota proposal``: what the vendor's Safe is asked, owner by owner."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.session import Session, with_session
from blockota.errors import RefusedError, StoreError, UsageError
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
    signed = [_read_signature(path) for path in _signature_files(file, signatures)]
    fields = {
        "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
        "intent": _intent(proposal),
        "signers": [signature.signer for signature in signed],
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
    account = session.open_key(key)
    path = options["output"] or file.with_name(f"{file.stem}.{account.address.lower()[:10]}.signature.json")
    refuse_existing(path)
    if not options["offline"]:
        _check_signer(session, proposal, signer=account.address)
    if not session.as_json:
        _show_agreement(session, proposal, offline=options["offline"])
        _show(session, proposal, signed=[])
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
    Example:  blockota proposal execute 1.4.0.json --key keystore:ci.json
    """
    from blockota.multisig import execute as execute_proposal
    from blockota.vendor import check_target

    proposal = _read(file)
    check_target(proposal, chain_id=session.settings.chain_id, contracts=session.contract_addresses)
    signed = [_read_signature(path) for path in _signature_files(file, signatures)]
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


def _signature_files(file: Path, named: tuple[Path, ...]) -> list[Path]:
    """The named files and those beside the proposal, each once."""
    beside = sorted(file.parent.glob(f"{_escaped(file.stem)}.*.signature.json"))
    return list(dict.fromkeys(path.resolve() for path in (*named, *beside)))


def _escaped(stem: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)


def _check(session: Session, proposal: Proposal, *, image: Path | None) -> None:
    from blockota.files import read_input
    from blockota.stores import read_whole
    from blockota.vendor import check_images, check_target

    proposal.check_time(int(time.time()))
    check_target(proposal, chain_id=session.settings.chain_id, contracts=session.contract_addresses)

    def fetch(address: CID, size: int) -> bytes:
        if image:
            return read_input(image, limit=MAX_IMAGE_SIZE)
        try:
            return read_whole(session.store, address, size=size)
        except StoreError as error:
            raise StoreError(
                "the image cannot be checked", why=error.why, remedy="give it with --image FILE, or name a --store"
            ) from error

    check_images(proposal, fetch)


def _check_signer(session: Session, proposal: Proposal, *, signer: str) -> None:
    from blockota.multisig import check_nonce, read_safe
    from blockota.vendor import check_owner

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


def _intent(proposal: Proposal) -> list[dict[str, str]]:
    from blockota.intent import describe

    return describe(proposal.call)


def _show_agreement(session: Session, proposal: Proposal, *, offline: bool) -> None:
    """Show what a decision on an agreement is about, which the chain alone knows."""
    if offline or proposal.contract != "FirmwareReplication":
        return
    from blockota.broker import find_agreement
    from blockota.cli.replica import as_shown

    session.fields(as_shown(find_agreement(session.replication, proposal.call.arguments["id"])))


def _show(session: Session, proposal: Proposal, *, signed: list[Signature]) -> None:
    for group in _intent(proposal):
        session.fields(group)
    session.fields(
        {
            "reason": proposal.reason or "none given",
            "expires": show_time(proposal.expires),
            "chain id": proposal.chain_id,
            "contract": proposal.to,
            "Safe": proposal.safe,
            "nonce": proposal.nonce,
            "domain hash": "0x" + proposal.domain_hash.hex(),
            "message hash": "0x" + proposal.message_hash.hex(),
            "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
        }
        | {f"signer {number}": signature.signer for number, signature in enumerate(signed, 1)}
    )
