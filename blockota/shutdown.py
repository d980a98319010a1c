"""What tells a command to end: Ctrl-C, SIGTERM of a service manager, SIGHUP of a terminal that went away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OUTPUTS = (1, 2)


def interrupt_on_requests() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does; what is ignored, as by ``nohup``, stays ignored."""
    terminals = _terminals()

    def end(number: int, frame: FrameType | None) -> NoReturn:
        _leave_lost_terminals(number, terminals)
        signal.default_int_handler(number, frame)

    for number in _REQUESTS[1:]:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


@contextmanager
def requests_counted() -> Iterator[list[int]]:
    """Interrupt nothing while this lasts; call it in the main thread.

    Where one came, none interrupts afterwards either: the command is at its end, and what it has to tell must be told.

    Yields:
        The signals that came, which grow.
    """
    came, terminals = [], _terminals()

    def count(number: int, frame: FrameType | None) -> None:
        del frame
        _leave_lost_terminals(number, terminals)
        came.append(number)

    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, count) for number in _REQUESTS if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield came
    finally:
        if not came:
            for number, handler in before.items():
                signal.signal(number, handler)


def _terminals() -> tuple[int, ...]:
    """The outputs that are terminals; one that went away no longer says so."""
    return tuple(output for output in _OUTPUTS if os.isatty(output))


def _leave_lost_terminals(number: int, terminals: tuple[int, ...]) -> None:
    """After SIGHUP, write to nowhere what would go to a terminal: it would fail, and break off what has to be ended."""
    if number == signal.SIGHUP and terminals:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for output in terminals:
            os.dup2(nowhere, output)
        os.close(nowhere)
