"""``blockota dev``: run a local chain with a Safe, the contracts and a product, for development."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from blockota.cli.session import Session, VerbGroup, with_session
from blockota.deployment import LOCAL_CHAIN_ID, Deployment
from blockota.errors import Action, RefusedError
from blockota.files import write_result
from blockota.model.release import Product, Region
from blockota.settings import FILE_NAME, STATE_FOLDER, load_settings
from blockota.url_secrets import shown_url

if TYPE_CHECKING:
    from blockota.chain import Chain
    from blockota.chain.local import LocalChain

FOLDER = Path(STATE_FOLDER)
PORT = 8545
PRODUCT, OEM, CHIP_ID = "acme-thermo2", "acme", 0x410
FLASH_START, FLASH_SIZE = 0x08000000, 1 << 16
PAYER, OWNERS, THRESHOLD = 0, (1, 2, 3), 2
"""Development accounts: dev:0 pays, dev:1 to dev:3 own the Safe, and two of them must sign."""
_SETTINGS = """\
# Written by `blockota dev up`. Development keys are dev:0 (pays), dev:1, dev:2 and dev:3 (the Safe's owners).
network = "local"
store = "file:.blockota/store"

[networks.local]
url = "{url}"
chain_id = {chain_id}
contract = "{contract}"
replication = "{replication}"
safe = "{safe}"
confirmations = 0
"""


@click.group(cls=VerbGroup)
def dev() -> None:
    """Run a local chain for development; its state is kept in .blockota/ in this folder."""


@dev.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the node; by default that of the last start, or 8545."
)
@with_session
def up(session: Session, /, port: int | None) -> None:
    """Start the chain. The first start deploys a 2-of-3 Safe and the contracts, and pairs one product.

    \b
    Example:  blockota dev up
    """
    local = _local_chain(port)
    _refuse_other_settings(local)
    with local.locked():  # two simultaneous starts would deploy twice
        was_running = local.pid is not None
        chain = local.start()
        deployment = _deployed(chain) or _deploy(session, chain)
        _write_settings(session, local, deployment=deployment)
    fields = {
        "url": local.url,
        "chainId": chain.chain_id,
        "contract": deployment.contract,
        "replication": deployment.replication,
        "safe": deployment.safe,
        "owners": list(deployment.owners),
        "product": PRODUCT,
    }

    def show() -> None:
        session.done(f"the local chain {'is already running' if was_running else 'is up'} at {local.url}")
        labels = {"chainId": "chain id", "safe": "Safe"}
        names = ("chainId", "contract", "replication", "safe", "product")
        session.fields({labels.get(name, name): fields[name] for name in names})

    publish = f"`blockota release publish IMAGE --product {PRODUCT} --version 1.0.0 -o 1.0.0.json`"
    session.result(fields, show, then=f"Next: {publish}")


@dev.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the node; by default that of the last start.")
@with_session
def status(session: Session, /, port: int | None) -> None:
    """Show whether the chain is running, and the addresses of its contracts.

    \b
    Example:  blockota dev status
    """
    from blockota.chain import Chain

    local = _local_chain(port)
    if local.pid is None:
        was_started = local.last_port(FOLDER) is not None
        note = "; `blockota dev up` starts it" if was_started else ", and was never started in this folder"
        session.result({"running": False}, lambda: session.print(f"The local chain is not running{note}."))
        return
    chain = Chain(local.url, chain_id=LOCAL_CHAIN_ID)
    deployment = _deployed(chain)
    fields = {
        "running": True,
        "process": local.pid,
        "url": local.url,
        "block": chain.head().number,
        "contract": deployment.contract if deployment else None,
        "safe": deployment.safe if deployment else None,
    }
    shown = {name: "not deployed" if value is None else value for name, value in fields.items()} | {"running": "yes"}
    session.result(fields, lambda: session.fields(shown))


@dev.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the node; by default that of the last start.")
@with_session
def down(session: Session, /, port: int | None) -> None:
    """Stop the chain; its state is kept in .blockota/chain.json.

    \b
    Example:  blockota dev down
    """
    stopped = _local_chain(port).stop()
    sentence = "the local chain is stopped, its state is kept" if stopped else "the local chain was not running"
    session.result({"stopped": stopped}, lambda: session.done(sentence))


def _local_chain(port: int | None) -> LocalChain:
    from blockota.chain.local import LocalChain

    return LocalChain(FOLDER, port or LocalChain.last_port(FOLDER) or PORT)


def _refuse_other_settings(local: LocalChain) -> None:
    """Refuse to start the chain if the settings file of this folder selects another one.

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
    is_here = is_local and urlsplit(settings.url).hostname in ("127.0.0.1", "localhost")
    raise RefusedError(
        f"{FILE_NAME} in this folder is for another chain, nothing was started",
        why=f"its network {settings.network!r} has the URL {shown_url(settings.url)} and the chain id "
        f"{settings.chain_id}, the local chain would have {local.url} and {LOCAL_CHAIN_ID}",
        remedy="start the local chain " + ("on the port that the file names" if is_here else "in an empty folder"),
        action=Action.CHOOSE_PORT if is_here else None,
    )


def _deployed(chain: Chain) -> Deployment | None:
    """Return the deployment in this folder's file; None if its contract does not exist on the chain."""
    # The file is not in .blockota/. If .blockota/ was deleted, the contract no longer exists.
    path = Deployment.path(Path(), chain.chain_id)
    if not path.exists():
        return None
    deployment = Deployment.read(path)
    return deployment if chain.has_code(deployment.contract) else None


def _deploy(session: Session, chain: Chain) -> Deployment:
    from blockota.approval.signature import sign
    from blockota.bindings.block_ota import BlockOTAContract
    from blockota.bindings.safe import deploy_safe, execute
    from blockota.keys import dev_account
    from blockota.vendor.deploy import deploy
    from blockota.vendor.propose import Reason
    from blockota.vendor.publish import propose_pairing

    session.note("Deploying the Safe and the contract, pairing a product ...")
    payer = dev_account(PAYER)
    owners = [dev_account(number).address for number in OWNERS]
    safe = deploy_safe(chain, payer, owners=owners, threshold=THRESHOLD)
    deployment = deploy(chain, payer, safe=safe)

    # The example product is paired as a vendor does it: propose, sign, execute.
    now = int(time.time())
    product = Product(PRODUCT, OEM, CHIP_ID, Region(FLASH_START, FLASH_SIZE), minimum_version=None, paired=True)
    contract, reason = BlockOTAContract(chain, deployment.contract), Reason("the example product", now, lifetime=3600)
    proposal = propose_pairing(contract, product, reason=reason)
    signatures = [sign(proposal, dev_account(number)) for number in OWNERS[:THRESHOLD]]
    execute(chain, proposal, signatures=signatures, account=payer, now=now)
    deployment.write(Path())
    return deployment


def _write_settings(session: Session, local: LocalChain, *, deployment: Deployment) -> None:
    text = _SETTINGS.format(
        url=local.url,
        chain_id=LOCAL_CHAIN_ID,
        contract=deployment.contract,
        replication=deployment.replication,
        safe=deployment.safe,
    )
    path = Path(FILE_NAME)
    if not path.exists():
        write_result(path, text.encode())
        return
    # A settings file of the user is never changed. It may name contracts of a chain whose state was deleted.
    settings = load_settings(path, network=None, environment={})
    for key in ("contract", "replication", "safe"):
        named, right = getattr(settings, key), getattr(deployment, key)
        if named and named.lower() != right.lower():
            session.note(f'Warning: {FILE_NAME} names another {key} than this chain has. Set {key} = "{right}"')
