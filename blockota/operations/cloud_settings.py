"""The settings of the cloud: the table ``[cloud]`` of the settings file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from blockota.errors import Action, UsageError
from blockota.files import home_path, read_input
from blockota.identity.request_server import RequestPort
from blockota.model.request import MAX_STORE_SIZE
from blockota.operations.database import CloudDatabase
from blockota.settings import STATE_FOLDER, load_service
from blockota.settings_table import anchor_seconds

_KNOWN = {
    *("identity", "key", "state", "listen", "requests", "certificate", "private_key", "anchor_minutes"),
    *("max_age", "database"),
    "identity_key",  # written by earlier versions; a cloud signs nothing with it
}
_MAX_URL = 1 << 12
_PASSWORD = re.compile(r"[^/?#]*://[^/?#]*:.*@|.*[?&](ssl)?password=", re.IGNORECASE | re.DOTALL)
DATABASE = "sqlite:///cloud/cloud.db"
"""The default database."""
LISTEN = "127.0.0.1:8093"
"""The default address for the state."""


@dataclass(frozen=True)
class CloudSettings:
    """The settings of a cloud.

    Attributes:
        identity: its UUID.
        folder: the folder of the cloud's state.
        port: where the cloud receives requests.
        database: URL of the database, or where to read the URL: ``env:NAME`` or ``file:PATH``.
        database_folder: the folder against which the relative path of a database file is resolved.
        key: URI of the account that anchors the cloud's log; None if the log is not anchored.
        listen: host and port of ``/health``, ``/metrics`` and the log; None if the cloud does not serve these pages.
        anchor_seconds: seconds between two anchors.
        max_age: requests are refused if the last block that was read is older than this number of seconds.
    """

    identity: UUID
    folder: Path
    port: RequestPort
    database: str = field(default=DATABASE, repr=False)
    database_folder: Path = Path()
    key: str | None = None
    listen: tuple[str, int] | None = None
    anchor_seconds: int = 600
    max_age: int = 60


def load_cloud(config: Path | None, *, environment: Mapping[str, str]) -> CloudSettings:
    """Read the settings of the cloud.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment, whose ``BLOCKOTA_CONFIG`` can name the file.

    Raises:
        UsageError: the file cannot be read, has no cloud, or a setting is not valid.
    """
    table = load_service(config, "cloud", known=_KNOWN, environment=environment, action=Action.INIT_CLOUD)
    database = table.values.get("database", DATABASE)

    if not isinstance(database, str):  # the value may have a password, and is not shown
        raise table.unusable("database", "it is not a text in quotes")

    return CloudSettings(
        identity=table.uuid("identity"),
        folder=table.path("state") or table.folder / STATE_FOLDER / "cloud",
        port=RequestPort.read(table, max_size=MAX_STORE_SIZE),
        database=database,
        database_folder=table.folder,
        key=table.text("key"),
        listen=table.address("listen", LISTEN) if "listen" in table.values else None,
        anchor_seconds=anchor_seconds(table),
        max_age=table.seconds("max_age", 60),
    )


def open_database(place: str, *, folder: Path, environment: Mapping[str, str]) -> CloudDatabase:
    """Return the database that a setting names, without a connection to it.

    Args:
        place: the URL of the database, or where to read the URL: ``env:NAME`` or ``file:PATH``.
        folder: the folder of the settings file, to which paths are relative.
        environment: the environment variables for ``env:NAME``.

    Raises:
        UsageError: the URL cannot be found, or `CloudDatabase.at` does not support its form.
    """
    kind, _, name = place.partition(":")
    if kind == "env":
        url = environment.get(name, "").strip()
        if not url:
            raise UsageError(
                f"the URL of the database is not in {place:.80}",
                why="the variable is not set",
                remedy="export the variable",
            )
        return CloudDatabase.at(url, folder=folder)

    if kind == "file":
        path = folder / home_path(name)
        return CloudDatabase.at(read_input(path, limit=_MAX_URL).decode(errors="replace").strip(), folder=folder)
    return CloudDatabase.at(place, folder=folder)


def check_place(place: str) -> None:
    """Check the argument of a command that names the database: a URL in it must not have a password.

    Raises:
        UsageError: the URL has a password, or `CloudDatabase.at` does not support its form.
    """
    if _PASSWORD.match(place):
        raise UsageError(
            "the URL of the database has a password",
            why="other users of this machine can read the arguments of a command",
            remedy="write the URL into a file that only the cloud's user can read, and name it as file:PATH",
        )
    if not place.startswith(("env:", "file:")):
        CloudDatabase.at(place, folder=Path())
