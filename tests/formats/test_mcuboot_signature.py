"""Signatures of MCUboot images: verification, comparison with imgtool, and detection of changes."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from blockota.errors import ImageError
from blockota.formats.mcuboot import read_items, security_counter, write_list
from blockota.formats.mcuboot_signature import (
    ENCRYPTED,
    find_signature_fault,
    key_hash,
    signing_key,
    with_signature,
)
from tests.support.mcuboot import KEY as PRIVATE
from tests.support.mcuboot import public_key, sign_image, unsigned_image

MADE_BY_IMGTOOL = json.loads((Path(__file__).parent / "mcuboot_signed.json").read_text())
"""Images made by imgtool 2.5.0 with the given command; p256.pem is the key 7 of P-256, and other.pem the key 8."""
IMAGES = {name: bytes.fromhex(made["image"]) for name, made in MADE_BY_IMGTOOL.items()}
GOOD = ("without a counter", "counter 0", "counter 3", "full key", "padded signature", "padded to its slot")
KEY = public_key(PRIVATE)
SIGNED, UNSIGNED = IMAGES["counter 3"], IMAGES["unsigned"]


def remade(image: bytes, *added: tuple[int, bytes], without: int = -1) -> bytes:
    """Return an image whose unprotected TLVs are replaced."""
    items = read_items(image)
    kept = [(kind, value) for kind, value in items.unprotected if kind != without]
    start = items.end - len(write_list(items.unprotected))
    return image[:start] + write_list([*kept, *added])


@pytest.mark.parametrize(
    ("name", "counter"), [*zip(GOOD, (None, 0, 3, 2**32 - 1, None, 3), strict=True), ("unsigned", 3), ("encrypted", 3)]
)
def test_the_security_counter_is_the_one_given_to_imgtool(name: str, counter: int | None) -> None:
    """The security counter is read from the protected TLVs, whatever kind of key signed the image."""
    assert security_counter(IMAGES[name]) == counter


@pytest.mark.parametrize("name", GOOD)
def test_signatures_of_imgtool_are_accepted(name: str) -> None:
    """An image is accepted if it contains its public key, or the SHA-256 of this key.

    A signature followed by padding, and an image followed by padding, are accepted.
    """
    assert find_signature_fault(IMAGES[name], KEY) == ""
    assert signing_key(read_items(IMAGES[name])) == key_hash(KEY)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (UNSIGNED, "it is not signed"),
        (IMAGES["signed by another key"], "it is signed with another key: the SHA-256 of its key is"),
        (IMAGES["signed on P-384"], "its signature is on P-384, and the product's key is on P-256"),
        (IMAGES["signed with Ed25519"], "its signature is of the kind Ed25519"),
        (IMAGES["signed with RSA"], "its signature is of the kind RSA"),
        (IMAGES["encrypted"], ENCRYPTED),
        (b"", "does not begin with an MCUboot header"),
        (SIGNED[:-1], "the TLVs after its program are not complete"),
        (remade(SIGNED, without=0x01), "it does not name the key of its signature"),
        (remade(SIGNED, (0x01, key_hash(KEY))), "it does not name the key of its signature"),
        (remade(SIGNED, (0x22, b"")), "it has several signatures"),
        (remade(SIGNED, (0x22, b""), without=0x22), "its signature is wrong"),
        (remade(SIGNED, (0x22, b"\x30"), without=0x22), "its signature is wrong"),
        (remade(SIGNED, (0x10, bytes(32))), "two hashes follow its program"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_images_are_refused_with_the_reason(image: bytes, why: str) -> None:
    """A missing signature, a wrong key and a wrong kind of key are each refused with a reason of their own."""
    assert why in find_signature_fault(image, KEY)


def test_the_signature_of_another_image_is_refused() -> None:
    """Two images can be signed with one key. A signature is refused if it is moved from one image to another."""
    other = next(value for kind, value in read_items(IMAGES["counter 0"]).unprotected if kind == 0x22)
    assert find_signature_fault(remade(SIGNED, (0x22, other), without=0x22), KEY) == "its signature is wrong"


@pytest.mark.parametrize("name", GOOD[:5])
def test_no_changed_bit_is_accepted(name: str) -> None:
    """A change of any bit in the header, the program or a TLV is detected."""
    image = bytearray(IMAGES[name])
    for at in range(len(image) * 8):
        image[at // 8] ^= 1 << at % 8
        assert find_signature_fault(bytes(image), KEY), f"bit {at % 8} of byte {at // 8}"
        image[at // 8] ^= 1 << at % 8


@pytest.mark.parametrize("name", GOOD[:5])
def test_no_shorter_image_is_accepted(name: str) -> None:
    """A truncated image is refused at every length."""
    image = IMAGES[name]
    assert all(find_signature_fault(image[:size], KEY) for size in range(len(image)))


def test_our_signature_makes_the_image_that_imgtool_makes() -> None:
    """Except for the random signature itself, the signed image equals the output of ``imgtool sign -k``."""
    made = sign_image(UNSIGNED)
    assert find_signature_fault(made, KEY) == ""
    assert security_counter(made) == 3
    kinds = [kind for kind, _ in read_items(SIGNED).unprotected]
    assert [kind for kind, _ in read_items(made).unprotected] == kinds == [0x10, 0x01, 0x22]
    same = len(UNSIGNED) + 4 + 32
    assert made[: len(UNSIGNED) - 40] == SIGNED[: len(UNSIGNED) - 40]
    assert made[len(UNSIGNED) - 36 : same] == SIGNED[len(UNSIGNED) - 36 : same]


def remade_with_sha512() -> bytes:
    """Return an unsigned image with another kind of hash, as ``imgtool sign --sha 512`` makes it."""
    digest = hashlib.sha512(UNSIGNED[: read_items(UNSIGNED).end - 40]).digest()
    return remade(UNSIGNED, (0x12, digest), without=0x10)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (SIGNED, "it is signed already"),
        (remade_with_sha512(), "its hash is not SHA-256"),
        (IMAGES["signed on P-384"], "it is signed already"),
        (IMAGES["encrypted"], "its program is encrypted"),
        (UNSIGNED + b"\xff" * 8, "8 bytes follow its TLVs"),
        (UNSIGNED[:-1], "the TLVs after its program are not complete"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_image_that_cannot_be_signed_is_refused(image: bytes, why: str) -> None:
    """A signature can be added only to an unsigned image that imgtool made."""
    with pytest.raises(ImageError) as refused:
        with_signature(image, KEY, bytes(64))
    assert why in refused.value.why


def test_a_counter_is_one_number() -> None:
    """An image with two security counters is refused, because different boot loaders use different counters."""
    assert security_counter(unsigned_image(b"", 5)) == 5
    for values in ((5, 6), (b"\x05",), (b"",)):
        with pytest.raises(ImageError, match="its security counter is not one number of four bytes"):
            read_items(unsigned_image(b"", *values))
        assert security_counter(unsigned_image(b"", *values)) is None


def test_a_counter_outside_the_protected_tlvs_does_not_count() -> None:
    """A security counter in the unprotected TLVs is ignored, because the image's hash does not cover these TLVs."""
    assert security_counter(remade(SIGNED, (0x50, b"\xff\xff\xff\xff"))) == 3


@pytest.mark.parametrize(("stated", "end"), [(11, b""), (13, b""), (16, b"\0\0\0\0")])
def test_the_header_states_the_size_of_the_protected_tlvs(stated: int, end: bytes) -> None:
    """An image is refused if its list of protected TLVs does not have the length in the header."""
    image = unsigned_image(b"", 5)
    hashed = image[: read_items(image).end - 40]
    hashed = hashed[:10] + struct.pack("<H", stated) + hashed[12:] + end
    with pytest.raises(ImageError):
        read_items(hashed + write_list([(0x10, hashlib.sha256(hashed).digest())]))
