"""``blockota repository``: serve images to gateways, technicians and brokers."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from blockota.cli.parameters import ADDRESS, SPAN
from blockota.cli.session import Session, with_session
from blockota.errors import UsageError

if TYPE_CHECKING:
    from blockota.bindings.serving_rights import Reader
    from blockota.repository.catalogue import BlockStore
    from blockota.repository.service import Listening
    from blockota.repository.shelf import Shelf
    from blockota.repository.tokens import Tokens

_HOUR = 3600
_STORES = ("file:", "kubo:", "http:", "https:")
_FILE = click.Path(path_type=Path)
_SHOWN = 3
_SERVER = ("starlette", "uvicorn", "httptools")
_SECONDS = click.IntRange(1, 86400)


@click.group()
def repository() -> None:
    """Repositories: serve releases over HTTP, by the trustless gateway protocol, and nothing else."""


@repository.command()
@click.argument("source", required=False, metavar="[DIR|URL]")
@click.option("--as", "role", type=click.Choice(["vendor", "broker"]), default="vendor", show_default=True)
@click.option("--broker", type=ADDRESS, metavar="ADDRESS", help="Whose agreements; goes with --as broker.")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT")
@click.option("--certificate", type=_FILE, metavar="FILE", help="Certificate chain (PEM); speaks TLS.")
@click.option("--private-key", type=_FILE, metavar="FILE", help="Its private key (PEM).")
@click.option("--proxy-headers", default="", metavar="LIST", help="Proxies whose X-Forwarded-For is believed.")
@click.option("--tokens", type=_FILE, metavar="FILE", help="Serve only who has one of these bearer tokens.")
@click.option("--access-log", type=_FILE, metavar="FILE", help="One JSON line a request; stderr by default.")
@click.option("--refresh", type=_SECONDS, default=30, show_default=True, help="Seconds between looks at the chain.")
@click.option("--patience", type=SPAN, default=_HOUR, show_default="1h", help="How long its last answer counts.")
@click.option("--clients", type=click.IntRange(1), default=256, show_default=True, help="Answers at once.")
@click.option("--stop-within", type=_SECONDS, default=30, show_default=True, help="Seconds to finish transfers.")
@with_session
def serve(session: Session, /, source: str | None, **options: Any) -> None:
    """Serve the releases that the chain allows, from a folder or Kubo node, until SIGTERM or Ctrl-C.

    \b
    Example:  blockota repository serve .blockota/store --listen 0.0.0.0:8080
              blockota repository serve kubo:http://127.0.0.1:5001 --as broker --broker 0x15d3…
    """
    _require_server()
    from blockota.repository.guard import open_log
    from blockota.repository.service import check_certificate, serve
    from blockota.repository.shelf import Pace, Shelf
    from blockota.repository.tokens import Tokens

    listening = _listening(options)
    check_certificate(listening)
    tokens = Tokens(options["tokens"]) if options["tokens"] else None
    log = open_log(options["access_log"])
    pace = Pace(options["refresh"], options["patience"])
    shelf = Shelf(_reader(session, options["role"], broker=options["broker"]), _store(session, source), pace=pace)

    def show(url: str) -> None:
        _show_start(session, url, health=shelf.health())

    _note_emptiness(session, shelf, tokens=tokens, broker=options["broker"])
    serve(shelf, listening, tokens=tokens, log=log, on_ready=show)


@repository.command()
@click.argument("name")
@with_session
def token(session: Session, /, name: str) -> None:
    """Make a bearer token for the gateway NAME, and the line of the --tokens file that accepts it.

    \b
    Example:  blockota repository token plant-7
    """
    from blockota.repository.tokens import new_token

    secret, line = new_token(name)
    session.result({"token": secret, "line": line}, lambda: session.fields({"token": secret, "line": line}))


def _show_start(session: Session, url: str, *, health: dict[str, object]) -> None:
    sentence = f"serving {health['releases']} releases ({health['files']} files) at {url}"
    session.result({"url": url, **health}, lambda: session.done(sentence))


def _note_emptiness(session: Session, shelf: Shelf, *, tokens: Tokens | None, broker: str | None) -> None:
    """Say what keeps clients from getting anything, though it is no error: it may come later."""
    catalogue = shelf.catalogue
    if tokens and not tokens.count:
        session.note(
            "Nobody is let in yet: the file of tokens has none. Make one with `blockota repository token NAME`."
        )
    if not catalogue.rights.releases:
        whose = f"{broker} has no agreement that is accepted and not over" if broker else "there is no release"
        depth = session.settings.confirmations
        session.note(f"Nothing may be served yet: {whose}" + (f", {depth} blocks deep." if depth else "."))
    for cid, why in itertools.islice(catalogue.missing.items(), _SHOWN):
        session.note(f"Not served yet: {cid}. {why}")


def _require_server() -> None:
    missing = [name for name in _SERVER if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
        raise UsageError(
            "a repository cannot be served",
            why=f"{names} {'are' if missing[1:] else 'is'} not installed",
            remedy=f"type `{sys.executable} -m pip install {_what_to_install()}`",
        )


def _what_to_install() -> str:
    """The clone with its extra; beside a wheel the packages of that extra, for an index need not have BlockOTA."""
    clone = Path(__file__).parents[2]
    if (clone / "pyproject.toml").is_file():
        return f"-e '{clone}[repository]'"
    wanted = [text.partition(";") for text in importlib.metadata.requires("blockota") or ()]
    return " ".join(name.strip() for name, _, marker in wanted if "repository" in marker)


def _listening(options: dict[str, Any]) -> Listening:
    from blockota.repository.service import Listening

    try:
        place = urlsplit(f"//{options['listen']}")
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise UsageError(f"--listen {options['listen']!r} is no address", why="say HOST:PORT, such as 0.0.0.0:8080")
    proxies = tuple(word.strip() for word in options["proxy_headers"].split(",") if word.strip())
    for proxy in proxies:
        _check_proxy(proxy)
    return Listening(
        host,
        port,
        certificate=options["certificate"],
        private_key=options["private_key"],
        proxies=proxies,
        clients=options["clients"],
        stop_seconds=options["stop_within"],
    )


def _check_proxy(word: str) -> None:
    try:
        ip_network(word)
    except ValueError as error:
        raise UsageError(
            f"--proxy-headers {word!r} names no proxy",
            why="it is neither an IP address nor a network of them",
            remedy="say for example 127.0.0.1,10.0.0.0/8",
        ) from error


def _reader(session: Session, role: str, *, broker: str | None) -> Reader:
    from blockota.bindings.serving_rights import BrokerReader, VendorReader
    from blockota.chain.follow import Follower

    if (role == "broker") != (broker is not None):
        raise UsageError("--as broker and --broker ADDRESS go together", why="agreements are looked up by address")
    settings, contract = session.settings, session.contract
    follower = Follower(contract.chain, confirmations=settings.confirmations, first_block=settings.first_block)
    if broker is None:
        return VendorReader(contract, follower)
    return BrokerReader(contract, session.replication, broker=broker, follower=follower)


def _store(session: Session, source: str | None) -> BlockStore:
    from blockota.repository.catalogue import BlockStore
    from blockota.stores.store import open_store

    url = source if source and source.startswith(_STORES) else f"file:{source}"
    store = session.store if source is None else open_store(url)
    if not isinstance(store, BlockStore):
        raise UsageError(
            f"{source or 'the configured store'} cannot be served",
            why="it is another repository or a gateway",
            remedy="name a folder, or a Kubo node as kubo:http://HOST:PORT",
        )
    _check_store(store)
    return store


def _check_store(store: BlockStore) -> None:
    """See that it can be asked at all, before everything in it is taken for missing.

    Raises:
        UsageError: the folder does not exist.
        StoreError: it cannot be read, or the node is out of reach.
    """
    from blockota.formats.cid import CID, RAW
    from blockota.stores.local import LocalStore

    store.has(CID.of(RAW, b""))
    if isinstance(store, LocalStore) and not store.folder.is_dir():
        raise UsageError(
            f"the store {store.folder} cannot be served",
            why="it is no folder" if store.folder.exists() else "there is no such folder",
            remedy="name the folder in which the images are stored, or make it with `mkdir` where they will come later",
        )
