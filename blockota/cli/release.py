"""``blockota release``: publish, revoke, list, show, fetch and verify releases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.described import Description, find_description, read_described
from blockota.cli.outputs import refuse_overwriting, result_files
from blockota.cli.parameters import ENTRY, NUMBER, TIME, VERSION
from blockota.cli.proposing import proposing_options, save_proposal
from blockota.cli.searching import counting_bar, parts_of, search_image, source_option
from blockota.cli.session import Session, with_session
from blockota.errors import RefusedError
from blockota.model.release import Release, Status, Version, show_time

if TYPE_CHECKING:
    from blockota.approval.proposal import Proposal
    from blockota.model.draft import Draft
    from blockota.model.verification import ProvenRecord
    from blockota.vendor.propose import Reason

_FILE = click.Path(path_type=Path)
_ALSO, _ALSO_WORDS = (_FILE, str, VERSION), "IMAGE PRODUCT VERSION"


@click.group()
def release() -> None:
    """Releases: ⟨product, version⟩ and the SHA-256 that the chain keeps of it."""


@release.command()
@click.argument("image", type=_FILE)
@click.option("--product", required=True, metavar="NAME", help="What the image is for.")
@click.option("--version", type=VERSION, required=True, help="Its version, such as 1.4.0.")
@click.option("--load-address", type=NUMBER, help="Where a .bin goes; the region's start by default.")
@click.option("--configuration", is_flag=True, help="IMAGE is data, which needs no vector table.")
@click.option("--also", type=_ALSO, multiple=True, metavar=_ALSO_WORDS, help="A release more in the same proposal.")
@click.option("--also-configuration", type=_ALSO, multiple=True, metavar=_ALSO_WORDS, help="The same, with data.")
@click.option("--active-from", type=TIME, default=0, show_default="at once", help="2026-12-01T08:00+01:00, or +7d.")
@click.option("--notes", type=_FILE, help="Text file with release notes, at most 64 KiB.")
@click.option("--metadata", type=ENTRY, multiple=True, metavar="KEY=VALUE", help="Anything else to be known of it.")
@proposing_options
@with_session
def publish(session: Session, /, image: Path, product: str, version: Version, **options: Any) -> None:
    """Store IMAGE (.bin, Intel HEX or ELF) and propose it as a release; the Safe's owners decide.

    Notes, metadata and time of activation go for every release of the proposal.

    \b
    Example:  blockota release publish build/app.bin --product acme-thermo2 --version 1.4.0 -o 1.4.0.json
    """
    from blockota.vendor.publish import propose_releases

    drafts = _drafts(session, image, product=product, version=version, options=options)
    releases: list[Release] = []

    def propose(reason: Reason) -> Proposal:
        with counting_bar(session, "Storing") as bar:
            made, proposal = propose_releases(
                session.contract, drafts, store=session.store, reason=reason, on_progress=bar
            )
        releases.extend(made)
        return proposal

    save_proposal(session, propose, about=lambda: {"releases": [as_published(r) for r in releases]}, **options)
    if not session.as_json:
        for made in releases:
            session.fields(_shown_draft(made))


@release.command()
@click.option("--product", required=True, metavar="NAME")
@click.option("--version", type=VERSION, required=True, help="The release to withdraw, for good.")
@proposing_options
@with_session
def revoke(session: Session, /, product: str, version: Version, **proposing: Any) -> None:
    """Propose to withdraw a release for good; the --reason, which must be given, is recorded on the chain.

    \b
    Example:  blockota release revoke --product acme-thermo2 --version 1.4.0 --reason "reboots" -o revoke.json
    """
    from blockota.vendor.publish import propose_revocation

    def propose(reason: Reason) -> Proposal:
        return propose_revocation(session.contract, product, version=version, reason=reason)

    save_proposal(session, propose, **proposing)


@release.command("list")
@click.option("--product", metavar="NAME", help="Only this product's.")
@with_session
def list_(session: Session, /, product: str | None) -> None:
    """List releases, newest first.

    \b
    Example:  blockota release list --product acme-thermo2
    """
    from blockota.vendor.publish import known_product

    names = (
        [known_product(session.contract, product).name] if product else [p.name for p in session.contract.products()]
    )
    releases = [found for name in names for found in session.contract.history(name)]
    now = session.chain.head().time
    rows = [
        (r.product, r.version, _standing(r, now=now), f"{r.size:,}", show_time(r.active_from), _short(r.sha256))
        for r in releases
    ]
    columns = ("PRODUCT", "VERSION", "STATUS", "BYTES", "ACTIVE FROM", "SHA-256")
    session.result({"releases": [r.as_fields() for r in releases]}, lambda: session.table(columns, rows))


@release.command()
@click.option("--product", required=True, metavar="NAME")
@click.option("--version", type=VERSION, help="The newest that is not revoked by default.")
@with_session
def show(session: Session, /, product: str, version: Version | None) -> None:
    """Show one release, with the notes of its manifest.

    \b
    Example:  blockota release show --product acme-thermo2 --version 1.4.0
    """
    from blockota.vendor.publish import known_product

    known_product(session.contract, product)
    found = session.contract.release(product, version) if version else session.contract.latest(product)
    if found is None:
        raise RefusedError(
            f"there is no release {product} {version or ''}".rstrip(),
            why="the contract has no record of it",
            remedy="see `blockota release list`",
        )
    described = find_description(session, found)
    fields = found.as_fields() | {"manifest": described.fields}
    session.result(fields, lambda: _show_release(session, found, described=described))


@release.command()
@click.option("--product", required=True, metavar="NAME")
@click.option("--version", type=VERSION, help="The newest active one by default.")
@click.option("-o", "--output", type=_FILE, required=True, help="File to write.")
@click.option("--manifest", type=_FILE, help="File to write the release's manifest to.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@source_option
@with_session
def fetch(session: Session, /, product: str, version: Version | None, output: Path, **options: Any) -> None:
    """Find a release's image, prove it against the chain (checks 1 to 5), and write it to a file.

    The store is asked first, then the vendor's sources and the brokers at once, then the gateways of the settings.

    \b
    Example:  blockota release fetch --product acme-thermo2 -o thermo2.bin
    """
    from blockota.model.verification import prove_record

    beside: Path | None = options["manifest"]
    refuse_overwriting(output, beside, force=options["force"])
    answer = session.contract.answer(product, version, confirmations=session.settings.confirmations)
    with result_files(output, beside) as (file, second):

        def find(found: Release) -> Iterator[bytes]:
            search_image(session, found, named=options["source"], into=file)
            return parts_of(session, file, size=found.size)

        proven = prove_record(answer, session.trust, read_parts=find)
        if second:
            second.write(read_described(session, proven.release).to_json())
    fields = proven.release.as_fields() | {"file": str(output)} | ({"manifest": str(beside)} if beside else {})
    sentence = (
        f"{output} is {product} {proven.release.version}, {proven.release.size:,} bytes, proven against the chain"
    )
    session.result(fields, lambda: session.done(sentence))


@release.command()
@click.argument("image", type=_FILE)
@click.option("--product", required=True, metavar="NAME")
@click.option("--version", type=VERSION, help="Which one the image should be; found by its SHA-256 by default.")
@with_session
def verify(session: Session, /, image: Path, product: str, version: Version | None) -> None:
    """Check IMAGE (.bin, Intel HEX or ELF) against the chain (checks 1 to 5).

    \b
    Example:  blockota release verify thermo2.bin --product acme-thermo2
    """
    from blockota.cli.drafting import naming_image
    from blockota.formats.firmware_image import open_image
    from blockota.model.verification import prove_record
    from blockota.vendor.publish import known_product

    start = known_product(session.contract, product).region.start
    with naming_image(image):
        given = open_image(image, load_address=start)
    with given.open() as file:
        wanted = version or _version_of(session, product, parts=parts_of(session, file, size=given.size))
        answer = session.contract.answer(product, wanted, confirmations=session.settings.confirmations)
        parts = parts_of(session, file, size=given.size)
        proven = prove_record(answer, session.trust, read_parts=lambda _: parts)
    session.result(
        proven.release.as_fields() | {"passed": [check.number for check in proven.passed]},
        lambda: _show_proof(session, image, proven=proven),
    )


def as_published(made: Release) -> dict[str, Any]:
    """A release that is proposed, for JSON: with its manifest's address, without what only the chain knows."""
    address = _manifest_address(made)
    fields = made.as_fields() | {"manifest": address}
    return {name: fields[name] for name in fields if name not in {"status", "previous"}}


def _manifest_address(made: Release) -> str | None:
    from blockota.formats.cid import CID, RAW

    return str(CID(RAW, made.manifest)) if made.manifest else None


def _drafts(session: Session, image: Path, *, product: str, version: Version, options: dict[str, Any]) -> list[Draft]:
    """The drafts that the options of ``publish`` ask for; takes these options out."""
    from blockota.cli.drafting import read_notes, with_image
    from blockota.model.draft import Draft
    from blockota.model.manifest import metadata_from

    common = Draft(
        product,
        version,
        active_from=options.pop("active_from"),
        notes=read_notes(options.pop("notes")),
        metadata=metadata_from(options.pop("metadata")),
    )
    place, is_data = options.pop("load_address"), options.pop("configuration")
    wanted = [(image, replace(common, load_address=place, configuration=is_data))]
    for name, data in (("also", False), ("also_configuration", True)):
        wanted += [
            (path, replace(common, product=other, version=number, configuration=data))
            for path, other, number in options.pop(name)
        ]
    return [with_image(draft, path, contract=session.contract) for path, draft in wanted]


def _shown_draft(made: Release) -> dict[str, object]:
    return {
        "release": f"{made.product} {made.version}",
        "SHA-256": made.sha256.hex(),
        "addresses": made.region,
        "active from": show_time(made.active_from) if made.active_from else "at once",
        "manifest": _manifest_address(made) or "none",
    }


def _standing(found: Release, *, now: int) -> str:
    """A release's status as of the chain's time: an active one may begin later."""
    return "postponed" if found.status is Status.ACTIVE and found.active_from > now else str(found.status)


def _short(digest: bytes) -> str:
    return digest.hex()[:16] + "…"


def _show_release(session: Session, found: Release, *, described: Description) -> None:
    session.fields(
        {
            "product": found.product,
            "version": found.version,
            "status": _standing(found, now=session.chain.head().time),
            "SHA-256": found.sha256.hex(),
            "CID": found.cid,
            "addresses": found.region,
            "chip id": f"0x{found.chip_id:03x}",
            "active from": show_time(found.active_from),
            "previous": found.previous or "none",
            "manifest": described.address or "none",
        }
    )
    described.show(session)


def _version_of(session: Session, product: str, *, parts: Iterable[bytes]) -> Version:
    import hashlib

    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    found = session.contract.find(product, digest.digest())
    if found is None:
        raise RefusedError(
            f"the image is no release of {product}",
            why=f"the contract has no record with its SHA-256 {digest.hexdigest()}",
            remedy="do not use it; fetch one with `blockota release fetch`",
        )
    return found.version


def _show_proof(session: Session, image: Path, *, proven: ProvenRecord) -> None:
    for check in proven.passed:
        session.done(f"{check.number:>2}  {check.what}")
    session.out.print(f"{image} is {proven.release.product} {proven.release.version}.", markup=False)
