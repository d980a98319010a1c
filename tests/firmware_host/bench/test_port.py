"""A bootloader that waits for the rest of a frame is recovered without a reset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from blockota.errors import NoAnswerError
from firmware_host.bench.doctor import Reply
from firmware_host.bench.port import BoardPort
from firmware_host.bootloader import an3155
from firmware_host.bootloader.an3155 import Command, Exchange
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import BoardLine
from firmware_host.simulator import STM32F103C8, SimulatedBoard
from tests.firmware_host.direct_link import DirectLink, started

STM32F103CB = replace(STM32F103C8, name="stm32f103cb", flash_size=128 * 1024)
OLD = bytes(index * 7 % 251 for index in range(STM32F103CB.flash_size))
PAGE_OF_DATA = bytes(index % 253 for index in range(256))
EXCHANGES: dict[str, Exchange] = {
    "get": an3155.bare(Command.GET),
    "get-id": an3155.bare(Command.GET_ID),
    "read": an3155.read_memory(0x0800_0400, 256),
    "write": an3155.write_memory(0x0800_0400, PAGE_OF_DATA),
    "go": an3155.go(0x0800_0000),
    "erase": an3155.erase(Command.ERASE, [5]),
    "erase-many": an3155.erase(Command.ERASE, list(range(40))),
    "write-protect": an3155.write_protect([3]),
}


def beginnings() -> Iterator[tuple[str, bytes]]:
    """Yield every incomplete beginning of every exchange: its first byte, its first two bytes, and so on."""
    for name, exchange in EXCHANGES.items():
        sent = b""
        for frame in exchange.frames:
            for cut in range(1, len(frame)):
                yield f"{name}-{len(sent) + cut}", sent + frame[:cut]
            sent += frame
            if frame is not exchange.frames[-1]:
                yield f"{name}-{len(sent)}", sent


BEGINNINGS = dict(beginnings())


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_half_sent_frame_is_left_without_a_change(name: str) -> None:
    """After an exchange is cut off at any byte, the bootloader is recovered; flash and option bytes are unchanged."""
    board = SimulatedBoard(STM32F103CB, flash=OLD)
    link = DirectLink(board)
    bootloader = Bootloader(link)
    bootloader.connect()
    link.write(BEGINNINGS[name])
    link.drain()
    bootloader.resynchronise()
    assert bootloader.connect().version_text == "2.2"
    assert board.flash == OLD
    assert not board.protected_pages


def test_a_fresh_board_is_found_as_well() -> None:
    """Recovery also works with a fresh bootloader, which measures the speed from its first byte, 0x7F."""
    bootloader = Bootloader(DirectLink(SimulatedBoard()))
    bootloader.resynchronise()
    assert bootloader.connect()


def test_a_dead_line_is_reported() -> None:
    """Recovery on a silent line ends with an error."""
    with pytest.raises(NoAnswerError, match="no bootloader answers"):
        Bootloader(DirectLink(started(b""))).resynchronise()


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_board_that_waits_in_a_frame_is_found_by_polling(name: str) -> None:
    """After an interrupted exchange, the first poll reaches the bootloader without changing the board."""
    board = SimulatedBoard(STM32F103CB, flash=OLD)
    link = DirectLink(board)
    Bootloader(link).connect()
    link.write(BEGINNINGS[name])
    link.drain()
    assert BoardPort(link, BoardLine("socket://bench:3115")).poll(reset=True, is_stuck=True) is Reply.CONNECTED
    assert Bootloader(link).connect().version_text == "2.2"
    assert board.flash == OLD
    assert not board.protected_pages


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("name", ["erase-2", "write-7"])
def test_polling_never_completes_a_frame(name: str, before: int) -> None:
    """Polling never completes a partly received erase or write frame.

    With one byte for each poll, completing the longest frame would take 130 polls: a count, 128 page numbers or data
    bytes, and a checksum.
    """
    board = SimulatedBoard(STM32F103CB, flash=OLD)
    link = DirectLink(board)
    Bootloader(link).connect()
    link.write(BEGINNINGS[name] + b"\x7f" * before)
    port = BoardPort(link, BoardLine("socket://bench:3115"))
    assert Reply.CONNECTED in {port.poll(reset=True) for _ in range(400)}
    assert board.flash == OLD
