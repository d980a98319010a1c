"""Keys of logs, and the settings of a log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from blockota.errors import BlockOTAError, RefusedError, UsageError
from blockota.formats.notes import Checkpoint
from blockota.formats.tlog import EMPTY_TREE
from blockota.ledger.keys import create_log_key, open_log_key
from blockota.ledger.log_settings import load_log
from tests.support.logs import ORIGIN, note_signer
from tests.support.witness import SIGNER

SECRET = bytes([1]) * 32


def open_key(uri: str, **environment: str) -> str:
    """Open a key, sign with it, and return its public key."""
    signer = open_log_key(uri, ORIGIN, environment=environment)
    assert Checkpoint(ORIGIN, EMPTY_TREE).signed(signer).is_signed_by(signer.key)
    return str(signer.key)


def test_a_new_key_is_private_and_is_found_again(tmp_path: Path) -> None:
    """Only the owner can read a new key file, and the file is never overwritten."""
    path = tmp_path / "keys" / "log.pem"
    create_log_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_key(f"file:{path}") == open_key(f"file:{path}")
    with pytest.raises(UsageError, match="already exists"):
        create_log_key(path)


def test_a_key_in_the_environment(tmp_path: Path) -> None:
    """The private key of RFC 8032 is read from an environment variable in hexadecimal, and from a file in PEM."""
    wanted = str(note_signer().key)
    assert open_key("env:LOG_KEY", LOG_KEY=SECRET.hex()) == wanted
    pem(tmp_path / "log.pem", NoEncryption())
    assert open_key(f"file:{tmp_path / 'log.pem'}") == wanted


def pem(path: Path, encryption: KeySerializationEncryption) -> None:
    """Write the key of `SECRET` to a file."""
    private = Ed25519PrivateKey.from_private_bytes(SECRET)
    path.touch(mode=0o600)
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def test_unusable_keys_are_refused_without_the_secret(tmp_path: Path) -> None:
    """An unusable key is refused with a reason, and the reason never contains the secret."""
    pem(tmp_path / "encrypted", BestAvailableEncryption(b"password"))
    (tmp_path / "garbage").write_bytes(SECRET)
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "p256").write_bytes(other)
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    pem(tmp_path / "open", NoEncryption())
    (tmp_path / "open").chmod(0o644)
    pem(tmp_path / "shared", NoEncryption())
    (tmp_path / "shared").chmod(0o640)
    cases = {
        f"file:{tmp_path / 'encrypted'}": "not the key of a log",
        f"file:{tmp_path / 'garbage'}": "not the key of a log",
        f"file:{tmp_path / 'p256'}": "not the key of a log",
        f"file:{tmp_path / 'open'}": "other users",
        f"file:{tmp_path / 'shared'}": "other users",
        f"file:{tmp_path / 'missing'}": "does not exist",
        f"file:{tmp_path}": "not a regular file",
        "env:NOT_SET": "not set",
        "env:SHORT": "not the key of a log",
        "env:": "cannot be found",
        SECRET.hex(): "cannot be found",
        f"env:ab{SECRET.hex()[2:]}": "cannot be found",
        "file:": "cannot be found",
    }
    for uri, words in cases.items():
        with pytest.raises(BlockOTAError, match=words) as failure:
            open_key(uri, SHORT=SECRET.hex()[1:])
        assert isinstance(failure.value, UsageError | RefusedError)
        assert SECRET.hex()[2:] not in str(failure.value)


def test_settings_of_a_log(tmp_path: Path) -> None:
    """Paths in the settings are relative to the settings file, and a witness has a key and a URL."""
    file = tmp_path / "blockota.toml"
    file.write_text(
        f'[log]\nfolder = "site-log"\norigin = "{ORIGIN}"\nkey = "file:log.pem"\n'
        f'[log.witnesses]\n"{SIGNER.key}" = "https://witness.example"\n'
    )
    found = load_log(file, environment={})
    assert (found.folder, found.origin, found.key) == (tmp_path / "site-log", ORIGIN, f"file:{tmp_path / 'log.pem'}")
    assert [(one.key, one.url) for one in found.witnesses] == [(SIGNER.key, "https://witness.example")]
    assert found.signing() == (found.key, ORIGIN)

    file.write_text("")
    found = load_log(file, environment={})
    assert (found.folder, found.witnesses) == (tmp_path / ".blockota" / "log", ())
    with pytest.raises(UsageError, match=r"\[log\] in the settings has no key and origin"):
        found.signing()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('origin = "a b"', "neither spaces"),
        ("origin = 7", "text in quotes"),
        ('key = ""', "its text is empty"),
        ('url = "x"', "unknown setting"),
        ('witnesses = ["x"]', "[log.witnesses] cannot be used: it is not a table"),
        (f'[log.witnesses]\n"{note_signer().key}" = "https://w.example"', "that of a log"),
        (f'[log.witnesses]\n"{SIGNER.key}" = "w.example"', "URL of a witness"),
        (f'[log.witnesses]\n"{SIGNER.key}" = 7', "text in quotes"),
        ('[log.witnesses]\n"x" = "https://w.example"', "name.id.key"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, line: str, words: str) -> None:
    """A malformed setting is refused, and the error names the setting."""
    (tmp_path / "blockota.toml").write_text(f"[log]\n{line}\n")
    with pytest.raises(UsageError, match=words if words.startswith("name") else re.escape(words)):
        load_log(tmp_path / "blockota.toml", environment={})
