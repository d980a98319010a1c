"""HTTP to a source that may do anything: every byte is waited for by a clock, and every answer has a limit.

The standard library's client, because it lets us connect to the address that was checked, and watch every single read
below its parser. It knows no proxies, no redirects, no cookies and no compression by itself, which is what is wanted.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urljoin, urlsplit

from blockota.stores.source import (
    Limits,
    Origin,
    Source,
    SourceError,
    Verdict,
    is_this_machine,
    origin_of,
    split_url,
)

READ_SIZE = 1 << 19
"""Bytes that are read at a time."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_ADDRESSES = 4
_BUSY = frozenset({429, 502, 503, 504})
_ABSENT = frozenset({404, 410})
_OK, _UNAUTHORISED = 200, 401


class HttpResponse:
    """The body of an answer with status 200, which is read at most once.

    Attributes:
        headers: the answer's headers.
    """

    def __init__(self, response: WatchedResponse, source: Source, *, limit: int) -> None:
        """Refuse a body that is compressed, or announced as larger than `limit` bytes."""
        self.headers = response.headers
        self._response, self._source, self._limit = response, source, limit
        response.watch.allowed += limit + limit // 10
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding != "identity":
            raise self._refused(f"it answers with the content encoding {encoding[:20]!r}, which was not asked for")
        if response.length is not None and response.length > limit:
            raise self._refused(f"it announces {response.length} bytes where at most {limit} can be")
        if response.length is None and not response.chunked:
            raise self._refused("it does not say where its answer ends")

    def parts(self) -> Iterator[bytes]:
        """The body, piece by piece.

        Raises:
            SourceError: the connection stalls or breaks, or more comes than may.
        """
        total = 0
        with translated(self._source):
            while part := self._response.read(min(READ_SIZE, self._limit + 1 - total)):
                total += len(part)
                if total > self._limit:
                    raise self._refused(f"its answer is larger than the {self._limit} bytes that can be")
                yield part
            if self._response.length:
                raise http.client.IncompleteRead(b"", self._response.length)

    def body(self) -> bytes:
        """The whole body.

        Raises:
            SourceError: as `parts`.
        """
        return b"".join(self.parts())

    def _refused(self, why: str) -> SourceError:
        return SourceError(self._source.url, Verdict.REFUSED, why=why)


class HttpClient:
    """Requests to one source, over one connection that is kept while it can be; `abort` may come from any thread.

    Args:
        source: the source.
        limits: what it may cost.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        """Remember; the first request connects."""
        self._source, self._limits = source, limits
        self._own: tuple[IPAddress, ...] = ()
        self._until = math.inf
        self._origin: Origin | None = None
        self._socket: socket.socket | None = None
        self._response: WatchedResponse | None = None
        self._aborted = False
        self._lock = threading.Lock()

    def get(self, path: str, *, accept: str, limit: int) -> HttpResponse:
        """Ask for a path below the source's.

        Args:
            path: path and query, beginning with a slash.
            accept: the media type asked for.
            limit: bytes of the largest body that is taken.

        Raises:
            SourceError: the source stalls, breaks, refuses, or redirects where it may not.
        """
        with translated(self._source):
            return HttpResponse(self._ask("GET", path, accept=accept), self._source, limit=limit)

    def has(self, path: str, *, accept: str) -> bool:
        """Whether a path is there (HEAD).

        Raises:
            SourceError: the source stalls, breaks, or refuses.
        """
        try:
            with translated(self._source):
                self._ask("HEAD", path, accept=accept).close()
        except AbsentError:
            return False
        return True

    def abort(self) -> None:
        """Break off whatever goes on, now and later."""
        self._aborted = True
        self.abort_request()

    def abort_request(self) -> None:
        """Break off what goes on now; the next request makes a new connection."""
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        with self._lock:
            sock, response = self._socket, self._response
            self._socket = self._response = self._origin = None
        if response is not None:
            response.close()
        if sock is not None:
            sock.close()

    def _ask(self, method: str, path: str, *, accept: str) -> WatchedResponse:
        url = self._source.url.rstrip("/") + path
        token = self._source.token
        if self._until == math.inf:
            self._until = time.monotonic() + self._limits.total
        for _ in range(self._limits.redirects + 1):
            response = self._exchange(method, url, accept=accept, token=token)
            if response.status not in _REDIRECTS:
                return self._checked(response)
            url, token = self._redirected(url, response.headers.get("Location", "")), ""
            self.close()
        raise self._error(Verdict.REFUSED, f"it redirects more than {self._limits.redirects} times")

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        parts = split_url(target)
        if parts is None or (urlsplit(url).scheme, parts.scheme) == ("https", "http"):
            raise self._error(Verdict.REFUSED, f"it redirects to {location[:80]!r}, which is no address to follow")
        return target

    def _checked(self, response: WatchedResponse) -> WatchedResponse:
        if response.status == _OK:
            return response
        self.close()
        if response.status in _ABSENT:
            raise AbsentError(self._source.url, Verdict.GONE, why="it does not hold what was asked for")
        if response.status == _UNAUTHORISED:
            why = "it answers with the status 401: it wants a token that it knows, see [tokens] in blockota.toml"
            raise self._error(Verdict.REFUSED, why)
        again = _seconds(response.headers.get("Retry-After", "0")) if response.status in _BUSY else None
        raise self._error(Verdict.GONE, f"it answers with the status {response.status}", again=again)

    def _exchange(self, method: str, url: str, *, accept: str, token: str) -> WatchedResponse:
        parts = urlsplit(url)
        origin = origin_of(parts)
        sock = self._connected(origin)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = [f"{method} {target} HTTP/1.1", *_headers(origin, accept)]
        if token:
            self._check_privacy(sock, origin)
            head.append(f"Authorization: Bearer {token}")
        sock.settimeout(self._limits.silence)
        sock.sendall("\r\n".join((*head, "", "")).encode("ascii"))
        self._response = WatchedResponse(sock, method=method, watch=ResponseBudget(self._limits, until=self._until))
        self._response.begin()
        return self._response

    def _check_privacy(self, sock: socket.socket, origin: Origin) -> None:
        """A name of this machine may lead elsewhere, as whoever answers for names likes."""
        peer = sock.getpeername()[0]
        if origin.scheme == "http" and not is_this_machine(peer):
            raise self._error(Verdict.REFUSED, f"it leads to {peer}, where a token would go unencrypted")

    def _connected(self, origin: Origin) -> socket.socket:
        last = self._response
        is_free = last is None or (last.isclosed() and not last.will_close)
        if self._socket is not None and self._origin == origin and is_free:
            return self._socket
        self.close()
        sock = self._connect(origin, self._endpoints(origin))
        if origin == self._source.origin:
            self._own = (Endpoint(sock.family, sock.getpeername()).address,)
        with self._lock:
            self._socket, self._origin = sock, origin
        if self._aborted:
            raise ConnectionAbortedError("the fetch is over")
        return sock

    def _endpoints(self, origin: Origin) -> list[Endpoint]:
        endpoints = resolve(origin.host, origin.port)
        is_named = origin == self._source.origin
        if is_named and not self._source.public_only:
            return endpoints
        allowed = allowed_endpoints(endpoints, own=self._own)
        if not allowed:
            leads = "leads" if is_named else "redirects"
            raise self._error(
                Verdict.REFUSED, f"it {leads} to {origin.host}, which is in a private network or this machine"
            )
        return allowed

    def _connect(self, origin: Origin, endpoints: list[Endpoint]) -> socket.socket:
        failure = OSError("it has no address")
        tried = endpoints[:_MAX_ADDRESSES]
        for endpoint in tried:
            sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._limits.connect / len(tried))
                sock.connect(endpoint.place)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self._secured(sock, origin)
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def _secured(self, sock: socket.socket, origin: Origin) -> socket.socket:
        if origin.scheme == "http":
            return sock
        context = self._source.tls or _system_authorities()
        return context.wrap_socket(sock, server_hostname=origin.host)

    def _error(self, verdict: Verdict, why: str, *, again: float | None = None) -> SourceError:
        return SourceError(self._source.url, verdict, why=why, again=again)


class AbsentError(SourceError):
    """A source does not hold what was asked for."""


@contextmanager
def translated(source: Source) -> Iterator[None]:
    """Turn what sockets, TLS and HTTP raise into a `SourceError`.

    Raises:
        SourceError: something of it happened.
    """
    try:
        yield
    except TimeoutError as error:
        raise SourceError(source.url, Verdict.STALLED, why="it is silent, or too slow") from error
    except ssl.SSLCertVerificationError as error:
        why = f"its certificate cannot be believed ({error.verify_message})"
        raise SourceError(source.url, Verdict.REFUSED, why=why) from error
    except socket.gaierror as error:
        raise SourceError(source.url, Verdict.GONE, why="its name leads nowhere", again=1.0) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = f"the connection broke ({_reason(error)[:100]})"
        raise SourceError(source.url, Verdict.GONE, why=why, again=0.0) from error


def _headers(origin: Origin, accept: str) -> Iterator[str]:
    yield f"Host: {origin.authority}"
    yield f"Accept: {accept}"
    yield "Accept-Encoding: identity"
    yield "User-Agent: blockota"


@cache
def _system_authorities() -> ssl.SSLContext:
    return ssl.create_default_context()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        hint = ", as of a server that speaks http://" if error.reason == "WRONG_VERSION_NUMBER" else ""
        return f"TLS: {error.reason.replace('_', ' ').lower()}{hint}"
    return str(error) or type(error).__name__


def _seconds(retry_after: str) -> float:
    """The delay that a busy source asks for; a date is as good as none."""
    return min(float(retry_after), 30.0) if retry_after.isdecimal() and math.isfinite(float(retry_after)) else 0.5


_HEAD_SIZE = 3 << 16
_MAX_CHUNK_LINE = 1 << 12
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;.*)?\r?\n")
_HINTS = range(102, 200)


class ResponseBudget:
    """What one answer may still cost: bytes altogether, and time spent waiting for them.

    Args:
        limits: what a source may cost.
        until: when all must be over, by the clock of `time.monotonic`.
    """

    def __init__(self, limits: Limits, *, until: float = math.inf) -> None:
        """Nothing came yet; a head may."""
        self._limits, self._until = limits, until
        self._waited = 0.0
        self._seen = 0
        self.allowed = _HEAD_SIZE

    def timeout(self) -> float:
        """Seconds to wait for the next byte.

        Raises:
            TimeoutError: it has been too slow.
        """
        left = self._limits.grace + self._seen / self._limits.slowest - self._waited
        left = min(left, self._until - time.monotonic())
        if left <= 0:
            raise TimeoutError
        return min(left, self._limits.silence)

    def count(self, size: int, *, waited: float) -> None:
        """Take note of bytes that came.

        Raises:
            http.client.HTTPException: there are more than the answer may have.
        """
        self._seen += size
        self._waited += waited
        if self._seen > self.allowed:
            raise http.client.HTTPException(f"more than {self.allowed} bytes")


class WatchedReader(io.RawIOBase):
    """A socket's bytes, each read under the watch.

    Args:
        sock: the socket.
        watch: what may still come.
    """

    def __init__(self, sock: socket.socket, watch: ResponseBudget) -> None:
        """Nothing is read yet."""
        self._sock, self._watch = sock, watch
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what there is, as far as it fits.

        Raises:
            TimeoutError: nothing came in time.
            http.client.HTTPException: more came than may.
        """
        self._sock.settimeout(self._watch.timeout())
        began = time.monotonic()
        size = self._raw.readinto(buffer)
        self._watch.count(size or 0, waited=time.monotonic() - began)
        return size

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


class WatchedResponse(http.client.HTTPResponse):
    """An answer whose every byte is watched.

    Args:
        sock: the socket.
        method: of the request.
        watch: what the answer may cost.
    """

    def __init__(self, sock: socket.socket, *, method: str, watch: ResponseBudget) -> None:
        """Nothing is read yet."""
        super().__init__(sock, method=method)
        self.fp.close()
        self.watch = watch
        self.fp = io.BufferedReader(WatchedReader(sock, watch), 1 << 16)

    def begin(self) -> None:
        """Read the head; hints that come before it, such as 103 (RFC 8297), are passed over."""
        super().begin()
        while self.status in _HINTS:
            self.headers = None  # type: ignore[assignment]  # the library reads a head where it has none
            super().begin()

    def _read_next_chunk_size(self) -> int:
        """The size of the next chunk (RFC 9112, section 7.1); the library would take -1 for all that ever comes."""
        line = _CHUNK_LINE.fullmatch(self.fp.readline(_MAX_CHUNK_LINE))
        if line is None:
            raise http.client.HTTPException("a chunk does not say its size")
        return int(line[1], 16)


IPAddress = IPv4Address | IPv6Address
_NAT64 = IPv6Network("64:ff9b::/96")
_UNICAST = IPv6Network("2000::/3")
_SPECIAL: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12")),
    *map(IPv4Network, ("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15")),
    *map(IPv4Network, ("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")),
    *map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")),
)
"""What is not the public internet, by IANA's registries of special addresses; Python's own list grows with its version.

Of IPv6 only 2000::/3 is given to hosts at all.
"""


@dataclass(frozen=True)
class Endpoint:
    """One address of a host, as the socket library takes it."""

    family: socket.AddressFamily
    place: tuple[str, int] | tuple[str, int, int, int]

    @property
    def address(self) -> IPAddress:
        """Its IP address."""
        return ip_address(self.place[0].partition("%")[0])


def resolve(host: str, port: int) -> list[Endpoint]:
    """The addresses of a host.

    Raises:
        OSError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [Endpoint(family, place) for family, _, _, _, place in found if isinstance(place[0], str)]


def is_public(address: IPAddress) -> bool:
    """Whether an address lies in the public internet, also where it only wraps an IPv4 address."""
    public = embedded(address) or address
    is_unicast = isinstance(public, IPv4Address) or public in _UNICAST
    return is_unicast and not any(public in network for network in _SPECIAL)


def embedded(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4 or NAT64."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def allowed_endpoints(endpoints: list[Endpoint], *, own: Collection[IPAddress]) -> list[Endpoint]:
    """The endpoints that a redirect may lead to.

    Args:
        endpoints: those of the new host.
        own: the address at which the source that was named has answered.
    """
    return [endpoint for endpoint in endpoints if endpoint.address in own or is_public(endpoint.address)]
