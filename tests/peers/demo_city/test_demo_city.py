"""``blockota demo --city`` updates simulated devices through a real gateway, and ends on Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import ROOT
from tests.support.waiting import DEADLINE, eventually

COUNT = 20


@contextmanager
def running_demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the demonstration as a shell does, in a process group of its own."""
    command = [sys.executable, "-m", "blockota", "demo", "--city", str(COUNT)]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment, start_new_session=True
    ) as demo:
        try:
            yield demo
        finally:
            demo.terminate()


def line_with(demo: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Read lines of the output until a line matches the pattern, and return the match."""
    found = (re.search(pattern, line) for line in demo.stdout or ())
    match = next((one for one in found if one), None)
    assert match, f"the demonstration ended before it printed {pattern}"
    return match


def read(url: str) -> str:
    """Return a page as text without tags."""
    with urlopen(url) as answer:  # noqa: S310 - our own server
        return re.sub(r"<[^>]*>", "", answer.read().decode())


def test_a_city_is_updated_and_shown_until_ctrl_c(tmp_path: Path) -> None:
    """The page shows the releases, the order, the failures and the warnings. Ctrl-C leaves nothing behind."""
    with running_demo(tmp_path) as demo:
        url = line_with(demo, r"the operations page is at (http://\S+);")[1]
        line_with(demo, "16 devices run 1.1.0")
        line_with(demo, "the update is over")

        assert "16 of 20 devices" in read(f"{url}/updates")
        assert "1 refusal" in read(f"{url}/updates")
        assert "4 devices" in read(f"{url}/devices?product=acme-thermo2&version=1.0.0")
        assert read(f"{url}/devices").count("level C") == 3
        eventually(lambda: "3 open" in read(f"{url}/warnings"), what="the warnings")
        warnings = read(f"{url}/warnings")
        for text in ("did not fetch the image", "has another token", "an image that no release has"):
            assert text in warnings
        eventually(lambda: "slot B" in read(f"{url}/log") and "rolled back" in read(f"{url}/log"), what="the failures")
        assert "the battery is at 9 %" in read(f"{url}/log")

        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(DEADLINE) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_during_the_setup_leaves_nothing_behind(send: Callable[[int, int], None], tmp_path: Path) -> None:
    """Ctrl-C or SIGTERM during the setup ends the command with status 130, and leaves no file in the folder."""
    with running_demo(tmp_path) as demo:
        line_with(demo, "the local chain is up")
        send(demo.pid, signal.SIGINT if send is os.killpg else signal.SIGTERM)
        assert demo.wait(DEADLINE) == 130
    assert list(tmp_path.iterdir()) == []
