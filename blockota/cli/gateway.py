"""``blockota gateway``: run the gateway of a site, and look after its devices."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from blockota.cli.gateway_devices import delivery_fields, image, label, last_reading, show_device, target, why
from blockota.cli.identity import UUID_TYPE
from blockota.cli.keys import password_option
from blockota.cli.log_verify import counted_entries
from blockota.cli.parameters import NumberRange
from blockota.cli.services import addresses_from_settings, open_log_parts
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import Action, RefusedError, UsageError, plain
from blockota.model.delivery import Delivery, Stage
from blockota.settings_table import decimal_number

if TYPE_CHECKING:
    from blockota.gateway.opening import GatewaySetup
    from blockota.gateway.settings import GatewaySettings
    from blockota.gateway.state import GatewayState
    from blockota.messaging.mosquitto import BrokerFiles

_FILE = click.Path(path_type=Path)
_NUMBER = NumberRange(256, (1 << 64) - 1)
_DEVICE = click.argument("number", metavar="DEVICE", type=_NUMBER)
_FACES = ("ddi", "mqtt", "lwm2m")


@click.group(cls=VerbGroup)
def gateway() -> None:
    """Run the gateway of a site, which updates devices to confirmed releases and logs evidence of the installations.

    The tables [gateway] and [log] of the settings configure the gateway. A device is named by its number in the
    registry.
    """


@gateway.command()
@click.option("--identity", type=UUID_TYPE, metavar="UUID", help="UUID of an enrolled gateway; random by default.")
@click.option(
    "--domain", default="gateway.local", show_default=True, metavar="NAME", help="First part of the log's name."
)
@click.option("--key", metavar="URI", help="Account that anchors the log, such as keystore:FILE.")
@click.option(
    "--identity-key", type=_FILE, metavar="FILE", help="The identity's private P-256 key; a new one by default."
)
@click.option("--log-key", type=_FILE, metavar="FILE", help="The log's private key; a new one by default.")
@click.option(
    "--listen",
    default="127.0.0.1:8091",
    show_default=True,
    metavar="HOST:PORT",
    help="Address of /health, /metrics and the log.",
)
@click.option("--mqtt", metavar="HOST", help="Write mosquitto's files; devices reach it at HOST.")
@with_session
def init(
    session: Session,
    /,
    identity: UUID | None,
    domain: str,
    key: str | None,
    identity_key: Path | None,
    log_key: Path | None,
    listen: str,
    mqtt: str | None,
) -> None:
    """Set up a gateway: make its keys, and write its settings.

    The tables of the gateway are added to blockota.toml. Nothing is overwritten. The command also writes two public
    keys, with which the city enrols the gateway. With --mqtt and no other option, an existing gateway gets a message
    broker.

    \b
    Example:  blockota gateway init --domain berlin.example \\
                  --key keystore:gateway.json
    """
    from blockota.cli.listening import host_and_port
    from blockota.gateway.founding import NewGateway, found_gateway

    host_and_port(listen)
    if mqtt and not (identity or key or identity_key or log_key) and _add_broker(session, mqtt):
        return

    new = NewGateway(identity or uuid.uuid4(), domain, key, identity_key, log_key, listen, mqtt)
    found = found_gateway(session.config, new)
    fields = {
        "identity": str(new.identity),
        "origin": new.origin,
        "folder": str(found.folder),
        "publicKey": str(found.public_key),
        "logKey": str(found.log_public_key),
        "broker": str(found.broker) if found.broker else None,
        "passwords": dict(found.passwords),
    }

    enrol = (
        f"blockota identity enrol --kind gateway --uuid {new.identity} --public-key {found.public_key} "
        f"--log-key {found.log_public_key} --account ADDRESS -o enrol.json"
    )
    then = "Next: `blockota gateway run`" if identity else f"Next: the city enrols it with `{enrol}`"

    def show() -> None:
        session.done(f"the gateway {new.identity} is set up in {found.settings}")
        rows = {"log": new.origin, "public key": fields["publicKey"], "log key": fields["logKey"]}
        rows |= {"broker": f"mosquitto -c {found.broker}"} if found.broker else {}
        session.fields(rows | {f"password of {name}": one for name, one in found.passwords.items()})

    session.result(fields, show, then=then)


@gateway.command()
@click.option("--events", type=_FILE, metavar="FILE", help="Log file, one JSON line per event; else stderr.")
@password_option
@with_session
def run(session: Session, /, events: Path | None, password_fd: int | None) -> None:
    """Serve the devices of the site, until SIGTERM or Ctrl-C.

    The gateway follows both chains, verifies images, offers them to devices, and keeps and anchors its log. While a
    chain or a source is out of reach, the gateway serves the images that are already verified.

    \b
    Example:  blockota gateway run
    """
    from blockota.gateway.opening import run_gateway
    from blockota.line_log import LineLog
    from blockota.repository.access_log import open_log
    from blockota.shutdown import stop_on_signals

    setup = gateway_setup(session, password_fd)
    faces = ", ".join(setup.settings.faces) or "no faces"

    def show(url: str) -> None:
        fields = {"identity": str(setup.settings.identity), "faces": list(setup.settings.faces), "url": url or None}
        at = f"; its state is at {url}/health" if url else ""
        session.result(fields, lambda: session.done(f"the gateway {setup.settings.identity} runs with {faces}{at}"))

    with addresses_from_settings(), stop_on_signals() as stop:
        run_gateway(setup, LineLog(open_log(events)), stop, on_ready=show)


@gateway.command()
@with_session
def status(session: Session, /) -> None:
    """Show whether the gateway runs, its deliveries and its log.

    \b
    Example:  blockota gateway status
    """
    from blockota.gateway.access import outbox_status
    from blockota.gateway.opening import is_running
    from blockota.ledger.log import TileLog
    from blockota.ledger.log_settings import load_log

    settings = _settings(session)
    with _state(settings) as state:
        stages = Counter(str(one.stage) for _, _, one in state.deliveries())
        waiting, paused = state.waiting(), sorted(state.pauses())
    log = TileLog(load_log(session.config, environment=os.environ).folder)
    fields: dict[str, Any] = {
        "identity": str(settings.identity),
        "running": is_running(settings),
        "stages": dict(stages),
        "entries": len(log),
        "published": log.published.head().size,
        "waiting": waiting,
        "paused": paused,
        "submissions": outbox_status(settings),
    }

    def show() -> None:
        rows = {
            "gateway": f"{settings.identity}, {'running' if fields['running'] else 'not running'}",
            "deliveries": ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items())) or "none yet",
            "log": f"{counted_entries(len(log))}, {fields['published']:,} published; {waiting:,} wait",
        }
        if found := fields["submissions"]:
            rows["readings"] = f"{found['waiting']:,} wait for validators"
            if found["refused"]:
                rows["refused by a validator"] = f"{found['refused']:,}, last: {found['why']}"
        if paused:
            rows["paused"] = ", ".join(paused)

        session.fields(rows)

    session.result(fields, show)


@gateway.command()
@with_session
def devices(session: Session, /) -> None:
    """List the devices with their current images and target releases.

    If the gateway does not run, the list shows its state when it stopped.

    \b
    Example:  blockota gateway devices
    """
    from blockota.gateway.opening import device_plans

    settings = _settings(session)
    plans = device_plans(settings)
    with _state(settings) as state:
        found = list(state.deliveries())
    known = {number for number, slot, _ in found if not slot}
    found += [(number, "", Delivery()) for number in plans if number not in known]

    names = {one.target.image: str(one.target.release) for _, _, one in found if one.target}
    has_readings = any(plan.last_reading for plan in plans.values())
    columns = ["DEVICE", "NAME", "STAGE", "RUNS", "TARGET", "WHY"]
    if has_readings:
        columns.insert(-1, "READING")
    rows = []
    for number, slot, one in sorted(found, key=lambda each: each[:2]):
        name = plans[number].name if number in plans else ""
        row = [label(number, slot), name, one.stage, image(one.running, names), target(one)]
        if has_readings:
            row.append(last_reading(plans, number, slot))
        rows.append((*row, one.reason or why(plans, number, slot)))

    fields = {"devices": [delivery_fields(number, slot, one, plans) for number, slot, one in found]}
    session.result(fields, lambda: session.table(columns, rows, empty="The gateway has no device yet."))


@gateway.command()
@_DEVICE
@click.option("--token", "face", type=click.Choice(_FACES), help="Issue a credential for a face.")
@click.option("--revoke", is_flag=True, help="Revoke all credentials of the device.")
@with_session
def device(session: Session, /, number: int, face: str | None, *, revoke: bool) -> None:
    """Show the state and the history of DEVICE, or issue a credential.

    A credential is shown only once, because the gateway stores only its hash.

    \b
    Example:  blockota gateway device 256
              blockota gateway device 256 --token ddi
    """
    from blockota.gateway.opening import device_plans

    if face and revoke:
        raise UsageError(
            "--token and --revoke exclude each other",
            why="--token issues a credential, and --revoke revokes all credentials",
            remedy="pass one of them",
        )

    settings = _settings(session)
    with _state(settings) as state:
        if revoke:
            state.revoke(number)
            if "mqtt" in settings.faces:
                _broker_files(settings).forget(number)
            session.result({"device": number}, lambda: session.done(f"device {number} has no credentials any more"))
            return
        if face:
            _issue(session, settings, state, (number, face))
            return
        found = list(state.deliveries(number))

    plans = device_plans(settings)
    if number in plans and not any(not slot for _, slot, _ in found):
        found.insert(0, (number, "", Delivery()))
    if not found:
        raise RefusedError(
            f"device {number} is unknown to this gateway",
            why="it does not belong to this site, or the gateway does not run and has no report from the device",
            remedy="check the number",
            action=Action.LIST_DEVICES,
        )
    show_device(session, found, plans)


@gateway.command()
@_DEVICE
@click.option("--product", default="", metavar="NAME", help="A configuration; the firmware by default.")
@with_session
def retry(session: Session, /, number: int, product: str) -> None:
    """Offer a release to DEVICE again.

    Use this command after all tries failed, or after the device rolled back the release.

    \b
    Example:  blockota gateway retry 256
    """
    settings = _settings(session)
    with _state(settings) as state:
        found = next((one for _, slot, one in state.deliveries(number) if slot == product), None)
        if found is None or found.target is None:
            raise RefusedError(
                f"nothing is to be installed on device {number}",
                why="the gateway has no target release for this device",
                remedy="show the device",
                action=Action.SHOW_GATEWAY_DEVICE,
                values={"device": number},
            )

        if found.stage not in (Stage.POSTPONED, Stage.PAUSED, Stage.STOPPED):
            raise RefusedError(
                f"device {number} has no failed or postponed try",
                why=f"the delivery of {found.target.release} is {found.stage}",
                remedy="show the device",
                action=Action.SHOW_GATEWAY_DEVICE,
                values={"device": number},
            )

        state.request_retry(number, product)

    fields = delivery_fields(number, product, found)
    sentence = f"{found.target.release} is offered to device {number} again, {_when(settings)}"
    session.result(fields, lambda: session.done(sentence))


@gateway.command()
@click.argument("subject", metavar="GROUP|DEVICE")
@click.option("--resume", is_flag=True, help="End the pause.")
@with_session
def pause(session: Session, /, subject: str, *, resume: bool) -> None:
    """Stop offering releases to a GROUP of the settings, or to one DEVICE.

    The pause does not reset the number of tries. A device that already has the image may continue.

    \b
    Example:  blockota gateway pause default
              blockota gateway pause default --resume
    """
    settings = _settings(session)
    groups = {one.name for one in settings.groups}
    number = None if subject in groups else decimal_number(subject)
    if subject not in groups and not number:
        raise UsageError(
            f"{plain(subject)!r:.60} is neither a group nor the number of a device",
            why=f"the settings have the groups {', '.join(sorted(groups))}",
            remedy="check the name",
        )

    with _state(settings) as state:
        state.pause(subject, is_paused=not resume)
    if number:
        _warn_of_stranger(session, settings, number)

    what = f"device {number}" if number else f"group {subject}"
    sentence = f"{what} is offered releases again" if resume else f"nothing is offered to {what}"
    sentence += f", {_when(settings)}"
    then = "" if resume else f"Next: `blockota gateway pause {subject} --resume` ends the pause"
    session.result({"subject": subject, "paused": not resume}, lambda: session.done(sentence), then=then)


def _add_broker(session: Session, host: str) -> bool:
    """Add a message broker to the existing gateway. Return False if the settings have no gateway."""
    from blockota.gateway.founding import add_broker

    try:
        settings = _settings(session)
    except UsageError:  # without a gateway, one is made; an error in its table is reported then
        return False
    broker, passwords = add_broker(session.config, settings, host)
    fields = {"broker": str(broker), "passwords": dict(passwords)}

    def show() -> None:
        session.done("the gateway has the face mqtt")
        rows = {"broker": f"mosquitto -c {broker}"}
        session.fields(rows | {f"password of {name}": one for name, one in passwords.items()})

    session.result(fields, show, then="Next: run the broker, and restart the gateway")
    return True


def _settings(session: Session) -> GatewaySettings:
    from blockota.gateway.settings import load_gateway

    return load_gateway(session.config, environment=os.environ)


def _state(settings: GatewaySettings) -> GatewayState:
    """Open the gateway's state; the gateway may be running.

    Raises:
        RefusedError: the gateway never ran.
    """
    from blockota.gateway.opening import STATE_NAME
    from blockota.gateway.state import GatewayState

    path = settings.folder / STATE_NAME
    if not path.exists():
        raise RefusedError(
            "the gateway has no state yet",
            why=f"{path} does not exist: the gateway never ran here",
            remedy="run it first",
            action=Action.RUN_GATEWAY,
        )
    return GatewayState(path, is_owner=False)


def gateway_setup(session: Session, password_fd: int | None) -> GatewaySetup:
    """Open the chains, the log and the account of a gateway, according to its settings."""
    from blockota.connection import Connection
    from blockota.gateway.opening import GatewaySetup
    from blockota.settings import load_settings

    settings = _settings(session)
    producers = {session.settings.network: session.connection}
    if settings.networks:
        loaded = [load_settings(session.config, network=name, environment=os.environ) for name in settings.networks]
        producers = {one.network: Connection(one, note=session.note) for one in loaded}
    log = open_log_parts(session, settings, password_fd, table="gateway")
    return GatewaySetup(settings, log, session.gateway, producers)


def _issue(session: Session, settings: GatewaySettings, state: GatewayState, whose: tuple[int, str]) -> None:
    """Issue a device's credential for one protocol (face) of the gateway, and show the credential once."""
    number, face = whose
    _warn_of_stranger(session, settings, number)
    if face not in settings.faces:
        missing = f"the settings have no table [gateway.{face}]"
        session.warn(
            f"Device {number} cannot use the {face} credential yet: {missing}. Add it, and restart the gateway."
        )

    # Each face checks another kind of secret: a password of the broker, a pre-shared key of DTLS, or a token of HTTP.
    if face == "mqtt":
        secret, words = _broker_files(settings).issue([number])[str(number)], "password"
    elif face == "lwm2m":
        secret, words = state.issue_key(face, number).hex(), "pre-shared key, in hexadecimal"
    else:
        secret, words = state.issue_token(face, [number]), "token"

    fields = {"device": number, "face": face, "secret": secret}
    session.result(fields, lambda: session.fields({"device": number, "face": face, words: secret}))


def _warn_of_stranger(session: Session, settings: GatewaySettings, number: int) -> None:
    """Warn if a device does not belong to this site, or if the gateway has not read the chain yet."""
    from blockota.gateway.opening import device_plans

    plans = device_plans(settings)
    if not plans:
        session.warn(f"It was not checked whether device {number} is of this site: the gateway has not read the chain.")
    elif number not in plans:
        session.warn(f"Device {number} is not of this site. The gateway refuses it until it is registered here.")


def _when(settings: GatewaySettings) -> str:
    """Return a phrase that states when the gateway carries out a request of the operator."""
    from blockota.gateway.opening import is_running

    return "within two seconds" if is_running(settings) else "once the gateway runs"


def _broker_files(settings: GatewaySettings) -> BrokerFiles:
    from blockota.messaging.mosquitto import BrokerFiles

    table = settings.faces.get("mqtt")
    return BrokerFiles((table.path("files") if table else None) or settings.folder / "mqtt")
