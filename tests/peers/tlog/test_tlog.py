"""Other programs read and cosign BlockOTA's logs: Go's sumdb/tlog, Tessera's fsck, and the witness litewitness."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from blockota.chain.local import free_port
from blockota.errors import ContentError, RefusedError
from blockota.formats.notes import Note, NoteAlgorithm, NoteSigner, VerifierKey
from blockota.formats.tlog import EMPTY_TREE, ReadNode
from blockota.ledger.fsck import check_log
from blockota.ledger.log import TileLog
from blockota.ledger.witnesses import Witness, ask_witnesses
from scripts.go_programs import GO
from scripts.peers import find_program
from tests.support import forks
from tests.support.logs import ORIGIN, entries_of, note_signer
from tests.support.waiting import eventually

KEY = note_signer()
SIZES = (1, 255, 256, 1000, 5000)
WITNESS = "witness.example/lite"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> TileLog:
    """Return a log of 5,000 entries with several checkpoints."""
    found = TileLog(tmp_path_factory.mktemp("log"))
    for size in SIZES:
        found.append(entries_of(len(found), size))
        found.publish(KEY)
    return found


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program in ``reader/``, and return its path."""
    target = tmp_path_factory.mktemp("go") / "reader"
    subprocess.run([GO, "build", "-o", str(target), "./reader"], cwd=Path(__file__).parent, check=True)
    return target


def test_go_finds_the_same_entries_and_proofs(log: TileLog, reader: Path) -> None:
    """Go's reader verifies the checkpoint and every tile. Go's reader computes the same proofs as BlockOTA."""
    indices = (0, 1, 255, 256, 4321, 4999)
    for earlier in SIZES:
        done = subprocess.run(
            [reader, log.folder, str(KEY.key), str(earlier), *map(str, indices)], capture_output=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        head = log.published.head()
        assert (found["origin"], found["size"], found["root"]) == (ORIGIN, head.size, head.root.hex())
        assert found["earlierRoot"] == log.published.head_at(earlier).root.hex()
        assert found["consistency"] == [one.hex() for one in log.published.prove_consistency(earlier, head.size)]
        for one in found["inclusion"]:
            proof = log.published.prove_inclusion(one["index"])
            assert (one["entry"], one["path"]) == (proof.entry.hex(), [node.hex() for node in proof.path])


def test_go_refuses_a_changed_log(log: TileLog, reader: Path, tmp_path: Path) -> None:
    """Go's reader refuses a changed tile and another key, as BlockOTA does."""
    spoiled = copy_of(log, tmp_path)
    flip(spoiled.folder / "tile" / "1" / "000.p" / "19")
    assert subprocess.run([reader, spoiled.folder, str(KEY.key), "1", "0"], capture_output=True, check=False).returncode
    with pytest.raises(ContentError):
        check_log(spoiled.published)
    other = str(note_signer(seed=2).key)
    assert subprocess.run([reader, log.folder, other, "1", "0"], capture_output=True, check=False).returncode


def copy_of(log: TileLog, folder: Path) -> TileLog:
    """Copy a log."""
    subprocess.run(["cp", "-r", log.folder, folder / "copy"], check=True)
    return TileLog(folder / "copy")


def flip(path: Path) -> None:
    """Change the last bit of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def tessera_fsck(place: str, folder: Path, *, timeout: float = 60) -> str:
    """Return the output of Tessera's fsck for a log.

    After an error, Tessera's fsck runs until the timeout, so this function reads its output and not its exit status.
    """
    (folder / "key").write_text(str(KEY.key))
    command = [find_program("fsck"), "--ui=false", f"--storage_url={place}", f"--public_key={folder / 'key'}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired as stopped:
        return (stopped.stderr or b"").decode()
    return done.stderr


def test_tessera_checks_our_log(log: TileLog, tmp_path: Path) -> None:
    """Tessera's fsck finds that all files are consistent, both in the folder and over HTTP."""
    size = f"Successfully fsck'd log with size {SIZES[-1]}"
    assert size in tessera_fsck(f"file://{log.folder}/", tmp_path)
    command = ["-m", "blockota", "log", "serve", str(log.folder), "--listen", "127.0.0.1:0"]
    with forks.started(command, folder=tmp_path) as server:
        url = server.stdout.readline().split()[-1]
        assert size in tessera_fsck(f"{url}/", tmp_path)
        server.kill()


@pytest.mark.parametrize("path", ["tile/entries/007", "tile/0/019.p/136"])
def test_tessera_finds_what_we_find(log: TileLog, tmp_path: Path, path: str) -> None:
    """Both Tessera's fsck and BlockOTA's fsck find a changed entry or tile."""
    spoiled = copy_of(log, tmp_path)
    flip(spoiled.folder / path)
    assert "Successfully" not in tessera_fsck(f"file://{spoiled.folder}/", tmp_path, timeout=10)
    with pytest.raises(ContentError):
        check_log(spoiled.published)


def publish(log: TileLog, signer: NoteSigner, witness: Witness) -> tuple[Note, list[str]]:
    """Publish a log, and return the checkpoint and the reasons why the witness did not sign it."""
    reasons: list[str] = []

    def ask(note: Note, read_node: ReadNode) -> Note:
        return ask_witnesses([witness], note, read_node, report=lambda _, why: reasons.append(why))

    return log.publish(signer, cosign=ask), reasons


@contextmanager
def ssh_agent(folder: Path) -> Iterator[tuple[Path, str, bytes]]:
    """Run an agent with a new Ed25519 key, and yield its socket, the key's fingerprint and the public key."""
    key, socket = folder / "key", folder / "agent"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", key], capture_output=True, text=True, check=True).stdout
    private = load_ssh_private_key(key.read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        eventually(socket.exists)
        environment = {"SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", key], check=True, env=environment, stdin=subprocess.DEVNULL)
        yield socket, shown.split()[1], private.public_key().public_bytes_raw()
        agent.terminate()


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Witness]:
    """Run litewitness with BlockOTA's log in its list."""
    folder, port = tmp_path / "witness", free_port()
    folder.mkdir()
    with sqlite3.connect(folder / "db") as database:  # witnessctl, which does this, cannot be built without Sigsum
        database.executescript(
            """
            CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL);
            CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin));
            """
        )
        root = base64.b64encode(EMPTY_TREE.root).decode()
        database.execute("INSERT INTO log VALUES (?, 0, ?)", (ORIGIN, root))
        database.execute("INSERT INTO key VALUES (?, ?)", (ORIGIN, str(KEY.key)))
    database.close()
    with ssh_agent(folder) as (socket, fingerprint, public):
        words = ["-name", WITNESS, "-db", str(folder / "db"), "-ssh-agent", str(socket), "-key", fingerprint]
        command = [find_program("litewitness"), *words, "-listen", f"127.0.0.1:{port}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            lines = iter(process.stderr.readline, "")
            assert any("listening" in line for line in lines)
            key = VerifierKey(WITNESS, NoteAlgorithm.COSIGNATURE, public)
            yield Witness(key, f"http://127.0.0.1:{port}")
            process.kill()


def test_litewitness_cosigns_a_growing_log_and_refuses_a_fork(lite: Witness, tmp_path: Path) -> None:
    """Each checkpoint gets a valid cosignature.

    A different history of the same log gets no cosignature, at any size.
    """
    log = TileLog(tmp_path / "log")
    for size in (1, 5, 300, 1000):
        log.append(entries_of(len(log), size))
        note, reasons = publish(log, KEY, lite)
        assert note.cosigned_at(lite.key)
        assert (log.published.note(), reasons) == (note, [])
    for size in (999, 1000, 1400):
        fork = TileLog(tmp_path / f"fork{size}")
        fork.append([b"other", *entries_of(1, size)])
        with pytest.raises(RefusedError, match="has seen another history"):
            publish(fork, KEY, lite)
        assert fork.published.note() is None


def test_litewitness_does_not_know_other_logs(lite: Witness, tmp_path: Path) -> None:
    """A log that the witness does not have in its list is published without the witness's signature.

    The reason is reported.
    """
    log = TileLog(tmp_path / "log")
    log.append(entries_of(0, 5))
    _, reasons = publish(log, note_signer("other.example"), lite)
    assert "does not know the log" in "".join(reasons)
