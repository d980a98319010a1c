"""Compact JSON Web Signatures."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.errors import BadSignatureError

from blockota.formats.jws import base64url, from_base64url, sign_token
from tests.support.tokens import verify_token

PRIVATE, OTHER = (derive_private_key(number, SECP256R1()) for number in (7, 8))
PUBLIC, FOREIGN = (
    key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:] for key in (PRIVATE, OTHER)
)


def sign(digest: bytes) -> bytes:
    """Sign with the tests' key."""
    r, s = decode_dss_signature(PRIVATE.sign(digest, ECDSA(Prehashed(SHA256()))))
    return r.to_bytes(32) + s.to_bytes(32)


def test_another_library_verifies_a_token() -> None:
    """A signed document is verified by joserfc with the signer's public key, and with no other key."""
    claims = {"thing": "256", "size": 5}
    token = sign_token(claims, kind="a+json", key_id="gateway", sign=sign)
    assert verify_token(token, kind="a+json", key=PUBLIC) == claims
    with pytest.raises(BadSignatureError):
        verify_token(token, kind="a+json", key=FOREIGN)


@pytest.mark.parametrize("text", ["YQ==", "YR", "Y", "Yé", "Y Q"])
def test_only_canonical_base64url_is_decoded(text: str) -> None:
    """Padding, unused bits that are set, a missing character and characters of other alphabets are refused."""
    assert from_base64url(base64url(b"\xfb\xff")) == b"\xfb\xff"
    with pytest.raises(ValueError, match="is not base64url"):
        from_base64url(text)
