"""Services without their own settings file serve their state at the address of ``--metrics``."""

from __future__ import annotations

import hashlib
import signal
import socket

import pytest
import requests

from blockota.chain.local import free_port
from blockota.formats.cid import CID, RAW
from tests.stories.brokers import agree, running, vendor_of
from tests.stories.conftest import Workshop
from tests.stories.repositories import serving
from tests.stories.test_bad_input import USAGE, refused
from tests.stories.test_repository import address, stock
from tests.support.relay import relayed
from tests.support.scraping import scrape
from tests.support.waiting import DEADLINE, eventually

PLACE = ("--metrics", "127.0.0.1:0")


def test_a_repository_counts_its_answers(workshop: Workshop) -> None:
    """Each answered request is counted by its status, and the sent bytes are those of the response bodies."""
    stock(workshop)
    with serving(workshop.folder, *PLACE) as served:
        assert served.metrics != served.url
        image = served.block(address("1.0.0"))
        assert image.status_code == 200
        unknown = served.block(CID(RAW, hashlib.sha256(b"another").digest()))
        assert unknown.status_code == 404
        served.await_status(address("1.1.0"), 200)
        # An answer is counted after its last byte, so that the client may be faster.
        eventually(lambda: "blockota_repository_requests_total 404" in scrape(served.metrics), what="the count")
        found = scrape(served.metrics)
        assert found["blockota_repository_requests_total 404"] == 1
        sent = len(image.content) + len(unknown.content)
        assert found["blockota_repository_sent_bytes_total"] >= sent
        expected = {"releases": 2, "files": 2, "missing_files": 0, "open": 1, "troubles": 0}
        assert {name: found[f"blockota_repository_{name}"] for name in expected} == expected
        assert found["blockota_repository_confirmed_block"] == workshop.chain.head().number
        assert found["process_start_time_seconds"] > 0
        assert requests.get(f"{served.metrics}/health", timeout=DEADLINE).json()["status"] == "ok"
        # The public address does not show them, and the address of the metrics serves no content.
        assert served.get("/metrics").status_code == 404
        assert requests.get(f"{served.metrics}/ipfs/{address('1.0.0')}", timeout=DEADLINE).status_code == 404
        assert requests.post(f"{served.metrics}/metrics", timeout=DEADLINE).status_code == 405
        assert served.stop(signal.SIGTERM) == 0


def test_a_broker_counts_its_rounds(workshop: Workshop) -> None:
    """The metrics of a broker count its rounds, and the steps of each round."""
    agree(workshop)
    url = f"http://127.0.0.1:{(port := free_port())}"
    options = ("--every", "1s", "--metrics", f"127.0.0.1:{port}")
    with vendor_of(workshop) as vendor, running(workshop, "--vendor-source", vendor, *options) as broker:
        while not any(step["did"] == "announced" for step in broker.line()["steps"]):
            pass
        found = scrape(url)
        assert found["blockota_broker_steps_total announced"] == 1
        assert found["blockota_broker_steps_total fetched"] >= 1
        assert found["blockota_broker_agreements announced"] == 1
        assert found["blockota_broker_agreements unannounced"] == 0
        assert (found["blockota_broker_failed_rounds_total"], found["blockota_broker_troubles"]) == (0, 0)
        assert found["blockota_broker_rounds_total"] >= 1
        assert found["blockota_broker_last_round_timestamp_seconds"] > found["process_start_time_seconds"] - 1
        assert requests.get(f"{url}/health", timeout=DEADLINE).json()["status"] == "serving"
        assert broker.stop()[0] == 0


def test_a_broker_without_a_chain_is_degraded(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the chain is unreachable, the broker's metrics count the failed round.

    The metrics still contain the last number of agreements.
    """
    agree(workshop)
    url = f"http://127.0.0.1:{(port := free_port())}"
    with relayed(int(workshop.chain.url.rpartition(":")[2])) as relay:
        monkeypatch.setenv("BLOCKOTA_URL", f"http://127.0.0.1:{relay.port}")
        with running(workshop, "--every", "1s", "--metrics", f"127.0.0.1:{port}") as broker:
            broker.line()
            relay.cut()
            while not broker.line()["errors"]:
                pass
            found = scrape(url)
            assert found["blockota_broker_failed_rounds_total"] >= 1
            assert found["blockota_broker_agreements unannounced"] == 1
            assert found["blockota_broker_troubles"] == 1
            assert requests.get(f"{url}/health", timeout=DEADLINE).json()["status"] == "degraded"
            assert broker.stop()[0] == 0


@pytest.mark.parametrize("place", ["9480", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http", ""])
def test_a_wrong_address_is_refused(workshop: Workshop, place: str) -> None:
    """An address for ``--metrics`` needs a host and a port."""
    outcome = workshop.run("broker", "sync", "--every", "1s", "--key", "dev:4", "--metrics", place)
    refused(outcome, USAGE, f"{place!r} is not an address: use HOST:PORT")


def test_an_address_that_cannot_be_used_ends_the_command(workshop: Workshop) -> None:
    """``--metrics`` is refused if its address is in use, or if the command runs only once."""
    stock(workshop)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        for words in (
            ("repository", "serve", ".blockota/store", "--listen", "127.0.0.1:0"),
            ("broker", "sync", "--every", "1s", "--key", "dev:4"),
        ):
            refused(workshop.run(*words, "--metrics", place), USAGE, f"cannot listen on {place.replace(':', ' port ')}")
    refused(workshop.run("broker", "sync", "--key", "dev:4", *PLACE), USAGE, "--metrics needs --every")
    refused(workshop.run("vpn", "sync", *PLACE), USAGE, "--metrics needs --watch")
