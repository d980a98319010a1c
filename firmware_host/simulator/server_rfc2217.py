"""Serve a simulated board through an RFC 2217 serial server, with baud rate, parity, break and control lines.

pyserial's `PortManager` implements the protocol; this module implements the port. If a control line is wired to NRST,
opening the port does not reset the board, and the host must reset it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from serial import rfc2217

from blockota.errors import UsageError
from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.line import LineSettings
from firmware_host.simulator.server import arriving, serve_connections, tick


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """The connection of the control lines to a board's NRST and BOOT0 pins.

    The adapter inverts the control lines: an asserted line pulls its pin low. With DTR on NRST and RTS on BOOT0, the
    board is in reset while DTR is asserted. The board starts its boot ROM if RTS is not asserted when the reset ends.

    Attributes:
        reset: the signal that drives NRST: ``dtr``, ``rts``, ``break``, or empty for a reset by hand.
        boot0: the control line that drives BOOT0: ``dtr``, ``rts``, or empty if a jumper sets BOOT0.
        invert_reset: whether NRST is low while its control line is not asserted.
        invert_boot0: whether BOOT0 is high while its control line is asserted.
        rs485: whether RTS switches an RS485 transceiver, which sends to the board while RTS is asserted, and otherwise
            receives from it. Bytes against this direction are lost. The board's answer waits for the transceiver to
            receive; a real board does not wait.
        invert_rs485: whether the transceiver sends while RTS is not asserted.
    """

    reset: str = ""
    boot0: str = ""
    invert_reset: bool = False
    invert_boot0: bool = False
    rs485: bool = False
    invert_rs485: bool = False

    @property
    def uses_rts(self) -> bool:
        """Whether RTS drives a pin of the board."""
        return "rts" in {self.reset, self.boot0}


DTR_RTS = Wiring(reset="dtr", boot0="rts")
WIRINGS = {
    "none": Wiring(),
    "dtr-rts": DTR_RTS,
    "rts-dtr": Wiring(reset="rts", boot0="dtr"),
    "dtr": Wiring(reset="dtr"),
    "rts": Wiring(reset="rts"),
    "break": Wiring(reset="break"),
}
"""Wirings by name."""


@contextmanager
def serve_rfc2217(board: SimulatedBoard, *, port: int = 0, wiring: Wiring = DTR_RTS) -> Iterator[str]:
    """Serve the board as `serve_tcp` does, behind a serial server; yield its ``rfc2217://`` URL.

    Raises:
        UsageError: RTS would drive a pin of the board and a transceiver.
        LinkError: the port is in use or not allowed.
    """
    if wiring.rs485 and wiring.uses_rts:
        raise UsageError(
            "RTS cannot switch an RS485 transceiver and drive a pin of the board",
            remedy="choose a wiring without RTS, such as dtr or none",
        )

    def talk(connection: socket.socket, ended: threading.Event) -> None:
        port = _BoardPort(board, connection, wiring)
        port.hear(board.connect(reset=not wiring.reset))
        # pyserial raises these exceptions on a malformed option negotiation: close the connection.
        with contextlib.suppress(LookupError, ValueError, struct.error):
            port.serve(ended)

    with serve_connections(talk, port=port) as address:
        yield f"rfc2217://{address}"


class _BoardPort:
    """The serial port that `PortManager` controls, connected to the simulated board."""

    cts = dsr = cd = True
    ri = xonxoff = rtscts = False
    stopbits = 1

    def __init__(self, board: SimulatedBoard, connection: socket.socket, wiring: Wiring) -> None:
        self._board, self._connection, self._wiring = board, connection, wiring
        self._pending, self._settings = bytearray(), LineSettings(9600, "N")
        # Whether each signal is asserted. The pins follow the signals only after the first change.
        self._lines = {"dtr": False, "rts": False, "break": False}
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
        """Send the board's bytes to the host, unless an RS485 transceiver is sending."""
        if data and not self._is_sending:
            self._connection.sendall(b"".join(self._manager.escape(data)))

    @property
    def _is_sending(self) -> bool:
        """Whether an RS485 transceiver is switched to sending."""
        return self._wiring.rs485 and self._lines["rts"] is not self._wiring.invert_rs485

    def _pass_on(self) -> None:
        """Pass the received bytes to the board; must be called before a line setting changes."""
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

    def _set_line(self, settings: LineSettings) -> None:
        self._pass_on()
        self._settings = settings
        self._board.set_line(settings)

    def _set_control(self, line: str, *, asserted: bool) -> None:
        """Set a control line. NRST changes at once, and BOOT0 takes effect at the next reset."""
        self._pass_on()
        self._lines[line] = asserted
        wiring = self._wiring
        if wiring.rs485 and not self._is_sending:
            late, self._late = self._late, b""
            self.hear(late)
        if wiring.boot0:
            self._board.boot0 = self._lines[wiring.boot0] == wiring.invert_boot0
        if line == wiring.reset:
            self._board.hold_reset(low=asserted != wiring.invert_reset)
        elif line == "break" and asserted:
            self._board.hear_break()

    # A change of a setting reaches the board after the bytes that were received before the change.
    baudrate = property(
        lambda self: self._settings.baud, lambda self, value: self._set_line(replace(self._settings, baud=value))
    )
    parity = property(
        lambda self: self._settings.parity, lambda self, value: self._set_line(replace(self._settings, parity=value))
    )
    bytesize = property(
        lambda self: self._settings.data_bits,
        lambda self, value: self._set_line(replace(self._settings, data_bits=value)),
    )
    dtr = property(lambda self: self._lines["dtr"], lambda self, value: self._set_control("dtr", asserted=value))
    rts = property(lambda self: self._lines["rts"], lambda self, value: self._set_control("rts", asserted=value))
    break_condition = property(
        lambda self: self._lines["break"], lambda self, value: self._set_control("break", asserted=value)
    )

    def reset_input_buffer(self) -> None:
        """Nothing is buffered."""

    def reset_output_buffer(self) -> None:
        """Nothing is buffered."""
