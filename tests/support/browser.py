"""Debian's Chromium, driven by Playwright in another process (`tests/peers/browser/driver.py`)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.browser_wallet import BrowserWallet

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
_DRIVER = ROOT / "tests" / "peers" / "browser" / "driver.py"
_PYTHON = ROOT / ".build" / "peers" / "bin" / "python"


class Browser:
    """A browser with one page."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._wallet: BrowserWallet | None = None

    def ask(self, name: str, *arguments: object) -> Any:
        """Perform a command of the driver, and return its result."""
        answer = self._exchange([name, *arguments])
        while self._wallet and "wallet" in answer:
            answer = self._exchange(self._wallet.answer(*answer["wallet"]))
        if "error" in answer:
            raise AssertionError(f"{name} {arguments}: {answer['error']}")
        return answer["value"]

    def open(self, width: int = 1280, scheme: str = "light", *, has_script: bool = True) -> None:
        """Open a page in a new context, which has no cookies."""
        self.ask("open", width, scheme, has_script)

    def use(self, wallet: BrowserWallet) -> None:
        """Provide a wallet to the page that was opened last."""
        self._wallet = wallet
        self.ask("wallet")

    def goto(self, url: str) -> int:
        """Open a URL, and return the status of the response."""
        return int(self.ask("goto", url))

    def text(self, selector: str = "body") -> str:
        """Return the visible text of an element."""
        return str(self.ask("text", selector))

    def axe(self) -> list[tuple[str, str, list[str]]]:
        """Return the violations that axe-core finds: impact, rule and elements."""
        return [(impact, rule, nodes) for impact, rule, nodes in self.ask("axe", str(AXE))]

    def _exchange(self, message: object) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else {"error": "the browser ended"}


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run a browser while the ``with`` block runs."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing"
    command = [str(_PYTHON), str(_DRIVER), chromium]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Browser(process)
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(30)
