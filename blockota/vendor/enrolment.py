"""Reads the files with the public keys of identities, for their enrolment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from blockota.errors import ProposalError, UsageError
from blockota.files import read_input
from blockota.formats.notes import NoteAlgorithm, VerifierKey
from blockota.model.identity import Enrolment, Keys, identity_key, log_key_of, tunnel_key_of
from blockota.strict_json import fault, load_object, mappings

_Key = TypeVar("_Key")
_KEY_SIZE, _LIST_SIZE = 1 << 14, 1 << 22
NONE = "none"
"""The word that removes a key or an account. It is given in place of a new value."""


@dataclass(frozen=True)
class KeyNames:
    """The account and keys of an identity, as text or key files from the operator.

    If an attribute is None, the identity keeps its current value.

    Attributes:
        key: PEM file of the identity's public key.
        account: address, or `NONE`.
        log_key: file with the public key of the log, as PEM or as a C2SP verifier key, or `NONE`.
        tunnel_key: X25519 key in Base64, or `NONE`.
    """

    key: Path | None = None
    account: str | None = None
    log_key: str | None = None
    tunnel_key: str | None = None

    def read(self, kept: Keys | None = None) -> Keys:
        """Read the keys.

        If an attribute is None, its value comes from `kept`: the identity's current account and keys.

        Raises:
            UsageError: a file cannot be read, is not a key of the required kind, or the identity's key is missing.
        """
        if kept is None:
            if self.key is None:
                raise UsageError("the identity's public key is missing", why="its rights depend on this key")
            kept = Keys(_read_key(self.key, identity_key))
        elif self.key is not None:
            kept = replace(kept, key=_read_key(self.key, identity_key))

        if self.account is not None:
            kept = replace(kept, account=None if self.account == NONE else self.account)
        if self.log_key is not None:
            found = None if self.log_key == NONE else _read_key(Path(self.log_key), _read_log_key)
            kept = replace(kept, log_key=found)
        if self.tunnel_key is not None:
            kept = replace(kept, tunnel_key=None if self.tunnel_key == NONE else tunnel_key_of(self.tunnel_key))
        return kept


def read_enrolments(path: Path) -> list[Enrolment]:
    """Read a list of identities in the format of ``identity list --json``.

    Raises:
        UsageError: the file cannot be read, has another format, or has a key that cannot be enrolled.
    """
    raw = read_input(path, limit=_LIST_SIZE)
    found: list[Enrolment] = []
    with _naming(path):
        try:
            found.extend(Enrolment.from_fields(fields) for fields in mappings(load_object(raw), "identities"))
        except ProposalError as error:
            raise UsageError("the file is not a list of identities", why=error.why) from error
        except (KeyError, TypeError, ValueError) as error:
            which = f"identity {len(found) + 1} of the list: {fault(error)}"
            raise UsageError("the file is not a list of identities", why=which) from error

    if not found:
        raise UsageError(f"{path} has no identities", why="its list is empty")
    return found


def _read_key(path: Path, read: Callable[[str], _Key]) -> _Key:
    raw = read_input(path, limit=_KEY_SIZE)
    with _naming(path):
        try:
            return read(raw.decode())
        except UnicodeDecodeError as error:
            remedy = "convert it, for example with `openssl pkey -pubin -inform DER`"
            raise UsageError("the file is not text", why="a key is read from a PEM file", remedy=remedy) from error


def _read_log_key(text: str) -> bytes:
    if "-----BEGIN" in text:
        return log_key_of(text)
    try:
        key = VerifierKey.parse(text.strip())
    except ValueError as error:
        raise UsageError("the file is not the key of a log", why=str(error), remedy="give a PEM file") from error
    if key.algorithm is not NoteAlgorithm.ED25519:
        raise UsageError("the file is not the key of a log", why="the file has the key of a witness")
    return key.key


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the file's path to errors about the content of the file."""
    try:
        yield
    except UsageError as error:
        raise error.revised(what=f"{path}: {error.what}") from error
