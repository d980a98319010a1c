"""Compact JSON Web Signatures."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockota.errors import RefusedError
from blockota.formats.jws import base64url, sign_token, verify_token

PRIVATE = derive_private_key(7, SECP256R1())
PUBLIC = PRIVATE.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
OTHER = derive_private_key(8, SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
CLAIMS = {"thing": "256", "size": 5}


def sign(digest: bytes) -> bytes:
    """Sign with the tests' key."""
    r, s = decode_dss_signature(PRIVATE.sign(digest, ECDSA(Prehashed(SHA256()))))
    return r.to_bytes(32) + s.to_bytes(32)


TOKEN = sign_token(CLAIMS, kind="a+json", key_id="gateway", sign=sign)


def test_a_token_brings_its_claims() -> None:
    """A signed token is verified with the signer's public key."""
    assert verify_token(TOKEN, kind="a+json", key=PUBLIC) == CLAIMS


def test_other_tokens_are_refused() -> None:
    """A token with another key, key kind, algorithm or byte is refused."""
    header, claims, signature = TOKEN.split(".")
    unsigned = base64url(json.dumps({"alg": "none", "kid": "gateway", "typ": "a+json"}).encode())
    extended = base64url(json.dumps({"alg": "ES256", "kid": "gateway", "typ": "a+json", "jwk": {}}).encode())
    other = base64url(json.dumps(CLAIMS | {"thing": "257"}).encode())
    cases = {
        (TOKEN, "a+json", OTHER): "not signed by the key",
        (TOKEN, "b+json", PUBLIC): "kind",
        (f"{header}.{other}.{signature}", "a+json", PUBLIC): "not signed by the key",
        (f"{unsigned}.{claims}.{signature}", "a+json", PUBLIC): "kind",
        (f"{extended}.{claims}.{signature}", "a+json", PUBLIC): "kind",
        (f"{header}.{claims}.", "a+json", PUBLIC): "signature",
        (f"{header}.{claims}", "a+json", PUBLIC): "2 parts",
        (f"{TOKEN}=", "a+json", PUBLIC): "base64url",
        (f"{header}.{claims}.{signature[:-1]}é", "a+json", PUBLIC): "base64url",
        ("a.b.c", "a+json", PUBLIC): "base64url",
    }
    for (token, kind, key), words in cases.items():
        with pytest.raises(RefusedError, match=words):
            verify_token(token, kind=kind, key=key)
