"""Power fails in every flash operation of an update; the loader runs on this computer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.host_device import TORN, HostDevice, built_host
from tests.support.power_cuts import SCENARIOS, Cut, Scenario, find_fault, play

FAULTY = "FAULT_DIGEST_DURING_SWAP"
DOUBLE_CUTS = 500


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_cut_in_any_operation_leaves_a_device(
    device: HostDevice, images: dict[str, bytes], scenario: Scenario
) -> None:
    """After a power cut in any flash operation, the device runs an image and can be updated.

    The contents of the interrupted cells vary from cut to cut.
    """
    for number in operations(device, scenario, images):
        cut = Cut(number, torn=number % len(TORN), seed=number)
        assert find_fault(device, scenario, images, [cut]) == ("", 1), cut
    assert device.violations == 0


def test_cuts_during_the_recovery_leave_a_device(device: HostDevice, images: dict[str, bytes]) -> None:
    """After a power cut and up to three cuts during recovery, the device runs an allowed image and can be updated."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    counts = {scenario.name: len(operations(device, scenario, images)) for scenario in SCENARIOS}
    happened = 0
    for _ in range(DOUBLE_CUTS):
        scenario = draw.choice(SCENARIOS)
        first = Cut(draw.randint(1, counts[scenario.name]), draw.choice(TORN), draw.randrange(1 << 32))
        later = [Cut(draw.randint(1, 400), draw.choice(TORN), draw.randrange(1 << 32)) for _ in range(3)]
        fault, number = find_fault(device, scenario, images, [first, *later])
        assert not fault, (scenario, first, later)
        happened += number
    assert happened > DOUBLE_CUTS


def test_the_seeded_error_is_found(tmp_path: Path, images: dict[str, bytes]) -> None:
    """More than half of the power cuts reveal a loader that checks slot 1's digest in the middle of a swap."""
    faulty = built_host(tmp_path, FAULTY)
    scenario = SCENARIOS[0]
    numbers = operations(faulty, scenario, images)
    found = [number for number in numbers if find_fault(faulty, scenario, images, [Cut(number)])[0]]
    assert len(found) > len(numbers) / 2


def operations(device: HostDevice, scenario: Scenario, images: dict[str, bytes]) -> range:
    """Return the numbers of the flash operations of a scenario."""
    device.plan(None)
    play(device, scenario, images)
    return range(1, device.operations + 1)
