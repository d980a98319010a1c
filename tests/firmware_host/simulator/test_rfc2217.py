"""The simulated board behind a serial server, through pyserial's own client of RFC 2217."""

from __future__ import annotations

import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
import serial

from firmware_host.simulator import WIRINGS, SimulatedBoard, Wiring, serve_rfc2217

if TYPE_CHECKING:
    from collections.abc import Iterator

ACK, ID = b"\x79", b"\x79\x01\x04\x10\x79"
TIMEOUT = 0.25


@contextmanager
def opened(url: str, *, dtr: bool = False, rts: bool = False, parity: str = "E") -> Iterator[serial.SerialBase]:
    """Open the port with its lines preset."""
    port = serial.serial_for_url(url, do_not_open=True, baudrate=115200, parity=parity, timeout=TIMEOUT)
    port.dtr, port.rts = dtr, rts
    port.open()
    with closing(port):
        yield port


def asked(port: serial.SerialBase, data: bytes, *, length: int = 1) -> bytes:
    """Write, and return what is answered."""
    port.write(data)
    return bytes(port.read(length))


def pulsed(port: serial.SerialBase, line: str) -> None:
    """Assert a line and no longer."""
    setattr(port, line, True)
    setattr(port, line, False)


def test_an_escaped_byte_goes_both_ways() -> None:
    """0xFF is doubled on the wire, and the board hears and says it once."""
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
    """Held while it is asserted; then the other line says what starts, where it is wired."""
    with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS[name]) as url, opened(url) as port:
        assert asked(port, b"\x7f") == ACK
        setattr(port, reset, True)
        assert asked(port, b"\x7f") == b""
        setattr(port, reset, False)
        assert asked(port, b"\x7f") == ACK
        if boot0:
            setattr(port, boot0, True)
            pulsed(port, reset)
            assert asked(port, b"\x7f") == b""


def test_inverted_lines_do_the_opposite() -> None:
    """Reset while DTR is not asserted, and the ROM while RTS is."""
    wiring = Wiring(reset="dtr", boot0="rts", invert_reset=True, invert_boot0=True)
    with serve_rfc2217(SimulatedBoard(), wiring=wiring) as url, opened(url, dtr=True, rts=True) as port:
        port.dtr = False
        assert asked(port, b"\x7f") == b""
        port.dtr = True
        assert asked(port, b"\x7f") == ACK


def test_a_break_resets_where_it_is_wired_to() -> None:
    """And only deafens a fresh ROM where it is not."""
    for name, answer in (("break", ACK), ("dtr", b"")):
        with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS[name]) as url, opened(url) as port:
            port.break_condition = True
            port.break_condition = False
            assert asked(port, b"\x7f") == answer


def test_opening_presses_reset_only_where_no_line_does() -> None:
    """A wired board is found as it was left."""
    for name, answer in (("none", ACK), ("dtr-rts", b"")):
        with serve_rfc2217(SimulatedBoard(), wiring=WIRINGS[name]) as url:
            with opened(url) as port:
                assert asked(port, b"\x7f") == ACK
            with opened(url) as port:
                assert asked(port, b"\x7f") == answer


def test_the_roms_rate_stays_and_the_hosts_does_not() -> None:
    """A change of rate in the middle garbles; the old one is understood again."""
    with serve_rfc2217(SimulatedBoard()) as url, opened(url) as port:
        assert asked(port, b"\x7f") == ACK
        port.baudrate = 57600
        assert asked(port, b"\x02\xfd", length=5) != ID
        port.baudrate = 115200
        pulsed(port, "dtr")
        assert asked(port, b"\x7f") == ACK
        assert asked(port, b"\x02\xfd", length=5) == ID


def test_a_host_without_parity_is_not_understood() -> None:
    """The first byte is, as on a bench; a frame is not."""
    with serve_rfc2217(SimulatedBoard()) as url, opened(url, parity="N") as port:
        assert asked(port, b"\x7f") == ACK
        assert asked(port, b"\x02\xfd", length=5) != ID


def test_garbage_in_the_protocol_costs_the_connection_only() -> None:
    """The next host is served."""
    with serve_rfc2217(SimulatedBoard()) as url:
        host, number = url.removeprefix("rfc2217://").split(":")
        with socket.create_connection((host, int(number))) as line:
            line.sendall(b"\xff\xfa\x2c\x03\x63\xff\xf0" + b"\xff\xfa\x2c\x01\x01\xff\xf0")
        with opened(url) as port:
            assert asked(port, b"\x7f") == ACK
