"""Offer to serve a release, as a broker: ``ape run propose_replication --product P --version V --key KEY``.

The option ``--contract`` sets the contract. By default, the script uses the contract for the network's chain id in
``blockota.toml`` or ``deployments/<chain id>.json``.
"""

from __future__ import annotations

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.bindings.replication import ReplicationContract
from blockota.broker.agreements import offer
from blockota.cli.keys import key_option, open_key
from blockota.cli.parameters import VERSION
from blockota.model.release import Version
from scripts._ape import connect, errors_reported

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
        connection = connect(provider, purpose="ape run propose_replication")
        replication = ReplicationContract(connection.chain, contract) if contract else connection.replication
        made = offer(
            replication,
            open_key(connection.chain.chain_id, key, password_fd),
            product=product,
            version=version,
            expires_at=connection.chain.head().time + LIFETIME,
        )
    click.echo(f"Proposed agreement {made.number} for {product} {version}; the vendor decides")
