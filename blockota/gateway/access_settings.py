"""The table ``[gateway.access]``: a gateway's validators, and the commands that the gateway accepts from validators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.settings_table import SettingsTable

_MAX_AGE = 60


@dataclass(frozen=True)
class AccessSettings:
    """The values of the table ``[gateway.access]``.

    Attributes:
        validators: the URL of each validator that receives the readings, by the validator's UUID.
        authority: PEM file of the validators' certificate authority; None for the system's certificate authorities.
        listen: host and port to which validators send commands; None if the gateway accepts no commands.
        commands: for each model, by its name: the names of the commands that its devices may receive.
        max_age: requests are refused if the last block that was read is older than this number of seconds.
    """

    validators: Mapping[UUID, str] = field(default_factory=dict)
    authority: Path | None = None
    listen: tuple[str, int] | None = None
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_age: int = _MAX_AGE

    @classmethod
    def read(cls, table: SettingsTable) -> AccessSettings:
        """Read the table.

        Raises:
            UsageError: a setting is not valid.
        """
        table.known("validators", "authority", "listen", "commands", "max_age")
        urls: dict[UUID, str] = {}
        if found := table.table("validators"):
            urls = {
                found.as_uuid(one, one): found.required(one, example="https://10.64.0.1:8470") for one in found.values
            }

        commands = table.table("commands")
        listen = table.address("listen", "127.0.0.1:8471") if "listen" in table.values else None
        if commands and commands.values and listen is None:
            raise table.unusable("commands", "the gateway takes no commands without listen")

        return cls(
            validators=urls,
            authority=table.path("authority"),
            listen=listen,
            commands={name: commands.texts(name) for name in commands.values} if commands else {},
            max_age=table.seconds("max_age", _MAX_AGE),
        )
