"""Offer to serve a release, as a broker: ``ape run propose_replication --product P --version V --key KEY``.

The contract is the one in ``deployments/<chain id>.json``, or that of ``--contract``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.broker import offer
from blockota.chain import LOCAL_CHAIN_IDS, Chain
from blockota.deployment import Deployment
from blockota.errors import BlockOTAError
from blockota.keys import open_key
from blockota.release import Version
from blockota.replication import ReplicationContract

LIFETIME = 90 * 86400
"""Seconds for which the release is to be served."""


@click.command(cls=ConnectedProviderCommand)
@click.option("--product", required=True, help="Name of the product.")
@click.option("--version", required=True, help="The release to serve, such as 1.4.0.")
@click.option("--key", required=True, help="The broker's: keystore:FILE, ape:ALIAS, env:NAME, dev:N.")
@click.option("--contract", help="Address of FirmwareReplication.")
def cli(provider: ProviderAPI, product: str, version: str, key: str, contract: str | None) -> None:
    """Offer to serve a release for 90 days; the vendor's Safe decides."""
    try:
        chain = Chain(str(getattr(provider, "http_uri", "") or getattr(provider, "uri", "")))
        address = contract or Deployment.read(Deployment.path(Path(), chain.chain_id)).replication
        account = open_key(key, is_local_chain=chain.chain_id in LOCAL_CHAIN_IDS, ask_password=ask_password)
        made = offer(
            ReplicationContract(chain, address),
            account,
            product=product,
            version=Version.parse(version),
            expires_at=chain.head().time + LIFETIME,
        )
    except BlockOTAError as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(error.exit_status)
    click.echo(f"Proposed agreement {made.number} for {product} {version}; the vendor decides")


def ask_password(prompt: str) -> str:
    """Ask on the terminal."""
    return str(click.prompt(prompt.rstrip(": "), hide_input=True, err=True))
