"""Deploy both contracts, governed by the vendor's Safe: ``ape run deploy --network NETWORK``.

It writes ``deployments/<chain id>.json``, which is enough by itself on the local chain; on others its addresses go into
``blockota.toml``. On a local chain without ``--safe`` it deploys a 2-of-3 Safe of the development keys first.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.chain import LOCAL_CHAIN_IDS, Chain
from blockota.deployment import Deployment
from blockota.errors import BlockOTAError, UsageError
from blockota.keys import dev_account, open_key
from blockota.vendor import deploy, deploy_local_safe

OWNERS, THRESHOLD = (1, 2, 3), 2


@click.command(cls=ConnectedProviderCommand)
@click.option("--key", default="dev:0", show_default=True, help="Who pays: keystore:FILE, ape:ALIAS, env:NAME, dev:N.")
@click.option("--safe", help="Address of the vendor's Safe; needed on every chain but a local one.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Where deployments/ is written.")
def cli(provider: ProviderAPI, key: str, safe: str | None, folder: Path) -> None:
    """Deploy BlockOTA and FirmwareReplication, and write deployments/<chain id>.json."""
    try:
        deployment = run(provider, key=key, safe=safe, folder=folder)
        path = deployment.write(folder)
    except BlockOTAError as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(error.exit_status)
    click.echo(f"BlockOTA {deployment.contract} on chain {deployment.chain_id}, owned by the Safe {deployment.safe}")
    click.echo(f"FirmwareReplication {deployment.replication}, for the same vendor")
    click.echo(f"Wrote {path}")


def run(provider: ProviderAPI, *, key: str, safe: str | None, folder: Path) -> Deployment:
    """Deploy through the node that Ape is connected to.

    Raises:
        UsageError: a Safe must be named on this chain, or the node has no HTTP address.
    """
    chain = Chain(url_of(provider), chain_id=provider.chain_id)
    is_local = chain.chain_id in LOCAL_CHAIN_IDS
    known = Deployment.path(folder, chain.chain_id)
    if known.exists() and not is_local:
        raise UsageError(f"{known} is there already", why="it names a deployment", remedy="move it away first")
    if safe is None and not is_local:
        raise UsageError(
            "the vendor's Safe is not named",
            why=f"chain {chain.chain_id} is not a local one",
            remedy="say --safe ADDRESS",
        )
    account = open_key(key, is_local_chain=is_local, ask_password=ask_password)
    owners = [dev_account(number).address for number in OWNERS]
    return deploy(chain, account, safe=safe or deploy_local_safe(chain, account, owners=owners, threshold=THRESHOLD))


def url_of(provider: Any) -> str:
    """The HTTP address of the node behind an Ape provider."""
    url = getattr(provider, "http_uri", None) or getattr(provider, "uri", None)
    if not isinstance(url, str):
        raise UsageError("the node cannot be reached", why=f"Ape's provider {provider.name} has no HTTP address")
    return url


def ask_password(prompt: str) -> str:
    """Ask on the terminal."""
    return str(click.prompt(prompt.rstrip(": "), hide_input=True, err=True))
