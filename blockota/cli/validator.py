"""``blockota validator``: the service that checks signed requests at the edge of a city."""

from __future__ import annotations

import importlib.util
import os
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
from blockota.errors import Action, RefusedError, missing_package

if TYPE_CHECKING:
    from blockota.identity.validator_service import ValidatorSetup

_FILE = click.Path(path_type=Path)
_PACKAGES = ("joserfc", "starlette", "paho")
"""The packages of the extra access."""


@click.group(cls=VerbGroup)
def validator() -> None:
    """Check the signed requests of gateways, store their readings, and send commands to devices by rules.

    The tables [validator] and [log] of the settings configure the validator; its rules are in validator.toml.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise missing_package("the validator cannot run", package, "access")


@validator.command()
@click.option("--identity", type=UUID_TYPE, metavar="UUID", help="UUID of an enrolled validator; random by default.")
@click.option(
    "--domain", default="validator.local", show_default=True, metavar="NAME", help="First part of the log's name."
)
@click.option("--key", metavar="URI", help="Account that anchors the log, such as keystore:FILE.")
@click.option(
    "--identity-key", type=_FILE, metavar="FILE", help="The identity's private P-256 key; a new one by default."
)
@click.option("--log-key", type=_FILE, metavar="FILE", help="The log's private key; a new one by default.")
@click.option(
    "--requests",
    default="127.0.0.1:8470",
    show_default=True,
    metavar="HOST:PORT",
    help="Address at which requests are received.",
)
@click.option(
    "--listen",
    default="127.0.0.1:8092",
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
    requests: str,
    listen: str,
    hosts: tuple[str, ...],
) -> None:
    """Set up a validator: make its keys, and write its settings.

    The tables of the validator are added to blockota.toml. Nothing is overwritten. The command also writes two public
    keys, with which the city enrols the validator.

    \b
    Example:  blockota validator init --domain berlin.example \\
                  --requests 10.64.0.1:8470 --host 10.64.0.1
    """
    from blockota.cli.listening import host_and_port
    from blockota.identity.founding import NewService, found_receiver

    host_and_port(requests)
    host_and_port(listen)
    new = NewService("validator", identity or uuid.uuid4(), domain, key, identity_key, log_key)
    values = {"requests": requests, "listen": listen}
    found, authority = found_receiver(session.config, new, values, hosts=hosts, now=datetime.now(UTC))
    show_foundation(session, new, found, authority=(authority, "gateways"), is_enrolled=identity is not None)


@validator.command()
@click.option("--events", type=_FILE, metavar="FILE", help="Log file, one JSON line per event; else stderr.")
@password_option
@with_session
def run(session: Session, /, events: Path | None, password_fd: int | None) -> None:
    """Receive requests, until SIGTERM or Ctrl-C.

    Each request is checked against the record of its sender in the registry. A request is answered after its readings
    are on the disk, where they stay until the cloud has acknowledged them.

    \b
    Example:  blockota validator run
    """
    from blockota.identity.validator_service import opened_service
    from blockota.line_log import LineLog
    from blockota.repository.access_log import open_log
    from blockota.shutdown import stop_on_signals

    setup = _setup(session, password_fd)
    settings = setup.settings
    if settings.accepts_replayable:
        session.note("accept_legacy is on: anyone who records a request of the old form can send it again.")
    if settings.cloud is None:
        session.note("[validator.cloud] is missing: readings are kept in memory, and lost at the end of the program.")

    def show(url: str) -> None:
        fields = {"identity": str(settings.identity), "url": url, "rules": len(settings.rules)}
        sentence = f"the validator {settings.identity} receives requests at {url} and has {len(settings.rules)} rules"
        session.result(fields, lambda: session.done(sentence))

    lines = LineLog(open_log(events))
    with addresses_from_settings(), stop_on_signals() as stop, opened_service(setup, lines, stop) as service:
        service.run(on_ready=show)


@validator.command()
@with_session
def status(session: Session, /) -> None:
    """Show the state of the validator, its queues and its log.

    \b
    Example:  blockota validator status
    """
    from blockota.identity.request_outbox import RequestOutbox
    from blockota.identity.validator_service import CLOUD_NAME, COMMANDS_NAME, STATE_NAME
    from blockota.identity.validator_settings import load_validator
    from blockota.ledger.log import TileLog
    from blockota.ledger.log_settings import load_log
    from blockota.sqlite_file import is_owned

    settings = load_validator(session.config, environment=os.environ)
    if not (settings.folder / CLOUD_NAME).exists():
        raise RefusedError(
            "the validator has no state yet",
            why=f"{settings.folder / CLOUD_NAME} does not exist: the validator never ran here",
            remedy="run it first",
            action=Action.RUN_VALIDATOR,
        )

    # The outboxes are read beside a running validator, which stays their owner.
    log = TileLog(load_log(session.config, environment=os.environ).folder)
    with (
        RequestOutbox(settings.folder / CLOUD_NAME, is_owner=False) as to_cloud,
        RequestOutbox(settings.folder / COMMANDS_NAME, is_owner=False) as commands,
    ):
        refused = [*to_cloud.refused(), *commands.refused()]
        fields: dict[str, Any] = {
            "identity": str(settings.identity),
            "running": is_owned(settings.folder / STATE_NAME),
            "rules": len(settings.rules),
            "toCloud": to_cloud.waiting(),
            "commands": commands.waiting(),
            "refused": [{"receiver": receiver, "why": why, "time": time} for receiver, why, time in refused],
            "entries": len(log),
            "published": log.published.head().size,
        }

    def show() -> None:
        rows = {
            "validator": f"{settings.identity}, {'running' if fields['running'] else 'not running'}",
            "to the cloud": f"{fields['toCloud']:,} requests wait",
            "commands": f"{fields['commands']:,} wait, {len(settings.rules):,} rules",
            "log": f"{counted_entries(len(log))}, {fields['published']:,} published",
        }
        newest = refused[0][1] if refused else ""
        session.fields(rows | ({"refused": f"{len(refused):,}, the newest: {newest}"} if refused else {}))

    session.result(fields, show)


def _setup(session: Session, password_fd: int | None) -> ValidatorSetup:
    """Open the registry, the log and the account of a validator, according to its settings."""
    from blockota.bindings.identities import IdentitiesContract
    from blockota.identity.sending import open_signer
    from blockota.identity.validator_service import ValidatorSetup
    from blockota.identity.validator_settings import load_validator

    settings, site = load_validator(session.config, environment=os.environ), session.gateway
    return ValidatorSetup(
        settings=settings,
        signer=open_signer(settings.identity, settings.identity_key, environment=os.environ),
        open_registry=lambda: site.open(IdentitiesContract),
        log=open_log_parts(session, settings, password_fd, table="validator"),
    )
