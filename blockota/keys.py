"""Keys by URI. A key's URI names the place where the key is kept; the key itself is never typed on a command line.

``keystore:FILE``  an encrypted keystore file (Web3 Secret Storage, version 3)
``ape:ALIAS``      an account of Ape: the keystore ``~/.ape/accounts/ALIAS.json``, or an account of a plugin, such as
                   a hardware wallet
``env:NAME``       an environment variable with the private key in hex, for a vendor's CI
``dev:N``          account N of the well-known test mnemonic, on local chains only
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.base import BaseAccount
from eth_account.signers.local import LocalAccount

from blockota.errors import RefusedError, UsageError
from blockota.files import home_path, read_input
from blockota.strict_json import check_depth

DEV_MNEMONIC = "test test test test test test test test test test test junk"
"""The public development mnemonic of anvil and ganache."""
_MAX_KEYSTORE_SIZE = 1 << 16
_DEV_NUMBER = re.compile(r"\d{1,3}", re.ASCII)
_PRIVATE_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}", re.ASCII)
_ALIAS = re.compile(r"\w[\w .@-]*")
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,79}", re.ASCII)
_HEX_OF_A_KEY = re.compile(r"[0-9a-fA-F]{41}", re.ASCII)
"""More hexadecimal digits than an address has."""
_MNEMONIC_WORDS = 12
_OTHERS = 0o077
"""The permission bits of group and others."""


def account_of(
    uri: str,
    *,
    is_local_chain: bool,
    ask_password: Callable[[str], str],
    note: Callable[[str], None] = lambda _: None,
) -> BaseAccount:
    """Return the account that a URI names.

    Args:
        uri: the URI, as described in this module.
        is_local_chain: whether development keys may be used.
        ask_password: called with a prompt when a keystore needs its password.
        note: called with messages for the operator, while the key is opened and while the account signs.

    Raises:
        UsageError: the URI is not valid, or its key cannot be read.
        RefusedError: a development key is named on a real chain, the password is wrong, or the keystore is damaged.
    """
    kind, _, name = uri.partition(":")
    if kind == "dev":
        return _dev_key(name, is_local_chain=is_local_chain)
    if kind == "env":
        return _environment_key(name)
    if kind == "keystore" and _names_a_file(name):
        return _keystore_key(home_path(name), ask_password, note=note)
    if kind == "ape" and _ALIAS.fullmatch(name) and not _could_be_key(name):
        return _ape_key(name, ask_password, note=note)
    raise UsageError(
        "the key cannot be found",
        why="a key is named as keystore:FILE, ape:ALIAS, env:NAME, or dev:N on the local chain",
        remedy="name the place of the key, never the key itself",
    )


def create_keystore(path: Path, *, ask_password: Callable[[str], str]) -> str:
    """Make a key, and write it to a new keystore file, encrypted with scrypt and readable only for its owner.

    Args:
        path: the keystore file.
        ask_password: called with a prompt to choose the password.

    Returns:
        The key's address.

    Raises:
        UsageError: the file exists, its folder cannot be written, or no password was given.
    """
    if os.path.lexists(path):  # before a password is asked for
        raise _not_writable(path, "the file exists, and may contain the only copy of a key")
    if not path.parent.is_dir():
        raise _not_writable(path, "its folder does not exist")
    password = ask_password(f"New password of {path.name}: ")
    account: LocalAccount = Account.create()
    content = json.dumps(Account.encrypt(account.key, password), indent=2).encode() + b"\n"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _not_writable(path, error.strerror or str(error)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _not_writable(path, error.strerror or str(error)) from error
    return str(account.address)


def _not_writable(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} cannot be written", why=why, remedy="choose another file, in a folder that exists")


def dev_account(number: int) -> LocalAccount:
    """Return account `number` of the test mnemonic (BIP-44 path ``m/44'/60'/0'/0/number``)."""
    Account.enable_unaudited_hdwallet_features()
    account: LocalAccount = Account.from_mnemonic(DEV_MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}")
    return account


def _dev_key(name: str, *, is_local_chain: bool) -> LocalAccount:
    if not _DEV_NUMBER.fullmatch(name):
        raise UsageError("unknown development key", why="development keys are named dev:0, dev:1 and so on")
    if not is_local_chain:
        raise RefusedError(
            "a development key cannot be used here",
            why="development keys are public, and this chain is not local",
            remedy="name a key of your own with keystore:FILE",
        )
    return dev_account(int(name))


def _environment_key(name: str) -> LocalAccount:
    shown = name if _VARIABLE.fullmatch(name) and not _could_be_key(name) else "(not shown: it could be a key)"
    secret = os.environ.get(name) if name.isprintable() else None
    if secret is None:
        why = "the environment has no variable of this name"
        raise UsageError(f"env:{shown} is not set", why=why, remedy="export the variable")
    if not _PRIVATE_KEY.fullmatch(secret.strip()):
        raise _not_a_private_key(shown)
    try:
        account: LocalAccount = Account.from_key(secret.strip())
    except Exception:  # noqa: BLE001 - eth-keys raises many kinds, and none may show the key
        raise _not_a_private_key(shown) from None
    return account


def _not_a_private_key(shown: str) -> UsageError:
    return UsageError(f"env:{shown} is not a private key", why="64 hexadecimal digits are required")


def _could_be_key(text: str) -> bool:
    """Whether a text may be a key or a mnemonic typed in place of a name. Errors never contain a possible key."""
    is_hex = _HEX_OF_A_KEY.search(re.sub(r"[\W_]", "", text, flags=re.ASCII))
    return bool(is_hex) or len(re.findall(r"[a-z]{3,8}", text.lower())) >= _MNEMONIC_WORDS


def _names_a_file(name: str) -> bool:
    """Whether a name may appear in an error about a file: the file exists, or the name cannot be a key."""
    if not name or "\0" in name:
        return False
    try:
        return not _could_be_key(name) or home_path(name).is_file()
    except (UsageError, OSError):  # the text of this error would repeat the name
        return False


def _ape_key(alias: str, ask_password: Callable[[str], str], *, note: Callable[[str], None]) -> BaseAccount:
    keyfile = Path(os.environ.get("APE_DATA_FOLDER") or home_path("~/.ape")) / "accounts" / f"{alias}.json"
    if os.path.lexists(keyfile):
        return _keystore_key(keyfile, ask_password, note=note)
    try:
        # Ape takes a second to load, and it is optional.
        from blockota.ape_account import open_ape_account  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"ape:{alias} cannot be opened",
            why=f"{keyfile} does not exist, and Ape, which opens accounts of plugins, cannot be loaded ({error.msg})",
            remedy="correct the alias, or install Ape with `pip install eth-ape`, and then the device's plugin",
        ) from error
    return open_ape_account(alias, note=note)


def _keystore_key(path: Path, ask_password: Callable[[str], str], *, note: Callable[[str], None]) -> LocalAccount:
    content = read_input(path, limit=_MAX_KEYSTORE_SIZE)
    try:
        check_depth(content.decode())
        keystore: dict[str, Any] = json.loads(content)
        keystore["crypto" if "crypto" in keystore else "Crypto"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _not_a_keystore(path) from error

    if path.stat().st_mode & _OTHERS:
        note(f"Other users of this computer may read {path}. To prevent this, run `chmod 600 {path}`.")
    password = ask_password(f"Password of {path.name}: ")
    try:
        secret = Account.decrypt(keystore, password)
        account: LocalAccount = Account.from_key(secret)
        named = keystore.get("address")
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        if "MAC mismatch" in str(error):
            raise RefusedError(f"wrong password for {path.name}, nothing was signed", remedy="try again") from error
        raise _not_a_keystore(path) from error

    # The MAC does not cover the cipher's parameters, so a damaged keystore can decrypt to another key.
    if isinstance(named, str) and named.lower().removeprefix("0x") != account.address.lower().removeprefix("0x"):
        raise RefusedError(
            f"{path.name} is damaged",
            why=f"the file contains the key of {account.address}, but names the address {named}",
            remedy="restore it from a copy",
        )
    return account


def _not_a_keystore(path: Path) -> UsageError:
    return UsageError(f"{path} is not a keystore", why="Web3 Secret Storage version 3 is required")
