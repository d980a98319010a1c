"""Deploy both contracts, owned by the vendor's Safe: ``ape run deploy --network NETWORK``.

The script writes ``deployments/<chain id>.json``, and ``blockota.toml`` if there is none: the file that the vendor
copies to owners, brokers and technicians. On a local chain without ``--safe``, the script first deploys a 2-of-3 Safe
of test keys.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.bindings.safe import deploy_safe
from blockota.chain import LOCAL_CHAIN_IDS
from blockota.cli.keys import key_option, open_key
from blockota.deployment import Deployment
from blockota.errors import UsageError
from blockota.files import write_result
from blockota.keys import dev_account
from blockota.settings import FILE_NAME
from blockota.vendor.deploy import deploy
from scripts._ape import connect, errors_reported

OWNERS, THRESHOLD = (1, 2, 3), 2
_SETTINGS = """\
# Written by `ape run deploy`. Copy this file to owners, brokers and technicians, who may have another node's url.
network = {network}
store = "file:.blockota/store"

[networks.{network}]
url = {url}
chain_id = {deployment.chain_id}
contract = "{deployment.contract}"
replication = "{deployment.replication}"
safe = "{deployment.safe}"
first_block = {deployment.block_number}
"""


@click.command(cls=ConnectedProviderCommand)
@key_option("Pays for the deployment", default="dev:0")
@click.option("--safe", help="Address of the vendor's Safe; required except on a local chain.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Folder to write to.")
def cli(provider: ProviderAPI, key: str, password_fd: int | None, safe: str | None, folder: Path) -> None:
    """Deploy BlockOTA and FirmwareReplication, and write their addresses to deployments/ and blockota.toml."""
    with errors_reported():
        connection = connect(provider, purpose="ape run deploy")
        chain = connection.chain
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
        path, settings = deployment.write(folder), folder / FILE_NAME
        # Strings in TOML are written as in JSON.
        network, url = json.dumps(provider.network.name), json.dumps(connection.settings.url)
        is_new = not settings.exists()
        if is_new:
            write_result(settings, _SETTINGS.format(network=network, url=url, deployment=deployment).encode())
    click.echo(f"BlockOTA {deployment.contract} on chain {deployment.chain_id}, owned by the Safe {deployment.safe}")
    click.echo(f"FirmwareReplication {deployment.replication}, for the same vendor")
    click.echo(f"Wrote {path}")
    click.echo(f"Wrote {settings}" if is_new else f"{settings} exists: it must name these contracts and this Safe")
    click.echo(f"Next, in the folder of {settings.name}: blockota product pair NAME --help")
