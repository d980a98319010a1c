"""During an outage of a chain, database or archive, the pages show the last reading and its age."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import UUID

import pytest

from blockota.chain import Chain
from blockota.chain.local import find_anvil, free_port
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.model.reading import SensorReading
from blockota.model.receipt import EntryKind
from blockota.operations.database import CloudDatabase
from blockota.operations.opening import ARCHIVE_NAME
from blockota.operations.writing import AcceptedRequest, write_requests
from tests.conftest import Cast, wait_for_chain
from tests.support.city import GATEWAY, KINDS
from tests.support.operations_room import RoomScene, make_scene, running_room
from tests.support.waiting import DEADLINE, eventually


class OwnChain:
    """Return an anvil chain that the test may stop."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [str(find_anvil()), "--chain-id", str(LOCAL_CHAIN_ID), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.chain: Chain = wait_for_chain(f"http://127.0.0.1:{self.port}")

    def stop(self) -> None:
        """Stop the chain for good."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def own() -> Iterator[OwnChain]:
    """A chain of this test alone."""
    found = OwnChain()
    yield found
    found.stop()


@pytest.fixture
def scene(own: OwnChain, cast: Cast, tmp_path: Path) -> RoomScene:
    """Return a city on the test's own chain."""
    return make_scene(own.chain, cast, tmp_path)


def get(url: str, path: str = "/") -> str:
    """Return the text of a page, also of an error page."""
    try:
        with urlopen(url + path, timeout=30) as answer:  # noqa: S310 - our own server
            return str(answer.read().decode())
    except HTTPError as error:
        return str(error.read().decode())


def chain_events(url: str) -> str:
    """Return the lines of the exported log that are events of contracts."""
    return "\n".join(line for line in get(url, "/log/export.csv").splitlines() if line.split(",")[1:2] == ["chain"])


def test_pages_stay_when_the_chain_is_gone(own: OwnChain, scene: RoomScene) -> None:
    """Without its chain, the room shows the last reading and its time, also after a restart."""
    with running_room(scene.setup) as url:
        eventually(lambda: "2 followed" in get(url), what="the logs")
        own.stop()
        eventually(lambda: "cannot be read now" in get(url), what="the report of the outage")
        text = get(url, f"/devices/{scene.numbers[0]}")
        assert "1.1.0" in text
        assert "Traceback" not in text
        assert "degraded" in get(url, "/health")
    with running_room(scene.setup) as url:
        eventually(lambda: "cannot be read now" in get(url), what="the report of the outage")
        assert "acme-thermo2 1.1.0" in get(url)
        assert "not read yet" in get(url)


def test_a_reorganisation_removes_what_it_replaced(own: OwnChain, scene: RoomScene) -> None:
    """After a reorganisation, the pages show the remaining events, but no events of the replaced blocks."""
    endpoint = own.chain._endpoint  # noqa: SLF001 - only the node can take blocks back
    with running_room(scene.setup) as url:
        eventually(lambda: "2 followed" in get(url), what="the logs")
        snapshot = endpoint.request("evm_snapshot")
        scene.city.order("replaced", scene.city.release_id("1.0.0"))
        eventually(lambda: "replaced" in get(url, "/updates"), what="the order")
        endpoint.request("evm_revert", snapshot)
        for _ in range(4):
            own.chain.mine()
        eventually(lambda: "replaced" not in get(url, "/updates"), what="the end of the order")
        eventually(lambda: "group replaced" not in chain_events(url), what="the end of the event")
        assert "group berlin" in chain_events(url)


def test_a_locked_or_damaged_archive_is_a_sentence(scene: RoomScene) -> None:
    """While another program locks the archive, the room still answers.

    A room with a damaged archive does not start.
    """
    path = scene.setup.settings.folder / ARCHIVE_NAME
    with running_room(scene.setup) as url:
        eventually(lambda: "2 followed" in get(url), what="the logs")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        text = get(url, "/sign-in")
        assert "With the command" in text
        other.execute("ROLLBACK")
        other.close()
        assert "devices registered" in get(url)
    path.write_bytes(b"\0" * 4096)
    with pytest.raises(Exception, match=r"is damaged|another program"), running_room(scene.setup):
        pass


def test_requests_come_from_the_database_of_the_cloud(scene: RoomScene, tmp_path: Path) -> None:
    """The page counts the accepted requests in the cloud's database.

    While the database is missing, the page shows the last count and the outage.
    """
    now = int(time.time())
    with CloudDatabase.at("sqlite:///cloud.db", folder=tmp_path) as database:
        database.migrate()
        readings = (SensorReading("256", now, "temperature", 20.5, "Cel"),)
        accepted = [AcceptedRequest(b"%d" % one, GATEWAY.uuid, UUID(int=7), now, readings) for one in range(5)]
        with database.writing() as connection:
            write_requests(connection, accepted, cloud=UUID(int=8), now=now)
    settings = replace(scene.setup.settings, database="sqlite:///cloud.db", beside=tmp_path)
    with running_room(replace(scene.setup, settings=settings)) as url:
        eventually(lambda: "<b>5</b><span>accepted in the last hour" in get(url, "/requests"), what="the counts")
        [link] = re.findall(r'<a href="(/requests/[^"]+)">5</a>', get(url, "/requests"))
        proofs = re.findall(rf'href="({link}/[0-9]+)"', get(url, link))
        assert [get(url, one) for one in proofs] == ["4", "3", "2", "1", "0"]
        assert "no request of this gateway" in get(url, f"/requests/{UUID(int=7)}")
        assert "does not have it" in get(url, f"/requests/{UUID(int=7)}/1")
        assert "does not have it" in get(url, f"{link}/999")
        for file in tmp_path.glob("cloud.db*"):
            file.unlink()
        (tmp_path / "cloud.db").mkdir()
        eventually(lambda: "cannot be read now" in get(url, "/requests"), what="the report of the outage")
        assert "cannot be used" in get(url, link)
        assert "<b>5</b><span>accepted in the last hour" in get(url, "/requests")


def test_a_host_that_does_not_answer_delays_no_other_page(scene: RoomScene) -> None:
    """Other pages are shown while many viewers wait for a log server that does not answer."""
    with running_room(scene.setup) as url:
        eventually(lambda: "2 followed" in get(url), what="the logs")
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent, ThreadPoolExecutor(60) as viewers:
        logs = {**scene.setup.settings.logs, GATEWAY.uuid: f"http://127.0.0.1:{silent.getsockname()[1]}"}
        setup = replace(scene.setup, settings=replace(scene.setup.settings, logs=logs))
        with running_room(setup) as url:
            proofs = [viewers.submit(get, url, f"/entries/{GATEWAY.uuid}/0") for _ in range(60)]
            eventually(lambda: sum(one.done() for one in proofs) >= 40, what="the refusals")
            assert "devices registered" in get(url)
            refused = [one.result() for one in proofs if one.done()]
            assert [text[:3000] for text in refused if "too many viewers wait" not in text] == []
            silent.close()


def test_a_host_that_does_not_answer_delays_no_other_log(scene: RoomScene) -> None:
    """A new entry of one log is shown while the room still waits for the checkpoint of another log."""
    lines = list[str]()
    keeper = KINDS["validator"].uuid
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(DEADLINE)
        logs = {keeper: f"http://127.0.0.1:{silent.getsockname()[1]}", **scene.setup.settings.logs}
        setup = replace(scene.setup, settings=replace(scene.setup.settings, logs=logs))
        with running_room(setup, lines) as url:
            waiting, _ = silent.accept()
            with waiting:
                scene.gateway.state(EntryKind.WARNING, "written meanwhile", time=int(time.time()))
                scene.gateway.publish()
                eventually(lambda: "written meanwhile" in get(url, "/warnings"), what="the entry")
                assert not [line for line in lines if str(keeper) in line]
