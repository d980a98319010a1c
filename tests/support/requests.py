"""Signed requests as other programs make them: tokens of joserfc, and RSA signatures of cryptography."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from blockota.formats.public_key import PublicKey, read_pem
from blockota.model.identity import Identity, IdentityKind, Keys
from blockota.model.request import Receiver

NOW = 1_800_000_000
SENDER, OTHER, RECEIVER = (UUID(int=number, version=4) for number in (11, 12, 13))
METHODS = {
    "submit": frozenset({IdentityKind.GATEWAY}),
    "store": frozenset({IdentityKind.VALIDATOR}),
    "command": frozenset({IdentityKind.VALIDATOR}),
}
VALIDATOR = Receiver(RECEIVER, METHODS)
ALGORITHMS = ("ES256", "Ed25519", "RS256", "PS256")
READING = {"name": "temperature", "value": 21.5, "unit": "Cel", "time": NOW}


def private_key(algorithm: str, number: int = 0) -> ECKey | OKPKey | RSAKey:
    """Return a key for an algorithm. Different numbers select different keys."""
    return _private_key(algorithm, number)


@cache
def _private_key(algorithm: str, _number: int) -> ECKey | OKPKey | RSAKey:
    if algorithm == "ES256":
        return ECKey.generate_key("P-256")
    return OKPKey.generate_key("Ed25519") if algorithm == "Ed25519" else RSAKey.generate_key(2048)


def public_key(algorithm: str, number: int = 0) -> PublicKey:
    """Return the public key of `private_key`."""
    return read_pem(private_key(algorithm, number).as_pem(private=False).decode())


def identity(algorithm: str = "ES256", **changed: Any) -> Identity:
    """Return the registry record of the sender, a gateway, with changed fields."""
    record = Identity(
        uuid=SENDER,
        kind=IdentityKind.GATEWAY,
        keys=Keys(public_key(algorithm)),
        virtual_ip=None,
        banned=False,
        banned_at=None,
        retired=False,
        since=NOW - 1_000,
        from_block=1,
        previous=None,
    )
    return replace(record, **changed)


def claims(**changed: Any) -> dict[str, Any]:
    """Return the claims of a valid request, with changed or additional claims."""
    good = {"iat": NOW, "jti": "n-1", "aud": str(RECEIVER), "method": "submit", "data": READING}
    return good | changed


def token(document: Mapping[str, Any] | bytes, algorithm: str = "ES256", **header: Any) -> str:
    """Return a token that joserfc signed."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    protected = {"alg": algorithm, "kid": str(SENDER)} | header
    return jws.serialize_compact(protected, raw, private_key(algorithm), algorithms=[*ALGORITHMS])


def request_of(signed: str, **changed: Any) -> bytes:
    """Return the JSON-RPC request of a token, with changed or additional members."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "submit", "params": {"signed": signed}} | changed).encode()


def request(algorithm: str = "ES256", **changed: Any) -> bytes:
    """Return a valid request, with changed claims."""
    document = claims(**changed)
    return request_of(token(document, algorithm), method=document["method"])


def published_request(*, fresh: bool = True, method: str = "submit", **changed: Any) -> bytes:
    """Return a request in the format of the published system, whose signature is a field of the JSON-RPC parameters.

    The members in `changed` are replaced after the request was signed.
    """
    covered: dict[str, Any] = {"data": READING, "identity": str(SENDER)}
    if fresh:
        covered |= {"time": NOW, "nonce": "n-1", "to": str(RECEIVER)}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    key = private_key("RS256").raw_value
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = base64.b64encode(key.sign(text, PKCS1v15(), SHA256())).decode()
    params = covered | {"digest": sha256(text).hexdigest(), "signature": signature} | changed
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
