"""The key of the gateway's identity."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from blockota.errors import BlockOTAError
from blockota.formats.jws import sign_token
from blockota.identity.identity_key import open_identity_key
from tests.support.tokens import verify_token

SECRET = 7


def test_a_key_in_a_file_and_in_a_variable_signs(tmp_path: Path) -> None:
    """The key of a PEM file, and the same key in an environment variable, sign tokens that the public key verifies."""
    path = tmp_path / "key.pem"
    private = derive_private_key(SECRET, SECP256R1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    for uri in (f"file:{path}", "env:KEY"):
        key = open_identity_key(uri, environment={"KEY": f"{SECRET:064x}"})
        token = sign_token({"a": 1}, kind="a+json", key_id="gateway", sign=key.sign_digest)
        assert verify_token(token, kind="a+json", key=key.public_key) == {"a": 1}


def test_unusable_keys_are_refused_without_the_secret(tmp_path: Path) -> None:
    """An unusable key is refused with a reason that does not contain the secret."""
    path = tmp_path / "bitcoin.pem"
    private = derive_private_key(SECRET, SECP256K1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    secret = "ab" * 32
    cases = {
        f"file:{path}": "a P-256 key is required",
        f"file:{tmp_path / 'missing'}": "does not exist",
        "env:NOT_SET": "is not set",
        "env:SHORT": "64 hexadecimal digits",
        "env:ZERO": "not a P-256 key",
        secret: "cannot be found",
        f"env:{secret}": "cannot be found",
        "file:": "cannot be found",
    }
    for uri, words in cases.items():
        with pytest.raises(BlockOTAError, match=words) as failure:
            open_identity_key(uri, environment={"SHORT": secret[1:], "ZERO": "0" * 64})
        assert secret[1:] not in str(failure.value)
