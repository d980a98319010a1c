"""The commands ``key new`` and ``key address``, from a new keystore to the address for the vendor."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blockota.cli.main import run
from blockota.keys import dev_account

PASSWORD = "correct horse"  # noqa: S105 - opens only the keystores that this file creates


@contextmanager
def descriptor(text: str) -> Iterator[str]:
    """Yield the number of a file descriptor from which a text can be read."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    yield str(reader)
    os.close(reader)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_key_is_a_keystore_that_only_its_password_opens(capsys: pytest.CaptureFixture[str]) -> None:
    """The keystore uses scrypt, is readable only for its owner, and `key address` prints the address that was shown."""
    with descriptor(f"{PASSWORD}\n") as number:
        assert run(["key", "new", "keystore:alice.json", "--password-fd", number, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    path = Path("alice.json")
    assert made["key"] == "keystore:alice.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = json.loads(path.read_text())
    assert (kept["version"], kept["crypto"]["kdf"], kept["crypto"]["kdfparams"]["n"]) == (3, "scrypt", 1 << 18)
    with descriptor(PASSWORD) as number:
        assert run(["key", "address", "keystore:alice.json", "--password-fd", number]) == 0
    assert capsys.readouterr().out == f"{made['address']}\n"


def test_an_existing_file_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a file nor a link that leads nowhere is overwritten, and no password is asked for."""
    (folder / "alice.json").write_text("precious")
    (folder / "link.json").symlink_to(folder / "away.json")
    for name in ("alice.json", "link.json", "missing/alice.json"):
        assert run(["key", "new", name]) == 2
        assert f"{name} cannot be written" in capsys.readouterr().err
    assert (folder / "alice.json").read_text() == "precious"
    assert not (folder / "away.json").exists()


def test_a_password_is_never_an_argument(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal and a file descriptor there is no key, and an empty password is refused."""
    assert run(["key", "new", "alice.json"]) == 2
    assert "--password-fd" in capsys.readouterr().err
    with descriptor("\n") as number:
        assert run(["key", "new", "alice.json", "--password-fd", number]) == 2
    assert list(folder.iterdir()) == []


def test_addresses_of_other_kinds_of_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`key address` opens variables and development keys too, and does not repeat what could be a key."""
    account = dev_account(1)
    monkeypatch.setenv("PAYER_KEY", account.key.hex())
    for uri in ("env:PAYER_KEY", "dev:1"):
        assert run(["key", "address", uri]) == 0
        assert capsys.readouterr().out == f"{account.address}\n"
    assert run(["key", "address", account.key.hex()]) == 2
    assert account.key.hex()[:8] not in capsys.readouterr().err
