"""Propose to withdraw a release: ``ape run revoke --product P --version V --reason TEXT -o revoke.json``.

With ``--sign env:NAME`` the script also writes an owner's signature. The option ``--contract`` sets the contract. By
default, the script uses the contract for the network's chain id in ``blockota.toml`` or ``deployments/<chain
id>.json``.
"""

from __future__ import annotations

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.approval.proposal import Proposal
from blockota.cli.options import ProposalOptions
from blockota.cli.parameters import VERSION
from blockota.model.release import Version
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_revocation
from scripts._ape import connect, proposing_script, save_proposal


@click.command(cls=ConnectedProviderCommand)
@click.option("--product", required=True, help="Product of the release.")
@click.option("--version", type=VERSION, required=True, help="Version to withdraw permanently.")
@proposing_script
def cli(
    provider: ProviderAPI,
    product: str,
    version: Version,
    *,
    contract: str | None,
    proposing: ProposalOptions,
) -> None:
    """Propose to withdraw a release permanently. The --reason is required and is recorded on the chain."""
    connection = connect(provider, purpose="ape run revoke", contract=contract)

    def propose(reason: Reason) -> Proposal:
        return propose_revocation(connection.contract, product, version=version, reason=reason)

    save_proposal(connection, propose, proposing)
