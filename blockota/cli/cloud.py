"""``blockota cloud``: the service that stores the readings of a city in a database."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from blockota.cli.identity import UUID_TYPE
from blockota.cli.keys import password_option
from blockota.cli.log_verify import counted_entries
from blockota.cli.services import addresses_from_settings, open_log_parts, show_foundation
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.model.release import show_time

if TYPE_CHECKING:
    from blockota.operations.cloud_service import CloudSetup

_FILE = click.Path(path_type=Path)
_DAY = 86_400


@click.group(cls=VerbGroup)
def cloud() -> None:
    """Store the readings of a city in a database, with the signed requests that prove them.

    The tables [cloud] and [log] of the settings configure the service.
    """


@cloud.command()
@click.option("--identity", type=UUID_TYPE, metavar="UUID", help="UUID of an enrolled cloud; random by default.")
@click.option(
    "--domain", default="cloud.local", show_default=True, metavar="NAME", help="First part of the log's name."
)
@click.option("--key", metavar="URI", help="Account that anchors the log, such as keystore:FILE.")
@click.option(
    "--identity-key", type=_FILE, metavar="FILE", help="P-256 key whose public part is enrolled; else a new one."
)
@click.option("--log-key", type=_FILE, metavar="FILE", help="The log's private key; a new one by default.")
@click.option(
    "--database",
    default="sqlite:///cloud/cloud.db",
    show_default=True,
    metavar="URL",
    help="URL, or file:PATH of a file with the URL.",
)
@click.option(
    "--requests",
    default="127.0.0.1:8470",
    show_default=True,
    metavar="HOST:PORT",
    help="Address at which requests are received.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8093",
    show_default=True,
    metavar="HOST:PORT",
    help="Address of /health, /metrics and the log.",
)
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Make a certificate for this name or address.")
@with_session
def init(
    session: Session,
    /,
    identity: UUID | None,
    domain: str,
    key: str | None,
    identity_key: Path | None,
    log_key: Path | None,
    database: str,
    requests: str,
    listen: str,
    hosts: tuple[str, ...],
) -> None:
    """Set up a cloud: make its keys, and write its settings.

    The tables of the cloud are added to blockota.toml. Nothing is overwritten. The command also writes two public keys,
    with which the city enrols the cloud. `cloud run` creates the tables of the database.

    \b
    Example:  blockota cloud init --domain berlin.example \\
                  --requests 10.64.0.200:8470 --host 10.64.0.200
    """
    from blockota.cli.listening import host_and_port
    from blockota.identity.founding import NewService, found_receiver
    from blockota.operations.cloud_settings import check_place

    host_and_port(requests)
    host_and_port(listen)
    check_place(database)
    new = NewService("cloud", identity or uuid.uuid4(), domain, key, identity_key, log_key)
    values = {"requests": requests, "listen": listen, "database": database}
    found, authority = found_receiver(session.config, new, values, hosts=hosts, now=datetime.now(UTC))
    show_foundation(session, new, found, authority=(authority, "validators"), is_enrolled=identity is not None)


@cloud.command()
@click.option("--events", type=_FILE, metavar="FILE", help="Log file, one JSON line per event; else stderr.")
@password_option
@with_session
def run(session: Session, /, events: Path | None, password_fd: int | None) -> None:
    """Receive the requests of validators, until SIGTERM or Ctrl-C.

    The tables of the database are created or updated first. A request is answered after its rows are committed. With a
    synchronous standby, the commit also waits for the standby.

    \b
    Example:  blockota cloud run
    """
    from blockota.line_log import LineLog
    from blockota.operations.cloud_service import opened_cloud
    from blockota.repository.access_log import open_log
    from blockota.shutdown import stop_on_signals

    setup = _setup(session, password_fd)
    identity, place = setup.settings.identity, setup.database.place

    def show(url: str) -> None:
        fields = {"identity": str(identity), "url": url, "database": place}
        session.result(
            fields, lambda: session.done(f"the cloud {identity} receives requests at {url} and keeps them in {place}")
        )

    lines = LineLog(open_log(events))
    with addresses_from_settings(), stop_on_signals() as stop, opened_cloud(setup, lines, stop) as service:
        service.run(on_ready=show)


@cloud.command()
@with_session
def status(session: Session, /) -> None:
    """Show the state of the cloud, its database and its log.

    \b
    Example:  blockota cloud status
    """
    from blockota.ledger.log import TileLog
    from blockota.ledger.log_settings import load_log
    from blockota.operations import queries
    from blockota.operations.cloud_service import STATE_NAME
    from blockota.operations.cloud_settings import load_cloud, open_database
    from blockota.sqlite_file import is_owned

    settings = load_cloud(session.config, environment=os.environ)
    log = TileLog(load_log(session.config, environment=os.environ).folder)
    until = int(time.time()) + 60
    with open_database(settings.database, folder=settings.database_folder, environment=os.environ) as database:
        database.check()
        with database.reading() as connection:
            written = queries.last_batches(connection).get(settings.identity)
            day = queries.minutes(connection, until - _DAY, until)

    fields: dict[str, Any] = {
        "identity": str(settings.identity),
        "running": is_owned(settings.folder / STATE_NAME),
        "database": database.place,
        "written": written,
        "requests": sum(one.requests for one in day),
        "readings": sum(one.readings for one in day),
        "entries": len(log),
        "published": log.published.head().size,
    }

    def show() -> None:
        last = f"last written {show_time(written)}" if written else "nothing written yet"
        rows = {
            "cloud": f"{settings.identity}, {'running' if fields['running'] else 'not running'}",
            "database": f"{database.place}, {last}",
            "last day": f"{fields['requests']:,} requests with {fields['readings']:,} readings",
            "log": f"{counted_entries(len(log))}, {fields['published']:,} published",
        }
        session.fields(rows)

    session.result(fields, show)


def _setup(session: Session, password_fd: int | None) -> CloudSetup:
    """Open the database, the registry, the log and the account of a cloud, according to its settings."""
    from blockota.bindings.identities import IdentitiesContract
    from blockota.formats.request_token import load_library
    from blockota.operations.cloud_service import CloudSetup
    from blockota.operations.cloud_settings import load_cloud, open_database

    load_library()
    settings, site = load_cloud(session.config, environment=os.environ), session.gateway
    log = open_log_parts(session, settings, password_fd, table="cloud")
    return CloudSetup(
        settings=settings,
        database=open_database(settings.database, folder=settings.database_folder, environment=os.environ),
        open_registry=lambda: site.open(IdentitiesContract),
        log=log,
    )
