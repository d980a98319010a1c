"""Identities for tests: UUIDs, keys and enrolments that are the same in every run."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec

from blockota.ethereum import to_checksum_address
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.keys import dev_account
from blockota.model.identity import Enrolment, IdentityKind, Keys


def p256_key(number: int) -> PublicKey:
    """Return the P-256 public key of a private key that is a small number."""
    point = ec.derive_private_key(1000 + number, ec.SECP256R1()).public_key().public_numbers()
    return PublicKey(KeyKind.P256, point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"))


def keys_of(number: int, *, account: str | None = None) -> Keys:
    """Return keys for all purposes. Without `account`, the account is an address whose private key is unknown."""
    word = hashlib.sha256(b"identity %d" % number).digest
    other = to_checksum_address("0x" + word()[:20].hex())
    log_key = hashlib.sha256(b"log %d" % number).digest()
    return Keys(p256_key(number), account or other, log_key, hashlib.sha256(b"tunnel %d" % number).digest())


def enrolment_of(number: int, kind: IdentityKind = IdentityKind.GATEWAY, *, account: str | None = None) -> Enrolment:
    """Return the enrolment of an identity with keys for all purposes and the virtual IP 10.64.0.n."""
    return Enrolment(UUIDS[number], kind, keys_of(number, account=account), IPv4Address(0x0A400000 + number + 1))


UUIDS = tuple(UUID(bytes=hashlib.sha256(b"uuid %d" % number).digest()[:16], version=4) for number in range(64))
KEYS = tuple(keys_of(number) for number in range(4))
ACCOUNT = to_checksum_address(dev_account(7).address)
