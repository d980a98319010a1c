"""Signals stop the flashing of boards at several ports."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from blockota.shutdown import stop_on_signals
from firmware_host.bench.result import BoardResult, Progress
from firmware_host.bench.watch import at_all_ports
from firmware_host.bootloader.entry import BoardLine

LINE = BoardLine("socket://127.0.0.1:1")


class Notes:
    """An observer that records the messages to the operator."""

    def __init__(self) -> None:
        self.received: list[str] = []

    def note(self, port: str, sentence: str, /) -> None:
        """Record the message."""
        assert not port
        self.received.append(sentence)

    def progress(self, port: str, event: Progress, /) -> None:
        """Ignore the event."""

    def ended(self, port: str, result: BoardResult, /) -> None:
        """Ignore the result."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the test runner's signal handlers."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("presses", "answers"), [(0, []), (1, ["Stopping:"]), (2, ["Stopping:", "Still"])])
def test_every_request_to_stop_is_answered(presses: int, answers: list[str]) -> None:
    """Each request to stop is acknowledged with a message."""
    notes = Notes()
    with stop_on_signals() as stop:

        def work(line: BoardLine) -> list[BoardResult]:
            for count in range(1, presses + 1):
                os.kill(os.getpid(), signal.SIGINT)
                while len(stop.requests) < count:
                    stop.wait(0.001)
            return [BoardResult(line.url)]

        results = at_all_ports([LINE], work, stop=stop, observer=notes)
    assert [result.port for result in results] == [LINE.url]
    assert [sentence.split()[0] for sentence in notes.received] == answers


def test_a_defect_at_one_port_stops_the_others() -> None:
    """After an unexpected exception at one port, the other ports are stopped before the exception is raised."""
    ended = threading.Event()
    with stop_on_signals() as stop:

        def work(line: BoardLine) -> list[BoardResult]:
            if line == LINE:
                raise AssertionError("a defect")
            while not stop.wait(60):
                pytest.fail("the other port was not stopped")
            ended.set()
            return []

        with pytest.raises(AssertionError, match="a defect"):
            at_all_ports([LINE, BoardLine("socket://127.0.0.1:2")], work, stop=stop, observer=Notes())
    assert ended.is_set()
