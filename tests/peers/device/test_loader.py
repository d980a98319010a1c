"""The loader decides which image runs. The tests cover updates, trials, rollbacks, refusals and damaged images."""

from __future__ import annotations

import random
from enum import IntEnum, IntFlag

import pytest

from tests.support.host_device import (
    ACCEPTED,
    REFUSED_BY_CHIP,
    SLOT_0,
    SLOT_1,
    UNUSED,
    HostDevice,
    digest_of,
    hashed_size,
)
from tests.support.power_cuts import SCENARIOS, Running, Scenario, play


class Flag(IntFlag):
    """The flags of ``device/loader/boot_report.h``."""

    TRIAL = 1
    ROLLED_BACK = 2
    REQUEST_REFUSED = 4
    CHIP_PRESENT = 8
    SIGNATURE_CHECKED = 16


class Refusal(IntEnum):
    """The refusal codes of ``device/loader/boot_report.h``."""

    INCOMPLETE = 1
    OTHER_IMAGE = 2
    DAMAGED = 3
    OTHER_BOARD = 4
    DOWNGRADE = 5
    SIGNATURE = 6


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_ends_with_its_image(device: HostDevice, images: dict[str, bytes], scenario: Scenario) -> None:
    """Without power cuts, each scenario of an update ends with the expected image."""
    assert play(device, scenario, images) == Running(0)
    assert device.slot(0).startswith(images[scenario.final])
    assert device.violations == 0


def test_an_image_has_three_tries(device: HostDevice, images: dict[str, bytes]) -> None:
    """An image that is not confirmed boots three times on trial.

    After the third boot, the previous image runs again.
    """
    device.load(images["old"], images["new"])
    assert device.request()
    tries = [device.boot() for _ in range(4)]
    assert tries == [Running(Flag.TRIAL)] * 3 + [Running(Flag.ROLLED_BACK)]
    assert device.slot(0).startswith(images["old"])
    assert device.slot(1).startswith(images["new"])
    assert device.boot() == Running(0)


def test_an_image_damaged_during_its_trial_is_rolled_back(device: HostDevice, images: dict[str, bytes]) -> None:
    """If an image on trial changes, it is rolled back at the next boot, even if it has tries left."""
    device.load(images["old"], images["new"])
    device.request()
    assert device.boot() == Running(Flag.TRIAL)
    spoil(device, SLOT_0 + 900)
    assert device.boot() == Running(Flag.ROLLED_BACK)
    assert device.slot(0).startswith(images["old"])


def test_an_image_without_a_predecessor_stays(device: HostDevice, images: dict[str, bytes]) -> None:
    """An image on trial is not replaced by a damaged one. The image stays on trial, and can still confirm itself."""
    device.load(images["old"], images["new"])
    device.request()
    device.boot()
    spoil(device, SLOT_1 + 900)
    assert [device.boot() for _ in range(5)] == [Running(Flag.TRIAL)] * 5
    device.confirm()
    assert device.boot() == Running(0)
    assert device.slot(0).startswith(images["new"])


def test_requests_that_are_refused_change_nothing(device: HostDevice, images: dict[str, bytes]) -> None:
    """A request for an image that must not run is refused with a reason, and the running image is kept."""
    new = images["new"]
    damaged = new[:900] + bytes((new[900] ^ 1,)) + new[901:]
    cases = [
        (b"", bytes(32), Refusal.INCOMPLETE),
        (new[: hashed_size(new) + 20], digest_of(new), Refusal.INCOMPLETE),
        (new, digest_of(images["long"]), Refusal.OTHER_IMAGE),
        (damaged, digest_of(new), Refusal.DAMAGED),
        (images["other board"], digest_of(images["other board"]), Refusal.OTHER_BOARD),
    ]
    for image, digest, refusal in cases:
        device.load(images["old"], image)
        before = device.flash
        assert device.request_digest(digest)
        assert device.boot() == Running(Flag.REQUEST_REFUSED, refusal)
        assert device.flash == before
        assert device.boot() == Running(0)


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        ("newer counter", "new", True),
        ("newer counter", "no counter", True),
        ("new", "newer counter", False),
        ("new", "old", False),
        ("no counter", "new", False),
    ],
)
def test_the_floor_is_the_security_counter(
    device: HostDevice, images: dict[str, bytes], first: str, second: str, *, is_refused: bool
) -> None:
    """An image is refused if its security counter is lower than that of the running image.

    Its version does not matter.
    """
    device.load(images[first], images[second])
    device.request()
    expected = Running(Flag.REQUEST_REFUSED, Refusal.DOWNGRADE) if is_refused else Running(Flag.TRIAL)
    assert device.boot() == expected


def test_a_second_request_waits_for_the_end_of_the_first(device: HostDevice, images: dict[str, bytes]) -> None:
    """During a swap or a trial, the loader refuses a request for another image.

    After the confirmation, the loader accepts the next request.
    """
    device.load(images["old"], images["new"])
    assert device.request()
    assert not device.request()
    device.boot()
    assert not device.request()
    device.confirm()
    device.upload(images["long"])
    assert device.request()
    assert device.boot() == Running(Flag.TRIAL)
    assert device.slot(0).startswith(images["long"])


def test_two_damaged_images_do_not_start(device: HostDevice, images: dict[str, bytes]) -> None:
    """If no slot has an intact image, no image starts, and the state does not change."""
    device.load(images["old"], images["new"])
    spoil(device, SLOT_0 + 900)
    spoil(device, SLOT_1 + 900)
    before = device.flash
    assert device.boot() is None
    assert device.boot() is None
    assert device.flash == before


def test_a_damaged_image_does_not_open_the_floor(device: HostDevice, images: dict[str, bytes]) -> None:
    """An image with a too low security counter does not start, even if the image in slot 0 is damaged."""
    device.load(images["newer counter"], images["new"])
    spoil(device, SLOT_0 + 900)
    assert device.boot() is None


def test_the_verdict_of_the_chip(device: HostDevice, images: dict[str, bytes]) -> None:
    """If the secure element rejects an image, the image does not start.

    If the secure element gives no verdict, the report states integrity only.
    """
    device.load(images["old"], images["new"])
    assert device.boot() == Running(0)
    device.answer_of_chip(UNUSED)
    assert device.boot() == Running(Flag.CHIP_PRESENT)
    device.answer_of_chip(ACCEPTED)
    assert device.boot() == Running(Flag.CHIP_PRESENT | Flag.SIGNATURE_CHECKED)
    device.answer_of_chip(REFUSED_BY_CHIP)
    assert device.boot() is None


def test_any_spoiled_header_is_refused(device: HostDevice, images: dict[str, bytes]) -> None:
    """Images with random changes in header and TLVs neither start nor crash the loader."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    new = images["new"]
    places = [*range(32), *range(len(new) - 200, len(new))]
    for _ in range(300):
        spoiled = bytearray(new)
        for place in draw.sample(places, draw.randint(1, 3)):
            spoiled[place] = draw.choice((0, 0xFF, 0x7F, 0x80, draw.randrange(256)))
        device.load(images["old"], bytes(spoiled))
        device.request_digest(digest_of(new))
        running = device.boot()
        assert running is not None
        # A change within the signature or the key's hash is no change of the image's digest.
        started = images["old"] if running.refusal else bytes(spoiled)
        assert device.slot(0).startswith(started)
        assert running.refusal or spoiled[: hashed_size(new)] == new[: hashed_size(new)]


def spoil(device: HostDevice, address: int) -> None:
    """Change one byte of the flash."""
    contents = bytearray(device.flash)
    contents[address] ^= 0x04
    device.flash = bytes(contents)
