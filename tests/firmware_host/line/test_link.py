"""Links over real sockets and pseudo-terminals."""

from __future__ import annotations

import os
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blockota.errors import LinkError, NoAnswerError, UsageError
from firmware_host.line.link import DRAIN_LIMIT, ControlledLink, open_link

STEERING: dict[str, Callable[[ControlledLink], None]] = {
    "speed": lambda link: link.set_baud(230400),
    "lines": lambda link: link.set_lines(dtr=True, rts=False),
    "break": lambda link: link.send_break(0.1),
}


@contextmanager
def tcp_pair() -> Iterator[tuple[ControlledLink, socket.socket]]:
    """A link, and the far end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = open_link(f"socket://127.0.0.1:{server.getsockname()[1]}")
        far, _ = server.accept()
        with far:
            yield link, far
        link.close()


@contextmanager
def pty_pair() -> Iterator[tuple[ControlledLink, int]]:
    """A link over a pseudo-terminal, and the file descriptor of its far end."""
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
    """What is written arrives, and what the far end sends is read in the pieces that were asked for."""
    with tcp_pair() as (link, far):
        link.write(b"\x7f")
        assert far.recv(16) == b"\x7f"
        far.sendall(b"\x79abc")
        assert link.read(1, timeout=1) == b"\x79"
        assert link.read(3, timeout=1) == b"abc"


def test_bytes_cross_a_pseudo_terminal_both_ways() -> None:
    """All 256 byte values survive a pseudo-terminal in both directions."""
    everything = bytes(range(256))
    with pty_pair() as (link, far):
        link.write(everything)
        assert os.read(far, 256) == everything
        os.write(far, everything)
        assert link.read(256, timeout=1) == everything


def test_a_pseudo_terminal_is_opened_without_parity_and_says_so() -> None:
    """The kernel would drop the parity without a word; the link does not."""
    with pty_pair() as (link, _), tcp_pair() as (socket_link, _):
        assert "without parity" in link.notes[0]
        assert socket_link.notes == ()


def test_a_pseudo_terminal_can_be_opened_again() -> None:
    """A second open of the same pseudo-terminal works, which pyserial's default settings do not."""
    far, near = os.openpty()
    tty.setraw(near)
    for _ in range(2):
        link = open_link(os.ttyname(near))
        link.write(b"x")
        assert os.read(far, 1) == b"x"
        link.close()
    os.close(far)
    os.close(near)


def test_a_busy_port_is_not_shared() -> None:
    """Two programs on one port would read each other's answers; the second is told to wait."""
    with pty_pair() as (link, _), pytest.raises(LinkError, match=r"busy\. Close the other program") as refusal:
        open_link(link.name)
    assert refusal.value.exit_status == 4


def test_silence_ends_at_the_deadline() -> None:
    """A read gives up when its time is over, and says how much had come."""
    with tcp_pair() as (link, far):
        far.sendall(b"ab")
        began = time.monotonic()
        with pytest.raises(NoAnswerError, match=r"2 of 4 bytes came within 0\.1 s"):
            link.read(4, timeout=0.1)
        assert 0.1 <= time.monotonic() - began < 0.5


def test_slow_bytes_within_the_deadline_are_waited_for() -> None:
    """Bytes that trickle in are put together."""
    with tcp_pair() as (link, far):
        sender = threading.Thread(target=_trickle, args=(far, b"abcd"))
        sender.start()
        assert link.read(4, timeout=2) == b"abcd"
        sender.join()


def _trickle(far: socket.socket, data: bytes) -> None:
    for byte in data:
        time.sleep(0.03)
        far.sendall(bytes((byte,)))


def test_draining_takes_what_was_there() -> None:
    """After a drain the next answer is the next thing read."""
    with tcp_pair() as (link, far):
        far.sendall(b"noise")
        assert link.drain() == b"noise"
        far.sendall(b"\x79")
        assert link.read(1, timeout=1) == b"\x79"


def test_draining_a_line_that_never_falls_silent_ends() -> None:
    """A running application that talks all the time cannot hold the host."""
    with tcp_pair() as (link, far):
        ended = threading.Event()
        talker = threading.Thread(target=_talk, args=(far, ended))
        talker.start()
        began = time.monotonic()
        assert link.drain()
        assert time.monotonic() - began < DRAIN_LIMIT + 0.5
        ended.set()
        talker.join()


def _talk(far: socket.socket, ended: threading.Event) -> None:
    while not ended.wait(0.005):
        far.sendall(b"tick ")


def test_frames_do_not_wait_for_nagle() -> None:
    """Two small writes in a row arrive at once: Nagle's algorithm would hold the second back for 40 ms."""
    with tcp_pair() as (link, far):
        began = time.monotonic()
        for _ in range(20):
            link.write(b"a")
            link.write(b"b")
            received = b""
            while len(received) < 2:
                received += far.recv(2)
            far.sendall(b"\x79")
            link.read(1, timeout=1)
        assert time.monotonic() - began < 0.4


@pytest.mark.parametrize("data", [b"", b"partly"])
def test_a_connection_that_ends_is_a_lost_port(data: bytes) -> None:
    """When the far end goes away, the error says that the port was lost, not that the board is silent."""
    with tcp_pair() as (link, far):
        far.sendall(data)
        far.close()
        with pytest.raises(LinkError, match="was lost") as lost:
            link.read(16, timeout=1)
        assert lost.value.remedy


def test_a_pseudo_terminal_that_ends_is_a_lost_port() -> None:
    """A pulled adapter looks like this: the descriptor is there, and the device behind it is not."""
    far, near = os.openpty()
    tty.setraw(near)
    link = open_link(os.ttyname(near))
    os.close(near)
    os.close(far)
    with pytest.raises(LinkError, match="was lost"):
        link.read(1, timeout=1)
    with pytest.raises(LinkError, match="was lost"):
        link.write(b"\x7f")
    link.close()


def test_closing_twice_is_harmless() -> None:
    """A link can be closed again, and a closed one says that it is lost."""
    with pty_pair() as (link, _), tcp_pair() as (socket_link, _):
        for each in (link, socket_link):
            each.close()
            each.close()
            with pytest.raises(LinkError):
                each.write(b"\x7f")


def test_a_port_that_does_not_exist_is_named() -> None:
    """The error names the port and says where such ports are found."""
    with pytest.raises(LinkError, match=r"/dev/ttyNONE cannot be opened: No such file.*/dev/ttyUSB0"):
        open_link("/dev/ttyNONE")


def test_a_file_is_no_port(tmp_path: Path) -> None:
    """A plain file given as port is refused."""
    file = tmp_path / "image.bin"
    file.write_bytes(b"firmware")
    with pytest.raises(LinkError, match="cannot be opened"):
        open_link(str(file))


def test_nobody_listening_is_named() -> None:
    """A refused connection says that nothing listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(LinkError, match=r"Connection refused.*Start the board"):
        open_link(f"socket://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["socket://", "socket://host", "socket://host:port", "socket://:1", "tcp://host:1"])
def test_addresses_of_another_form_are_refused(url: str) -> None:
    """A socket is written socket://host:port, and nothing else is guessed."""
    with pytest.raises(UsageError, match="names no port"):
        open_link(url)


def test_an_impossible_speed_is_refused() -> None:
    """A negative speed is the caller's mistake."""
    far, near = os.openpty()
    with pytest.raises(UsageError, match="-1 baud"):
        open_link(os.ttyname(near), baud=-1)
    os.close(far)
    os.close(near)


@pytest.mark.parametrize("steer", STEERING.values(), ids=STEERING)
def test_a_bare_socket_has_no_lines(steer: Callable[[ControlledLink], None]) -> None:
    """It says so, and names what has."""
    with tcp_pair() as (link, _):
        assert not link.can_steer
        with pytest.raises(LinkError, match=r"carries bytes alone\. Use a serial server that speaks rfc2217"):
            steer(link)


def test_a_pseudo_terminal_has_no_lines() -> None:
    """Its kernel side knows neither control lines nor a second change of speed."""
    with pty_pair() as (link, _):
        assert not link.can_steer


def test_a_speed_that_a_port_refuses_is_told() -> None:
    """Some adapters cannot run at every speed; that is no lost port, and the link stays at its own."""
    with pty_pair() as (link, _):
        with pytest.raises(LinkError, match="cannot run at -1 baud"):
            link.set_baud(-1)
        assert link.baud == 115200
