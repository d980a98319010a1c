"""What a fetch knows of a source: its URL, what it may cost, and what became of it."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from blockota.errors import StoreError, UsageError
from blockota.files import read_input

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}={0,2}", re.ASCII)
"""What a bearer token looks like (RFC 6750 section 2.1)."""
_PORTS = {"http": 80, "https": 443}
_USER = re.compile(r"//[^/?#]*@")


@dataclass(frozen=True)
class Limits:
    """What a source may cost before it is left out; times are in seconds.

    Attributes:
        connect: to look up its name, connect and agree on TLS.
        silence: without a byte.
        grace: in which it may be slower than `slowest`.
        slowest: bytes a second, on average over one answer, behind the grace.
        duplicate_after: until another source is asked for the same block as well.
        joining: until other sources join those that bring too little together.
        total: for all that one client asks for; to look up its name and to connect may add to it.
        redirects: hops of one request.
        attempts: broken connections in a row without a new block.
    """

    connect: float = 10.0
    silence: float = 20.0
    grace: float = 20.0
    slowest: int = 4096
    duplicate_after: float = 2.0
    joining: float = 5.0
    total: float = math.inf
    redirects: int = 3
    attempts: int = 3


class Verdict(StrEnum):
    """What became of a source in a fetch."""

    UNUSED = "unused"
    SERVED = "served"
    LATE = "late"
    LIED = "lied"
    STALLED = "stalled"
    REFUSED = "refused"
    GONE = "gone"


BAD = frozenset({Verdict.LIED, Verdict.STALLED, Verdict.REFUSED, Verdict.GONE})
"""Verdicts that leave a source out; one that was only late may be better another time."""


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port, to which a connection leads."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """What stands in a Host header: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Source:
    """A trustless gateway: somebody's repository, a public gateway, a Kubo node's.

    Attributes:
        url: ``https://host[:port][/path]`` or ``http://…``, in front of ``/ipfs/…``.
        token: a bearer token, shown to this source only, over TLS or to this machine.
        tls: whom to believe certificates; the system's authorities without it.
        public_only: whether it may lie in the public internet alone, as a stranger's URL on the chain may.
    """

    url: str
    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    public_only: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no URL of a gateway.

        Raises:
            UsageError: it has another scheme, no host, a user, a query or a fragment, or no token may go there.
        """
        parts = split_url(self.url)
        if parts is None or "?" in self.url or "#" in self.url:
            raise UsageError(
                f"{_USER.sub('//…@', self.url)!r} names no gateway",
                why="an address like https://host or https://host/path is needed, without user, query and fragment",
                remedy="check the address",
            )
        if self.token:
            self._check_token()

    @property
    def origin(self) -> Origin:
        """Where to connect."""
        return origin_of(urlsplit(self.url))

    @property
    def path(self) -> str:
        """What comes before ``/ipfs/…``."""
        return urlsplit(self.url).path.rstrip("/")

    def _check_token(self) -> None:
        if not TOKEN.fullmatch(self.token):
            raise UsageError("the bearer token cannot be used", why="it has characters that no token may have")
        if self.origin.scheme == "http" and not is_this_machine(self.origin.host):
            raise UsageError(
                f"no token can be sent to {self.url}",
                why="everybody on the way could read it",
                remedy="use the address that begins with https://",
            )


@dataclass(frozen=True)
class SourceReport:
    """What one source did in a fetch.

    Attributes:
        url: the source.
        size: bytes of good blocks that came from it.
        seconds: time for which it had something to do.
        verdict: what became of it.
        reason: why, where it was left out.
    """

    url: str
    size: int
    seconds: float
    verdict: Verdict
    reason: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether it was left out."""
        return self.verdict in BAD

    def __str__(self) -> str:
        """One line for people: ``https://host lied: …``."""
        return f"{self.url} {self.verdict}" + (f": {self.reason}" if self.reason else "")


class SourceError(StoreError):
    """A source did not give what was asked for.

    Args:
        source: its URL.
        verdict: what it is called for that.
        why: the reason, a clause.
        again: whether it is worth asking it again, and after how many seconds.
    """

    def __init__(self, source: str, verdict: Verdict, *, why: str, again: float | None = None) -> None:
        """Keep the parts beside the sentence."""
        self.verdict, self.again = verdict, again
        super().__init__(f"{source} cannot be used", why=why, remedy="name another source")


def split_url(url: str) -> SplitResult | None:
    """The parts of an absolute http or https URL without a user, or nothing where it is none."""
    try:
        parts = urlsplit(url)
        if parts.scheme in _PORTS and parts.hostname and parts.username is None and parts.port != 0:
            parts.hostname.encode("idna")
            return parts if url.isascii() and url.isprintable() and " " not in url else None
    except ValueError:
        pass
    return None


def origin_of(parts: SplitResult) -> Origin:
    """Where the parts of a URL lead."""
    return Origin(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])


def is_this_machine(host: str) -> bool:
    """Whether a host, as a URL has it, is this machine by its own word: ``localhost``, or a loopback address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


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


NO_CREDENTIALS = Credentials()
"""No source wants a token."""
