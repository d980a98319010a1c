"""``blockota repository``: serve images to gateways, technicians and brokers."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import click
from rich.text import Text

from blockota.bindings.serving_rights import RightsReader
from blockota.chain.follow import Follower
from blockota.cli.listening import listening_options, metrics_option
from blockota.cli.parameters import ADDRESS, DURATION, INTERVAL
from blockota.cli.services import shown_state
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import UsageError
from blockota.repository.access_log import open_log
from blockota.repository.blocks import BlockStore
from blockota.repository.catalogue import Catalogue, check_reach
from blockota.repository.release_site import ReleaseSite
from blockota.repository.server import Listening
from blockota.repository.server import serve as serve_site
from blockota.repository.serving_status import RepositoryStatus, ServedCounts
from blockota.repository.tokens import Tokens, new_token
from blockota.stores.local import LocalStore
from blockota.stores.store import open_store

_STORES = ("file:", "kubo:", "http:", "https:")
_FILE = click.Path(path_type=Path)
_SHOWN = 3
_REPAIR = "`blockota broker sync --verify` verifies all copies, and fetches missing and corrupt ones again."


@click.group(cls=VerbGroup)
def repository() -> None:
    """Serve releases over HTTP (IPFS trustless gateway protocol)."""


@repository.command()
@click.argument("source", required=False, metavar="[DIR|URL]")
@click.option(
    "--as",
    "role",
    type=click.Choice(["vendor", "broker"]),
    default="vendor",
    show_default=True,
    help="Serve the vendor's releases, or only the releases of a broker's agreements.",
)
@click.option(
    "--broker", type=ADDRESS, metavar="ADDRESS", help="The broker whose agreements are served; goes with --as broker."
)
@click.option("--tokens", "tokens_path", type=_FILE, metavar="FILE", help="Require one of these bearer tokens.")
@click.option("--access-log", type=_FILE, metavar="FILE", help="Log file, one JSON line per request; else stderr.")
@click.option("--refresh", type=INTERVAL, default="30s", show_default=True, help="Time between reads of the chain.")
@click.option(
    "--patience",
    type=DURATION,
    default="1h",
    show_default=True,
    help="How long the last state of the chain is used if the chain is out of reach.",
)
@metrics_option
@listening_options
@with_session
def serve(
    session: Session,
    /,
    *,
    source: str | None,
    role: str,
    broker: str | None,
    tokens_path: Path | None,
    access_log: Path | None,
    refresh: int,
    patience: int,
    metrics: tuple[str, int] | None,
    listening: Listening,
) -> None:
    """Serve the releases that the chain allows, until SIGTERM or Ctrl-C.

    \b
    Example:  blockota repository serve .blockota/store --listen 0.0.0.0:8080
              blockota repository serve kubo:http://127.0.0.1:5001 --as broker \\
                  --broker 0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65
    """
    tokens = Tokens(tokens_path) if tokens_path else None
    log = open_log(access_log)
    if (role == "broker") != (broker is not None):
        why = "agreements are looked up by the broker's address"
        remedy = "pass both, or neither to serve the vendor's releases; `blockota key address URI` prints the address"
        raise UsageError("--as broker and --broker ADDRESS must be passed together", why=why, remedy=remedy)
    settings, contract = session.settings, session.contract
    follower = Follower(contract.chain, confirmations=settings.confirmations, first_block=settings.first_block)
    rights = RightsReader(contract, follower)
    if broker:
        rights = RightsReader(contract, follower, replication=session.replication, broker=broker)
    catalogue = Catalogue(
        rights.read, _store(session, source, is_broker=bool(broker)), refresh=refresh, timeout=patience
    )
    catalogue.repair = _REPAIR if broker else ""

    # Called when the socket accepts connections, so that a supervisor can wait for the printed line.
    def show(url: str) -> None:
        health = catalogue.health()
        releases, files, missing = health["releases"], len(catalogue.files.trees), len(catalogue.files.missing)
        count = f"{files} of {files + missing} files" if missing else f"{files} file{'s' * (files != 1)}"
        sentence = f"serving {releases} release{'s' * (releases != 1)} ({count}) at {url}"
        session.result(
            {"url": url, **health} | ({"metrics": state_url} if state_url else {}), lambda: session.done(sentence)
        )

    counts = ServedCounts()
    status = RepositoryStatus(catalogue, tokens, counts)
    _note_what_is_missing(session, catalogue, tokens=tokens, broker=broker)
    with shown_state(session, metrics, "repository", lambda: status) as state_url:
        serve_site(ReleaseSite(catalogue, tokens), listening, log=log, on_ready=show, count=counts.count)


@repository.command()
@click.argument("name")
@with_session
def token(session: Session, /, name: str) -> None:
    """Generate a bearer token for the gateway NAME.

    To accept the token, add the printed line to the --tokens file.

    \b
    Example:  blockota repository token plant-7
    """
    secret, line = new_token(name)

    def show() -> None:
        session.fields({"token": secret})
        session.out.print(Text.assemble(("line   ", "bold"), line))  # kept on one line: it is copied into a file

    session.result({"token": secret, "line": line}, show)


def _note_what_is_missing(session: Session, catalogue: Catalogue, *, tokens: Tokens | None, broker: str | None) -> None:
    """Print why releases are not served yet. A missing release is not an error, because it may appear later."""
    files = catalogue.files
    if tokens and not tokens.count:
        session.note(
            "No client is accepted yet: the file of tokens is empty. Add one with `blockota repository token NAME`."
        )

    if not files.rights.releases:
        whose = f"{broker} has no accepted agreement that is still valid" if broker else "no release was published"
        depth = session.settings.confirmations
        session.note(f"Nothing may be served yet: {whose}" + (f", {depth} blocks deep." if depth else "."))

    for cid, error in itertools.islice(files.missing.items(), _SHOWN):
        session.note(f"{catalogue.label(cid)} is not served yet: {catalogue.explain(error)}")


def _store(session: Session, source: str | None, *, is_broker: bool) -> BlockStore:
    url = source if source and source.startswith(_STORES) else f"file:{source}"
    store = session.store if source is None else open_store(url)
    if not isinstance(store, BlockStore):
        raise UsageError(
            f"{source or 'the configured store'} cannot be served",
            why="the URL belongs to another repository or to a gateway",
            remedy="name a folder, or a Kubo node as kubo:http://HOST:PORT",
        )
    # Without this check, a missing folder would look like a store in which every image is missing.
    is_there = isinstance(store, LocalStore) and os.path.lexists(store.folder)
    if isinstance(store, LocalStore) and not (is_there and store.folder.is_dir()):
        create = "run `blockota broker sync`, which creates it" if is_broker else "create it with `mkdir`"
        raise UsageError(
            f"the store {store.folder} cannot be served",
            why="it is not a folder" if is_there else "the folder does not exist",
            remedy=f"name the folder with the images, or {create} for later images",
        )
    check_reach(store)
    return store
