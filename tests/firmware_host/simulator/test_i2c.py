"""The committed loader on a simulated STM32F103 uses a secure element at I2C1 to verify the vendor's signature."""

from __future__ import annotations

import re

import pytest

from firmware_host.simulator import i2c
from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.i2c import I2cMaster
from firmware_host.simulator.secure_element.element import ChipFaults, SecureElement
from tests.support.board_device import FLASH_SIZE, SLOT_0, committed
from tests.support.chip_bus import image_key, provisioned

PRESENT, CHECKED = 8, 16
"""Flags of ``device/loader/boot_report.h``."""
REPORT = re.compile(rb"test (\S+) flags (\d+) refusal (\d+)\n")
STEP, STEPS = 0.01, 45


class ChipBoard:
    """A board with the loader for secure elements, an image in slot 0, and a provisioned secure element."""

    def __init__(self, image: str = "test-1.0.0") -> None:
        contents = bytearray(b"\xff" * FLASH_SIZE)
        for at, program in ((0, committed("loader-chip")), (SLOT_0, committed(image))):
            contents[at : at + len(program)] = program
        self.board = SimulatedBoard(flash=bytes(contents))
        self.board.boot0 = False
        self.element = provisioned(SecureElement(clock=lambda: self.board.seconds_run), image=image_key())
        self.board.attach(self.element)

    def boot(self) -> int | None:
        """Reset the board, and return the flags that the image prints; None if no image starts."""
        self.board.reset()
        sent = b""
        for _ in range(STEPS):
            sent += self.board.run(STEP)
            if found := REPORT.search(sent):
                return int(found[2])
        return None


def test_the_chip_accepts_the_vendors_image() -> None:
    """The first boot verifies the signature; the second boot compares the stored digest, which is faster."""
    device = ChipBoard()
    times = []
    for _ in range(2):
        before = device.board.seconds_run
        assert device.boot() == PRESENT | CHECKED
        times.append(device.board.seconds_run - before)
    assert times[1] < times[0]


def test_a_power_failure_leaves_the_chip_usable() -> None:
    """After a power failure during a boot, the next boot has the same result as a first boot."""
    device = ChipBoard()
    device.board.reset()
    device.board.run(STEP)
    device.board.cut_power()
    assert device.boot() == PRESENT | CHECKED


def test_an_absent_chip_leaves_integrity() -> None:
    """If the secure element does not answer, the loader starts the image and reports that the chip is missing."""
    device = ChipBoard()
    device.element.faults = ChipFaults(is_absent=True)
    assert device.boot() == 0


@pytest.mark.parametrize("faults", [ChipFaults(has_wrong_checksum=True), ChipFaults(truncated_to=3)])
def test_a_disturbed_bus_leaves_integrity(faults: ChipFaults) -> None:
    """If answers of the secure element are truncated or have a wrong checksum, the image is started as not proven."""
    device = ChipBoard()
    device.element.faults = faults
    assert device.boot() == 0


def test_a_foreign_image_is_not_started_once_the_chip_knows_another() -> None:
    """A foreign image is not started if the secure element has stored the digest of another image."""
    device = ChipBoard()
    assert device.boot() == PRESENT | CHECKED
    other = ChipBoard("test-foreign")
    other.board.attach(SecureElement(device.element.memory, clock=lambda: other.board.seconds_run))
    assert other.boot() is None


def test_the_controller_needs_clock_and_pins() -> None:
    """Without its clock, or without open-drain pins, the simulated I2C controller does nothing."""
    element = SecureElement(clock=lambda: 1.0)
    for registers in ({}, {i2c.RCC_APB1ENR: 1 << 21}, {i2c.RCC_APB1ENR: 1 << 21, i2c.GPIOB_CRL: 0xBB00_0000}):
        master = I2cMaster(element, lambda address, values=registers: values.get(address, 0))  # type: ignore[misc]
        master.write(i2c.CR1, i2c.ENABLED | i2c.START)
        assert not master.read(i2c.SR1)
    master = I2cMaster(element, {i2c.RCC_APB1ENR: 1 << 21, i2c.GPIOB_CRL: 0xDD00_0000}.__getitem__)
    master.write(i2c.CR1, i2c.START)
    assert not master.read(i2c.SR1)
    master.write(i2c.CR1, i2c.ENABLED | i2c.START)
    assert master.read(i2c.SR1) == i2c.STARTED
    master.write(i2c.DR, 0x22)
    assert master.read(i2c.SR1) == i2c.STARTED | i2c.REFUSED
