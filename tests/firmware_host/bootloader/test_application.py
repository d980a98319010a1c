"""Starting an application, and reading the text that it prints."""

from __future__ import annotations

from firmware_host.bootloader.application import start
from firmware_host.simulator import SimulatedBoard
from tests.firmware_host.direct_link import DirectLink
from tests.firmware_host.flash_scene import BASE, FLASH_SIZE, code, connected
from tests.firmware_host.scripted_board import KIB, chip


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
    assert start(bootloader, BASE, listen=0.1) == "ok\n\\x1b[2J\\x07 grün \\u202e\\xff\n"


def test_a_silent_application_is_started() -> None:
    """Silence after Go is not an error."""
    bootloader = connected(SimulatedBoard(flash=code(KIB).data))
    bootloader.target(chip(), flash_size=FLASH_SIZE)
    assert start(bootloader, BASE, listen=0.05) == ""
