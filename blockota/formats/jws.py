"""Compact JSON Web Signatures (RFC 7515) with ES256 (RFC 7518, section 3.4). Pure.

A token has the protected headers ``alg``, ``kid`` and ``typ``, and no others. ``typ`` names the kind of the document.
It prevents the use of a token of one kind in place of another kind.
"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from blockota.errors import ProposalError, RefusedError
from blockota.strict_json import load_object

SignDigest = Callable[[bytes], bytes]
"""Signs a SHA-256 with a P-256 key, and returns r and s, 32 bytes each."""
_ALGORITHM, _PARTS, _WORD = "ES256", 3, 32


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
    header = {"alg": _ALGORITHM, "kid": key_id, "typ": kind}
    signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{base64url(sign(sha256(signed.encode()).digest()))}"


def verify_token(token: str, *, kind: str, key: bytes) -> dict[str, Any]:
    """Return the document in a token.

    Args:
        token: the token.
        kind: the required kind of the document.
        key: the signer's public P-256 key: x and y, 64 bytes.

    Raises:
        RefusedError: the token is malformed, is of another kind, or is not signed by the key.
    """
    try:
        signed, claims, signature = _opened(token, kind)
        public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), b"\x04" + key)
        numbers = int.from_bytes(signature[:_WORD]), int.from_bytes(signature[_WORD:])
        public.verify(encode_dss_signature(*numbers), signed, ECDSA(SHA256()))
        return load_object(claims)
    except InvalidSignature as error:
        raise _refused("it is not signed by the key") from error
    except ProposalError as error:
        raise _refused(error.why) from error
    except ValueError as error:
        raise _refused(str(error)) from error


def _opened(token: str, kind: str) -> tuple[bytes, bytes, bytes]:
    """Return the signed bytes, the document and the signature of a token."""
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise ValueError(f"it has {len(parts)} parts, but a compact JWS has {_PARTS}")
    header, claims, signature = map(from_base64url, parts)
    headers = load_object(header)
    if headers != {"alg": _ALGORITHM, "kid": headers.get("kid"), "typ": kind} or len(signature) != 2 * _WORD:
        raise ValueError(f"it is not a document of the kind {kind} with a signature by {_ALGORITHM}")
    return ".".join(parts[:2]).encode(), claims, signature


def _refused(why: str) -> RefusedError:
    return RefusedError("the token is refused", why=why)
