"""Deploy the contracts of a vendor, the consortium or a city, owned by a Safe: ``ape run deploy --network NETWORK``.

The script writes ``deployments/<chain id>.json``. If ``blockota.toml`` does not exist, the script also writes this
settings file, which the contracts' owner copies to others. On a local chain without ``--safe``, the script sets up the
same example as ``blockota dev up``.
"""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand

from blockota.chain import LOCAL_CHAIN_IDS
from blockota.cli.keys import key_option, open_key
from blockota.deployment import Deployment, network_text, settings_text
from blockota.errors import UsageError
from blockota.files import write_result
from blockota.settings import FILE_NAME, REGISTRIES, STATE_FOLDER
from blockota.vendor.deploy import PARTS, VENDOR, deploy_part
from blockota.vendor.example import set_up, write_keys
from scripts._ape import connect, errors_reported

_COMMENT = "Written by `ape run deploy`. Copy this file to all who use the contracts; they may have another node's url."


@click.command(cls=ConnectedProviderCommand)
@key_option("Pays for the deployment", default="dev:0")
@click.option("--safe", help="Address of the Safe that owns the contracts; required except on a local chain.")
@click.option(
    "--for",
    "part",
    type=click.Choice([VENDOR, *PARTS]),
    default=VENDOR,
    show_default=True,
    help="Whose contracts. The city has one for configurations on the producer chain, and others on the gateway chain.",
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Folder to write to.")
def cli(provider: ProviderAPI, key: str, password_fd: int | None, *, safe: str | None, part: str, folder: Path) -> None:
    """Deploy contracts, and write their addresses to deployments/ and blockota.toml."""
    with errors_reported():
        connection = connect(provider, purpose="ape run deploy")
        chain = connection.chain
        is_local = chain.chain_id in LOCAL_CHAIN_IDS
        known = _known(folder, chain.chain_id, part, is_local=is_local)
        if safe is None and not is_local:
            raise UsageError(
                "no Safe given",
                why=f"chain {chain.chain_id} is not a local chain, so a Safe must own the contracts",
                remedy="pass --safe ADDRESS",
            )
        account = open_key(chain.chain_id, key, password_fd)
        if safe is None:
            deployment, _ = set_up(chain, chain, account)
            write_keys(folder / STATE_FOLDER / "identities")
        else:
            deployment = deploy_part(chain, account, part, safe=safe, known=known)
        path, settings = deployment.write(folder), folder / FILE_NAME
        is_new = not settings.exists()
        network, url = provider.network.name, connection.settings.url
        if is_new:
            write_result(settings, settings_text({network: (url, deployment)}, comment=_COMMENT).encode())

    names = {"contract": "BlockOTA", "replication": "FirmwareReplication", **REGISTRIES}
    for setting, name in names.items():
        if address := deployment.address(setting):
            click.echo(f"{name} {address} on chain {deployment.chain_id} ({setting})")
    click.echo(f"Wrote {path}")
    click.echo(f"Wrote {settings}" if is_new else f"{settings} exists. It must contain these lines:\n")
    if not is_new:
        click.echo(network_text(network, url, deployment) + "\n")
    if part == VENDOR:
        click.echo(f"Next, in the folder of {settings.name}: blockota product pair NAME --help")


def _known(folder: Path, chain_id: int, part: str, *, is_local: bool) -> Deployment | None:
    """Return the recorded deployment of the chain's other contracts; None if no contract is recorded.

    Raises:
        UsageError: the contracts of this part are deployed already, on a chain that is not local.
    """
    path = Deployment.path(folder, chain_id)
    known = Deployment.read(path) if path.exists() else None
    if known is None or is_local:
        return known
    if known.contract if part == VENDOR else PARTS[part].keys() & known.registries.keys():
        raise UsageError(
            f"{path} already exists",
            why=f"the file names the contracts of the {part}",
            remedy="move the file away first",
        )
    return known
