"""Serve a simulated board from a thread: on a TCP port, on a pseudo-terminal, or as an RFC 2217 serial server.

Each new connection resets the board, which then runs its boot ROM (or its application, if BOOT0 is 0). On a
pseudo-terminal, a connection begins when a program opens the terminal while no other program has it open.

An RFC 2217 server has baud rate, parity, break and control lines. pyserial's `PortManager` implements the protocol, and
this module implements the port. If a control line is wired to NRST, a new connection does not reset the board: the host
must reset the board.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from serial import rfc2217

from blockota.errors import LinkError, UsageError
from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.line import LineSettings

with contextlib.suppress(ImportError):  # these modules exist only on POSIX systems
    import fcntl
    import termios
    import tty

HOST = "127.0.0.1"
TICK, APPLICATION_TICK = 0.01, 0.001
"""Seconds between two polls of the line while the boot ROM runs, and an application, which can send at any time."""
SEND_TIMEOUT = 5.0
"""Seconds after which the connection is closed if the host does not read."""
CHUNK = 4096
TCGETS2, TERMIOS2_SIZE, INPUT_SPEED = 0x802C_542A, 44, 36
"""The ioctl that reads a terminal's baud rate on Linux, the size of its result, and the offset of the rate in it."""


@contextmanager
def serve_tcp(board: SimulatedBoard, *, port: int = 0) -> Iterator[str]:
    """Serve the board on 127.0.0.1, one connection at a time; yield its ``socket://`` URL.

    Do not use the board while it is served. Port 0 stands for any free port. A port that is in use raises LinkError.
    """

    def talk(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(board.connect())
        for data in arriving(connection, ended, tick=partial(tick, board)):
            connection.sendall(board.feed(data) + board.idle(tick(board)))

    with serve_connections(talk, port=port) as address:
        yield f"socket://{address}"


@contextmanager
def serve_pty(board: SimulatedBoard) -> Iterator[str]:
    """Serve the board on a new pseudo-terminal; yield its path, such as ``/dev/pts/3``. Windows has none."""
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

    `talk` serves one connection until the connection ends or the event is set.
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
            remedy="choose another port, or 0 for any free port",
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
    """Yield received data, or empty bytes after `tick`, until the host closes the connection or `ended` is set."""
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


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """The signals that drive a board's NRST and BOOT0: ``dtr``, ``rts``, ``break``, or empty for control by hand.

    The adapter inverts the control lines: an asserted line pulls its pin low, unless `invert_reset` or `invert_boot0`
    is set. With DTR on NRST and RTS on BOOT0, the board is in reset while DTR is asserted, and starts its boot ROM if
    RTS is not asserted when the reset ends.

    Attributes:
        rs485: whether RTS switches an RS485 transceiver, which sends to the board while RTS is asserted, and otherwise
            receives from the board. Bytes in the opposite direction are lost. The board's answers are not lost, because
            the simulated board, unlike a real board, waits until the transceiver receives.
        invert_rs485: whether the transceiver sends while RTS is not asserted.
    """

    reset: str = ""
    boot0: str = ""
    invert_reset: bool = False
    invert_boot0: bool = False
    rs485: bool = False
    invert_rs485: bool = False


DTR_RTS = Wiring(reset="dtr", boot0="rts")
WIRINGS = {
    "none": Wiring(),
    "dtr-rts": DTR_RTS,
    "rts-dtr": Wiring(reset="rts", boot0="dtr"),
    "dtr": Wiring(reset="dtr"),
    "rts": Wiring(reset="rts"),
    "break": Wiring(reset="break"),
}


@contextmanager
def serve_rfc2217(board: SimulatedBoard, *, port: int = 0, wiring: Wiring = DTR_RTS) -> Iterator[str]:
    """Serve the board like `serve_tcp`, but as an RFC 2217 serial server; yield its ``rfc2217://`` URL."""
    if wiring.rs485 and "rts" in {wiring.reset, wiring.boot0}:
        raise UsageError(
            "RTS cannot switch an RS485 transceiver and drive a pin of the board",
            remedy="choose a wiring without RTS, such as dtr or none",
        )

    def talk(connection: socket.socket, ended: threading.Event) -> None:
        port = _SimulatedPort(board, connection, wiring)
        port.hear(board.connect(reset=not wiring.reset))
        # pyserial raises these exceptions on a malformed option negotiation: close the connection.
        with contextlib.suppress(LookupError, ValueError, struct.error):
            port.serve(ended)

    with serve_connections(talk, port=port) as address:
        yield f"rfc2217://{address}"


def _setting(name: str) -> property:
    return property(
        lambda port: getattr(port.settings, name),
        lambda port, value: port.set_line(replace(port.settings, **{name: value})),
    )


def _control(line: str) -> property:
    return property(lambda port: port.lines[line], lambda port, value: port.set_control(line, asserted=value))


class _SimulatedPort:
    """The serial port that `PortManager` controls, connected to the simulated board."""

    cts = dsr = cd = True
    ri = xonxoff = rtscts = False
    stopbits = 1

    def __init__(self, board: SimulatedBoard, connection: socket.socket, wiring: Wiring) -> None:
        self._board, self._connection, self._wiring = board, connection, wiring
        self._pending, self.settings = bytearray(), LineSettings(9600, "N")
        # Whether each signal is asserted. The pins follow the signals only after the first change.
        self.lines = {"dtr": False, "rts": False, "break": False}
        self._late = b""  # an answer that the board sends as soon as the transceiver receives
        manager: Any = rfc2217.PortManager
        self._manager = manager(self, self)

    def serve(self, ended: threading.Event) -> None:
        for data in arriving(self._connection, ended, tick=partial(tick, self._board)):
            for byte in self._manager.filter(data):
                self._pending += byte
            self._pass_on()
            self.hear(self._board.idle(tick(self._board)))

    def write(self, data: bytes) -> None:
        """Send bytes of the RFC 2217 protocol to the host."""
        self._connection.sendall(data)

    def hear(self, data: bytes) -> None:
        """Send the board's bytes to the host, unless an RS485 transceiver is sending to the board."""
        if data and not self._is_sending:
            self._connection.sendall(b"".join(self._manager.escape(data)))

    @property
    def _is_sending(self) -> bool:
        """Whether an RS485 transceiver is switched to sending."""
        return self._wiring.rs485 and self.lines["rts"] is not self._wiring.invert_rs485

    def _pass_on(self) -> None:
        """Pass the received bytes to the board. This must happen before each change of a line setting."""
        if not self._pending:
            return
        data = bytes(self._pending)
        self._pending.clear()

        if not self._wiring.rs485:
            self.hear(self._board.feed(data))
        elif self._is_sending:
            answer = self._board.feed(data)
            echo = data if self._board.side.half_duplex else b""
            self._connection.sendall(b"".join(self._manager.escape(answer[: len(echo)])))
            self._late = answer[len(echo) :]

    def set_line(self, settings: LineSettings) -> None:
        self._pass_on()
        self.settings = settings
        self._board.set_line(settings)

    def set_control(self, line: str, *, asserted: bool) -> None:
        """Set a control line. NRST changes immediately; a change of BOOT0 takes effect at the next reset."""
        self._pass_on()
        self.lines[line] = asserted

        wiring = self._wiring
        if wiring.rs485 and not self._is_sending:
            late, self._late = self._late, b""
            self.hear(late)

        if wiring.boot0:
            self._board.boot0 = self.lines[wiring.boot0] == wiring.invert_boot0
        if line == wiring.reset:
            self._board.hold_reset(low=asserted != wiring.invert_reset)
        elif line == "break" and asserted:
            self._board.hear_break()

    # A change of a setting reaches the board after the bytes that were received before the change.
    baudrate, parity, bytesize = map(_setting, ("baud", "parity", "data_bits"))
    dtr, rts, break_condition = map(_control, ("dtr", "rts", "break"))

    def reset_input_buffer(self) -> None:
        """Nothing is buffered."""

    reset_output_buffer = reset_input_buffer
