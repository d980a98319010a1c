"""The header of an MCUboot image contains the offset of the program; the image's digest equals that of imgtool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blockota.errors import ImageError
from blockota.formats.mcuboot import HEADER_SIZE, image_digest, program_offset, read_header
from tests.support.programs import program, signed

SLOT = 0x0801_0000
PROGRAM = program(SLOT + 0x200)
MADE_BY_IMGTOOL = json.loads((Path(__file__).parent / "mcuboot_images.json").read_text())
"""Images made by imgtool 2.5.0 with the given command, and the digests that ``imgtool verify`` prints."""
UNSIGNED = bytes.fromhex(MADE_BY_IMGTOOL["unsigned"]["image"])


def test_the_program_follows_the_header() -> None:
    """The vector table follows the header and its padding. An image without a header begins with the vector table."""
    for size in (HEADER_SIZE, 0x200, 0x400):
        assert program_offset(signed(PROGRAM, header=size)) == size
    assert program_offset(PROGRAM) == program_offset(signed(PROGRAM)[: HEADER_SIZE - 1]) == 0


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (signed(PROGRAM), ""),
        (signed(PROGRAM, flags=0x4), "is encrypted"),
        (signed(PROGRAM, flags=0x8), "is encrypted"),
        (signed(PROGRAM, flags=0x400), "is compressed"),
        (signed(PROGRAM, header=16), "states a header size of 16 bytes"),
        (signed(PROGRAM, header=0x202), "states a header size of 514 bytes"),
        (signed(PROGRAM, size=1 << 20), "1,048,576 bytes of program, but the image has"),
    ],
)
def test_a_header_without_a_program_is_explained(image: bytes, why: str) -> None:
    """For an encrypted, compressed or incomplete program, the parsed header contains why it cannot be read."""
    header = read_header(image)
    assert header is not None
    trouble = header.trouble(len(image))
    assert why in trouble
    assert bool(why) == bool(trouble)


@pytest.mark.parametrize("name", [name for name, made in MADE_BY_IMGTOOL.items() if made["digest"]])
def test_the_digest_is_the_one_of_imgtool(name: str) -> None:
    """The digest covers the header, the program and the protected TLVs. Bytes after the image do not change it."""
    made = MADE_BY_IMGTOOL[name]
    image = bytes.fromhex(made["image"])
    assert image_digest(image).hex() == made["digest"]
    assert image_digest(image + b"\xff" * 64).hex() == made["digest"]


def test_the_digest_of_an_encrypted_image_is_the_stated_one() -> None:
    """For an encrypted image, `image_digest` returns the hash that the image states.

    Only the device can decrypt the program. A changed byte of the encrypted program therefore does not change the
    digest.
    """
    image = bytearray.fromhex(MADE_BY_IMGTOOL["encrypted"]["image"])
    stated = image_digest(bytes(image))
    image[0x40] ^= 1
    assert image_digest(bytes(image)) == stated
    assert len(stated) == 32


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (PROGRAM, "does not begin with an MCUboot header"),
        (UNSIGNED[:0x40] + b"\xff" + UNSIGNED[0x41:], "is not the hash of its header and program"),
        (UNSIGNED[:8] + b"\x08\0" + UNSIGNED[10:], "a header size of 8 bytes"),
        (UNSIGNED[:0x80], "bytes of program, but the image has"),
        (UNSIGNED[:-0x28], "no hash follows its program"),
        (UNSIGNED[:-1], "the TLVs after its program are not complete"),
        (signed(PROGRAM), "no hash follows its program"),
    ],
)
def test_a_damaged_image_has_no_digest(image: bytes, why: str) -> None:
    """A truncated or changed image is refused with the reason."""
    with pytest.raises(ImageError) as refused:
        image_digest(image)
    assert why in refused.value.why
