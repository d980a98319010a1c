"""The HTTP server of a repository or a log: its socket and TLS, its connections, and its shutdown.

The server must limit the time for headers, the number of headers, and the time for which a client may stop reading. The
server is built on asyncio and h11, because the common HTTP servers cannot set all three limits. `asgi_server` serves
ASGI applications within the same limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import h11

from blockota.errors import Action, BlockOTAError, UsageError
from blockota.files import read_input
from blockota.line_log import event_line
from blockota.repository.access_log import AccessRecord
from blockota.repository.answers import HttpAnswer, text_response
from blockota.repository.blocks import PART_SIZE
from blockota.repository.connection import ConnectionLimits, HttpConnection
from blockota.repository.request import HttpRequest, client_of
from blockota.repository.site import HEALTH, Refresh, ServedSite
from blockota.shutdown import Stop, stop_on_signals

_FAILURE_SECONDS = 60.0
_STOP_POLL_SECONDS = 0.2
_ACCEPT_STEPS = 3
_BACKLOG = 1024
_MAX_PEM_SIZE = 1 << 20
_CONNECTIONS_PER_CLIENT, _SPARE_CONNECTIONS = 4, 64
_SPARE_FILES = 64
_FAILURES = (BlockOTAError, OSError, h11.LocalProtocolError)
"""Errors that end a connection: an unreadable block, a lost or too slow client, a body shorter than announced."""
_NOT_HTTP = text_response(400, "This is not an HTTP request that this server supports.")
_UNREADABLE = text_response(500, "This server cannot read the content. Ask its operator, or another source.")
TOO_BUSY = text_response(
    503,
    "This server serves its maximum number of clients. Try again later, or use another source.",
    {"Retry-After": "5"},
)

LOCAL_PROXIES = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
"""The proxies on this machine."""


@dataclass(frozen=True)
class Listening:
    """The address, the TLS files and the limits of a server.

    Attributes:
        host: the address to listen on.
        port: the port; 0 chooses a free port.
        certificate: file with the certificate chain (PEM); None for plain HTTP.
        private_key: file with the certificate's unencrypted key (PEM).
        proxies: proxies whose ``X-Forwarded-For`` is trusted.
        clients: the maximum number of simultaneous responses; further requests are answered with 503.
        stop_seconds: time for transfers to finish when the server stops.
        limits: the limits of one connection.
    """

    host: str
    port: int
    certificate: Path | None = None
    private_key: Path | None = None
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    clients: int = 256
    stop_seconds: int = 30
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)


def serve(
    site: ServedSite,
    listening: Listening,
    *,
    log: Callable[[str], None],
    on_ready: Callable[[str], None],
    count: Callable[[AccessRecord], None] = lambda _: None,
) -> None:
    """Serve until a signal requests a stop. Transfers may then continue for `stop_seconds` or until a second signal.

    Args:
        site: what is served.
        listening: the settings of the server.
        log: called with each line of the access log.
        on_ready: called with the URL when the server answers requests.
        count: called with each answered request.

    Raises:
        UsageError: the address, the certificate or its key cannot be used.
    """
    context = tls_context(listening)
    with listen(listening) as listener, stop_on_signals() as stop:
        server = _RepositoryServer(site, listening, log=log, count=count)
        asyncio.run(server.run(listener, context, stop=stop, on_ready=on_ready))


async def serve_until(
    stop: Stop, site: ServedSite, listening: Listening, *, log: Callable[[str], None], on_ready: Callable[[str], None]
) -> None:
    """Serve in a running event loop until a stop is requested. The arguments and errors are those of `serve`."""
    context = tls_context(listening)
    with listen(listening) as listener:
        await _RepositoryServer(site, listening, log=log).run(listener, context, stop=stop, on_ready=on_ready)


_LISTEN_REMEDIES = {
    errno.EADDRINUSE: "find the process that listens there with `ss -ltnp`, or choose another address",
    errno.EADDRNOTAVAIL: "choose an address of this computer, or 0.0.0.0 for all of its addresses",
    errno.EACCES: "allow ports below 1024, in systemd by AmbientCapabilities=CAP_NET_BIND_SERVICE, or choose another",
}


@contextmanager
def listen(listening: Listening) -> Iterator[socket.socket]:
    """Open the listening socket.

    Raises:
        UsageError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        listener = socket.create_server((listening.host, listening.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise listen_error(listening.host, listening.port, error) from error
    with contextlib.closing(listener):
        # asyncio does not set this for these sockets, and a response in two parts would wait 40 ms for the client.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def url_of(listening: Listening, listener: socket.socket) -> str:
    """Return the URL of a server that listens."""
    scheme = "https" if listening.certificate else "http"
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


def listen_error(host: str, port: int, error: OSError | OverflowError) -> UsageError:
    """Return the error for an address on which a server cannot listen."""
    number = getattr(error, "errno", None) or 0
    # asyncio puts its own sentence around the system's words.
    known = os.strerror(number) if number in _LISTEN_REMEDIES else ""
    why = known or (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
    return UsageError(
        f"cannot listen on {host} port {port}",
        why=why,
        remedy=_LISTEN_REMEDIES.get(number, "choose another address"),
        action=Action.LISTEN_ELSEWHERE,
    )


def tls_context(listening: Listening) -> ssl.SSLContext | None:
    """Load the certificate and its key. Returns None for plain HTTP.

    Raises:
        UsageError: the certificate or the key cannot be used, or the key belongs to another certificate.
    """
    certificate, key = listening.certificate, listening.private_key
    if certificate is None or key is None:
        return None

    _check_pem(certificate, b"-----BEGIN CERTIFICATE-----", "certificate")
    _check_pem(key, b"PRIVATE KEY", "unencrypted private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or str(error)
        raise UsageError(
            f"{certificate} and {key} cannot be used",
            why="they do not belong together" if reason == "KEY_VALUES_MISMATCH" else f"OpenSSL reports {reason}",
            remedy="use a certificate chain and its unencrypted key, both as PEM",
        ) from error
    return context


def _check_pem(path: Path, label: bytes, kind: str) -> None:
    """Check the kind of a PEM file, because OpenSSL's errors do not name a file of the wrong kind."""
    text = read_input(path, limit=_MAX_PEM_SIZE)
    if label not in text or b"ENCRYPTED" in text:
        raise UsageError(f"{path} cannot be used", why=f"the file does not contain a PEM block with the {kind}")


class HttpServer:
    """Accepts connections, and passes each request to a function that answers it.

    Args:
        listening: the limits of the server.
        answer: answers a request on its connection.

    Attributes:
        is_stopping: whether each connection must be closed after its present response.
    """

    def __init__(
        self, listening: Listening, answer: Callable[[HttpConnection, HttpRequest], Coroutine[Any, Any, None]]
    ) -> None:
        self._listening, self._answer = listening, answer
        self._connections: set[asyncio.Task[None]] = set()
        self._idle: set[HttpConnection] = set()
        self.is_stopping = False

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    @asynccontextmanager
    async def running(
        self, listener: socket.socket, context: ssl.SSLContext | None, *, is_hurried: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[None]:
        """Serve in the ``async with`` block. At its end, transfers may continue for `stop_seconds`.

        Args:
            listener: the listening socket.
            context: the TLS settings; None for plain HTTP.
            is_hurried: returns whether the server must interrupt transfers immediately when it stops.
        """
        handshake_seconds = self._listening.limits.header_seconds if context else None

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve_connection(HttpConnection(reader, writer, self._listening.limits)))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        server = await asyncio.start_server(accept, sock=listener, ssl=context, ssl_handshake_timeout=handshake_seconds)
        try:
            yield
        finally:
            # In Python 3.11, a connection that is accepted just before the server closes is neither served nor closed.
            # Therefore, stop accepting first, and let the event loop process the accepted connections.
            asyncio.get_running_loop().remove_reader(listener)
            for _ in range(_ACCEPT_STEPS):
                await asyncio.sleep(0)
            server.close()
            await self._end_connections(is_hurried)

    async def _end_connections(self, is_hurried: Callable[[], bool]) -> None:
        """Close idle connections now, and other connections when their transfer has finished or the time is over."""
        self.is_stopping = True
        for connection in self._idle:
            connection.abort()
        deadline = time.monotonic() + self._listening.stop_seconds
        while self._connections and time.monotonic() < deadline and not is_hurried():
            await asyncio.wait(self._connections, timeout=_STOP_POLL_SECONDS)
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _serve_connection(self, connection: HttpConnection) -> None:
        """Answer requests one after the other until the connection ends."""
        try:
            while request := await self._receive(connection):
                await self._answer(connection, request)
                if self.is_stopping or not connection.is_reusable:
                    break
            await connection.close()
        except _FAILURES:
            pass  # reported in the access log, unless the client was lost between two requests
        finally:
            connection.abort()

    async def _receive(self, connection: HttpConnection) -> HttpRequest | None:
        self._idle.add(connection)
        try:
            return await connection.receive()
        except h11.RemoteProtocolError:
            await connection.send(_NOT_HTTP, texts(_NOT_HTTP), is_last=True)
            return None
        finally:
            self._idle.discard(connection)


async def texts(response: HttpAnswer) -> AsyncIterator[bytes]:
    """Yield the body of a response that contains no block."""
    for piece in response.pieces:
        if isinstance(piece, bytes):
            yield piece


class _RepositoryServer:
    """Answers the requests for a site, and logs them."""

    def __init__(
        self,
        site: ServedSite,
        listening: Listening,
        *,
        log: Callable[[str], None],
        count: Callable[[AccessRecord], None] = lambda _: None,
    ) -> None:
        self._site, self._listening, self._log, self._count = site, listening, log, count
        self._max_connections = _connection_limit(listening.clients, log=log)
        self._http = HttpServer(listening, self._answer)
        self._part_size = PART_SIZE // 4 if listening.certificate else PART_SIZE  # asyncio's TLS copies each part
        self._answers = 0

    async def run(
        self, listener: socket.socket, context: ssl.SSLContext | None, *, stop: Stop, on_ready: Callable[[str], None]
    ) -> None:
        """Serve until a stop is requested."""
        asyncio.get_running_loop().set_exception_handler(_FailureLog(self._log))
        is_hurried = lambda: len(stop.requests) > 1  # noqa: E731 - a second signal
        async with self._http.running(listener, context, is_hurried=is_hurried):
            refreshing = [asyncio.create_task(self._keep_fresh(each)) for each in self._site.refreshes()]
            on_ready(url_of(self._listening, listener))
            await asyncio.to_thread(stop.wait_until_asked)
            for task in refreshing:
                task.cancel()

    async def _keep_fresh(self, refresh: Refresh) -> None:
        """Repeat a periodic read, and log each change of its result: a new failure, or the end of a failure."""
        logged = ""
        while True:
            await asyncio.sleep(refresh.pause())
            trouble = await asyncio.to_thread(refresh.read)
            if trouble != logged:
                self._log(event_line(refresh.part, trouble))
                logged = trouble

    async def _answer(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Answer and log one request."""
        forwarded = request.headers.get("x-forwarded-for", "")
        request = replace(request, client=client_of(request.client, forwarded, self._listening.proxies))
        record = AccessRecord(request, self._site.holder(request))
        self._answers += 1

        try:
            await self._send(connection, record)
        except _FAILURES as error:
            record.trouble = record.trouble or f"{type(error).__name__}: {error}"
            raise
        finally:
            self._answers -= 1
            self._count(record)
            self._log(record.line())

    async def _send(self, connection: HttpConnection, record: AccessRecord) -> None:
        is_crowded = self._http.connections > self._max_connections
        is_full = self._answers > self._listening.clients and record.request.path != HEALTH

        def body_of(response: HttpAnswer) -> AsyncGenerator[bytes, None]:
            pieces = response.pieces if record.request.method != "HEAD" else ()
            return self._site.stream(pieces, part_size=self._part_size)

        # The first part is read before the status is sent, so that a corrupt block can still be answered with 500.
        try:
            response = TOO_BUSY if is_crowded or is_full else self._site.answer(record.request)
            parts = body_of(response)
            first = await anext(parts, b"")
        except BlockOTAError as error:  # for the log only, because the text contains the operator's paths
            record.trouble, response = self._site.explain(error), _UNREADABLE
            parts, first = body_of(response), b""

        record.status, is_last = response.status, is_crowded or self._http.is_stopping
        async with contextlib.aclosing(parts):
            await connection.send(response, _counted(first, parts, record), is_last=is_last)
        record.is_complete = True


async def _counted(first: bytes, parts: AsyncIterator[bytes], record: AccessRecord) -> AsyncIterator[bytes]:
    """Yield the parts of a body, and count each part after it was sent."""
    if first:
        yield first
        record.sent += len(first)
    async for part in parts:
        yield part
        record.sent += len(part)


def _connection_limit(clients: int, *, log: Callable[[str], None]) -> int:
    """Raise the limit of open files as far as allowed.

    Returns:
        The maximum number of connections; on further connections, requests are answered with 503. Without this limit,
        the process could reach its limit of open files, and further clients would get no answer.
    """
    connections = _CONNECTIONS_PER_CLIENT * clients + _SPARE_CONNECTIONS
    others = clients + _SPARE_FILES  # each response has the file of a block open
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, min(connections + others, hard)) if hard >= 0 else max(soft, connections + others)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if connections + others <= limit:
        return connections
    fewer = max(limit - others, limit // 2)
    log(event_line("connections", f"the system allows {limit} open files: at most {fewer} connections are served"))
    return fewer


class _FailureLog:
    """Logs failures in the event loop, such as a failed accept(2). Logs each kind of failure at most once a minute."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._silent_until: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        kind = context["message"]
        if loop.time() >= self._silent_until.get(kind, 0):
            self._silent_until[kind] = loop.time() + _FAILURE_SECONDS
            self._log(event_line("server", f"{kind}: {context.get('exception', '')}"))
