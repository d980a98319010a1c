"""`board doctor` diagnoses faulty lines, both from given observations and on simulated boards."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.errors import Action, BoardProtocolError, LinkError
from firmware_host.bench.doctor import Finding, Observations, Reply, Trial, findings, observe
from firmware_host.bootloader.chips import find_chip
from firmware_host.bootloader.entry import WIRINGS, BoardLine, BoardWiring, find_wiring
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.line.link import LineMode
from firmware_host.simulator import (
    STM32F103C8,
    Faults,
    LineSettings,
    SimulatedBoard,
    Wiring,
    serve_pty,
    serve_rfc2217,
    serve_tcp,
)
from tests.conftest import IMAGES
from tests.firmware_host.direct_link import started

USB = BoardLine("/dev/ttyUSB0")
APPLICATION = (IMAGES / "bluepill-1.1.0.bin").read_bytes()
IDENTITY = BoardIdentity(
    0x410,
    "2.2",
    find_chip(0x410),
    readout_protected=False,
    flash_size=65536,
    unique_id="00" * 12,
    write_protected_pages=(),
)


def trial(first: bytes = b"", second: bytes = b"", *, unasked: bytes = b"", line: BoardLine = USB) -> Trial:
    """Return a connection attempt, by default without an answer."""
    return Trial(line, unasked, first, second)


def hindrance(seen: Observations) -> Finding:
    """Return the only finding that prevents flashing."""
    (found,) = (finding for finding in findings(seen) if finding.hinders)
    return found


@pytest.mark.parametrize(
    ("first", "second", "reply"),
    [
        (b"\x79", b"", Reply.FRESH),
        (b"\x00\x79", b"", Reply.FRESH),
        (b"\x79\x79", b"", Reply.FRESH),
        (b"", b"\x79", Reply.FRESH),
        (b"", b"\x1f", Reply.CONNECTED),
        (b"\x1f\x1f", b"", Reply.CONNECTED),
        (b"", b"", Reply.SILENCE),
        (b"\x7f", b"", Reply.ECHO),
        (b"\x7f\x7f", b"", Reply.OTHER),
        (b"\x7f\x79", b"", Reply.FRESH),
        (b"\x7f", b"\x7f\x1f", Reply.CONNECTED),
        (b"\x7f", b"\x7f", Reply.ECHO),
        (b"hello", b"", Reply.OTHER),
        (b"\x00", b"", Reply.OTHER),
    ],
    ids=range(14),
)
def test_answers_are_classified(first: bytes, second: bytes, reply: Reply) -> None:
    """An answer is classified as a fresh or synchronised bootloader, an echo, silence, or other bytes."""
    assert trial(first, second).reply is reply


def test_a_missing_port_is_reported_with_the_existing_ones() -> None:
    """If the port does not exist, the finding lists the ports that exist."""
    failed = LinkError("the port /dev/ttyUSB0 cannot be opened", why="No such file", remedy="plug it in")
    seen = Observations(USB, ports=("/dev/ttyACM0",), failed=failed)
    assert hindrance(seen).what.endswith("No such file; this machine has /dev/ttyACM0")


def test_output_of_an_application_is_reported() -> None:
    """Output that an application sends before the first request is reported."""
    found = hindrance(Observations(USB, asked=trial(b"garbage", unasked=b"up 1 s\r\n")))
    assert found.about == "application"
    assert "'up 1 s" in found.what
    assert "BOOT0 to 1" in found.remedy


def test_joined_lines_silence_and_garbage_are_reported() -> None:
    """The findings for TX joined to RX, silence and garbage have remedies; the one for silence counts the attempts."""
    assert "TX and RX" in hindrance(Observations(USB, asked=trial(b"\x7f"))).remedy
    silent = hindrance(Observations(USB, asked=trial(), others=(trial(), trial())))
    what = "nothing answers; 2 other settings of the line were tried as well"
    assert (silent.about, silent.what) == ("silence", what)
    assert all(word in silent.remedy for word in ("power", "BOOT0", "TX", "grounds"))
    assert "9600 baud" in hindrance(Observations(USB, asked=trial(b"\xfe\x00"))).remedy


def test_another_wiring_that_works_is_named() -> None:
    """If the board answers only with another wiring, the finding names this wiring and prevents flashing."""
    line = BoardLine(USB.url, 115200, find_wiring("dtr-rts", invert_boot0=True))
    found = findings(Observations(USB, asked=trial(), others=(trial(b"\x79", line=line),), identity=IDENTITY))
    assert found[0].hinders
    assert (found[0].action, found[0].values) == (Action.USE_LINE, {"line": line, "given": USB})
    assert "wiring dtr-rts with BOOT0 inverted at 115200 baud" in found[0].what
    assert "ready" not in {finding.about for finding in found}


def test_a_wiring_that_resets_nothing_is_reported() -> None:
    """A wiring is reported as wrong if the bootloader is still synchronised after the reset."""
    line = BoardLine(USB.url, 115200, WIRINGS["dtr"])
    found = hindrance(Observations(line, asked=trial(b"", b"\x1f", line=line), others=(trial(line=line),)))
    assert (found.about, "no wiring resets the board" in found.what) == ("reset", True)


def test_a_line_without_parity_is_reported() -> None:
    """The doctor reports a line without parity, although 0x7F has the same bits on a line with even parity."""
    misunderstood = BoardProtocolError("the board refused Get", why="NACK")
    found = hindrance(Observations(USB, asked=trial(b"\x79"), misunderstood=misunderstood))
    assert (found.about, "even parity" in found.remedy) == ("parity", True)


def test_protections_and_unknown_chips_hinder() -> None:
    """Readout protection, write protection and an unknown chip each prevent flashing."""
    alive = Observations(USB, asked=trial(b"\x79"))
    closed = BoardIdentity(0x410, "2.2", find_chip(0x410), readout_protected=True)
    assert "erases the whole flash" in hindrance(replace(alive, identity=closed)).remedy
    guarded = replace(IDENTITY, write_protected_pages=(0, 1, 2, 3))
    assert "0x08000000-0x08000fff" in hindrance(replace(alive, identity=guarded)).what
    assert "0x999" in hindrance(replace(alive, identity=BoardIdentity(0x999, "2.2", chip=None))).what


def test_a_slow_adapter_is_a_hint() -> None:
    """A slow adapter is reported with its delay and a remedy, but does not prevent flashing."""
    seen = Observations(
        USB, asked=trial(b"\x79"), identity=IDENTITY, latency=0.016, latency_remedy="use another adapter"
    )
    ready, latency = findings(seen)
    assert ready.about == "ready"
    assert "16.0 ms" in latency.what
    assert "12 s longer" in latency.what
    assert latency.remedy == "use another adapter"
    assert not findings(replace(seen, latency=0.004))[1].remedy


def test_a_delay_by_rs485_over_the_network_has_its_own_remedy() -> None:
    """If a host switches RTS over RFC 2217, the remedy for the delay is the serial server's own RS485 mode."""
    line = BoardLine("rfc2217://rack:3116", mode=LineMode(rs485=True))
    asked = replace(trial(b"\x79"), line=line)
    seen = Observations(line, asked=asked, identity=IDENTITY, latency=0.1, latency_remedy="use a nearer server")
    (delay,) = [finding for finding in findings(seen) if finding.about == "latency"]
    assert "its own RS485 mode" in delay.remedy
    assert delay.action is Action.SWITCH_RS485_ELSEWHERE
    plain = replace(line, mode=LineMode())
    unswitched = replace(seen, line=plain, asked=replace(asked, line=plain))
    (other,) = [one for one in findings(unswitched) if one.about == "latency"]
    assert other.remedy == "use a nearer server"


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """Open a line whose far end answers each packet by calling `answer`; yield the line's URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            far, _ = server.accept()
            with far:
                while data := far.recv(256):
                    far.sendall(answer(data))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def briefly(seconds: float) -> None:
    """Shorten the wait after a reset to 50 ms, because a simulated board starts faster than a slow chip."""
    time.sleep(min(seconds, 0.05))


def abouts(line: BoardLine) -> list[str]:
    """Return the topic of each finding on a line."""
    return [finding.about for finding in findings(observe(line, listen=0.1, wait=briefly))]


def test_a_good_board_is_ready() -> None:
    """A working board is ready over TCP and over a pseudo-terminal; a note reports the terminal's missing parity."""
    with serve_tcp(SimulatedBoard()) as url:
        assert abouts(BoardLine(url)) == ["ready", "latency"]
    with serve_pty(SimulatedBoard()) as path:
        assert abouts(BoardLine(path)) == ["ready", "note", "latency"]


def test_a_board_is_ready_with_noise_a_leading_zero_and_a_second_ack() -> None:
    """Noise, a leading zero byte and a second ACK, which the client tolerates, do not prevent flashing."""
    for faults in (Faults(noise_at_open=7), Faults(leading_zero=1), Faults(extra_ack=1)):
        with serve_tcp(SimulatedBoard(faults=faults)) as url:
            assert abouts(BoardLine(url))[0] == "ready"


def test_boards_that_cannot_be_flashed_are_reported(tmp_path: Path) -> None:
    """Each obstacle to flashing is reported.

    The obstacles are a running application, both protections, silence, an unknown chip, an echo, garbage and a
    missing port.
    """
    running = SimulatedBoard(flash=APPLICATION)
    running.boot0 = False
    closed = SimulatedBoard()
    closed.protect(readout=True)
    guarded = SimulatedBoard()
    guarded.protect(pages=[3])
    for board, about in (
        (running, "application"),
        (closed, "readout-protection"),
        (guarded, "write-protection"),
        (SimulatedBoard(faults=Faults(silent_after=0)), "silence"),
        (SimulatedBoard(replace(STM32F103C8, product_id=0x999)), "unknown-chip"),
    ):
        with serve_tcp(board) as url:
            assert abouts(BoardLine(url))[0] == about
    with answering(lambda data: data) as url:
        assert abouts(BoardLine(url)) == ["echo"]
    with answering(lambda data: b"$ " * len(data)) as url:
        assert abouts(BoardLine(url)) == ["garbage"]
    assert abouts(BoardLine(str(tmp_path / "ttyUSB9"))) == ["port"]


@pytest.mark.parametrize(
    ("wiring", "asked", "found"),
    [
        (Wiring(reset="dtr", boot0="rts"), "by-hand", find_wiring("dtr-rts")),
        (Wiring(reset="rts", boot0="dtr", invert_boot0=True), "dtr-rts", find_wiring("rts-dtr", invert_boot0=True)),
    ],
    ids=["by-hand", "swapped"],
)
def test_the_wiring_is_found(wiring: Wiring, asked: str, found: BoardWiring) -> None:
    """The right wiring is found by resetting a running board until its bootloader answers."""
    with serve_rfc2217(started(APPLICATION), wiring=wiring) as url:
        seen = observe(BoardLine(url, wiring=WIRINGS[asked]), listen=0.1, wait=briefly)
    first = findings(seen)[0]
    assert (first.about, first.hinders) == ("wiring", True)
    assert first.values["line"] == BoardLine(url, wiring=found)


def test_a_reset_line_that_is_another_is_found_though_the_board_is_awake() -> None:
    """A wrong wiring is detected even if the bootloader was already running and answers."""
    with serve_rfc2217(SimulatedBoard()) as url:
        by_hand = BoardLine(url)
        assert abouts(by_hand)[0] == "ready"
        assert abouts(by_hand)[:2] == ["ready", "conversation"]
        first = findings(observe(replace(by_hand, wiring=WIRINGS["rts-dtr"]), wait=briefly))[0]
    assert first.values["line"] == BoardLine(url, 115200, WIRINGS["dtr-rts"])


def test_a_speed_that_is_too_high_is_found() -> None:
    """A board that does not understand the configured speed is reset and reached at a lower speed."""
    with serve_rfc2217(SimulatedBoard()) as url:
        first = findings(observe(BoardLine(url, 460800, WIRINGS["dtr-rts"]), wait=briefly))[0]
    assert first.values["line"] == BoardLine(url, 115200, WIRINGS["dtr-rts"])


def test_a_serial_server_without_parity_is_found() -> None:
    """A serial server that is configured without parity is detected."""
    board = SimulatedBoard()
    board.set_line(LineSettings(115200, "N"))
    with serve_tcp(board) as url:
        assert abouts(BoardLine(url))[0] == "parity"
