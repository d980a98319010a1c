"""Long operations show a progress bar, and Ctrl-C stops them at any time."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.large_images import MEBIBYTE, pair
from tests.stories.large_images import PRODUCT as LARGE_PRODUCT
from tests.stories.test_finding import on_a_terminal
from tests.stories.test_release_desk import propose
from tests.stories.test_release_desk_images import blocks
from tests.stories.test_road import NEW, OLD
from tests.support import forks
from tests.support import hostile_gateway as vices
from tests.support.hostile_gateway import serving
from tests.support.sampling import sampled
from tests.support.waiting import DEADLINE, eventually

INTERRUPTED = 130
AT_ONCE = DEADLINE
"""Seconds after Ctrl-C until a command counts as hung."""
BARS = "Storing", "Reading", "Fetching", "Checking", "Comparing"
LONG = {
    "publish": (("release", "publish", str(NEW), "--product", PRODUCT, "--version", "1.2.0"), {"Storing"}),
    "verify": (("release", "verify", str(OLD), "--product", PRODUCT), {"Checking"}),
    "fetch": (("release", "fetch", "--product", PRODUCT), {"Fetching", "Checking"}),
    "sign": (("proposal", "sign", "1.1.0.json", "--key", "dev:1", "--yes"), {"Reading", "Checking", "Comparing"}),
    "show": (("proposal", "show", "1.1.0.json"), {"Reading", "Checking", "Comparing"}),
}
WRITES = {"publish", "fetch", "sign"}


@pytest.fixture
def desk(workshop: Workshop) -> Workshop:
    """Return a test workshop with release 1.0.0 published and 1.1.0 proposed."""
    return workshop.after(propose_second)


def propose_second(workshop: Workshop) -> None:
    """Publish release 1.0.0, and propose release 1.1.0."""
    workshop.publish("1.0.0", OLD)
    propose(workshop, NEW, "1.1.0")


@pytest.mark.sampled
def test_a_progress_bar_is_shown_on_a_terminal_only(desk: Workshop) -> None:
    """Progress bars are shown on stderr only if stderr is a terminal and ``--json`` is not given."""
    for name, (words, bars) in sampled(list(LONG.items()), one_in=2):
        writing = ("-o", f"{name}.json") if name in WRITES else ()
        command = ["-m", "blockota", *words, *writing]
        assert shown_in(on_a_terminal(command)) == bars, name
        for more in (["--json"], []):
            Path(f"{name}.json").unlink(missing_ok=True)
            piped = desk.run(*words, *writing, *more)
            assert piped.status == 0, piped.err
            assert not shown_in(piped.err), name
            assert not more or isinstance(piped.json, dict)
        Path(f"{name}.json").unlink(missing_ok=True)
        assert not shown_in(on_a_terminal([*command, "--json"])), name


def shown_in(printed: str) -> set[str]:
    """Return the names of the progress bars in the output."""
    return {bar for bar in BARS if bar in printed}


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("name", ["fetch", "sign", "show"])
def test_waiting_for_a_silent_source_is_stopped_at_once(name: str) -> None:
    """Ctrl-C during a search for an image ends the command, and leaves neither a file nor a block."""
    shutil.rmtree(".blockota/store")
    before = {*Path().iterdir()}
    writing = ("-o", "out") if name in WRITES else ()
    with serving(blocks(NEW, OLD), vices.stalls) as silent:
        words = (*LONG[name][0], *writing, "--source", silent.url)
        stopped(interrupted(*words, when=lambda: bool(silent.asked)))
    assert {*Path().iterdir()} == before
    assert not [path for path in Path(".blockota/store").rglob("*") if path.is_file() and path.name != "lock"]


def test_storing_a_large_image_is_stopped_at_once(workshop: Workshop) -> None:
    """Ctrl-C during publishing leaves no proposal, pin or partial block, and repeating the command succeeds."""
    pair(workshop)
    with Path("large.bin").open("wb") as file:
        file.writelines(number.to_bytes(4) * (MEBIBYTE // 4) for number in range(96))
    words = ("release", "publish", "large.bin", "--product", LARGE_PRODUCT.name, "--version", "1.0.0")
    store = Path(".blockota/store")
    started = ("--configuration", "-o", "large.json", "--json")
    outcome = interrupted(*words, *started, when=lambda: any(store.glob("blocks/*/*")))
    stopped(outcome)
    assert not Path("large.json").exists()
    assert not list(store.glob("pins/*"))
    assert not [path for path in store.rglob("*") if path.name.endswith(".partial")]
    assert workshop.run(*words, *started).status == 0


def interrupted(*words: str, when: Callable[[], bool]) -> Outcome:
    """Run a command, and press Ctrl-C as soon as a condition is true."""
    with forks.started(["-m", "blockota", *words]) as process:
        eventually(lambda: process.poll() is not None or when())
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=AT_ONCE)
    return Outcome(process.wait(), out, err)


def stopped(outcome: Outcome) -> None:
    """Assert that a command exits as interrupted, with ``Stopped.`` as its last line."""
    assert outcome.status == INTERRUPTED, outcome.err
    assert outcome.err.splitlines()[-1] == "Stopped."
    assert "Traceback" not in outcome.err
    assert not outcome.out or json.loads(outcome.out)
