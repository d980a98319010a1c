"""Flashing meets its time limits in the simulated board's time model of line and chip."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from blockota.formats.firmware_image import FirmwareImage
from blockota.model.facts import Consent
from blockota.model.release import Version
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.plan import Finished
from firmware_host.simulator import SimulatedBoard
from tests.firmware_host.board_clock import Clock
from tests.firmware_host.flash_scene import BASE, TimedLink, bench_on, known, proven
from tests.firmware_host.scripted_board import KIB

IMAGE = FirmwareImage(
    (0x2000_5000).to_bytes(4, "little")
    + (BASE + 9).to_bytes(4, "little")
    + hashlib.shake_256(b"").digest(64 * KIB - 8),
    BASE,
    "bin",
)
BYTE = 11 / 115200
CLOSED_FORM = 0.030 + 256 * (268 * BYTE + 0.00672 + 0.003) + 256 * (268 * BYTE + 0.003)
"""Seconds for a mass erase and 256 blocks written and read, each with three answers that are delayed by 1 ms."""


def changed(*pages: int) -> bytes:
    """Return the image with one changed byte in each of some pages."""
    data = bytearray(IMAGE.data)
    for page in pages:
        data[page * KIB + 700] ^= 0x55
    return bytes(data)


def seconds_for(old: bytes, proof: Proof) -> tuple[float, Finished]:
    """Replace old flash contents; return the seconds from the connection to the proof, and the result."""
    clock = Clock()
    link = TimedLink(SimulatedBoard(flash=old, times=clock.times(latency=0.001)), clock)
    before = proven(replace(IMAGE, data=old), version=Version(1, 0, 0)).release
    started = clock.now()
    wanted = proven(IMAGE)
    cleared = bench_on(link, may_erase_all=True).examine(wanted, known=known(before), proof=proof).clear(Consent())
    *_, end = cleared.flash()
    assert isinstance(end, Finished)
    assert cleared.prove_flash(end).number == 10
    return clock.now() - started, end


def test_64_kib_are_written_and_read_back_near_the_limit() -> None:
    """Writing and reading back 64 KiB takes at most 5 % longer than the line and the chip require."""
    seconds, end = seconds_for(changed(*range(64)), Proof.READ_BACK)
    assert end.method == "read-back"
    assert seconds <= 1.05 * CLOSED_FORM


@pytest.mark.parametrize(
    ("pages", "most"), [(range(64), 10.2), ((7, 30, 51), 2.4), ((), 1.0)], ids=["all", "three", "none"]
)
def test_hashing_on_the_chip_saves_the_reading(pages: tuple[int, ...], most: float) -> None:
    """With hashing on the chip, flashing 64, three or no changed pages stays within its time limits."""
    seconds, end = seconds_for(changed(*pages), Proof.STUB)
    assert end.method == "stub"
    assert end.summary.identical.units == (64 - len(pages) - 1 if 0 < len(pages) < 64 else 64 - len(pages))
    assert seconds <= most
