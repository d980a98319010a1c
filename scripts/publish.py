"""Propose a release: ``ape run publish build/app.bin --product P --version V -o proposal.json --network NETWORK``.

It stores the image and writes the proposal file; with ``--sign env:NAME`` an owner's signature file beside it, unless
something about the proposal is unusual. The contract is the one in ``deployments/<chain id>.json``, or that of
``--contract``. `blockota proposal execute` sends it once enough owners have signed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.approval.proposal import Proposal
from blockota.cli.ape_proposals import deployed_contract, proposing_script, write_proposal
from blockota.cli.ape_scripts import told_errors
from blockota.cli.drafting import read_notes, with_image
from blockota.cli.parameters import ENTRY, TIME, VERSION
from blockota.model.draft import Draft
from blockota.model.manifest import metadata_from
from blockota.stores.store import open_store
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_releases

FILE = click.Path(path_type=Path)


@click.command(cls=ConnectedProviderCommand)
@click.argument("image", type=FILE)
@click.option("--product", required=True, help="What the image is for.")
@click.option("--version", type=VERSION, required=True, help="Its version, such as 1.4.0.")
@click.option("--configuration", is_flag=True, help="IMAGE is data, which needs no vector table.")
@click.option("--active-from", type=TIME, default=0, show_default="at once", help="2026-12-01T08:00+01:00, or +7d.")
@click.option("--notes", type=FILE, help="Text file with release notes.")
@click.option("--metadata", type=ENTRY, multiple=True, metavar="KEY=VALUE", help="Anything else to be known of it.")
@click.option("--store", default="file:.blockota/store", envvar="BLOCKOTA_STORE", show_default=True)
@proposing_script
def cli(provider: ProviderAPI, image: Path, store: str, **options: Any) -> None:
    """Store IMAGE and propose it as a release; the Safe's owners decide."""
    with told_errors():
        contract = deployed_contract(provider, options.pop("contract"))
        draft = with_image(take_draft(options), image, contract=contract)

        def propose(reason: Reason) -> Proposal:
            return propose_releases(contract, [draft], store=open_store(store), reason=reason)[1]

        written = write_proposal(contract, propose, **options)
    written.tell()


def take_draft(options: dict[str, Any]) -> Draft:
    """The draft that the options describe, without its image; takes these options out."""
    return Draft(
        options.pop("product"),
        options.pop("version"),
        active_from=options.pop("active_from"),
        configuration=options.pop("configuration"),
        notes=read_notes(options.pop("notes")),
        metadata=metadata_from(options.pop("metadata")),
    )
