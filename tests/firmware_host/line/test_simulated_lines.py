"""Simulated boards on lines without parity, with an echo, and with an RS485 transceiver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest

from blockota.cli.remedies import remedy_of
from blockota.errors import Action, BoardError, LinkError, UsageError
from firmware_host.bench.doctor import Finding, findings, observe
from firmware_host.bootloader.chips import find_chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import BY_HAND, WIRINGS, BoardLine, BoardWiring, StartMethod, enter_bootloader
from firmware_host.line.link import LineMode, Parity
from firmware_host.line.ports import open_link
from firmware_host.simulator import BoardSide, Faults, SimulatedBoard, Wiring, serve_rfc2217, serve_tcp

RTS_SENDS, RTS_RECEIVES = Wiring(rs485=True), Wiring(rs485=True, invert_rs485=True)
TWO_WIRES = Wiring(reset="dtr", boot0="rts")
RAM, BLOCK = 0x2000_0400, bytes(range(256))


@dataclass(frozen=True)
class Line:
    """A simulated line, and the host's settings for this line.

    Attributes:
        side: the line mode of the simulated board.
        mode: the host's mode.
        wiring: the wiring of the simulated port; None for a bare TCP connection.
        host: the wiring that the host must use for this line.
    """

    side: BoardSide
    mode: LineMode
    wiring: Wiring | None = None
    host: BoardWiring = field(default=BY_HAND)


LINES = {
    "no-parity": Line(BoardSide("N"), LineMode(Parity.NONE), TWO_WIRES, WIRINGS["dtr-rts"]),
    "no-parity-by-hand": Line(BoardSide("N"), LineMode(Parity.NONE), Wiring()),
    "one-wire": Line(BoardSide(half_duplex=True), LineMode(echo=True)),
    "one-wire-reset": Line(BoardSide(half_duplex=True), LineMode(echo=True), TWO_WIRES, WIRINGS["dtr-rts"]),
    "rs485": Line(BoardSide(), LineMode(rs485=True), RTS_SENDS),
    "rs485-inverted": Line(BoardSide(), LineMode(rs485=True, invert_rs485=True), RTS_RECEIVES),
    "rs485-echo": Line(BoardSide(half_duplex=True), LineMode(rs485=True, echo=True), RTS_SENDS),
    "rs485-reset": Line(BoardSide(), LineMode(rs485=True), Wiring(reset="dtr", rs485=True), WIRINGS["dtr"]),
}


@contextmanager
def served(line: Line, faults: Faults | None = None) -> Iterator[str]:
    """Serve a simulated board on a line, and yield its URL."""
    board = SimulatedBoard(faults=faults or Faults())
    board.side = line.side
    server = serve_tcp(board) if line.wiring is None else serve_rfc2217(board, wiring=line.wiring)
    with server as url:
        yield url


def briefly(seconds: float) -> None:
    """Wait at most 20 ms, because a simulated board starts immediately."""
    time.sleep(min(seconds, 0.02))


@contextmanager
def connected(url: str, line: Line, mode: LineMode) -> Iterator[Bootloader]:
    """Connect to the bootloader of a served board in a mode."""
    with closing(open_link(url, mode=mode)) as link:
        bootloader = Bootloader(link)
        enter_bootloader(bootloader, wiring=line.host, wait=briefly)
        yield bootloader


@pytest.mark.parametrize("name", LINES)
def test_a_board_answers_in_the_right_mode(name: str) -> None:
    """With the right mode for its line, a board is identified, and a block is written to its RAM and read back."""
    line = LINES[name]
    with served(line) as url, connected(url, line, line.mode) as bootloader:
        chip_id = bootloader.product_id()
        assert chip_id == 0x410
        chip = find_chip(chip_id)
        assert chip
        bootloader.target(chip)
        bootloader.write(RAM, BLOCK)
        assert bootloader.read(RAM, 256) == BLOCK


@pytest.mark.parametrize("name", ["no-parity", "one-wire", "rs485-inverted"])
def test_a_board_is_not_reached_in_the_usual_mode(name: str) -> None:
    """If a line is opened in the usual mode but needs another mode, the board's answers are missing or wrong."""
    line = LINES[name]
    with served(line) as url, pytest.raises(BoardError), connected(url, line, LineMode()) as bootloader:
        bootloader.product_id()


@pytest.mark.parametrize("name", ["no-parity-by-hand", "one-wire", "rs485-inverted", "rs485-echo"])
def test_the_doctor_names_the_wrong_setting(name: str) -> None:
    """If the usual mode is wrong for a line, the doctor reports the right mode and its options."""
    line = LINES[name]
    with served(line) as url:
        given = BoardLine(url, wiring=line.host)
        first = diagnosis(given)
    assert (first.action, first.values["line"]) == (Action.USE_LINE, BoardLine(url, wiring=line.host, mode=line.mode))
    words = {"no": "parity", "on": "echo", "rs": "rs485"}
    assert first.about == words[name[:2]]
    assert f"--mode {line.mode.words}" in remedy_of(first)


@pytest.mark.parametrize(
    ("mode", "about"),
    [(LineMode(Parity.NONE), "parity"), (LineMode(echo=True), "echo"), (LineMode(rs485=True), "rs485")],
    ids=["parity", "echo", "rs485"],
)
def test_the_doctor_names_a_setting_that_the_line_does_not_need(mode: LineMode, about: str) -> None:
    """For a usual line in another mode, the doctor reports how to revert the mode, unless the board answers anyway."""
    line = Line(BoardSide(), mode, Wiring())
    with served(line) as url:
        first = diagnosis(BoardLine(url, mode=mode))
    if about == "rs485":  # without a transceiver, RTS has no effect, and the board answers
        assert first.about == "ready"
        return
    assert (first.about, first.values["line"]) == (about, BoardLine(url))
    assert "--mode plain" in remedy_of(first)


def diagnosis(line: BoardLine) -> Finding:
    """Return the first finding about a line."""
    return findings(observe(line, listen=0.05, wait=briefly))[0]


def test_a_flipped_bit_on_one_wire_is_a_collision() -> None:
    """If a byte changes on the shared wire, the changed echo is reported before the board's answer is used."""
    line = LINES["one-wire"]
    match = "differs from the bytes"
    with served(line, Faults(flip_received=2)) as url, pytest.raises(LinkError, match=match):  # noqa: SIM117
        with connected(url, line, line.mode):
            pass


def test_a_line_with_an_echo_is_required_to_have_one() -> None:
    """If the mode expects an echo and the line has none, the error proposes to omit the option."""
    with serve_tcp(SimulatedBoard()) as url, pytest.raises(LinkError, match="does not return the sent bytes") as error:
        connected(url, LINES["one-wire"], LineMode(echo=True)).__enter__()
    assert error.value.action is Action.OMIT_ECHO


@pytest.mark.parametrize("name", [name for name, wiring in WIRINGS.items() if wiring.uses_rts])
def test_rts_has_one_purpose(name: str) -> None:
    """If RTS switches an RS485 transceiver, a wiring that also uses RTS is refused."""
    with pytest.raises(UsageError, match="RTS cannot switch an RS485 transceiver"):
        BoardLine("/dev/ttyUSB0", wiring=WIRINGS[name], mode=LineMode(rs485=True))


@pytest.mark.parametrize("name", WIRINGS)
def test_a_start_by_reset_needs_both_lines(name: str) -> None:
    """A start by a reset is accepted only for wirings that drive both NRST and BOOT0."""
    if WIRINGS[name].drives_boot0:
        assert BoardLine("/dev/ttyUSB0", wiring=WIRINGS[name], start=StartMethod.RESET).starts_by_reset
        assert not BoardLine("/dev/ttyUSB0", wiring=WIRINGS[name], start=StartMethod.GO).starts_by_reset
        return
    with pytest.raises(UsageError, match="cannot start the program by a reset"):
        BoardLine("/dev/ttyUSB0", wiring=WIRINGS[name], start=StartMethod.RESET)


def test_the_simulator_refuses_a_second_purpose_of_rts() -> None:
    """The simulator does not serve a board whose wiring uses RTS twice."""
    with pytest.raises(UsageError, match="RTS cannot switch"):
        serve_rfc2217(SimulatedBoard(), wiring=Wiring(reset="rts", rs485=True)).__enter__()
