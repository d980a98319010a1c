"""Resetting simulated boards into their bootloaders, finding the fastest speed, and starting applications."""

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
    BoardWiring,
    connect_fastest,
    enter_bootloader,
    find_wiring,
    reset_board,
    start_application,
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
    """With all polarities the board answers, and starts its application when BOOT0 is set to 0."""
    link = SteeredLink(started(APPLICATION), wiring)
    bootloader = Bootloader(link)
    enter_bootloader(bootloader, link, wiring=wiring, wait=lambda _: None)
    assert bootloader.product_id() == 0x410
    reset_board(link, wiring, boot0=False, wait=lambda _: None)
    assert b"BlockOTA bluepill 1.1.0" in link.drain()


@pytest.mark.parametrize("name", ["dtr", "rts", "break"])
def test_a_board_whose_boot0_is_a_jumper_is_reset(name: str) -> None:
    """A single line or a break suffices if BOOT0 stays at 1."""
    link = SteeredLink(SimulatedBoard(), WIRINGS[name])
    link.write(b"\x31")
    bootloader = Bootloader(link)
    enter_bootloader(bootloader, link, wiring=WIRINGS[name], wait=lambda _: None)
    assert (bootloader.product_id(), link.resets) == (0x410, 1)
    assert not WIRINGS[name].drives_boot0


def test_by_hand_nothing_is_reset() -> None:
    """Without a wiring the control lines are not touched."""
    link = SteeredLink(SimulatedBoard(), WIRINGS["dtr-rts"])
    enter_bootloader(Bootloader(link), link, wiring=BY_HAND, wait=lambda _: None)
    reset_board(link, BY_HAND, boot0=False, wait=lambda _: None)
    assert link.resets == 0


@pytest.mark.parametrize("name", ["stm32f103c8", "stm32f407vg", "stm32l476rg", "stm32g071rb"])
def test_slow_bootloaders_are_waited_for(name: str) -> None:
    """A bootloader that listens after 0.4 ms or 2.6 s is found, without a longer wait than necessary."""
    clock = Clock()
    board = SimulatedBoard(PROFILES[name], times=clock.times())
    link = SteeredLink(board, WIRINGS["dtr-rts"])
    began = clock.now()
    enter_bootloader(Bootloader(link), link, wiring=WIRINGS["dtr-rts"], wait=clock.wait)
    needed = next(settle for settle in SETTLE_SECONDS if settle > board.profile.boot_seconds)
    earlier = sum(settle for settle in SETTLE_SECONDS if settle < needed)
    assert clock.now() - began < earlier + needed + 0.1


def test_a_wrong_wiring_is_an_error() -> None:
    """After the last silence the error names what was tried."""
    link = SteeredLink(SimulatedBoard(), find_wiring("dtr-rts", invert_reset=True))
    with pytest.raises(NoAnswerError, match="reset 4 times through its wiring"):
        enter_bootloader(Bootloader(link), link, wiring=WIRINGS["dtr-rts"], wait=lambda _: None)


def test_an_application_in_place_of_the_bootloader_is_an_error() -> None:
    """With the wrong polarity of BOOT0 every reset starts the application."""
    link = SteeredLink(started(APPLICATION), find_wiring("dtr-rts", invert_boot0=True))
    with pytest.raises((BoardProtocolError, NoAnswerError), match="diagnose the line"):
        enter_bootloader(Bootloader(link), link, wiring=WIRINGS["dtr-rts"], wait=lambda _: None)


def test_a_port_without_lines_cannot_reset() -> None:
    """A bare socket or pseudo-terminal is refused before anything is sent."""
    link = SteeredLink(SimulatedBoard(), BY_HAND)
    link.can_steer = False
    with pytest.raises(LinkError, match=r"has no control lines.*Use a serial device"):
        enter_bootloader(Bootloader(link), link, wiring=WIRINGS["dtr"], wait=lambda _: None)
    assert link.drain() == b""


@pytest.mark.parametrize(
    ("name", "inversions", "message"),
    [
        ("rts-cts", {}, "unknown wiring 'rts-cts'. Choose one of by-hand, dtr-rts"),
        ("by-hand", {"invert_reset": True}, "has no such line to invert"),
        ("dtr", {"invert_boot0": True}, "has no such line to invert"),
        ("break", {"invert_reset": True}, "has no such line to invert"),
    ],
    ids=["name", "by-hand", "dtr", "break"],
)
def test_unknown_wirings_are_refused(name: str, inversions: dict[str, bool], message: str) -> None:
    """A name that is unknown, or a line to invert that the wiring does not use."""
    with pytest.raises(UsageError, match=message):
        find_wiring(name, **inversions)


def steered(max_baud: int, *, product_id: int = 0x410) -> SteeredLink:
    """A link to a board whose bootloader measures speeds up to a limit."""
    return SteeredLink(SimulatedBoard(replace(STM32F103C8, max_baud=max_baud, product_id=product_id)), WIRING)


@pytest.mark.parametrize(("max_baud", "found"), [(500_000, 460800), (300_000, 256000), (240_000, 230400)])
def test_the_fastest_speed_that_is_understood_is_found(max_baud: int, found: int) -> None:
    """A speed that is too fast makes the board deaf, and it is reset for the next speed."""
    link = steered(max_baud)
    bootloader = Bootloader(link)
    assert connect_fastest(bootloader, link, wiring=WIRING, wait=lambda _: None) == link.baud == found
    assert bootloader.product_id() == 0x410


def test_a_board_that_takes_no_more_stays_at_its_speed() -> None:
    """After all faster speeds have failed the board is connected at the first speed."""
    link = steered(115200)
    bootloader = Bootloader(link)
    assert connect_fastest(bootloader, link, wiring=WIRING, wait=lambda _: None) == link.baud == 115200
    assert bootloader.product_id() == 0x410
    assert link.resets == len(FASTER) + 2


def test_a_limit_is_kept() -> None:
    """Speeds above the limit are not tried."""
    link = steered(500_000)
    assert connect_fastest(Bootloader(link), link, wiring=WIRING, highest=256_000, wait=lambda _: None) == 256_000


def test_without_a_reset_line_nothing_is_tried() -> None:
    """Without a reset line no faster speed is tried, because a deaf board could not be reset."""
    link = steered(500_000)
    assert connect_fastest(Bootloader(link), link, wiring=BY_HAND, wait=lambda _: None) == 115200
    assert link.resets == 0


def test_a_protected_board_and_an_unknown_chip_are_tried_by_their_product_id() -> None:
    """The memory of neither can be read, so the product id must be right each time."""
    protected = SimulatedBoard(replace(STM32F103C8, max_baud=500_000))
    protected.protect(readout=True)
    for link in (SteeredLink(protected, WIRING), steered(500_000, product_id=0x999)):
        assert connect_fastest(Bootloader(link), link, wiring=WIRING, wait=lambda _: None) == 460800


def test_a_speed_that_the_adapter_does_not_support_is_skipped() -> None:
    """After a speed that the adapter refuses, the next lower one is tried."""

    class SlowAdapter(SteeredLink):
        """An adapter that stops at 300,000 baud."""

        def set_baud(self, baud: int, /) -> None:
            if baud > 300_000:
                raise LinkError(f"the adapter cannot run at {baud} baud")
            super().set_baud(baud)

    link = SlowAdapter(SimulatedBoard(replace(STM32F103C8, max_baud=500_000)), WIRING)
    assert connect_fastest(Bootloader(link), link, wiring=WIRING, wait=lambda _: None) == 256_000


class TalkingLink(DirectLink):
    """A board that sends text when its application starts."""

    text = b""

    def write(self, data: bytes, /) -> None:
        """Pass a frame on; the text follows the ACK of Go's address."""
        super().write(data)
        self._received += self.text if len(data) == 5 else b""


def test_what_a_board_prints_cannot_drive_the_terminal() -> None:
    """Control characters, direction marks and bytes that are not UTF-8 are escaped."""
    link = TalkingLink(SimulatedBoard(flash=code(KIB).data))
    link.text = "ok\r\n\x1b[2J\x07 grün \u202e".encode() + b"\xff\n"
    bootloader = connected(link)
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    assert start_application(bootloader, BASE, listen=0.1) == "ok\n\\x1b[2J\\x07 grün \\u202e\\xff\n"


def test_a_silent_application_is_started() -> None:
    """Silence after Go is not an error."""
    bootloader = connected(SimulatedBoard(flash=code(KIB).data))
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    assert start_application(bootloader, BASE, listen=0.05) == ""
