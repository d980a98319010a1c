"""Log entries, and a device that signs its statements."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from blockota.formats.cose import ORDER, SignedStatement, to_be_signed
from blockota.model.receipt import RUNS, DeviceStatement, EntryKind, EvidenceLevel, LogEntry, ReleaseId
from blockota.model.release import Version

RELEASE = ReleaseId(1337, "0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9", "acme-thermo2", Version(1, 1, 0))
IMAGE = hashlib.sha256(b"image of acme-thermo2 1.1.0").digest()
GATEWAY = UUID("8f14e45f-ceea-467f-a8a0-c2d5b1e7d301")
DEVICE = 300


class SigningDevice:
    """A device with a P-256 key and a counter of its statements."""

    def __init__(self, secret: int = 0xB10C07A) -> None:
        self._key = derive_private_key(secret, SECP256R1())
        self.counter = 0

    @property
    def key(self) -> bytes:
        """The public key: x and y, 64 bytes."""
        numbers = self._key.public_key().public_numbers()
        return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)

    def state(self, image: bytes, *, nonce: bytes = bytes(16), kind: str = RUNS) -> tuple[int, bytes]:
        """Sign a statement about an image. Returns the counter and the COSE_Sign1 structure."""
        self.counter += 1
        return self.counter, self.sign(DeviceStatement(nonce, self.counter, image).encode(), kind)

    def sign(self, payload: bytes, kind: str = RUNS) -> bytes:
        """Sign any payload, with a low s."""
        r, s = decode_dss_signature(self._key.sign(to_be_signed(kind, payload), ECDSA(SHA256())))
        return SignedStatement(kind, payload, r.to_bytes(32) + min(s, ORDER - s).to_bytes(32)).encode()


def install(**changes: Any) -> LogEntry:
    """Return the receipt of a bench that read the flash (level C), with some values changed."""
    entry = LogEntry(
        kind=EntryKind.INSTALL,
        time=1_795_000_000,
        device=DEVICE,
        release=RELEASE,
        image=IMAGE,
        previous=hashlib.sha256(b"image of acme-thermo2 1.0.0").digest(),
        level=EvidenceLevel.C,
        unique_id=bytes.fromhex("48ff6f064951325712260187"),
        gateway=GATEWAY,
        source="https://firmware.acme.example",
        order=7,
    )
    return replace(entry, **changes)


def signed_install(device: SigningDevice, **changes: Any) -> LogEntry:
    """Return a receipt that the device signed (level A)."""
    counter, signature = device.state(IMAGE)
    return install(level=EvidenceLevel.A, counter=counter, signature=signature, **changes)
