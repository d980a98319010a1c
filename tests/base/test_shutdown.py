"""Requests to stop a command: signals, waiting threads, and the signal handlers that are restored."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from blockota.shutdown import Stop, stop_on_signals
from tests.support.waiting import DEADLINE

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONG = DEADLINE


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the signal handlers of the test runner after each test."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_signals_are_recorded_and_interrupt_nothing(number: signal.Signals) -> None:
    """Signals to stop are recorded and do not interrupt the program, however many arrive."""
    with stop_on_signals() as stop:
        assert not stop.wait(0)
        for _ in range(4):
            os.kill(os.getpid(), number)
        assert (stop.requests, stop.is_asked) == ([number] * 4, True)
    os.kill(os.getpid(), number)
    assert stop.requests == [number] * 5


def test_waiting_opens_no_file() -> None:
    """A process that has no free file descriptor can still wait for a stop request."""
    with stop_on_signals() as stop:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                os.dup(0)
            assert not stop.wait(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("number", NUMBERS)
def test_without_a_signal_the_handlers_are_restored(number: signal.Signals) -> None:
    """At its end, `stop_on_signals` restores the previous signal handlers if no signal arrived."""
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert signal.getsignal(number) is not before
        stop.ask()
    assert (stop.requests, signal.getsignal(number)) == ([], before)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """A signal that was ignored before, as under nohup, stays ignored."""
    signal.signal(number, signal.SIG_IGN)
    with stop_on_signals(interrupt_at=1) as stop:
        os.kill(os.getpid(), number)
    assert (stop.requests, signal.getsignal(number)) == ([], signal.SIG_IGN)


def test_the_first_signal_is_answered_by_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    """Only the first of two signals prints the message that the command will stop after its current step."""
    with stop_on_signals() as stop:
        stop.sentence = "Stopping after the current step."
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err == "Stopping after the current step.\n"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("interrupt_at", [1, 2])
def test_a_request_interrupts_from_the_given_one_on(interrupt_at: int, number: signal.Signals) -> None:
    """From the `interrupt_at`-th signal on, each signal raises KeyboardInterrupt.

    Signals before the `interrupt_at`-th signal are only recorded.
    """
    with stop_on_signals(interrupt_at=interrupt_at) as stop:
        for _ in range(interrupt_at - 1):
            os.kill(os.getpid(), number)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    assert stop.requests == [number] * (interrupt_at + 2)


def test_nested_calls() -> None:
    """At its end, a nested `stop_on_signals` restores the outer handlers; after a signal, its own handlers remain."""
    with stop_on_signals(interrupt_at=1) as outer:
        with stop_on_signals():
            pass
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    with stop_on_signals(interrupt_at=1) as outer:
        with stop_on_signals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert (outer.requests, inner.requests) == ([], [signal.SIGTERM] * 3)


@pytest.mark.parametrize("wait", [lambda stop: stop.wait(LONG), Stop.wait_until_asked])
def test_a_waiting_main_thread_is_woken(wait: Callable[[Stop], object]) -> None:
    """A signal wakes the main thread while it waits for a request to stop."""
    with stop_on_signals() as stop:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        wait(stop)
        assert stop.is_asked


def test_every_waiting_thread_is_woken() -> None:
    """One request to stop wakes all waiting threads, and later waits return immediately."""
    stop, heard = Stop(), []
    threads = [threading.Thread(target=lambda: heard.append(stop.wait(LONG))) for _ in range(3)]
    for thread in threads:
        thread.start()
    stop.ask()
    for thread in threads:
        thread.join()
    assert [*heard, stop.wait(LONG)] == [True] * 4


def test_check_and_pause_interrupt_once_asked() -> None:
    """`check` and `pause` raise KeyboardInterrupt after a stop request, and return normally before it."""
    stop = Stop()
    stop.check()
    stop.pause(0)
    stop.ask()
    with pytest.raises(KeyboardInterrupt):
        stop.check()
    with pytest.raises(KeyboardInterrupt):
        stop.pause(LONG)


def test_after_sighup_a_lost_terminal_is_not_written_to() -> None:
    """A program that writes to its terminal after SIGHUP, when the terminal is closed, still runs to its end."""
    program = (
        "import os\n"
        "from blockota.shutdown import stop_on_signals\n"
        "with stop_on_signals() as stop:\n"
        "    print('ready', flush=True)\n"
        "    stop.wait(60)\n"
        "    print('the terminal is gone', flush=True)\n"
        "os._exit(7 if stop.requests else 8)\n"
    )
    terminal, child_end = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stdout=child_end) as process:
        os.close(child_end)
        assert os.read(terminal, 5) == b"ready"
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(LONG) == 7
