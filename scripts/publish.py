"""Propose a release: ``ape run publish build/app.bin --product P --version V -o proposal.json --network NETWORK``.

The script stores the image and writes the proposal file. With ``--sign env:NAME`` the script also writes an owner's
signature, unless the proposal has a red flag. The contract's address is read from ``deployments/<chain id>.json``, or
given with ``--contract``. `blockota proposal execute` sends the transaction once enough owners have signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.approval.proposal import Proposal
from blockota.cli.options import ProposalOptions
from blockota.cli.parameters import ENTRY, TIME, VERSION
from blockota.cli.release import complete_draft
from blockota.model.draft import Draft
from blockota.model.manifest import metadata_from
from blockota.model.release import Version
from blockota.stores.store import open_store
from blockota.vendor.drafting import read_notes
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_releases
from scripts._ape import deployed_contract, proposing_script, write_proposal

FILE = click.Path(path_type=Path)


@click.command(cls=ConnectedProviderCommand)
@click.argument("image", type=FILE)
@click.option("--product", required=True, help="Product that the image is for.")
@click.option("--version", type=VERSION, required=True, help="Version of the release, such as 1.4.0.")
@click.option("--configuration", is_flag=True, help="IMAGE is data: no vector table is required.")
@click.option("--active-from", type=TIME, default=0, show_default="at once", help="2026-12-01T08:00+01:00, or +7d.")
@click.option("--notes", type=FILE, help="Text file with release notes, at most 64 KiB.")
@click.option("--metadata", type=ENTRY, multiple=True, metavar="KEY=VALUE", help="Further metadata; repeatable.")
@click.option("--store", default="file:.blockota/store", envvar="BLOCKOTA_STORE", show_default=True)
@proposing_script
def cli(
    provider: ProviderAPI,
    image: Path,
    product: str,
    version: Version,
    *,
    configuration: bool,
    active_from: int,
    notes: Path | None,
    metadata: Sequence[tuple[str, str]],
    store: str,
    contract: str | None,
    sign: str | None,
    proposing: ProposalOptions,
) -> None:
    """Store IMAGE and propose it as a release; the Safe's owners decide."""
    deployed = deployed_contract(provider, contract)
    draft = Draft(
        product,
        version,
        active_from=active_from,
        configuration=configuration,
        notes=read_notes(notes),
        metadata=metadata_from(metadata),
    )
    complete = complete_draft(draft, image, contract=deployed)

    def propose(reason: Reason) -> Proposal:
        return propose_releases(deployed, [complete], store=open_store(store), reason=reason)[1]

    write_proposal(deployed, propose, proposing, sign=sign)
