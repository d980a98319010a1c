"""``blockota demo --page`` serves an operations page with the devices of the demonstration."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from urllib.request import urlopen

from tests.conftest import ROOT
from tests.support.waiting import DEADLINE, eventually


def test_the_page_shows_the_boards_of_the_demonstration() -> None:
    """The page shows the three boards with their releases until the command ends."""
    command = [sys.executable, "-m", "blockota", "demo", "--page"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as demo:
        found = (re.search(r"the operations page is at (http://\S+);", line) for line in demo.stdout or ())
        url = next(one[1] for one in found if one)

        def devices() -> str:
            with urlopen(f"{url}/devices") as answer:  # noqa: S310 - our own server
                return str(answer.read().decode())

        eventually(lambda: devices().count("acme-thermo2 1.") == 3, what="the boards")
        text = devices()
        assert "3 devices" in text
        assert "acme-thermo2 1.1.0" in text
        assert "level C" in text
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(DEADLINE) in (0, 130)
