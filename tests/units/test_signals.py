"""What tells a command to end, while a board must not be left in the middle."""

from __future__ import annotations

import os
import signal

import pytest

from blockota.cli.signals import requests_counted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_requests_are_counted_and_interrupt_nothing(number: signal.Signals) -> None:
    """However many come; afterwards everything is as before."""
    before = signal.getsignal(number)
    with requests_counted() as came:
        for _ in range(4):
            os.kill(os.getpid(), number)
        assert came == [number] * 4
    assert signal.getsignal(number) is before
