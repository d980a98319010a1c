"""What tests of flashing begin with: images, plans, boards, and a run of the flasher."""

from __future__ import annotations

from pathlib import Path

from firmware_host.board import SimulatedBoard
from firmware_host.bootloader import Bootloader
from firmware_host.chips import Chip, find_chip
from firmware_host.flash_events import Event
from firmware_host.flash_plan import FlashPlan, plan
from firmware_host.flasher import carry_out
from firmware_host.image import FirmwareImage
from tests.firmware.direct_link import DirectLink

KIB = 1024
BASE = 0x0800_0000
FLASH_SIZE = 64 * KIB
OLD = bytes(index * 7 % 251 for index in range(FLASH_SIZE))
EXAMPLES = Path(__file__).parents[2] / "examples" / "bluepill" / "images"


def code(size: int, *, at: int = BASE, seed: int = 1) -> FirmwareImage:
    """An image of a size, with a plausible vector table and no blank stretch."""
    vectors = (0x2000_5000).to_bytes(4, "little") + (at + 9).to_bytes(4, "little")
    body = bytes((index * 31 + index // 256 + seed) % 255 for index in range(size))
    return FirmwareImage((vectors + body)[:size], at, "bin")


def chip(product_id: int = 0x410) -> Chip:
    """The table's row, which must be there."""
    found = find_chip(product_id)
    assert found is not None
    return found


def planned(image: FirmwareImage) -> FlashPlan:
    """The plan for the simulated board."""
    return plan(chip(), image, flash_size=FLASH_SIZE)


def connected(board: SimulatedBoard) -> Bootloader:
    """A client that has found the board."""
    bootloader = Bootloader(DirectLink(board))
    bootloader.connect()
    return bootloader


def flash(board: SimulatedBoard, image: FirmwareImage) -> list[Event]:
    """Flash an image the ordinary way."""
    return list(carry_out(planned(image), connected(board)))
