"""Signed and forged requests, which are made with `cryptography` so that they do not depend on joserfc."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.validators import VALIDATOR

ALGORITHMS = ("RS256", "PS256", "ES256", "Ed25519")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order N of the curve P-256 (SEC 2, section 2.4.2)."""
_NAMES = itertools.count(1)


def encode(data: bytes) -> str:
    """Return bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class ForeignSender:
    """A sender with a key of its own.

    Attributes:
        algorithm: the JWS algorithm of the sender's signatures.
        uuid: its identity.
        number: selects one of several keys of the algorithm.
    """

    algorithm: str
    uuid: UUID = field(default_factory=uuid4)
    number: int = 0

    @property
    def pem(self) -> bytes:
        """The public key."""
        key = _key(self.algorithm, self.number)
        return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        """Return a signature in the form of RFC 7518 and RFC 8037."""
        key = _key(self.algorithm, self.number)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(message)
        if self.algorithm == "PS256":
            return key.sign(message, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
        return key.sign(message, padding.PKCS1v15(), SHA256())

    def header(self, **changed: Any) -> bytes:
        """Return the header of a token, with changed or additional members."""
        return json.dumps({"alg": self.algorithm, "kid": str(self.uuid)} | changed).encode()

    def token(self, claims: bytes, header: bytes | None = None, sign: Callable[[bytes], bytes] | None = None) -> str:
        """Return a token with the given header, claims and signature."""
        signed = f"{encode(self.header() if header is None else header)}.{encode(claims)}"
        return f"{signed}.{encode((sign or self.sign)(signed.encode()))}"

    def request(self, **changed: Any) -> bytes:
        """Return a valid request with one reading, with changed claims."""
        return envelope(self.token(json.dumps(claims(**changed)).encode()), str(changed.get("method", "submit")))


def claims(**changed: Any) -> dict[str, Any]:
    """Return the claims of a valid request, with changed or additional claims. Each has a name of its own."""
    number = next(_NAMES)
    good = {
        "iat": int(time.time()),
        "jti": f"request {number}",
        "aud": str(VALIDATOR),
        "method": "submit",
        "data": data(number),
    }
    return good | changed


def data(value: float, *, thing: str = "256", name: str = "temperature", at: float | None = None) -> dict[str, Any]:
    """Return the data of a request with one reading."""
    when = time.time() if at is None else at
    return {"readings": [{"thing": thing, "time": when, "name": name, "value": value, "unit": "Cel"}]}


def envelope(token: str, method: str = "submit", **changed: Any) -> bytes:
    """Return the JSON-RPC request with a token, with changed or additional members."""
    fields: Mapping[str, Any] = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {"signed": token}}
    return json.dumps({**fields, **changed}).encode()


@cache
def _key(algorithm: str, _number: int) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)
