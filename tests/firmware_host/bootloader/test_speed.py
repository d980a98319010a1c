"""Finding the fastest speed at which a simulated board is understood."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.errors import LinkError
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import BY_HAND, PRESETS
from firmware_host.bootloader.speed import FASTER, connect_fastest
from firmware_host.simulator import STM32F103C8, SimulatedBoard
from tests.firmware_host.steered_link import SteeredLink

WIRING = PRESETS["dtr-rts"]


def steered(max_baud: int, *, product_id: int = 0x410) -> SteeredLink:
    """A link to a board whose bootloader measures speeds up to a limit."""
    return SteeredLink(SimulatedBoard(replace(STM32F103C8, max_baud=max_baud, product_id=product_id)), WIRING)


@pytest.mark.parametrize(("max_baud", "found"), [(500_000, 460800), (300_000, 256000), (240_000, 230400)])
def test_the_fastest_speed_that_is_understood_is_found(max_baud: int, found: int) -> None:
    """Each speed that is too fast makes the board deaf, and it is reset for the next one."""
    link = steered(max_baud)
    bootloader = Bootloader(link)
    assert connect_fastest(bootloader, link, entry=WIRING, wait=lambda _: None) == link.baud == found
    assert bootloader.product_id() == 0x410


def test_a_board_that_takes_no_more_stays_at_its_speed() -> None:
    """After all faster speeds have failed the board is woken at the one that was asked for."""
    link = steered(115200)
    bootloader = Bootloader(link)
    assert connect_fastest(bootloader, link, entry=WIRING, wait=lambda _: None) == link.baud == 115200
    assert bootloader.product_id() == 0x410
    assert link.resets == len(FASTER) + 2


def test_a_limit_is_kept() -> None:
    """Speeds above what the person allows are not tried."""
    link = steered(500_000)
    assert connect_fastest(Bootloader(link), link, entry=WIRING, highest=256_000, wait=lambda _: None) == 256_000


def test_without_a_reset_line_nothing_is_tried() -> None:
    """A board that went deaf could not be brought back from here."""
    link = steered(500_000)
    assert connect_fastest(Bootloader(link), link, entry=BY_HAND, wait=lambda _: None) == 115200
    assert link.resets == 0


def test_a_protected_board_and_an_unknown_chip_are_tried_by_their_product_id() -> None:
    """Neither lets its memory be read, so the product id must come right each time."""
    protected = SimulatedBoard(replace(STM32F103C8, max_baud=500_000))
    protected.protect(readout=True)
    for link in (SteeredLink(protected, WIRING), steered(500_000, product_id=0x999)):
        assert connect_fastest(Bootloader(link), link, entry=WIRING, wait=lambda _: None) == 460800


def test_an_adapter_that_cannot_do_a_speed_is_no_failure() -> None:
    """The next lower one is tried."""

    class SlowAdapter(SteeredLink):
        """An adapter that stops at 300,000 baud."""

        def set_baud(self, baud: int, /) -> None:
            if baud > 300_000:
                raise LinkError(f"the adapter cannot run at {baud} baud")
            super().set_baud(baud)

    link = SlowAdapter(SimulatedBoard(replace(STM32F103C8, max_baud=500_000)), WIRING)
    assert connect_fastest(Bootloader(link), link, entry=WIRING, wait=lambda _: None) == 256_000
