"""The P-256 key of an identity, with which a service signs requests, and a gateway signs documents for devices.

A key is named by a URI:

==============  ==============================================================================================
``file:PATH``   a file with an unencrypted private key in PEM (PKCS #8), readable for its owner only
``env:NAME``    an environment variable with the private key, 64 hexadecimal digits
``pkcs11:…``    a key in a PKCS #11 token (RFC 7512; see `blockota.pkcs11_keys`)
==============  ==============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockota.errors import UsageError
from blockota.files import home_path
from blockota.formats.jws import SignDigest
from blockota.keys import open_token_key
from blockota.ledger.keys import read_key_file

_SECRET = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_NAME = "the key of this service's identity"
_WORD = 32


@dataclass(frozen=True)
class IdentityKey:
    """An open key.

    Attributes:
        public_key: x and y of the public key, 64 bytes.
        sign_digest: signs a SHA-256. Returns r and s, 64 bytes.
    """

    public_key: bytes
    sign_digest: SignDigest


def open_identity_key(uri: str, *, environment: Mapping[str, str]) -> IdentityKey:
    """Open the key that a URI names.

    Args:
        uri: the URI, in one of the forms in this module's docstring.
        environment: the environment variables for ``env:NAME``.

    Raises:
        UsageError: the URI is not valid, or the key cannot be read.
        RefusedError: other users can read the key's file, or the token refuses access.
    """
    kind, _, place = uri.partition(":")
    if kind == "pkcs11":
        token_key = open_token_key(uri, environment=environment, curve="P-256")
        return IdentityKey(token_key.public_key, token_key.sign_digest)
    private = _private_key(kind, place, environment)

    def sign_digest(digest: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(digest, ECDSA(Prehashed(SHA256()))))
        return r.to_bytes(_WORD) + s.to_bytes(_WORD)

    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return IdentityKey(point[1:], sign_digest)


def _private_key(kind: str, place: str, environment: Mapping[str, str]) -> EllipticCurvePrivateKey:
    if kind == "file" and place:
        private = read_key_file(home_path(place), name=_NAME)
        if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
            return private
        raise UsageError(f"the file {place} is not {_NAME}", why="a P-256 key is required")

    # An argument that is itself a key must not appear in a message.
    if kind != "env" or not place or _SECRET.fullmatch(place):
        raise UsageError(
            f"{_NAME} cannot be found",
            why="the URI of a key is file:PATH, env:NAME or pkcs11:…",
            remedy="give the URI of the key, not the key itself",
        )

    secret = environment.get(place, "").strip()
    if not _SECRET.fullmatch(secret):
        why = "the variable is not set" if not secret else "64 hexadecimal digits are required"
        raise UsageError(f"env:{place} is not {_NAME}", why=why, remedy="export the variable")

    try:
        return derive_private_key(int(secret, 16), SECP256R1())
    except ValueError as error:
        raise UsageError(f"env:{place} is not {_NAME}", why="the number is not a P-256 key") from error
