"""HTTP requests that return trailers, and servers with scripted responses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """An HTTP response.

    Attributes:
        status: the status code.
        body: the body, without chunk headers.
        type: the content type.
        trailer: the trailer after the last chunk.
        location: the target of a redirect.
    """

    status: int
    body: bytes
    type: str = "application/json"
    trailer: str = ""
    location: str = ""


def post(url: str) -> Answer:
    """Send a POST request without a body, and return the response with its trailer."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        request = f"POST {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        connection.sendall(f"{request}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    if b"Transfer-Encoding: chunked" not in head:
        return Answer(int(head.split()[1]), body)
    data, trailer = unchunked(body)
    return Answer(int(head.split()[1]), data, trailer=trailer)


def get(url: str, *, accept: str = "*/*") -> tuple[Message, bytes]:
    """Send a GET request, and return ⟨headers, body⟩."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc)
    connection.request("GET", f"{parts.path}?{parts.query}", headers={"Accept": accept})
    response = connection.getresponse()
    return response.headers, response.read()


def unchunked(body: bytes) -> tuple[bytes, str]:
    """Return ⟨data, trailer⟩ of a chunked body (RFC 9112 section 7.1)."""
    data, position = bytearray(), 0
    while True:
        end = body.index(b"\r\n", position)
        size = int(body[position:end], 16)
        if not size:
            return bytes(data), body[end + 2 :].decode().strip()
        data += body[end + 2 : end + 2 + size]
        position = end + size + 4


@contextmanager
def stranger(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Run a server with a scripted response for each command of Kubo's RPC API; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            while int(size := self.rfile.readline() if "Transfer-Encoding" in self.headers else b"0", 16):
                self.rfile.read(int(size, 16) + 2)
            answer = answers[urlsplit(self.path).path.removeprefix("/api/v0/")]
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.type)
            self.send_header("Content-Length", str(len(answer.body)))
            if answer.location:
                self.send_header("Location", answer.location)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
