"""Deploy both contracts, owned by the vendor's Safe: ``ape run deploy --network NETWORK``.

The script writes ``deployments/<chain id>.json``. Commands read the contracts' addresses from this file if the settings
do not name them. On a local chain without ``--safe``, the script first deploys a 2-of-3 Safe of test keys.
"""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.bindings.safe import deploy_safe
from blockota.chain import LOCAL_CHAIN_IDS
from blockota.cli.keys import key_option, open_key
from blockota.errors import UsageError
from blockota.keys import dev_account
from blockota.settings import Deployment
from blockota.vendor.publish import deploy
from scripts._ape import connect, errors_reported

OWNERS, THRESHOLD = (1, 2, 3), 2


@click.command(cls=ConnectedProviderCommand)
@key_option("Pays for the deployment", default="dev:0")
@click.option("--safe", help="Address of the vendor's Safe; required except on a local chain.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Folder for deployments/.")
def cli(provider: ProviderAPI, key: str, password_fd: int | None, safe: str | None, folder: Path) -> None:
    """Deploy BlockOTA and FirmwareReplication, and write deployments/<chain id>.json."""
    with errors_reported():
        chain = connect(provider, purpose="ape run deploy").chain
        is_local = chain.chain_id in LOCAL_CHAIN_IDS
        known = Deployment.path(folder, chain.chain_id)
        if known.exists() and not is_local:
            raise UsageError(f"{known} already exists", why="it describes a deployment", remedy="move it away first")
        if safe is None and not is_local:
            raise UsageError(
                "no Safe given",
                why=f"chain {chain.chain_id} is not a local chain, so the vendor's Safe must own the contracts",
                remedy="pass --safe ADDRESS",
            )
        account = open_key(chain.chain_id, key, password_fd)
        if safe is None:
            owners = [dev_account(number).address for number in OWNERS]
            safe = deploy_safe(chain, account, owners=owners, threshold=THRESHOLD)
        deployment = deploy(chain, account, safe=safe)
        path = deployment.write(folder)
    click.echo(f"BlockOTA {deployment.contract} on chain {deployment.chain_id}, owned by the Safe {deployment.safe}")
    click.echo(f"FirmwareReplication {deployment.replication}, for the same vendor")
    click.echo(f"Wrote {path}")
