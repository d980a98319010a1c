"""`blockota log verify` prints what a receipt proves, and opens no network connection."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from blockota.cli.main import run
from blockota.ledger.log import TileLog
from blockota.model.proof_file import Anchor, ProofFile
from blockota.model.receipt import EntryKind
from tests.conftest import ROOT
from tests.stories.pages import commands, missing
from tests.support.receipts import DEVICE, MemoryLog, SigningDevice, install, signed_install, trust_table

SIGNER = SigningDevice()
EVENT = install(kind=EntryKind.EVENT, level=None, release=None, image=None, source="check 9 failed")
LOG = MemoryLog([signed_install(SIGNER).encode(), install(device=0).encode(), EVENT.encode()])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with trusted keys and proof files; sockets cannot be opened."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.chdir(tmp_path)
    Path("log.toml").write_text(trust_table(LOG.keys()))
    Path("blockota.toml").write_text(trust_table(LOG.keys(device300=SIGNER.key)))
    for index, name in enumerate(("signed", "board", "event")):
        Path(f"{name}.json").write_bytes(LOG.prove(index, Anchor(1337, 812, 3)).to_json())
    return tmp_path


def test_the_screen_says_what_a_receipt_proves(capsys: pytest.CaptureFixture[str]) -> None:
    """The output names the device, the release, the signers, the witnesses and the evidence level.

    The output also states that the anchor was not checked.
    """
    assert run(["log", "verify", "signed.json"]) == 0
    out = capsys.readouterr().out
    for words in (
        f"device     {DEVICE}, unique id",
        "acme-thermo2 1.1.0, of the contract",
        "keeper     8f14e45f-ceea-467f-a8a0-c2d5b1e7d301\n",
        f"the log's key {LOG.signer.key.key_id.hex()}, for 3 entries",
        "2 of 2 trusted ones, quorum 2: witness0.example on 2026-11-18 11:07:40 UTC",
        "level A: the device signed",
        "not checked (the file names block 812 of chain 1337)",
        "✓ device 300 ran acme-thermo2 1.1.0",
    ):
        assert words in out
    assert len(out.splitlines()) <= 24


def test_the_page_shows_this_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """The output that docs/ledger.md shows equals the command's output."""
    Path("RECEIPT.json").write_bytes(Path("signed.json").read_bytes())
    Path("trust.toml").write_bytes(Path("blockota.toml").read_bytes())
    [(command, lines)] = commands(ROOT / "docs" / "ledger.md", end="### The keys")
    assert run(command.split()[1:]) == 0
    assert not missing(lines, capsys.readouterr().out)


def test_a_signature_that_is_not_checked_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a trusted key of the device, the receipt has level B, and the output contains the reason."""
    assert run(["log", "verify", "signed.json", "--trust", "log.toml"]) == 0
    out = capsys.readouterr().out
    assert "level B" in out
    assert "no key of device 300 is trusted" in out


def test_boards_without_a_number_and_events_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """An unregistered board is shown by its unique id, and an event by its text."""
    assert run(["log", "verify", "board.json"]) == 0
    assert "device     not registered, unique id 48ff6f064951325712260187" in capsys.readouterr().out
    assert run(["log", "verify", "event.json"]) == 0
    out = capsys.readouterr().out
    assert "text       check 9 failed" in out
    assert "✓ the log has this event" in out


def test_the_json_object_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` prints the entry, the checkpoint, the witnesses and the evidence.

    The JSON object also states that the anchor was not checked.
    """
    assert run(["log", "verify", "signed.json", "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["entry"]["product"] == "acme-thermo2"
    assert (fields["index"], fields["checkpoint"]["size"], len(fields["witnesses"])) == (0, 3, 2)
    assert (fields["evidence"]["level"], fields["evidence"]["isSigned"]) == ("A", True)
    assert fields["remarks"] == []
    assert fields["anchor"] == {"checked": False, "chainId": 1337, "block": 812, "size": 3, "proof": []}


def test_the_keeper_makes_the_file_of_a_receipt(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``log receipt`` writes a file that ``log verify`` accepts.

    ``log receipt`` refuses the index of an entry that is not published, and does not overwrite a file.
    """
    log = TileLog(folder / "log")
    log.append([install().encode(), EVENT.encode()])
    log.publish(LOG.signer)
    assert run(["log", "receipt", "1", "--log", "log", "-o", "RECEIPT.json"]) == 0
    assert "proves the entry 1 (event), without an anchor" in capsys.readouterr().out
    Path("keeper.toml").write_text(f'[trust]\nlogs = ["{LOG.signer.key}"]\n')
    assert run(["log", "verify", "RECEIPT.json", "--trust", "keeper.toml"]) == 0
    assert run(["log", "receipt", "1", "--log", "log", "-o", "RECEIPT.json"]) == 2  # the file exists
    assert run(["log", "receipt", "2", "--log", "log", "-o", "second.json"]) == 3
    refusal = capsys.readouterr().err
    assert "has not published the entry 2" in refusal
    assert "Name an entry below 2, or publish a checkpoint first if the entry is newer" in refusal
    assert run(["log", "receipt", "0", "-o", "third.json"]) == 3  # the log of the settings is empty


def test_a_receipt_that_proves_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A forged receipt gives exit status 3.

    A missing trusted key, or a file that is not a receipt, makes the exit status 2.
    """
    spoiled = ProofFile.from_json(Path("signed.json").read_bytes()).to_json().replace(b"index 0", b"index 1")
    Path("spoiled.json").write_bytes(spoiled)
    assert run(["log", "verify", "spoiled.json"]) == 3
    assert "forged or damaged" in capsys.readouterr().err
    Path("empty.toml").write_text("")
    assert run(["log", "verify", "signed.json", "--trust", "empty.toml"]) == 2
    assert "--trust FILE" in capsys.readouterr().err
    assert run(["log", "verify", "missing.json"]) == 2
    assert run(["log", "verify", "empty.toml"]) == 2
    assert "not a proof of a log entry" in capsys.readouterr().err
