"""The settings of the operations room: the table ``[operations]`` of the settings file.

The table ``[operations.logs]`` names the logs to follow. A line has the form ``UUID = "FOLDER or URL"``, with the UUID
of the identity that writes the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from blockota.messaging.accounts import BROKER, BrokerSettings
from blockota.settings import STATE_FOLDER, load_table
from blockota.settings_table import SettingsTable

_KNOWN = {
    "identity_key",  # written by earlier versions; a room signs nothing with it
    "listen",
    "url",
    "state",
    "identity",
    "key",
    "logs",
    "networks",
    "database",
    "tunnels",
    "broker",
}
_LISTEN = "127.0.0.1:8480"


@dataclass(frozen=True)
class OperationsSettings:
    """The settings of the operations room.

    Attributes:
        folder: the folder of the archive.
        listen: host and port of the page.
        url: the URL at which persons open the page, without a path. Sign-in texts name it.
        identity: UUID of the room's identity, which has the kind Cloud; None if the room has no log.
        key: URI of the account that anchors the room's log; None if the log is not anchored.
        logs: the folder or URL of each log to follow, by the UUID of the identity that writes the log.
        networks: names of the networks of the producer chains. If the list is empty, the room uses the producer network
            of the settings file.
        database: the URL of the cloud's database, or where to read the URL; None if the room reads no database.
        tunnels: name of the WireGuard interface of this host; None if the room shows no tunnels.
        broker: the broker for the notices; None if the room sends no notices.
        beside: the folder of the settings file; the path of a database is relative to this folder.
    """

    folder: Path
    listen: tuple[str, int] = ("127.0.0.1", 8480)
    url: str = "http://127.0.0.1:8480"
    identity: UUID | None = None
    key: str | None = None
    logs: Mapping[UUID, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    database: str | None = None
    tunnels: str | None = None
    broker: BrokerSettings | None = None
    beside: Path = Path()

    @property
    def domain(self) -> str:
        """The host and port of `url`, as a sign-in text states them."""
        return urlsplit(self.url).netloc

    @property
    def is_secure(self) -> bool:
        """Whether persons open the page over TLS, for example through a TLS proxy."""
        return self.url.startswith("https://")


def load_operations(config: Path | None, *, environment: Mapping[str, str]) -> OperationsSettings:
    """Read the settings of the operations room. Without the table, all settings have their defaults.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment, whose ``BLOCKOTA_CONFIG`` can name the file.

    Raises:
        UsageError: the file cannot be read, or a setting is not valid.
    """
    table = load_table(config, "operations", known=_KNOWN, environment=environment)

    listen = table.address("listen", _LISTEN)
    host = f"[{listen[0]}]" if ":" in listen[0] else listen[0]
    url = table.text("url") or f"http://{host}:{listen[1]}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
        raise table.unusable("url", f"{url!r:.80} is not a URL such as https://operations.example")

    logs, broker = {}, None
    if places := table.table("logs"):
        logs = {places.as_uuid(name, name): _place(places, name) for name in places.values}
    if given := table.table("broker"):
        given.required("address", example=BROKER)
        broker = BrokerSettings.read(given, address="address")

    return OperationsSettings(
        folder=table.path("state") or table.folder / STATE_FOLDER / "operations",
        listen=listen,
        url=f"{parts.scheme}://{parts.netloc}",
        identity=table.uuid("identity") if "identity" in table.values else None,
        key=table.text("key"),
        logs=logs,
        networks=table.texts("networks"),
        database=table.text("database"),
        tunnels=table.text("tunnels"),
        broker=broker,
        beside=table.folder,
    )


def _place(table: SettingsTable, name: str) -> str:
    """Return the URL or the folder of a log. The path of a folder is relative to the settings file."""
    place = table.required(name, example="https://gateway.example:8091")
    return place if place.lower().startswith(("http://", "https://")) else str(table.folder / place)
