"""The loader uses the secure element, which may be absent, unlocked or defective, to verify signatures."""

from __future__ import annotations

import pytest

from firmware_host.simulator.secure_element.element import WATCHDOG, ChipFaults
from firmware_host.simulator.secure_element.protocol import ChipCommand, Opcode, WordAddress
from firmware_host.simulator.secure_element.provisioning import BOOT_DIGEST, DEVICE_KEY
from tests.peers.device.test_loader import Flag, Refusal
from tests.support.chip_bus import ChipDevice, built_chip_device, image_key, provisioned
from tests.support.host_device import digest_of
from tests.support.power_cuts import Running

CHECKED = Flag.CHIP_PRESENT | Flag.SIGNATURE_CHECKED
SECONDS = 0.5


@pytest.fixture(scope="session")
def chip_library(tmp_path_factory: pytest.TempPathFactory) -> ChipDevice:
    """The loader with the driver, compiled for this computer."""
    return built_chip_device(tmp_path_factory.mktemp("chip"))


@pytest.fixture
def chip_device(chip_library: ChipDevice, images: dict[str, bytes]) -> ChipDevice:
    """A device with a provisioned secure element, which runs the old image."""
    chip_library.element = provisioned(chip_library.new_element(), image=image_key())
    chip_library.plan(None)
    chip_library.load(images["old"], images["new"])
    return chip_library


def test_the_chip_checks_each_boot_and_each_update(chip_device: ChipDevice, images: dict[str, bytes]) -> None:
    """The secure element verifies the running image at the start, and the requested image at an update.

    After a rollback, the secure element verifies the old image again.
    """
    assert chip_device.boot() == Running(CHECKED)
    kept = bytes(chip_device.element.memory.slots[BOOT_DIGEST])[:32]
    assert kept == digest_of(chip_device.slot(0))
    assert chip_device.request()
    assert chip_device.boot() == Running(CHECKED | Flag.TRIAL)
    assert bytes(chip_device.element.memory.slots[BOOT_DIGEST])[:32] == digest_of(images["new"])
    assert chip_device.revert()
    assert chip_device.boot() == Running(CHECKED | Flag.ROLLED_BACK)
    assert chip_device.slot(0).startswith(images["old"])
    assert chip_device.boot() == Running(CHECKED)


def test_a_known_image_costs_no_verification(chip_device: ChipDevice) -> None:
    """The second boot is faster than the first, because it only compares the stored digest.

    Both boots take less than half a second of bus time.
    """
    times = []
    for _ in range(2):
        before = chip_device.seconds
        assert chip_device.boot() == Running(CHECKED)
        times.append(chip_device.seconds - before)
    assert times[1] < times[0] < SECONDS


@pytest.mark.parametrize("name", ["foreign", "unsigned"])
def test_an_image_without_the_vendors_signature_is_refused(
    chip_device: ChipDevice, images: dict[str, bytes], name: str
) -> None:
    """An image with a foreign signature, or without one, does not replace the running image."""
    chip_device.load(images["old"], images[name])
    assert chip_device.boot() == Running(CHECKED)
    assert chip_device.request()
    running = chip_device.boot()
    assert running
    assert (running.flags & Flag.REQUEST_REFUSED, running.refusal) == (Flag.REQUEST_REFUSED, Refusal.SIGNATURE)
    assert chip_device.slot(0).startswith(images["old"])
    assert chip_device.boot() == Running(CHECKED)


def test_a_changed_running_image_is_not_started(chip_device: ChipDevice, images: dict[str, bytes]) -> None:
    """An unsigned image with a valid digest does not start; the loader starts the image in the other slot."""
    assert chip_device.boot() == Running(CHECKED)
    chip_device.load(images["unsigned"], images["old"])
    running = chip_device.boot()
    assert running
    assert chip_device.slot(0).startswith(images["old"])


@pytest.mark.parametrize(
    ("faults", "flags"),
    [
        (ChipFaults(is_absent=True), 0),
        (ChipFaults(has_wrong_checksum=True), 0),
        (ChipFaults(truncated_to=2), 0),
        (ChipFaults(late=1.0), Flag.CHIP_PRESENT),
    ],
    ids=["absent", "checksum", "truncated", "late"],
)
def test_a_defective_chip_does_not_stop_the_device(
    chip_device: ChipDevice, images: dict[str, bytes], faults: ChipFaults, flags: int
) -> None:
    """With an absent or defective secure element, the device runs its image, and reports no checked signature."""
    assert chip_device.boot() == Running(CHECKED)
    chip_device.element.faults = faults
    assert chip_device.boot() == Running(flags)
    assert chip_device.slot(0).startswith(images["old"])
    chip_device.element.faults = ChipFaults()
    chip_device.seconds += 2 * WATCHDOG
    assert chip_device.boot() == Running(CHECKED)


def test_a_chip_that_becomes_late_accepts_no_successor(chip_device: ChipDevice, images: dict[str, bytes]) -> None:
    """A requested image is refused while the secure element answers too late."""
    assert chip_device.boot() == Running(CHECKED)
    assert chip_device.request()
    chip_device.element.faults = ChipFaults(late=1.0)
    running = chip_device.boot()
    assert running
    assert running.refusal == Refusal.SIGNATURE
    assert chip_device.slot(0).startswith(images["old"])


def test_an_unlocked_chip_proves_nothing(chip_device: ChipDevice, images: dict[str, bytes]) -> None:
    """With an unprovisioned secure element, the loader reports that a chip is present, and proves integrity only."""
    chip_device.element = chip_device.new_element()
    assert chip_device.boot() == Running(Flag.CHIP_PRESENT)
    assert chip_device.request()
    assert chip_device.boot() == Running(Flag.CHIP_PRESENT | Flag.TRIAL)
    assert chip_device.slot(0).startswith(images["new"])


def test_a_chip_with_another_key_accepts_no_successor(chip_device: ChipDevice, images: dict[str, bytes]) -> None:
    """If the secure element has another vendor's key, a new image is refused, and the old image remains."""
    key = image_key("test-only-foreign-key.pem")
    chip_device.element = provisioned(chip_device.new_element(), image=key)
    assert chip_device.boot() == Running(Flag.CHIP_PRESENT)
    assert chip_device.request()
    running = chip_device.boot()
    assert running
    assert running.refusal == Refusal.SIGNATURE
    assert chip_device.slot(0).startswith(images["old"])


def test_a_chip_that_was_awake_is_woken(chip_device: ChipDevice) -> None:
    """If the microcontroller is reset during a command, the chip stays awake, and the next boot can use the chip."""
    chip_device.element.wake()
    chip_device.seconds += 0.01
    assert chip_device.element.read(4)
    assert chip_device.boot() == Running(CHECKED)


def test_a_chip_that_is_busy_is_waited_for(chip_device: ChipDevice) -> None:
    """If the microcontroller is reset while the secure element is busy, the loader waits for the secure element."""
    chip_device.element.wake()
    chip_device.seconds += 0.01
    assert chip_device.element.write(WordAddress.COMMAND, ChipCommand(Opcode.GENKEY, 0, DEVICE_KEY).encoded())
    assert chip_device.boot() == Running(CHECKED)
