"""Starting the program that a board holds, and listening to it."""

from __future__ import annotations

from firmware_host.bootloader.application import start
from firmware_host.bootloader.client import Bootloader
from firmware_host.simulator import SimulatedBoard
from tests.firmware_host.direct_link import DirectLink
from tests.firmware_host.flash_scene import BASE, FLASH_SIZE, KIB, chip, code, connected


class TalkingLink(DirectLink):
    """A board that says something when it is started."""

    speech = b""

    def write(self, data: bytes, /) -> None:
        """Hand a frame over; the speech follows the ACK of Go's address."""
        super().write(data)
        self._received += self.speech if len(data) == 5 else b""


def test_what_a_board_prints_cannot_drive_the_terminal() -> None:
    """Control characters, direction marks and bytes that are no UTF-8 are made visible."""
    link = TalkingLink(SimulatedBoard(flash=code(KIB).data))
    link.speech = "ok\r\n\x1b[2J\x07 grün \u202e".encode() + b"\xff\n"
    bootloader = Bootloader(link)
    bootloader.connect()
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    assert start(bootloader, BASE, listen=0.1) == "ok\n\\x1b[2J\\x07 grün \\u202e\\xff\n"


def test_a_board_that_says_nothing_is_started_all_the_same() -> None:
    """Silence after Go is no error: not every program prints."""
    bootloader = connected(SimulatedBoard(flash=code(KIB).data))
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    assert start(bootloader, BASE, listen=0.05) == ""
