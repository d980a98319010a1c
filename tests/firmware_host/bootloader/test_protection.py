"""Protection is set and removed on simulated boards; an acknowledged change without effect is detected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blockota.errors import BoardProtocolError, NoAnswerError, RefusedError
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.bootloader.protection import (
    protect_pages,
    protect_readout,
    unprotect_pages,
    unprotect_readout,
)
from firmware_host.simulator import SimulatedBoard
from tests.firmware_host.direct_link import DirectLink
from tests.firmware_host.flash_scene import connected
from tests.firmware_host.scripted_board import chip

CONTENTS = bytes(range(1, 256)) * 8


def no_wait(seconds: float) -> None:
    """Do not wait, because the simulated board changes its protection immediately."""
    assert seconds > 0


def identified(board: SimulatedBoard) -> Bootloader:
    """Return a client that has identified the board."""
    bootloader = connected(board)
    identify(bootloader)
    return bootloader


def test_pages_are_protected_and_freed() -> None:
    """Write protection covers four pages per bit, replaces the earlier protection, and leaves the flash unchanged."""
    board = SimulatedBoard(flash=CONTENTS)
    bootloader = identified(board)
    assert protect_pages(bootloader, chip(), pages=[5], wait=no_wait).write_protected_pages == (4, 5, 6, 7)
    assert protect_pages(bootloader, chip(), pages=[0, 63], wait=no_wait).write_protected_pages == (
        *range(4),
        *range(60, 64),
    )
    assert board.protected_pages == {*range(4), *range(60, 64)}
    assert unprotect_pages(bootloader, chip(), wait=no_wait).write_protected_pages == ()
    assert board.flash.startswith(CONTENTS)


def test_readout_protection_is_set_and_removed() -> None:
    """Readout protection hides the unique id, and removing the protection erases the flash."""
    board = SimulatedBoard(flash=CONTENTS)
    bootloader = identified(board)
    closed = protect_readout(bootloader, chip(), wait=no_wait)
    assert (closed.readout_protected, closed.unique_id) == (True, None)
    assert board.readout_protected
    opened = unprotect_readout(bootloader, chip(), wait=no_wait)
    assert opened.readout_protected is False
    assert set(board.flash) == {0xFF}


def test_a_chip_whose_protection_is_unknown_is_refused() -> None:
    """Protecting a chip with an unknown format of write protection is refused."""
    bootloader = identified(SimulatedBoard())
    with pytest.raises(RefusedError, match="does not describe the write-protection bits of STM32F411"):
        protect_pages(bootloader, chip(0x431), pages=[0], wait=no_wait)


class Intercepted(DirectLink):
    """A link that answers each selected frame once in place of the board."""

    def __init__(self, board: SimulatedBoard) -> None:
        super().__init__(board)
        self.answers: dict[bytes, bytes] = {}

    def write(self, data: bytes, /) -> None:
        """Answer a selected frame, or send the frame to the board."""
        if data in self.answers:
            self._received += self.answers.pop(data)
        else:
            super().write(data)


Change = Callable[[Bootloader], object]
IGNORED: dict[str, tuple[Change, dict[str, str]]] = {
    "protect pages": (
        lambda bootloader: protect_pages(bootloader, chip(), pages=[8], wait=no_wait),
        {"63 9c": "79", "00 02 02": "79"},
    ),
    "unprotect pages": (lambda bootloader: unprotect_pages(bootloader, chip(), wait=no_wait), {"73 8c": "79 79"}),
    "protect readout": (lambda bootloader: protect_readout(bootloader, chip(), wait=no_wait), {"82 7d": "79 79"}),
}


@pytest.mark.parametrize("name", IGNORED)
def test_an_acknowledgement_is_not_believed(name: str) -> None:
    """If the board acknowledges a change of protection but does not make it, an error is raised."""
    board = SimulatedBoard()
    board.protect(pages=[0])
    link = Intercepted(board)
    bootloader = connected(link)
    change, answers = IGNORED[name]
    link.answers = {bytes.fromhex(frame): bytes.fromhex(answer) for frame, answer in answers.items()}
    with pytest.raises(BoardProtocolError, match="acknowledged, and"):
        change(bootloader)


def test_a_board_that_does_not_come_back_is_an_error() -> None:
    """If BOOT0 is 0, the board starts its application after the change, and an error is raised."""
    board = SimulatedBoard()
    bootloader = identified(board)
    board.boot0 = False
    with pytest.raises(NoAnswerError, match=r"acknowledged Write Unprotect and did not come back.*identify it"):
        unprotect_pages(bootloader, chip(), wait=no_wait)
