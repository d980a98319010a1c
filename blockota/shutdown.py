"""Stop a command on Ctrl-C, on SIGTERM from a service manager, and on SIGHUP from a closed terminal.

Windows has no SIGHUP: a closed console or Ctrl-Break sends SIGBREAK there.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_SIGNALS = tuple(number for number in signal.Signals if number.name in _NAMES)
_OUTPUTS = (1, 2)
_SIGNAL_SECONDS = 0.5
"""Seconds of one wait for a signal: Windows handles signals only between two waits."""
# Without a file of its own, as epoll has: a service must not end because its clients use up all open files.
_SELECTOR = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Stop:
    """A request to stop, shared by the threads of one command.

    All methods may be called from any thread and from a signal handler. A stop wakes waiting threads through a pair of
    sockets. With ``threading.Event``, a signal handler that interrupts ``Event.wait`` would deadlock on the event's
    lock. A pipe is not used, because Windows cannot wait on a pipe.

    Attributes:
        is_asked: whether a signal or the program requested a stop.
        requests: the numbers of the signals received so far, in order.
        sentence: written to standard error at the first signal; empty to write nothing.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self.requests: list[int] = []
        self.sentence = ""
        self._receiver, self._sender = socket.socketpair()
        weakref.finalize(self, _close, self._receiver, self._sender)

    def ask(self) -> None:
        """Request a stop. Further calls have no effect."""
        if not self.is_asked:
            self.is_asked = True
            self._sender.send(b"!")  # never received: the socket stays readable, and wakes every waiting thread

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was requested.

        Raises:
            KeyboardInterrupt: a stop was requested.
        """
        if self.is_asked:
            raise KeyboardInterrupt

    def wait(self, seconds: float) -> bool:
        """Wait for at most `seconds` until a stop is requested.

        Returns:
            Whether a stop was requested.
        """
        with _SELECTOR() as selector:
            selector.register(self._receiver, selectors.EVENT_READ)
            selector.select(seconds)
        return self.is_asked

    def wait_until_asked(self) -> None:
        """Wait until a stop is requested."""
        while not self.wait(_SIGNAL_SECONDS):
            pass

    def pause(self, seconds: float) -> None:
        """Wait for at most `seconds`, and raise KeyboardInterrupt if a stop was requested.

        Raises:
            KeyboardInterrupt: a stop was requested.
        """
        self.wait(seconds)
        self.check()


@contextmanager
def stop_on_signals(*, interrupt_at: int | None = None) -> Iterator[Stop]:
    """Turn signals that stop a command into requests to stop.

    Only the main thread may call this function; calls may be nested.

    A signal that is ignored before the call stays ignored. This is so for SIGHUP under ``nohup``. After SIGHUP, outputs
    that were terminals are redirected to /dev/null, so that writing to them does not fail while the command stops.

    If no signal was received, the previous handlers are restored at the end of the ``with`` block. Otherwise, the
    handlers stay and only record further signals, so that a signal cannot interrupt the command's final report.

    Args:
        interrupt_at: the number of the first signal that raises KeyboardInterrupt in the main thread; all later signals
            raise it too. Pass 1 to let the first signal interrupt the command anywhere. Pass 2 to let the command
            finish its step after the first signal. Pass None if no signal may raise KeyboardInterrupt.

    Yields:
        The stop request, which records the received signals.
    """
    stop, is_over = Stop(), False
    terminals = [output for output in _OUTPUTS if os.isatty(output)]  # after SIGHUP isatty() is false

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if signal.Signals(number).name == "SIGHUP":
            _redirect_to_null(terminals)
        stop.requests.append(number)
        stop.ask()
        if stop.sentence and len(stop.requests) == 1 and not is_over:
            with suppress(OSError):  # standard error can be closed
                os.write(2, f"{stop.sentence}\n".encode())  # a buffered stream cannot be used in a signal handler
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
            # A nested call that received a signal has left its own handler in place. That handler stays.
            if not stop.requests and signal.getsignal(number) is handle:
                signal.signal(number, previous[number])


def ignore_signals() -> None:
    """Ignore further signals. Call this function after the command's report is printed.

    When the interpreter exits, it resets signal handlers to the default action, and a repeated Ctrl-C could then change
    the command's exit status. The interpreter does not reset ignored signals.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _redirect_to_null(outputs: list[int]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for output in outputs:
        os.dup2(null, output)
    os.close(null)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()
