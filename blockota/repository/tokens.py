"""Bearer tokens of gateways: the file has their names and SHA-256, so that whoever reads it cannot use them.

A line is ``NAME SHA256``, as `blockota repository token` prints it; a line that begins with ``#`` is a remark. Tokens
are random and long, so a plain hash keeps them (RFC 6750).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from blockota.errors import UsageError
from blockota.files import read_input

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\s+([0-9a-f]{64})", re.ASCII)
_MAX_FILE_SIZE = 1 << 20
_RANDOM_BYTES = 32


class Tokens:
    """The tokens that are accepted.

    Args:
        path: the file.

    Attributes:
        trouble: why the file could not be read again, where it could not, with the file's name.
        why: the same without it, for everybody.

    Raises:
        UsageError: it cannot be read, or has a line that is none.
    """

    def __init__(self, path: Path) -> None:
        """Read the file."""
        self._path = path
        self._names = read_tokens(path)
        self.trouble = self.why = ""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._names)

    @property
    def are_void(self) -> bool:
        """Whether nobody is let in because the file cannot be read."""
        return bool(self.trouble) and not self._names

    def reload(self) -> None:
        """Read the file again; where that fails twice, since it may just be written, no token counts any more.

        A line may have been removed from it that must not count.
        """
        try:
            self._names, self.trouble, self.why = read_tokens(self._path), "", ""
        except UsageError as error:
            if self.trouble:
                self._names = {}
            self.trouble, self.why = str(error), error.why

    def holder(self, authorization: str) -> str | None:
        """Whose token an ``Authorization`` header has; None where it has none that is accepted.

        It takes the same time whichever it is.
        """
        kind, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode()).digest()
        found = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return found[0] if found and kind.lower() == "bearer" else None


def new_token(name: str) -> tuple[str, str]:
    """A random token, and the line of the file that accepts it.

    Raises:
        UsageError: the name cannot stand in the file.
    """
    token = secrets.token_urlsafe(_RANDOM_BYTES)
    line = f"{name} {hashlib.sha256(token.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        why = "a name has 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or digit"
        raise UsageError(f"{name!r} cannot name a token", why=why)
    return token, line


def read_tokens(path: Path) -> dict[bytes, str]:
    """The names of a file's tokens, by their SHA-256.

    Raises:
        UsageError: it cannot be read, or has a line that is none.
    """
    names: dict[bytes, str] = {}
    for number, line in enumerate(read_input(path, limit=_MAX_FILE_SIZE).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UsageError(
                f"{path} cannot be used",
                why=f"line {number} is no NAME and SHA-256",
                remedy="make its lines with `blockota repository token NAME`",
            )
        names[bytes.fromhex(match[2])] = match[1]
    return names
