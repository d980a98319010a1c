"""The commands ``key new`` and ``key address``, from a new keystore to the address for the vendor."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import NoReturn

import pytest
from eth_account import Account
from eth_keys.datatypes import PrivateKey

from blockota.cli.main import run
from blockota.errors import UsageError
from blockota.keys import create_keystore, dev_account
from tests.support.descriptors import descriptor

PASSWORD = "correct horse"  # noqa: S105 - opens only the keystores that this file creates


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_key_is_a_keystore_that_only_its_password_opens(capsys: pytest.CaptureFixture[str]) -> None:
    """`key new` writes a scrypt keystore that only its owner can read.

    `key address` prints the same address as `key new`.
    """
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
    """`key new` does not overwrite a file or a dangling link.

    The command fails before it asks for a password.
    """
    (folder / "alice.json").write_text("precious")
    (folder / "link.json").symlink_to(folder / "away.json")
    for name, words in (
        ("alice.json", "already exists"),
        ("link.json", "already exists"),
        ("missing/alice.json", "cannot be written: its folder does not exist"),
    ):
        with descriptor(PASSWORD) as number:
            assert run(["key", "new", name, "--password-fd", number]) == 2
        assert f"{name} {words}" in capsys.readouterr().err
    assert (folder / "alice.json").read_text() == "precious"
    assert not (folder / "away.json").exists()


@pytest.fixture
def quick_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the deliberately slow encryption in tests that do not need the keystore."""
    monkeypatch.setattr(Account, "encrypt", lambda *_: {})


@pytest.mark.usefixtures("quick_encryption")
def test_a_file_that_appears_while_the_password_is_typed_is_kept(folder: Path) -> None:
    """Of two commands that make the same file at the same time, the second command is refused."""
    path = folder / "alice.json"

    def type_slowly(_: str) -> str:
        path.write_text("precious")
        return PASSWORD

    with pytest.raises(UsageError, match="already exists"):
        create_keystore(path, ask_password=type_slowly)
    assert path.read_text() == "precious"


@pytest.mark.usefixtures("quick_encryption")
@pytest.mark.parametrize("moment", ["at the prompt", "at the write"])
def test_a_stopped_command_leaves_nothing(folder: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C, neither the keystore file nor a part of the file exists."""

    def stop(_: object) -> NoReturn:
        raise KeyboardInterrupt

    def type_it(_: str) -> str:
        monkeypatch.setattr(os, "fsync", stop)
        return PASSWORD

    ask = stop if moment == "at the prompt" else type_it
    with pytest.raises(KeyboardInterrupt):
        create_keystore(folder / "alice.json", ask_password=ask)
    assert list(folder.iterdir()) == []


def test_a_word_that_is_not_a_new_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`key new` refuses a key URI or a private key in place of a file name.

    The error does not repeat a text that could be a private key.
    """
    secret = dev_account(1).key.hex()
    for word, shown in (
        ("ape:alice", "ape: names a key"),
        (secret, "Choose a file name"),
        (f"0x{secret}", "existing key"),
    ):
        assert run(["key", "new", word]) == 2
        printed = capsys.readouterr().err
        assert shown in printed
        assert secret[:8] not in printed
    assert list(folder.iterdir()) == []


def test_a_missing_key_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--key`, the error shows the kinds of keys.

    If the key is missing, the error shows the command that makes a key.
    """
    assert run(["proposal", "execute", "1.4.0.json"]) == 2
    printed = capsys.readouterr().err
    assert re.search(r"Missing option '--key' \(.*: keystore:FILE, ape:ALIAS, env:NAME", printed)
    for uri, why in (("keystore:alice.json", "the file does not exist"), ("alice.json", "keystore:FILE, ape:ALIAS")):
        assert run(["key", "address", uri]) == 2
        printed = capsys.readouterr().err
        assert why in printed
        assert "(`blockota key new FILE`)" in printed
    Path("alice.json").touch()
    assert run(["key", "address", "alice.json"]) == 2
    assert "Write keystore:alice.json." in capsys.readouterr().err


def test_a_password_is_never_an_argument(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, `key new` requires the option for a file descriptor.

    An empty password and a short password are refused.
    """
    assert run(["key", "new", "alice.json"]) == 2
    assert "--password-fd" in capsys.readouterr().err
    for password, words in (("", "its first line is empty"), ("1234567", "at least 8 characters are required")):
        with descriptor(f"{password}\n") as number:
            assert run(["key", "new", "alice.json", "--password-fd", number]) == 2
        assert words in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_addresses_of_other_kinds_of_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`key address` accepts environment variables and development keys.

    Its errors do not repeat a text that could be a key.
    """
    account = dev_account(1)
    monkeypatch.setenv("PAYER_KEY", account.key.hex())
    for uri in ("env:PAYER_KEY", "dev:1"):
        assert run(["key", "address", uri]) == 0
        assert capsys.readouterr().out == f"{account.address}\n"
    assert run(["key", "address", account.key.hex()]) == 2
    assert account.key.hex()[:8] not in capsys.readouterr().err


def test_the_public_key_of_an_account_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`key public` prints a key as `device registrant admit --public-key` expects it, or writes the key to a file."""
    expected = PrivateKey(bytes(dev_account(1).key)).public_key.to_compressed_bytes().hex()
    monkeypatch.setenv("PAYER_KEY", dev_account(1).key.hex())
    for uri in ("env:PAYER_KEY", "dev:1"):
        assert run(["key", "public", uri]) == 0
        assert capsys.readouterr().out == f"{expected}\n"
    assert run(["key", "public", "dev:1", "-o", str(tmp_path / "acme.hex")]) == 0
    assert (tmp_path / "acme.hex").read_text() == f"{expected}\n"


def test_the_public_key_of_a_token_needs_its_pin(capsys: pytest.CaptureFixture[str]) -> None:
    """If a PKCS #11 URI names no source of the PIN, the command needs a terminal."""
    assert run(["key", "public", "pkcs11:token=a;object=b?module-path=/lib/none.so"]) == 2
    assert "PIN of the token 'a'" in capsys.readouterr().err
