"""Images are recognised by content and parsed strictly, and equal objcopy's output."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import ImageError, UsageError
from blockota.formats.firmware_image import FirmwareImage, read_image
from blockota.formats.stm32_memory import ChipFlash

BASE = 0x0800_0000
EXAMPLES = Path(__file__).parents[2] / "examples" / "bluepill" / "images"
END = b":00000001FF\n"


def record(kind: int, offset: int, data: bytes = b"") -> bytes:
    """Return a line of Intel HEX."""
    body = bytes((len(data),)) + offset.to_bytes(2, "big") + bytes((kind,)) + data
    return b":" + (body + bytes((-sum(body) % 256,))).hex().upper().encode() + b"\n"


def linear(address: int) -> bytes:
    """Return the Intel HEX record that sets the upper 16 bits of the following addresses."""
    return record(4, 0, (address >> 16).to_bytes(2, "big"))


def elf(*, segments: list[tuple[int, bytes]], kind: int = 2, machine: int = 40, ident: bytes = b"\x01\x01") -> bytes:
    """Return a small ELF file with one loadable segment for each address, and no sections."""
    table, body = b"", b""
    start = 52 + 32 * len(segments)
    for address, data in segments:
        table += struct.pack("<8I", 1, start + len(body), address, address, len(data), len(data), 5, 4)
        body += data
    magic = (b"\x7fELF" + ident + b"\x01").ljust(16, b"\0")
    return (
        struct.pack("<16sHHIIIIIHHHHHH", magic, kind, machine, 1, BASE, 52, 0, 0, 52, 32, len(segments), 40, 0, 0)
        + table
        + body
    )


# Recognition


def test_raw_bytes_take_the_given_address() -> None:
    """A raw image is placed at the load address that the caller gives."""
    image = read_image(b"\x00\x50\x00\x20firmware", load_address=BASE)
    assert image == FirmwareImage(b"\x00\x50\x00\x20firmware", BASE, "bin")
    assert image.span == range(BASE, BASE + 12)


def test_raw_bytes_without_an_address_are_refused() -> None:
    """A raw image without a load address is refused."""
    with pytest.raises(UsageError, match="Give the load address"):
        read_image(b"firmware")


@pytest.mark.parametrize("address", [-1, 0xFFFF_FFFF])
def test_images_outside_the_address_space_are_refused(address: int) -> None:
    """A negative load address, and an image that ends above 32 bits, are refused."""
    with pytest.raises(ImageError, match="outside the address space"):
        read_image(b"firmware", load_address=address)


def test_an_elf_file_with_a_load_address_is_read_as_elf() -> None:
    """An ELF file is read as ELF, at its own address, even if the caller gives a load address."""
    assert read_image(elf(segments=[(BASE, b"code")]), load_address=0x0801_0000) == FirmwareImage(b"code", BASE, "elf")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        # Intel HEX: the error contains the line.
        (b":0100000041BF\n" + END, "line 1 .* checksum is wrong"),
        (linear(BASE) + b":02000000414\n" + END, "line 2 .* pairs of hexadecimal digits"),
        (linear(BASE) + b":0200000041BE\n" + END, "it states 2 bytes of data, but has 1"),
        (record(0, 0, b"a") + b":00\n" + END, "too short"),
        (record(0, 0, b"a") + b"junk\n" + END, "line 2 .* begin with a colon"),
        (record(0, 0, b"a") + record(6, 0) + END, "record type 06 does not exist"),
        (record(4, 0, b"\x08") + END, "type 04 has a wrong length or offset"),
        (record(4, 1, b"\x08\x00") + END, "type 04 has a wrong length or offset"),
        (record(0, 0, b"a") + record(1, 0, b"\x00"), "type 01 has a wrong length or offset"),
        (record(0, 0xFFFF, b"ab") + END, "crosses a 64 KiB boundary"),
        (record(0, 0, b"a") + END + record(0, 1, b"b"), "follows the end record"),
        (record(0, 0, b"a") + END + b"\x1a", "begin with a colon"),
        (record(0, 0, b"a"), "no end record"),
        (END, "contains no data"),
        # Two values for one address are ambiguous.
        (linear(BASE) + record(0, 0, b"abcd") + record(0, 3, b"x") + END, "overlap at 0x08000003"),
        (
            linear(BASE) + record(0, 0, b"code") + linear(BASE + 0x20_0000) + record(0, 0, b"more") + END,
            "in two places: the gap from 0x08000004 to 0x08200000",
        ),
        # ELF: the error names the target or the defect.
        (elf(segments=[(BASE, b"x")], machine=62, ident=b"\x02\x01"), "the file is for x86-64 with 64 bits"),
        (elf(segments=[(BASE, b"x")], machine=183, ident=b"\x02\x01"), "the file is for 64-bit ARM"),
        (elf(segments=[(BASE, b"x")], machine=243), "the file is for RISC-V with 32 bits and little-endian"),
        (elf(segments=[(BASE, b"x")], machine=0x2800, ident=b"\x01\x02"), "is for ARM with 32 bits and big-endian"),
        (elf(segments=[(BASE, b"x")], machine=999), "the file is for machine 999"),
        (elf(segments=[(BASE, b"x")], kind=3), "it is a shared object"),
        (elf(segments=[(BASE, b"x")], kind=1), "not linked yet"),
        (elf(segments=[]), "no loadable segment"),
        (elf(segments=[(BASE, b"x")])[:60], "the ELF header or a table is truncated"),
        (elf(segments=[(BASE, b"xyz")])[:-1], "a segment is truncated"),
        (elf(segments=[(BASE, b"xy"), (BASE + 1, b"z")]), "overlap"),
        (b"\x7fELF", "the ELF file is truncated: it has 4 bytes, and an ELF header has 52"),
    ],
)
def test_foreign_and_malformed_files_are_refused(content: bytes, why: str) -> None:
    """Files of other formats, malformed HEX files and ELF files for other machines are refused as raw images."""
    with pytest.raises(ImageError, match=why):
        read_image(content, load_address=BASE)


def test_content_above_the_limit_is_refused() -> None:
    """A file above the caller's size limit is refused."""
    with pytest.raises(ImageError, match="9 bytes, the limit is 8"):
        read_image(b"firmware!", load_address=BASE, limit=8)


# Intel HEX


def test_hex_is_read_with_its_address() -> None:
    """A HEX file with a linear address, data and an entry point is read at its own address."""
    content = linear(BASE) + record(0, 0x1000, b"abcd") + record(5, 0, b"\x08\0\0\1") + END
    assert read_image(content, load_address=0) == FirmwareImage(b"abcd", BASE + 0x1000, "hex")


def test_hex_segments_shift_by_four_bits() -> None:
    """Record type 2 of Intel HEX sets a segment address; the entry point of type 3 is ignored."""
    content = record(2, 0, b"\x10\x00") + record(0, 4, b"abcd") + record(3, 0, bytes(4)) + END
    assert read_image(content).load_address == 0x1_0004


def test_hex_lines_may_come_in_any_order_and_case() -> None:
    """Record order, lower case, carriage returns and trailing empty lines do not change a HEX file's image."""
    lines = linear(BASE) + record(0, 4, b"efgh") + record(0, 0, b"abcd") + END
    crlf = lines.lower().replace(b"\n", b"\r\n") + b"\r\n"
    assert read_image(lines).data == read_image(crlf).data == b"abcdefgh"


def test_hex_gaps_are_filled_with_erased_flash() -> None:
    """Gaps in a HEX file are filled with the value of erased flash."""
    content = linear(BASE) + record(0, 0, b"ab") + record(0, 6, b"gh") + END
    assert read_image(content).data == b"ab\xff\xff\xff\xffgh"


def test_hex_above_the_limit_is_refused() -> None:
    """A HEX file is refused if its image with filled gaps exceeds the size limit, even if the file itself is small."""
    content = linear(BASE) + record(0, 0, b"a") + record(0, 0xF000, b"b") + END
    with pytest.raises(ImageError, match="too large"):
        read_image(content, limit=0x1000)


@given(data=st.binary(min_size=1, max_size=2000), offset=st.integers(0, 0x3_0000), width=st.integers(1, 255))
def test_hex_gives_back_what_was_written(data: bytes, offset: int, width: int) -> None:
    """Any bytes at any address are read back from HEX lines of any length."""
    lines = []
    for at in range(0, len(data), width):
        address = BASE + offset + at
        part = data[at : at + width]
        fits = min(len(part), 0x1_0000 - address % 0x1_0000)
        lines += [linear(address), record(0, address % 0x1_0000, part[:fits])]
        lines += [linear(address + fits), record(0, 0, part[fits:])] if part[fits:] else []
    assert read_image(b"".join(lines) + END) == FirmwareImage(data, BASE + offset, "hex")


def test_the_same_bytes_twice_in_a_hex_file_agree() -> None:
    """Overlapping records with equal bytes are accepted; for others, the error contains the first differing address."""
    twice = linear(BASE) + record(0, 0, b"abcd") + record(0, 2, b"cdef") + record(0, 0, b"abcd") + END
    assert read_image(twice).data == b"abcdef"
    different = linear(BASE) + record(0, 0, b"abcd") + record(0, 2, b"cXef") + END
    with pytest.raises(ImageError, match="overlap at 0x08000003 with different bytes"):
        read_image(different)


@pytest.mark.parametrize(
    ("address", "where"),
    [
        (0x1FFF_F800, "the option bytes. Build the file without the option bytes; set the protection"),
        (0x1FF8_0000, "the option bytes"),
        (0x1FFF_7800, "the option bytes or the one-time-programmable memory"),
        (0x1FFF_7000, "the one-time-programmable memory. Build the file without it, and program it once"),
        (0x1FFF_0100, "the system memory"),
        (0x2000_0000, "RAM, which a reset clears. Give sections with initial values a load address in flash"),
        (0x1000_0000, "RAM"),
        (0x5200_201C, "the registers of peripherals"),
        (0x9000_0000, "memory outside the chip"),
    ],
)
def test_parts_that_are_not_flash_contents_are_named(address: int, where: str) -> None:
    """If a part of a HEX or ELF file lies outside the flash, the error names the memory in which it lies."""
    content = linear(BASE) + record(0, 0, b"code") + linear(address) + record(0, address & 0xFFFF, b"\xa5\x5a") + END
    why = re.escape(f"{address:#010x}-{address + 1:#010x} (2 bytes) lies in {where}")
    for file in (content, elf(segments=[(BASE, b"code"), (address, b"\xa5\x5a")])):
        with pytest.raises(ImageError, match=why):
            read_image(file)


@pytest.mark.parametrize(
    ("family", "address", "where"),
    [
        ("F4", 0x1FFF_7800, "lies in the one-time-programmable memory"),
        ("L4P", 0x1FFF_7800, "lies in the option bytes"),
        ("F1", 0x1FFF_7800, "lies in the system memory"),
        ("L1", 0x0808_0000, "lies in the data EEPROM"),
        ("F1", 0x0808_0000, "is not inside the largest flash of the chip, 0x08000000-0x0801ffff"),
        ("F1", 0x07FF_0000, "is not inside the largest flash"),
        ("F7", 0, "is not inside the largest flash"),
        ("F4", 0x0830_0000, "is not inside the largest flash"),
    ],
)
def test_parts_are_named_by_the_memory_that_the_chip_has(family: str, address: int, where: str) -> None:
    """If the chip family is known, the error names the memory at the address or the bounds of the largest flash."""
    content = linear(BASE) + record(0, 0, b"code") + linear(address) + record(0, address & 0xFFFF, b"\xa5\x5a") + END
    with pytest.raises(ImageError, match=re.escape(f"{address:#010x}-{address + 1:#010x} (2 bytes) {where}")):
        read_image(content, flash=ChipFlash(range(BASE, BASE + 0x2_0000), family))


def test_an_image_names_its_gaps() -> None:
    """After its gaps are filled, an image still lists the address ranges that were missing in the file."""
    content = linear(BASE) + record(0, 0, b"ab") + record(0, 6, b"gh") + record(0, 8, b"ij") + record(0, 12, b"m") + END
    assert read_image(content).gaps == (range(BASE + 2, BASE + 6), range(BASE + 10, BASE + 12))
    assert read_image(linear(BASE) + record(0, 0, b"ab") + END).gaps == ()


# ELF


def test_elf_segments_count_by_physical_address() -> None:
    """ELF segments are sorted by physical address, and gaps are filled with the value of erased flash."""
    content = elf(segments=[(BASE + 8, b"data"), (BASE, b"code")])
    assert read_image(content) == FirmwareImage(b"code\xff\xff\xff\xffdata", BASE, "elf")


def test_a_program_for_the_host_is_refused() -> None:
    """An ELF program for the host is refused."""
    with pytest.raises(ImageError, match=r"another machine|not an executable"):
        read_image(Path("/proc/self/exe").read_bytes(), limit=1 << 30)


@given(content=st.binary(max_size=300))
def test_any_bytes_are_an_image_or_an_error(content: bytes) -> None:
    """Arbitrary bytes are read as an image or raise `ImageError`."""
    for start in (b"", b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x28\x00", b":"):
        with suppress(ImageError):
            assert read_image(start + content, load_address=BASE).data


# The example firmware


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_the_three_forms_of_an_example_are_one_image(version: str) -> None:
    """The committed .bin, .hex and .elf files of an example contain the same bytes at the same address."""
    raw, *others = (
        read_image((EXAMPLES / f"bluepill-{version}.{form}").read_bytes(), load_address=BASE)
        for form in ("bin", "hex", "elf")
    )
    assert [image.format for image in others] == ["hex", "elf"]
    assert {(image.data, image.load_address) for image in (raw, *others)} == {(raw.data, BASE)}
