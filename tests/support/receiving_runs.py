"""Run services that receive requests: in a thread of the test, or as a process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from blockota.identity.receiving_service import ReceivingService
from blockota.ledger.log import TileLog
from blockota.line_log import LineLog
from blockota.model.receipt import LogEntry
from blockota.model.warning import RequestWarning
from blockota.shutdown import Stop
from tests.support import forks
from tests.support.waiting import eventually

Opened = Callable[[LineLog, Stop], AbstractContextManager[ReceivingService]]


@contextmanager
def running(opened: Opened, lines: list[str]) -> Iterator[str]:
    """Run a service in a thread, and yield the URL at which it receives requests.

    Args:
        opened: opens the service.
        lines: receives the log lines of the service.
    """
    urls, stop, ready = list[str](), Stop(), threading.Event()

    def note_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    def serve() -> None:
        with opened(LineLog(lines.append), stop) as service:
            service.run(on_ready=note_ready)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        eventually(lambda: ready.is_set() or not thread.is_alive(), what="the service")
        assert ready.is_set(), lines
        yield urls[0]
    finally:
        stop.ask()
        thread.join()


@contextmanager
def service_process(noun: str, config: Path) -> Iterator[tuple[forks.Process, str]]:
    """Run ``blockota NOUN run`` as a process, and yield the process with its URL. It is killed at the end."""
    words = ["-m", "blockota", noun, "run", "--json", "--config", str(config)]
    with forks.started(words, folder=config.parent) as process:
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        assert text, process.errors
        yield process, json.loads(text)["url"]


def warnings_in(folder: Path) -> list[RequestWarning]:
    """Return the warnings in a log, oldest first."""
    found = (RequestWarning.parse(LogEntry.decode(raw).source or "") for raw in TileLog(folder).entries())
    return [one for one in found if one]
