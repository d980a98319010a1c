"""Take the pictures of the operations page in docs/: ``python -m scripts.screenshots``.

The script runs ``blockota demo --page``, and opens its page in Debian's Chromium.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.browser import running_browser
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
_ADDRESS = re.compile(r"the operations page is at (http://\S+);")


def main() -> None:
    """Take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "blockota", "demo", "--page"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CLONE) as demo:
        try:
            url = next(found[1] for line in demo.stdout or () if (found := _ADDRESS.search(line)))
            take(url)
        finally:
            demo.send_signal(signal.SIGTERM)


def take(url: str) -> None:
    """Take the pictures of a running page."""
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
            picture = PICTURES / f"{name}.png"
            browser.ask("screenshot", str(picture))
            print(f"wrote {picture.relative_to(CLONE)}")


if __name__ == "__main__":
    main()
