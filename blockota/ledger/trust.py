"""The keys that a reader of receipts trusts: the table ``[trust]`` of the settings.

Keys never come from a receipt. The settings ``logs`` and ``witnesses`` are lists of keys in the form name+id+key of
C2SP signed-note. The setting ``quorum`` is the number of witnesses that must have cosigned. The setting ``devices``
maps the number of a device to its P-256 key in PEM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blockota.errors import Action, UsageError
from blockota.formats.notes import NoteAlgorithm, VerifierKey
from blockota.formats.public_key import KeyKind, read_pem
from blockota.settings import load_table
from blockota.settings_table import SettingsTable, decimal_number

_KNOWN = {"logs", "witnesses", "quorum", "devices"}


@dataclass(frozen=True)
class TrustedKeys:
    """The trusted keys.

    Attributes:
        logs: the keys of logs; the name of a key is the log's origin.
        witnesses: the keys of witnesses.
        quorum: the number of trusted witnesses that must have cosigned a checkpoint.
        devices: the P-256 key of a device, x and y, by the device's number.
    """

    logs: tuple[VerifierKey, ...]
    witnesses: tuple[VerifierKey, ...] = ()
    quorum: int = 0
    devices: Mapping[int, bytes] = field(default_factory=dict)


def load_trust(config: Path | None, *, environment: Mapping[str, str]) -> TrustedKeys:
    """Read the trusted keys from the table ``[trust]`` of a settings file.

    Args:
        config: the file; None means ``blockota.toml`` in the current folder, if it exists.
        environment: the environment, whose ``BLOCKOTA_CONFIG`` can name the file.

    Raises:
        UsageError: the file cannot be read, a key is not valid, or the key of a log is missing.
    """
    table = load_table(config, "trust", known=_KNOWN, environment=environment)
    logs = _keys(table, "logs", NoteAlgorithm.ED25519)
    if not logs:
        raise UsageError(
            "no log is trusted",
            why="[trust] in the settings has no keys in logs",
            remedy="get the key of the log from its keeper or from the gateway chain, and add it",
            action=Action.NAME_TRUST,
        )

    witnesses = _keys(table, "witnesses", NoteAlgorithm.COSIGNATURE)
    quorum = table.number("quorum", len(witnesses), most=len(witnesses))
    devices = table.table("devices")
    keys = dict(_device(devices, name) for name in devices.values) if devices else {}
    return TrustedKeys(logs, witnesses, quorum, keys)


def _keys(table: SettingsTable, name: str, algorithm: NoteAlgorithm) -> tuple[VerifierKey, ...]:
    try:
        keys = tuple(map(VerifierKey.parse, table.texts(name)))
    except ValueError as error:
        raise table.unusable(name, str(error)) from error
    for key in keys:
        if key.algorithm is not algorithm:
            other = "witness" if key.algorithm is NoteAlgorithm.COSIGNATURE else "log"
            raise table.unusable(name, f"the key {key.name} is that of a {other}")
    # A log has several keys after a rotation, but one witness must not count as two.
    if algorithm is NoteAlgorithm.COSIGNATURE:
        for values in ({key.name for key in keys}, {key.key for key in keys}):
            if len(values) < len(keys):
                raise table.unusable(name, "two of its keys have one name, or one key has two names")
    return keys


def _device(table: SettingsTable, name: str) -> tuple[int, bytes]:
    number = decimal_number(name)
    if not number:
        raise table.unusable(name, "the name is not the number of a device")
    text = table.required(name, example="-----BEGIN PUBLIC KEY-----")

    try:
        key = read_pem(text)
    except UsageError as error:
        raise table.unusable(name, f"{error.what}, {error.why}") from error
    if key.kind is not KeyKind.P256:
        raise table.unusable(name, f"the key is of the kind {key}, not P-256")
    return number, key.data
