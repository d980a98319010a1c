"""Serial lines with an echo, without parity, and with an RS485 transceiver."""

from __future__ import annotations

import os
import pty
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from blockota.errors import Action, LinkError, UsageError
from firmware_host.line.link import LineMode, Link, Parity
from firmware_host.line.ports import open_link
from tests.support.waiting import DEADLINE

ECHO = LineMode(echo=True)
FRAME = bytes(range(40))


@contextmanager
def one_wire(answer: Callable[[bytes], bytes]) -> Iterator[Link]:
    """Yield a link over a line with an echo; its far end answers each packet by calling `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            far, _ = server.accept()
            with far:
                while data := far.recv(256):
                    far.sendall(answer(data))

        thread = threading.Thread(target=serve)
        thread.start()
        link = open_link(f"socket://127.0.0.1:{server.getsockname()[1]}", mode=ECHO)
        yield link
        link.close()
        thread.join(DEADLINE)


def test_an_echo_is_discarded() -> None:
    """On a line with an echo, a read returns only bytes that the host did not send."""
    with one_wire(lambda data: data + b"\x79") as link:
        for _ in range(3):
            link.write(FRAME)
            assert link.read(1, timeout=DEADLINE) == b"\x79"


def test_bytes_before_an_echo_are_kept() -> None:
    """If the board sent bytes before a frame, a read returns these bytes first, and then the answer to the frame."""
    with one_wire(lambda data: data + b"\x79\x1f") as link:
        link.write(b"\x7f")
        assert link.read(1, timeout=DEADLINE) == b"\x79"
        link.write(b"\x00")
        assert link.read(3, timeout=DEADLINE) == b"\x1f\x79\x1f"


def test_a_drained_line_returns_bytes_before_an_echo() -> None:
    """`drain` also returns bytes that the board sent before the echo of a frame."""
    with one_wire(lambda data: data + b"late") as link:
        link.write(b"\x7f")
        link.write(b"\x7f")
        assert link.drain().endswith(b"late")


@pytest.mark.parametrize("place", [0, 17, 39])
def test_a_changed_echo_is_a_collision(place: int) -> None:
    """An echo that differs in one byte is an error that names the place, the sent bytes and the received bytes."""
    changed = bytearray(FRAME)
    changed[place] ^= 0x40
    with one_wire(lambda data: data if len(data) == 1 else bytes(changed)) as link:
        link.write(b"\x7f")
        with pytest.raises(LinkError, match="differs from the bytes") as error:
            link.write(FRAME)
    assert f"byte {place + 1} of 40" in error.value.why
    assert f"sent as {place:02x}" in error.value.why
    assert f"came back as {place ^ 0x40:02x}" in error.value.why
    assert "another device sent at the same time" in error.value.why


def test_a_short_echo_is_a_collision() -> None:
    """The error for an echo that ends too early contains the number of the first missing byte."""
    with one_wire(lambda data: data[:30]) as link:
        link.write(b"\x7f")
        with pytest.raises(LinkError, match="byte 31 of 40") as error:
            link.write(FRAME)
    assert "came back as nothing" in error.value.why


@pytest.mark.parametrize(("answer", "words"), [(b"", "none came back"), (b"\x79", "79 came back for 7f")])
def test_a_line_without_the_expected_echo_is_refused(answer: bytes, words: str) -> None:
    """If the first frame is not echoed, the error proposes to omit the option for a line with an echo."""
    with one_wire(lambda _: answer) as link, pytest.raises(LinkError, match="does not return the sent bytes") as error:
        link.write(b"\x7f")
    assert words in error.value.why
    assert error.value.why.startswith("1 byte was sent, and")
    assert error.value.action is Action.OMIT_ECHO


def test_a_bare_socket_switches_no_transceiver() -> None:
    """A TCP connection without control lines is refused for an RS485 line that RTS switches."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(LinkError, match=r"cannot switch an RS485 transceiver.*carries only bytes") as error:
            open_link(url, mode=LineMode(rs485=True))
    assert error.value.action is Action.SWITCH_RS485_ELSEWHERE


def test_a_driver_without_rs485_is_refused() -> None:
    """A device whose driver has no RS485 mode is refused with the driver's reason, and the device is closed again."""
    far, near = pty.openpty()
    tty.setraw(near)
    name = os.ttyname(near)
    with pytest.raises(LinkError, match="cannot switch an RS485 transceiver by RTS") as error:
        open_link(name, mode=LineMode(rs485=True))
    assert error.value.why
    assert error.value.action is Action.SWITCH_RS485_ELSEWHERE
    link = open_link(name)
    link.write(b"x")
    assert os.read(far, 1) == b"x"
    link.close()
    os.close(far)
    os.close(near)


def test_a_pseudo_terminal_without_parity_needs_no_note() -> None:
    """A line without parity can be opened on a pseudo-terminal without a note, because it never has parity."""
    far, near = pty.openpty()
    link = open_link(os.ttyname(near), mode=LineMode(parity=Parity.NONE))
    assert link.notes == ()
    link.close()
    os.close(far)
    os.close(near)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (LineMode(), "plain"),
        (LineMode(Parity.NONE, echo=True), "no-parity,echo"),
        (LineMode(rs485=True), "rs485"),
        (LineMode(echo=True, rs485=True, invert_rs485=True), "echo,rs485-inverted"),
    ],
)
def test_a_mode_is_written_in_words(mode: LineMode, words: str) -> None:
    """The text of a line mode lists its differences from the usual line, and is parsed as the same mode."""
    assert mode.words == words
    assert LineMode.parse(words) == mode


@pytest.mark.parametrize("text", ["", "odd", "echo,odd", "plain,echo", "rs485,rs485-inverted", "echo, rs485"])
def test_unknown_modes_are_refused(text: str) -> None:
    """A line mode with an unknown word, or with words that contradict each other, is a usage error."""
    with pytest.raises(UsageError, match="of the line is not known"):
        LineMode.parse(text)
