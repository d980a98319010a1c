"""COSE_Sign1 (RFC 9052) with ES256 (RFC 9053, section 2.1): the signed statement of a device. Pure.

A statement is the untagged array ``[protected, {}, payload, signature]`` in deterministic CBOR:

- protected: the byte string of the map ``{1: -7, 16: type}``. Header 1 is the algorithm, and -7 is ES256. Header 16 is
  the media type of the statement (RFC 9596). Because of this header, a statement of one type cannot replace a statement
  of another type.
- payload: a byte string with the statement.
- signature: r and s, 32 bytes each, with a low s (`blockota.formats.p256`). If a signer computes a high s, it replaces
  s by the order of the curve minus s.

The signature covers the array ``["Signature1", protected, external_aad, payload]``, whose external_aad is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from blockota.formats import cbor
from blockota.formats.p256 import is_p256_signature, require_low_s

_ITEMS = 4
_ALGORITHM, _ES256, _TYPE = 1, -7, 16
_EXTERNAL = b""


@dataclass(frozen=True)
class SignedStatement:
    """A COSE_Sign1 structure.

    Attributes:
        type: the media type of the statement, header 16.
        payload: the statement.
        signature: r and s, 64 bytes, with a low s.
    """

    type: str
    payload: bytes
    signature: bytes

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Decode a statement.

        Raises:
            ValueError: the bytes do not have the form that this module describes.
        """
        items = cbor.decode(raw)
        if not isinstance(items, list) or len(items) != _ITEMS:
            raise ValueError(f"it is not an array of {_ITEMS} items")

        protected, unprotected, payload, signature = items
        if not all(isinstance(part, bytes) for part in (protected, payload, signature)) or unprotected != {}:
            raise ValueError("its items are not three byte strings and an empty map")

        headers = cbor.decode(protected)
        kind = headers.get(_TYPE) if isinstance(headers, dict) else None
        if not isinstance(kind, str) or headers != {_ALGORITHM: _ES256, _TYPE: kind}:
            raise ValueError("its protected headers do not consist of the algorithm ES256 and a type")

        require_low_s(signature)
        return cls(kind, payload, signature)

    def encode(self) -> bytes:
        """Return the bytes of the structure."""
        return cbor.encode([_protected(self.type), {}, self.payload, self.signature])

    def is_signed_by(self, key: bytes) -> bool:
        """Whether the signature verifies under a public key.

        Args:
            key: the P-256 key: x and y, 64 bytes.

        Raises:
            ValueError: the key is not a point of P-256.
        """
        return is_p256_signature(key, to_be_signed(self.type, self.payload), self.signature)


def to_be_signed(kind: str, payload: bytes) -> bytes:
    """Return the bytes that the signature of a statement covers (RFC 9052, section 4.4)."""
    return cbor.encode(["Signature1", _protected(kind), _EXTERNAL, payload])


def _protected(kind: str) -> bytes:
    return cbor.encode({_ALGORITHM: _ES256, _TYPE: kind})
