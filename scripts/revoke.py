"""Propose to withdraw a release: ``ape run revoke --product P --version V --reason TEXT -o revoke.json``.

With ``--sign env:NAME`` it writes an owner's signature file as well. The contract is the one in
``deployments/<chain id>.json``, or that of ``--contract``.
"""

from __future__ import annotations

from typing import Any

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.approval.proposal import Proposal
from blockota.cli.ape_proposals import deployed_contract, proposing_script, write_proposal
from blockota.cli.ape_scripts import told_errors
from blockota.cli.parameters import VERSION
from blockota.model.release import Version
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_revocation


@click.command(cls=ConnectedProviderCommand)
@click.option("--product", required=True, help="Name of the product.")
@click.option("--version", type=VERSION, required=True, help="The release to withdraw, for good.")
@proposing_script
def cli(provider: ProviderAPI, product: str, version: Version, contract: str | None, **options: Any) -> None:
    """Propose to withdraw a release for good; the --reason, which must be given, is recorded on the chain."""
    with told_errors():
        deployed = deployed_contract(provider, contract)

        def propose(reason: Reason) -> Proposal:
            return propose_revocation(deployed, product, version=version, reason=reason)

        written = write_proposal(deployed, propose, **options)
    written.tell()
