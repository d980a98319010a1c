"""Power fails 60 times while the committed loader updates simulated STM32F103 boards.

`make power` runs the whole campaign, and ``tests/peers/device`` cuts the power in every operation of the same loader on
this computer.
"""

from __future__ import annotations

import random

import pytest

from tests.support.board_device import TORN, BoardDevice, board_images, committed
from tests.support.power_cuts import SCENARIOS, Cut, Running, Scenario, find_fault, play
from tests.support.sampling import SEED

TABLE, ROLLED_BACK = 16, 2
"""The offset of the loader's table of functions, which begins with a magic number; a flag of the boot report."""
CUTS = 60
WORKERS = 4
"""Tests among which the cuts are divided, so that they run at the same time."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_ends_with_its_image(scenario: Scenario) -> None:
    """Without power cuts, each scenario of an update ends with the expected image."""
    device = BoardDevice()
    assert play(device, scenario, board_images()) == Running(0)
    assert device.slot(0).startswith(board_images()[scenario.final])


@pytest.mark.parametrize("worker", range(WORKERS))
def test_a_board_survives_power_cuts(worker: int) -> None:
    """After a power cut in an update, and two during recovery, the board runs one of the published images."""
    draw = random.Random(f"{SEED} {worker}")  # noqa: S311 - a draw that can be repeated
    images, device, happened = board_images(), BoardDevice(), 0
    while happened < CUTS // WORKERS:
        scenario = draw.choice(SCENARIOS)
        cuts = [Cut(draw.randint(1, limit), draw.choice(TORN), draw.randrange(1 << 32)) for limit in (2300, 900, 900)]
        fault, number = find_fault(device, scenario, images, cuts)
        assert not fault, (scenario, cuts)
        happened += number


def test_the_seeded_error_is_found() -> None:
    """A loader that checks slot 1's digest in the middle of a swap does not survive a power cut."""
    images, scenario = board_images(), SCENARIOS[0]
    fault, _ = find_fault(BoardDevice("loader-faulty"), scenario, images, [Cut(1000)])
    assert fault == "it runs nothing"
    assert find_fault(BoardDevice(), scenario, images, [Cut(1000)]) == ("", 1)


@pytest.mark.parametrize(
    ("name", "refusal"), [("test-other-board", 4), ("test-2.0.0", 0), ("test-unsigned", 0), ("test-foreign", 0)]
)
def test_images_are_refused_before_a_page_moves(name: str, refusal: int) -> None:
    """An image for another board is refused. A loader without a secure element accepts an unsigned image."""
    device = BoardDevice()
    device.load(committed("test-1.0.0"), committed(name))
    device.boot()
    assert device.request()
    assert device.boot() == Running(4 if refusal else 1, refusal)
    assert device.slot(0).startswith(committed("test-1.0.0" if refusal else name))


def test_a_lower_security_counter_is_refused() -> None:
    """An image with the security counter 1 does not replace an image with the security counter 2."""
    device = BoardDevice()
    device.load(committed("test-2.0.0"), committed("test-1.1.0"))
    device.boot()
    device.request()
    assert device.boot() == Running(4, 5)
    assert device.slot(0).startswith(committed("test-2.0.0"))


def test_an_agent_for_another_loader_is_rolled_back() -> None:
    """If an agent on trial does not find the loader's function table, it resets, and the previous image returns."""
    loader = bytearray(committed("loader"))
    assert loader[TABLE : TABLE + 4] == bytes.fromhex("01004c42")
    loader[TABLE] += 1
    device = BoardDevice(bytes(loader))
    device.load(committed("test-1.0.0"), committed("agent-1.0.0"))
    assert device.boot() == Running(0)
    assert device.request()
    # The exchanges take longer than a boot is waited for.
    boots = (device.boot() for _ in range(20))
    assert next(filter(None, boots)) == Running(ROLLED_BACK)
    assert device.slot(0).startswith(committed("test-1.0.0"))
