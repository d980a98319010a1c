"""The settings of a validator: the table ``[validator]`` of the settings file, and the file with its rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.errors import Action, UsageError
from blockota.files import read_input
from blockota.identity.request_server import RequestPort
from blockota.messaging.accounts import BrokerSettings
from blockota.model.rule import COMPARISONS, Rule, check_rules
from blockota.settings import STATE_FOLDER, load_service
from blockota.settings_table import SettingsTable, anchor_seconds, beside, parse_toml

_KNOWN = {
    *("identity", "identity_key", "key", "state", "listen", "requests", "certificate", "private_key", "anchor_minutes"),
    *("max_age", "accept_legacy", "keep_readings", "rules", "cloud", "gateways", "mqtt"),
}
_RULE = (
    *("name", "thing", "gateway", "reading", "comparison", "limit", "for", "target", "device", "command", "arguments"),
    *("deadline", "pause"),
)
_PLAIN = bool | int | float | str
"""The types of the arguments of a command."""
_MAX_RULES_FILE = 1 << 20
RULES_NAME = "validator.toml"


@dataclass(frozen=True)
class PeerReceiver:
    """Another receiver of requests.

    Attributes:
        identity: its UUID.
        url: URL at which the cloud receives requests.
        authority: PEM file of the cloud's certificate authority; None for the system's certificate authorities.
    """

    identity: UUID
    url: str
    authority: Path | None = None

    @classmethod
    def read(cls, table: SettingsTable) -> PeerReceiver:
        """Read the table ``[validator.cloud]``.

        Raises:
            UsageError: a setting is missing or not valid.
        """
        table.known("identity", "url", "authority")
        identity = table.uuid("identity")
        return cls(identity, table.required("url", example="https://10.64.0.200:8470"), table.path("authority"))


@dataclass(frozen=True)
class ValidatorSettings:
    """The settings of a validator.

    Attributes:
        identity: its UUID.
        identity_key: URI of the validator's P-256 key.
        folder: the folder with the validator's state.
        port: the host, port and certificate with which the validator receives requests.
        key: URI of the account that anchors the validator's log; None if the log is not anchored.
        listen: host and port at which ``/health``, ``/metrics`` and the log are served; None to serve nothing.
        anchor_seconds: seconds between two anchors of the log.
        max_age: requests are refused if the last block that was read is older than this number of seconds.
        accepts_replayable: whether requests of the older form are accepted. The older form has no time, nonce and
            receiver, so another party can record a request and send it again.
        keep_readings: seconds for which readings are stored in memory.
        cloud: the cloud to which all requests are forwarded; None if no cloud is configured.
        gateways: URLs at which gateways receive commands, by UUID; commands to other gateways are sent to their virtual
            IPs.
        broker: the message broker; None if requests are received over HTTP only.
        rules: the rules.
    """

    identity: UUID
    identity_key: str
    folder: Path
    port: RequestPort
    key: str | None = None
    listen: tuple[str, int] | None = None
    anchor_seconds: int = 600
    max_age: int = 60
    accepts_replayable: bool = False
    keep_readings: int = 3600
    cloud: PeerReceiver | None = None
    gateways: Mapping[UUID, str] = field(default_factory=dict)
    broker: BrokerSettings | None = None
    rules: tuple[Rule, ...] = ()


def load_validator(config: Path | None, *, environment: Mapping[str, str]) -> ValidatorSettings:
    """Read the settings of the validator, and its rules.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment variables, of which ``BLOCKOTA_CONFIG`` may name the settings file.

    Raises:
        UsageError: a file cannot be read, the table ``[validator]`` is missing, or a setting or rule is not valid.
    """
    action = Action.INIT_VALIDATOR
    table = load_service(config, "validator", known=_KNOWN, environment=environment, action=action)
    listen = table.address("listen", "127.0.0.1:8092") if "listen" in table.values else None

    gateways: dict[UUID, str] = {}
    if urls := table.table("gateways"):
        gateways = {urls.as_uuid(one, one): urls.required(one, example="http://10.64.0.7:8471") for one in urls.values}
    cloud, mqtt = table.table("cloud"), table.table("mqtt")
    broker = BrokerSettings.read(mqtt, address="broker") if mqtt else None

    # A missing file is an error only if the settings name it.
    path = table.path("rules", RULES_NAME)
    rules = load_rules(path) if path and ("rules" in table.values or path.exists()) else ()
    return ValidatorSettings(
        identity=table.uuid("identity"),
        identity_key=beside(table.required("identity_key", example="file:validator/identity.pem"), table.folder),
        folder=table.path("state") or table.folder / STATE_FOLDER / "validator",
        port=RequestPort.read(table),
        key=table.text("key"),
        listen=listen,
        anchor_seconds=anchor_seconds(table),
        max_age=table.seconds("max_age", 60),
        accepts_replayable=table.flag("accept_legacy"),
        keep_readings=table.seconds("keep_readings", 3600),
        cloud=PeerReceiver.read(cloud) if cloud else None,
        gateways=gateways,
        broker=broker,
        rules=rules,
    )


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Read the file with the rules.

    Raises:
        UsageError: the file cannot be read, or a rule is malformed or refused by `check_rules`.
    """
    try:
        file = parse_toml(read_input(path, limit=_MAX_RULES_FILE))
    except ValueError as error:
        raise UsageError(f"{path} cannot be read", why=f"it is not TOML: {error}", remedy="correct the file") from error

    table = SettingsTable(path.name, file, path.parent)
    table.known("commands", "rule")
    rows = file.get("rule", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise table.unusable("rule", "rules are written as tables [[rule]]")

    rules = tuple(
        _rule(SettingsTable(f"{path.name}, rule {row.get('name', number)}", row, path.parent))
        for number, row in enumerate(rows, 1)
    )
    check_rules(rules, table.texts("commands"))
    return rules


def _rule(table: SettingsTable) -> Rule:
    table.known(*_RULE)
    comparison = table.required("comparison", example=">")
    if comparison not in COMPARISONS:
        raise table.unusable("comparison", f"{comparison!r:.20} is not one of {' '.join(COMPARISONS)}")

    limit, arguments = table.values.get("limit"), table.values.get("arguments", {})
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
        raise table.unusable("limit", f"{limit!r:.40} is not a number")
    if not isinstance(arguments, dict) or not all(isinstance(one, _PLAIN) for one in arguments.values()):
        raise table.unusable("arguments", "they are not a table of numbers, texts, true and false")

    return Rule(
        name=table.required("name", example="cool the cabinet"),
        thing=_thing(table, "thing"),
        reading=table.required("reading", example="temperature"),
        comparison=comparison,
        limit=float(limit),
        duration=table.seconds("for", 0),
        target=table.uuid("target", example="7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        device=_thing(table, "device"),
        command=table.required("command", example="fan"),
        arguments=arguments,
        deadline=table.seconds("deadline", 60),
        pause=table.seconds("pause", 60),
        gateway=table.uuid("gateway") if "gateway" in table.values else None,
    )


def _thing(table: SettingsTable, key: str) -> str:
    value = table.values.get(key)
    return str(value) if type(value) is int and value >= 0 else table.required(key, example="256")
