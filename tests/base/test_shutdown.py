"""What tells a command to end, while a board must not be left in the middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from blockota.cli.flash_display import BoardDisplay, Display
from blockota.cli.flash_result import BoardResult
from blockota.cli.flash_stop import Stop
from blockota.cli.flash_together import at_all_ports
from blockota.cli.session import Session
from blockota.shutdown import requests_counted
from firmware_host.bootloader.board_line import BoardLine

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What the test runner does with signals is its own affair."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_requests_are_counted_and_interrupt_nothing(number: signal.Signals) -> None:
    """However many come, and afterwards too: what the command has to tell at its end must be told."""
    with requests_counted() as came:
        for _ in range(4):
            os.kill(os.getpid(), number)
        assert came == [number] * 4
    os.kill(os.getpid(), number)
    assert came == [number] * 5


@pytest.mark.parametrize("number", NUMBERS)
def test_where_none_came_everything_is_as_before(number: signal.Signals) -> None:
    """The handlers are those that were there."""
    before = signal.getsignal(number)
    with requests_counted() as came:
        assert signal.getsignal(number) is not before
    assert (came, signal.getsignal(number)) == ([], before)


@pytest.mark.parametrize(("presses", "answers"), [(0, []), (1, ["Stopping:"]), (2, ["Stopping:", "Still"])])
def test_every_press_is_answered_also_between_two_looks(
    capsys: pytest.CaptureFixture[str], presses: int, answers: list[str]
) -> None:
    """The first says what happens, a second that it changes nothing, though both came before anybody looked."""
    session, stop = Session(None, None, store=None, as_json=True), Stop()

    def work(line: BoardLine, display: BoardDisplay) -> list[BoardResult]:
        del line, display
        for _ in range(presses):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
        return []

    with Display(session, is_one=True) as display:
        assert at_all_ports([BoardLine("socket://127.0.0.1:1")], work, display=display, stop=stop) == []
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == answers
