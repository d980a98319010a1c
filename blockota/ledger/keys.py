"""The Ed25519 key of a log, by URI.

The URI names the place where the key is stored:

==============  ==============================================================================================
``file:PATH``   a file with an unencrypted private key in PEM (PKCS #8), readable by its owner only
``env:NAME``    an environment variable with the private key, 64 hexadecimal digits (RFC 8032)
``pkcs11:…``    a key in a PKCS #11 token (RFC 7512; see `blockota.pkcs11_keys`)
==============  ==============================================================================================
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from blockota.errors import Action, RefusedError, UsageError
from blockota.files import home_path, read_input, write_new
from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.keys import open_token_key

_MAX_FILE_SIZE = 1 << 14
_SECRET = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,79}", re.ASCII)
_OTHERS = 0o077
"""The permission bits of group and others."""


def open_log_key(uri: str, origin: str, *, environment: Mapping[str, str]) -> NoteSigner:
    """Return the key of a log.

    Args:
        uri: the key's URI, as described in this module.
        origin: the log's origin, which is the name of its key.
        environment: the environment variables for ``env:NAME``.

    Raises:
        UsageError: the URI or the origin is not valid, or the key cannot be read.
        RefusedError: other users can read the key's file.
    """
    kind, _, place = uri.partition(":")
    sign: Callable[[bytes], bytes]
    if kind == "pkcs11":
        token_key = open_token_key(uri, environment=environment, curve="Ed25519")
        public, sign = token_key.public_key, token_key.sign_message
    else:
        private = _private_key(kind, place, environment)
        public, sign = private.public_key().public_bytes_raw(), private.sign

    try:
        return NoteSigner(VerifierKey(origin, NoteAlgorithm.ED25519, public), sign)
    except ValueError as error:
        raise UsageError("the origin of the log cannot be used", why=str(error)) from error


def _private_key(kind: str, place: str, environment: Mapping[str, str]) -> Ed25519PrivateKey:
    if kind == "file" and place:
        path = home_path(place)
        private = read_key_file(path, name="the key of a log", action=Action.MAKE_LOG_KEY)
        if not isinstance(private, Ed25519PrivateKey):
            raise _not_a_key(f"the file {path}")
        return private

    if kind == "env" and _VARIABLE.fullmatch(place) and not _SECRET.fullmatch(place):
        return _key_in_environment(place, environment)
    raise UsageError(
        "the key of the log cannot be found",
        why="a log's key is named as file:PATH, env:NAME or pkcs11:…",
        remedy="name the place of the key, not the key itself",
    )


def create_log_key(path: Path) -> None:
    """Make a key, and write it to a new file that only its owner can read.

    Raises:
        UsageError: the file exists, or its folder cannot be written.
    """
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, pem, mode=0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{path} already exists", why="a key is never overwritten", remedy="name another file, or use this key"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error)) from error


def read_key_file(path: Path, *, name: str, action: Action | None = None) -> PrivateKeyTypes:
    """Return the unencrypted private key in a PEM file.

    Args:
        path: the file.
        name: the name of the key in errors, such as ``the key of a log``.
        action: the command that generates the key.

    Raises:
        UsageError: the file does not exist, or does not have an unencrypted private key.
        RefusedError: other users can read the file.
    """
    if not path.exists():
        raise UsageError(
            f"{name} {path} cannot be read",
            why="the file does not exist",
            remedy="correct the path, or make a new key",
            action=action,
        )

    pem = read_input(path, limit=_MAX_FILE_SIZE)
    if sys.platform != "win32" and path.stat().st_mode & _OTHERS:  # Windows has other permissions
        raise RefusedError(
            f"{name} {path} is not used",
            why="other users of this computer may read the file, and could sign with the key",
            remedy=f"run `chmod 600 {path}`, or make a new key if others have access to this computer",
        )

    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: the key is encrypted
        raise UsageError(
            f"the file {path} is not {name}", why="it is not an unencrypted private key in PEM (PKCS #8)"
        ) from error


def _key_in_environment(name: str, environment: Mapping[str, str]) -> Ed25519PrivateKey:
    secret = environment.get(name)
    if secret is None:
        why = "the environment has no variable of this name"
        raise UsageError(f"env:{name} is not set", why=why, remedy="export the variable")
    if not _SECRET.fullmatch(secret.strip()):
        raise _not_a_key(f"env:{name}")
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret.strip()))


def _not_a_key(place: str) -> UsageError:
    return UsageError(
        f"{place} is not the key of a log",
        why="an unencrypted Ed25519 key is required, in PEM in a file or as 64 hexadecimal digits in a variable",
    )
