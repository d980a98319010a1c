"""One way to stop on a signal: Ctrl-C, SIGTERM from a service manager, SIGHUP from a terminal that closed."""

from __future__ import annotations

import os
import select
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OUTPUTS = (1, 2)


class Stop:
    """A request to stop, shared by the threads of one command.

    All methods may be called from any thread and from a signal handler. Waiting uses a pipe: a handler that runs
    while its own thread is inside ``threading.Event.wait`` would deadlock on the event's lock.

    Attributes:
        is_asked: whether a signal or the program asked to stop.
        requests: the signals received so far, in order.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self.requests: list[int] = []
        self._read, self._write = os.pipe()
        weakref.finalize(self, _close, self._read, self._write)

    def ask(self) -> None:
        """Ask to stop. Further calls have no effect."""
        if not self.is_asked:
            self.is_asked = True
            os.write(self._write, b"!")  # never read, so that the pipe stays readable and wakes every waiting thread

    def check(self) -> None:
        """Interrupt the caller if a stop was asked for.

        Raises:
            KeyboardInterrupt: a stop was asked for.
        """
        if self.is_asked:
            raise KeyboardInterrupt

    def wait(self, seconds: float) -> bool:
        """Wait for a request to stop, for at most `seconds`.

        Returns:
            Whether a stop was asked for.
        """
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.poll(seconds * 1000)
        return self.is_asked

    def pause(self, seconds: float) -> None:
        """Wait like `wait`, then interrupt the caller if a stop was asked for.

        Raises:
            KeyboardInterrupt: a stop was asked for.
        """
        self.wait(seconds)
        self.check()


@contextmanager
def stop_on_signals(*, interrupt_at: int | None = None) -> Iterator[Stop]:
    """Turn SIGINT, SIGTERM and SIGHUP into requests to stop. Call it in the main thread; calls may be nested.

    A signal that is ignored, as under ``nohup``, stays ignored. After SIGHUP, outputs that were terminals are
    redirected to /dev/null, so that writing to them does not fail while the command stops.

    At the end the previous handlers are restored, unless a signal was received: then further signals are only
    recorded, so that none interrupts the command's final report.

    Args:
        interrupt_at: raise KeyboardInterrupt in the main thread at this request and at every later one: 1 for
            commands that may be interrupted anywhere, 2 for those that finish a step first. None never interrupts.

    Yields:
        The requests.
    """
    stop, is_over = Stop(), False
    terminals = [output for output in _OUTPUTS if os.isatty(output)]  # after SIGHUP isatty() is false

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGHUP:
            _redirect_to_null(terminals)
        stop.requests.append(number)
        stop.ask()
        if interrupt_at is not None and len(stop.requests) >= interrupt_at and not is_over:
            raise KeyboardInterrupt

    previous: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = [number for number, handler in previous.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        is_over = True
        for number in handled:
            # A nested call that received a signal has left its own handler in place, and it stays.
            if not stop.requests and signal.getsignal(number) is handle:
                signal.signal(number, previous[number])


def ignore_signals() -> None:
    """Ignore further signals; call it when the report of a command is printed.

    While the interpreter exits it resets handlers to the default action, and a repeated Ctrl-C would then replace the
    exit status of the command. Signals that are ignored stay ignored.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _redirect_to_null(outputs: list[int]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for output in outputs:
        os.dup2(null, output)
    os.close(null)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
