"""A repository that runs: its socket, TLS, the refreshing of what it serves, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from blockota.errors import UsageError
from blockota.files import read_input
from blockota.repository.application import Application
from blockota.repository.connection import GuardedConnection
from blockota.repository.guard import Guard, event_line
from blockota.repository.shelf import Shelf
from blockota.repository.tokens import Tokens

_KEEP_ALIVE_SECONDS = 15
_TOKENS_SECONDS = 10.0
_STORE_SECONDS = 1.0
_FAILURE_SECONDS = 60.0
_BACKLOG = 1024
_MAX_PEM_SIZE = 1 << 20
_CONNECTIONS_A_CLIENT, _SPARE_CONNECTIONS = 4, 64
_SPARE_FILES = 64


@dataclass(frozen=True)
class Listening:
    """Where and how a repository listens.

    Attributes:
        host: the address.
        port: the port; 0 takes a free one.
        certificate: file with the certificate and its chain (PEM); None speaks plain HTTP.
        private_key: file with its key (PEM).
        proxies: addresses or networks of proxies whose ``X-Forwarded-For`` is believed.
        clients: answers at once; more clients are told to come later.
        stop_seconds: how long transfers may go on once the repository is asked to stop.
    """

    host: str
    port: int
    certificate: Path | None = None
    private_key: Path | None = None
    proxies: tuple[str, ...] = ()
    clients: int = 256
    stop_seconds: int = 30


def serve(
    shelf: Shelf,
    listening: Listening,
    *,
    tokens: Tokens | None,
    log: Callable[[str], None],
    on_ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT; transfers that go on are finished, within the limit.

    Args:
        shelf: what is served.
        listening: where and how.
        tokens: who may fetch; None lets everybody.
        log: gets one line a request.
        on_ready: is told the URL once requests are answered.

    Raises:
        UsageError: the address cannot be used, or the certificate.
    """
    check_certificate(listening)
    with listen(listening) as listener, _stopped_by_signals():
        url = _url(listening, listener)

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            asyncio.get_running_loop().set_exception_handler(_Failures(log))
            refreshing = [asyncio.create_task(_keep_fresh(part, log)) for part in _parts(shelf, tokens)]
            on_ready(url)
            yield
            for task in refreshing:
                task.cancel()

        guarded = Guard(Application(shelf, tokens=tokens).build(lifespan), log=log, clients=listening.clients)
        connections = _connections(listening.clients, log=log)
        uvicorn.Server(_config(guarded, listening, connections=connections)).run(sockets=[listener])


@contextmanager
def listen(listening: Listening) -> Iterator[socket.socket]:
    """A socket on which clients may connect already.

    Raises:
        UsageError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        listener = socket.create_server((listening.host, listening.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"nobody can listen on {listening.host} port {listening.port}",
            why=(getattr(error, "strerror", None) or str(error)).partition(" (while")[0],
            remedy="name another address with --listen HOST:PORT, or see with `ss -ltnp` who listens there",
        ) from error
    with contextlib.closing(listener):
        yield listener


def check_certificate(listening: Listening) -> None:
    """See that certificate and key can be used, and belong together.

    Raises:
        UsageError: they cannot, or one of them is missing.
    """
    if (listening.certificate is None) != (listening.private_key is None):
        raise UsageError("one of --certificate and --private-key is missing", why="TLS needs both")
    if listening.certificate is None or listening.private_key is None:
        return
    for path, word in (
        (listening.certificate, b"-----BEGIN CERTIFICATE-----"),
        (listening.private_key, b"PRIVATE KEY"),
    ):
        _check_pem(path, word)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listening.certificate, listening.private_key, "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or str(error)
        raise UsageError(
            f"{listening.certificate} and {listening.private_key} cannot be used",
            why="the key is not the certificate's" if reason == "KEY_VALUES_MISMATCH" else f"OpenSSL says {reason}",
            remedy="name a certificate chain and its unencrypted key, both as PEM",
        ) from error


def _check_pem(path: Path, word: bytes) -> None:
    """See what OpenSSL does not tell: whether a file is of the right kind."""
    text = read_input(path, limit=_MAX_PEM_SIZE)
    if word not in text or b"ENCRYPTED" in text:
        kind = "certificate" if b"CERTIFICATE" in word else "unencrypted private key"
        raise UsageError(f"{path} cannot be used", why=f"there is no {kind} in it, as PEM")


@dataclass(frozen=True)
class _Part:
    """What is looked at again from time to time: its name, the look, which returns what fails, and the pause."""

    name: str
    look: Callable[[], str]
    pause: Callable[[], float]


def _parts(shelf: Shelf, tokens: Tokens | None) -> Iterator[_Part]:
    def look_at_chain() -> str:
        shelf.refresh()
        return shelf.trouble

    def look_at_tokens() -> str:
        if tokens:
            tokens.reload()
        return tokens.trouble if tokens else ""

    yield _Part("chain", look_at_chain, lambda: shelf.pause)
    yield _Part("store", lambda: shelf.store_trouble, lambda: _STORE_SECONDS)
    if tokens:  # on their own, since a node that is slow to answer must not keep a token alive
        yield _Part("tokens", look_at_tokens, lambda: min(shelf.pace.refresh, _TOKENS_SECONDS))


async def _keep_fresh(part: _Part, log: Callable[[str], None]) -> None:
    told = ""
    while True:
        await asyncio.sleep(part.pause())
        trouble = await asyncio.to_thread(part.look)
        if trouble != told:
            log(event_line(part.name, trouble))
            told = trouble


class _Failures:
    """What fails in the server itself, such as taking a connection: a line of the log, once a minute for each sort."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._told: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        trouble = f"{context['message']}: {context.get('exception', '')}"
        if loop.time() < self._told.get(context["message"], 0):
            return
        self._told[context["message"]] = loop.time() + _FAILURE_SECONDS
        self._log(event_line("server", trouble))


def _connections(clients: int, *, log: Callable[[str], None]) -> int:
    """How many connections are taken; above them clients get 503, and not silence for want of open files."""
    connections = _CONNECTIONS_A_CLIENT * clients + _SPARE_CONNECTIONS
    others = clients + _SPARE_FILES  # an answer has a block's file open
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, min(connections + others, hard)) if hard >= 0 else max(soft, connections + others)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if connections + others <= limit:
        return connections
    fewer = max(limit - others, limit // 2)
    log(event_line("connections", f"the system lets {limit} files be open: at most {fewer} connections are taken"))
    return fewer


def _config(app: Guard, listening: Listening, *, connections: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=GuardedConnection,
        loop="asyncio",  # uvloop cannot send files
        ws="none",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=bool(listening.proxies),
        forwarded_allow_ips=list(listening.proxies),
        limit_concurrency=connections,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=listening.stop_seconds,
        backlog=_BACKLOG,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.private_key,
    )


def _url(listening: Listening, listener: socket.socket) -> str:
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    return f"{'https' if listening.certificate else 'http'}://{host}:{listener.getsockname()[1]}"


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """The server raises the signals that ended it once more, when it has ended: they have done their work by then."""
    asked = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: None) for number in asked]
    try:
        yield
    finally:
        for number, handler in zip(asked, before, strict=True):
            signal.signal(number, handler)
