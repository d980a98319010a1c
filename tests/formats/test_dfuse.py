"""DfuSe files are read with all their targets and elements; damaged files are refused."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import ImageError
from blockota.formats.firmware_image import FirmwareImage, read_image

BASE = 0x0800_0000


def target(*elements: tuple[int, bytes], alternate: int = 0, size: int | None = None) -> bytes:
    """Return the bytes of one DfuSe target with its elements."""
    body = b"".join(struct.pack("<II", address, len(data)) + data for address, data in elements)
    stated = len(body) if size is None else size
    return struct.pack("<6sBI255sII", b"Target", alternate, 1, b"Internal Flash", stated, len(elements)) + body


def dfuse(*targets: bytes, **fields: int) -> bytes:
    """Return a DfuSe file with a correct checksum, and with changed fields."""
    body = b"".join(targets)
    size, count = fields.get("size", 11 + len(body)), fields.get("count", len(targets))
    content = struct.pack("<5sBIB", b"DfuSe", fields.get("version", 1), size, count) + body
    content += struct.pack("<4H3sB", 0xFFFF, 0xDF11, 0x0483, fields.get("dfu", 0x011A), b"UFD", 16)
    return content + struct.pack("<I", zlib.crc32(content) ^ 0xFFFF_FFFF)


def test_elements_of_all_targets_are_joined() -> None:
    """The elements of several targets are read at their addresses."""
    content = dfuse(target((BASE + 4, b"more"), (BASE, b"code")), target((BASE + 8, b"data"), alternate=1))
    assert read_image(content) == FirmwareImage(b"codemoredata", BASE, "dfuse")


def test_the_stated_size_may_include_the_suffix() -> None:
    """A DfuSe file is also read if the size in its prefix includes the suffix, as some tools write it."""
    plain = dfuse(target((BASE, b"code")))
    assert read_image(dfuse(target((BASE, b"code")), size=len(plain))).data == b"code"


GOOD = dfuse(target((BASE, b"code")))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (GOOD[:-1], "it has no DfuSe suffix, so it is probably truncated"),
        (b"DfuSe\x01", "it is truncated"),
        (GOOD[:290] + b"X" + GOOD[291:], "its contents have the checksum 0x"),
        (dfuse(target((BASE, b"code")), version=2), "its prefix has version 2"),
        (dfuse(target((BASE, b"code")), size=7), "its prefix states 7 bytes"),
        (dfuse(target((BASE, b"code")), dfu=0x0100), "no DfuSe suffix"),
        (dfuse(target((BASE, b"code")), count=2), "a header is truncated"),
        (dfuse(target((BASE, b"code")), count=0), "bytes follow its last target"),
        (dfuse(b"Tarket" + target((BASE, b"code"))[6:]), "target 0 does not begin with its signature"),
        (dfuse(target((BASE, b"code"), size=11)), "is longer than the target"),
        (dfuse(target((BASE, b"code"), size=13)), "its elements have another total size"),
        (dfuse(), "the dfuse file contains no data"),
        (dfuse(target((BASE, b"code")), target((0x1FFF_F800, b"\xa5\x5a"), alternate=1)), "lies in the option bytes"),
    ],
)
def test_damaged_files_are_refused(content: bytes, why: str) -> None:
    """DfuSe files that are damaged, truncated or contain option bytes are refused with the reason."""
    with pytest.raises(ImageError, match=why):
        read_image(content)


@given(data=st.binary(min_size=1, max_size=2000), cut=st.integers(1, 1999), offset=st.integers(0, 0x3_0000))
def test_any_bytes_come_back(data: bytes, cut: int, offset: int) -> None:
    """Any bytes at any address are read back from one target with several elements."""
    start = BASE + offset
    elements = ((start + at, data[at : at + cut]) for at in range(0, len(data), cut))
    assert read_image(dfuse(target(*elements))) == FirmwareImage(data, start, "dfuse")
