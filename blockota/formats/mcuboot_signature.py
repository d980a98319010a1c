"""Verifies the ECDSA signature of an MCUboot image, and adds the signature of a hardware token to an image. Pure.

Source: MCUboot, docs/design.md.

imgtool signs the hash of header, program and protected TLVs with a key on P-256. Two unprotected TLVs follow the hash.
The first contains the key or the SHA-256 of the key; the second contains the signature in DER.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from blockota.errors import ImageError
from blockota.formats.mcuboot import McubootItems, read_header, read_items, write_list
from blockota.formats.public_key import PublicKey

KEY_HASH, PUBLIC_KEY, ECDSA_SIGNATURE = 0x01, 0x02, 0x22
"""The types of TLVs with the key of a signature, and of a signature on P-256 or P-384."""
ENCRYPTED = "its program is encrypted, and the signature is of the decrypted program"
"""Why the signature of an encrypted image cannot be verified."""
_OTHER_SIGNATURES = {0x20: "RSA", 0x23: "RSA", 0x24: "Ed25519", 0x25: "pure Ed25519"}
_WORD = 32
_FULL = b"\x04"
_SEQUENCE_HEAD = 2
"""The number of bytes before the two numbers of a DER signature on P-256: the tag, and a length of one byte."""


def key_hash(key: PublicKey) -> bytes:
    """Return the SHA-256 of a public key, by which MCUboot images name the key."""
    return hashlib.sha256(key.spki).digest()


def signing_key(items: McubootItems) -> bytes | None:
    """Return the SHA-256 of the key that an image names; None if the image does not name exactly one key."""
    named = [value for kind, value in items.unprotected if kind == KEY_HASH]
    named += [hashlib.sha256(value).digest() for kind, value in items.unprotected if kind == PUBLIC_KEY]
    return named[0] if len(named) == 1 else None


def find_signature_fault(image: bytes, key: PublicKey) -> str:
    """Return why an image is not signed by a P-256 key; empty if the key signed the image.

    For an encrypted image that names the key, the reason is `ENCRYPTED`, because its signature cannot be verified.
    """
    try:
        items = read_items(image)
    except ImageError as error:
        return error.why
    if fault := _find_kind_fault(items):
        return fault

    named, wanted = signing_key(items), key_hash(key)
    if named is None:
        return "it does not name the key of its signature"
    if named != wanted:
        return f"it is signed with another key: the SHA-256 of its key is {named.hex()}, the product's {wanted.hex()}"

    header = read_header(image)
    if header is None or header.is_encrypted:
        return ENCRYPTED
    return "" if _is_signed(items, key) else "its signature is wrong"


def digest_to_sign(image: bytes) -> bytes:
    """Return the digest of an unsigned image, which its future signature must cover.

    Args:
        image: an image of imgtool that is neither signed nor padded to its slot.

    Raises:
        ImageError: the image cannot be signed.
    """
    items, header = read_items(image), read_header(image)
    kinds = {kind for kind, _ in items.unprotected}

    fault = ""
    if header is None or header.is_encrypted:
        fault = ENCRYPTED
    elif kinds & {KEY_HASH, PUBLIC_KEY, ECDSA_SIGNATURE, *_OTHER_SIGNATURES}:
        fault = "it is signed already"
    elif items.digest[0] != "sha256":
        fault = "its hash is not SHA-256, which a signature on P-256 needs"
    elif items.end != len(image):
        fault = f"{len(image) - items.end:,} bytes follow its TLVs, as after a padding to its slot"

    if fault:
        remedy = "make an image with `imgtool sign`, without a key and without padding"
        raise ImageError("the image cannot be signed", why=fault, remedy=remedy)
    return items.digest[1]


def with_signature(image: bytes, key: PublicKey, signature: bytes) -> bytes:
    """Return an image with a signature, in the form that imgtool writes.

    Args:
        image: an image that `digest_to_sign` accepts.
        key: the P-256 key.
        signature: the ECDSA signature of the image's digest: r and s, 32 bytes each.

    Raises:
        ImageError: the image cannot be signed.
    """
    digest_to_sign(image)
    unprotected = read_items(image).unprotected
    r, s = int.from_bytes(signature[:_WORD]), int.from_bytes(signature[_WORD:])
    added = ((KEY_HASH, key_hash(key)), (ECDSA_SIGNATURE, encode_dss_signature(r, s)))
    return image[: -len(write_list(unprotected))] + write_list([*unprotected, *added])


def _find_kind_fault(items: McubootItems) -> str:
    """Return why an image does not have exactly one P-256 signature; empty if the image has exactly one."""
    signatures = [kind for kind, _ in items.unprotected if kind == ECDSA_SIGNATURE or kind in _OTHER_SIGNATURES]
    if not signatures:
        return "it is not signed"
    if len(signatures) > 1:
        return "it has several signatures"
    if other := _OTHER_SIGNATURES.get(signatures[0]):
        return f"its signature is of the kind {other}, and the product's key is on P-256"
    return "" if items.digest[0] == "sha256" else "its signature is on P-384, and the product's key is on P-256"


def _is_signed(items: McubootItems, key: PublicKey) -> bool:
    signature = next(value for kind, value in items.unprotected if kind == ECDSA_SIGNATURE)
    public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), _FULL + key.data)
    try:
        public.verify(_unpadded(signature), items.digest[1], ECDSA(Prehashed(SHA256())))
    except InvalidSignature:
        return False
    return True


def _unpadded(signature: bytes) -> bytes:
    """Return a signature without the zeros that `imgtool --pad-sig` appends to reach a fixed length."""
    size = _SEQUENCE_HEAD + signature[1] if len(signature) >= _SEQUENCE_HEAD else 0
    return signature[:size] if not any(signature[size:]) else signature
