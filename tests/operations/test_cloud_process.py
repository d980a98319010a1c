"""Tests of ``blockota cloud`` as a process: its commands, its end by SIGTERM, and its data after a kill."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path

import pytest

from blockota.chain.local import free_port
from blockota.errors import UsageError
from blockota.identity.sending import Parcel
from blockota.operations.cloud_settings import check_place, load_cloud, open_database
from tests.support import forks
from tests.support.city import City
from tests.support.clouds import CLOUD, VALIDATOR, CloudRun, cloud_process, running_cloud, signer_of, write_cloud
from tests.support.foreign_requests import data
from tests.support.validators import HOST, ValidatorClient, running_validator, write_validator
from tests.support.waiting import eventually

KILL_AFTER = 30
"""The number of acknowledged requests after which the cloud is killed."""


def blockota(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    return forks.run(["-m", "blockota", *words], folder=folder)


def test_a_kill_loses_no_acknowledged_request(city: City, tmp_path: Path) -> None:
    """After a kill during writes, the restarted cloud has all acknowledged requests, and stores repeated requests."""
    config = write_cloud(city, tmp_path)
    gateway, validator = signer_of("gateway", tmp_path), signer_of("validator", tmp_path)
    acknowledged, pending = set[str](), dict[str, bytes]()

    def send(run: CloudRun, first: int) -> None:
        client = ValidatorClient(run.url, run.authority)
        for number in range(first, first + 10_000):
            now = int(time.time())
            text = gateway.request(Parcel("submit", data(number)), receiver=VALIDATOR, now=now).decode()
            raw = validator.request(Parcel("store", {"requests": [text]}), receiver=CLOUD, now=now)
            pending[text] = raw
            try:
                answer = client.post(raw)
            except (OSError, HTTPException):  # the cloud was killed
                return
            assert answer["result"] == {"stored": 1}, answer
            acknowledged.add(text)
            del pending[text]

    with cloud_process(config) as (process, run):
        threads = [threading.Thread(target=send, args=(run, 10_000 * number)) for number in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(acknowledged) >= KILL_AFTER, what="acknowledged requests")
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
    with sqlite3.connect(tmp_path / "cloud.db") as file:
        stored = {raw.decode() for (raw,) in file.execute("SELECT raw FROM request")}
    assert acknowledged <= stored

    assert pending
    with cloud_process(config) as (_, run):
        for raw in pending.values():
            answer = run.post(raw)
            assert "result" in answer or answer["error"]["data"]["fault"] == "SEEN", answer
    with sqlite3.connect(tmp_path / "cloud.db") as file:
        found = [raw.decode() for (raw,) in file.execute("SELECT raw FROM request")]
    assert acknowledged | set(pending) <= set(found)
    assert len(found) == len(set(found))


def test_it_shows_its_state_and_stops(city: City, tmp_path: Path) -> None:
    """/health, /metrics and `status` show the same state; SIGTERM ends the process with status 0."""
    port = free_port()
    config = write_cloud(city, tmp_path, listen=f"{HOST}:{port}")
    with cloud_process(config) as (process, run):
        gateway, validator = signer_of("gateway", tmp_path), signer_of("validator", tmp_path)
        now = int(time.time())
        text = gateway.request(Parcel("submit", data(1.5)), receiver=VALIDATOR, now=now).decode()
        run.post(validator.request(Parcel("store", {"requests": [text]}), receiver=CLOUD, now=now))
        run.post(b"{}")

        def health() -> dict[str, object]:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health") as answer:
                found: dict[str, object] = json.loads(answer.read())
                return found

        state = eventually(lambda: found if (found := health())["status"] == "serving" else None, what="the state")
        assert state
        assert (state["accepted"], state["stored"], state["readings"]) == (1, 1, 1)
        assert state["refused"] == {"NOT_A_REQUEST": 1}
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics") as answer:
            metrics = answer.read().decode()
        assert "blockota_cloud_stored_readings_total 1" in metrics
        assert 'blockota_cloud_refused_requests_total{fault="NOT_A_REQUEST"} 1' in metrics
        shown = blockota(tmp_path, "cloud", "status", "--json")
        assert shown.returncode == 0, shown.stderr
        fields = json.loads(shown.stdout)
        assert (fields["running"], fields["requests"], fields["readings"]) == (True, 1, 1)
        again = blockota(tmp_path, "cloud", "run")
        assert again.returncode == 3, again.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not json.loads(blockota(tmp_path, "cloud", "status", "--json").stdout)["running"]


def test_readings_reach_the_cloud_through_a_validator(city: City, tmp_path: Path) -> None:
    """A reading that a gateway submits to a validator arrives in the cloud's database, also after an outage."""
    (tmp_path / "cloud").mkdir()
    (tmp_path / "validator").mkdir()
    port = free_port()
    config = write_cloud(city, tmp_path / "cloud")
    config.write_text(config.read_text().replace(f'"{HOST}:0"', f'"{HOST}:{port}"', 1))
    authority = tmp_path / "cloud" / "cloud" / "authority.pem"
    table = f'\n[validator.cloud]\nidentity = "{CLOUD}"\nurl = "https://{HOST}:{port}"\nauthority = "{authority}"\n'
    edge = write_validator(city, tmp_path / "validator")
    edge.write_text(edge.read_text() + table)
    gateway = signer_of("gateway", tmp_path)

    def arrived(value: float) -> bool:
        with sqlite3.connect(tmp_path / "cloud" / "cloud.db") as file:
            return bool(file.execute("SELECT 1 FROM reading WHERE value = ?", (value,)).fetchall())

    with running_validator(city, edge) as run:

        def submit(value: float) -> None:
            client = run.client()
            raw = gateway.request(Parcel("submit", data(value)), receiver=VALIDATOR, now=int(time.time()))
            assert "result" in client.post(raw)
            client.close()

        submit(1.0)  # the cloud does not run yet
        with running_cloud(city, config):
            eventually(lambda: arrived(1.0), what="the reading of the outage")
            submit(2.0)
            eventually(lambda: arrived(2.0), what="the reading")


@pytest.mark.parametrize("package", ["sqlalchemy", "joserfc"])
def test_a_missing_extra_is_named(city: City, tmp_path: Path, package: str) -> None:
    """If a library of an extra is not installed, the command exits with status 2 and names the extra."""
    write_cloud(city, tmp_path)
    program = f"import sys; sys.modules[{package!r}] = None; from blockota.cli.main import main; main()"
    words = ["cloud", "run"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'blockota[operations]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_reading_commands_do_not_load_the_extra() -> None:
    """Importing the library, or a command that only reads a chain, does not import SQLAlchemy."""
    program = (
        "import sys, blockota.cli.release, blockota.cli.order, blockota.operations.ordering; "
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_password_is_not_taken_from_the_command_line(tmp_path: Path) -> None:
    """A database URL with a password is refused as an option, and accepted from a file or an environment variable."""
    done = blockota(tmp_path, "cloud", "init", "--database", "postgresql://blockota:geheim@db1/blockota")
    assert done.returncode == 2
    assert "geheim" not in done.stdout + done.stderr
    assert not (tmp_path / "blockota.toml").exists()
    with pytest.raises(UsageError):
        check_place("postgresql://db1/blockota?password=geheim")
    url = "postgresql://blockota:geheim@db1,db2:5433/blockota"
    (tmp_path / "url").write_text(f"{url}\n")
    for place in ("file:url", "env:DATABASE", url):
        with open_database(place, folder=tmp_path, environment={"DATABASE": url}) as database:
            assert database.place == "postgresql://db1,db2:5433/blockota"
    with pytest.raises(UsageError, match="the variable is not set"):
        open_database("env:OTHER", folder=tmp_path, environment={})


def test_init_writes_settings_that_can_be_read(tmp_path: Path) -> None:
    """`init` writes complete settings, and a second `init` changes nothing."""
    done = blockota(tmp_path, "cloud", "init", "--json", "--host", HOST)
    assert done.returncode == 0, done.stderr
    fields = json.loads(done.stdout)
    settings = load_cloud(tmp_path / "blockota.toml", environment={})
    assert str(settings.identity) == fields["identity"]
    assert settings.port.certificate == tmp_path / "cloud" / "server.pem"
    assert not (tmp_path / "cloud" / "identity.pem").exists()
    before = (tmp_path / "blockota.toml").read_bytes()
    assert b"identity_key" not in before
    assert blockota(tmp_path, "cloud", "init").returncode == 2
    assert (tmp_path / "blockota.toml").read_bytes() == before
