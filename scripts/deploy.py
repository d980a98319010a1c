"""Deploy both contracts, governed by the vendor's Safe: ``ape run deploy --network NETWORK``.

It writes ``deployments/<chain id>.json``, which is enough by itself on the local chain; on others its addresses go into
``blockota.toml``. On a local chain without ``--safe`` it deploys a 2-of-3 Safe of the development keys first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.chain.chain import LOCAL_CHAIN_IDS
from blockota.cli.ape_scripts import node_chain, told_errors
from blockota.cli.keys import key_option, open_named_key
from blockota.deployment import Deployment
from blockota.errors import UsageError
from blockota.keys import dev_account
from blockota.vendor.publish import deploy, deploy_local_safe

OWNERS, THRESHOLD = (1, 2, 3), 2


@click.command(cls=ConnectedProviderCommand)
@key_option("Who pays", default="dev:0")
@click.option("--safe", help="Address of the vendor's Safe; needed on every chain but a local one.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Where deployments/ is written.")
def cli(provider: ProviderAPI, safe: str | None, folder: Path, **signing: Any) -> None:
    """Deploy BlockOTA and FirmwareReplication, and write deployments/<chain id>.json."""
    with told_errors():
        deployment = run(provider, safe=safe, folder=folder, **signing)
        path = deployment.write(folder)
    click.echo(f"BlockOTA {deployment.contract} on chain {deployment.chain_id}, owned by the Safe {deployment.safe}")
    click.echo(f"FirmwareReplication {deployment.replication}, for the same vendor")
    click.echo(f"Wrote {path}")


def run(
    provider: ProviderAPI, *, safe: str | None, folder: Path, key: str, password_fd: int | None = None
) -> Deployment:
    """Deploy through the node that Ape is connected to.

    Raises:
        UsageError: a Safe must be named on this chain, or the node has no HTTP address.
    """
    chain = node_chain(provider, purpose="ape run deploy")
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
    account = open_named_key(key, password_fd, chain_id=chain.chain_id)
    owners = [dev_account(number).address for number in OWNERS]
    return deploy(chain, account, safe=safe or deploy_local_safe(chain, account, owners=owners, threshold=THRESHOLD))
