"""URIs of keys in PKCS #11 tokens, and the sources of a token's PIN.

The tests with a token are in tests/peers/softhsm.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from blockota.errors import RefusedError, UsageError
from blockota.keys import account_of, open_token_key
from blockota.pkcs11_keys import KeyName, find_pin

URI = "pkcs11:token=gate%20way;object=log?module-path=/lib/p11.so"
PIN = "271828"


def test_a_uri_names_token_key_module_and_pin() -> None:
    """A URI is parsed by RFC 7512; percent-encoded characters are decoded."""
    name = KeyName.parse("pkcs11:serial=ab;id=%01%FF;type=private?pin-source=env:PIN&module-path=/lib/p11.so")
    assert name == KeyName({"serial": b"ab", "id": b"\x01\xff", "type": b"private"}, Path("/lib/p11.so"), "env:PIN")
    assert (name.token, name.key) == ("the token 'ab'", "the key with the id 01ff")
    assert (KeyName.parse(URI).token, KeyName.parse(URI).key) == ("the token 'gate way'", "the key 'log'")


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("pkcs11:", "it names no token"),
        ("pkcs11:token=a?module-path=/x", "it names no key in the token"),
        ("pkcs11:token=a;object=b", "it does not name the module"),
        ("pkcs11:token=a;object=b;type=public?module-path=/x", "it does not name a private key"),
        (f"pkcs11:token=a;object=b;{PIN}?module-path=/x", "only these attributes are supported: id, manufacturer"),
        (f"pkcs11:token=a;object=b?pin={PIN}", "only these attributes are supported"),
        (f"pkcs11:token=a;object=b?module-path=/x&pin-value={PIN}", "the URI contains a PIN, which is not used"),
        (f"pkcs11:token=a;object=b;pin-value={PIN}", "the URI contains a PIN, which is not used"),
    ],
)
def test_a_wrong_uri_is_refused_without_the_pin(uri: str, why: str) -> None:
    """Each mistake in a key URI has an error of its own, and no error repeats a PIN."""
    with pytest.raises(UsageError, match=why) as refused:
        account_of(uri, is_local_chain=False, ask_password=str)
    assert PIN not in str(refused.value)


def test_the_pin_comes_from_a_variable_a_file_or_the_operator(tmp_path: Path) -> None:
    """The PIN is read from the source that the key URI names.

    If the key URI names no PIN source, the user is asked for the PIN.
    """
    file = tmp_path / "pin"
    file.write_text(f"{PIN}\nanother line\n")
    file.chmod(0o600)
    assert find_pin(KeyName.parse(f"{URI}&pin-source=env:P"), {"P": PIN}, None) == PIN
    assert find_pin(KeyName.parse(f"{URI}&pin-source=file:{file}"), {}, None) == PIN
    assert find_pin(KeyName.parse(URI), {}, lambda prompt: prompt) == "PIN of the token 'gate way': "


def test_a_pin_that_cannot_be_found_is_refused(tmp_path: Path) -> None:
    """A PIN source is refused if it is an unset variable, a missing file or a program, or if none is given."""
    for source, why in (
        ("&pin-source=env:P", "env:P is not set"),
        (f"&pin-source=file:{tmp_path / 'none'}", "cannot be read"),
        ("", "the PIN of the token cannot be found"),
        (f"&pin-source={PIN}", "the PIN of the token cannot be found"),
        ("&pin-source=|cat", "the PIN of the token cannot be found"),
    ):
        with pytest.raises(UsageError, match=why) as refused:
            find_pin(KeyName.parse(URI + source), {}, None)
        assert PIN not in str(refused.value)
    file = tmp_path / "pin"
    file.write_text(PIN)
    file.chmod(0o644)
    with pytest.raises(RefusedError, match=r"other users of this computer may read the file. Run `chmod 600"):
        find_pin(KeyName.parse(f"{URI}&pin-source=file:{file}"), {}, None)


def test_a_module_that_is_not_one_is_refused() -> None:
    """A missing PKCS #11 module, and a library of another kind, are refused with the error of the operating system."""
    with pytest.raises(UsageError, match=r"the PKCS #11 module /lib/p11.so cannot be used: .*No such file"):
        open_token_key(URI, environment={}, ask_pin=lambda _: PIN)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without python-pkcs11, the error names the library and the extra."""
    monkeypatch.delitem(sys.modules, "blockota.pkcs11_keys")
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(UsageError, match=r"python-pkcs11 is not installed.*the extra hardware"):
        account_of(URI, is_local_chain=False, ask_password=str)
