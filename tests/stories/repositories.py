"""Run a vendor's or broker's repository in a process, for the end-to-end tests."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support import forks
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
        metrics: the URL of the metrics; empty without them.
    """

    url: str
    process: forks.Process
    log: Path
    verify: str | bool = True
    metrics: str = ""

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
    command = ["-m", "blockota", *words, "--access-log", str(log), *options]
    with forks.started(command, folder=folder) as process:
        fields = _fields(process)
        yield Served(fields["url"], process, log, verify, fields.get("metrics", ""))


def _fields(process: forks.Process) -> dict[str, str]:
    """Return the JSON object that ``repository serve`` prints when it is ready."""
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            fields: dict[str, str] = json.loads(text)
            return fields
    raise AssertionError(process.errors + text)
