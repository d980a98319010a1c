"""Bearer tokens of clients (RFC 6750). The token file lists the name and the SHA-256 of each token, not the token.

A line of the token file is ``NAME SHA256``; a line that begins with ``#`` is a comment. A plain hash, without salt or
many rounds, is sufficient, because a token has 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from blockota.errors import Action, UsageError
from blockota.files import read_input

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\s+([0-9a-f]{64})", re.ASCII)
_MAX_FILE_SIZE = 1 << 20
_RANDOM_BYTES = 32


class Tokens:
    """The accepted tokens, read from a file.

    Attributes:
        trouble: the reason why the last read of the file failed, with the file's name; empty after a successful read.
        why: the same reason without the file's name, for responses to clients.

    Raises:
        UsageError: the file cannot be read, or a line is malformed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = read_tokens(path)
        self.trouble = self.why = ""

    @property
    def count(self) -> int:
        """The number of accepted tokens."""
        return len(self._names)

    @property
    def are_void(self) -> bool:
        """Whether all tokens are refused because the file cannot be read."""
        return bool(self.trouble) and not self._names

    def reload(self) -> None:
        """Read the token file again. After two failures in a row, no token is accepted until the file can be read.

        The first failure may be caused by a half-written file, so the old tokens stay valid. After a second failure,
        the old tokens are refused, because they may have been removed from the file.
        """
        try:
            self._names, self.trouble, self.why = read_tokens(self._path), "", ""
        except UsageError as error:
            if self.trouble:  # the second failure in a row
                self._names = {}
            self.trouble, self.why = str(error), error.why

    def holder(self, authorization: str) -> str | None:
        """Return the name of the token in an ``Authorization`` header; None if the token is not accepted."""
        kind, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode()).digest()
        # Compare with all tokens in constant time, so that the duration reveals nothing about the tokens.
        found = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return found[0] if found and kind.lower() == "bearer" else None


def new_token(name: str) -> tuple[str, str]:
    """Generate a token, and its line for the token file of a repository.

    Raises:
        UsageError: the name is malformed.
    """
    token = secrets.token_urlsafe(_RANDOM_BYTES)
    line = f"{name} {hashlib.sha256(token.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        why = "a name has 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or digit"
        raise UsageError(f"{name!r} cannot name a token", why=why)
    return token, line


def read_tokens(path: Path) -> dict[bytes, str]:
    """Read a token file. Returns the tokens' names by SHA-256.

    Raises:
        UsageError: the file cannot be read, or a line is malformed.
    """
    names: dict[bytes, str] = {}
    for number, line in enumerate(read_input(path, limit=_MAX_FILE_SIZE).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue

        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UsageError(
                f"{path} cannot be used",
                why=f"line {number} is not NAME SHA256",
                remedy="generate the lines of this file",
                action=Action.MAKE_TOKEN,
            )
        names[bytes.fromhex(match[2])] = match[1]
    return names
