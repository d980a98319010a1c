"""The simulated board works behind a serial server, with pyserial's RFC 2217 client."""

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
    """Open the serial port with these control lines and this parity."""
    port = serial.serial_for_url(url, do_not_open=True, baudrate=115200, parity=parity, timeout=DEADLINE)
    assert isinstance(port, rfc2217.Serial)
    port.dtr, port.rts = dtr, rts
    port.open()
    with closing(port):
        yield port


def asked(port: rfc2217.Serial, data: bytes, *, length: int = 1) -> bytes:
    """Send bytes, and return an answer of this length."""
    port.write(data)
    return bytes(port.read(length))


def answered(port: rfc2217.Serial, data: bytes) -> bytes:
    """Send bytes, and return the board's whole answer.

    Setting the rate waits for the server's confirmation, which arrives after the answer to all earlier bytes.
    """
    port.write(data)
    port.baudrate = port.baudrate
    return bytes(port.read(port.in_waiting))


def pulse(port: rfc2217.Serial, line: str) -> None:
    """Assert a control line, and release it."""
    setattr(port, line, True)
    setattr(port, line, False)


def test_an_escaped_byte_goes_both_ways() -> None:
    """The byte 0xFF, which RFC 2217 escapes by doubling, is transferred unchanged in both directions."""
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
    """The wired reset line, while asserted, resets the board; the wired BOOT0 line selects boot ROM or application."""
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
    """With inverted lines the board is in reset while DTR is not asserted."""
    wiring = Wiring(reset="dtr", boot0="rts", invert_reset=True, invert_boot0=True)
    with serve_rfc2217(SimulatedBoard(), wiring=wiring) as url, opened(url, dtr=True, rts=True) as port:
        port.dtr = False
        assert answered(port, b"\x7f") == b""
        port.dtr = True
        assert asked(port, b"\x7f") == ACK


def test_a_break_resets_where_it_is_wired_to() -> None:
    """A break resets the board only if the wiring maps a break to a reset."""
    for name, answer in (("break", ACK), ("dtr", b"")):
        with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS[name]) as url, opened(url) as port:
            port.break_condition = True
            port.break_condition = False
            assert answered(port, b"\x7f") == answer


def test_opening_presses_reset_only_where_no_line_does() -> None:
    """Opening the port resets the board only if no control line is wired to reset."""
    for name, answer in (("none", ACK), ("dtr-rts", b"")):
        with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS[name]) as url:
            with opened(url) as port:
                assert asked(port, b"\x7f") == ACK
            with opened(url) as port:
                assert answered(port, b"\x7f") == answer


def test_the_roms_rate_stays_and_the_hosts_does_not() -> None:
    """If the host changes its rate without a reset, the boot ROM does not understand its commands."""
    with serve_rfc2217(SimulatedBoard()) as url, opened(url) as port:
        assert asked(port, b"\x7f") == ACK
        port.baudrate = 57600
        assert answered(port, b"\x02\xfd") != ID
        port.baudrate = 115200
        pulse(port, "dtr")
        assert asked(port, b"\x7f") == ACK
        assert asked(port, b"\x02\xfd", length=5) == ID


def test_a_host_without_parity_is_not_understood() -> None:
    """Without parity the boot ROM acknowledges 0x7F, but does not understand a command."""
    with serve_rfc2217(SimulatedBoard()) as url, opened(url, parity="N") as port:
        assert asked(port, b"\x7f") == ACK
        assert answered(port, b"\x02\xfd") != ID


def test_garbage_in_the_protocol_costs_the_connection_only() -> None:
    """After invalid RFC 2217 options from one host, the next host is served."""
    with serve_rfc2217(SimulatedBoard()) as url:
        host, number = url.removeprefix("rfc2217://").split(":")
        with socket.create_connection((host, int(number))) as line:
            line.sendall(b"\xff\xfa\x2c\x03\x63\xff\xf0" + b"\xff\xfa\x2c\x01\x01\xff\xf0")
        with opened(url) as port:
            assert asked(port, b"\x7f") == ACK
