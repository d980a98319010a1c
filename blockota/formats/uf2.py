"""A strict reader of UF2 files for the STM32 (github.com/microsoft/uf2, README).

A UF2 file is a sequence of blocks of 512 bytes. The header of a block contains magic numbers, flags, a target address,
the size of the payload, the number of the block, the number of blocks, and a family id. The payload and a final magic
number follow.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from dataclasses import dataclass

from blockota.errors import ImageError, shortened

MAGIC = b"UF2\n"
"""The first four bytes of every UF2 file."""
_BLOCK_SIZE = 512
_HEADER = struct.Struct("<8I")
_SECOND_MAGIC, _END_MAGIC = 0x9E5D_5157, struct.pack("<I", 0x0AB1_6F30)
_MAX_PAYLOAD = 476
_DIGEST = struct.Struct("<2I16s")
_NOT_MAIN_FLASH, _FILE_CONTAINER, _HAS_FAMILY, _HAS_DIGEST = 0x1, 0x1000, 0x2000, 0x4000
FAMILIES = {
    0x647824B6: "STM32F0",
    0x5EE21072: "STM32F1",
    0x5D1A0A2E: "STM32F2",
    0x6B846188: "STM32F3",
    0x57755A57: "STM32F4",
    0x6D0922FA: "STM32F407",
    0x8FB060FE: "STM32F407VG",
    0x2DC309C5: "STM32F411xE",
    0x06D1097B: "STM32F411xC",
    0x53B80F00: "STM32F7",
    0x300F5633: "STM32G0",
    0x4C71240A: "STM32G4",
    0x6DB66082: "STM32H7",
    0x202E3A91: "STM32L0",
    0x1E1F432D: "STM32L1",
    0x00FF6919: "STM32L4",
    0x04240BDF: "STM32L5",
    0x70D16653: "STM32WB",
    0x21460FF0: "STM32WL",
}
"""The family ids of the STM32 chips (utils/uf2families.json of github.com/microsoft/uf2)."""


@dataclass(frozen=True)
class _Uf2Block:
    flags: int
    address: int
    number: int
    count: int
    family: int
    payload: bytes
    data: bytes


def parse_uf2(content: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the blocks of a UF2 file for the main flash, in file order.

    Args:
        content: the whole file.

    Returns:
        Pairs of an address and the bytes at that address.

    Raises:
        ImageError: a block is malformed, missing, repeated, for another family, or contradicts its MD5 digest.
    """
    if len(content) % _BLOCK_SIZE:
        why = f"its size, {len(content):,} bytes, is not a multiple of {_BLOCK_SIZE}"
        raise _damaged(why)
    rows = [content[at : at + _BLOCK_SIZE] for at in range(0, len(content), _BLOCK_SIZE)]
    blocks = [_parse_block(number, row) for number, row in enumerate(rows)]
    _check_family(blocks)

    # The numbers of the blocks show whether the file is complete. Blocks outside the main flash are numbered too.
    counts = {block.count for block in blocks}
    if len(counts) > 1:
        raise _damaged(f"its blocks state different numbers of blocks: {shortened(map(str, sorted(counts)))}")
    found = Counter(block.number for block in blocks)
    for what, numbers in (
        ("is repeated", [number for number, times in found.items() if times > 1]),
        ("has a number that is too high", found.keys() - range(*counts)),
        ("is missing", range(*counts) - found.keys()),
    ):
        if numbers:
            names = shortened(map(str, sorted(numbers)))
            raise _damaged(f"it states {blocks[0].count:,} blocks, and block {names} {what}")

    pieces = [(block.address, block.payload) for block in blocks if not block.flags & _NOT_MAIN_FLASH]
    for block in blocks:
        if block.flags & _HAS_DIGEST:
            _check_digest(block, pieces)
    return tuple(pieces)


def family_of(content: bytes) -> str:
    """Return the family of chips that a UF2 file names, such as ``STM32F4``; empty without a known family id."""
    if len(content) < _BLOCK_SIZE:
        return ""
    return FAMILIES.get(_parse_block(0, content[:_BLOCK_SIZE]).family, "")


def _parse_block(index: int, row: bytes) -> _Uf2Block:
    first, second, flags, address, size, number, count, family = _HEADER.unpack_from(row)
    if struct.pack("<I", first) != MAGIC or second != _SECOND_MAGIC or not row.endswith(_END_MAGIC):
        raise _damaged(f"block {index} lacks a magic number")
    if size > _MAX_PAYLOAD:
        raise _damaged(f"block {index} states {size:,} bytes of data, and at most {_MAX_PAYLOAD} fit")

    if flags & _FILE_CONTAINER:
        raise ImageError(
            "the UF2 file contains files, not a firmware image",
            why=f"block {index} has the flag of a file container",
            remedy="give the UF2 file of the firmware",
        )

    data = row[_HEADER.size : _HEADER.size + _MAX_PAYLOAD]
    return _Uf2Block(flags, address, number, count, family if flags & _HAS_FAMILY else 0, data[:size], data)


def _check_family(blocks: list[_Uf2Block]) -> None:
    families = {block.family for block in blocks}
    if len(families) > 1:
        raise ImageError(
            "the UF2 file is for several families of chips",
            why=", ".join(sorted(FAMILIES.get(family, f"family {family:#010x}") for family in families)),
            remedy="give the UF2 file for one family",
        )
    # Old UF2 files have no family id. For these, only the target addresses are checked.
    for family in families - {0} - FAMILIES.keys():
        raise ImageError(
            "the UF2 file is for another chip",
            why=f"its family id {family:#010x} does not belong to an STM32",
            remedy="give the UF2 file for the product's chip",
        )


def _check_digest(block: _Uf2Block, pieces: list[tuple[int, bytes]]) -> None:
    """Compare a block's MD5 digest of an address range with the file's bytes in this range."""
    start, size, digest = _DIGEST.unpack_from(block.data, _MAX_PAYLOAD - _DIGEST.size)
    parts = sorted((address, data) for address, data in pieces if start <= address < start + size)
    found = b"".join(data for _, data in parts)[:size]
    # MD5 only detects damage here. The release is identified by its SHA-256.
    if hashlib.md5(found, usedforsecurity=False).digest() != digest:
        raise _damaged(f"the bytes from {start:#010x} do not have the MD5 digest of block {block.number}")


def _damaged(why: str) -> ImageError:
    return ImageError("the UF2 file is damaged", why=why, remedy="fetch or build the file again")
