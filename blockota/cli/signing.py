"""``blockota proposal sign`` and ``execute``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.keys import key_option, open_named_key
from blockota.cli.options import refuse_existing
from blockota.cli.proposal_files import (
    FILE,
    collect_signatures,
    is_pinned,
    open_view,
    read_proposal,
    signature_option,
    view_option,
)
from blockota.cli.proposal_images import check_proposed_images
from blockota.cli.proposal_search import Sources, image_options
from blockota.cli.proposal_shown import (
    ask_consent,
    face_flags,
    flag_fields,
    headline,
    identity,
    meaning,
    show_flags,
    show_groups,
)
from blockota.cli.session import Session, with_session

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

    from blockota.approval.proposal import Proposal
    from blockota.approval.red_flags import RedFlag


@click.command()
@click.argument("file", type=FILE)
@key_option("An owner's")
@image_options
@view_option
@click.option("-o", "--output", type=FILE, help="Signature file to write; beside FILE by default.")
@click.option("--yes", is_flag=True, help="Sign without being asked; red flags are asked about all the same.")
@with_session
def sign(session: Session, /, file: Path, key: str, password_fd: int | None, **options: Any) -> None:
    """Check FILE, hash its images, show all of it, and write a signature.

    Images come from --image, else the store, else whoever serves them. Works without a network when given the images
    and a chain view (`blockota proposal export-view`).

    \b
    Example:  blockota proposal sign 1.4.0.json --key keystore:alice.json
              blockota proposal sign 1.4.0.json --key ape:alice --image app.bin --view view.json
    """
    from blockota.approval.red_flags import red_flags
    from blockota.approval.signature import sign as sign_proposal
    from blockota.approval.signature import to_json
    from blockota.files import write_result

    proposal = read_proposal(file)
    view = open_view(session, [proposal], path=options["view"])
    red_flags(proposal, view, signer=None, now=int(time.time()))  # another chain's or Safe's is refused before all else
    checked = check_proposed_images(session, proposal, sources=Sources.taken_from(options), view=view)
    if not session.as_json:
        show_groups(session, [*meaning(proposal, view=view, images=checked), *identity(proposal, view=view)])
    account = open_named_key(key, password_fd, chain_id=proposal.chain_id)
    path = options["output"] or file.with_name(f"{file.stem}.{account.address.lower()[:10]}.signature.json")
    refuse_existing(path, why="a signature is made once; the file may belong to an earlier proposal of that name")
    pinned = is_pinned(session, view)
    flags = red_flags(proposal, view, signer=account.address, now=int(time.time()), is_pinned=pinned)
    face_flags(session, flags)
    if not options["yes"]:
        ask_consent(session)
    write_result(path, to_json([sign_proposal(proposal, account)]))
    fields = _signed(proposal, account, path=path) | {
        "images": [image.fields for image in checked],
        "redFlags": flag_fields(flags),
    }
    session.result(fields, lambda: session.done(f"{path} is the signature of {account.address}"))


@click.command()
@click.argument("file", type=FILE)
@key_option("Of whoever pays, who needs not be an owner")
@signature_option
@with_session
def execute(session: Session, /, file: Path, key: str, password_fd: int | None, signatures: tuple[Path, ...]) -> None:
    """Check FILE and its signatures as the Safe will, simulate it, and send it.

    Anyone may: it is the signatures that decide.

    \b
    Example:  blockota proposal execute 1.4.0.json --key env:PAYER_KEY
    """
    from blockota.approval.red_flags import red_flags
    from blockota.bindings.safe import execute as execute_proposal

    proposal = read_proposal(file)
    now = int(time.time())
    if not session.as_json:
        session.out.print(headline(proposal), markup=False)
    view = open_view(session, [proposal], path=None)
    show_flags(session, _left_to_see(red_flags(proposal, view, signer=None, now=now)))
    signed = collect_signatures(session, file, proposal=proposal, named=signatures, owners=view.safe.owners)
    account = session.open_key(key, password_fd)
    receipt = execute_proposal(session.chain, proposal, signatures=signed, account=account, now=now)
    transaction = "0x" + receipt.transaction.hex()
    fields = {"transaction": transaction, "block": receipt.block_number, "gas": receipt.gas_used}
    sentence = f"executed in block {receipt.block_number} for {receipt.gas_used:,} gas, transaction {transaction}"
    session.result(fields, lambda: session.done(sentence))


def _left_to_see(flags: Sequence[RedFlag]) -> list[RedFlag]:
    """None where executing is refused anyway, with a sentence of its own."""
    told = {flag.word for flag in flags} & {"nonce", "expired"}
    return [] if told else list(flags)


def _signed(proposal: Proposal, account: BaseAccount, *, path: Path) -> dict[str, Any]:
    return {
        "signature": str(path),
        "signer": account.address,
        "domainHash": "0x" + proposal.domain_hash.hex(),
        "messageHash": "0x" + proposal.message_hash.hex(),
        "safeTxHash": "0x" + proposal.safe_tx_hash.hex(),
    }
