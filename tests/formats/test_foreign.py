"""Files that resemble firmware are refused; the error names their format and how to extract the image."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import ImageError
from blockota.formats.firmware_image import check_raw, read_image
from blockota.formats.foreign import find_foreign
from tests.conftest import IMAGES
from tests.support.samples import code

BASE = 0x0800_0000
PROGRAM = (IMAGES / "bluepill-1.1.0.bin").read_bytes()
HEX = (IMAGES / "bluepill-1.1.0.hex").read_bytes()


def zipped() -> bytes:
    """Return a ZIP archive with a program."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("app.bin", PROGRAM)
    return file.getvalue()


def tarred() -> bytes:
    """Return a tar archive with a program."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("app.bin")
        member.size = len(PROGRAM)
        archive.addfile(member, io.BytesIO(PROGRAM))
    return file.getvalue()


def autopilot(magic: str) -> bytes:
    """Return a firmware file of an autopilot: JSON with a compressed image."""
    image = base64.b64encode(zlib.compress(PROGRAM)).decode()
    return json.dumps({"board_id": 9, "magic": magic, "image": image}, indent=1).encode()


def with_suffix(content: bytes) -> bytes:
    """Return a file with a DFU suffix."""
    body = content + bytes.fromhex("ffff ffff ffff 0001") + b"UFD\x10"
    return body + (zlib.crc32(body) ^ 0xFFFF_FFFF).to_bytes(4, "little")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"
FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "zip": (zipped(), "a ZIP archive", "Unpack it"),
    "tar": (tarred(), "a tar archive", "Unpack it"),
    "gzip": (gzip.compress(PROGRAM), "a gzip file", "Decompress it"),
    "xz": (lzma.compress(PROGRAM), "an xz file", "Decompress it"),
    "bzip2": (bz2.compress(PROGRAM), "a bzip2 file", "Decompress it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + PROGRAM, "a Zstandard file", "Decompress it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + PROGRAM, "a 7z archive", "Unpack it"),
    "pdf": (b"%PDF-1.7\n", "a PDF document", "Give the .bin"),
    "exe": (b"MZ".ljust(0x3C, b"\0") + b"\x40\0\0\0PE\0\0", "a program for Windows", "unpack the firmware file"),
    "html": (b"<!DOCTYPE html>\n<html><body>Not Found", "a web page", "Download the firmware file itself"),
    "html-small": (b"\n  <html><head>", "a web page", "Download the firmware file itself"),
    "xml": (b'\xef\xbb\xbf<?xml version="1.0"?><memory/>', "another XML document", "Download"),
    "lfs": (LFS, "a Git LFS pointer", "git lfs pull"),
    "apj": (autopilot("APJFWv1"), "an ArduPilot firmware file", "decode the field image: Base64, then zlib"),
    "px4": (autopilot("PX4FWv1"), "a PX4 firmware file", "decode the field image: Base64, then zlib"),
    "json": (b' {"a": 1}', "a JSON file", "Give the .bin"),
    "json-list": (b'[{"a": 1}]', "a JSON file", "Give the .bin"),
    "json-cut": (autopilot("APJFWv1")[:300], "a damaged JSON file", "Give the .bin"),
    "utf-16": (HEX.decode().encode("utf-16"), "text in UTF-16", "Save it again as ASCII text"),
    "utf-16-be": (HEX.decode().encode("utf-16-be"), "text in UTF-16", "Save it again as ASCII text"),
    "utf-16-le": (HEX.decode().encode("utf-16-le"), "text in UTF-16", "Save it again as ASCII text"),
    "hex-bom": (b"\xef\xbb\xbf" + HEX, "after a byte order mark", "Save it again as ASCII text"),
    "hex-comment": (b"; settings, rev C\r\n" + HEX, "an Intel HEX file after the text '; settings", "the first line,"),
    "hex-comments": ("# über\n\n# C\n".encode() + HEX, "an Intel HEX file after", "Remove the first 3 lines"),
    "srec-comment": (b"* comment\nS00600004844521B\n", "a Motorola S-record file after", "Remove the first line"),
    "dfu": (with_suffix(PROGRAM), "a raw image with a DFU suffix of 16 bytes", "Remove the suffix"),
    "dfu-damaged": (with_suffix(PROGRAM)[:-1] + b"\0", "a DFU suffix whose checksum is wrong", "Fetch or build"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_known_kind_is_refused_by_name(name: str) -> None:
    """A file of a known format is refused with the format's name and the way to extract the image."""
    content, kind, remedy = FOREIGN[name]
    with pytest.raises(ImageError, match=f"the file is not a firmware image: it is .*{kind}.*{remedy}"):
        read_image(content, load_address=BASE)
    if not name.startswith("dfu"):  # the suffix is at the end of the file
        with pytest.raises(ImageError, match=kind):
            check_raw(content[:4096], range(BASE, BASE + len(content)))


LOOKALIKES = {
    "program": PROGRAM,
    "sample": code(),
    "erased": b"\xff" * 64,
    "zeros": bytes(64),
    "mark-and-data": b"\xff\xfe" + bytes(range(256)),
    "words": b"A\0B\0C\0D\0E\0",
    "big-words": bytes.fromhex("00500020 45000008"),
    "colon": b":\0\x01\x02",
    "brace": b"{\0\0\0\x01\x02",
    "bracket": b"[\x10\x20",
    "bzip-letters": b"BZh1data of the program",
    "mz": b"MZ" + bytes(100),
    "records-inside": bytes(64) + b"\n" + HEX,
    "no-suffix": PROGRAM + b"UFD" + bytes(5),
    "text": b"name = thermo\n",
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_other_bytes_stay_raw(name: str) -> None:
    """Data that only resemble another file format are read as a raw image."""
    content = LOOKALIKES[name]
    assert find_foreign(content) is None
    assert read_image(content, load_address=BASE).data == content


@given(st.binary(min_size=1, max_size=400))
def test_recognition_never_fails(content: bytes) -> None:
    """A file with the first bytes of a known format and arbitrary further bytes causes no exception."""
    for start in (b"", b"{", b'{"', b"<html", b"\xff\xfe", b"\xef\xbb\xbf", b":\0", b"MZ", b"# \n:"):
        find_foreign(start + content)
