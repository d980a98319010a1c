"""Several ports at once, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from blockota.cli.flash_display import BoardDisplay, Display
from blockota.cli.flash_ports import PortWork
from blockota.cli.flash_result import BoardResult
from blockota.cli.flash_stop import Stop
from blockota.shutdown import requests_counted
from firmware_host.bootloader.entry import BoardLine

_LOOK_SECONDS = 0.1
"""Between two looks at whether somebody asked for the end."""
_STOPPING = "Stopping: each board is brought to a state that can be told."
_STILL = "Still stopping; another Ctrl-C changes nothing, because no board may be left in the middle."


def at_all_ports(lines: Sequence[BoardLine], work: PortWork, *, display: Display, stop: Stop) -> list[BoardResult]:
    """Work at every port at the same time; a failure at one does not touch the others.

    Args:
        lines: the ways to the boards.
        work: what is done at each.
        display: the terminal.
        stop: is asked when Ctrl-C is pressed; then every board is brought to a state that is told, however often it
            is pressed again.

    Returns:
        The results, port by port.
    """
    with requests_counted() as requests, ThreadPoolExecutor(len(lines), thread_name_prefix="port") as pool:
        running = [pool.submit(work, line, BoardDisplay(display, line.url)) for line in lines]
        notes = _Notes(display)
        while not all(future.done() for future in running):
            wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_EXCEPTION)
            # After a defect of ours, too, no other board may be left in the middle.
            if requests or _has_failed(running):
                stop.ask()
            notes.answer(len(requests))
        notes.answer(len(requests))
    return [result for future in running for result in future.result()]


class _Notes:
    """Answers to whoever asks for the end, the first time and again."""

    def __init__(self, display: Display) -> None:
        self._display, self._answered = display, 0

    def answer(self, requests: int) -> None:
        if requests and not self._answered:
            self._display.session.note(_STOPPING)
        if requests > max(self._answered, 1):
            self._display.session.note(_STILL)
        self._answered = requests


def _has_failed(running: Sequence[Future[list[BoardResult]]]) -> bool:
    return any(future.done() and future.exception() for future in running)
