"""The settings of the log that this machine writes: the table ``[log]`` of the settings file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from blockota.errors import UsageError
from blockota.formats.notes import NoteAlgorithm, VerifierKey, check_name
from blockota.ledger.verify import keeper_in
from blockota.ledger.witnesses import Witness
from blockota.settings import STATE_FOLDER, load_table
from blockota.settings_table import SettingsTable

_KNOWN = {"folder", "origin", "key", "witnesses"}
LOG_FOLDER = "log"
"""The default folder of a log, in the state folder."""


@dataclass(frozen=True)
class LogSettings:
    """The settings of a log.

    Attributes:
        folder: the folder of the log.
        origin: the log's origin, which names the log in checkpoints; None if the file does not set it.
        key: the URI of the log's key; None if the file does not set it.
        witnesses: the witnesses that are asked to sign checkpoints.
    """

    folder: Path
    origin: str | None
    key: str | None
    witnesses: tuple[Witness, ...]

    def signing(self) -> tuple[str, str]:
        """Return the URI of the key and the origin.

        Raises:
            UsageError: the key or the origin is not set.
        """
        if self.key is None or self.origin is None:
            missing = " and ".join(name for name in ("key", "origin") if getattr(self, name) is None)
            raise UsageError(
                "the checkpoint of the log cannot be signed",
                why=f"[log] in the settings has no {missing}",
                remedy='add origin = "log.example/NAME" and key = "file:PATH"',
            )
        return self.key, self.origin


def check_keeper(origin: str, identity: UUID, *, table: str) -> None:
    """Check that the log in the settings belongs to the identity of a service.

    Args:
        origin: the log's origin.
        identity: the identity of the service.
        table: the service's table in the settings.

    Raises:
        UsageError: the origin names another keeper, or does not name a keeper.
    """
    if keeper_in(origin) != identity:
        raise UsageError(
            f"the log {origin} does not belong to the identity in [{table}]",
            why=f"the origin of an enrolled log ends with the UUID of its keeper, {identity.hex}",
            remedy=f"correct origin in [log], or identity in [{table}]",
        )


def load_log(config: Path | None, *, environment: Mapping[str, str]) -> LogSettings:
    """Read the settings of the log.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment, whose ``BLOCKOTA_CONFIG`` can name the file.

    Raises:
        UsageError: the file cannot be read, or a setting is not valid.
    """
    table = load_table(config, "log", known=_KNOWN, environment=environment)
    origin = table.text("origin")

    if origin is not None:
        try:
            check_name(origin)
        except ValueError as error:
            raise table.unusable("origin", str(error)) from error

    witnesses = table.table("witnesses")
    return LogSettings(
        table.path("folder") or table.folder / STATE_FOLDER / LOG_FOLDER,
        origin,
        table.uri("key"),
        tuple(_witness(witnesses, text) for text in witnesses.values) if witnesses else (),
    )


def _witness(table: SettingsTable, text: str) -> Witness:
    try:
        key = VerifierKey.parse(text)
    except ValueError as error:
        raise table.unusable(f"{text:.60}", str(error)) from error
    if key.algorithm is not NoteAlgorithm.COSIGNATURE:
        raise table.unusable(text, f"the key {key.name} is that of a log")
    return Witness(key, table.required(text, example="https://witness.example"))
