"""``blockota release``: publish, revoke, list, show, fetch and verify releases."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from blockota.approval.proposal import Proposal
from blockota.cli.display import counting_bar, parts_of, search_image
from blockota.cli.options import ProposalDetails, ProposalOptions, proposing_options, save_proposal, source_option
from blockota.cli.parameters import CONTAINER, ENTRY, NUMBER, TIME, VERSION
from blockota.cli.proposal_text import show_description
from blockota.cli.release_verify import verify
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import Action, ChainError, RefusedError, UsageError
from blockota.files import refuse_overwriting, result_files
from blockota.formats.cid import CID, RAW
from blockota.model.container import Container
from blockota.model.draft import Draft, draft_manifest
from blockota.model.manifest import Manifest, Requirements
from blockota.model.release import Release, Revocation, Status, Version, show_chip, show_time
from blockota.model.verification import prove_record
from blockota.vendor.description import find_description, require_manifest
from blockota.vendor.drafting import read_notes
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_releases, propose_revocation

_FILE = click.Path(path_type=Path)
_ALSO, _ALSO_WORDS = (_FILE, str, VERSION), "IMAGE PRODUCT VERSION"


@click.group(cls=VerbGroup)
def release() -> None:
    """Publish firmware images as releases, and fetch and verify them."""


@dataclass(frozen=True)
class DraftOptions:
    """Option values that describe a release; the attributes have the names of the options."""

    product: str
    version: Version
    load_address: int | None
    accept_load_address: bool
    fill: bool
    configuration: bool
    container: Sequence[tuple[str, Container]]
    requires_installed: Version | None
    hardware: Sequence[str]
    delta_from: Sequence[Version]
    active_from: int
    notes: Path | None
    metadata: Sequence[tuple[str, str]]

    def container_of(self, product: str) -> Container:
        """Return the container that the options name for a product.

        A container without a product is for `self.product`.
        """
        given = {name or self.product: container for name, container in self.container}
        return given.get(product, Container.STM32)

    def require_products(self, products: Collection[str]) -> None:
        """Refuse a container for a product if no image of the product is given.

        Raises:
            UsageError: a container is for a product without an image.
        """
        for name, container in self.container:
            if name and name not in products:
                raise UsageError(
                    f"the container {container} cannot be used",
                    why=f"no image for the product {name} is given",
                    remedy="check the product's name",
                )

    def as_draft(self) -> Draft:
        """Return the draft that the options describe, without an image.

        Raises:
            UsageError: the notes cannot be read.
            RefusedError: the notes or the metadata cannot be published.
        """
        return Draft(
            self.product,
            self.version,
            load_address=self.load_address,
            active_from=self.active_from,
            configuration=self.configuration,
            container=self.container_of(self.product),
            requires=Requirements(self.requires_installed, tuple(self.hardware)),
            delta_from=tuple(self.delta_from),
            accept_load_address=self.accept_load_address,
            fill=self.fill,
            notes=read_notes(self.notes),
            metadata=self.metadata,
        )


def draft_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe a release, as the parameter `drafting`."""

    @click.option("--product", required=True, metavar="NAME", help="Product that the image is for.")
    @click.option("--version", type=VERSION, required=True, help="Version, such as 1.4.0.")
    @click.option("--load-address", type=NUMBER, help="Flash address of a .bin; else the region's.")
    @click.option("--configuration", is_flag=True, help="IMAGE is data: no vector table is required.")
    @click.option("--container", type=CONTAINER, multiple=True, metavar="NAME", help="stm32, mcuboot, swu or opaque.")
    @click.option("--requires-installed", type=VERSION, help="Oldest version that IMAGE may replace.")
    @click.option("--hardware", multiple=True, metavar="REV", help="Hardware revision for IMAGE; repeatable.")
    @click.option("--delta-from", type=VERSION, multiple=True, help="Make a delta from this version; repeatable.")
    @click.option("--accept-load-address", is_flag=True, help="Accept images linked elsewhere.")
    @click.option("--fill", is_flag=True, help="Fill gaps in images with 0xFF.")
    @click.option("--active-from", type=TIME, default=0, help="2026-12-01T08:00+01:00 or +7d; else at once.")
    @click.option("--notes", type=_FILE, help="Release notes, a text file, up to 64 KiB.")
    @click.option("--metadata", type=ENTRY, multiple=True, metavar="KEY=VALUE", help="Further metadata; repeatable.")
    @functools.wraps(command)
    def wrapped(*args: object, **kwargs: object) -> None:
        values: dict[str, Any] = {one.name: kwargs.pop(one.name) for one in fields(DraftOptions)}
        command(*args, drafting=DraftOptions(**values), **kwargs)

    return wrapped


@release.command()
@click.argument("image", type=_FILE)
@draft_options
@click.option("--also", type=_ALSO, multiple=True, metavar=_ALSO_WORDS, help="Another release to propose; repeatable.")
@click.option(
    "--also-configuration", type=_ALSO, multiple=True, metavar="…", help="Like --also, for an image that is data."
)
@proposing_options
@with_session
def publish(
    session: Session,
    /,
    image: Path,
    *,
    drafting: DraftOptions,
    also: Sequence[tuple[Path, str, Version]],
    also_configuration: Sequence[tuple[Path, str, Version]],
    proposing: ProposalOptions,
) -> None:
    """Store IMAGE, and propose to the Safe's owners to publish it.

    IMAGE is raw (.bin), Intel HEX, S-record, UF2, DfuSe or ELF; with --container, IMAGE can be any file. The options up
    to --delta-from apply only to IMAGE. The options after it apply to every release.

    \b
    Example:  blockota release publish build/app.bin --product acme-thermo2 \\
                  --version 1.4.0 -o 1.4.0.json
    """
    from blockota.desk import complete_draft

    first = drafting.as_draft()
    wanted = [(image, first)]
    for others, is_data in ((also, False), (also_configuration, True)):
        for path, other, number in others:
            draft = Draft(
                *(other, number),
                active_from=first.active_from,
                configuration=is_data,
                container=drafting.container_of(other),
                accept_load_address=first.accept_load_address,
                fill=first.fill,
                notes=first.notes,
                metadata=first.metadata,
            )
            wanted.append((path, draft))

    drafting.require_products({draft.product for _, draft in wanted})
    # All images are checked before the first is stored.
    drafts = [complete_draft(session.connection, draft, path) for path, draft in wanted]
    releases: list[Release] = []

    def propose(reason: Reason) -> Proposal:
        with counting_bar(session, "Storing") as bar:
            made, proposal = propose_releases(
                session.contract, drafts, store=session.store, reason=reason, on_progress=bar
            )
        releases.extend(made)
        return proposal

    def published() -> list[tuple[Release, Manifest | None]]:
        return [(made, draft_manifest(draft, made)) for draft, made in zip(drafts, releases, strict=True)]

    stored = _stored_row(session.settings.store, proposing.output)
    save_proposal(
        session,
        propose,
        proposing,
        about=lambda: ProposalDetails(
            {"releases": [_as_published(*one) for one in published()]},
            [*(_published_rows(*one) for one in published()[:-1]), _published_rows(*published()[-1]) | stored],
        ),
    )

    manifests = [manifest for _, manifest in published()]
    if drafting.accept_load_address and not any(one and one.accepts_load_address for one in manifests):
        session.note("--accept-load-address changed nothing: no image seems to be linked for another address.")
    for missing in drafts[0].omitted:
        session.note(f"No delta from {missing} is listed: it would not be smaller than the image.")
    if drafting.fill and not any(one and one.filled for one in manifests):
        session.note("--fill changed nothing: no image has a gap of at least an erase unit.")
    _note_refusing_devices(session, drafts)


@release.command()
@click.option("--product", required=True, metavar="NAME", help="Product of the release.")
@click.option("--version", type=VERSION, required=True, help="Version to withdraw permanently.")
@proposing_options
@with_session
def revoke(session: Session, /, product: str, version: Version, proposing: ProposalOptions) -> None:
    """Propose to withdraw a release permanently. The --reason is required and is recorded on the chain.

    \b
    Example:  blockota release revoke --product acme-thermo2 --version 1.4.0 \\
                  --reason "reboots" -o revoke.json
    """

    def propose(reason: Reason) -> Proposal:
        return propose_revocation(session.contract, product, version=version, reason=reason)

    save_proposal(session, propose, proposing)


@release.command("list")
@click.option("--product", metavar="NAME", help="List this product's releases only.")
@with_session
def list_(session: Session, /, product: str | None) -> None:
    """List releases, the newest of each product first.

    \b
    Example:  blockota release list --product acme-thermo2
    """
    names = [session.contract.known_product(product).name] if product else [p.name for p in session.contract.products()]
    releases = session.contract.histories(names)
    now = session.chain.head().time  # the chain's clock decides, not this computer's

    rows = [
        (r.product, r.version, _status(r, now=now), f"{r.size:,}", show_time(r.active_from), f"{r.sha256.hex()[:12]}…")
        for r in releases
    ]
    columns = ("PRODUCT", "VERSION", "STATUS", "BYTES", "ACTIVE FROM", "SHA-256")
    session.result(
        {"releases": [r.as_fields() for r in releases]},
        lambda: session.table(columns, rows, empty="No releases."),
    )


@release.command()
@click.argument("name", metavar="NAME", required=False)
@click.argument("number", metavar="[VERSION]", type=VERSION, required=False)
@click.option("--product", hidden=True)  # as NAME, for scripts of 0.1
@click.option("--version", type=VERSION, hidden=True)
@with_session
def show(
    session: Session,
    /,
    name: str | None,
    number: Version | None,
    product: str | None,
    version: Version | None,
) -> None:
    """Show a release of the product NAME, with its notes and metadata.

    The default VERSION is the newest version that is not revoked.

    \b
    Example:  blockota release show acme-thermo2
              blockota release show acme-thermo2 1.4.0
    """
    if (name and product) or (number and version):
        raise UsageError(
            "the release is given twice",
            why="NAME means --product, and VERSION means --version",
            remedy="pass each once",
        )
    product, version = name or product, number or version
    if product is None:
        raise click.MissingParameter(param_hint="'NAME'", param_type="argument")

    session.contract.known_product(product)
    found = session.contract.known_release(product, version) if version else session.contract.latest(product)
    if found is None:
        raise RefusedError(
            f"{product} has no release to show",
            why="none was published, or all are revoked",
            remedy="list the releases",
            action=Action.LIST_RELEASES,
        )

    described = find_description(session.contract, found, open_store=lambda: session.store)
    revocation = _revocation(session, found) if found.status is Status.REVOKED else None
    fields = found.as_fields() | {
        "revocation": revocation.as_fields() if revocation else None,
        "manifest": described.fields,
    }
    status = _status(found, now=session.chain.head().time)
    rows = {
        "product": found.product,
        "version": found.version,
        "status": f"{status} {revocation}" if revocation else status,
        "SHA-256": found.sha256.hex(),
        "CID": found.cid,
        **_place(found),
        "chip id": show_chip(found.chip_id),
        "active from": show_time(found.active_from),
        "previous": found.previous or "none",
        "manifest": described.address or "none",
    }

    def show_all() -> None:
        session.fields(rows)
        show_description(session, described)

    session.result(fields, show_all)


@release.command()
@click.option("--product", required=True, metavar="NAME", help="Product of the release.")
@click.option("--version", type=VERSION, help="Version to fetch; the newest active one by default.")
@click.option("-o", "--output", type=_FILE, required=True, help="File to write the image to.")
@click.option("--manifest", type=_FILE, help="File to write the release's manifest to.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@source_option
@with_session
def fetch(
    session: Session,
    /,
    product: str,
    version: Version | None,
    output: Path,
    manifest: Path | None,
    *,
    force: bool,
    source: Sequence[str],
) -> None:
    """Write a release's image to a file, after checks 1 to 5.

    The image is verified against the chain. The command searches for image and manifest in the store, then at the
    vendor's sources and the brokers, and last at the configured IPFS gateways.

    \b
    Example:  blockota release fetch --product acme-thermo2 -o thermo2.bin
    """
    refuse_overwriting(output, manifest, force=force)
    settings = session.settings
    answer = session.contract.answer(product, version, confirmations=settings.confirmations)
    # Both files appear only if every check has passed.
    with result_files(output, manifest) as (file, second):

        def find(found: Release) -> Iterator[bytes]:
            search_image(session, found, named=source, into=file)
            return parts_of(session, file, size=found.size)

        proven = prove_record(answer, session.trust, read_parts=find)
        if second:
            described = require_manifest(
                session.contract,
                proven.release,
                store=session.store,
                stages=session.connection.image_sources(source).stages(proven.release),
            )
            second.write(described.to_json())
    fields = proven.release.as_fields() | {"file": str(output)} | ({"manifest": str(manifest)} if manifest else {})
    sentence = (
        f"{output} is {product} {proven.release.version}, {proven.release.size:,} bytes, verified against the chain"
    )
    session.result(fields, lambda: session.done(sentence))


release.add_command(verify)


def _as_published(made: Release, manifest: Manifest | None) -> dict[str, Any]:
    """Return a proposed release for JSON, without the status and predecessor, which the execution determines."""
    fields = made.as_fields() | {"manifest": _manifest_address(made)} | (manifest.options if manifest else {})
    return {name: fields[name] for name in fields if name not in {"status", "previous"}}


def _note_refusing_devices(session: Session, drafts: Sequence[Draft]) -> None:
    """Print a note for each revoked release whose devices would refuse a draft with a lower security counter."""
    from blockota.desk import find_higher_revoked

    for draft in drafts:
        for version, counter in find_higher_revoked(session.connection, draft).items():
            ran = f"Devices that ran {draft.product} {version}, which is revoked, would refuse {draft.version}"
            session.note(
                f"{ran}: its security counter is {draft.security_counter}, and that of {version} is {counter}."
            )


def _stored_row(store: str, proposal: Path) -> dict[str, object]:
    """Return a row that recommends a pack if the store is a folder, because other machines cannot read the folder."""
    kind, _, folder = store.partition(":")
    if kind != "file":
        return {}
    pack = f"`blockota proposal pack {shlex.quote(str(proposal))}`"
    return {"stored in": f"{folder}: an owner without this folder needs a pack ({pack})"}


def _published_rows(made: Release, manifest: Manifest | None) -> dict[str, object]:
    options = manifest.option_lines if manifest else {}
    return {
        "release": f"{made.product} {made.version}",
        "SHA-256": made.sha256.hex(),
        **_place(made),
        "active from": show_time(made.active_from) if made.active_from else "at once",
        "manifest": _manifest_address(made) or "none",
        **{label: "; ".join(lines) for label, lines in options.items()},
    }


def _place(made: Release) -> dict[str, object]:
    """Return the row with an image's addresses, or with its size if the image is not for the flash of an STM32."""
    return {"addresses": made.region} if made.chip_id else {"size": f"{made.size:,} bytes"}


def _manifest_address(made: Release) -> str | None:
    return str(CID(RAW, made.manifest)) if made.manifest else None


def _revocation(session: Session, found: Release) -> Revocation | None:
    """Return the time and reason of a revocation.

    If the revocation cannot be read, print a note with the cause and return None.
    """
    try:
        if revocation := session.contract.revocation(found):
            return revocation
        why = "the node does not have the event"
    except ChainError as error:
        why = str(error)
    session.note(f"The time and the reason of the revocation are not known: {why}.")
    return None


def _status(found: Release, *, now: int) -> str:
    """Return the status at the chain's time `now`.

    An active release with a later activation time counts as postponed.
    """
    return "postponed" if found.status is Status.ACTIVE and found.active_from > now else str(found.status)
