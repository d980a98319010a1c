"""Drive a real browser: each input line is a JSON array ``[name, arguments…]``, each output line a JSON value.

While a command runs, the page can send a request to its wallet. The driver then writes ``{"wallet": [method,
parameters]}``, and reads one line with the wallet's answer.

The script runs with the Python that has Playwright (``.build/peers``), so that the tests need not import it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

TIMEOUT = 20_000
AXE = """async () => {
  const found = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] });
  return found.violations.map((one) => [one.impact, one.id, one.nodes.map((node) => node.target.join(" "))]);
}"""

WALLET = """window.ethereum = {
  async request({ method, params }) {
    const answer = JSON.parse(await window.testWallet(method, JSON.stringify(params ?? [])));
    if (answer.error) throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
    return answer.result ?? null;
  },
};"""
"""A provider of EIP-1193, as a wallet's extension injects it."""


class Driver:
    """Carries out commands on one page of a browser."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._page: Page | None = None
        self.requests: list[str] = []
        self.faults: list[str] = []

    @property
    def page(self) -> Page:
        """The open page."""
        assert self._page
        return self._page

    def open(self, width: int, scheme: str, has_script: bool) -> None:  # noqa: FBT001 - an argument in JSON
        """Open a page in a new context, which has no cookies."""
        context = self._browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=has_script,
            device_scale_factor=1,
        )
        self._page = context.new_page()
        self.requests, self.faults = [], []
        self.page.set_default_timeout(TIMEOUT)
        self.page.on("request", lambda one: self.requests.append(one.url))
        self.page.on("pageerror", lambda one: self.faults.append(str(one)))
        self.page.on("console", lambda one: self.faults.append(one.text) if one.type == "error" else None)

    def wallet(self) -> None:
        """Add a wallet to the page; the test process answers the wallet's requests."""

        def ask(method: str, params: str) -> str:
            sys.stdout.write(json.dumps({"wallet": [method, json.loads(params)]}) + "\n")
            sys.stdout.flush()
            return sys.stdin.readline()

        self.page.expose_function("testWallet", ask)
        self.page.add_init_script(WALLET)

    def goto(self, url: str) -> int:
        """Open a URL, and return the status of the answer."""
        answer = self.page.goto(url, wait_until="domcontentloaded")
        return answer.status if answer else 0

    def text(self, selector: str = "body") -> str:
        """Return the visible text of an element."""
        return str(self.page.inner_text(selector))

    def html(self) -> str:
        """Return the document."""
        return str(self.page.content())

    def click(self, selector: str) -> None:
        """Click an element."""
        self.page.click(selector)

    def count(self, selector: str) -> int:
        """Return the number of elements."""
        return int(self.page.locator(selector).count())

    def hold(self, selector: str) -> None:
        """Press the button of the mouse on an element."""
        self.page.hover(selector)
        self.page.mouse.down()

    def release(self, pattern: str) -> None:
        """Release the button of the mouse, and wait for a page whose URL matches a pattern."""
        self.page.mouse.up()
        self.page.wait_for_url(pattern)

    def fill(self, selector: str, value: str) -> None:
        """Fill a field."""
        self.page.fill(selector, value)

    def select(self, selector: str, value: str) -> None:
        """Choose an option."""
        self.page.select_option(selector, value)

    def upload(self, selector: str, path: str) -> None:
        """Choose a file in a field."""
        self.page.set_input_files(selector, path)

    def download(self, selector: str) -> list[str]:
        """Click an element that downloads a file. Returns the name and the text of the file."""
        with self.page.expect_download() as found:
            self.page.click(selector)
        path = found.value.path()
        return [found.value.suggested_filename, Path(path).read_text()]

    def press(self, key: str) -> None:
        """Press a key in the element that has the focus."""
        self.page.keyboard.press(key)

    def focused(self) -> str:
        """Return the text of the focused element, or its accessible name if it has no text."""
        script = (
            "() => { const e = document.activeElement; return (e.innerText || e.name || e.id || e.tagName).trim() }"
        )
        return str(self.page.evaluate(script))

    def wait_text(self, selector: str, text: str) -> float:
        """Wait until an element has a text; return the milliseconds since the command began."""
        began = self.page.evaluate("() => performance.now()")
        self.page.locator(selector, has_text=text).first.wait_for()
        return float(self.page.evaluate("() => performance.now()")) - float(began)

    def overflow(self) -> int:
        """Return the number of pixels by which the page is wider than its window."""
        script = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))

    def weight(self) -> int:
        """Return the total bytes of all responses of the page, except pictures."""
        script = (
            "() => performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
            ".filter((one) => !/\\.(svg|png)$/.test(one.name)).reduce((sum, one) => sum + one.encodedBodySize, 0)"
        )
        return int(self.page.evaluate(script))

    def axe(self, script: str) -> list[Any]:
        """Return the violations that axe-core finds: impact, rule and elements."""
        # The policy of the page allows no other script, so it is run as a script of the developer tools.
        self.page.evaluate(Path(script).read_text())
        return list(self.page.evaluate(AXE))

    def screenshot(self, path: str, is_full: bool = True) -> None:  # noqa: FBT001, FBT002 - arguments in JSON
        """Write a picture of the page."""
        self.page.screenshot(path=path, full_page=is_full)

    def title(self) -> str:
        """Return the title of the page."""
        return str(self.page.title())

    def seen(self) -> list[list[str]]:
        """Return the URLs that the browser requested, and the page's errors."""
        return [self.requests, self.faults]


def main() -> None:
    """Read commands until the input ends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=sys.argv[1], headless=True, args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        )
        driver = Driver(browser)
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            try:
                answer: Any = {"value": getattr(driver, name)(*arguments)}
            except Exception as error:  # noqa: BLE001 - the test reports it
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        browser.close()


if __name__ == "__main__":
    main()
