"""An HTTP/1.1 client for untrusted sources.

Every wait has a deadline, and every response has a size limit. h11 parses the protocol (RFC 9112). This module opens
the socket, and limits the time and the bytes of every read. Proxies, cookies and compression are not used.

A malicious source could redirect our requests into a private network (server-side request forgery). A redirect may
therefore lead only to a public address, or to the address at which the configured source answered. A gateway on this
machine may thus redirect to this machine. A gateway on the internet may not redirect to this machine, even if its host
name also resolves to this machine. A source whose URL was announced on a public chain must have a public address. The
client connects to exactly the address that it has checked, so DNS rebinding has no effect.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urljoin, urlsplit

import h11

from blockota.stores.source import Limits, Origin, Source, SourceError, Verdict, is_this_machine, origin_of, split_url
from blockota.url_secrets import PrivateUrl

READ_SIZE = 1 << 18
"""Bytes of a body that are read at a time. With this size, h11's copies fit in the processor's cache."""
_HEAD_READ_SIZE = 1 << 16
_MAX_HEAD_SIZE = 1 << 16
"""Maximum size in bytes of a response head, of a chunk header, and of trailers."""
_MAX_HEADERS = 100
_HEADS_SIZE = 3 * _MAX_HEAD_SIZE
"""Maximum size in bytes of a response head and of the interim responses before it, together."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 502, 503, 504})
_ABSENT = frozenset({404, 410})
_OK, _UNAUTHORISED = 200, 401
_MAX_ADDRESSES = 4
_MAX_RETRY_AFTER, _RETRY_AFTER_DATE = 30.0, 0.5

IPAddress = IPv4Address | IPv6Address
_NAT64 = IPv6Network("64:ff9b::/96")
_UNICAST = IPv6Network("2000::/3")
_SPECIAL: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12")),
    *map(IPv4Network, ("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15")),
    *map(IPv4Network, ("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")),
    *map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")),
)
"""Networks outside the public internet, from IANA's special-purpose address registries (RFC 6890).

The networks are written out, because the list in Python's `ipaddress` differs between versions. In IPv6, only 2000::/3
is assigned to hosts (RFC 4291, section 2.4).
"""


@dataclass(frozen=True)
class Endpoint:
    """One address of a host, in the form that the socket library accepts."""

    family: socket.AddressFamily
    place: tuple[str, int] | tuple[str, int, int, int]

    @property
    def address(self) -> IPAddress:
        """The IP address, without an IPv6 zone."""
        return ip_address(self.place[0].partition("%")[0])


def resolve(host: str, port: int) -> list[Endpoint]:
    """Look up the addresses of a host.

    Raises:
        OSError: the host has no address.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [Endpoint(family, place) for family, _, _, _, place in found if isinstance(place[0], str)]


def is_public(address: IPAddress) -> bool:
    """Whether an address is on the public internet. An IPv4 address embedded in IPv6 is checked as an IPv4 address."""
    public = _embedded_ipv4(address) or address
    is_unicast = isinstance(public, IPv4Address) or public in _UNICAST
    return is_unicast and not any(public in network for network in _SPECIAL)


def _embedded_ipv4(address: IPAddress) -> IPv4Address | None:
    """Return the IPv4 address embedded in an IPv6 address: mapped, 6to4 or NAT64 (RFC 4291, RFC 3056, RFC 6052)."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def allowed_endpoints(endpoints: list[Endpoint], *, own: Collection[IPAddress]) -> list[Endpoint]:
    """Return the endpoints that a redirect may use: public addresses, and the source's own addresses in `own`."""
    return [endpoint for endpoint in endpoints if endpoint.address in own or is_public(endpoint.address)]


class ResponseBudget:
    """Limits the bytes of a response, and the time in which they must arrive.

    Args:
        limits: the limits of the source.
        until: the deadline of all requests to the source, by `time.monotonic`.
    """

    def __init__(self, limits: Limits, *, until: float = math.inf) -> None:
        self._limits, self._until = limits, until
        self._waited = 0.0
        self._received = 0
        self._allowed = _HEADS_SIZE

    def allow(self, size: int) -> None:
        """Allow the bytes of a body, and 10 % more for the framing of chunks.

        The limit also allows the bytes of one more read. For a body that is too large, `HttpResponse` therefore raises
        its own, clearer error before this limit is reached.
        """
        self._allowed += size + size // 10 + READ_SIZE

    def timeout(self) -> float:
        """Return how many seconds to wait for the next byte.

        Raises:
            TimeoutError: the response has been too slow.
        """
        left = self._limits.grace + self._received / self._limits.slowest - self._waited
        left = min(left, self._until - time.monotonic())
        if left <= 0:
            raise TimeoutError
        return min(left, self._limits.silence)

    def count(self, size: int, *, waited: float) -> None:
        """Count bytes that were received.

        Raises:
            h11.RemoteProtocolError: more bytes were received than allowed.
        """
        self._received += size
        self._waited += waited
        if self._received > self._allowed:
            raise h11.RemoteProtocolError(f"more than {self._allowed} bytes")


class _HttpLink:
    """A connection to an origin, and the HTTP/1.1 state of the connection."""

    def __init__(self, sock: socket.socket, origin: Origin) -> None:
        self.sock, self.origin = sock, origin
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_SIZE)

    def is_reusable(self) -> bool:
        """Whether the last response was read to its end, and both sides keep the connection (RFC 9112, 9.3)."""
        states = {self._http.our_state, self._http.their_state}
        return states == {h11.DONE} and self._http.trailing_data == (b"", False)

    def request(self, request: h11.Request, budget: ResponseBudget, body: bytes = b"") -> h11.Response:
        """Send a request, and read the head of the final response."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        self.sock.settimeout(budget.timeout())
        if body:
            headers = [*request.headers, ("Content-Length", str(len(body)))]
            request = h11.Request(method=request.method, target=request.target, headers=headers)
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        self.sock.sendall(b"".join(self._http.send(event) or b"" for event in events))
        # Interim responses, such as 103 Early Hints, come before the final one (RFC 9110, 15.2).
        while isinstance(event := self.next_event(budget, _HEAD_READ_SIZE), h11.InformationalResponse):
            pass
        if not isinstance(event, h11.Response):
            raise ConnectionResetError("closed before a response")
        if len(event.headers) > _MAX_HEADERS:
            raise h11.RemoteProtocolError(f"more than {_MAX_HEADERS} header fields")
        return event

    def next_event(self, budget: ResponseBudget, read_size: int) -> Any:
        """Return the next event of h11; bytes are read from the socket as needed."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self.sock.settimeout(budget.timeout())
            began = time.monotonic()
            data = self.sock.recv(read_size)
            budget.count(len(data), waited=time.monotonic() - began)
            self._http.receive_data(data)
        return event


class HttpResponse:
    """A response with status 200, whose body is read at most once.

    Args:
        connection: the connection that delivers the body.
        head: the response's head.
        source: the source, for errors.
        budget: the remaining bytes and time of the response.
        limit: size in bytes of the largest accepted body.

    Raises:
        SourceError: the body is compressed, is announced as larger than `limit`, or has neither a Content-Length nor
            chunked encoding.
    """

    def __init__(
        self, connection: _HttpLink, head: h11.Response, source: Source, *, budget: ResponseBudget, limit: int
    ) -> None:
        self._connection, self._head, self._source = connection, head, source
        self._budget, self._limit = budget, limit
        budget.allow(limit)
        encoding = self.header("Content-Encoding", "identity").strip().lower()
        if encoding != "identity":
            why = f"it answers with the content encoding {encoding[:20]!r}, which was not requested"
            raise SourceError(self._source.url, Verdict.UNUSABLE, why=why)
        # Transfer-Encoding overrides Content-Length. Without both headers, the body would end with the connection, so
        # that a truncated body would look complete (RFC 9112, 6.3).
        length = self.header("Content-Length")
        if not self.header("Transfer-Encoding"):
            if not length:
                raise self._refused("its response has neither a length nor chunks")
            if int(length) > limit:
                raise self._refused(f"it announces {length} bytes, and at most {limit} are possible")

    def header(self, name: str, default: str = "") -> str:
        """Return the value of the first header field with a name."""
        return _header(self._head, name, default)

    def parts(self) -> Iterator[bytes]:
        """Yield the response body in pieces.

        Raises:
            SourceError: the connection stalls or breaks, or the body is larger than the limit.
        """
        total = 0
        with translated(self._source):
            while isinstance(event := self._connection.next_event(self._budget, READ_SIZE), h11.Data):
                total += len(event.data)
                if total > self._limit:
                    raise self._refused(f"its response is larger than the maximum of {self._limit} bytes")
                yield event.data  # a bytearray, not copied

    def body(self) -> bytes:
        """Read the whole body; raises the errors of `parts`."""
        return b"".join(self.parts())

    def _refused(self, why: str) -> SourceError:
        return SourceError(self._source.url, Verdict.REFUSED, why=why)


class HttpClient:
    """Sends requests to one source over a reused connection; `abort` may be called from any thread."""

    def __init__(
        self, source: Source, limits: Limits, *, resolver: Callable[[str, int], list[Endpoint]] = resolve
    ) -> None:
        self._source, self._limits, self._resolver = source, limits, resolver
        self._own: tuple[IPAddress, ...] = ()
        self._until = math.inf
        self._connection: _HttpLink | None = None
        self._aborted = False
        self._lock = threading.Lock()

    def get(self, path: str, *, accept: str, limit: int) -> HttpResponse:
        """Request a path below the source's URL.

        Args:
            path: path and query, beginning with a slash.
            accept: the requested media type.
            limit: size in bytes of the largest accepted body.

        Raises:
            AbsentError: the source does not have the requested content.
            SourceError: the source stalls, breaks off, refuses the request, or redirects to a forbidden address.
        """
        with translated(self._source):
            connection, head, budget = self._request("GET", path, accept=accept)
            return HttpResponse(connection, head, self._source, budget=budget, limit=limit)

    def has(self, path: str, *, accept: str) -> bool:
        """Whether the source answers HEAD for a path with status 200.

        Raises:
            SourceError: the source stalls, breaks off, or refuses the request.
        """
        try:
            with translated(self._source):
                connection, _, budget = self._request("HEAD", path, accept=accept)
                connection.next_event(budget, _HEAD_READ_SIZE)  # the end, after which the connection is reusable
        except AbsentError:
            return False
        return True

    def post(self, path: str, body: bytes, *, limit: int) -> tuple[int, bytes]:
        """Send a body to a path below the source's URL, and return status and body of the response.

        Redirects are not followed, and no token is sent. `limit` is the size of the largest accepted response in bytes.

        Raises:
            SourceError: the source stalls, breaks off, or answers without a body of a known length.
        """
        with translated(self._source):
            budget, url = ResponseBudget(self._limits), self._source.url.rstrip("/") + path
            connection = self._connected(self._source.origin)
            request = self._request_head(connection, "POST", url, accept="*/*", token="")
            head = connection.request(request, budget, body)
            response = HttpResponse(connection, head, self._source, budget=budget, limit=limit)
            return head.status_code, response.body()

    def abort(self) -> None:
        """Abort the current request and all later requests."""
        self._aborted = True
        self.abort_request()

    def abort_request(self) -> None:
        """Abort the current request; the next request opens a new connection."""
        with self._lock:
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request opens a new connection."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.sock.close()

    def _request(self, method: str, path: str, *, accept: str) -> tuple[_HttpLink, h11.Response, ResponseBudget]:
        """Send a request, follow redirects, and return the head of a response with status 200."""
        url, token = self._source.url.rstrip("/") + path, self._source.token
        if self._until == math.inf:
            self._until = time.monotonic() + self._limits.total
        for _ in range(self._limits.redirects + 1):
            budget = ResponseBudget(self._limits, until=self._until)
            connection = self._connected(origin_of(urlsplit(url)))
            head = connection.request(self._request_head(connection, method, url, accept=accept, token=token), budget)
            if head.status_code not in _REDIRECTS:
                self._check_status(head)
                return connection, head, budget
            # The token is for the configured URL only, and is not sent after a redirect (RFC 9110, 15.4).
            location = _header(head, "Location")
            shown = PrivateUrl(self._source.url).hide_in(location)
            target = urljoin(url, location)
            parts = split_url(target)
            if parts is None or (urlsplit(url).scheme, parts.scheme) == ("https", "http"):
                raise self._error(Verdict.REFUSED, f"it redirects to {shown[:80]!r}, which is not followed")
            url, token = target, ""
            self.close()
        raise self._error(Verdict.REFUSED, f"it redirects more than {self._limits.redirects} times")

    def _request_head(self, connection: _HttpLink, method: str, url: str, *, accept: str, token: str) -> h11.Request:
        parts = urlsplit(url)
        headers = [
            ("Host", origin_of(parts).authority),
            ("Accept", accept),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "blockota"),
        ]
        if token:
            # DNS decides to which address ``localhost`` resolves.
            peer = connection.sock.getpeername()[0]
            if connection.origin.scheme != "https" and not is_this_machine(peer):
                raise self._error(Verdict.REFUSED, f"it leads to {peer}, and the token would be sent there unencrypted")
            headers.append(("Authorization", f"Bearer {token}"))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return h11.Request(method=method, target=target, headers=headers)

    def _check_status(self, head: h11.Response) -> None:
        status = head.status_code
        if status == _OK:
            return
        self.close()
        if status in _ABSENT:
            raise AbsentError(self._source.url, Verdict.ABSENT, why="the source does not have the requested content")
        if status == _UNAUTHORISED:
            why = "it answers with the status 401: add a valid token to [tokens] in blockota.toml"
            raise self._error(Verdict.REFUSED, why)
        again = None
        if status in _BUSY:
            # RFC 9110, 10.2.3: seconds, or a date.
            value = _header(head, "Retry-After", "0")
            again = min(float(value), _MAX_RETRY_AFTER) if value.isdecimal() else _RETRY_AFTER_DATE
        raise self._error(Verdict.FAILED, f"it answers with the status {status}", again=again)

    def _connected(self, origin: Origin) -> _HttpLink:
        """Return a connection to an origin: the open connection if it can be reused, else a new one."""
        if self._connection is not None and self._connection.origin == origin and self._connection.is_reusable():
            return self._connection
        self.close()
        connection = _HttpLink(self._connect(origin, self._endpoints(origin)), origin)
        # Redirects may lead to the address that answered, but not to other addresses of the same name.
        if origin == self._source.origin:
            self._own = (Endpoint(connection.sock.family, connection.sock.getpeername()).address,)
        with self._lock:
            self._connection = connection
        # `abort` may have been called while the connection was being opened, and then had nothing to close.
        if self._aborted:
            raise ConnectionAbortedError("the fetch is over")
        return connection

    def _endpoints(self, origin: Origin) -> list[Endpoint]:
        """Return the addresses of an origin that the rules in the module docstring allow."""
        endpoints = self._resolver(origin.host, origin.port)
        is_named = origin == self._source.origin
        if is_named and not self._source.public_only:
            return endpoints

        allowed = allowed_endpoints(endpoints, own=self._own)
        if not allowed:
            leads = "leads" if is_named else "redirects"
            why = f"it {leads} to {origin.host}, which is in a private network or this machine"
            raise self._error(Verdict.REFUSED, why)
        return allowed

    def _connect(self, origin: Origin, endpoints: list[Endpoint]) -> socket.socket:
        """Connect to the first endpoint that accepts, and negotiate TLS."""
        failure = OSError("it has no address")
        tried = endpoints[:_MAX_ADDRESSES]
        for endpoint in tried:
            sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._limits.connect / len(tried))
                sock.connect(endpoint.place)
                # A request is one small packet: disable Nagle's algorithm, which would wait for more data.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if origin.scheme == "http":
                    return sock
                context = self._source.tls or _system_authorities()
                return context.wrap_socket(sock, server_hostname=origin.host)
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def _error(self, verdict: Verdict, why: str, *, again: float | None = None) -> SourceError:
        return SourceError(self._source.url, verdict, why=why, again=again)


class AbsentError(SourceError):
    """A source does not have the requested content."""


@dataclass(frozen=True)
class _Failure:
    """The verdict and the reason for an exception, and the seconds until the next attempt (None: do not try again)."""

    verdict: Verdict
    why: Callable[[Any], str]
    again: float | None = None


def _broken(error: Exception) -> str:
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    if isinstance(error, ssl.SSLError) and error.reason:
        hint = ", as if the server expected http://" if error.reason == "WRONG_VERSION_NUMBER" else ""
        reason = f"TLS: {error.reason.replace('_', ' ').lower()}{hint}"
    return f"the connection broke ({reason[:100]})"


_FAILURES: dict[type[Exception], _Failure] = {
    TimeoutError: _Failure(Verdict.STALLED, lambda _: "it does not answer, or is too slow"),
    ssl.SSLCertVerificationError: _Failure(
        Verdict.REFUSED, lambda error: f"its certificate cannot be verified ({error.verify_message})"
    ),
    socket.gaierror: _Failure(Verdict.FAILED, lambda _: "its name cannot be resolved", 1.0),
    OSError: _Failure(Verdict.FAILED, _broken, 0.0),
    h11.ProtocolError: _Failure(Verdict.FAILED, _broken, 0.0),
    ValueError: _Failure(Verdict.FAILED, _broken, 0.0),
}
"""Exceptions of sockets, TLS and HTTP; the first matching class is used, so subclasses come first."""


@contextmanager
def translated(source: Source) -> Iterator[None]:
    """Translate exceptions of sockets, TLS and HTTP into a `SourceError`.

    Raises:
        SourceError: an exception of a socket, of TLS or of HTTP was raised.
    """
    try:
        yield
    except tuple(_FAILURES) as error:
        failure = next(failure for kind, failure in _FAILURES.items() if isinstance(error, kind))
        raise SourceError(source.url, failure.verdict, why=failure.why(error), again=failure.again) from error


@cache
def _system_authorities() -> ssl.SSLContext:
    return ssl.create_default_context()


def _header(head: h11.Response, name: str, default: str = "") -> str:
    wanted = name.lower().encode()
    return next((value.decode("latin-1") for key, value in head.headers if key == wanted), default)
