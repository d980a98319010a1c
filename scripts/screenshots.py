"""Take the pictures of the operations page in docs/: ``python -m scripts.screenshots``.

The script runs ``blockota demo --page`` and ``blockota demo --city 1000``, and opens their pages in Debian's Chromium.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.browser import Browser, running_browser
from tests.support.waiting import eventually

CLONE = Path(__file__).resolve().parent.parent
PICTURES = CLONE / "docs" / "images"
SHOTS = (
    ("operations-overview", "/", 1280, "light"),
    ("operations-device", "/devices/256", 1280, "light"),
    ("operations-entry", None, 1280, "dark"),
    ("operations-narrow", "/", 390, "dark"),
)
"""Name, path, width and colour scheme of each picture; None is the path of the newest receipt of a device."""
DEVICES = 1000
"""The devices of the city."""
_MOVING = re.compile(r"devices run 1\.1\.0")
"""The beginning of the progress of the city's update."""
_ADDRESS = re.compile(r"the operations page is at (http://\S+);")


def main() -> None:
    """Take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with _demo("--page") as (url, _):
        take(url)
    with _demo("--city", str(DEVICES)) as (url, lines):
        next(line for line in lines if _MOVING.search(line))
        with running_browser() as browser:
            browser.open(1280, "light")
            browser.goto(url)
            _write(browser, "operations-city")


@contextmanager
def _demo(*options: str) -> Iterator[tuple[str, Iterator[str]]]:
    """Run the demonstration. Yields the page's URL, and an iterator over the later output lines."""
    command = [sys.executable, "-m", "blockota", "demo", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CLONE) as demo:
        lines = iter(demo.stdout or ())
        try:
            url = next(found[1] for line in lines if (found := _ADDRESS.search(line)))
            yield url, lines
        finally:
            demo.send_signal(signal.SIGTERM)


def take(url: str) -> None:
    """Take the pictures of a running operations page."""
    with running_browser() as browser:
        for name, path, width, scheme in SHOTS:
            browser.open(width, scheme)
            browser.goto(f"{url}/devices/256")
            eventually(lambda: "entry" in browser.text("#runs"), what="the receipt of the device")
            if path is None:
                browser.ask("click", "#runs .proof")
                browser.ask("wait_text", "h1", "Entry")
            else:
                browser.goto(url + path)
            _write(browser, name)


def _write(browser: Browser, name: str) -> None:
    picture = PICTURES / f"{name}.png"
    browser.ask("screenshot", str(picture))
    print(f"wrote {picture.relative_to(CLONE)}")


if __name__ == "__main__":
    main()
