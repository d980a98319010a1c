"""Compact JSON Web Signatures (RFC 7515) with ES256 (RFC 7518, section 3.4). Pure.

The protected headers of a token are exactly ``alg``, ``kid`` and ``typ``. ``typ`` names the kind of the document.
Because of ``typ``, a document of one kind cannot replace a document of another kind.
"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

SignDigest = Callable[[bytes], bytes]
"""Signs a SHA-256 with a P-256 key, and returns r and s, 32 bytes each."""


def base64url(data: bytes) -> str:
    """Encode bytes as base64url without padding (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Decode base64url without padding.

    Raises:
        ValueError: the text is not canonical base64url without padding.
    """
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"{text!r:.40} is not base64url") from error
    if base64url(data) != text:
        raise ValueError(f"{text!r:.40} is not base64url without padding")
    return data


def sign_token(claims: Mapping[str, Any], *, kind: str, key_id: str, sign: SignDigest) -> str:
    """Sign a document, and return the token.

    Args:
        claims: the signed document.
        kind: the kind of the document, header ``typ``.
        key_id: the name of the signer, header ``kid``.
        sign: signs with the key.
    """
    header = {"alg": "ES256", "kid": key_id, "typ": kind}
    signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{base64url(sign(sha256(signed.encode()).digest()))}"
