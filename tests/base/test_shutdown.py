"""Requests to stop: signals, threads, and the handlers that are restored."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from blockota.shutdown import Stop, stop_on_signals
from tests.support.waiting import DEADLINE

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONG = DEADLINE


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the handlers of the test runner."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_signals_are_recorded_and_interrupt_nothing(number: signal.Signals) -> None:
    """However many are received, and afterwards too: the final report is not interrupted."""
    with stop_on_signals() as stop:
        assert not stop.wait(0)
        for _ in range(4):
            os.kill(os.getpid(), number)
        assert (stop.requests, stop.is_asked) == ([number] * 4, True)
    os.kill(os.getpid(), number)
    assert stop.requests == [number] * 5


@pytest.mark.parametrize("number", NUMBERS)
def test_without_a_signal_the_handlers_are_restored(number: signal.Signals) -> None:
    """A request by the program itself leaves no handler behind either."""
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert signal.getsignal(number) is not before
        stop.ask()
    assert (stop.requests, signal.getsignal(number)) == ([], before)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """As under nohup."""
    signal.signal(number, signal.SIG_IGN)
    with stop_on_signals(interrupt_at=1) as stop:
        os.kill(os.getpid(), number)
    assert (stop.requests, signal.getsignal(number)) == ([], signal.SIG_IGN)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("interrupt_at", [1, 2])
def test_a_request_interrupts_from_the_given_one_on(interrupt_at: int, number: signal.Signals) -> None:
    """Earlier requests only ask; later ones interrupt what runs after the first interruption."""
    with stop_on_signals(interrupt_at=interrupt_at) as stop:
        for _ in range(interrupt_at - 1):
            os.kill(os.getpid(), number)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    assert stop.requests == [number] * (interrupt_at + 2)


def test_nested_calls() -> None:
    """The inner call restores the outer handlers; if it received a signal, its handlers stay."""
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


def test_a_waiting_main_thread_is_woken() -> None:
    """The signal is sent while the main thread waits, or just before."""
    with stop_on_signals() as stop:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert stop.wait(LONG)


def test_every_waiting_thread_is_woken() -> None:
    """One request is enough for all, and for those that wait later."""
    stop, heard = Stop(), []
    threads = [threading.Thread(target=lambda: heard.append(stop.wait(LONG))) for _ in range(3)]
    for thread in threads:
        thread.start()
    stop.ask()
    for thread in threads:
        thread.join()
    assert [*heard, stop.wait(LONG)] == [True] * 4


def test_check_and_pause_interrupt_once_asked() -> None:
    """Before the request they return."""
    stop = Stop()
    stop.check()
    stop.pause(0)
    stop.ask()
    with pytest.raises(KeyboardInterrupt):
        stop.check()
    with pytest.raises(KeyboardInterrupt):
        stop.pause(LONG)


def test_after_sighup_a_lost_terminal_is_not_written_to() -> None:
    """The command goes on to its end though its terminal was closed."""
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
