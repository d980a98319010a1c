"""If the store is empty, the image is fetched from the vendor, brokers or gateways, and verified."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from blockota.formats.cid import CID
from blockota.stores.local import LocalStore
from tests.conftest import IMAGES
from tests.stories import repositories
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_repository import decide
from tests.support import forks
from tests.support import hostile_gateway as vices
from tests.support.fetch_samples import blocks_of
from tests.support.hostile_gateway import Gateway, Handler, serving
from tests.support.waiting import DEADLINE, eventually

IMAGE = IMAGES / "bluepill-1.0.0.bin"
RELEASE = ("--product", PRODUCT, "--version", "1.0.0")
FETCH = ("release", "fetch", "--product", PRODUCT, "-o", "found.bin")
BROKERS = ("dev:4", "dev:5", "dev:6")
UNREACHABLE = 5
_, BLOCKS = blocks_of(IMAGE.read_bytes())


@pytest.fixture
def bench(workshop: Workshop) -> Workshop:
    """Return a test workshop with release 1.0.0 and an empty store. The image of release 1.0.0 is in another folder."""
    return workshop.after(publish_and_empty)


def publish_and_empty(workshop: Workshop) -> None:
    """Publish release 1.0.0, and move the store's content away."""
    workshop.publish("1.0.0", IMAGE)
    empty_store(workshop)


def empty_store(workshop: Workshop) -> None:
    """Move the content of the store to another folder."""
    store = workshop.folder / ".blockota" / "store"
    shutil.rmtree(workshop.folder / "vendor-store", ignore_errors=True)
    store.rename(workshop.folder / "vendor-store")


@contextmanager
def gateways(*vice: Callable[[Handler, bytes], object]) -> Iterator[list[Gateway]]:
    """Serve the image of release 1.0.0 from one gateway for each kind of fault."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving(BLOCKS, one)) for one in vice]


def announce(workshop: Workshop, *uris: str) -> None:
    """Have brokers make agreements with the vendor and announce these URLs."""
    for number, (key, uri) in enumerate(zip(BROKERS, uris, strict=False), 1):
        assert workshop.run("replica", "propose", *RELEASE, "--key", key).status == 0
        decide(workshop, "accept", number)
        outcome = workshop.run("replica", "announce", str(number), uri, "--key", key)
        assert outcome.status == 0, outcome.err


def settings(workshop: Workshop, **lists: list[str]) -> None:
    """Write lists of sources into the settings file."""
    file = workshop.folder / "blockota.toml"
    lines = [f"{key} = {json.dumps(urls)}" for key, urls in lists.items()]
    file.write_text("\n".join([*lines, file.read_text()]))


def test_a_board_is_flashed_from_the_one_honest_replica_of_three(bench: Workshop, board_url: str) -> None:
    """Of three replicas, one serves wrong blocks and one lacks the image.

    A board is flashed from the honest replica.
    """
    with gateways(vices.flips_bit(0.5), vices.honest, vices.honest) as (liar, ignorant, honest):
        ignorant.blocks = {}
        announce(bench, liar.url, ignorant.url + "/ipfs", honest.url)
        outcome = bench.flash(board_url)
    assert outcome.status == 0, outcome.err
    assert "the board holds acme-thermo2 1.0.0" in outcome.out
    assert "Asking the vendor and the brokers for the image (3 sources)." in outcome.err
    assert honest.asked
    assert f"Not asked again: {honest.url}" not in outcome.err
    assert not [request for gateway in (liar, ignorant, honest) for request in gateway.refused]
    digest = hashlib.sha256(IMAGE.read_bytes()).digest()
    assert b"".join(LocalStore(Path(".blockota/store")).open(CID(0x55, digest))) == IMAGE.read_bytes()
    Path("blockota.toml").write_text(f'[networks.local]\nurl = "{bench.chain.url}"\n')
    assert bench.run(*FETCH).status == 0


def test_the_vendor_s_own_repository_serves(bench: Workshop) -> None:
    """An image is fetched from the vendor's repository that the settings name."""
    (bench.folder / "vendor-store").rename(".blockota/store")
    with repositories.serving(bench.folder) as served:
        settings(bench, vendor_sources=[served.url])
        outcome = bench.run(*FETCH, "--store", "file:elsewhere")
    assert outcome.status == 0, outcome.err
    assert Path("found.bin").read_bytes() == IMAGE.read_bytes()
    assert Path("elsewhere/pins").is_dir()


def test_a_repository_that_asks_for_a_token_serves_who_has_it(bench: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that requires a token serves a client whose settings name that token."""
    token = bench.run("repository", "token", "bench-3", "--json").json
    Path("tokens").write_text(token["line"])
    (bench.folder / "vendor-store").rename(".blockota/store")
    with repositories.serving(bench.folder, "--tokens", "tokens") as served:
        settings(bench, vendor_sources=[served.url])
        refused(bench.run(*FETCH, "--store", "file:a"), UNREACHABLE, f"{served.url} refused", "401", "[tokens]")
        with Path("blockota.toml").open("a") as file:
            file.write(f'[tokens]\n"{served.url}" = "env:VENDOR_TOKEN"\n')
        unset = bench.run(*FETCH, "--store", "file:a")
        refused(unset, UNREACHABLE, f"{served.url} refused", "environment variable VENDOR_TOKEN, which is not set")
        monkeypatch.setenv("VENDOR_TOKEN", token["token"])
        for store in ("file:a", served.url):
            outcome = bench.run(*FETCH, "--store", store, "--force")
            assert outcome.status == 0, outcome.err
            assert token["token"] not in outcome.out + outcome.err
        assert served.lines[-1]["holder"] == "bench-3"


def test_gateways_come_last_and_named_sources_first(bench: Workshop) -> None:
    """Sources named by ``--source`` are queried before the vendor's sources, and gateways are queried last."""
    with gateways(vices.honest, vices.honest, vices.honest) as (named, vendor, gateway):
        settings(bench, vendor_sources=[vendor.url], gateways=[gateway.url])
        assert bench.run(*FETCH, "--source", named.url).status == 0
        assert (bool(named.asked), bool(vendor.asked), bool(gateway.asked)) == (True, False, False)
        shutil.rmtree(".blockota/store")
        assert bench.run(*FETCH, "--force").status == 0
        assert (bool(vendor.asked), bool(gateway.asked)) == (True, False)
        shutil.rmtree(".blockota/store")
        vendor.blocks = {}
        outcome = bench.run(*FETCH, "--force", "--json")
        assert outcome.status == 0
        assert outcome.json["file"] == "found.bin"
        assert gateway.asked
        assert f"Not asked again: {vendor.url} does not have it." in outcome.err


def test_sources_of_wrong_blocks_without_others_fail_check_four(bench: Workshop, board_url: str) -> None:
    """If all sources serve wrong blocks, check 4 fails and nothing is written."""
    with gateways(vices.flips_bit(0.1), vices.flips_bit(0.9)) as bad:
        announce(bench, *[one.url for one in bad])
        for outcome in (bench.run(*FETCH), bench.flash(board_url)):
            refused(
                outcome,
                REFUSED,
                "check 4 failed",
                "every image that was found differs",
                *[f"{one.url} served wrong data" for one in bad],
            )
    assert not Path("found.bin").exists()
    assert not list(Path().glob("*.partial"))
    assert not [path for path in Path(".blockota/store").rglob("*") if path.is_file()]


def test_unreachable_sources_are_listed(bench: Workshop) -> None:
    """If no source is reachable, the error lists the sources that were tried and the remedy."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        announce(bench, url, f"{url}/other")
        refused(
            bench.run(*FETCH),
            UNREACHABLE,
            "the image of acme-thermo2 1.0.0 was not found",
            "does not have",
            f"{url} failed",
            f"{url}/… failed",
            "--source",
        )


@pytest.mark.parametrize("word", ["ftp://x", "gateway.example", "https://x?y"])
def test_an_invalid_source_is_refused_at_once(bench: Workshop, word: str) -> None:
    """An invalid source URL is refused as wrong usage, as an option and in the settings."""
    refused(bench.run(*FETCH, "--source", word), USAGE, "is not the URL of a gateway")
    settings(bench, gateways=[word])
    refused(bench.run(*FETCH), USAGE, "is not the URL of a gateway")


def test_a_progress_bar_is_shown_on_a_terminal_only(bench: Workshop) -> None:
    """A progress bar is shown on stderr only if stderr is a terminal and ``--json`` is not given."""
    with gateways(vices.honest) as (gateway,):
        words = ["-m", "blockota", *FETCH, "--force", "--source", gateway.url]
        for more, is_shown in (([], True), (["--json"], False)):
            shutil.rmtree(".blockota/store", ignore_errors=True)
            assert ("Fetching" in on_a_terminal([*words, *more])) == is_shown
        assert "Fetching" not in bench.run(*FETCH, "--force").err


@pytest.mark.usefixtures("bench")
def test_a_terminated_fetch_leaves_nothing_behind() -> None:
    """SIGTERM ends a fetch with exit status 130 and leaves no partial file."""
    command = ["-m", "blockota", *FETCH]
    with gateways(vices.drips) as (slow,), forks.started([*command, "--source", slow.url]) as process:
        eventually(lambda: slow.asked and list(Path().glob(".found.bin.*.partial")), what="a partial file")
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, printed
    assert printed.endswith("Stopped.\n")
    assert not list(Path().glob("*found.bin*"))


def on_a_terminal(words: list[str]) -> str:
    """Run a Python program whose stderr is a terminal, and return the text printed there."""
    terminal, end = pty.openpty()
    with forks.started(words, environment={"TERM": "xterm"}, streams={2: end}) as process:
        process.communicate()
    os.close(end)
    printed = bytearray()
    try:
        while part := os.read(terminal, 1 << 16):
            printed += part
    except OSError:
        pass  # Linux reports the end of a terminal as EIO
    os.close(terminal)
    assert process.returncode == 0, printed.decode()
    return printed.decode()
