"""Offer to serve a release, as a broker: ``ape run propose_replication --product P --version V --key KEY``.

The contract's address is read from ``deployments/<chain id>.json``, or given with ``--contract``.
"""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.bindings.replication import ReplicationContract
from blockota.broker.agreements import offer
from blockota.cli.keys import key_option, open_key
from blockota.cli.parameters import VERSION
from blockota.model.release import Version
from blockota.settings import Deployment
from scripts._ape import errors_reported, node_chain

LIFETIME = 90 * 86400
"""The time in seconds for which the broker offers to serve the release."""


@click.command(cls=ConnectedProviderCommand)
@click.option("--product", required=True, help="Product of the release.")
@click.option("--version", type=VERSION, required=True, help="Version to serve, such as 1.4.0.")
@key_option("The broker's")
@click.option("--contract", help="Address of FirmwareReplication.")
def cli(
    provider: ProviderAPI, product: str, version: Version, *, key: str, password_fd: int | None, contract: str | None
) -> None:
    """Offer to serve a release for 90 days; the vendor's Safe decides."""
    with errors_reported():
        chain = node_chain(provider, purpose="ape run propose_replication")
        address = contract or Deployment.read(Deployment.path(Path(), chain.chain_id)).replication
        made = offer(
            ReplicationContract(chain, address),
            open_key(chain.chain_id, key, password_fd),
            product=product,
            version=version,
            expires_at=chain.head().time + LIFETIME,
        )
    click.echo(f"Proposed agreement {made.number} for {product} {version}; the vendor decides")
