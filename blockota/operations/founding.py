"""Set up an operations room in the folder of a settings file: make its keys, and add its tables to the file.

Nothing is overwritten.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from blockota.errors import UsageError
from blockota.files import make_folder, read_input, write_new, write_result
from blockota.formats.notes import check_name
from blockota.keys import check_key
from blockota.ledger.keys import create_log_key
from blockota.settings import FILE_NAME
from blockota.settings_table import parse_toml

FOLDER = "operations"
"""The folder of the room's archive, log and keys, beside the settings file."""
_MAX_SETTINGS, _MAX_PEM = 1 << 16, 1 << 14


@dataclass(frozen=True)
class NewRoom:
    """The choices for a new operations room.

    Attributes:
        identity: its UUID.
        domain: the first part of the log's origin.
        key: URI of the account that anchors the log; None if there is none yet.
        listen: address of the page.
        url: URL at which persons open the page; None for the address of the page.
        log_key: existing PEM file with the log's private key; None to make one.
    """

    identity: UUID
    domain: str
    key: str | None = None
    listen: str = "127.0.0.1:8480"
    url: str | None = None
    log_key: Path | None = None

    @property
    def origin(self) -> str:
        """The origin of the log."""
        return f"{self.domain}/operations/{self.identity.hex}"


@dataclass(frozen=True)
class FoundedRoom:
    """The files of a new operations room, with which the city enrols it."""

    settings: Path
    public_key: Path
    log_public_key: Path


def found_room(config: Path | None, new: NewRoom) -> FoundedRoom:
    """Make the keys of an operations room, and add its tables to the settings file.

    Raises:
        UsageError: the file already has a room or a log, a key exists, or the origin or a named key cannot be used.
    """
    # (1) Everything that can be refused is checked before anything is written.
    path = config or Path(FILE_NAME)
    before = read_input(path, limit=_MAX_SETTINGS) if path.exists() else b""
    for name in sorted(_tables_of(path, before) & {"operations", "log"}):
        raise UsageError(
            f"{path} has the table [{name}] already",
            why="a settings file is for one room and one log, and is never overwritten",
            remedy="use another folder for the operations room",
        )
    try:
        check_name(new.origin)
    except ValueError as error:
        raise UsageError(f"{new.domain!r:.60} cannot be the domain of a log", why=str(error)) from error
    if new.key:
        check_key(new.key)
    if new.log_key:
        _public(new.log_key)
    folder = path.parent / FOLDER
    log_key = new.log_key or folder / "log.pem"
    found = FoundedRoom(path, folder / "identity.pub", folder / "log.pub")
    own_key = folder / "identity.pem"
    for made in (own_key, found.public_key, found.log_public_key, *(() if new.log_key else (log_key,))):
        if made.exists():
            raise UsageError(f"{made} already exists", why="a key is never overwritten", remedy="use another folder")

    # (2) The keys, and their public parts for the enrolment.
    make_folder(folder)
    folder.chmod(0o700)
    private = generate_private_key(SECP256R1())
    write_new(own_key, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    if new.log_key is None:
        create_log_key(log_key)
    write_new(found.public_key, _public(own_key), mode=0o644)
    write_new(found.log_public_key, _public(log_key), mode=0o644)

    # (3) The settings, last: a room whose keys are missing is not found by other commands.
    room = {"identity": str(new.identity), "state": FOLDER, "listen": new.listen}
    room |= {"url": new.url} if new.url else {}
    room |= {"key": new.key} if new.key else {}
    absolute, base = log_key.absolute(), path.parent.absolute()
    place = absolute.relative_to(base) if absolute.is_relative_to(base) else absolute
    log = {"folder": f"{FOLDER}/log", "origin": new.origin, "key": f"file:{place}"}
    text = _table("operations", room) + _table("operations.logs", {str(new.identity): f"{FOLDER}/log"})
    text += _table("log", log)
    write_result(path, before.rstrip() + b"\n" * bool(before.strip()) + text.encode())
    return found


def _tables_of(path: Path, text: bytes) -> set[str]:
    try:
        return set(parse_toml(text))
    except ValueError as error:
        raise UsageError(f"{path} cannot be read", why=f"it is not TOML: {error}", remedy="correct the file") from error


def _public(path: Path) -> bytes:
    """Return the public part of a private key in a PEM file.

    Raises:
        UsageError: the file does not have an unencrypted private key.
    """
    try:
        key = load_pem_private_key(read_input(path, limit=_MAX_PEM), password=None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is not an unencrypted private key in PEM", why=str(error)) from error
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _table(name: str, values: dict[str, str]) -> str:
    # Strings in TOML are written as in JSON.
    return "\n".join(
        [
            "",
            f"[{name}]",
            *(f"{json.dumps(key) if '-' in key else key} = {json.dumps(value)}" for key, value in values.items()),
            "",
        ]
    )
