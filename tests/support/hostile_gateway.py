"""A trustless gateway on a real socket, which is either honest or has one fault.

The gateway answers with status 400 if a request has an unexpected path, allows compression, or has a wrong media type.
"""

from __future__ import annotations

import gzip
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from typing import Any

from blockota.errors import UsageError
from blockota.formats.cid import CID
from tests.support.car_samples import write_car
from tests.support.waiting import DEADLINE

CAR_ACCEPT = "application/vnd.ipld.car; version=1; order=dfs; dups=y"
RAW_ACCEPT = "application/vnd.ipld.raw"
TEBIBYTE = 1 << 40


@dataclass
class Gateway:
    """The blocks and the behaviour of a gateway, and the requests that it received.

    Attributes:
        blocks: the stored blocks by CID.
        vice: the function that writes each response, honest or faulty.
        has_car: whether the gateway serves CARs.
        order: the parameters of the CAR's media type.
        repeat: whether the CARs repeat blocks.
        token: the required bearer token; empty if none is required.
        asked: requested paths, with their counts.
        refused: requests that a correct client must not send.
        shown: values of the received ``Authorization`` headers.
        left: set when a connection has ended.
        ended: set when the gateway ends.
    """

    blocks: dict[CID, bytes]
    vice: Callable[[Handler, bytes], object]
    has_car: bool = True
    order: str = "version=1; order=dfs; dups=y"
    repeat: bool = True
    token: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """One connection to a gateway."""

    protocol_version = "HTTP/1.1"
    gateway: Gateway
    content_type: str

    def do_GET(self) -> None:
        """Respond with a block or a CAR."""
        self.answer()

    def do_HEAD(self) -> None:
        """Respond with the headers of a block or a CAR."""
        self.answer()

    def answer(self) -> None:
        """Check the request, and write a response with the gateway's fault."""
        self.gateway.asked[self.path] += 1
        self.gateway.shown += self.headers.get_all("Authorization", [])
        match = re.fullmatch(
            r"(?:/sub)?/ipfs/([a-z2-7]+)\?format=(raw|car&dag-scope=entity&car-order=dfs&car-dups=y)", self.path
        )
        cid = cid_of_text(match[1]) if match else None
        if match is None or cid is None or not self.is_proper(is_car=match[2] != "raw"):
            self.gateway.refused.append(f"{self.path} {dict(self.headers)}")
            self.fail(400)
        elif self.gateway.token and self.headers.get("Authorization") != f"Bearer {self.gateway.token}":
            self.fail(401)
        elif cid not in self.gateway.blocks:
            self.fail(404)
        elif match[2] == "raw":
            self.content_type = RAW_ACCEPT
            self.gateway.vice(self, self.gateway.blocks[cid])
        elif self.gateway.has_car:
            self.content_type = f"application/vnd.ipld.car; {self.gateway.order}"
            stream = write_car(cid, self.gateway.blocks.__getitem__, repeat=self.gateway.repeat)
            self.gateway.vice(self, b"".join(stream))
        else:
            self.fail(406)

    def is_proper(self, *, is_car: bool) -> bool:
        """Return whether the request has the headers that the protocol requires, each once."""
        names = [name.lower() for name in self.headers]
        wanted = {"Accept": CAR_ACCEPT if is_car else RAW_ACCEPT, "Accept-Encoding": "identity"}
        host = self.gateway.url.partition("//")[2].partition("/")[0]
        return (
            len(names) == len(set(names))
            and all(self.headers.get(name) == value for name, value in wanted.items())
            and self.headers.get("Host") == host
        )

    def fail(self, status: int) -> None:
        """Send a response without a body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def head(self, length: int, **more: str) -> None:
        """Send the headers of a successful response; underscores in names stand for hyphens."""
        self.send_response(200)
        self.send_header("Content-Type", self.content_type)
        self.send_header("Content-Length", str(length))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def body(self, data: bytes) -> None:
        """Send the body, unless the request is a HEAD."""
        if self.command != "HEAD":
            self.wfile.write(data)

    def pause(self, seconds: float) -> None:
        """Wait between two parts of a slow response, at most until the gateway ends."""
        self.gateway.ended.wait(seconds)

    def await_client(self) -> None:
        """Wait until the client closes the connection, at most until the deadline of the tests."""
        self.wfile.flush()
        self.connection.settimeout(DEADLINE)
        self.close_connection = True
        self.connection.recv(1)

    def finish(self) -> None:
        """Close the connection."""
        try:
            super().finish()
        finally:
            self.gateway.left.set()

    def hang_up(self) -> None:
        """Close the connection at once."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library names it so
        """Log nothing."""


class Server(ThreadingHTTPServer):
    """A server that does not wait for open connections when it ends, and does not report errors."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors, because the tests disconnect clients."""


def cid_of_text(text: str) -> CID | None:
    """Parse a CID; return None if it is invalid."""
    try:
        return CID.parse(text)
    except UsageError:
        return None


def honest(handler: Handler, data: bytes) -> None:
    """Serve the requested content."""
    handler.head(len(data))
    handler.body(data)


def chunked(handler: Handler, data: bytes) -> None:
    """Serve the requested content in chunks, without Content-Length."""
    handler.send_response(200)
    handler.send_header("Content-Type", handler.content_type)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(data), 70_000):
        piece = data[start : start + 70_000]
        handler.body(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    handler.body(b"0\r\n\r\n")


def flips_bit(place: float) -> Callable[[Handler, bytes], None]:
    """Return a fault that flips one bit of each response, at a position from 0 (start) to 1 (end)."""

    def vice(handler: Handler, data: bytes) -> None:
        changed = bytearray(data)
        bit = int(place * (8 * len(data) - 1))
        changed[bit // 8] ^= 1 << bit % 8
        honest(handler, bytes(changed))

    return vice


def truncates(handler: Handler, data: bytes) -> None:
    """Send half of the announced length and close the connection."""
    handler.head(len(data))
    handler.body(data[: len(data) // 2])
    handler.hang_up()


def truncates_silently(handler: Handler, data: bytes) -> None:
    """Serve half of the content, with a Content-Length that matches the half."""
    honest(handler, data[: len(data) // 2])


def stalls(handler: Handler, data: bytes) -> None:
    """Send half of the content, then nothing."""
    handler.head(len(data))
    handler.body(data[: len(data) // 2])
    handler.await_client()


def stalls_at_once(handler: Handler, data: bytes) -> None:
    """Send nothing."""
    del data
    handler.await_client()


def drips(handler: Handler, data: bytes) -> None:
    """Send the content at ten bytes per second."""
    handler.head(len(data))
    for byte in data:
        handler.body(bytes((byte,)))
        handler.pause(0.1)


def drips_headers(handler: Handler, data: bytes) -> None:
    """Send a header that does not end, ten bytes per second."""
    handler.send_response(200)
    handler.flush_headers()
    for byte in b"X-Padding: " + data:
        handler.body(bytes((byte % 26 + 65,)))
        handler.pause(0.1)


def continues_for_ever(handler: Handler, data: bytes) -> None:
    """Send interim responses with status 100 (Continue) forever."""
    del data
    while True:
        handler.body(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def trails_for_ever(handler: Handler, data: bytes) -> None:
    """Serve the content in a chunk, followed by endless trailers."""
    handler.send_response(200)
    handler.send_header("Content-Type", handler.content_type)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.body(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n")
    while True:
        handler.body(b"X-Trailer: more\r\n" * 1000)


def redirects_to(url: str) -> Callable[[Handler, bytes], None]:
    """Return a fault that redirects the client; "{path}" in the URL is replaced by the requested path."""

    def vice(handler: Handler, data: bytes) -> None:
        del data
        handler.send_response(302)
        handler.send_header("Location", url.replace("{path}", handler.path))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return vice


def zips(handler: Handler, data: bytes) -> None:
    """Respond with gzip, which the client did not request."""
    packed = gzip.compress(data)
    handler.head(len(packed), Content_Encoding="gzip")
    handler.body(packed)


def shows_a_page(handler: Handler, data: bytes) -> None:
    """Respond with the HTML page of a captive portal and status 200."""
    del data
    page = b"<html><body>Please log in</body></html>"
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", str(len(page)))
    handler.end_headers()
    handler.body(page)


def announces_a_tebibyte(handler: Handler, data: bytes) -> None:
    """Announce a length of 1 TiB."""
    handler.head(TEBIBYTE)
    handler.body(data)
    handler.hang_up()


def sends_without_end(handler: Handler, data: bytes) -> None:
    """Send endless chunks."""
    handler.send_response(200)
    handler.send_header("Content-Type", handler.content_type)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.body(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def closes_after_every_block(handler: Handler, data: bytes) -> None:
    """Close the connection after slightly more than 1 MiB, without a Connection header."""
    handler.head(len(data))
    handler.body(data[: (1 << 20) + 300])
    handler.hang_up()


def is_busy(handler: Handler, data: bytes) -> None:
    """Respond with status 503."""
    del data
    handler.fail(503)


@contextmanager
def serving(
    blocks: dict[CID, bytes],
    vice: Callable[[Handler, bytes], object] = honest,
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    **settings: Any,
) -> Iterator[Gateway]:
    """Run a gateway until the `with` block ends."""
    gateway = Gateway(blocks, vice, **settings)
    server = Server((host, 0), type("Bound", (Handler,), {"gateway": gateway}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    gateway.url = f"{'https' if tls else 'http'}://{'localhost' if tls else host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        gateway.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
