"""Offer to serve a release, as a broker: ``ape run propose_replication --product P --version V --key KEY``.

The contract is the one in ``deployments/<chain id>.json``, or that of ``--contract``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.bindings.replication import ReplicationContract
from blockota.broker.agreements import offer
from blockota.cli.ape_scripts import node_chain, told_errors
from blockota.cli.keys import key_option, open_named_key
from blockota.deployment import Deployment
from blockota.model.release import Version

LIFETIME = 90 * 86400
"""Seconds for which the release is to be served."""


@click.command(cls=ConnectedProviderCommand)
@click.option("--product", required=True, help="Name of the product.")
@click.option("--version", required=True, help="The release to serve, such as 1.4.0.")
@key_option("The broker's")
@click.option("--contract", help="Address of FirmwareReplication.")
def cli(provider: ProviderAPI, product: str, version: str, contract: str | None, **signing: Any) -> None:
    """Offer to serve a release for 90 days; the vendor's Safe decides."""
    with told_errors():
        chain = node_chain(provider, purpose="ape run propose_replication")
        address = contract or Deployment.read(Deployment.path(Path(), chain.chain_id)).replication
        made = offer(
            ReplicationContract(chain, address),
            open_named_key(**signing, chain_id=chain.chain_id),
            product=product,
            version=Version.parse(version),
            expires_at=chain.head().time + LIFETIME,
        )
    click.echo(f"Proposed agreement {made.number} for {product} {version}; the vendor decides")
