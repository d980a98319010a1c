"""A server process imports common libraries once and forks Python programs from itself, which saves import time.

`tests.support.forks` starts this server, and passes a listening socket as its stdin. Each connection to the server
stands for one program. For each program, the client sends a line of JSON together with the program's descriptors. The
server answers with the program's process id, and finally with its exit status. If the client closes the connection, the
program is killed.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from typing import Any

PRELOADED = (
    *("blockota.cli.main", "blockota.cli.broker", "blockota.cli.flash", "blockota.cli.proposal"),
    *("blockota.cli.release", "blockota.cli.repository", "blockota.connection", "blockota.repository.server"),
    *(
        "blockota.cli.bench",
        "blockota.broker.agreements",
        "blockota.chain.follow",
        "blockota.desk",
        "blockota.vendor.pack",
    ),
    *("coincurve", "encodings.utf_8_sig", "firmware_host.bench.log_folder", "rich._unicode_data.unicode17-0-0"),
    *("eth_account", "filelock", "requests", "rich.progress", "tests.support.fetch_samples"),
    *("ethpm_types", "pydantic_settings", "web3", "yaml"),  # of Ape, which itself reads HOME when it is imported
)
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class ForkedProgram:
    """A Python program that a client wants to run.

    Attributes:
        words: the arguments of Python: ``-m MODULE``, ``-c CODE`` or a file, and the program's own arguments.
        folder: the working folder.
        environment: all environment variables.
        descriptors: stdin, stdout and stderr. If stdin is a terminal, it becomes the program's controlling terminal.
    """

    words: list[str]
    folder: str
    environment: dict[str, str]
    descriptors: list[int]

    def enter(self) -> None:
        """Give this process the program's descriptors, folder and environment."""
        if os.isatty(self.descriptors[0]):
            os.login_tty(os.dup(self.descriptors[0]))
        for number, descriptor in enumerate(self.descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = (_stream(number, mode) for number, mode in enumerate("rww"))

        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        time.tzset()  # TZ is read again
        sys.path[:0] = self.environment.get("PYTHONPATH", "").split(os.pathsep)

    def run(self) -> None:
        """Run the program as ``python WORDS`` does."""
        kind, *rest = self.words
        if kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - a test's program
        else:
            sys.argv = self.words
            runpy.run_path(kind, run_name="__main__")


class ForkServer:
    """Fork programs until the descriptor `life` reports the end of file.

    `life` reports the end of file when the tests have ended.
    """

    def __init__(self, listener: socket.socket, life: int) -> None:
        self._listener = listener
        self._clients: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, wakes = socket.socketpair()
        for end in (self._wake, wakes):
            end.settimeout(0)
        self._wakes = wakes
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes.fileno())
        for source in (listener, self._wake, life):
            self._selector.register(source, selectors.EVENT_READ)
        self._life = life

    def serve(self) -> ForkedProgram | None:
        """Fork programs.

        In a forked process, return the program to run; in the server, return None at the end.
        """
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    if program := self._accept():
                        return program
                elif key.fileobj is self._wake:
                    self._wake.recv(1 << 12)
                    self._reap()
                elif key.fileobj == self._life:
                    return None
                elif key.data in self._clients:
                    self._selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)  # it was not waited for yet, so the number is its own

    def _accept(self) -> ForkedProgram | None:
        client, _ = self._listener.accept()
        for module in PRELOADED:
            import_module(module)
        try:
            fields, descriptors = receive(client)
        except ConnectionError:  # the client was killed
            client.close()
            return None
        for module in fields.pop("preloaded"):
            with suppress(ImportError):  # the program reports it, and the server goes on
                import_module(module)
        gc.freeze()
        if pid := os.fork():
            for descriptor in descriptors:
                os.close(descriptor)
            self._clients[pid] = client
            self._selector.register(client, selectors.EVENT_READ, pid)
            with suppress(ConnectionError):
                client.sendall(b"%d\n" % pid)
            return None

        self._leave(client)
        return ForkedProgram(descriptors=descriptors, **fields)

    def _leave(self, client: socket.socket) -> None:
        """In a new process, close the descriptors that belong to the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for end in (client, *self._clients.values(), self._listener, self._wake, self._wakes):
            end.close()
        os.close(self._life)

    def _reap(self) -> None:
        """Report the exit status of each ended program to its client."""
        while self._clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            client = self._clients.pop(pid)
            if client in {key.fileobj for key in self._selector.get_map().values()}:
                self._selector.unregister(client)
                with suppress(ConnectionError):
                    client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            client.close()


def _stream(number: int, mode: str) -> TextIOWrapper:
    """Open a standard stream in the same way as Python at its start."""
    errors = "backslashreplace" if number == 2 else "strict"
    has_lines = number == 2 or os.isatty(number)
    binary = os.fdopen(number, f"{mode}b", closefd=False)
    return TextIOWrapper(binary, encoding="utf-8", errors=errors, line_buffering=has_lines)


def receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive a line of JSON, and the descriptors that were sent with its first byte.

    Raises:
        ConnectionError: the connection ended within the line.
    """
    line, descriptors, _, _ = socket.recv_fds(client, _MAX_LINE, 3)
    while not line.endswith(b"\n"):
        part = client.recv(_MAX_LINE)
        if not part:
            raise ConnectionError
        line += part
    return json.loads(line), descriptors


def main() -> None:
    """Serve on the socket at stdin until the tests end.

    The first argument is the number of a descriptor that reports the end of file when the tests end.
    """
    listener = socket.socket(fileno=os.dup(0))
    if program := ForkServer(listener, int(sys.argv[1])).serve():
        program.enter()
        program.run()


if __name__ == "__main__":
    main()
