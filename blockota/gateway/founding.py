"""Set up a gateway: create its keys, and add its tables to a settings file.

Nothing is overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.errors import UsageError
from blockota.files import write_result
from blockota.gateway.settings import GatewaySettings
from blockota.identity.founding import NewService, ServiceFounding, toml_table
from blockota.messaging.mosquitto import write_broker_files
from blockota.settings import FILE_NAME

_FACES = """
# [gateway.groups.default]           # how devices are updated; see docs/gateway.md
# policy = "ordered"                 # only by orders; "auto" installs the newest release at once
# window = ["22:00-04:00"]           # in UTC
"""


@dataclass(frozen=True)
class NewGateway:
    """The options for setting up a new gateway.

    Attributes:
        identity: UUID of the gateway.
        domain: the first part of the log's origin.
        key: URI of the account that anchors the log; None if the account does not exist yet.
        identity_key: existing PEM file with the identity's private key; None to create a key.
        log_key: existing PEM file with the log's private key; None to create a key.
        listen: address at which ``/health``, ``/metrics`` and the log are served.
        mqtt: name or address at which devices reach the message broker on this machine; None without a broker.
    """

    identity: UUID
    domain: str
    key: str | None = None
    identity_key: Path | None = None
    log_key: Path | None = None
    listen: str = "127.0.0.1:8091"
    mqtt: str | None = None

    @property
    def service(self) -> NewService:
        """The options that a gateway shares with other services."""
        return NewService("gateway", self.identity, self.domain, self.key, self.identity_key, self.log_key)

    @property
    def origin(self) -> str:
        """The origin of the log."""
        return self.service.origin


@dataclass(frozen=True)
class FoundedGateway:
    """The files of a new gateway.

    Attributes:
        folder: the folder of the gateway.
        settings: the settings file.
        public_key: PEM file with the identity's public key.
        log_public_key: PEM file with the log's public key.
        broker: the broker's settings file; None without a broker.
        passwords: new passwords of the broker's users. They are not stored.
    """

    folder: Path
    settings: Path
    public_key: Path
    log_public_key: Path
    broker: Path | None = None
    passwords: Mapping[str, str] = field(default_factory=dict)


def found_gateway(config: Path | None, new: NewGateway) -> FoundedGateway:
    """Create the keys of a gateway, and add the gateway's tables to the settings file.

    Raises:
        UsageError: the file already has a gateway or a log, a key exists, or the origin or a key cannot be used.
    """
    founding = ServiceFounding(config, new.service)
    founding.make_keys()
    found, passwords, tables = founding.found, dict[str, str](), [_FACES]
    if new.mqtt:
        passwords = write_broker_files(found.folder / "mqtt", (), hosts=[new.mqtt, "localhost"])
        tables.append(_mqtt_table(new.mqtt))
    founding.write_settings({"listen": new.listen}, tables)
    broker = found.folder / "mqtt" / "mosquitto.conf" if new.mqtt else None
    return FoundedGateway(found.folder, found.settings, found.public_key, found.log_public_key, broker, passwords)


def add_broker(config: Path | None, settings: GatewaySettings, host: str) -> tuple[Path, Mapping[str, str]]:
    """Add a message broker to a gateway: write the broker's files, and add the table ``[gateway.mqtt]``.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder.
        settings: the settings of the gateway.
        host: name or address at which devices reach the broker.

    Returns:
        The broker's settings file, and the new passwords of its users. They are not stored.

    Raises:
        UsageError: the table ``[gateway.mqtt]`` exists already, or a file cannot be written.
    """
    path, folder = config or Path(FILE_NAME), settings.folder / "mqtt"
    if "mqtt" in settings.faces:
        raise UsageError(
            f"{path} has the table [gateway.mqtt] already",
            why="the files of a message broker are never overwritten",
            remedy="edit the table, or the files in its folder",
        )
    passwords = write_broker_files(folder, (), hosts=[host, "localhost"])
    write_result(path, path.read_bytes().rstrip() + f"\n{_mqtt_table(host)}".encode())
    return folder / "mosquitto.conf", passwords


def _mqtt_table(host: str) -> str:
    return toml_table("gateway.mqtt", {"broker": "localhost:8883", "images": f"https://{host}:8443/images/"})
