"""A TCP relay in front of a server; the relay's connections can be cut and refused."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Forwards connections to a port of this machine until the relay is cut.

    Attributes:
        port: the port of the relay, which remains the same after a cut.
        is_silent: whether the relay accepts connections and data, but forwards nothing.
    """

    def __init__(self, target: int, *, host: str = "127.0.0.1") -> None:
        self._target, self._host, self.is_silent = target, host, False
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._start()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        listener, self._listener = self._listener, None
        for one in (*([listener] if listener else []), *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

    def restore(self) -> None:
        """Accept connections again."""
        self._listener = socket.create_server((self._host, self.port))
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets |= {client, server}
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.is_silent:
                    target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def relayed(target: int) -> Iterator[Relay]:
    """Run a relay in front of a port."""
    relay = Relay(target)
    try:
        yield relay
    finally:
        relay.cut()
