"""The sources of a fetch, with their URLs, limits, bearer tokens and verdicts."""

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
from blockota.url_secrets import shown_url

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}={0,2}", re.ASCII)
"""The syntax of a bearer token (RFC 6750, section 2.1)."""
_PORTS = {"http": 80, "https": 443}
_MAX_TOKEN_FILE = 1 << 13


@dataclass(frozen=True)
class Limits:
    """The time and size limits of the requests to a source. Times are in seconds.

    Attributes:
        connect: maximum time to connect and negotiate TLS.
        silence: maximum time without a received byte.
        grace: time at the start of a response before the limit `slowest` applies.
        slowest: the minimum mean speed of a response after `grace`, in bytes per second.
        duplicate_after: time after which another source is also asked for the same block.
        joining: time for which the active sources together may be too slow before more sources are activated.
        total: maximum time for all requests of one client, without the time for name lookups and for opening
            connections.
        redirects: the maximum number of redirects of one request.
        attempts: the maximum number of consecutive failures without a new block.
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
    """The outcome of a source in a fetch."""

    UNUSED = "unused"
    SERVED = "served"
    LATE = "late"
    WRONG = "served wrong data"
    UNUSABLE = "unusable"
    STALLED = "stalled"
    REFUSED = "refused"
    ABSENT = "does not have it"
    FAILED = "failed"


BAD = frozenset({Verdict.WRONG, Verdict.UNUSABLE, Verdict.STALLED, Verdict.REFUSED, Verdict.ABSENT, Verdict.FAILED})
"""Verdicts after which a source is not asked again. `LATE` is not among them: the source may be faster next time."""


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a URL (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host header: without the scheme's default port (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Source:
    """A trustless gateway: a broker's repository, a public gateway, or the gateway of a Kubo node.

    Attributes:
        url: ``https://host[:port][/path]`` or ``http://…``, the part before ``/ipfs/…``.
        token: a bearer token, sent to this source only, over TLS or to this machine.
        tls: the accepted certificate authorities; by default, the certificate authorities of the system.
        public_only: whether the client connects to public addresses only; True for URLs announced on a public chain.

    Raises:
        UsageError: the URL is not an http or https URL with a host, the URL has a user, a query or a fragment, or the
            token may not be sent to this URL.
    """

    url: str
    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    public_only: bool = False

    def __post_init__(self) -> None:
        """Check the URL and the token."""
        parts = split_url(self.url)
        if parts is None or "?" in self.url or "#" in self.url:
            raise UsageError(
                f"{shown_url(self.url)!r} is not the URL of a gateway",
                why=_fault_of(self.url),
                remedy="write a URL like https://host or https://host/path",
            )

        if not self.token:
            return
        if not TOKEN.fullmatch(self.token):
            raise UsageError("the bearer token cannot be used", why="the token contains forbidden characters")
        if self.origin.scheme == "http" and not is_this_machine(self.origin.host):
            raise UsageError(
                f"no token can be sent to {shown_url(self.url)}",
                why="others on the network could read the token",
                remedy="use a URL that begins with https://",
            )

    @property
    def origin(self) -> Origin:
        """The origin of the URL."""
        return origin_of(urlsplit(self.url))

    @property
    def path(self) -> str:
        """The path before ``/ipfs/…``."""
        return urlsplit(self.url).path.rstrip("/")


@dataclass(frozen=True)
class Credentials:
    """References to the bearer tokens of sources. A token is read when `source` is called for its URL.

    A token is sent only to the source with the same scheme, host, port and path.

    Attributes:
        references: ``env:NAME`` or ``file:PATH`` for the URL of each source.
        environment: the environment variables for ``env:NAME``.

    Raises:
        UsageError: a URL is not the URL of a source, or a token may not be sent to the URL.
    """

    references: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the URLs with a placeholder token; the tokens are not read."""
        for url in self.references:
            Source(url, token="-")  # noqa: S106 - not a secret

    def source(self, url: str, *, public_only: bool = False) -> Source:
        """Return the source for a URL, with the URL's token from the credentials.

        Raises:
            UsageError: the URL is not the URL of a source, or the token cannot be read.
        """
        plain = Source(url, public_only=public_only)
        # Locations are compared instead of texts, so that a default port or a final slash makes no difference.
        for named, reference in self.references.items():
            if _location(Source(named)) == _location(plain):
                return replace(plain, token=self._read_token(named, reference))
        return plain

    def _read_token(self, url: str, reference: str) -> str:
        kind, _, place = reference.partition(":")
        if kind == "file":
            try:
                # A byte outside ASCII becomes a character that no token has.
                token = read_input(Path(place), limit=_MAX_TOKEN_FILE).decode("ascii", "replace").strip()
            except UsageError as error:
                raise _unreadable(url, f"the token is expected in a file, but {error.what} ({error.why})") from error
        else:
            token = self.environment.get(place, "").strip()
            if not token:
                raise _unreadable(url, f"the token is expected in the environment variable {place}, which is not set")

        if not TOKEN.fullmatch(token):
            raise _unreadable(url, f"{reference} does not contain a token, a word of letters, digits and -._~+/")
        return token


NO_CREDENTIALS = Credentials()
"""Credentials without any token."""


@dataclass(frozen=True)
class SourceReport:
    """The result of one source in a fetch.

    Attributes:
        url: URL of the source.
        size: size in bytes of the valid blocks that the source served.
        seconds: time during which a request to the source was pending.
        verdict: the outcome.
        reason: why the source is not asked again.
    """

    url: str
    size: int
    seconds: float
    verdict: Verdict
    reason: str = ""

    def __str__(self) -> str:
        """Return the result as one line, such as ``https://host failed: it answers with the status 503``."""
        why = f": {self.reason}" if self.reason and self.verdict is not Verdict.ABSENT else ""
        return f"{shown_url(self.url)} {self.verdict}{why}"


class SourceError(StoreError):
    """A source did not serve what was requested.

    Args:
        source: URL of the source.
        verdict: the outcome.
        why: the reason, a clause.
        again: seconds after which another attempt can succeed; None if another attempt cannot succeed.
    """

    def __init__(self, source: str, verdict: Verdict, *, why: str, again: float | None = None) -> None:
        self.verdict, self.again = verdict, again
        super().__init__(f"{shown_url(source)} cannot be used", why=why, remedy="name another source")


def split_url(url: str) -> SplitResult | None:
    """Split an absolute http or https URL without a user into its parts; None for any other text."""
    try:
        parts = urlsplit(url)
        if parts.scheme in _PORTS and parts.hostname and parts.username is None and parts.port != 0:
            parts.hostname.encode("idna")
            return parts if url.isascii() and url.isprintable() and " " not in url else None
    except ValueError:
        pass
    return None


def _fault_of(url: str) -> str:
    """Return why a text is not the URL of a gateway.

    The reason does not repeat the text, because the text can contain a password.
    """
    host = url.partition("//")[2].partition("/")[0]
    faults = {
        "the URL does not begin with https:// or http://": not url.lower().startswith(("https://", "http://")),
        "the URL contains a user name (before @)": "@" in host,
        "the URL has a query or a fragment (from ? or # on)": "?" in url or "#" in url,
        "the URL has characters outside ASCII (write such a host name as xn--…)": not url.isascii(),
        "the URL contains a space or a control character": " " in url or not url.isprintable(),
    }
    return next((fault for fault, is_there in faults.items() if is_there), "the host or the port is not valid")


def origin_of(parts: SplitResult) -> Origin:
    """Return the origin of a split URL."""
    return Origin(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])


def base_url(url: str) -> str:
    """Return a source's URL without a trailing slash and without a trailing ``/ipfs``."""
    return url.rstrip("/").removesuffix("/ipfs").rstrip("/")


def is_this_machine(host: str) -> bool:
    """Whether a URL's host is ``localhost`` or a loopback address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _unreadable(url: str, why: str) -> UsageError:
    return UsageError(
        f"the token for {shown_url(url)} cannot be read", why=why, remedy="correct [tokens] in blockota.toml"
    )


def _location(source: Source) -> tuple[Origin, str]:
    """Return the origin and the path that identify a source in the list of tokens. A final ``/ipfs`` is removed."""
    return source.origin, source.path.removesuffix("/ipfs")
