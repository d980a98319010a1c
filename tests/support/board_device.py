"""A simulated STM32F103 with the committed loader, whose power can be cut in any flash operation."""

from __future__ import annotations

import gc
import re
from pathlib import Path

from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.faults import NO_FAULTS, Faults
from tests.conftest import ROOT
from tests.support.power_cuts import Cut, PowerLostError, Running

COMMITTED = ROOT / "device" / "images"
LOADER, SLOT_0, SLOT_1, SLOT_SIZE, FLASH_SIZE = 0x0000, 0x1000, 0x8000, 0x7000, 0x1_0000
"""Offsets from the start of flash (``device/ports/stm32f103/map.h``)."""
TORN = range(4)
"""What the cells of an interrupted operation contain (`torn` of the simulator's faults)."""
TIMEOUT, STEP = 0.8, 0.001
"""Seconds of the board's time in which an answer must come, and between two looks."""
BOARDS_PER_COLLECTION = 16
REPORT = re.compile(rb"test (\S+) flags (\d+) refusal (\d+)\n")


def committed(name: str) -> bytes:
    """Return a committed program for the board."""
    return Path(COMMITTED, f"stm32f103-{name}.bin").read_bytes()


def board_images() -> dict[str, bytes]:
    """Return the committed images by the names that the scenarios use."""
    return {"old": committed("test-1.0.0"), "new": committed("test-1.1.0"), "long": committed("test-1.2.0")}


class BoardDevice:
    """A board that runs the loader and a test image; the tests control the images by one-byte commands.

    Args:
        loader: the name of the committed loader, or another loader.

    Attributes:
        seconds: the simulated time of the last command or boot.
    """

    boards = 0
    """The number of boards that all devices had."""

    def __init__(self, loader: str | bytes = "loader") -> None:
        self._loader = committed(loader) if isinstance(loader, str) else loader
        self._cut: Cut | None = None
        self._done = 0
        self.seconds = 0.0
        self.load(b"", b"")

    @property
    def operations(self) -> int:
        """The number of flash operations since `load`."""
        return self._done + self._board.flash_operations

    def load(self, slot_0: bytes, slot_1: bytes) -> None:
        """Fill both slots, and erase the loader's state."""
        contents = bytearray(b"\xff" * FLASH_SIZE)
        for at, data in ((LOADER, self._loader), (SLOT_0, slot_0), (SLOT_1, slot_1)):
            contents[at : at + len(data)] = data
        self._done = 0
        self._power_up(bytes(contents))

    def plan(self, cut: Cut | None) -> None:
        """Plan the next power cut (None plans no cut), and switch the board off and on."""
        self._cut, self._done = cut, self.operations
        self._power_up(self._board.flash)

    def slot(self, number: int) -> bytes:
        """Return the contents of a slot."""
        start = (SLOT_0, SLOT_1)[number]
        return self._board.flash[start : start + SLOT_SIZE]

    def upload(self, image: bytes) -> None:
        """Write an image to slot 1 directly, because the test images cannot receive an image.

        The write is not counted as a flash operation.
        """
        contents = bytearray(self._board.flash)
        contents[SLOT_1 : SLOT_1 + SLOT_SIZE] = image + b"\xff" * (SLOT_SIZE - len(image))
        self._done = self.operations
        self._power_up(bytes(contents))

    def boot(self) -> Running | None:
        """Reset the board, and wait for the line that an image sends at its start."""
        self._board.reset()
        found = REPORT.search(self._until(b"\n"))
        return Running(int(found[2]), int(found[3])) if found else None

    def request(self) -> bool:
        """Let the running image request the image of slot 1."""
        return self._command(b"r")

    def confirm(self) -> bool:
        """Let the running image confirm itself."""
        return self._command(b"c")

    def revert(self) -> bool:
        """Let the running image request the previous image."""
        return self._command(b"v")

    def _command(self, command: bytes) -> bool:
        if self._board.application is None:
            self.boot()
        self._board.feed(command)
        return self._until(b"+", b"-").endswith(b"+")

    def _power_up(self, contents: bytes) -> None:
        faults = NO_FAULTS
        if self._cut:
            number = max(self._cut.operation - self._done, 0)
            faults = Faults(power_cut_in_operation=number, torn=self._cut.torn, seed=self._cut.seed)
        # The emulator of each boot has megabytes in reference cycles, of which Python's collector knows nothing.
        BoardDevice.boards += 1
        if BoardDevice.boards % BOARDS_PER_COLLECTION == 0:
            gc.collect()
        self._board = SimulatedBoard(flash=contents, faults=faults)
        self._board.boot0 = False

    def _until(self, *ends: bytes) -> bytes:
        received, self.seconds = b"", 0.0
        while not received.endswith(ends) and self.seconds < TIMEOUT:
            received += self._board.run(STEP)
            self.seconds += STEP
            if not self._board.powered:
                self._cut, self._done = None, self.operations
                self._power_up(self._board.flash)
                raise PowerLostError
        return received
