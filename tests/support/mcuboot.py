"""MCUboot images in the format of imgtool, with a security counter and a signature."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockota.formats.mcuboot import image_digest, write_list
from blockota.formats.mcuboot_signature import with_signature
from blockota.formats.public_key import PublicKey, read_spki
from tests.support.programs import program

HEADER_SIZE = 0x200
KEY = ec.derive_private_key(7, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(8, ec.SECP256R1())


def public_key(private: ec.EllipticCurvePrivateKey) -> PublicKey:
    """Return the public key of a private key."""
    return read_spki(private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def sign_image(image: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """Sign the digest of an image, as a hardware token does."""
    r, s = decode_dss_signature(key.sign(image_digest(image), ec.ECDSA(Prehashed(SHA256()))))
    return with_signature(image, public_key(key), r.to_bytes(32) + s.to_bytes(32))


def unsigned_image(name: bytes, *counters: int | bytes) -> bytes:
    """Return an image with the given security counters. imgtool itself writes at most one counter.

    Images with different names have different programs.
    """
    code = program(0x4000 + HEADER_SIZE, after=name.ljust(64, b"."))
    protected = b""
    for counter in counters:
        value = struct.pack("<I", counter) if isinstance(counter, int) else counter
        protected += struct.pack("<HH", 0x50, len(value)) + value
    if counters:
        protected = struct.pack("<HH", 0x6908, 4 + len(protected)) + protected
    head = struct.pack("<IIHHII8sI", 0x96F3_B83D, 0, HEADER_SIZE, len(protected), len(code), 0, b"\1", 0)
    hashed = head.ljust(HEADER_SIZE, b"\0") + code + protected
    return hashed + write_list([(0x10, hashlib.sha256(hashed).digest())])


def write_image(path: str, *counters: int, key: ec.EllipticCurvePrivateKey | None = KEY) -> bytes:
    """Write an image to a file.

    The name is included in the program of the image. If no key is given, the image is not signed.
    """
    image = unsigned_image(path.encode(), *counters)
    image = sign_image(image, key) if key else image
    Path(path).write_bytes(image)
    return image
