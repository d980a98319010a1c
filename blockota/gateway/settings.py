"""The settings of a gateway: the table ``[gateway]`` of the settings file, with its groups of devices and its faces.

A face runs if the settings file has the face's table, such as ``[gateway.ddi]``. Each face reads the settings in its
table itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.errors import Action, UsageError
from blockota.gateway.access_settings import AccessSettings
from blockota.model.delivery import DeliveryPolicy
from blockota.model.target import DailyWindow, GroupPolicy, Mode
from blockota.settings import STATE_FOLDER, load_service, require_address
from blockota.settings_table import SettingsTable, anchor_seconds, decimal_number

FACES = ("ddi", "mqtt", "lwm2m", "smp", "an3155")
"""The faces, by the names of their tables."""
DEFAULT_GROUP = "default"
"""The group of the devices that no other group names."""
_TEXTS = {"identity", "key", "identity_key", "state", "listen"}
_KNOWN = {*_TEXTS, "networks", "contracts", "anchor_minutes", "groups", "access", *FACES}
_GROUP = (
    *("models", "devices", "policy", "window", "pauses", "postponements", "longest_postponement"),
    *("transfer_time", "trial_time", "offers_after_rollback", "configurations", "allow_downgrade"),
)
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_DEFAULTS = DeliveryPolicy()


@dataclass(frozen=True)
class GroupSettings:
    """A group of devices, with its policy for updates.

    Attributes:
        name: the name of its table.
        models: names of the Specs whose devices are in the group.
        devices: numbers of devices in the group. A device's number takes precedence over its model.
        policy: the rules for updating the devices of the group.
    """

    name: str = DEFAULT_GROUP
    models: tuple[str, ...] = ()
    devices: frozenset[int] = frozenset()
    policy: GroupPolicy = field(default_factory=GroupPolicy)


@dataclass(frozen=True)
class GatewaySettings:
    """The settings of a gateway.

    Attributes:
        identity: UUID of the gateway in the registry of identities.
        folder: the folder with the gateway's state and the proven images.
        key: URI of the key of the account that anchors the log; None if the log is not anchored.
        identity_key: URI of the identity's private key, which signs documents for devices; None without a key.
        listen: host and port at which ``/health``, ``/metrics`` and the log are served; None to serve nothing.
        networks: names of the networks of the producer chains; if empty, the producer network of the settings file is
            used.
        contracts: BlockOTA contracts to follow; if empty, the contracts of all admitted producers are followed.
        anchor_seconds: seconds between two anchors of the log.
        groups: the groups of devices, the default group last.
        faces: the tables of the faces that run, by name.
        access: the table ``[gateway.access]``; None if the gateway sends no readings to validators.
    """

    identity: UUID
    folder: Path
    key: str | None = None
    identity_key: str | None = None
    listen: tuple[str, int] | None = None
    networks: tuple[str, ...] = ()
    contracts: tuple[str, ...] = ()
    anchor_seconds: int = 600
    groups: tuple[GroupSettings, ...] = (GroupSettings(),)
    faces: Mapping[str, SettingsTable] = field(default_factory=dict)
    access: AccessSettings | None = None

    def group_of(self, device: int, model: str) -> GroupSettings:
        """Return the group that lists the device, else the group that lists its model, else the default group."""
        by_number = (group for group in self.groups if device in group.devices)
        by_model = (group for group in self.groups if model in group.models)
        return next(by_number, None) or next(by_model, self.groups[-1])

    @functools.cached_property
    def bound_devices(self) -> Mapping[int, tuple[str, Mapping[str, str]]]:
        """For each device that only one face serves, such as a board on a serial port: the face and its settings.

        A bound device is named in the table of its face, for example ``[gateway.an3155.devices]`` with ``300 =
        "/dev/ttyUSB0"``. All other devices may use any face.
        """
        found = {}
        for name, table in self.faces.items():
            devices = table.table("devices")
            for key in devices.values if devices else ():
                number = decimal_number(key)
                if devices and number is not None:
                    found[number] = name, {"port": devices.required(key, example="/dev/ttyUSB0")}
                elif devices:
                    raise devices.unusable(key, "the name is not the number of a device")
        return found


def load_gateway(config: Path | None, *, environment: Mapping[str, str]) -> GatewaySettings:
    """Read the settings of the gateway.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment variables, of which ``BLOCKOTA_CONFIG`` may name the settings file.

    Raises:
        UsageError: the file cannot be read, has no table ``[gateway]``, or contains an invalid setting.
    """
    action = Action.INIT_GATEWAY
    table = load_service(config, "gateway", known=_KNOWN, environment=environment, action=action)
    listen = table.address("listen", "127.0.0.1:8091") if "listen" in table.values else None
    access = table.table("access")

    found = GatewaySettings(
        identity=table.uuid("identity"),
        folder=table.path("state") or table.folder / STATE_FOLDER / "gateway",
        key=table.text("key"),
        identity_key=table.uri("identity_key"),
        listen=listen,
        networks=table.texts("networks"),
        contracts=tuple(require_address("contracts in [gateway]", one) for one in table.texts("contracts")),
        anchor_seconds=anchor_seconds(table),
        groups=_groups(table.table("groups")),
        faces={name: face for name in FACES if (face := table.table(name))},
        access=AccessSettings.read(access) if access else None,
    )
    _ = found.bound_devices  # its errors are reported at the start
    return found


def _groups(table: SettingsTable | None) -> tuple[GroupSettings, ...]:
    """Read the groups.

    Raises:
        UsageError: a setting is not valid, or two groups have the same device or model.
    """
    names: Sequence[str] = tuple(table.values) if table else ()
    tables = [found for name in names if table and (found := table.table(name))]
    groups = [_group(name, one) for name, one in zip(names, tables, strict=True)]

    seen: dict[object, str] = {}
    for group in groups:
        for member in (*group.models, *sorted(group.devices)):
            if member in seen:
                raise UsageError(
                    f"[gateway.groups.{group.name}] cannot be used",
                    why=f"{member} is in the group {seen[member]} already",
                    remedy="name each device and each model in one group",
                )
            seen[member] = group.name

    # The default group comes last, because it takes every device that no other group lists.
    named = [group for group in groups if group.name != DEFAULT_GROUP]
    rest = next((group for group in groups if group.name == DEFAULT_GROUP), GroupSettings())
    return (*named, rest)


def _group(name: str, table: SettingsTable) -> GroupSettings:
    table.known(*_GROUP)
    mode = table.text("policy", Mode.AUTO) or Mode.AUTO
    if mode not in tuple(Mode):
        raise table.unusable("policy", f"{mode!r:.60} is not {' or '.join(Mode)}")

    rules = _DEFAULTS
    policy = GroupPolicy(
        mode=Mode(mode),
        windows=tuple(_window(table, text) for text in table.texts("window")),
        allow_downgrade=table.flag("allow_downgrade"),
        configurations=frozenset(table.texts("configurations")),
        delivery=DeliveryPolicy(
            pauses=table.durations("pauses", rules.pauses),
            postponements=table.number("postponements", rules.postponements),
            longest_postponement=table.seconds("longest_postponement", rules.longest_postponement),
            transfer_time=table.seconds("transfer_time", rules.transfer_time),
            trial_time=table.seconds("trial_time", rules.trial_time),
            offers_after_rollback=table.flag("offers_after_rollback"),
        ),
    )
    return GroupSettings(name, table.texts("models"), frozenset(table.numbers("devices")), policy)


def _window(table: SettingsTable, text: str) -> DailyWindow:
    if match := _WINDOW.fullmatch(text):
        first, second, third, fourth = map(int, match.groups())
        start, end = (first * 60 + second) * 60, (third * 60 + fourth) * 60
        if start != end:
            return DailyWindow(start, end)
    raise table.unusable("window", f'{text!r:.60} is not a time of the day in UTC: write "22:00-04:30"')
