"""Links work over sockets and pseudo-terminals, and keep their deadlines in simulated time."""

from __future__ import annotations

import contextlib
import os
import socket
import tty
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blockota.errors import LinkError, NoAnswerError, UsageError
from firmware_host.line.link import Link
from firmware_host.line.ports import DRAIN_LIMIT, SLICE, PortLink, open_link
from tests.firmware_host.board_clock import Clock
from tests.support.waiting import DEADLINE

"""Seconds after which a test that waits for bytes fails."""

STEERING: dict[str, Callable[[Link], None]] = {
    "speed": lambda link: link.set_baud(230400),
    "lines": lambda link: link.set_lines(dtr=True, rts=False),
    "break": lambda link: link.send_break(0.1),
}


@contextmanager
def tcp_pair() -> Iterator[tuple[Link, socket.socket]]:
    """Yield a link over TCP, and the socket of its far end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = open_link(f"socket://127.0.0.1:{server.getsockname()[1]}")
        far, _ = server.accept()
        with far:
            yield link, far
        link.close()


@contextmanager
def pty_pair() -> Iterator[tuple[Link, int]]:
    """Yield a link over a pseudo-terminal, and the file descriptor of its far end."""
    far, near = os.openpty()
    tty.setraw(near)
    link = open_link(os.ttyname(near))
    os.close(near)
    try:
        yield link, far
    finally:
        link.close()
        os.close(far)


def test_bytes_cross_a_socket_both_ways() -> None:
    """Bytes pass over TCP in both directions, and are read in pieces of the requested length."""
    with tcp_pair() as (link, far):
        link.write(b"\x7f")
        assert far.recv(16) == b"\x7f"
        far.sendall(b"\x79abc")
        assert link.read(1, timeout=DEADLINE) == b"\x79"
        assert link.read(3, timeout=DEADLINE) == b"abc"


def test_bytes_cross_a_pseudo_terminal_both_ways() -> None:
    """All 256 byte values pass over a pseudo-terminal in both directions."""
    everything = bytes(range(256))
    with pty_pair() as (link, far):
        link.write(everything)
        assert os.read(far, 256) == everything
        os.write(far, everything)
        assert link.read(256, timeout=DEADLINE) == everything


def test_a_note_reports_that_a_pseudo_terminal_has_no_parity() -> None:
    """A link over a pseudo-terminal has the note that parity is missing; a link over TCP has no such note."""
    with pty_pair() as (link, _), tcp_pair() as (socket_link, _):
        assert "without parity" in link.notes[0]
        assert socket_link.notes == ()


def test_a_pseudo_terminal_can_be_opened_again() -> None:
    """A pseudo-terminal can be opened again after it was closed, which fails with pyserial's default settings."""
    far, near = os.openpty()
    tty.setraw(near)
    for _ in range(2):
        link = open_link(os.ttyname(near))
        link.write(b"x")
        assert os.read(far, 1) == b"x"
        link.close()
    os.close(far)
    os.close(near)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:3115", r"Write socket://127\.0\.0\.1:3115 or rfc2217://127\.0\.0\.1:3115 for a board"),
        ("socket://host.invalid:1", "the host's name cannot be resolved. Check the host's name"),
        ("rfc2217://host.invalid:1", "the host's name cannot be resolved. Check the host's name"),
    ],
)
def test_the_address_of_a_serial_server_is_corrected(url: str, words: str) -> None:
    """The error for an address without a scheme proposes URLs; the error for an unknown host asks to check its name."""
    with pytest.raises(LinkError, match=words):
        open_link(url)


def test_a_busy_port_is_not_shared() -> None:
    """A port that another program uses is refused, because each program would receive a part of the answers."""
    with (
        pty_pair() as (link, _),
        pytest.raises(LinkError, match=r"busy, .* uses it\. Close the other program") as refusal,
    ):
        open_link(link.name)
    assert refusal.value.exit_status == 4


class ClockedLink(PortLink):
    """A link on which bytes arrive at given times of a simulated clock.

    Args:
        arrivals: pairs ⟨time, byte⟩ in order.
    """

    def __init__(self, clock: Clock, arrivals: Iterable[tuple[float, int]]) -> None:
        super().__init__("timed", 115200, now=clock.now)
        self._clock, self._arrivals = clock, iter(arrivals)
        self._next = next(self._arrivals, None)

    def _take(self, most: int) -> bytes:
        """Advance the clock by `SLICE`, and return the bytes that have arrived."""
        self._clock.wait(SLICE)
        data = b""
        while self._next and self._next[0] <= self._clock.now() and len(data) < most:
            data += bytes((self._next[1],))
            self._next = next(self._arrivals, None)
        return data

    def _send(self, data: bytes) -> None:
        """Not used."""

    def _pending(self) -> bytes:
        """Return nothing."""
        return b""

    def close(self) -> None:
        """Not used."""

    def set_baud(self, baud: int, /) -> None:
        """Not used."""

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Not used."""

    def send_break(self, seconds: float, /) -> None:
        """Not used."""


def timed(data: bytes, *, every: float) -> tuple[ClockedLink, Clock]:
    """Return a link on which the bytes arrive one by one, and its clock."""
    clock = Clock()
    began = clock.now()
    link = ClockedLink(clock, ((began + every * number, byte) for number, byte in enumerate(data, 1)))
    return link, clock


def test_silence_ends_at_the_deadline() -> None:
    """A read ends at its timeout, and the error contains the number of bytes that arrived."""
    link, clock = timed(b"ab", every=0.001)
    began = clock.now()
    with pytest.raises(NoAnswerError, match=r"2 of 4 bytes came within 0\.1 s"):
        link.read(4, timeout=0.1)
    assert clock.now() - began == pytest.approx(0.1, abs=2 * SLICE)


def test_slow_bytes_within_the_deadline_are_waited_for() -> None:
    """A read waits for bytes that arrive one by one before its timeout."""
    link, _ = timed(b"abcd", every=0.3)
    assert link.read(4, timeout=2) == b"abcd"


def test_draining_takes_everything_until_the_line_is_quiet() -> None:
    """After `drain`, a read returns only bytes that arrived later."""
    with tcp_pair() as (link, far):
        far.sendall(b"noise")
        assert link.drain() == b"noise"
        far.sendall(b"\x79")
        assert link.read(1, timeout=DEADLINE) == b"\x79"


def test_draining_a_line_that_is_never_quiet_ends() -> None:
    """`drain` ends after a time limit if an application sends without a pause."""
    link, clock = timed(b"tick " * 1000, every=0.005)
    began = clock.now()
    assert link.drain()
    assert clock.now() - began == pytest.approx(DRAIN_LIMIT, abs=2 * SLICE)


def test_a_socket_sends_small_writes_at_once() -> None:
    """TCP_NODELAY is set: Nagle's algorithm would delay the second of two small writes by 40 ms."""
    with tcp_pair() as (_, far):
        (near,) = (one for one in open_sockets() if one.getsockname() == far.getpeername())
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        near.close()


def open_sockets() -> Iterator[socket.socket]:
    """Yield duplicates of this process's connected TCP sockets; duplicates that the test does not use are closed."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            duplicate = socket.socket(fileno=os.dup(int(descriptor.name)))
            if duplicate.family == socket.AF_INET:
                yield duplicate


@pytest.mark.parametrize("data", [b"", b"partly"])
def test_a_connection_that_ends_is_a_lost_port(data: bytes) -> None:
    """A closed connection is reported as a lost port, not as a silent board."""
    with tcp_pair() as (link, far):
        far.sendall(data)
        far.close()
        with pytest.raises(LinkError, match="was lost: the serial server closed") as lost:
            link.read(16, timeout=DEADLINE)
        assert lost.value.remedy


def test_a_pseudo_terminal_that_ends_is_a_lost_port() -> None:
    """If the far end of a pseudo-terminal is closed, the port counts as lost, like an unplugged adapter."""
    far, near = os.openpty()
    tty.setraw(near)
    link = open_link(os.ttyname(near))
    os.close(near)
    os.close(far)
    with pytest.raises(LinkError, match="was lost"):
        link.read(1, timeout=DEADLINE)
    with pytest.raises(LinkError, match="was lost"):
        link.write(b"\x7f")
    link.close()


def test_closing_twice_is_harmless() -> None:
    """Closing a closed link has no effect, and writing to a closed link raises an error."""
    with pty_pair() as (link, _), tcp_pair() as (socket_link, _):
        for each in (link, socket_link):
            each.close()
            each.close()
            with pytest.raises(LinkError):
                each.write(b"\x7f")


def test_a_port_that_does_not_exist_is_named() -> None:
    """The error for a missing port contains its path and an example of a usual path."""
    with pytest.raises(LinkError, match=r"/dev/ttyNONE cannot be opened: No such file.*/dev/ttyUSB0"):
        open_link("/dev/ttyNONE")


def test_a_file_is_not_a_port(tmp_path: Path) -> None:
    """A regular file is refused as a port."""
    file = tmp_path / "image.bin"
    file.write_bytes(b"firmware")
    with pytest.raises(LinkError, match="cannot be opened"):
        open_link(str(file))


def test_a_refused_connection_is_named() -> None:
    """The error for a refused TCP connection advises to start the board."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(LinkError, match=r"Connection refused.*Start the board"):
        open_link(f"socket://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["socket://", "socket://host", "socket://host:port", "socket://:1", "tcp://host:1"])
def test_addresses_of_another_form_are_refused(url: str) -> None:
    """A socket URL without host or port, or with another scheme, is a usage error."""
    with pytest.raises(UsageError, match="does not name a serial port"):
        open_link(url)


def test_an_impossible_speed_is_refused() -> None:
    """A negative speed is a usage error."""
    far, near = os.openpty()
    with pytest.raises(UsageError, match="-1 baud"):
        open_link(os.ttyname(near), baud=-1)
    os.close(far)
    os.close(near)


@pytest.mark.parametrize("steer", STEERING.values(), ids=STEERING)
def test_a_bare_socket_has_no_lines(steer: Callable[[Link], None]) -> None:
    """Speed, control lines and breaks of a TCP connection raise an error that recommends RFC 2217."""
    with tcp_pair() as (link, _):
        assert not link.can_steer
        with pytest.raises(LinkError, match=r"carries only bytes\. Use a serial server that speaks RFC 2217"):
            steer(link)


def test_a_pseudo_terminal_has_no_lines() -> None:
    """A pseudo-terminal has no control lines."""
    with pty_pair() as (link, _):
        assert not link.can_steer


def test_a_speed_that_a_port_refuses_is_an_error() -> None:
    """If a port refuses a new speed, an error is raised and the link keeps the previous speed."""
    with pty_pair() as (link, _):
        with pytest.raises(LinkError, match="cannot run at -1 baud"):
            link.set_baud(-1)
        assert link.baud == 115200
