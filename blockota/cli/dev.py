"""``blockota dev``: run a local chain with a Safe, the contracts and a product, for development."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import click

from blockota.chain import Chain
from blockota.chain.local import LocalChain
from blockota.cli.parameters import NumberRange
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.deployment import GATEWAY_FOLDER, LOCAL_CHAIN_ID, LOCAL_GATEWAY_CHAIN_ID, Deployment, settings_text
from blockota.errors import Action, RefusedError
from blockota.files import write_result
from blockota.keys import dev_account
from blockota.settings import FILE_NAME, STATE_FOLDER, load_settings
from blockota.url_secrets import shown_url
from blockota.vendor.example import PRODUCT, set_up, write_keys

FOLDER = Path(STATE_FOLDER)
PORT = 8545
_PAYER = 0
_NETWORKS = ("local", "local-gateway")
"""Names of the networks in the settings file; the second only with two chains."""
_COMMENT = (
    "Written by `blockota dev up`. Keys: dev:0 pays, dev:1 to dev:3 own the Safes, dev:4 to dev:9 are of identities."
)
_PORT_HELP = "Port of the node; by default that of the last start, or 8545. A gateway chain has the next port."


@click.group(cls=VerbGroup)
def dev() -> None:
    """Run a local chain for development; its state is kept in .blockota/ in this folder."""


@dev.command()
@click.option("--port", type=NumberRange(1, 65534), help=_PORT_HELP)
@click.option("--two-chains", is_flag=True, help="Start a second chain, with the city's contracts.")
@with_session
def up(session: Session, /, port: int | None, *, two_chains: bool) -> None:
    """Start the chain, or two chains.

    The first start deploys 2-of-3 Safes for a vendor, the consortium and a city, and their contracts. The first start
    also pairs one product with a chip, admits the vendor as a producer, and enrols one identity of each kind, whose
    keys are in .blockota/identities/. All keys are public: use them on the local chain only.

    \b
    Example:  blockota dev up
    """
    chains = _local_chains(port, two_chains=two_chains)
    _refuse_other_settings(chains[0])

    with chains[0].locked():  # two simultaneous starts would deploy twice
        was_running = chains[0].pid is not None
        started = []
        with ExitStack() as undo:
            for local in chains:
                if local.pid is None:
                    undo.callback(local.stop)
                started.append(local.start())
            deployments = [found for chain in started if (found := _deployed(chain))]
            if len(deployments) < len(started):
                deployments = _set_up(session, started)
            _write_settings(session, chains, deployments)
            undo.pop_all()  # everything succeeded, so the chains go on

    producer, gateway = deployments[0], deployments[-1]
    fields = {
        "url": chains[0].url,
        "chainId": producer.chain_id,
        "contract": producer.contract,
        "replication": producer.replication,
        "safe": producer.safe,
        "owners": list(producer.owners),
        "product": _product(),
        "gatewayUrl": chains[-1].url,
        "gatewayChainId": gateway.chain_id,
        "consortiumSafe": producer.safes.get("consortium"),
        "citySafe": gateway.safes.get("city"),
        **producer.registries,
        **gateway.registries,
    }

    def show() -> None:
        session.done(f"the local chain {'is already running' if was_running else 'is up'} at {chains[0].url}")
        labels = {"chainId": "chain id", "safe": "vendor's Safe"}
        labels |= {"consortiumSafe": "consortium's Safe", "citySafe": "city's Safe"}
        names = ("chainId", "contract", "replication", "safe", "product", "consortiumSafe", "citySafe")
        session.fields({labels.get(name, name): fields[name] for name in names if fields[name]})
        if len(chains) > 1:
            session.done(f"the local gateway chain is up at {chains[1].url}")

    publish = f"`blockota release publish IMAGE --product {_product()} --version 1.0.0 -o 1.0.0.json`"
    session.result(fields, show, then=f"Next: {publish}")


@dev.command()
@click.option("--port", type=NumberRange(1, 65535), help=_PORT_HELP)
@with_session
def status(session: Session, /, port: int | None) -> None:
    """Show whether the chain is running, and the addresses of its contracts.

    \b
    Example:  blockota dev status
    """
    local, *others = _local_chains(port)
    if local.pid is None:
        was_started = local.last_port(FOLDER) is not None
        note = "; `blockota dev up` starts it" if was_started else ", and was never started in this folder"
        session.result({"running": False}, lambda: session.print(f"The local chain is not running{note}."))
        return

    chain = Chain(local.url, chain_id=LOCAL_CHAIN_ID)
    fields = {
        "running": True,
        "process": local.pid,
        "url": local.url,
        "block": chain.head().number,
        "contract": None,
        "safe": None,
    }
    if deployment := _deployed(chain):
        fields |= {"contract": deployment.contract, "safe": deployment.safe}
    if others and others[0].pid is not None:
        fields["gatewayUrl"] = others[0].url

    shown = {name: "not deployed" if value is None else value for name, value in fields.items()} | {"running": "yes"}
    if "gatewayUrl" in shown:
        shown["gateway chain"] = shown.pop("gatewayUrl")
    session.result(fields, lambda: session.fields(shown))


@dev.command()
@click.option("--port", type=NumberRange(1, 65535), help=_PORT_HELP)
@with_session
def down(session: Session, /, port: int | None) -> None:
    """Stop the chain, or both chains; the state is kept in .blockota/.

    \b
    Example:  blockota dev down
    """
    stopped = [local.stop() for local in _local_chains(port)]
    sentence = "the local chain is stopped, its state is kept" if any(stopped) else "the local chain was not running"
    session.result({"stopped": any(stopped)}, lambda: session.done(sentence))


def _local_chains(port: int | None, *, two_chains: bool = False) -> list[LocalChain]:
    """Return the producer chain, and the gateway chain if its folder exists or `two_chains` is True.

    Raises:
        RefusedError: this folder was set up with a single chain.
    """
    folder, port = FOLDER / GATEWAY_FOLDER, port or LocalChain.last_port(FOLDER) or PORT
    chains = [LocalChain(FOLDER, port)]

    if two_chains and not folder.exists() and Deployment.path(Path(), LOCAL_CHAIN_ID).exists():
        raise RefusedError(
            "this folder has one local chain already",
            why="it already has the city's contracts, which cannot move to a second chain",
            remedy="start two chains in an empty folder",
        )

    if two_chains or folder.exists():
        chains.append(LocalChain(folder, port + 1, LOCAL_GATEWAY_CHAIN_ID))
    return chains


def _refuse_other_settings(local: LocalChain) -> None:
    """Refuse to start the chain if the settings file of this folder selects another chain.

    Raises:
        RefusedError: the settings file selects another chain.
        UsageError: the settings file is not valid.
    """
    if not Path(FILE_NAME).exists():
        return
    settings = load_settings(Path(FILE_NAME), network=None, environment={})
    is_local = settings.chain_id == LOCAL_CHAIN_ID
    if is_local and local.is_at(settings.url):
        return

    place, action = "in an empty folder", None
    if is_local and urlsplit(settings.url).hostname in ("127.0.0.1", "localhost"):
        place, action = "on the port that the file names", Action.CHOOSE_PORT
    raise RefusedError(
        f"{FILE_NAME} in this folder names another chain, so nothing was started",
        why=f"its network {settings.network!r} has the URL {shown_url(settings.url)} and the chain id "
        f"{settings.chain_id}, but the local chain would have {local.url} and {LOCAL_CHAIN_ID}",
        remedy=f"start the local chain {place}",
        action=action,
    )


def _deployed(chain: Chain) -> Deployment | None:
    """Return the deployment in this folder's file; None if its contract does not exist on the chain."""
    # The file is not in .blockota/. If .blockota/ was deleted, the contract no longer exists.
    path = Deployment.path(Path(), chain.chain_id)
    if not path.exists():
        return None
    deployment = Deployment.read(path)
    first = deployment.contract or next(iter(deployment.registries.values()), "")
    return deployment if first and chain.has_code(first) else None


def _set_up(session: Session, chains: Sequence[Chain]) -> list[Deployment]:
    session.note("Deploying the Safes and the contracts, pairing a product, enrolling identities ...")
    made = set_up(chains[0], chains[-1], dev_account(_PAYER))[: len(chains)]
    write_keys(FOLDER / "identities")
    for deployment in made:
        deployment.write(Path())
    return list(made)


def _write_settings(session: Session, chains: Sequence[LocalChain], deployments: Sequence[Deployment]) -> None:
    path = Path(FILE_NAME)
    if not path.exists():
        found = zip(_NETWORKS, chains, deployments, strict=False)
        networks = {name: (local.url, deployment) for name, local, deployment in found}
        write_result(path, settings_text(networks, comment=_COMMENT).encode())
        return
    # A settings file of the user is never changed. It may name contracts of a chain whose state was deleted.
    settings = load_settings(path, network=None, environment={})
    named = {"contract": settings.contract, "replication": settings.replication, "safe": settings.safe}
    for key, address in {**named, **settings.registries}.items():
        right = deployments[0].address(key)
        if address and right and address.lower() != right.lower():
            session.note(f'Warning: {FILE_NAME} names another {key} than this chain has. Set {key} = "{right}"')


def _product() -> str:
    return PRODUCT.name
