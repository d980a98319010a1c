"""The simulated board behind a serial server, through pyserial's own client of RFC 2217."""

from __future__ import annotations

import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
import serial
from serial import rfc2217

from firmware_host.simulator import WIRINGS, SimulatedBoard, Wiring, serve_rfc2217
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

ACK, ID = b"\x79", b"\x79\x01\x04\x10\x79"
"""Seconds after which a read fails."""


@contextmanager
def opened(url: str, *, dtr: bool = False, rts: bool = False, parity: str = "E") -> Iterator[rfc2217.Serial]:
    """Open the port with its lines preset."""
    port = serial.serial_for_url(url, do_not_open=True, baudrate=115200, parity=parity, timeout=DEADLINE)
    assert isinstance(port, rfc2217.Serial)
    port.dtr, port.rts = dtr, rts
    port.open()
    with closing(port):
        yield port


def asked(port: rfc2217.Serial, data: bytes, *, length: int = 1) -> bytes:
    """Write, and return an answer of this length."""
    port.write(data)
    return bytes(port.read(length))


def answered(port: rfc2217.Serial, data: bytes) -> bytes:
    """Write, and return everything that is answered.

    The client waits until the server has confirmed a rate. The server works in order, so the answer to the data has
    arrived by then.
    """
    port.write(data)
    port.baudrate = port.baudrate
    return bytes(port.read(port.in_waiting))


def pulse(port: rfc2217.Serial, line: str) -> None:
    """Assert a line, and release it."""
    setattr(port, line, True)
    setattr(port, line, False)


def test_an_escaped_byte_goes_both_ways() -> None:
    """0xFF is doubled on the wire, and single at both ends."""
    with serve_rfc2217(SimulatedBoard()) as url, opened(url) as port:
        assert asked(port, b"\x7f") == ACK
        assert asked(port, b"\x11\xee") == ACK
        assert asked(port, b"\x08\x00\x00\x00\x08") == ACK
        assert asked(port, b"\xff\x00", length=257) == ACK + b"\xff" * 256


@pytest.mark.parametrize(
    ("name", "reset", "boot0"),
    [("dtr-rts", "dtr", "rts"), ("rts-dtr", "rts", "dtr"), ("dtr", "dtr", ""), ("rts", "rts", "")],
)
def test_a_control_line_resets_the_board(name: str, reset: str, *, boot0: str) -> None:
    """The board is in reset while it is asserted; then the other line, if it is wired, selects what starts."""
    with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS[name]) as url, opened(url) as port:
        assert asked(port, b"\x7f") == ACK
        setattr(port, reset, True)
        assert answered(port, b"\x7f") == b""
        setattr(port, reset, False)
        assert asked(port, b"\x7f") == ACK
        if boot0:
            setattr(port, boot0, True)
            pulse(port, reset)
            assert answered(port, b"\x7f") == b""


def test_inverted_lines_do_the_opposite() -> None:
    """In reset while DTR is not asserted, and in the ROM while RTS is."""
    wiring = Wiring(reset="dtr", boot0="rts", invert_reset=True, invert_boot0=True)
    with serve_rfc2217(SimulatedBoard(), wiring=wiring) as url, opened(url, dtr=True, rts=True) as port:
        port.dtr = False
        assert answered(port, b"\x7f") == b""
        port.dtr = True
        assert asked(port, b"\x7f") == ACK


def test_a_break_resets_where_it_is_wired_to() -> None:
    """If it is not wired to the reset, a ROM that waits for 0x7F measures a wrong rate and stops answering."""
    for name, answer in (("break", ACK), ("dtr", b"")):
        with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS[name]) as url, opened(url) as port:
            port.break_condition = True
            port.break_condition = False
            assert answered(port, b"\x7f") == answer


def test_opening_presses_reset_only_where_no_line_does() -> None:
    """A board with a wired reset line stays in its state."""
    for name, answer in (("none", ACK), ("dtr-rts", b"")):
        with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS[name]) as url:
            with opened(url) as port:
                assert asked(port, b"\x7f") == ACK
            with opened(url) as port:
                assert answered(port, b"\x7f") == answer


def test_the_roms_rate_stays_and_the_hosts_does_not() -> None:
    """After a change of the rate nothing is understood, after a reset at the old one everything."""
    with serve_rfc2217(SimulatedBoard()) as url, opened(url) as port:
        assert asked(port, b"\x7f") == ACK
        port.baudrate = 57600
        assert answered(port, b"\x02\xfd") != ID
        port.baudrate = 115200
        pulse(port, "dtr")
        assert asked(port, b"\x7f") == ACK
        assert asked(port, b"\x02\xfd", length=5) == ID


def test_a_host_without_parity_is_not_understood() -> None:
    """The first byte is, as on a real line; a frame is not."""
    with serve_rfc2217(SimulatedBoard()) as url, opened(url, parity="N") as port:
        assert asked(port, b"\x7f") == ACK
        assert answered(port, b"\x02\xfd") != ID


def test_garbage_in_the_protocol_costs_the_connection_only() -> None:
    """The next host is served."""
    with serve_rfc2217(SimulatedBoard()) as url:
        host, number = url.removeprefix("rfc2217://").split(":")
        with socket.create_connection((host, int(number))) as line:
            line.sendall(b"\xff\xfa\x2c\x03\x63\xff\xf0" + b"\xff\xfa\x2c\x01\x01\xff\xf0")
        with opened(url) as port:
            assert asked(port, b"\x7f") == ACK
