"""Key URIs: keystores, environment variables and Ape accounts; no error message contains a key."""

from __future__ import annotations

import contextlib
import json
import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.base import BaseAccount
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import RefusedError, UsageError
from blockota.keys import DEV_MNEMONIC, account_of, check_key, dev_account

PASSWORD = "correct horse"  # noqa: S105 - opens only the keystores that this file creates
SECRET = "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"  # noqa: S105 - a public test key
ACCOUNT: LocalAccount = Account.from_key(SECRET)
KEYSTORE: dict[str, Any] = Account.encrypt(ACCOUNT.key, PASSWORD, kdf="scrypt", iterations=2)
VARIABLE = "BLOCKOTA_TEST_KEY"
KINDS = st.sampled_from(("keystore", "ape", "env", "dev"))


def opened(uri: str, *, password: str = PASSWORD, is_local_chain: bool = False) -> BaseAccount:
    """Open the account of a key URI; the password prompt returns the given password."""
    return account_of(uri, is_local_chain=is_local_chain, ask_password=lambda _: password)


@pytest.fixture
def keystore(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a keystore with the given changes and returns its key URI."""

    def write(text: str | None = None, **changes: Any) -> str:
        path = tmp_path / "owner_a.json"
        path.write_text(json.dumps(KEYSTORE | changes) if text is None else text)
        return f"keystore:{path}"

    return write


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder with one Ape account."""
    monkeypatch.setenv("HOME", str(tmp_path))
    accounts = tmp_path / ".ape" / "accounts"
    accounts.mkdir(parents=True)
    (accounts / "owner.json").write_text(json.dumps(KEYSTORE))
    (tmp_path / "outside.json").write_text(json.dumps(KEYSTORE))
    return tmp_path


def test_a_keystore_opens_with_its_password(keystore: Callable[..., str]) -> None:
    """A keystore written by eth-account opens with its password, and the prompt names the file."""
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return PASSWORD

    account = account_of(keystore(), is_local_chain=False, ask_password=ask)
    assert isinstance(account, LocalAccount)
    assert (account.address, account.key, prompts) == (ACCOUNT.address, ACCOUNT.key, ["Password of owner_a.json: "])


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_both_key_derivations_open(kdf: Any, keystore: Callable[..., str]) -> None:
    """Keystores with either key derivation function of Web3 Secret Storage are opened."""
    made = Account.encrypt(ACCOUNT.key, PASSWORD, kdf=kdf, iterations=2)
    assert opened(keystore(json.dumps(made))).address == ACCOUNT.address


@pytest.mark.parametrize("password", ["", "Correct horse", PASSWORD + "\n", "é"])
def test_a_wrong_password_is_refused(password: str, keystore: Callable[..., str]) -> None:
    """A wrong password is refused with an error that names the keystore file."""
    with pytest.raises(RefusedError, match=r"wrong password for owner_a\.json; nothing was signed"):
        opened(keystore(), password=password)


def crypto(**changes: Any) -> dict[str, Any]:
    """Return the `crypto` section of the keystore with changes."""
    return {"crypto": KEYSTORE["crypto"] | changes}


def derivation(**changes: Any) -> dict[str, Any]:
    """Return the `crypto` section of the keystore with changed key derivation parameters."""
    return crypto(kdfparams=KEYSTORE["crypto"]["kdfparams"] | changes)


BROKEN_KEYSTORES: tuple[dict[str, Any], ...] = (
    {"version": 4},
    {"version": None},
    {"crypto": {}},
    {"crypto": 5},
    crypto(kdf="unknown"),
    crypto(kdfparams=5),
    crypto(ciphertext="no hex"),
    crypto(mac=5),
    derivation(n="many"),
    derivation(n=3),
    derivation(n=1 << 62),
    derivation(r=0),
    derivation(salt=5),
)


@pytest.mark.parametrize("changes", BROKEN_KEYSTORES)
def test_a_broken_keystore_is_reported(changes: dict[str, Any], keystore: Callable[..., str]) -> None:
    """A keystore with a field of a wrong type or value is refused as invalid."""
    with pytest.raises(UsageError, match=r"owner_a\.json is not a keystore: Web3 Secret Storage version 3"):
        opened(keystore(**changes))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "5", "null", '"{}"', "[" * 60_000, "\0", json.dumps(json.dumps(KEYSTORE))],
    ids=["empty", "open", "list", "number", "null", "text", "deep", "zero byte", "twice encoded"],
)
def test_a_file_that_is_not_a_keystore_is_reported(text: str, keystore: Callable[..., str]) -> None:
    """A file with any other content than a keystore is refused as an invalid keystore."""
    with pytest.raises(UsageError, match="is not a keystore"):
        opened(keystore(text))


@pytest.mark.parametrize("changes", [crypto(cipherparams={"iv": "00" * 16}), {"address": "00" * 20}])
def test_a_keystore_that_opens_to_another_key_is_refused(changes: dict[str, Any], keystore: Callable[..., str]) -> None:
    """A keystore is refused if the decrypted key does not belong to the stated address."""
    with pytest.raises(RefusedError, match=r"owner_a\.json is damaged"):
        opened(keystore(**changes))


def test_a_keystore_without_an_address_opens(keystore: Callable[..., str]) -> None:
    """A keystore without the optional address field is opened."""
    text = json.dumps({name: value for name, value in KEYSTORE.items() if name != "address"})
    assert opened(keystore(text)).address == ACCOUNT.address


@pytest.mark.parametrize("name", ["no-such-file", "", "~no-such-user/key"])
def test_a_missing_keystore_is_reported(name: str) -> None:
    """A keystore path that is missing, empty or in an unknown user's home is reported."""
    with pytest.raises(UsageError, match=r"cannot be read|the key cannot be found|no user of that name"):
        opened(f"keystore:{name}")


def test_a_keystore_larger_than_any_is_refused(tmp_path: Path) -> None:
    """A keystore file above the size limit is refused without being read."""
    path = tmp_path / "large.json"
    path.touch()
    os.truncate(path, 1 << 30)
    with pytest.raises(UsageError, match="is too large"):
        opened(f"keystore:{path}")


def test_an_account_of_ape_opens_by_its_alias(home: Path) -> None:
    """An Ape account is opened by its alias, the name of its keystore file."""
    assert home.is_dir()
    assert opened("ape:owner").address == ACCOUNT.address


@pytest.mark.parametrize(
    "alias", ["", ".", "..", "../../outside", "../accounts/owner", "/outside", "a/owner", "owner/", "~/x"]
)
def test_an_alias_is_not_a_path(alias: str, home: Path) -> None:
    """An alias that is a path is refused, so it cannot leave Ape's accounts folder."""
    assert home.is_dir()
    with pytest.raises(UsageError):
        opened(f"ape:{alias}")


@pytest.mark.parametrize("secret", [SECRET, f"0x{SECRET}", f" {SECRET}\n"])
def test_a_key_is_read_from_a_variable(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private key is read in hexadecimal from an environment variable."""
    monkeypatch.setenv(VARIABLE, secret)
    assert opened(f"env:{VARIABLE}").address == ACCOUNT.address


@pytest.mark.parametrize(
    "secret", [SECRET[:-1], SECRET + "00", SECRET.replace("f", "z"), "", "00" * 32, "ff" * 32, "a b", "é" * 32]
)
def test_garbage_in_a_variable_is_never_shown(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error about an environment variable does not contain the value, which may be a mistyped private key."""
    monkeypatch.setenv(VARIABLE, secret)
    with pytest.raises(UsageError, match=f"env:{VARIABLE} is not a private key") as refused:
        opened(f"env:{VARIABLE}")
    printed = "".join(traceback.format_exception(refused.value))
    assert not secret or secret not in printed


def test_a_variable_that_is_not_set_is_reported() -> None:
    """The error for an environment variable that is not set advises to export it."""
    with pytest.raises(UsageError, match=r"env:NO_SUCH_KEY is not set: .* Export the variable"):
        opened("env:NO_SUCH_KEY")


def test_development_keys_are_those_of_the_test_mnemonic() -> None:
    """Development keys are derived from the test mnemonic of anvil and ganache."""
    assert DEV_MNEMONIC.count("test") == 11
    assert dev_account(0).address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert opened("dev:1", is_local_chain=True).address == dev_account(1).address


def test_a_development_key_is_refused_on_a_real_chain() -> None:
    """A development key, which is public, is refused on every chain that is not local."""
    with pytest.raises(RefusedError, match=r"cannot be used here: development keys are public.* keystore:FILE"):
        opened("dev:0", is_local_chain=False)


@pytest.mark.parametrize("number", ["", "-1", "1.0", "x", "1000", "\u0661", "9" * 5000, "0x1"])
def test_an_invalid_number_is_reported(number: str) -> None:
    """A development key needs a decimal number from 0 to 999."""
    with pytest.raises(UsageError, match="unknown development key"):
        opened(f"dev:{number}", is_local_chain=True)


@pytest.mark.parametrize("uri", ["", "key", SECRET, f"0x{SECRET}", f"hex:{SECRET}", "keystore", "Keystore:x"])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(uri: str) -> None:
    """A private key given in place of a key URI is refused, and the error does not repeat the key."""
    with pytest.raises(UsageError, match=r"keystore:FILE, ape:ALIAS, env:NAME") as refused:
        opened(uri)
    assert SECRET not in str(refused.value)


def test_a_keystore_that_others_may_read_is_noted(keystore: Callable[..., str], tmp_path: Path) -> None:
    """A keystore that other users may read is opened with a warning that names the chmod command."""
    notes: list[str] = []
    uri, path = keystore(), tmp_path / "owner_a.json"
    for mode in (0o600, 0o640, 0o604, 0o400):
        path.chmod(mode)
        account_of(uri, is_local_chain=False, ask_password=lambda _: PASSWORD, note=notes.append)
    assert notes == [f"Other users of this computer may read {path}. To prevent this, run `chmod 600 {path}`."] * 2


SPELLINGS = (
    SECRET,
    SECRET.upper(),
    f"0x{SECRET}",
    SECRET[:-1],
    SECRET[:44],
    " ".join(SECRET[i : i + 4] for i in range(0, 64, 4)),
    ":".join(SECRET[i : i + 2] for i in range(0, 64, 2)),
    DEV_MNEMONIC,
    DEV_MNEMONIC.replace(" ", ","),
)
"""Private keys and seed phrases, as a user may type them in place of a key URI."""


@given(
    kind=st.sampled_from(("keystore", "ape", "env", "dev", "Env", "hex", "")) | st.text(max_size=8),
    before=st.sampled_from(("", "/", "~/", "~", "../", "\0", " ")) | st.text(max_size=8),
    secret=st.sampled_from(SPELLINGS),
    after=st.sampled_from(("", ".json", "/", "\n", "\ud800", "x" * 300)) | st.text(max_size=8),
)
@settings(deadline=None, max_examples=400)
def test_a_typed_key_is_never_repeated(kind: str, before: str, secret: str, after: str) -> None:
    """A private key inside any key URI appears neither in the error nor in its traceback."""
    with pytest.raises((UsageError, RefusedError)) as refused:
        opened(f"{kind}:{before}{secret}{after}", is_local_chain=True)
    printed = "".join(traceback.format_exception(refused.value))
    assert secret not in printed
    assert SECRET[:41] not in re.sub(r"\W", "", printed).lower()


@given(uri=st.text(max_size=40) | st.builds("{}:{}".format, KINDS, st.text(max_size=300) | st.binary().map(str)))
@settings(deadline=None, max_examples=400)
def test_any_uri_is_an_account_or_an_error(uri: str) -> None:
    """Any text given as a key URI opens an account or raises an error of BlockOTA."""
    with contextlib.suppress(UsageError, RefusedError):
        assert opened(uri, is_local_chain=True).address.startswith("0x")


def test_a_key_is_checked_before_it_is_needed(keystore: Callable[..., str], tmp_path: Path) -> None:
    """`check_key` accepts a well-formed key URI, and refuses a malformed URI and a missing or invalid keystore.

    `check_key` accepts an unset environment variable, because the variable may be set only for the service.
    """
    for uri in (keystore(), "dev:3", f"env:{VARIABLE}", "ape:owner", "pkcs11:token=a"):
        check_key(uri)
    for uri, words in {
        f"keystore:{tmp_path / 'none.json'}": "none.json cannot be read: the file does not exist",
        keystore("{}"): "owner_a.json is not a keystore",
        "dev:x": "a key is named as",
        "owner_a.json": "a key is named as",
        "env:": "a key is named as",
        "": "a key is named as",
    }.items():
        with pytest.raises(UsageError, match=words):
            check_key(uri)


@pytest.mark.parametrize("kind", ["", "env:", "ape:", "keystore:", "dev:"])
def test_an_error_of_the_check_contains_no_key(kind: str) -> None:
    """A private key in place of a key URI is refused, and the error does not repeat the key."""
    with pytest.raises(UsageError) as caught:
        check_key(f"{kind}{SECRET}")
    assert SECRET not in str(caught.value)
