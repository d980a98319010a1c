"""Serve a simulated board on a TCP port or on a pseudo-terminal, from a thread.

Each new connection resets the board, which then runs its boot ROM (or its application, if BOOT0 is 0). A connection to
a pseudo-terminal begins when a program opens the terminal and no other program has it open.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from blockota.errors import LinkError, UsageError
from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.line import LineSettings

with contextlib.suppress(ImportError):  # these modules exist only on POSIX systems
    import fcntl
    import termios
    import tty

HOST = "127.0.0.1"
TICK = 0.01
"""Seconds between two polls of the line while the boot ROM runs."""
APPLICATION_TICK = 0.001
"""Seconds between two polls of the line while an application runs, which can send at any time."""
SEND_TIMEOUT = 5.0
"""Seconds after which the connection is closed if the host does not read."""
CHUNK = 4096
TCGETS2, TERMIOS2_SIZE, INPUT_SPEED = 0x802C_542A, 44, 36
"""The ioctl that reads a terminal's baud rate on Linux, the size of its result, and the offset of the rate in it."""


@contextmanager
def serve_tcp(board: SimulatedBoard, *, port: int = 0) -> Iterator[str]:
    """Serve the board on 127.0.0.1, one connection at a time; yield its ``socket://`` URL.

    Do not use the board while it is served. Port 0 stands for any free port.

    Raises:
        LinkError: the port is in use or not allowed.
    """

    def talk(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(board.connect())
        for data in arriving(connection, ended, tick=partial(tick, board)):
            connection.sendall(board.feed(data) + board.idle(tick(board)))

    with serve_connections(talk, port=port) as address:
        yield f"socket://{address}"


@contextmanager
def serve_pty(board: SimulatedBoard) -> Iterator[str]:
    """Serve the board on a new pseudo-terminal; yield its path, such as ``/dev/pts/3``.

    Raises:
        UsageError: the system has no pseudo-terminals.
    """
    if sys.platform == "win32":
        what, why = "a simulated board cannot be served on a pseudo-terminal", "Windows has none"
        raise UsageError(what, why=why, remedy="serve the board on a TCP port")
    master, slave = os.openpty()
    path = os.ttyname(slave)
    tty.setraw(slave)
    # The master reports a hang-up only while no program has the slave open.
    os.close(slave)
    os.set_blocking(master, False)
    try:
        with serving_thread(partial(_serve_terminal, board, master, path)):
            yield path
    finally:
        os.close(master)


def _serve_terminal(board: SimulatedBoard, master: int, path: str, ended: threading.Event) -> None:
    poll = select.poll()
    poll.register(master, select.POLLIN)
    connected = False
    while not ended.is_set():
        events = dict(poll.poll(tick(board) * 1000)).get(master, 0)
        if events & ~select.POLLIN:
            if connected:
                # A real port discards its buffer when it is closed; the kernel would keep it for the next program.
                slave = os.open(path, os.O_RDWR | os.O_NOCTTY)
                termios.tcflush(slave, termios.TCIFLUSH)
                os.close(slave)
            connected = False
            time.sleep(TICK)
        elif not connected:
            connected = True
            _send(master, board.connect())
        if events & select.POLLIN:
            # The baud rate that the program has set; a pseudo-terminal has no parity.
            if sys.platform == "linux":
                rate = fcntl.ioctl(master, TCGETS2, bytes(TERMIOS2_SIZE))[INPUT_SPEED : INPUT_SPEED + 4]
                # The bytes pass without a parity bit, so that the board's parity cannot differ.
                board.set_line(LineSettings(int.from_bytes(rate, sys.byteorder), board.side.parity))
            _send(master, board.feed(os.read(master, CHUNK)))
        if connected:
            _send(master, board.idle(tick(board)))


def _send(master: int, data: bytes) -> None:
    # Bytes that the program does not read are lost, as on a serial line.
    with contextlib.suppress(BlockingIOError):
        os.write(master, data)


@contextmanager
def serve_connections(talk: Callable[[socket.socket, threading.Event], None], *, port: int) -> Iterator[str]:
    """Serve connections to 127.0.0.1, one at a time, from a thread; yield ``host:port``.

    `talk` serves one connection until it ends or the event is set.

    Raises:
        LinkError: the port is in use or not allowed.
    """

    def accept(ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(SEND_TIMEOUT)
                # If the host closes the connection or stops reading within an answer, serve the next connection.
                with connection, contextlib.suppress(ConnectionError, TimeoutError):
                    talk(connection, ended)

    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise LinkError(
            f"cannot listen on {HOST}:{port}",
            why=os.strerror(error.errno) if error.errno else str(error),
            remedy="choose another port, or 0 for a free one",
        ) from error
    with listener:
        listener.settimeout(TICK)
        with serving_thread(accept):
            yield f"{HOST}:{listener.getsockname()[1]}"


@contextmanager
def serving_thread(serve: Callable[[threading.Event], None]) -> Iterator[None]:
    """Call `serve` in a thread, with an event that is set when the ``with`` block ends."""
    ended = threading.Event()
    thread = threading.Thread(target=serve, args=(ended,), name="simulated board", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # The thread is a daemon, so the process can end even if the thread is blocked.
        thread.join(timeout=SEND_TIMEOUT)


def arriving(connection: socket.socket, ended: threading.Event, *, tick: Callable[[], float]) -> Iterator[bytes]:
    """Yield the received data, or empty bytes after each tick without data, until the host closes the connection.

    The event `ended` ends the iteration as well. `tick` returns the number of seconds to wait for data.
    """
    while not ended.is_set():
        data = b""
        if select.select([connection], [], [], tick())[0]:
            data = connection.recv(CHUNK)
            # Without this option a host that sends a frame in parts waits 40 ms for each part (Nagle and delayed ACK),
            # unlike on a serial line. Linux resets the option after some time.
            if sys.platform == "linux":
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if not data:
                return
        yield data


def tick(board: SimulatedBoard) -> float:
    """Return the seconds until the board must be polled again."""
    return APPLICATION_TICK if board.application else TICK
