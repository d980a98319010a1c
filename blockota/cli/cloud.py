"""``blockota cloud``: the service that keeps the readings of a city in a database."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from blockota.cli.identity import UUID_TYPE
from blockota.cli.keys import open_key, password_option
from blockota.cli.log_verify import counted_entries
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import Action, UsageError
from blockota.model.release import show_time

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

    from blockota.operations.cloud_service import CloudSetup

_FILE = click.Path(path_type=Path)
_DAY = 86_400


@click.group(cls=VerbGroup)
def cloud() -> None:
    """Keep the readings of a city in a database, with the signed requests that prove them.

    The tables [cloud] and [log] of the settings describe it.
    """


@cloud.command()
@click.option("--identity", type=UUID_TYPE, metavar="UUID", help="UUID of an enrolled cloud; random by default.")
@click.option("--domain", default="cloud.local", show_default=True, metavar="NAME", help="Begin of its log's name.")
@click.option("--key", metavar="URI", help="Account that anchors its log, such as keystore:FILE.")
@click.option("--identity-key", type=_FILE, metavar="FILE", help="Its private P-256 key; a new one by default.")
@click.option("--log-key", type=_FILE, metavar="FILE", help="Its log's private key; a new one by default.")
@click.option(
    "--database",
    default="sqlite:///cloud/cloud.db",
    show_default=True,
    metavar="URL",
    help="Or file:PATH, a file with the URL.",
)
@click.option(
    "--requests", default="127.0.0.1:8470", show_default=True, metavar="HOST:PORT", help="Where it receives requests."
)
@click.option(
    "--listen", default="127.0.0.1:8093", show_default=True, metavar="HOST:PORT", help="Where it shows its state."
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
    from blockota.identity.founding import NewService
    from blockota.operations.cloud_founding import found_cloud
    from blockota.operations.cloud_settings import check_place

    host_and_port(requests)
    host_and_port(listen)
    check_place(database)
    new = NewService("cloud", identity or uuid.uuid4(), domain, key, identity_key, log_key)
    values = {"requests": requests, "listen": listen, "database": database}
    found, authority = found_cloud(session.config, new, values, hosts=hosts, now=datetime.now(UTC))
    fields = {
        "identity": str(new.identity),
        "origin": new.origin,
        "folder": str(found.folder),
        "publicKey": str(found.public_key),
        "logKey": str(found.log_public_key),
        "authority": str(authority) if authority else None,
    }
    enrol = (
        f"blockota identity enrol --kind cloud --uuid {new.identity} --public-key {found.public_key} "
        f"--log-key {found.log_public_key} --account ADDRESS --virtual-ip IP -o enrol.json"
    )
    then = "Next: `blockota cloud run`" if identity else f"Next: the city enrols it with `{enrol}`"

    def show() -> None:
        session.done(f"the cloud {new.identity} is set up in {found.settings}")
        rows = {"log": new.origin, "public key": fields["publicKey"], "log key": fields["logKey"]}
        session.fields(rows | ({"authority": f"{authority}, for the validators"} if authority else {}))

    session.result(fields, show, then=then)


@cloud.command()
@click.option("--events", type=_FILE, metavar="FILE", help="Log file, one JSON line per event; else stderr.")
@password_option
@with_session
def run(session: Session, /, events: Path | None, password_fd: int | None) -> None:
    """Receive the requests of validators, until SIGTERM or Ctrl-C.

    The tables of the database are created or updated first. A request is answered when its rows are committed: with a
    synchronous standby, on both servers.

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
    try:
        with stop_on_signals() as stop, opened_cloud(setup, lines, stop) as service:
            service.run(on_ready=show)
    except UsageError as error:
        if error.action is Action.LISTEN_ELSEWHERE:  # the addresses of a cloud are settings, not options
            raise error.revised(remedy=f"{error.remedy} in the settings file", action=None) from error
        raise


@cloud.command()
@with_session
def status(session: Session, /) -> None:
    """Show whether the cloud runs, what its database has, and its log.

    \b
    Example:  blockota cloud status
    """
    from blockota.ledger.log import TileLog
    from blockota.ledger.log_settings import load_log
    from blockota.operations import queries
    from blockota.operations.cloud_service import is_running
    from blockota.operations.cloud_settings import load_cloud, open_database

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
        "running": is_running(settings),
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
    """Return what the settings of a cloud name: its database, its registry, its log and its account."""
    from blockota.bindings.identities import IdentitiesContract
    from blockota.bindings.update_ledger import UpdateLedgerContract
    from blockota.formats.request_token import load_library
    from blockota.ledger.keys import open_log_key
    from blockota.ledger.log import TileLog
    from blockota.ledger.log_anchor import LogAnchor
    from blockota.ledger.log_settings import load_log
    from blockota.ledger.recording import LogParts
    from blockota.ledger.verify import keeper_in
    from blockota.operations.cloud_service import CloudSetup
    from blockota.operations.cloud_settings import load_cloud, open_database

    load_library()
    settings = load_cloud(session.config, environment=os.environ)
    log = load_log(session.config, environment=os.environ)
    signer = open_log_key(*log.signing(), environment=os.environ)
    site, tiles = session.gateway, TileLog(log.folder)
    # A missing setting ends the command before the service starts.
    for contract in (IdentitiesContract, *((UpdateLedgerContract,) if settings.key else ())):
        site.registry_address(contract.SETTING)
    if keeper_in(signer.key.name) != settings.identity:
        raise UsageError(
            f"the log {signer.key.name} does not belong to this cloud",
            why=f"the origin of an enrolled log ends with the UUID of its keeper, {settings.identity.hex}",
            remedy="correct origin in [log], or identity in [cloud]",
        )
    account = open_key(site.settings.chain_id, settings.key, password_fd) if settings.key else None
    if account is None:
        session.note("key in [cloud] is missing: the log is not anchored.")

    def open_anchor(account: BaseAccount) -> LogAnchor:
        ledger, identities = site.open(UpdateLedgerContract), site.open(IdentitiesContract)
        return LogAnchor(tiles.published, account, ledger, identities, folder=settings.folder)

    return CloudSetup(
        settings=settings,
        database=open_database(settings.database, folder=settings.database_folder, environment=os.environ),
        open_registry=lambda: site.open(IdentitiesContract),
        log=LogParts(
            tiles, signer, log.witnesses, partial(open_anchor, account) if account else None, settings.anchor_seconds
        ),
    )
