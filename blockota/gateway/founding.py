"""Set up a gateway in the folder of a settings file: make its keys, and add its tables to the file.

Nothing is overwritten.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
from blockota.ledger.keys import create_log_key
from blockota.messaging.mosquitto import write_broker_files
from blockota.settings import FILE_NAME

FOLDER = "gateway"
"""The folder of a gateway's state and keys, beside the settings file."""
_MAX_SETTINGS, _MAX_PEM = 1 << 16, 1 << 14
_FACES = """
# [gateway.groups.default]           # how devices are updated; see docs/gateway.md
# policy = "ordered"                 # only by orders; "auto" installs the newest release at once
# window = ["22:00-04:00"]           # in UTC
"""


@dataclass(frozen=True)
class NewGateway:
    """The choices for a new gateway.

    Attributes:
        identity: its UUID.
        domain: the first part of the log's origin.
        key: URI of the account that anchors the log; None if there is none yet.
        identity_key: existing PEM file with the identity's private key; None to make one.
        log_key: existing PEM file with the log's private key; None to make one.
        listen: address of ``/health``, ``/metrics`` and the log.
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
    def origin(self) -> str:
        """The origin of the log."""
        return f"{self.domain}/gateway/{self.identity.hex}"


@dataclass(frozen=True)
class FoundedGateway:
    """The files of a new gateway.

    Attributes:
        folder: its folder.
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
    """Make the keys of a gateway, and add its tables to the settings file.

    Raises:
        UsageError: the file already has a gateway or a log, a key exists, or the origin or a key cannot be used.
    """
    # (1) Everything that can be refused is checked before anything is written.
    path = config or Path(FILE_NAME)
    before = read_input(path, limit=_MAX_SETTINGS) if path.exists() else b""
    for name in _tables_of(path, before) & {"gateway", "log"}:
        raise UsageError(
            f"{path} has the table [{name}] already",
            why="a settings file is for one gateway and one log, and is never overwritten",
            remedy="use another folder for another gateway",
        )
    try:
        check_name(new.origin)
    except ValueError as error:
        raise UsageError(f"{new.domain!r:.60} cannot be the domain of a log", why=str(error)) from error
    folder = path.parent / FOLDER
    identity_key, log_key = new.identity_key or folder / "identity.pem", new.log_key or folder / "log.pem"
    found = FoundedGateway(folder, path, folder / "identity.pub", folder / "log.pub")
    for made in (found.public_key, found.log_public_key, *_made(new, identity_key, log_key)):
        if made.exists():
            raise UsageError(f"{made} already exists", why="a key is never overwritten", remedy="name the existing key")

    # (2) The keys, and their public parts for the enrolment.
    make_folder(folder)
    folder.chmod(0o700)
    if new.identity_key is None:
        private = generate_private_key(SECP256R1())
        write_new(identity_key, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    if new.log_key is None:
        create_log_key(log_key)
    write_new(found.public_key, _public(identity_key), mode=0o644)
    write_new(found.log_public_key, _public(log_key), mode=0o644)

    # (3) The files of the message broker.
    if new.mqtt:
        passwords = write_broker_files(folder / "mqtt", (), hosts=[new.mqtt, "localhost"])
        found = replace(found, broker=folder / "mqtt" / "mosquitto.conf", passwords=passwords)

    # (4) The settings, last: a gateway whose keys are missing is not found by other commands.
    places = [f"file:{_beside(one, path.parent)}" for one in (identity_key, log_key)]
    gateway = {"identity": str(new.identity), "state": FOLDER, "identity_key": places[0]}
    gateway |= {"key": new.key} if new.key else {}
    log = {"folder": f"{FOLDER}/log", "origin": new.origin, "key": places[1]}
    text = _table("gateway", gateway | {"listen": new.listen}) + _FACES
    if new.mqtt:
        text += _table("gateway.mqtt", {"broker": "localhost:8883", "images": f"https://{new.mqtt}:8443/images/"})
    text += _table("log", log)
    write_result(path, before.rstrip() + b"\n" * bool(before.strip()) + text.encode())
    return found


def _tables_of(path: Path, text: bytes) -> set[str]:
    try:
        return set(tomllib.loads(text.decode("utf-8-sig")))
    except ValueError as error:
        raise UsageError(f"{path} cannot be read", why=f"it is not TOML: {error}", remedy="correct the file") from error


def _made(new: NewGateway, identity_key: Path, log_key: Path) -> list[Path]:
    return [path for path, given in ((identity_key, new.identity_key), (log_key, new.log_key)) if given is None]


def _public(path: Path) -> bytes:
    """Return the public part of a private key in a PEM file.

    Raises:
        UsageError: the file cannot be read, or does not have a private key of this kind.
    """
    try:
        key = load_pem_private_key(read_input(path, limit=_MAX_PEM), password=None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is not an unencrypted private key in PEM", why=str(error)) from error
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _table(name: str, values: dict[str, str]) -> str:
    # Strings in TOML are written as in JSON.
    return "\n".join(["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])


def _beside(path: Path, folder: Path) -> str:
    """Return a path in the form for the settings. It is relative to their folder if it lies in this folder."""
    absolute, base = path.absolute(), folder.absolute()
    return str(absolute.relative_to(base)) if absolute.is_relative_to(base) else str(absolute)
