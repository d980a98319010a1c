"""Motorola S-records are parsed strictly, and errors name the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import ImageError
from blockota.formats.firmware_image import FirmwareImage, read_image

BASE = 0x0800_0000
SIZES = {0: 2, 1: 2, 2: 3, 3: 4, 5: 2, 6: 3, 7: 4, 8: 3, 9: 2}


def record(kind: int, address: int, data: bytes = b"") -> bytes:
    """Return one S-record."""
    body = address.to_bytes(SIZES[kind], "big") + data
    body = bytes((len(body) + 1,)) + body
    return f"S{kind}".encode() + (body + bytes((~sum(body) & 0xFF,))).hex().upper().encode() + b"\n"


def test_the_known_example_is_read() -> None:
    """The example of the srec manual page is read: a header, two data records, a count and an end record."""
    content = (
        b"S00F000068656C6C6F202020202000003C\n"
        b"S11F00007C0802A6900100049421FFF07C6C1B787C8C23783C6000003863000026\n"
        b"S11F001C4BFFFFE5398000007D83637880010014382100107C0803A64E800020E9\n"
        b"S5030002FA\nS9030000FC\n"
    )
    image = read_image(content)
    assert (image.format, image.load_address, image.size) == ("srec", 0, 56)
    assert image.data.startswith(bytes.fromhex("7C0802A6"))
    assert image.data.endswith(bytes.fromhex("4E800020"))


@pytest.mark.parametrize(("kind", "end", "address"), [(1, 9, 0x1234), (2, 8, 0x12_3456), (3, 7, BASE)])
def test_addresses_have_two_three_or_four_bytes(kind: int, end: int, address: int) -> None:
    """Each type of data record is read with its address length."""
    content = record(0, 0, b"name") + record(kind, address, b"abcd") + record(5, 1) + record(end, address)
    assert read_image(content.lower().replace(b"s", b"S")) == FirmwareImage(b"abcd", address, "srec")


def test_a_count_can_end_a_file() -> None:
    """A file that ends with the right record count instead of an end record is complete."""
    assert read_image(record(3, BASE, b"abcd") + record(5, 1)).data == b"abcd"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (record(3, BASE, b"a"), "no end record and no count: it was truncated"),
        (record(3, BASE, b"a") + record(5, 1) + record(3, BASE + 1, b"a"), "no end record and no count"),
        (record(3, BASE, b"a") + record(7, 0) + record(3, BASE, b"a"), "line 3 .* follows the end record"),
        (record(3, BASE, b"a")[:-3] + b"00\n" + record(7, 0), "line 1 .* checksum is wrong"),
        (record(3, BASE, b"a") + b"S3\n" + record(7, 0), "line 2 .* is too short"),
        (record(3, BASE, b"a") + b"S30G\n", "pairs of hexadecimal digits"),
        (record(3, BASE, b"a") + b"S4030000FC\n", "record type S4 does not exist"),
        (record(3, BASE, b"a") + b"; end\n", "line 2 .* does not begin with S and a digit"),
        (b"S306080000006190\n"[:-3] + b"9000\n" + record(7, 0), "it states 6 bytes, but has 7"),
        (record(3, BASE, b"a") + record(5, 2) + record(7, 0), "it states 2 data records, but the file has 1"),
        (record(3, BASE, b"a") + record(7, 0, b"x"), "a record of type S7 has no data"),
        (record(0, 0, b"name") + record(7, 0), "the srec file contains no data"),
        (record(3, BASE, b"ab") + record(3, BASE + 1, b"c") + record(7, 0), "overlap at 0x08000001"),
        (record(3, 0x1FFF_F800, b"ab") + record(7, 0), "lies in the option bytes"),
    ],
)
def test_malformed_files_are_refused(content: bytes, why: str) -> None:
    """A malformed or incomplete S-record file is refused, with the line number if one line is the cause."""
    with pytest.raises(ImageError, match=why):
        read_image(content)


@given(data=st.binary(min_size=1, max_size=2000), offset=st.integers(0, 0x3_0000), width=st.integers(1, 250))
def test_any_bytes_come_back(data: bytes, offset: int, width: int) -> None:
    """Any bytes at any address are read back from records of any length."""
    lines = [record(3, BASE + offset + at, data[at : at + width]) for at in range(0, len(data), width)]
    assert read_image(b"".join(lines) + record(7, 0)) == FirmwareImage(data, BASE + offset, "srec")
