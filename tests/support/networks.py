"""Local chains with the faults of real networks: slow blocks, and connections that break at a chosen request."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from blockota.chain import Chain
from blockota.chain.local import find_anvil, free_port
from blockota.deployment import LOCAL_CHAIN_ID
from tests.conftest import wait_for_chain


@contextmanager
def fresh_anvil(*options: str, history: int = 256) -> Iterator[Chain]:
    """Start a separate anvil chain with the given options. The chain keeps the states of the last `history` blocks."""
    port = free_port()
    command = [str(find_anvil()), "--chain-id", str(LOCAL_CHAIN_ID), "--port", str(port), *options]
    command += ["--prune-history", str(history)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield wait_for_chain(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


@dataclass
class Line:
    """A proxy between a program and its node, which can break the connection.

    Attributes:
        node: URL of the node.
        url: URL of the proxy.
        cut_before: the connection breaks before a request with this method is forwarded.
        cut_after: the connection breaks after a request with this method was processed, before the response.
        is_cut: whether the connection is broken.
        stale: the method whose last response is repeated, as by a lagging node.
        requests: methods of the requests that reached the node.
    """

    node: str
    url: str = ""
    cut_before: str = ""
    cut_after: str = ""
    is_cut: bool = False
    stale: str = ""
    requests: list[str] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)

    def pass_on(self, body: bytes) -> bytes | None:
        """Forward a request; return None if the connection breaks."""
        method = method_of(body)
        self.is_cut = self.is_cut or method == self.cut_before
        if self.is_cut:
            return None
        answer = self.answers[method] if method == self.stale else post(self.node, body)
        self.answers[method] = answer
        self.requests.append(method)
        self.is_cut = method == self.cut_after
        return None if self.is_cut else answer

    def mend(self) -> None:
        """Restore the connection."""
        self.is_cut, self.cut_before, self.cut_after = False, "", ""


def method_of(body: bytes) -> str:
    """Return the method of a JSON-RPC request, or of the first call of a batch."""
    request = json.loads(body)
    method: str = (request[0] if isinstance(request, list) else request)["method"]
    return method


def refusal(message: str, *, code: int = -32000) -> bytes:
    """Return the response of a node that refuses a JSON-RPC request."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}}).encode()


@contextmanager
def stand_in(answer: Callable[[bytes], tuple[int, bytes] | None]) -> Iterator[str]:
    """Run a server on loopback in place of a node, and yield its URL.

    Args:
        answer: maps the body of a request to status and body of the response; None breaks the connection.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answered = answer(self.rfile.read(int(self.headers["Content-Length"])))
            if answered is None:
                self.close_connection = True
                return
            status, body = answered
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            del args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def line_to(chain: Chain) -> Iterator[Line]:
    """Run a proxy to a chain; the proxy's connection can be broken."""
    line = Line(chain.url)

    def answer(body: bytes) -> tuple[int, bytes] | None:
        passed_on = line.pass_on(body)
        return None if passed_on is None else (200, passed_on)

    with stand_in(answer) as line.url:
        yield line


def rpc(chain: Chain, method: str, *parameters: Any) -> Any:
    """Send a JSON-RPC request that only development nodes support, and return its result."""
    return call(chain.url, method, *parameters)


def call(url: str, method: str, *parameters: Any) -> Any:
    """Send a JSON-RPC request to a node on this machine, and return its result."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
    answer = json.loads(post(url, body))
    assert "error" not in answer, answer
    return answer["result"]


def post(url: str, body: bytes) -> bytes:
    """Send an HTTP POST request to a node on this machine, and return the body of the response."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as response:  # noqa: S310 - loopback
        answer: bytes = response.read()
        return answer


def free_port_pair() -> int:
    """Return a port p of 127.0.0.1 such that p and p + 1 are free.

    Both ports are below 30,000, so they are outside the system's range for outgoing connections (from 32,768).
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with (
            suppress(OSError),
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("127.0.0.1", port + 1)),
        ):
            return port
