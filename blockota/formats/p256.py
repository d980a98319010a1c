"""ECDSA signatures on P-256 as 64 bytes: r and s, 32 bytes each. Pure.

If a signature with r and s is valid, the signature with r and the order minus s is valid too. Stored signatures must
have the low s, which is at most half of the order. Without the key, the bytes of a stored signature therefore cannot be
changed. OpenZeppelin's `P256` has the same rule.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

KEY_SIZE = 64
"""Size in bytes of a public P-256 key: x and y."""
SIGNATURE_SIZE = 64
"""Size in bytes of a signature: r and s."""
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256 (FIPS 186-5)."""
_HALF = ORDER // 2


def low_s(signature: bytes) -> bytes:
    """Return the form of a signature with the low s. A value that is not a signature is returned unchanged."""
    r, s = _numbers(signature)
    if len(signature) != SIGNATURE_SIZE or not _HALF < s < ORDER:
        return signature
    return r.to_bytes(KEY_SIZE // 2) + (ORDER - s).to_bytes(KEY_SIZE // 2)


def require_low_s(signature: bytes) -> None:
    """Require a signature with r and s in range and a low s.

    Raises:
        ValueError: r or s is out of range, or s is not low.
    """
    if len(signature) != SIGNATURE_SIZE:
        raise ValueError(f"its signature has {len(signature)} bytes, an ES256 signature has {SIGNATURE_SIZE}")
    r, s = _numbers(signature)
    if not 0 < r < ORDER or not 0 < s <= _HALF:
        raise ValueError("its signature must have r and s in range, and a low s")


def is_p256_signature(key: bytes, content: bytes, signature: bytes) -> bool:
    """Whether a signature of the SHA-256 of a content verifies under a public key.

    Args:
        key: x and y, 64 bytes.
        content: the signed bytes.
        signature: r and s, 64 bytes.

    Raises:
        ValueError: the key is not a point of P-256.
    """
    try:
        _public_key(key).verify(encode_dss_signature(*_numbers(signature)), content, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _public_key(key: bytes) -> EllipticCurvePublicKey:
    if len(key) != KEY_SIZE:
        raise ValueError(f"a P-256 key has {KEY_SIZE} bytes, not {len(key)}")
    try:
        return EllipticCurvePublicNumbers(*_numbers(key), SECP256R1()).public_key()
    except ValueError as error:
        raise ValueError("the key is not a point of P-256") from error


def _numbers(pair: bytes) -> tuple[int, int]:
    half = len(pair) // 2
    return int.from_bytes(pair[:half]), int.from_bytes(pair[half:])
