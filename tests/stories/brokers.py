"""Helpers of the broker tests: agreements, sync rounds, and the contents of the broker's store."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockota.stores.local import LocalStore
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.repositories import serving
from tests.stories.test_repository import address, decide, image
from tests.support import forks

URL = "https://broker.example"
BROKER = ("--key", "dev:4")
OPTIONS = (*BROKER, "--announce", URL, "--state", "broker.sqlite", "--store", "file:copies", "--json")
ALL_DONE = ["fetched", "pinned", "fetched", "pinned", "announced"]


def agree(workshop: Workshop) -> None:
    """Have the vendor publish release 1.0.0 with a manifest, and accept the broker's offer to serve the release."""
    publish(workshop)
    offer(workshop)


def publish(workshop: Workshop) -> None:
    """Have the vendor publish release 1.0.0 with a manifest."""
    Path("notes.md").write_text("The first release.")
    words = ("--product", PRODUCT, "--version", "1.0.0", "--notes", "notes.md", "-o", "first.json")
    for command in (
        ("release", "publish", str(image("1.0.0")), *words),
        ("proposal", "sign", "first.json", "--key", "dev:1", "--yes"),
        ("proposal", "sign", "first.json", "--key", "dev:2", "--yes"),
        ("proposal", "execute", "first.json", "--key", "dev:0"),
    ):
        outcome = workshop.run(*command)
        assert outcome.status == 0, outcome.err


@contextmanager
def vendor_of(workshop: Workshop) -> Iterator[str]:
    """Run the vendor's repository in a process, and yield its URL."""
    (workshop.folder / ".blockota" / "store").mkdir(parents=True, exist_ok=True)
    with serving(workshop.folder) as served:
        yield served.url


def offer(workshop: Workshop, *, number: int = 1, key: str = "dev:4") -> None:
    """Have a broker offer to serve release 1.0.0 for 30 minutes, and have the vendor accept."""
    words = ("replica", "propose", "--product", PRODUCT, "--version", "1.0.0", "--expires-in", "30m", "--key", key)
    assert workshop.run(*words).status == 0
    decide(workshop, "accept", number)


def sync(workshop: Workshop, *sources: str) -> Outcome:
    """Run one round of ``broker sync``."""
    named = (word for source in sources for word in ("--vendor-source", source))
    return workshop.run("broker", "sync", *named, *OPTIONS)


def verbs(outcome: Outcome) -> list[str]:
    """Return the names of the steps that succeeded in a sync round."""
    return [step["did"] for step in outcome.json["steps"] if not step["error"]]


def copies(workshop: Workshop) -> LocalStore:
    """Return the broker's store."""
    return LocalStore(workshop.folder / "copies")


def is_kept(workshop: Workshop) -> bool:
    """Return whether the broker's store contains the image of release 1.0.0 and pins it."""
    store, cid = copies(workshop), address("1.0.0")
    return cid in store.pins() and b"".join(store.open(cid)) == image("1.0.0").read_bytes()


def blocks(workshop: Workshop) -> list[Path]:
    """Return all block files in the broker's store."""
    return [path for path in (workshop.folder / "copies" / "blocks").rglob("*") if path.is_file()]


def announcements(workshop: Workshop) -> int:
    """Return the number of transactions that the broker sent after its offer."""
    return workshop.chain.count(workshop.cast.broker.address) - 1


@dataclass(frozen=True)
class SyncProcess:
    """A running ``broker sync`` process."""

    process: forks.Process

    def line(self) -> dict[str, Any]:
        """Return the JSON output of the next round."""
        fields: dict[str, Any] = json.loads(self.process.stdout.readline())
        return fields

    def stop(self, *numbers: int) -> tuple[int, str]:
        """Send signals, by default SIGTERM, and return the exit status and the remaining output."""
        for number in numbers or (signal.SIGTERM,):
            self.process.send_signal(number)
        out, err = self.process.communicate()
        return self.process.wait(), out + err


@contextmanager
def running(workshop: Workshop, *options: str, script: str = "") -> Iterator[SyncProcess]:
    """Run ``broker sync`` in a process with the options of all broker tests and these options.

    Args:
        workshop: the test workshop whose folder is the working directory.
        options: further options.
        script: Python source that replaces ``python -m blockota``.
    """
    program = ("-c", script) if script else ("-m", "blockota")
    with forks.started([*program, "broker", "sync", *options, *OPTIONS], folder=workshop.folder) as process:
        yield SyncProcess(process)


@contextmanager
def serving_as_typed(folder: Path, *words: str) -> Iterator[str]:
    """Run a ``blockota`` command in a process, and yield its first line of output."""
    with (
        (folder / "access.jsonl").open("w") as log,
        forks.started(["-m", "blockota", *words], folder=folder, streams={2: log.fileno()}) as process,
    ):
        yield process.stdout.readline()
