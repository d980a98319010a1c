"""Requests to stop while several boards are flashed."""

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
from firmware_host.bootloader.entry import BoardLine


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What the test runner does with signals is its own affair."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
