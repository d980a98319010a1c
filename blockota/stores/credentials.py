"""Bearer tokens for sources: the settings say where each is kept, and it is read when its source is to be asked.

A token belongs to one source, by scheme, host, port and path. It is in no address, is never printed, and goes over TLS
or to this machine alone; `connection` shows it to nobody to whom the source redirects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from blockota.errors import UsageError
from blockota.files import read_input
from blockota.stores.source import TOKEN, Origin, Source

_MAX_FILE_SIZE = 1 << 13
_SHAPE = "which is one word of letters, digits and -._~+/, as `blockota repository token` makes it"


@dataclass(frozen=True)
class Credentials:
    """Where the tokens of sources are kept.

    Attributes:
        references: ``env:NAME`` or ``file:PATH``, by the source's URL.
        environment: where a NAME is looked up.

    Raises:
        UsageError: one of the URLs is no source's, or no token may go there.
    """

    references: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the addresses; no token is read."""
        for url in self.references:
            Source(url, token="-")  # noqa: S106 - no secret: what a token may not be sent to is refused with any

    def source(self, url: str, *, public_only: bool = False) -> Source:
        """A source, with its token where there is one.

        Args:
            url: its URL.
            public_only: as of `Source`.

        Raises:
            UsageError: the URL names none, or its token cannot be read.
        """
        plain = Source(url, public_only=public_only)
        for named, reference in self.references.items():
            if _place(Source(named)) == _place(plain):
                return replace(plain, token=self._token(named, reference))
        return plain

    def _token(self, url: str, reference: str) -> str:
        kind, _, place = reference.partition(":")
        token = _read(Path(place), url) if kind == "file" else self.environment.get(place, "").strip()
        if not token and kind == "env":
            raise _unreadable(url, f"its token is to be in the environment variable {place}, which is not set")
        if not TOKEN.fullmatch(token):
            raise _unreadable(url, f"what {reference} holds is no token, {_SHAPE}")
        return token


def _read(path: Path, url: str) -> str:
    try:
        return read_input(path, limit=_MAX_FILE_SIZE).decode("ascii", "replace").strip()
    except UsageError as error:
        raise _unreadable(url, f"its token is to be in a file, and {error.what} ({error.why})") from error


def _unreadable(url: str, why: str) -> UsageError:
    return UsageError(f"the token for {url} cannot be read", why=why, remedy="correct [tokens] in blockota.toml")


def _place(source: Source) -> tuple[Origin, str]:
    """Where a source is; some name the path of the protocol as well, which the requests bring themselves."""
    return source.origin, source.path.removesuffix("/ipfs")


NOBODY = Credentials()
"""No source wants a token."""
