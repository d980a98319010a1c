"""UF2 files are read block by block; damaged, incomplete and foreign files are refused."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import ImageError
from blockota.formats.firmware_image import FirmwareImage, read_image

BASE = 0x0800_0000
F4, RP2040 = 0x5775_5A57, 0xE48B_FF56
HAS_FAMILY, HAS_DIGEST, NOT_FLASH, CONTAINER = 0x2000, 0x4000, 1, 0x1000


def block(address: int, data: bytes, number: int, count: int, **fields: int | bytes) -> bytes:
    """Return one block of a UF2 file, with changed fields."""
    flags, family = fields.get("flags", HAS_FAMILY), fields.get("family", F4)
    size, end = fields.get("size", len(data)), fields.get("end", 0x0AB1_6F30)
    header = struct.pack("<8I", 0x0A32_4655, 0x9E5D_5157, flags, address, size, number, count, family)
    content = data.ljust(476, b"\0")
    if digest := fields.get("digest"):
        content = content[:452] + bytes(digest)
    return header + content + struct.pack("<I", end)


def uf2(data: bytes, address: int = BASE, width: int = 256, family: int = F4) -> bytes:
    """Return a UF2 file for contiguous bytes."""
    parts = [data[at : at + width] for at in range(0, len(data), width)]
    return b"".join(
        block(address + width * number, part, number, len(parts), family=family) for number, part in enumerate(parts)
    )


DATA = bytes(range(256)) * 3 + b"end."


def test_blocks_are_joined_by_their_target_addresses() -> None:
    """The payloads of all blocks are read at their target addresses, in any order of the blocks."""
    content = uf2(DATA)
    assert read_image(content) == FirmwareImage(DATA, BASE, "uf2")
    blocks = [content[at : at + 512] for at in range(0, len(content), 512)]
    assert read_image(b"".join(reversed(blocks))) == FirmwareImage(DATA, BASE, "uf2")


def test_a_file_without_a_family_is_read() -> None:
    """A file without a family id, as older tools write, is read."""
    assert read_image(block(BASE, b"abcd", 0, 1, flags=0, family=4)).data == b"abcd"


def test_blocks_beside_the_main_flash_are_omitted() -> None:
    """A block with the flag 'not main flash' is counted, but its bytes are not part of the image."""
    content = block(BASE, b"abcd", 0, 2) + block(0, b"note", 1, 2, flags=HAS_FAMILY | NOT_FLASH)
    assert read_image(content).data == b"abcd"


def test_blocks_without_bytes_count_for_nothing() -> None:
    """A block without payload is accepted at any address, and causes no gap in the image."""
    content = block(BASE, b"abcd", 0, 3) + block(BASE + 0x4000, b"", 1, 3) + block(0x1FFF_F800, b"", 2, 3)
    assert read_image(content) == FirmwareImage(b"abcd", BASE, "uf2")
    assert read_image(content).gaps == ()
    with pytest.raises(ImageError, match="the uf2 file contains no data"):
        read_image(block(BASE, b"", 0, 1))


def test_gaps_between_blocks_are_known() -> None:
    """If two blocks are not adjacent, the image has a gap between them."""
    image = read_image(block(BASE, b"ab", 0, 2) + block(BASE + 1024, b"cd", 1, 2))
    assert image.gaps == (range(BASE + 2, BASE + 1024),)


def test_the_digest_of_a_block_is_checked() -> None:
    """An MD5 digest in a block must match the bytes to which the block refers."""
    digest = struct.pack("<2I", BASE, 4) + hashlib.md5(b"abcd", usedforsecurity=False).digest()
    good = block(BASE, b"abcd", 0, 1, flags=HAS_FAMILY | HAS_DIGEST, digest=digest)
    assert read_image(good).data == b"abcd"
    with pytest.raises(ImageError, match="do not have the MD5 digest of block 0"):
        read_image(block(BASE, b"abce", 0, 1, flags=HAS_FAMILY | HAS_DIGEST, digest=digest))


GOOD = uf2(DATA)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (GOOD[:-1], "is not a multiple of 512"),
        (GOOD[:-512], "it states 4 blocks, and block 3 is missing"),
        (GOOD[512:], "it states 4 blocks, and block 0 is missing"),
        (GOOD[:512] * 2 + GOOD[1024:], "it states 4 blocks, and block 0 is repeated"),
        (GOOD + block(BASE, b"abcd", 5, 4), "it states 4 blocks, and block 5 has a number that is too high"),
        (GOOD + block(BASE, b"abcd", 4, 5), "its blocks state different numbers of blocks: 4, 5"),
        (block(BASE, b"abcd", 0, 1, end=0), "block 0 lacks a magic number"),
        (b"UF2\n" + bytes(508), "block 0 lacks a magic number"),
        (block(BASE, b"abcd", 0, 1, size=477), "block 0 states 477 bytes of data, and at most 476 fit"),
        (block(BASE, b"abcd", 0, 1, flags=CONTAINER), "contains files, not a firmware image"),
        (uf2(DATA, family=RP2040), "its family id 0xe48bff56 does not belong to an STM32"),
        (block(BASE, b"a", 0, 2) + block(BASE + 1, b"b", 1, 2, family=RP2040), "for several families of chips"),
        (block(0x2000_0000, b"abcd", 0, 1), "lies in RAM"),
        (block(BASE, b"abcd", 0, 2) + block(BASE + 2, b"xy", 1, 2), "overlap at 0x08000002"),
        (block(BASE, b"abcd", 0, 1, flags=HAS_FAMILY | NOT_FLASH), "the uf2 file contains no data"),
    ],
)
def test_damaged_and_foreign_files_are_refused(content: bytes, why: str) -> None:
    """A damaged or incomplete UF2 file, and a UF2 file for another chip, are refused with the reason."""
    with pytest.raises(ImageError, match=why):
        read_image(content)


@given(data=st.binary(min_size=1, max_size=3000), offset=st.integers(0, 0x3_0000), width=st.integers(1, 476))
def test_any_bytes_come_back(data: bytes, offset: int, width: int) -> None:
    """Any bytes at any address are read back from blocks of any payload size."""
    assert read_image(uf2(data, BASE + offset, width)) == FirmwareImage(data, BASE + offset, "uf2")
