"""Run a vendor's or broker's repository in a process, for the end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.conftest import ROOT
from tests.support.waiting import DEADLINE, eventually

WAIT_SECONDS = DEADLINE
RAW, CAR = {"Accept": "application/vnd.ipld.raw"}, {"Accept": "application/vnd.ipld.car; version=1; order=dfs; dups=y"}


@dataclass(frozen=True)
class Served:
    """A running repository.

    Attributes:
        url: the URL of the repository.
        process: the process of the repository.
        log: the path of the access log.
        verify: how clients check the TLS certificate.
    """

    url: str
    process: subprocess.Popen[str]
    log: Path
    verify: str | bool = True

    def get(self, path: str, **options: Any) -> requests.Response:
        """Send an HTTP request to the repository on a new connection."""
        method = options.pop("method", "GET")
        return requests.request(method, self.url + path, timeout=WAIT_SECONDS, verify=self.verify, **options)

    def block(self, cid: object, **headers: str) -> requests.Response:
        """Request a raw block by its CID."""
        return self.get(f"/ipfs/{cid}?format=raw", headers=headers)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The entries of the repository's access log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def await_status(self, cid: object, status: int) -> None:
        """Wait until the repository answers requests for a block with this HTTP status."""
        eventually(lambda: self.block(cid).status_code == status, what=f"the status {status}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the repository, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)


@contextmanager
def serving(folder: Path, *options: str, verify: str | bool = True) -> Iterator[Served]:
    """Run ``repository serve`` in this folder on a free port, with a refresh every second."""
    log = folder / f"access-{time.monotonic_ns()}.jsonl"
    words = ["repository", "serve", ".blockota/store", "--listen", "127.0.0.1:0", "--refresh", "1", "--json"]
    command = [sys.executable, "-m", "blockota", *words, "--access-log", str(log), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Served(_url(process), process, log, verify)
        finally:
            process.kill()


def _url(process: subprocess.Popen[str]) -> str:
    """Return the URL in the JSON object that ``repository serve`` prints when it is ready."""
    text = ""
    for line in process.stdout or ():
        text += line
        if line == "}\n":
            return str(json.loads(text)["url"])
    raise AssertionError((process.stderr.read() if process.stderr else "") + text)
