"""``blockota operations``: the web page with a city's devices, updates, warnings and logs."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from blockota.cli.identity import UUID_TYPE
from blockota.cli.keys import open_key, password_option
from blockota.cli.room_commands import command_line
from blockota.cli.services import addresses_from_settings
from blockota.cli.session import Session, VerbGroup, with_session

if TYPE_CHECKING:
    from blockota.operations.opening import RoomSetup

_FILE = click.Path(path_type=Path)


@click.group(cls=VerbGroup)
def operations() -> None:
    """Run the operations room: a web page in which each figure links to its evidence.

    The tables [operations] and [log] of the settings configure the room.
    """


@operations.command()
@click.option("--identity", type=UUID_TYPE, metavar="UUID", help="UUID of an enrolled cloud; random by default.")
@click.option(
    "--domain", default="operations.local", show_default=True, metavar="NAME", help="First part of the log's name."
)
@click.option("--key", metavar="URI", help="Account that anchors the log, such as keystore:FILE.")
@click.option("--log-key", type=_FILE, metavar="FILE", help="The log's private key; a new one by default.")
@click.option("--listen", default="127.0.0.1:8480", show_default=True, metavar="HOST:PORT", help="Address of the page.")
@click.option("--url", metavar="URL", help="URL at which persons open the page; by default http://HOST:PORT.")
@with_session
def init(
    session: Session,
    /,
    identity: UUID | None,
    domain: str,
    key: str | None,
    log_key: Path | None,
    listen: str,
    url: str | None,
) -> None:
    """Set up an operations room: make its keys, and write its settings.

    The tables of the room are added to blockota.toml. Nothing is overwritten. The command also writes two public keys,
    with which the city enrols the room as a cloud. An identity of the kind cloud can neither order updates nor ban
    identities.

    \b
    Example:  blockota operations init --domain operations.example \\
                  --key keystore:operations.json
    """
    from blockota.cli.listening import host_and_port
    from blockota.identity.founding import NewService
    from blockota.operations.founding import KIND, found_room

    host_and_port(listen)
    new = NewService(KIND, identity or uuid.uuid4(), domain, key, log_key=log_key)
    found = found_room(session.config, new, listen=listen, url=url)
    fields = {
        "identity": str(new.identity),
        "origin": new.origin,
        "publicKey": str(found.public_key),
        "logKey": str(found.log_public_key),
    }
    enrol = (
        f"blockota identity enrol --kind cloud --uuid {new.identity} --public-key {found.public_key} "
        f"--log-key {found.log_public_key} --account ADDRESS -o enrol.json"
    )
    then = "Next: `blockota operations run`" if identity else f"Next: the city enrols it with `{enrol}`"

    def show() -> None:
        session.done(f"the operations room {new.identity} is set up in {found.settings}")
        session.fields({"log": new.origin, "public key": fields["publicKey"], "log key": fields["logKey"]})

    session.result(fields, show, then=then)


@operations.command()
@click.option(
    "--public",
    "is_public",
    is_flag=True,
    help="Leave out serial numbers, addresses, texts of log entries, and reasons that persons gave.",
)
@click.option("--events", type=_FILE, metavar="FILE", help="Log file, one JSON line per failure; else stderr.")
@password_option
@with_session
def run(session: Session, /, *, is_public: bool, events: Path | None, password_fd: int | None) -> None:
    """Serve the page, until SIGTERM or Ctrl-C.

    The room follows both chains and the logs of [operations.logs], and verifies each new log entry when it arrives.
    Everyone who can reach the address can read the pages. To keep pages private, let the room listen only on this
    machine or behind a proxy that authenticates users. With --public, the pages omit serial numbers, addresses and free
    texts. Sign-in works only if [operations] names the room's identity.

    \b
    Example:  blockota operations run
    """
    from blockota.line_log import LineLog
    from blockota.operations.opening import run_room
    from blockota.repository.access_log import open_log
    from blockota.shutdown import stop_on_signals

    setup = _setup(session, password_fd, is_public=is_public)

    def show(url: str) -> None:
        fields = {"url": url, "identity": str(setup.settings.identity) if setup.settings.identity else None}
        session.result(fields, lambda: session.done(f"the operations room is at {url}"))

    with addresses_from_settings(), stop_on_signals() as stop:
        run_room(setup, LineLog(open_log(events)), stop, on_ready=show)


@operations.command("sign-in")
@click.option("--key", required=True, metavar="URI", help="Account of an Operator or Administrator.")
@click.option("--url", metavar="URL", help="URL of the room; by default that of the settings.")
@password_option
@with_session
def sign_in(session: Session, /, key: str, url: str | None, password_fd: int | None) -> None:
    """Sign in to a room, and print a one-time address for the browser.

    The command signs a sign-in text (EIP-4361), which names the room, the account and the chain. The key stays here.

    \b
    Example:  blockota operations sign-in --key keystore:operator.json \\
                  --url https://operations.example
    """
    from blockota.operations.settings import load_operations
    from blockota.operations.sign_in_client import sign_in as ask

    place = url or load_operations(session.config, environment=os.environ).url
    chain_id = session.gateway.settings.chain_id
    account = open_key(chain_id, key, password_fd)
    address = ask(place, account, chain_id=chain_id)

    def show() -> None:
        session.done(f"{account.address} signed; open this address within two minutes")
        click.echo(address)

    session.result({"account": account.address, "address": address}, show)


def _setup(session: Session, password_fd: int | None, *, is_public: bool) -> RoomSetup:
    """Open the chains, the log and the account of a room, according to its settings."""
    from blockota.connection import Connection
    from blockota.ledger.keys import open_log_key
    from blockota.ledger.log_settings import check_keeper, load_log
    from blockota.operations.opening import RoomSetup
    from blockota.operations.settings import load_operations
    from blockota.settings import GATEWAY_REGISTRIES, REGISTRIES, Role, load_settings

    settings = load_operations(session.config, environment=os.environ)
    city = session.gateway
    for registry in (one for one in REGISTRIES if one in GATEWAY_REGISTRIES):
        city.registry_address(registry)  # without the contracts, the room would have nothing to show
    names = settings.networks or (session.settings.network,)
    # Each chain has a connection of its own, because it is read in a thread of its own.
    vendors = [
        Connection(load_settings(session.config, network=name, environment=os.environ, role=Role.PRODUCER))
        for name in names
    ]
    setup = RoomSetup(settings, city, vendors, command_line, is_public=is_public)
    if settings.identity is None:
        session.note("Signing in is disabled: [operations] has no identity.")
        return setup
    log = load_log(session.config, environment=os.environ)
    signer = open_log_key(*log.signing(), environment=os.environ)
    check_keeper(signer.key.name, settings.identity, table="operations")
    account = open_key(city.settings.chain_id, settings.key, password_fd) if settings.key else None
    if account is None:
        session.note("The log of the room is not anchored: [operations] names no key.")
    return replace(setup, log=log, signer=signer, account=account)
