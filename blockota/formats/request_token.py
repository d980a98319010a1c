"""Compact JSON Web Signatures of requests between identities (RFC 7515), read with joserfc. Pure.

The protected header has exactly the parameters ``alg`` and ``kid``. A token therefore cannot contain its own key
(``jwk``, ``jku``, ``x5c``) or require an extension (``crit``). The kind of the signer's key decides which algorithms
are accepted:

========  =====================================================
P-256     ``ES256`` (RFC 7518, section 3.4)
Ed25519   ``Ed25519`` (RFC 9864, section 2.2)
RSA       ``RS256`` or ``PS256`` (RFC 7518, sections 3.3 and 3.5)
========  =====================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from blockota.formats.jws import base64url, from_base64url
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.strict_json import load_object

ALGORITHMS: Mapping[KeyKind, tuple[str, ...]] = {
    KeyKind.P256: ("ES256",),
    KeyKind.ED25519: ("Ed25519",),
    KeyKind.RSA: ("RS256", "PS256"),
}
"""The algorithms of the keys of identities, by the kind of the key."""
_PARTS = 3
_JWK_KINDS = {KeyKind.P256: "EC", KeyKind.ED25519: "OKP", KeyKind.RSA: "RSA"}

Sign = Callable[[bytes], bytes]
"""Signs bytes with an algorithm of `ALGORITHMS`, and returns the signature as RFC 7518 defines it."""


@dataclass(frozen=True)
class RequestToken:
    """A token whose signature has not been checked.

    Attributes:
        text: the token, as it was received.
        algorithm: header ``alg``.
        key_id: header ``kid``, which names the claimed signer.
        claims: the document.
    """

    text: str
    algorithm: str
    key_id: str
    claims: Mapping[str, Any]


def read_token(text: str) -> RequestToken:
    """Read a token without checking its signature.

    Raises:
        ValueError: the text is not a compact JWS, its encoding is not the shortest one, or its header is not
            ``{alg, kid}``.
        ProposalError: header or claims are not a JSON object, or have a member twice.
    """
    parts = text.split(".")
    if len(parts) != _PARTS:
        raise ValueError(f"it has {len(parts)} parts, and a compact JWS has {_PARTS}")
    header, claims, _ = map(from_base64url, parts)
    fields = load_object(header)
    if set(fields) != {"alg", "kid"} or not all(isinstance(value, str) for value in fields.values()):
        raise ValueError("its header is not exactly alg and kid")
    return RequestToken(text, fields["alg"], fields["kid"], load_object(claims, has_fractions=True))


def load_library() -> None:
    """Load joserfc, the library that checks signatures, so that a service without the library fails at its start.

    Raises:
        ModuleNotFoundError: joserfc is not installed.
    """
    from joserfc import jws  # noqa: F401, PLC0415


def is_signed_by(token: RequestToken, key: PublicKey) -> bool:
    """Return whether a key signed a token. The algorithm must be accepted for this kind of key."""
    return _is_signed(token.text, token.algorithm, token.key_id, key)


@lru_cache(maxsize=256)
def _is_signed(text: str, algorithm: str, key_id: str, key: PublicKey) -> bool:
    """Check a signature. The newest results are cached, because a service needs each result twice."""
    from joserfc import jws  # noqa: PLC0415 - 70 ms, and only services that judge requests need it
    from joserfc.errors import JoseError  # noqa: PLC0415

    algorithms = ALGORITHMS.get(key.kind, ())
    if algorithm not in algorithms:
        return False
    registry = jws.JWSRegistry(algorithms=[*algorithms])
    registry.max_payload_length = len(text)  # 128,000 by default; the receiver has limited the size already
    try:
        opened = jws.deserialize_compact(text, _imported(key), registry=registry)
    except JoseError:
        return False
    return opened.headers() == {"alg": algorithm, "kid": key_id}


def load_verifier() -> None:
    """Load joserfc now, so that the first request does not wait for it.

    Raises:
        ModuleNotFoundError: joserfc is not installed.
    """
    from joserfc import jwk, jws  # noqa: F401, PLC0415


@lru_cache(maxsize=4096)
def _imported(key: PublicKey) -> Any:
    """Return a key in the form of joserfc. The result is cached: reading a key is as slow as checking a signature."""
    from joserfc.jwk import JWKRegistry  # noqa: PLC0415

    return JWKRegistry.import_key(key.pem, _JWK_KINDS[key.kind])


def make_token(claims: Mapping[str, Any], *, algorithm: str, key_id: str, sign: Sign) -> str:
    """Return a signed token.

    Args:
        claims: the document.
        algorithm: the algorithm of `sign`.
        key_id: the UUID of the signer.
        sign: signs with the key of the signer; the key may be in a hardware token.
    """
    header = {"alg": algorithm, "kid": key_id}
    signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{base64url(sign(signed.encode()))}"
