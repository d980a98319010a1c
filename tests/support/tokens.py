"""Verifies signed documents with joserfc instead of BlockOTA's own code."""

from __future__ import annotations

import json
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey

from blockota.formats.jws import base64url


def verify_token(token: str, *, kind: str, key: bytes) -> dict[str, Any]:
    """Verify the signature and the kind of a document, and return the document.

    Args:
        token: the compact JWS.
        kind: the required header ``typ``.
        key: the signer's public P-256 key: x and y, 64 bytes.
    """
    public = ECKey.import_key({"kty": "EC", "crv": "P-256", "x": base64url(key[:32]), "y": base64url(key[32:])})
    found = jws.deserialize_compact(token, public, algorithms=["ES256"])
    headers = found.headers()
    assert headers == {"alg": "ES256", "kid": headers["kid"], "typ": kind}
    document: dict[str, Any] = json.loads(found.payload)
    return document
