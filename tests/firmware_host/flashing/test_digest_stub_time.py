"""Hashing on the chip meets its time limits in the simulated board's time model of line and chip."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import pytest

from firmware_host.bootloader.client import Bootloader
from firmware_host.flashing.digest_stub import DigestStub, Pages
from firmware_host.line.link import Link
from firmware_host.line.ports import open_link
from firmware_host.simulator import SimulatedBoard, TimeModel, serve_tcp
from tests.firmware_host.board_clock import Clock
from tests.firmware_host.flash_scene import TimedLink
from tests.firmware_host.scripted_board import KIB, chip

FLASH = 0x0800_0000
CONTENTS = hashlib.shake_256(b"firmware").digest(64 * KIB)
DIGEST = hashlib.sha256(CONTENTS).digest()


def stub_on(link: Link, *, wait: Callable[[float], None] = time.sleep) -> DigestStub:
    """Return a `DigestStub` for the board on this link, with its bootloader connected."""
    bootloader = Bootloader(link)
    bootloader.connect()
    bootloader.target(chip(), flash_size=64 * KIB)
    return DigestStub(bootloader, chip(), flash_size=64 * KIB, wait=wait)


@pytest.mark.parametrize(
    ("pages", "first", "later"), [(0, 0.315, 0.210), (64, 0.358, 0.253)], ids=["digest", "digest-and-pages"]
)
def test_how_long_64_kib_take(pages: int, first: float, later: float) -> None:
    """At 115200 baud and 1 ms latency, the first and the second hashing run end within their time limits."""
    clock = Clock()
    board = SimulatedBoard(flash=CONTENTS, times=clock.times(latency=0.001))
    link = TimedLink(board, clock)
    stub = stub_on(link, wait=link.wait)
    for most in (first, later):
        started = clock.now()
        assert stub.run(FLASH, [64 * KIB], pages=[Pages(FLASH, KIB, pages)]).sha256 == (DIGEST,)
        assert clock.now() - started <= most


def test_a_real_connection_and_a_real_clock() -> None:
    """Hashing on the chip also works over TCP in real time."""
    with serve_tcp(SimulatedBoard(flash=CONTENTS, times=TimeModel(baud=115200, latency=0.001))) as url:
        link = open_link(url)
        stub = stub_on(link)
        assert [stub.run(FLASH, [64 * KIB]).sha256 for _ in range(2)] == [(DIGEST,), (DIGEST,)]
        link.close()
