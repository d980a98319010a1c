"""Serve a simulated board on a pseudo-terminal, from a thread. Windows has no pseudo-terminals.

A new connection, which resets the board, begins when a program opens the terminal and no other program has it open.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from blockota.errors import UsageError
from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.line import LineSettings
from firmware_host.simulator.server import CHUNK, TICK, serving_thread, tick

with contextlib.suppress(ImportError):  # these modules exist only on POSIX systems
    import fcntl
    import termios
    import tty

TCGETS2, TERMIOS2_SIZE, INPUT_SPEED = 0x802C_542A, 44, 36
"""The ioctl that reads a terminal's baud rate on Linux, the size of its result, and the offset of the rate in it."""


@contextmanager
def serve_pty(board: SimulatedBoard) -> Iterator[str]:
    """Serve the board on a new pseudo-terminal; yield its path, such as ``/dev/pts/3``.

    Raises:
        UsageError: the system has no pseudo-terminals.
    """
    if sys.platform == "win32":
        raise UsageError(
            "a simulated board cannot be served on a pseudo-terminal",
            why="Windows has none",
            remedy="serve the board on a TCP port",
        )
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
