"""``blockota release``: publish, list, show, fetch and verify releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.parameters import NUMBER, VERSION
from blockota.cli.proposing import proposing_options, save_proposal
from blockota.cli.session import Session, with_session
from blockota.errors import RefusedError, UsageError
from blockota.release import Release, Version, show_time

if TYPE_CHECKING:
    from blockota.approval import Reason
    from blockota.proposal import Proposal
    from blockota.verification import ProvenRelease

MAX_IMAGE_SIZE = 1 << 30
"""Bytes of an image that a command reads."""


@click.group()
def release() -> None:
    """Releases: ⟨product, version⟩ and the SHA-256 that the chain keeps of it."""


@release.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--product", required=True, metavar="NAME", help="What the image is for.")
@click.option("--version", type=VERSION, required=True, help="Its version, such as 1.4.0.")
@click.option("--load-address", type=NUMBER, help="Where a .bin goes; the region's start by default.")
@proposing_options
@with_session
def publish(
    session: Session, /, image: Path, product: str, version: Version, load_address: int | None, **proposing: Any
) -> None:
    """Store IMAGE (.bin, Intel HEX or ELF) and propose it as a release; the Safe's owners decide.

    \b
    Example:  blockota release publish build/app.bin --product acme-thermo2 --version 1.4.0 -o 1.4.0.json
    """
    from blockota.vendor import Draft, paired_product, propose_release
    from firmware_host.image import read_image

    region = paired_product(session.contract, product).region
    firmware = read_image(image, load_address=region.start if load_address is None else load_address)
    if load_address not in (None, firmware.load_address):
        why = f"the {firmware.format} file says itself that it goes to 0x{firmware.load_address:08x}"
        raise UsageError("--load-address contradicts the image", why=why, remedy="leave it out, or give a .bin")
    draft = Draft(product, version, firmware.data, load_address=firmware.load_address)

    def propose(reason: Reason) -> Proposal:
        return propose_release(session.contract, draft, store=session.store, reason=reason)[1]

    save_proposal(session, propose, **proposing)


@release.command()
@click.option("--product", required=True, metavar="NAME")
@click.option("--version", type=VERSION, required=True, help="The release to withdraw, for good.")
@proposing_options
@with_session
def revoke(session: Session, /, product: str, version: Version, **proposing: Any) -> None:
    """Propose to withdraw a release for good; the reason given is recorded on the chain.

    \b
    Example:  blockota release revoke --product acme-thermo2 --version 1.4.0 --reason "reboots" -o revoke.json
    """
    from blockota.approval import propose as propose_to_safe
    from blockota.bindings import revoke_call

    call = revoke_call(product, version, reason=proposing["reason"])
    save_proposal(session, lambda reason: propose_to_safe(session.contract, call, reason=reason), **proposing)


@release.command("list")
@click.option("--product", metavar="NAME", help="Only this product's.")
@with_session
def list_(session: Session, /, product: str | None) -> None:
    """List releases, newest first.

    \b
    Example:  blockota release list --product acme-thermo2
    """
    from blockota.vendor import known_product

    names = (
        [known_product(session.contract, product).name] if product else [p.name for p in session.contract.products()]
    )
    releases = [found for name in names for found in session.contract.history(name)]
    rows = [
        (r.product, r.version, r.status, f"{r.size:,}", show_time(r.active_from), r.sha256.hex()[:16] + "…")
        for r in releases
    ]
    columns = ("PRODUCT", "VERSION", "STATUS", "BYTES", "ACTIVE FROM", "SHA-256")
    session.result({"releases": [as_fields(r) for r in releases]}, lambda: session.table(columns, rows))


@release.command()
@click.option("--product", required=True, metavar="NAME")
@click.option("--version", type=VERSION, help="The newest that is not revoked by default.")
@with_session
def show(session: Session, /, product: str, version: Version | None) -> None:
    """Show one release.

    \b
    Example:  blockota release show --product acme-thermo2 --version 1.4.0
    """
    from blockota.vendor import known_product

    known_product(session.contract, product)
    found = session.contract.release(product, version) if version else session.contract.latest(product)
    if found is None:
        raise RefusedError(
            f"there is no release {product} {version or ''}".rstrip(),
            why="the contract has no record of it",
            remedy="see `blockota release list`",
        )
    shown = {
        "product": found.product,
        "version": found.version,
        "status": found.status,
        "SHA-256": found.sha256.hex(),
        "CID": found.cid,
        "addresses": found.region,
        "chip id": f"0x{found.chip_id:03x}",
        "active from": show_time(found.active_from),
        "previous": found.previous or "none",
    }
    session.result(as_fields(found), lambda: session.fields(shown))


@release.command()
@click.option("--product", required=True, metavar="NAME")
@click.option("--version", type=VERSION, help="The newest that is not revoked by default.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
@with_session
def fetch(session: Session, /, product: str, version: Version | None, output: Path) -> None:
    """Fetch a release's image from the store, prove it against the chain (checks 1 to 5), and write it to a file.

    \b
    Example:  blockota release fetch --product acme-thermo2 -o thermo2.bin
    """
    from blockota import technician
    from blockota.files import write_result
    from blockota.verification import prove_release

    answer = session.contract.answer(product, version, confirmations=session.settings.confirmations)
    proven = prove_release(answer, session.trust, read_image=lambda r: technician.read_image(r, session.store))
    write_result(output, proven.image)
    fields = as_fields(proven.release) | {"file": str(output)}
    sentence = f"{output} is {product} {proven.release.version}, {len(proven.image):,} bytes, proven against the chain"
    session.result(fields, lambda: session.done(sentence))


@release.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--product", required=True, metavar="NAME")
@click.option("--version", type=VERSION, help="Which one the image should be; found by its SHA-256 by default.")
@with_session
def verify(session: Session, /, image: Path, product: str, version: Version | None) -> None:
    """Check IMAGE (.bin, Intel HEX or ELF) against the chain (checks 1 to 5).

    \b
    Example:  blockota release verify thermo2.bin --product acme-thermo2
    """
    import hashlib

    from blockota.vendor import known_product
    from blockota.verification import prove_release
    from firmware_host.image import read_image

    start = known_product(session.contract, product).region.start
    data = read_image(image, load_address=start, limit=MAX_IMAGE_SIZE).data
    wanted = version or _version_of(session, product, digest=hashlib.sha256(data).digest())
    answer = session.contract.answer(product, wanted, confirmations=session.settings.confirmations)
    proven = prove_release(answer, session.trust, read_image=lambda _: data)
    session.result(
        as_fields(proven.release) | {"passed": [check.number for check in proven.passed]},
        lambda: _show_proof(session, image, proven=proven),
    )


def as_fields(found: Release) -> dict[str, Any]:
    """A release for JSON."""
    return {
        "product": found.product,
        "version": str(found.version),
        "status": str(found.status),
        "sha256": found.sha256.hex(),
        "cid": str(found.cid),
        "size": found.size,
        "loadAddress": found.load_address,
        "chipId": found.chip_id,
        "activeFrom": found.active_from,
        "previous": str(found.previous) if found.previous else None,
    }


def _version_of(session: Session, product: str, *, digest: bytes) -> Version:
    found = session.contract.find(product, digest)
    if found is None:
        raise RefusedError(
            f"the image is no release of {product}",
            why=f"the contract has no record with its SHA-256 {digest.hex()}",
            remedy="do not use it; fetch one with `blockota release fetch`",
        )
    return found.version


def _show_proof(session: Session, image: Path, *, proven: ProvenRelease) -> None:
    for check in proven.passed:
        session.done(f"{check.number:>2}  {check.what}")
    session.out.print(f"{image} is {proven.release.product} {proven.release.version}.", markup=False)
