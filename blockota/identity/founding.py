"""Set up a service: create the keys of its identity, and add its tables to a settings file.

Nothing is overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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

from blockota.certificates import make_certificates
from blockota.errors import UsageError
from blockota.files import make_folder, read_input, write_new, write_result
from blockota.formats.notes import check_name
from blockota.keys import check_key
from blockota.ledger.keys import create_log_key
from blockota.settings import FILE_NAME
from blockota.settings_table import parse_toml

_MAX_SETTINGS, _MAX_PEM = 1 << 16, 1 << 14
_SIGNERS = frozenset({"gateway", "validator"})
"""The kinds of services that sign requests or documents with the key of their identity. The others sign their log with
its own key, and transactions with their account. The registry requires a public key of their identity too. Its private
key is not kept, because nothing would use it."""
_HINTS = {
    "validator": """
# [validator.cloud]                  # where readings are kept; see docs/access.md
# identity = "UUID"
# url = "https://10.64.0.200:8470"
# authority = "cloud-authority.pem"
"""
}
"""Tables that the operator completes, as comments of the settings file, by the kind of the service."""


@dataclass(frozen=True)
class NewService:
    """The options for setting up a new service.

    Attributes:
        kind: kind of the service, such as ``gateway``, which is also the name of the service's table and folder.
        identity: UUID of the service's identity.
        domain: the first part of the log's origin.
        key: URI of the account that anchors the log; None if the account does not exist yet.
        identity_key: existing PEM file with the identity's private key; None to create a key.
        log_key: existing PEM file with the log's private key; None to create a key.
    """

    kind: str
    identity: UUID
    domain: str
    key: str | None = None
    identity_key: Path | None = None
    log_key: Path | None = None

    @property
    def is_signer(self) -> bool:
        """Whether the service signs with the key of its identity."""
        return self.kind in _SIGNERS

    @property
    def origin(self) -> str:
        """The origin of the log."""
        return f"{self.domain}/{self.kind}/{self.identity.hex}"


@dataclass(frozen=True)
class FoundedService:
    """The files of a new service.

    Attributes:
        folder: its folder.
        settings: the settings file.
        public_key: PEM file with the identity's public key.
        log_public_key: PEM file with the log's public key.
    """

    folder: Path
    settings: Path
    public_key: Path
    log_public_key: Path


class ServiceFounding:
    """Sets up a service in three steps: check the options, create the keys, and write the settings.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder.
        new: the service.

    Raises:
        UsageError: the file already has such a service or a log, a key exists, or the origin or a key cannot be used.
    """

    def __init__(self, config: Path | None, new: NewService) -> None:
        self._new, self._path = new, config or Path(FILE_NAME)
        self._before = read_input(self._path, limit=_MAX_SETTINGS) if self._path.exists() else b""

        # (1) The settings file has neither such a service nor a log.
        try:
            tables = parse_toml(self._before)
        except ValueError as error:
            why = f"it is not TOML: {error}"
            raise UsageError(f"{self._path} cannot be read", why=why, remedy="correct the file") from error
        for name in sorted(tables.keys() & {new.kind, "log"}):
            raise UsageError(
                f"{self._path} has the table [{name}] already",
                why=f"a settings file is for one {new.kind} and one log, and is never overwritten",
                remedy=f"use another folder for another {new.kind}",
            )

        # (2) The name of the log and the given keys can be used.
        try:
            check_name(new.origin)
        except ValueError as error:
            raise UsageError(f"{new.domain!r:.60} cannot be the domain of a log", why=str(error)) from error
        if new.key:
            check_key(new.key)
        for given in filter(None, (new.identity_key, new.log_key)):
            _public(given)

        # (3) No file is overwritten.
        self._folder = folder = self._path.parent / new.kind
        self._identity_key, self._log_key = (
            new.identity_key or folder / "identity.pem",
            new.log_key or folder / "log.pem",
        )
        self.found = FoundedService(folder, self._path, folder / "identity.pub", folder / "log.pub")
        made = [self._identity_key] * (new.is_signer and new.identity_key is None)
        made += [self._log_key] * (new.log_key is None)
        for path in (self.found.public_key, self.found.log_public_key, *made):
            if path.exists():
                raise UsageError(
                    f"{path} already exists", why="a key is never overwritten", remedy="use the existing key"
                )

    def make_keys(self) -> None:
        """Create the keys, and write their public parts to files for the enrolment."""
        new = self._new
        make_folder(self._folder)
        # The folder contains private keys.
        self._folder.chmod(0o700)

        if new.identity_key is None:
            private = generate_private_key(SECP256R1())
            public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            if new.is_signer:
                pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                write_new(self._identity_key, pem, mode=0o600)
        else:
            public = _public(new.identity_key)

        if new.log_key is None:
            create_log_key(self._log_key)
        write_new(self.found.public_key, public, mode=0o644)
        write_new(self.found.log_public_key, _public(self._log_key), mode=0o644)

    def write_settings(self, values: Mapping[str, str], tables: Iterable[str] = ()) -> None:
        """Add the tables to the settings file.

        The settings are written after the keys, so that no command finds a service without keys.

        Args:
            values: settings for the service's table, in addition to the settings of the keys.
            tables: further tables as text.
        """
        new = self._new
        places = [f"file:{beside(one, self._path.parent)}" for one in (self._identity_key, self._log_key)]
        own = {"identity": str(new.identity), "state": new.kind}
        own |= {"identity_key": places[0]} if new.is_signer else {}
        own |= {"key": new.key} if new.key else {}

        log = {"folder": f"{new.kind}/log", "origin": new.origin, "key": places[1]}
        # The former settings stay as they are; the tables are added after them.
        text = "".join([toml_table(new.kind, own | dict(values)), *tables, toml_table("log", log)])
        write_result(self._path, self._before.rstrip() + b"\n" * bool(self._before.strip()) + text.encode())


def found_receiver(
    config: Path | None, new: NewService, values: Mapping[str, str], *, hosts: Sequence[str], now: datetime
) -> tuple[FoundedService, Path | None]:
    """Create the keys of a service that receives requests, and add the service's tables to the settings file.

    Args:
        config: the settings file; None means ``blockota.toml`` in the current folder.
        new: the service.
        values: settings for the service's table, in addition to the settings of the keys.
        hosts: names and addresses for which a certificate is created; if empty, the service receives plain HTTP.
        now: the time from which the certificate is valid.

    Returns:
        The files of the service, and the authority's certificate, which the senders need. The certificate is None if
        none was created.

    Raises:
        UsageError: the file already has such a service or a log, a key exists, or the origin or a key cannot be used.
    """
    founding, hints = ServiceFounding(config, new), [_HINTS[new.kind]] if new.kind in _HINTS else []
    founding.make_keys()
    folder = founding.found.folder
    if not hosts:
        founding.write_settings(values, hints)
        return founding.found, None

    for name, content in make_certificates(f"BlockOTA {new.kind} {new.identity}", hosts, now=now).items():
        write_new(folder / name, content, mode=0o600)
    certificate = {"certificate": f"{new.kind}/server.pem", "private_key": f"{new.kind}/server.key"}
    founding.write_settings({**values, **certificate}, hints)
    return founding.found, folder / "authority.pem"


def toml_table(name: str, values: Mapping[str, str]) -> str:
    """Return a TOML table as text, with strings in the notation of JSON, which is also valid in TOML."""
    return "\n".join(["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])


def beside(path: Path, folder: Path) -> str:
    """Return a path as text for the settings file, relative to the file's folder if the path is in this folder."""
    absolute, base = path.absolute(), folder.absolute()
    return str(absolute.relative_to(base)) if absolute.is_relative_to(base) else str(absolute)


def _public(path: Path) -> bytes:
    """Return the public key of a private key in a PEM file.

    Raises:
        UsageError: the file cannot be read, or does not contain a private key of the given kind.
    """
    try:
        key = load_pem_private_key(read_input(path, limit=_MAX_PEM), password=None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is not an unencrypted private key in PEM", why=str(error)) from error
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
