"""Simulated boards are reset into their bootloaders, connected at the fastest speed, and started."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from blockota.errors import BoardProtocolError, LinkError, NoAnswerError, UsageError
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import (
    BY_HAND,
    FASTER,
    SETTLE_SECONDS,
    WIRINGS,
    BoardLine,
    BoardWiring,
    StartMethod,
    connect_fastest,
    enter_bootloader,
    find_wiring,
    listen_to,
    reset_board,
)
from firmware_host.simulator import PROFILES, STM32F103C8, SimulatedBoard
from tests.conftest import IMAGES
from tests.firmware_host.board_clock import Clock
from tests.firmware_host.direct_link import DirectLink, started
from tests.firmware_host.flash_scene import BASE, FLASH_SIZE, code, connected
from tests.firmware_host.scripted_board import KIB, chip
from tests.firmware_host.steered_link import SteeredLink

APPLICATION = (IMAGES / "bluepill-1.1.0.bin").read_bytes()
LINES = ("dtr-rts", "rts-dtr")
WIRING = WIRINGS["dtr-rts"]


@pytest.mark.parametrize(
    "wiring",
    [
        find_wiring(name, invert_reset=reset, invert_boot0=boot0)
        for name, reset, boot0 in product(LINES, (False, True), (False, True))
    ],
    ids=[f"{name}-{reset}-{boot0}" for name, reset, boot0 in product(LINES, (0, 1), (0, 1))],
)
def test_lines_bring_a_running_board_into_its_bootloader_and_back(wiring: BoardWiring) -> None:
    """With every wiring, a board can be reset into its bootloader and, with BOOT0 at 0, into its application."""
    link = SteeredLink(started(APPLICATION), wiring)
    bootloader = Bootloader(link)
    enter_bootloader(bootloader, wiring=wiring, wait=lambda _: None)
    assert bootloader.product_id() == 0x410
    reset_board(link, wiring, boot0=False, wait=lambda _: None)
    assert b"BlockOTA bluepill 1.1.0" in link.drain()


@pytest.mark.parametrize("name", ["dtr", "rts", "break"])
def test_a_board_whose_boot0_is_a_jumper_is_reset(name: str) -> None:
    """If a jumper keeps BOOT0 at 1, one control line or a break is sufficient to enter the bootloader."""
    link = SteeredLink(SimulatedBoard(), WIRINGS[name])
    link.write(b"\x31")
    bootloader = Bootloader(link)
    enter_bootloader(bootloader, wiring=WIRINGS[name], wait=lambda _: None)
    assert (bootloader.product_id(), link.resets) == (0x410, 1)
    assert not WIRINGS[name].drives_boot0


def test_by_hand_nothing_is_reset() -> None:
    """Without a wiring, the board is not reset through the port."""
    link = SteeredLink(SimulatedBoard(), WIRINGS["dtr-rts"])
    enter_bootloader(Bootloader(link), wiring=BY_HAND, wait=lambda _: None)
    reset_board(link, BY_HAND, boot0=False, wait=lambda _: None)
    assert link.resets == 0


@pytest.mark.parametrize("name", ["stm32f103c8", "stm32f407vg", "stm32l476rg", "stm32g071rb"])
def test_slow_bootloaders_are_waited_for(name: str) -> None:
    """A bootloader that starts slowly is found as soon as it answers."""
    clock = Clock()
    board = SimulatedBoard(PROFILES[name], times=clock.times())
    link = SteeredLink(board, WIRINGS["dtr-rts"])
    began = clock.now()
    enter_bootloader(Bootloader(link), wiring=WIRINGS["dtr-rts"], wait=clock.wait)
    needed = next(settle for settle in SETTLE_SECONDS if settle > board.profile.boot_seconds)
    earlier = sum(settle for settle in SETTLE_SECONDS if settle < needed)
    assert clock.now() - began < earlier + needed + 0.1


def test_a_wrong_wiring_is_an_error() -> None:
    """If the board stays silent after four resets, the error states their number."""
    link = SteeredLink(SimulatedBoard(), find_wiring("dtr-rts", invert_reset=True))
    with pytest.raises(NoAnswerError, match="reset 4 times through its wiring"):
        enter_bootloader(Bootloader(link), wiring=WIRINGS["dtr-rts"], wait=lambda _: None)


def test_an_application_in_place_of_the_bootloader_is_an_error() -> None:
    """If BOOT0 has the wrong polarity, every reset starts the application, and an error is raised."""
    link = SteeredLink(started(APPLICATION), find_wiring("dtr-rts", invert_boot0=True))
    with pytest.raises((BoardProtocolError, NoAnswerError), match="diagnose the line"):
        enter_bootloader(Bootloader(link), wiring=WIRINGS["dtr-rts"], wait=lambda _: None)


def test_a_port_without_lines_cannot_reset() -> None:
    """A reset through a port without control lines is refused before a byte is sent."""
    link = SteeredLink(SimulatedBoard(), BY_HAND)
    link.can_steer = False
    with pytest.raises(LinkError, match=r"has no control lines.*Use a serial device"):
        enter_bootloader(Bootloader(link), wiring=WIRINGS["dtr"], wait=lambda _: None)
    assert link.drain() == b""


@pytest.mark.parametrize(
    ("name", "inversions", "message"),
    [
        ("rts-cts", {}, "unknown wiring 'rts-cts'. Choose one of by-hand, dtr-rts"),
        ("by-hand", {"invert_reset": True}, "does not use the control line to be inverted"),
        ("dtr", {"invert_boot0": True}, "does not use the control line to be inverted"),
        ("break", {"invert_reset": True}, "does not use the control line to be inverted"),
    ],
    ids=["name", "by-hand", "dtr", "break"],
)
def test_unknown_wirings_are_refused(name: str, inversions: dict[str, bool], message: str) -> None:
    """An unknown wiring, or an inverted line that the wiring does not use, is refused."""
    with pytest.raises(UsageError, match=message):
        find_wiring(name, **inversions)


def test_words_describe_a_line() -> None:
    """The settings in the table ``[bench]`` select the serial line. Unknown and contradictory settings are refused."""
    line = BoardLine.parse("/dev/ttyUSB0", baud=57600, wiring="dtr-rts", mode="echo", start="go")
    assert line.description == "wiring dtr-rts at 57600 baud in mode echo"
    assert line.start is StartMethod.GO
    assert BoardLine.parse("/dev/ttyUSB0") == BoardLine("/dev/ttyUSB0")
    wrong = [("usb", "plain", "auto"), ("dtr", "loud", "auto"), ("dtr", "plain", "later"), ("dtr", "plain", "reset")]
    for wiring, mode, start in wrong:
        with pytest.raises(UsageError):
            BoardLine.parse("/dev/ttyUSB0", wiring=wiring, mode=mode, start=start)


def steered(max_baud: int, *, product_id: int = 0x410) -> SteeredLink:
    """Return a link to a board whose bootloader understands speeds up to `max_baud`."""
    return SteeredLink(SimulatedBoard(replace(STM32F103C8, max_baud=max_baud, product_id=product_id)), WIRING)


@pytest.mark.parametrize(("max_baud", "found"), [(500_000, 460800), (300_000, 256000), (240_000, 230400)])
def test_the_fastest_speed_that_is_understood_is_found(max_baud: int, found: int) -> None:
    """The board is reset and connected at ever lower speeds, until its bootloader understands the speed."""
    link = steered(max_baud)
    bootloader = Bootloader(link)
    connect_fastest(bootloader, wiring=WIRING, wait=lambda _: None)
    assert link.baud == found
    assert bootloader.product_id() == 0x410


def test_a_board_that_takes_no_more_stays_at_its_speed() -> None:
    """A board that supports only 115200 baud is connected at this speed."""
    link = steered(115200)
    bootloader = Bootloader(link)
    connect_fastest(bootloader, wiring=WIRING, wait=lambda _: None)
    assert link.baud == 115200
    assert bootloader.product_id() == 0x410
    assert link.resets == len(FASTER) + 2


def test_without_a_reset_line_nothing_is_tried() -> None:
    """Without a reset line, only 115200 baud is tried, because a second attempt would require a reset."""
    link = steered(500_000)
    connect_fastest(Bootloader(link), wiring=BY_HAND, wait=lambda _: None)
    assert link.baud == 115200
    assert link.resets == 0


def test_a_protected_board_and_an_unknown_chip_are_tried_by_their_product_id() -> None:
    """The speed of a protected board or an unknown chip is tested by reading its product id."""
    protected = SimulatedBoard(replace(STM32F103C8, max_baud=500_000))
    protected.protect(readout=True)
    for link in (SteeredLink(protected, WIRING), steered(500_000, product_id=0x999)):
        connect_fastest(Bootloader(link), wiring=WIRING, wait=lambda _: None)
        assert link.baud == 460800


def test_a_speed_that_the_adapter_does_not_support_is_skipped() -> None:
    """If the USB adapter does not support a speed, the next lower speed is tried."""

    class SlowAdapter(SteeredLink):
        """An adapter that supports at most 300,000 baud."""

        def set_baud(self, baud: int, /) -> None:
            if baud > 300_000:
                raise LinkError(f"the adapter cannot run at {baud} baud")
            super().set_baud(baud)

    link = SlowAdapter(SimulatedBoard(replace(STM32F103C8, max_baud=500_000)), WIRING)
    connect_fastest(Bootloader(link), wiring=WIRING, wait=lambda _: None)
    assert link.baud == 256_000


class TalkingLink(DirectLink):
    """A link to a board whose application sends `text` when it starts."""

    text = b""

    def write(self, data: bytes, /) -> None:
        """Send a frame to the board; append `text` to the ACK that follows Go's address."""
        super().write(data)
        self._received += self.text if len(data) == 5 else b""


def test_what_a_board_prints_cannot_drive_the_terminal() -> None:
    """In the board's output, control characters, direction marks and bytes that are not UTF-8 are escaped."""
    link = TalkingLink(SimulatedBoard(flash=code(KIB).data))
    link.text = "ok\r\n\x1b[2J\x07 grün \u202e".encode() + b"\xff\n"
    bootloader = connected(link)
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    bootloader.go(BASE)
    assert listen_to(link, seconds=0.1) == "ok\n\\x1b[2J\\x07 grün \\u202e\\xff\n"


def test_a_silent_application_is_started() -> None:
    """An application that sends nothing after Go is not an error."""
    bootloader = connected(SimulatedBoard(flash=code(KIB).data))
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    bootloader.go(BASE)
    assert listen_to(bootloader.link, seconds=0.05) == ""
