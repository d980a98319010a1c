"""Updates of a device during which the power fails.

The module contains scenarios and power cuts, and checks which image the device runs afterwards. The power of a device
may fail at any instant. After a power cut, the device must start an unchanged image, which is one of the two images
that the scenario allows. A later update must still be possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

BOOTS = 12
"""The number of boots after which a device counts as not running anything. A trial takes three boots, and its end takes
one."""
ATTEMPTS = 2
"""Boots after which a device counts as one that runs nothing."""


class PowerLostError(Exception):
    """The planned power cut has happened."""


@dataclass(frozen=True)
class Cut:
    """A point at which the power fails.

    Attributes:
        operation: the number of the flash operation during which the power fails, counted from 1.
        torn: a device-specific code for the contents that the cut leaves in the interrupted cells.
        seed: the random seed that selects the changed bits.
    """

    operation: int
    torn: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Running:
    """The image that a device started.

    Attributes:
        flags: the flags of the boot report (``device/loader/boot_report.h``).
        refusal: the loader's reason code for refusing the requested image; 0 if it was not refused.
    """

    flags: int
    refusal: int = 0

    @property
    def is_trial(self) -> bool:
        """Whether the image is on trial: it is rolled back unless it confirms itself."""
        return bool(self.flags & 1)


class UpdatableDevice(Protocol):
    """A device with two slots. At the planned cut, every method except `load` and `plan` raises PowerLostError."""

    @property
    def operations(self) -> int:
        """The number of flash operations since `load`."""

    def load(self, slot_0: bytes, slot_1: bytes) -> None:
        """Fill both slots, erase the state, and set the number of operations to 0."""

    def plan(self, cut: Cut | None) -> None:
        """Plan the next power cut; None plans no cut."""

    def slot(self, number: int) -> bytes:
        """Return the contents of a slot."""

    def upload(self, image: bytes) -> None:
        """Write an image to slot 1 by operations of the flash controller."""

    def boot(self) -> Running | None:
        """Reset the device. Return the image that runs after the reset, or None if no image runs."""

    def request(self) -> bool:
        """Let the running image request the image of slot 1. Returns False if the request was refused."""

    def confirm(self) -> bool:
        """Let the running image confirm itself. Returns False if the confirmation was refused."""

    def revert(self) -> bool:
        """Let the running image request the previous image. Returns False if the request was refused."""


@dataclass(frozen=True)
class Scenario:
    """The course of one update.

    Attributes:
        slot_0: the name of the image that the device runs at the start.
        slot_1: the name of the image in slot 1.
        steps: the names of the device's methods to call, in order.
        final: the name of the image that the device runs at the end.
        damaged: the offset of a wrong byte in slot 0 at the start; None if no byte is wrong.
    """

    name: str
    slot_0: str
    slot_1: str
    steps: tuple[str, ...]
    final: str
    damaged: int | None = None


OLD, NEW = "old", "new"
UPDATE = ("boot", "request", "boot", "confirm", "boot", "boot")
SCENARIOS = (
    Scenario("update and confirm", OLD, NEW, UPDATE, NEW),
    Scenario("no confirmation", OLD, NEW, ("boot", "request", "boot", "boot", "boot", "boot", "boot"), OLD),
    Scenario("the image asks to return", OLD, NEW, ("boot", "request", "boot", "revert", "boot", "boot"), OLD),
    Scenario("the same image again", OLD, OLD, UPDATE, OLD),
    Scenario("a longer image", OLD, "long", UPDATE, "long"),
    Scenario("a shorter image", "long", OLD, UPDATE, OLD),
    Scenario("a damaged image beside an intact one", OLD, NEW, ("boot", "confirm", "boot"), NEW, damaged=700),
)
"""The courses in which every flash operation is cut off once."""


def play(device: UpdatableDevice, scenario: Scenario, images: Mapping[str, bytes]) -> Running | None:
    """Load a device, and perform the steps of a scenario. Returns the result of the last boot."""
    first = bytearray(images[scenario.slot_0])
    if scenario.damaged is not None:
        first[scenario.damaged] ^= 0x10
    device.load(bytes(first), images[scenario.slot_1])
    running: Running | None = None
    for step in scenario.steps:
        result = getattr(device, step)()
        if step == "boot":
            running = result
    return running


def find_fault(
    device: UpdatableDevice, scenario: Scenario, images: Mapping[str, bytes], cuts: Iterable[Cut]
) -> tuple[str, int]:
    """Play a scenario with power cuts, one after another, and check the device afterwards.

    Returns:
        The fault, or an empty text if there is none; and the number of cuts that happened.
    """
    planned: Iterator[Cut] = iter(cuts)
    device.plan(next(planned, None))
    happened = 0
    try:
        play(device, scenario, images)
    except PowerLostError:
        happened = 1
    allowed = {name: images[name] for name in (scenario.slot_0, scenario.slot_1)}

    # (1) The power returns, and may fail again while the device boots.
    for cut in planned:
        device.plan(Cut(device.operations + cut.operation, cut.torn, cut.seed))
        try:
            device.boot()
        except PowerLostError:
            happened += 1
    device.plan(None)
    if fault := _fault_of_running(device, allowed):
        return fault, happened

    # (2) The device can still be updated, to the image that the scenario ends with.
    target = images[scenario.final]
    for _ in range(3):
        running = _settle(device)
        if running and device.slot(0).startswith(target):
            return "", happened
        device.upload(target)
        if running is None or not device.request():
            return "it refuses a request", happened
        running = device.boot()
        if running and running.is_trial:
            device.confirm()
    return "it cannot be updated", happened


def _fault_of_running(device: UpdatableDevice, allowed: Mapping[str, bytes]) -> str:
    """Boot until the device runs an image.

    Returns the fault of the image that runs, or an empty text if the image is allowed.
    """
    for _ in range(ATTEMPTS):
        if device.boot():
            found = [name for name, image in allowed.items() if device.slot(0).startswith(image)]
            return "" if found else "it runs an image that is not published"
    return "it runs nothing"


def _settle(device: UpdatableDevice) -> Running | None:
    """Boot without confirming until no trial is in progress."""
    running = None
    for _ in range(BOOTS):
        running = device.boot()
        if running and not running.is_trial:
            break
    return running
