"""Propose a release: ``ape run publish build/app.bin --product P --version V -o proposal.json --network NETWORK``.

The script does what `blockota release publish` does, on a network of Ape. With ``--sign env:NAME`` the script also
writes an owner's signature, unless the proposal has a red flag. The script reads contract, store and sources for the
network's chain id from ``blockota.toml``. ``--contract`` and ``--store`` override the contract and the store. `blockota
proposal execute` sends the transaction once enough owners have signed.
"""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.approval.proposal import Proposal
from blockota.cli.options import ProposalOptions
from blockota.cli.release import DraftOptions, draft_options
from blockota.desk import complete_draft
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_releases
from scripts._ape import connect, proposing_script, save_proposal


@click.command(cls=ConnectedProviderCommand)
@click.argument("image", type=click.Path(path_type=Path))
@draft_options
@click.option("--store", metavar="URL", help="file:DIR, kubo:http://HOST:PORT or https://HOST.")
@proposing_script
def cli(
    provider: ProviderAPI,
    image: Path,
    *,
    drafting: DraftOptions,
    store: str | None,
    contract: str | None,
    proposing: ProposalOptions,
) -> None:
    """Store IMAGE and propose it as a release; the Safe's owners decide."""
    connection = connect(provider, purpose="ape run publish", contract=contract, store=store)
    draft = complete_draft(connection, drafting.as_draft(), image)

    def propose(reason: Reason) -> Proposal:
        return propose_releases(connection.contract, [draft], store=connection.store, reason=reason)[1]

    save_proposal(connection, propose, proposing)
