"""``blockota cloud run`` with PostgreSQL survives a fail-over, and can be stopped while a commit waits."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from blockota.identity.sending import Parcel
from blockota.operations.database import CloudDatabase
from blockota.operations.schema import REQUEST
from tests.gateway.conftest import city
from tests.peers.postgresql.cluster import PASSWORD, PostgresPair, postgres_pair
from tests.support.city import City
from tests.support.clouds import CLOUD, VALIDATOR, CloudRun, cloud_process, signer_of, write_cloud
from tests.support.foreign_requests import data
from tests.support.waiting import eventually

__all__ = ["city"]
ENOUGH = 50
"""The number of requests that are acknowledged before and after the primary is killed."""


@pytest.fixture
def pair() -> Iterator[PostgresPair]:
    """Run new servers for each test."""
    with postgres_pair() as found:
        yield found


@pytest.fixture
def config(city: City, pair: PostgresPair, tmp_path: Path) -> Path:
    """Return the settings of a cloud whose URL is in a file."""
    (tmp_path / "database").write_text(f"{pair.url}\n")
    return write_cloud(city, tmp_path, database="file:database")


class Validator:
    """Passes requests to the cloud, and repeats each request until it is acknowledged."""

    def __init__(self, run: CloudRun) -> None:
        self._run, self._is_asked = run, threading.Event()
        self._gateway = signer_of("gateway", run.folder)
        self._validator = signer_of("validator", run.folder)
        self.acknowledged, self.failures = list[bytes](), 0
        self.thread = threading.Thread(target=self._send)
        self.thread.start()

    def end(self) -> None:
        """End the thread."""
        self._is_asked.set()
        self.thread.join()

    def _send(self) -> None:
        number = 0
        while not self._is_asked.is_set():
            raw = self._gateway.request(Parcel("submit", data(number)), receiver=VALIDATOR, now=int(time.time()))
            parcel = Parcel("store", {"requests": [raw.decode()]})
            while not self._is_asked.is_set() and not self._deliver(parcel):
                self.failures += 1
                self._is_asked.wait(0.05)
            if not self._is_asked.is_set():
                self.acknowledged.append(raw)
            number += 1

    def _deliver(self, parcel: Parcel) -> bool:
        request = self._validator.request(parcel, receiver=CLOUD, now=int(time.time()))
        try:
            answer = self._run.post(request)
        except (OSError, HTTPException):
            return False
        return "result" in answer or answer["error"]["data"]["fault"] == "SEEN"


def test_the_cloud_goes_on_with_the_promoted_standby(pair: PostgresPair, config: Path) -> None:
    """After the primary is killed, the cloud continues with the standby.

    The standby has each acknowledged request.
    """
    with cloud_process(config) as (process, run):
        validator = Validator(run)
        eventually(lambda: len(validator.acknowledged) >= ENOUGH, what="requests before the kill")
        pair.primary.kill()
        eventually(lambda: validator.failures, what="a failure")
        before = len(validator.acknowledged)
        pair.promote()
        eventually(lambda: len(validator.acknowledged) >= before + ENOUGH, what="requests after the kill")
        validator.end()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        assert PASSWORD not in process.errors
    with CloudDatabase.at(pair.url, folder=config.parent) as database, database.reading() as connection:
        stored = {bytes(raw) for (raw,) in connection.execute(REQUEST.select().with_only_columns(REQUEST.c.raw))}
    assert set(validator.acknowledged) <= stored


def test_the_cloud_stops_while_a_commit_waits_for_the_standby(pair: PostgresPair, config: Path) -> None:
    """SIGTERM ends a cloud whose commit waits for a stopped standby.

    The request of this commit is not acknowledged.
    """
    with cloud_process(config) as (process, run):
        pair.standby.kill()
        validator = Validator(run)
        eventually(pair.wait_of_primary, what="a commit that waits")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        validator.end()
    assert not validator.acknowledged
