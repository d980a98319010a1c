"""Keys by URI.

The URI of a key names the place where the key is kept. The key itself never appears on a command line.

- ``keystore:FILE``: an encrypted keystore file (Web3 Secret Storage, version 3).
- ``ape:ALIAS``: an account of Ape. Its key is in the keystore ``~/.ape/accounts/ALIAS.json``, or a plugin has the key,
  for example in a hardware wallet.
- ``env:NAME``: an environment variable with the private key in hex, for a vendor's CI.
- ``pkcs11:…``: a key in a PKCS #11 token (RFC 7512; see `blockota.pkcs11_keys`), for services.
- ``dev:N``: account N of the well-known test mnemonic, on local chains only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockota.errors import Action, RefusedError, UsageError, missing_package
from blockota.files import home_path, read_input, write_new
from blockota.strict_json import check_depth

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount
    from eth_account.signers.local import LocalAccount

    from blockota.pkcs11_keys import Curve, TokenKey

DEV_MNEMONIC = "test test test test test test test test test test test junk"
"""The public development mnemonic of anvil and ganache."""
_MAX_KEYSTORE_SIZE = 1 << 16
_DEV_NUMBER = re.compile(r"\d{1,3}", re.ASCII)
_PRIVATE_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}", re.ASCII)
_ALIAS = re.compile(r"\w[\w .@-]*")
_VARIABLE = re.compile(r"[A-Za-z_]\w{0,79}", re.ASCII)
_HEX_OF_A_KEY = re.compile(r"[0-9a-fA-F]{41}", re.ASCII)
"""More hexadecimal digits than an address has: a text with so many digits may be a key."""
_MNEMONIC_WORDS = 12
_SHORTEST_PASSWORD = 8
"""The minimum number of characters of a password that a person chooses (NIST SP 800-63B)."""
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
    if kind == "pkcs11":
        key = open_token_key(uri, environment=os.environ, ask_pin=ask_password, curve="secp256k1")
        from blockota.pkcs11_account import TokenAccount

        return TokenAccount(key)
    if kind == "keystore" and _names_a_file(name):
        return _keystore_key(home_path(name), ask_password, note=note)
    if kind == "ape" and _ALIAS.fullmatch(name) and not _could_be_key(name):
        return _ape_key(name, ask_password, note=note)
    raise _unknown_key(uri)


def check_key(uri: str) -> None:
    """Check a URI before it is written into settings: its form must be valid, and a named keystore must exist.

    The key is not opened. Environment variables, tokens and Ape accounts are not looked up, because they may exist only
    on the service's machine.

    Raises:
        UsageError: the URI is not valid, or its keystore cannot be read.
    """
    kind, _, name = uri.partition(":")
    if kind == "keystore" and _names_a_file(name):
        _read_keystore(home_path(name))
        return
    forms = {"dev": _DEV_NUMBER, "env": _VARIABLE, "ape": _ALIAS, "pkcs11": re.compile(".+")}
    if kind not in forms or not forms[kind].fullmatch(name) or (kind != "pkcs11" and _could_be_key(name)):
        raise _unknown_key(uri)


def public_key_of(account: BaseAccount) -> bytes:
    """Return x and y of the public key of an account.

    The account signs a message, because not every kind of account exposes its public key.

    Raises:
        RefusedError: the account did not sign.
    """
    from eth_account.messages import encode_defunct
    from eth_keys.datatypes import Signature

    signed = account.sign_message(encode_defunct(text="the public key of this account"))
    signature = Signature(vrs=(signed.v - 27, signed.r, signed.s))
    return signature.recover_public_key_from_msg_hash(bytes(signed.message_hash)).to_bytes()


def open_token_key(
    uri: str,
    *,
    environment: Mapping[str, str],
    ask_pin: Callable[[str], str] | None = None,
    curve: Curve | None = None,
) -> TokenKey:
    """Open the key in a PKCS #11 token that a URI names.

    Args:
        uri: the URI, as described in `blockota.pkcs11_keys`.
        environment: the environment of ``pin-source=env:NAME``.
        ask_pin: called with a prompt if the URI has no ``pin-source``. With None, a URI without a ``pin-source`` is
            refused.
        curve: the required curve; None accepts each curve that BlockOTA uses.

    Raises:
        UsageError: the library python-pkcs11 is not installed, the URI is not valid, or the PIN, the module, the token
            or the key cannot be found.
        RefusedError: the PIN is wrong or locked, other users can read the PIN's file, or the key cannot be used.
    """
    try:
        from blockota.pkcs11_keys import KeyName, TokenKey, find_pin
    except ImportError as error:
        raise missing_package("keys in PKCS #11 tokens cannot be used", "python-pkcs11", "hardware") from error
    name = KeyName.parse(uri)
    return TokenKey(name, find_pin(name, environment, ask_pin), curve=curve)


def create_keystore(path: Path, *, ask_password: Callable[[str], str]) -> str:
    """Make a key and write it to a new keystore file.

    The file is encrypted with scrypt, and only its owner can read it.

    Args:
        path: the keystore file.
        ask_password: called with a prompt to choose the password.

    Returns:
        The key's address.

    Raises:
        UsageError: the file exists, its folder cannot be written, or the password is too short.
    """
    from eth_account import Account

    if _could_be_key(path.name):
        raise UsageError(
            "the given file name could be a private key, so it is not shown",
            why="this command makes a new key, and does not take an existing key",
            remedy="choose a file name, such as alice.json",
        )
    if os.path.lexists(path):  # checked before the password prompt
        raise _exists(path)
    if not (os.path.lexists(path.parent) and path.parent.is_dir()):
        raise UsageError(f"{path} cannot be written", why="its folder does not exist", remedy="make the folder first")

    password = ask_password(f"New password of {path.name}: ")
    if len(password) < _SHORTEST_PASSWORD:
        raise UsageError(
            "the password is too short, and no key was made",
            why=f"anyone who gets the file can try passwords, so at least {_SHORTEST_PASSWORD} characters are required",
            remedy="choose a longer password, such as five random words",
        )
    account: LocalAccount = Account.create()
    content = json.dumps(Account.encrypt(account.key, password), indent=2).encode() + b"\n"
    try:
        write_new(path, content, mode=0o600)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written", why=error.strerror or str(error), remedy="choose a file in another folder"
        ) from error
    return str(account.address)


def _exists(path: Path) -> UsageError:
    why = "it may contain the only copy of a key, so it is not overwritten"
    return UsageError(f"{path} already exists", why=why, remedy="choose another file name")


def dev_account(number: int) -> LocalAccount:
    """Return account `number` of the test mnemonic (BIP-44 path ``m/44'/60'/0'/0/number``)."""
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    account: LocalAccount = Account.from_mnemonic(DEV_MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}")
    return account


def _dev_key(name: str, *, is_local_chain: bool) -> LocalAccount:
    if not _DEV_NUMBER.fullmatch(name):
        raise UsageError("unknown development key", why="the development keys are dev:0 to dev:999")
    if not is_local_chain:
        raise RefusedError(
            "a development key cannot be used here",
            why="development keys are public, and this chain is not local",
            remedy="name a key of your own with keystore:FILE",
        )
    return dev_account(int(name))


def _environment_key(name: str) -> LocalAccount:
    from eth_account import Account

    shown = name if _VARIABLE.fullmatch(name) and not _could_be_key(name) else "(not shown: it could be a key)"
    secret = os.environ.get(name) if name.isprintable() else None
    if secret is None:
        why = "the environment has no variable of this name"
        raise UsageError(f"env:{shown} is not set", why=why, remedy="export the variable")
    if not _PRIVATE_KEY.fullmatch(secret.strip()):
        raise _not_a_private_key(shown)
    try:
        account: LocalAccount = Account.from_key(secret.strip())
    except Exception:  # noqa: BLE001 - eth-keys raises many kinds of error, whose texts may contain the key
        raise _not_a_private_key(shown) from None
    return account


def _not_a_private_key(shown: str) -> UsageError:
    return UsageError(f"env:{shown} is not a private key", why="64 hexadecimal digits are required")


def _could_be_key(text: str) -> bool:
    """Whether a text may be a key or a mnemonic that was typed in place of a name.

    Errors never contain a possible key.
    """
    is_hex = _HEX_OF_A_KEY.search(re.sub(r"[\W_]", "", text, flags=re.ASCII))
    return bool(is_hex) or len(re.findall(r"[a-z]{3,8}", text.lower())) >= _MNEMONIC_WORDS


def _unknown_key(uri: str) -> UsageError:
    """Return the error about a URI of unknown form. The error contains the URI only if it is a file name."""
    remedy = "name the place of the key, not the key, or make a new key"
    action: Action | None = Action.MAKE_KEY
    if _names_a_file(uri) and os.access(home_path(uri), os.R_OK):
        remedy, action = f"write keystore:{uri}", None
    return UsageError(
        "the key cannot be found",
        why="a key is named as keystore:FILE, ape:ALIAS, env:NAME, pkcs11:…, or dev:N on the local chain",
        remedy=remedy,
        action=action,
    )


def _names_a_file(name: str) -> bool:
    """Whether an error may show a file name, because the file exists or the name cannot be a private key."""
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
        # Ape is optional, and takes a second to load.
        from blockota.ape_account import open_ape_account
    except ImportError as error:
        raise UsageError(
            f"ape:{alias} cannot be opened",
            why=f"the keystore {keyfile} does not exist, and Ape, which opens hardware wallets, cannot be imported "
            f"({error.msg})",
            remedy="correct the alias, or install the plugin of the device, after Ape itself if it is missing",
            action=Action.INSTALL_APE,
        ) from error
    return open_ape_account(alias, note=note)


def _read_keystore(path: Path) -> dict[str, Any]:
    """Read a keystore without decrypting it.

    Raises:
        UsageError: the file does not exist, cannot be read, or is not a keystore.
    """
    if not os.path.lexists(path):
        raise UsageError(
            f"{path} cannot be read",
            why="the file does not exist",
            remedy="correct the path, or make a new key",
            action=Action.MAKE_KEY,
        )

    content = read_input(path, limit=_MAX_KEYSTORE_SIZE)
    try:
        check_depth(content.decode())
        keystore: dict[str, Any] = json.loads(content)
        keystore["crypto" if "crypto" in keystore else "Crypto"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _not_a_keystore(path) from error
    return keystore


def _keystore_key(path: Path, ask_password: Callable[[str], str], *, note: Callable[[str], None]) -> LocalAccount:
    from eth_account import Account

    keystore = _read_keystore(path)
    if path.stat().st_mode & _OTHERS:
        note(f"Other users of this computer may read {path}. To prevent this, run `chmod 600 {path}`.")
    password = ask_password(f"Password of {path.name}: ")
    try:
        secret = Account.decrypt(keystore, password)
        account: LocalAccount = Account.from_key(secret)
        named = keystore.get("address")
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        if "MAC mismatch" in str(error):
            raise RefusedError(f"wrong password for {path.name}; nothing was signed", remedy="try again") from error
        raise _not_a_keystore(path) from error

    # The MAC does not cover the cipher's parameters, so a damaged keystore can decrypt to another key.
    if isinstance(named, str) and named.lower().removeprefix("0x") != account.address.lower().removeprefix("0x"):
        raise RefusedError(
            f"{path.name} is damaged",
            why=f"the file contains the key of {account.address}, but names the address {named}",
            remedy="restore the keystore from a copy",
        )
    return account


def _not_a_keystore(path: Path) -> UsageError:
    return UsageError(f"{path} is not a keystore", why="Web3 Secret Storage version 3 is required")
