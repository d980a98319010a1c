"""The settings of this host's end of its tunnels: the table ``[vpn]`` of the settings file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.errors import Action, UsageError
from blockota.files import home_path
from blockota.identity.tunnels import Ports
from blockota.settings import load_table
from blockota.settings_table import SettingsTable

_KNOWN = {
    "identity",
    "key",
    "interface",
    "listen_port",
    "max_age",
    "request_port",
    "command_port",
    "log_port",
    "endpoints",
}
_INTERFACE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,14}", re.ASCII)
_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([1-9]\d{0,4})", re.ASCII)


@dataclass(frozen=True)
class TunnelSettings:
    """An end of the tunnels.

    Attributes:
        identity: UUID of this host's identity in the registry.
        key_file: the file with this host's private X25519 key in base64, as ``wg genkey`` prints it.
        interface: name of the network interface.
        listen_port: the UDP port; None to let WireGuard choose the port.
        max_age: seconds for which the last list of peers is used if the chain is out of reach.
        ports: the TCP ports that are reachable through the tunnels.
        endpoints: the endpoints of peers, as ``HOST:PORT`` by the peer's UUID.
    """

    identity: UUID
    key_file: Path
    interface: str = "blockota0"
    listen_port: int | None = None
    max_age: int = 3600
    ports: Ports = field(default_factory=Ports)
    endpoints: Mapping[UUID, str] = field(default_factory=dict)


def load_tunnels(config: Path | None, *, environment: Mapping[str, str]) -> TunnelSettings:
    """Read the settings of the tunnels.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment variables, of which ``BLOCKOTA_CONFIG`` may name the settings file.

    Raises:
        UsageError: the file cannot be read, has no table ``[vpn]``, or a setting is not valid.
    """
    table = load_table(config, "vpn", known=_KNOWN, environment=environment)
    if not table.values:
        raise UsageError(
            "the settings have no tunnels",
            why="there is no table [vpn]",
            remedy='create a tunnel key, and add the table [vpn] with identity = "UUID" and key = "FILE"',
            action=Action.MAKE_TUNNEL_KEY,
        )

    interface = table.text("interface", "blockota0") or ""
    if not _INTERFACE.fullmatch(interface):
        raise table.unusable("interface", f"{interface!r:.40} is not a name of at most 15 letters, digits and _")

    listen_port = table.port("listen_port", 51820) if "listen_port" in table.values else None
    endpoints = table.table("endpoints")
    return TunnelSettings(
        identity=table.uuid("identity"),
        key_file=table.folder / home_path(table.required("key", example="vpn.key")),
        interface=interface,
        listen_port=listen_port,
        max_age=table.seconds("max_age", 3600),
        ports=Ports(
            table.port("request_port", Ports.requests),
            table.port("command_port", Ports.commands),
            table.port("log_port", Ports.logs),
        ),
        endpoints=dict(_endpoint(endpoints, name) for name in endpoints.values) if endpoints else {},
    )


def _endpoint(table: SettingsTable, name: str) -> tuple[UUID, str]:
    place = table.required(name, example="192.0.2.7:51820")
    match = _ENDPOINT.fullmatch(place)
    if not match or int(match[2]) >= 1 << 16:
        raise table.unusable(name, f"{place!r:.80} is not an address: write HOST:PORT, such as 192.0.2.7:51820")
    return table.as_uuid(name, name), place
