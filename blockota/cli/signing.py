"""``blockota proposal sign`` and ``execute``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.proposal_files import (
    FILE,
    collect_signatures,
    open_view,
    read_proposal,
    signature_option,
    view_option,
)
from blockota.cli.proposal_shown import ask_consent, face_flags, show_flags, show_identity, show_meaning, show_view
from blockota.cli.proposing import refuse_existing
from blockota.cli.session import Session, with_session
from blockota.errors import BlockOTAError, ProposalError, StoreError

if TYPE_CHECKING:
    from blockota.chain_view import ChainView
    from blockota.cid import CID
    from blockota.difference import Difference
    from blockota.proposal import Proposal
    from blockota.release import Release

MAX_IMAGE_SIZE = 1 << 30


@click.command()
@click.argument("file", type=FILE)
@click.option("--key", required=True, metavar="URI", help="keystore:FILE, ape:ALIAS, env:NAME or dev:N.")
@click.option(
    "--image", "images", type=FILE, multiple=True, help="An image that FILE publishes; from the store by default."
)
@click.option(
    "--previous", type=FILE, multiple=True, help="The image before it, to compare; from the store by default."
)
@view_option
@click.option("-o", "--output", type=FILE, help="Signature file to write; beside FILE by default.")
@click.option("--yes", is_flag=True, help="Sign without being asked; red flags are asked about all the same.")
@with_session
def sign(session: Session, /, file: Path, key: str, images: tuple[Path, ...], **options: Any) -> None:
    """Check FILE, hash its images, show what it does and what is unusual, and write a signature file.

    Works without a network when given the images and a chain view (`blockota proposal export-view`).

    \b
    Example:  blockota proposal sign 1.4.0.json --key keystore:alice.json
              blockota proposal sign 1.4.0.json --key ape:alice --image app.bin --view view.json
    """
    from blockota.files import write_result
    from blockota.red_flags import red_flags
    from blockota.signature import sign as sign_proposal
    from blockota.signature import to_json

    proposal = read_proposal(file)
    view = open_view(session, [proposal], path=options["view"])
    red_flags(proposal, view, signer=None, now=int(time.time()))
    _show(session, proposal, images=images, previous=options["previous"], view=view)
    account = session.open_key(key)
    path = options["output"] or file.with_name(f"{file.stem}.{account.address.lower()[:10]}.signature.json")
    refuse_existing(path, why="a signature is made once; the file may belong to an earlier proposal of that name")
    face_flags(session, red_flags(proposal, view, signer=account.address, now=int(time.time())))
    if not options["yes"]:
        ask_consent(session)
    write_result(path, to_json([sign_proposal(proposal, account)]))
    fields = {"signature": str(path), "signer": account.address, "safeTxHash": "0x" + proposal.safe_tx_hash.hex()}
    session.result(fields, lambda: session.done(f"{path} is the signature of {account.address}"))


@click.command()
@click.argument("file", type=FILE)
@click.option("--key", required=True, metavar="URI", help="Who pays for the transaction; needs not be an owner.")
@signature_option
@with_session
def execute(session: Session, /, file: Path, key: str, signatures: tuple[Path, ...]) -> None:
    """Check FILE and its signatures as the Safe will, simulate it, and send it. Anyone may.

    \b
    Example:  blockota proposal execute 1.4.0.json --key env:PAYER_KEY
    """
    from blockota.multisig import execute as execute_proposal
    from blockota.red_flags import red_flags

    proposal = read_proposal(file)
    now = int(time.time())
    flags = red_flags(proposal, open_view(session, [proposal], path=None), signer=None, now=now)
    show_flags(session, [flag for flag in flags if flag.word not in {"nonce", "expired"}])
    signed = collect_signatures(session, file, named=signatures)
    account = session.open_key(key)
    receipt = execute_proposal(session.chain, proposal, signatures=signed, account=account, now=now)
    transaction = "0x" + receipt.transaction.hex()
    fields = {"transaction": transaction, "block": receipt.block_number, "gas": receipt.gas_used}
    sentence = f"executed in block {receipt.block_number} for {receipt.gas_used:,} gas, transaction {transaction}"
    session.result(fields, lambda: session.done(sentence))


def _show(
    session: Session, proposal: Proposal, *, images: Sequence[Path], previous: Sequence[Path], view: ChainView
) -> None:
    """Check the images, and print all that a signer should see."""
    from blockota.approval import check_images

    checked = check_images(proposal, lambda address, size: _image(session, images, address=address, size=size))
    if session.as_json:
        return
    show_view(session, view)
    show_meaning(session, proposal, view=view)
    for release, image in zip(proposal.releases, checked, strict=True):
        session.fields(_compared(session, release, image=image, previous=previous, view=view))
    show_identity(session, proposal, view=view)


def _image(session: Session, paths: Sequence[Path], *, address: CID, size: int) -> bytes:
    """The image of an address: the file that is it, else from the store."""
    from blockota.stores import read_whole

    given = [_read(path) for path in paths]
    for data in given:
        if len(data) == size and _is_at(address, data):
            return data
    if len(given) == 1:
        return given[0]  # whoever checks it says what is wrong with it
    try:
        return read_whole(session.store, address, size=size)
    except StoreError as error:
        raise StoreError(
            "the image cannot be checked", why=error.why, remedy="give it with --image FILE, or name a --store"
        ) from error


def _compared(
    session: Session, release: dict[str, Any], *, image: bytes, previous: Sequence[Path], view: ChainView
) -> dict[str, object]:
    """The line that says what changes against the newest release."""
    from blockota.release import Region, product_name

    addresses = Region(release["loadAddress"], release["size"])
    rows: dict[str, object] = {"addresses": addresses, "image": f"hashed here, {len(image):,} bytes are the proposal's"}
    newest = view.newest_of(product_name(release["product"]))
    if newest is None:
        return rows | {"changes": "the first release of this product"}
    found = _difference(session, newest, image=image, start=addresses.start, previous=previous)
    if found is None:
        return rows | {
            "changes": f"not known: the image of {newest.version} is not in the store; give it by --previous"
        }
    return rows | {f"changes from {newest.version}": found}


def _difference(
    session: Session, newest: Release, *, image: bytes, start: int, previous: Sequence[Path]
) -> Difference | None:
    import hashlib

    from blockota.difference import Placed, compare
    from blockota.stores import read_whole

    old = next((data for path in previous if hashlib.sha256(data := _read(path)).digest() == newest.sha256), None)
    if old is None and previous:
        raise ProposalError(
            "the image before cannot be compared",
            why=f"no file given by --previous has the SHA-256 of {newest.version}, {newest.sha256.hex()}",
            remedy="fetch it with `blockota release fetch`, or leave --previous out",
        )
    try:
        old = read_whole(session.store, newest.cid, size=newest.size) if old is None else old
    except BlockOTAError:
        return None
    return compare(Placed(image, start), Placed(old, newest.load_address))


def _read(path: Path) -> bytes:
    from firmware_host.image import read_image

    return read_image(path, load_address=0, limit=MAX_IMAGE_SIZE).data


def _is_at(address: CID, data: bytes) -> bool:
    import io

    from blockota.cid import cid_of

    return cid_of(io.BytesIO(data)) == address
