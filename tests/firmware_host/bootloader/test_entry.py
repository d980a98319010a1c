"""Resetting simulated boards into their bootloaders, by lines of every polarity, by a break and by hand."""

from __future__ import annotations

from itertools import product

import pytest

from blockota.errors import BoardProtocolError, LinkError, NoAnswerError, UsageError
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import (
    BY_HAND,
    PRESETS,
    SETTLE_SECONDS,
    Entry,
    enter_bootloader,
    find_entry,
    reset_board,
)
from firmware_host.simulator import PROFILES, SimulatedBoard
from tests.conftest import IMAGES
from tests.firmware_host.board_clock import Clock
from tests.firmware_host.steered_link import SteeredLink

APPLICATION = (IMAGES / "bluepill-1.1.0.bin").read_bytes()
LINES = ("dtr-rts", "rts-dtr")


def in_application() -> SimulatedBoard:
    """A board that runs what is in its flash."""
    board = SimulatedBoard(flash=APPLICATION)
    board.boot0 = False
    board.reset()
    return board


@pytest.mark.parametrize(
    "wiring",
    [
        find_entry(name, invert_reset=reset, invert_boot0=boot0)
        for name, reset, boot0 in product(LINES, (False, True), (False, True))
    ],
    ids=[f"{name}-{reset}-{boot0}" for name, reset, boot0 in product(LINES, (0, 1), (0, 1))],
)
def test_lines_bring_a_running_board_into_its_bootloader_and_back(wiring: Entry) -> None:
    """Whatever the polarities, the board answers afterwards, and starts its program when BOOT0 is set to 0."""
    link = SteeredLink(in_application(), wiring)
    bootloader = Bootloader(link)
    enter_bootloader(bootloader, link, entry=wiring, wait=lambda _: None)
    assert bootloader.product_id() == 0x410
    reset_board(link, wiring, boot0=False, wait=lambda _: None)
    assert b"BlockOTA bluepill 1.1.0" in link.drain()


@pytest.mark.parametrize("name", ["dtr", "rts", "break"])
def test_a_board_whose_boot0_is_a_jumper_is_reset(name: str) -> None:
    """A single line or a break is enough where BOOT0 stays at 1; nothing else has to be done."""
    link = SteeredLink(SimulatedBoard(), PRESETS[name])
    link.write(b"\x31")
    bootloader = Bootloader(link)
    enter_bootloader(bootloader, link, entry=PRESETS[name], wait=lambda _: None)
    assert (bootloader.product_id(), link.resets) == (0x410, 1)
    assert not PRESETS[name].drives_boot0


def test_by_hand_nothing_is_reset() -> None:
    """A person has pressed the button already; the lines are left alone."""
    link = SteeredLink(SimulatedBoard(), PRESETS["dtr-rts"])
    enter_bootloader(Bootloader(link), link, entry=BY_HAND, wait=lambda _: None)
    reset_board(link, BY_HAND, boot0=False, wait=lambda _: None)
    assert link.resets == 0


@pytest.mark.parametrize("name", ["stm32f103c8", "stm32f407vg", "stm32l476rg", "stm32g071rb"])
def test_slow_bootloaders_are_waited_for(name: str) -> None:
    """A bootloader that takes 0.4 ms or 2.6 s to listen is found, and no board is waited for longer than it needs."""
    clock = Clock()
    board = SimulatedBoard(PROFILES[name], times=clock.times())
    link = SteeredLink(board, PRESETS["dtr-rts"])
    began = clock.now()
    enter_bootloader(Bootloader(link), link, entry=PRESETS["dtr-rts"], wait=clock.wait)
    needed = next(settle for settle in SETTLE_SECONDS if settle > board.profile.boot_seconds)
    earlier = sum(settle for settle in SETTLE_SECONDS if settle < needed)
    assert clock.now() - began < earlier + needed + 0.1


def test_a_wiring_that_is_not_the_boards_is_told() -> None:
    """After the last silence the error says what was tried, and who finds the wiring."""
    link = SteeredLink(SimulatedBoard(), find_entry("dtr-rts", invert_reset=True))
    with pytest.raises(NoAnswerError, match=r"reset 4 times as the wiring says.*`blockota board doctor`"):
        enter_bootloader(Bootloader(link), link, entry=PRESETS["dtr-rts"], wait=lambda _: None)


def test_an_application_that_answers_is_told() -> None:
    """With the wrong polarity of BOOT0 each reset starts the program, whose words are no bootloader's."""
    link = SteeredLink(in_application(), find_entry("dtr-rts", invert_boot0=True))
    with pytest.raises((BoardProtocolError, NoAnswerError), match="`blockota board doctor`"):
        enter_bootloader(Bootloader(link), link, entry=PRESETS["dtr-rts"], wait=lambda _: None)


def test_a_port_without_lines_cannot_reset() -> None:
    """A bare socket or pseudo-terminal is refused before anything is sent."""
    link = SteeredLink(SimulatedBoard(), BY_HAND)
    link.can_steer = False
    with pytest.raises(LinkError, match=r"has no control lines.*Leave --wiring out"):
        enter_bootloader(Bootloader(link), link, entry=PRESETS["dtr"], wait=lambda _: None)
    assert link.drain() == b""


@pytest.mark.parametrize(
    ("name", "inversions", "says"),
    [
        ("rts-cts", {}, "there is no wiring 'rts-cts'. Choose one of by-hand, dtr-rts"),
        ("by-hand", {"invert_reset": True}, "has no such line to invert"),
        ("dtr", {"invert_boot0": True}, "has no such line to invert"),
        ("break", {"invert_reset": True}, "has no such line to invert"),
    ],
    ids=["name", "by-hand", "dtr", "break"],
)
def test_wirings_that_are_none_are_refused(name: str, inversions: dict[str, bool], says: str) -> None:
    """A name that is not known, and a line to invert that is not there."""
    with pytest.raises(UsageError, match=says):
        find_entry(name, **inversions)
