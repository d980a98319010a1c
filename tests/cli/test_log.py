"""The `blockota log` commands append to a log, publish and anchor the log, and check its files."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests

from blockota.bindings.contract import create
from blockota.bindings.identities import enrolment_argument
from blockota.chain import Chain
from blockota.cli.main import run
from blockota.formats.abi import interface
from blockota.formats.notes import Note, VerifierKey
from blockota.ledger.log import TileLog
from blockota.model.receipt import EntryKind, LogEntry
from tests.conftest import Cast
from tests.support import forks
from tests.support.identities import enrolment_of
from tests.support.logs import entries_of, note_signer
from tests.support.scraping import scrape
from tests.support.waiting import eventually
from tests.support.witness import SIGNER, witness_server

KEEPER = UUID("8f14e45f-ceea-467f-a8a0-c2d5b1e7d301")
ORIGIN = f"city.example/gateway/{KEEPER.hex}"
SECRET = (bytes([1]) * 32).hex()
KEY = note_signer(ORIGIN).key


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with settings for a log; the log's key is in an environment variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOG_KEY", SECRET)
    Path("blockota.toml").write_text(f'[log]\nfolder = "log"\norigin = "{ORIGIN}"\nkey = "env:LOG_KEY"\n')
    return tmp_path


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs a command with --json, and returns its exit status and its JSON object."""

    def ask(*words: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        status = run([*words, "--json"])
        return status, json.loads(capsys.readouterr().out)

    return ask


def test_entries_are_appended_published_and_checked(answer: Any, folder: Path) -> None:
    """`log append` prints the index of an event and of a file.

    The checkpoint covers both entries, and `fsck` finds no fault.
    """
    entry = LogEntry(EntryKind.WARNING, time=1_800_000_000, gateway=KEEPER, source="check 9 failed")
    (folder / "entry.cbor").write_bytes(entry.encode())
    assert answer("log", "append", "entry.cbor", "--event", "door opened")[1]["indices"] == [0, 1]
    assert answer("log", "append", "entry.cbor")[1]["indices"] == [0]
    status, found = answer("log", "checkpoint")
    assert (status, found["size"], found["key"], found["witnesses"]) == (0, 2, str(KEY), [])
    status, checked = answer("log", "fsck")
    assert (status, checked["size"], checked["root"], checked["key"]) == (0, 2, found["root"], str(KEY))
    event = LogEntry.decode([*TileLog(folder / "log").entries()][1])
    assert (event.kind, event.gateway, event.source) == (EntryKind.EVENT, KEEPER, "door opened")


def test_wrong_entries_are_not_appended(answer: Any, folder: Path) -> None:
    """`log append` exits with status 2, and appends nothing, if an entry or an event is not acceptable.

    The cases are a text file, a foreign entry, an event with a line break, no argument and a missing file.
    """
    (folder / "text").write_text("no entry")
    status, found = answer("log", "append", "text", "--event", "x")
    assert (status, found["error"]["what"]) == (2, "text is not a log entry")
    status, found = answer("log", "append", "--event", "x", "--event", "two\nlines")
    assert (status, "cannot be printed" in found["error"]["why"]) == (2, True)
    for gateway in (UUID(int=7), None):
        stranger = LogEntry(EntryKind.EVENT, time=1, gateway=gateway, source="x")
        (folder / "stranger").write_bytes(stranger.encode())
        assert answer("log", "append", "stranger")[0] == 2
    assert answer("log", "append")[0] == 2
    assert answer("log", "append", "missing")[0] == 2
    assert len(TileLog(folder / "log")) == 0


def test_the_public_key_is_printed_and_a_new_one_is_made(answer: Any, folder: Path) -> None:
    """`log key` prints the log's key in the formats for readers, witnesses and enrolment.

    A new log key never replaces an existing key file.
    """
    status, found = answer("log", "key")
    assert (status, VerifierKey.parse(found["key"]), found["logKey"]) == (0, KEY, KEY.key.hex())
    assert answer("log", "key", "--new")[0] == 2

    settings = folder / "blockota.toml"
    settings.write_text(settings.read_text().replace("env:LOG_KEY", "file:keys/log.pem"))
    status, found = answer("log", "checkpoint")
    assert (status, "log key --new" in found["error"]["remedy"]) == (2, True)
    status, made = answer("log", "key", "--new")
    assert (status, answer("log", "key")[1]) == (0, made)
    assert answer("log", "key", "--new")[0] == 2


def test_witnesses_are_asked_and_reported(answer: Any, folder: Path) -> None:
    """A checkpoint is published even if a witness does not sign it.

    If the witness has seen another history, the checkpoint is not published.
    """
    with witness_server(KEY) as server:
        with (folder / "blockota.toml").open("a") as file:
            file.write(f'[log.witnesses]\n"{SIGNER.key}" = "{server.url}"\n')
        answer("log", "append", "--event", "a")
        status, found = answer("log", "checkpoint")
        assert (status, found["witnesses"]) == (0, [{"name": SIGNER.key.name, "signed": True, "why": ""}])
        server.answer = (500, "")
        status, found = answer("log", "checkpoint")
        assert (status, found["witnesses"][0]["signed"]) == (0, True)  # its signature from before
        answer("log", "append", "--event", "b")
        status, found = answer("log", "checkpoint")
        assert (status, found["witnesses"][0]["signed"], found["size"]) == (0, False, 2)
        server.answer = None
        (folder / "log").rename(folder / "lost")
        answer("log", "append", "--event", "c")
        status, found = answer("log", "checkpoint")
        assert (status, "another history" in found["error"]["what"]) == (3, True)
    assert TileLog(folder / "log").published.note() is None


def test_fsck_of_another_log_takes_the_key_from_trust(answer: Any, folder: Path) -> None:
    """`log fsck` of a named folder requires a checkpoint that a trusted key signed."""
    log = TileLog(folder / "other")
    log.append(entries_of(0, 300))
    log.publish(note_signer("other.example"))
    assert answer("log", "fsck", "other")[0] == 2  # no log is trusted
    (folder / "trust.toml").write_text(f'[trust]\nlogs = ["{note_signer("other.example").key}"]\n')
    assert answer("log", "fsck", "other", "--trust", "trust.toml")[0] == 0
    (folder / "trust.toml").write_text(f'[trust]\nlogs = ["{KEY}"]\n')
    assert answer("log", "fsck", "other", "--trust", "trust.toml")[0] == 3
    assert answer("log", "fsck", "nowhere", "--trust", "trust.toml")[0] == 3


def test_the_log_is_anchored(
    answer: Any, folder: Path, anvil: Chain, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`log anchor` covers the entries in full tiles by default, and all published entries with `--all`."""
    registry = create(anvil, cast.payer, "IdentityRegistry", cast.payer.address)[0]
    ledger = create(anvil, cast.payer, "UpdateLedger", registry, registry)[0]
    enrolment = enrolment_of(2, account=cast.technician.address)
    enrolment = replace(enrolment, keys=replace(enrolment.keys, log_key=KEY.key))
    call = interface("IdentityRegistry").encode_call("enrol", enrolment_argument(enrolment))
    anvil.send(cast.payer, call, to=registry)
    for name, value in {
        "URL": anvil.url,
        "CHAIN_ID": str(anvil.chain_id),
        "IDENTITIES": registry,
        "LEDGER": ledger,
        "CONFIRMATIONS": "0",
    }.items():
        monkeypatch.setenv(f"BLOCKOTA_{name}", value)
    monkeypatch.setenv("ACCOUNT", cast.technician.key.hex())
    log = TileLog(folder / "log")
    log.append(entries_of(0, 300))
    assert answer("log", "anchor", "--key", "env:ACCOUNT")[0] == 3  # nothing is published
    answer("log", "checkpoint")
    status, found = answer("log", "anchor", "--key", "env:ACCOUNT")
    assert (status, found["size"], found["anchoredBefore"], found["uuid"]) == (0, 256, 0, str(enrolment.uuid))
    status, found = answer("log", "anchor", "--key", "env:ACCOUNT")
    assert (status, found["size"], found["block"]) == (0, 256, None)
    status, found = answer("log", "anchor", "--all", "--key", "env:ACCOUNT")
    assert (status, found["size"], found["root"]) == (0, 300, log.published.head().root.hex())


def test_a_log_is_served(folder: Path) -> None:
    """The server sends only published files, with their media types and caching rules. It ends on SIGTERM.

    The reason why a file cannot be read is written only into the access log.
    """
    log = TileLog(folder / "log")
    log.append(entries_of(0, 300))
    note = log.publish(note_signer(ORIGIN))
    log.append(entries_of(300, 301))
    with forks.started(
        ["-m", "blockota", "log", "serve", "log", "--listen", "127.0.0.1:0", "--access-log", "access.log", "--json"],
        folder=folder,
    ) as server:
        lines = [server.stdout.readline() for _ in range(4)]
        url = json.loads("".join(lines))["url"]
        with requests.Session() as client:
            found = client.get(f"{url}/checkpoint", timeout=60)
            assert Note.parse(found.content) == note
            assert found.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert found.headers["Cache-Control"] == "public, max-age=1"
            tile = client.get(f"{url}/tile/0/001.p/44", timeout=60)
            assert tile.content == (folder / "log/tile/0/001.p/44").read_bytes()
            assert (tile.headers["Content-Type"], "immutable" in tile.headers["Cache-Control"]) == (
                "application/octet-stream",
                True,
            )
            bundle = client.get(f"{url}/tile/entries/000", timeout=60)
            assert bundle.content == (folder / "log/tile/entries/000").read_bytes()
            assert client.get(tile.url, headers={"If-None-Match": tile.headers["ETag"]}, timeout=60).status_code == 304
            assert client.head(tile.url, timeout=60).headers["Content-Length"] == "1408"
            assert client.get(f"{url}/health", timeout=60).json() == {"status": "serving", "entries": 300}
            for path in (
                "lock",
                f"pending/{300:015}-1",
                "tile/0/001.p/9",
                "tile/0/000.p/5",
                "",
                "tile/0/%2e%2e/%2e%2e/lock",
            ):
                assert client.get(f"{url}/{path}", timeout=60).status_code == 404
            assert client.post(f"{url}/checkpoint", timeout=60).status_code == 405
            (folder / "log/checkpoint").write_text("damaged")
            spoiled = client.get(f"{url}/checkpoint", timeout=60)
            assert (spoiled.status_code, str(folder) in spoiled.text) == (HTTPStatus.INTERNAL_SERVER_ERROR, False)
            assert client.head(f"{url}/health", timeout=60).status_code == HTTPStatus.INTERNAL_SERVER_ERROR
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    records = map(json.loads, (folder / "access.log").read_text().splitlines())
    troubles = [one["trouble"] for one in records if one.get("status") == HTTPStatus.INTERNAL_SERVER_ERROR]
    assert ["not a signed note" in one for one in troubles] == [True, True]


def test_a_served_log_has_metrics(folder: Path) -> None:
    """Metrics are served at an address of their own, and count the responses by status."""
    log = TileLog(folder / "log")
    log.append(entries_of(0, 300))
    log.publish(note_signer(ORIGIN))
    place = ("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--access-log", "access.log", "--json")
    with forks.started(["-m", "blockota", "log", "serve", "log", *place], folder=folder) as server:
        fields = json.loads("".join(server.stdout.readline() for _ in range(5)))
        for path, status in (("checkpoint", 200), ("tile/entries/000", 200), ("lock", 404), ("metrics", 404)):
            assert requests.get(f"{fields['url']}/{path}", timeout=60).status_code == status
        # An answer is counted after its last byte, so that the client may be faster.
        eventually(lambda: scrape(fields["metrics"]).get("blockota_log_requests_total 404") == 2, what="the count")
        found = scrape(fields["metrics"])
        assert (found["blockota_log_requests_total 200"], found["blockota_log_published_entries"]) == (2, 300)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
