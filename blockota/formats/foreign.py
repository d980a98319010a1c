"""Recognises files that are often mistaken for firmware images: archives, web pages, text and others.

A raw image may consist of any bytes, so a file in an unknown format is accepted unchanged. A recognised file is refused
with an error. The error names the kind of the file, and the way to get the image.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass

from blockota.errors import ImageError
from blockota.formats import cpio

_HEAD_SIZE = 1 << 16
"""The number of bytes at the start of a file in which records after other text are searched for."""
_OTHER_DEVICE = "publish a .swu with the container swu, for a product that is paired with chip id 0"
_UNPACK = "unpack it, and give the .bin, .hex or .elf file that it contains"
_DECOMPRESS = "decompress it, and give the .bin, .hex or .elf file that it contains"
_FROM_BUILD = "give the .bin, .hex or .elf file of the build"
_DOWNLOAD = "download the firmware file itself; some sites need the link named raw or download"


@dataclass(frozen=True)
class ForeignKind:
    """A kind of file that is not a firmware image.

    Attributes:
        name: the kind with its article, such as ``a ZIP archive``.
        remedy: the way to get the image, a clause in the imperative.
    """

    name: str
    remedy: str


_SIGNATURES: tuple[tuple[bytes, ForeignKind], ...] = (
    (b"PK\x03\x04", ForeignKind("a ZIP archive", _UNPACK)),
    (b"PK\x05\x06", ForeignKind("an empty ZIP archive", _FROM_BUILD)),
    (b"7z\xbc\xaf\x27\x1c", ForeignKind("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", ForeignKind("a RAR archive", _UNPACK)),
    *((magic, ForeignKind("a cpio archive, as SWUpdate's .swu files are", _OTHER_DEVICE)) for magic in cpio.MAGICS),
    (b"!<arch>\n", ForeignKind("an ar archive, as static libraries and Debian packages are", _FROM_BUILD)),
    (b"\x1f\x8b\x08", ForeignKind("a gzip file", _DECOMPRESS)),
    (b"BZh", ForeignKind("a bzip2 file", _DECOMPRESS)),
    (b"\xfd7zXZ\x00", ForeignKind("an xz file", _DECOMPRESS)),
    (b"\x28\xb5\x2f\xfd", ForeignKind("a Zstandard file", _DECOMPRESS)),
    (b"\x04\x22\x4d\x18", ForeignKind("an LZ4 file", _DECOMPRESS)),
    (b"%PDF-", ForeignKind("a PDF document", _FROM_BUILD)),
    (
        b"version https://git-lfs.github.com/spec/",
        ForeignKind("a Git LFS pointer, which names a file and does not contain it", "fetch the file: git lfs pull"),
    ),
)
_TAR_AT, _TAR = 257, b"ustar"
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_JSON_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*[\[{\"\]\d-])")
_AUTOPILOTS = {"APJFWv1": "an ArduPilot firmware file (.apj)", "PX4FWv1": "a PX4 firmware file (.px4)"}
_HEX_RECORD = re.compile(rb"^[ \t]*:[0-9A-Fa-f]{10,}[ \t\r]*$", re.MULTILINE)
_S_RECORD = re.compile(rb"^[ \t]*S[0-9][0-9A-Fa-f]{8,}[ \t\r]*$", re.MULTILINE)
_BOM = b"\xef\xbb\xbf"
# Intel HEX as UTF-16 without a byte order mark: a colon and two digits, each with a zero byte.
_WIDE_RECORDS = (
    (re.compile(rb"(?::\x00|S\x00)(?:[0-9A-Fa-f]\x00){2}"), "utf-16-le"),
    (re.compile(rb"(?:\x00:|\x00S)(?:\x00[0-9A-Fa-f]){2}"), "utf-16-be"),
)
_SUFFIX_SIZE = 16
_SUFFIX_MARK = b"UFD\x10"
"""The signature, and the length of the suffix."""
_DFU_VERSIONS = (b"\x00\x01", b"\x10\x01", b"\x1a\x01")


def refuse_foreign(content: bytes) -> None:
    """Refuse a file that is recognised as another kind of file than a firmware image, such as a ZIP archive.

    Args:
        content: the whole file, or at least its first 4 KiB.

    Raises:
        ImageError: the file is recognised. The error names its kind and the way to get the image.
    """
    if kind := find_foreign(content):
        raise ImageError("the file is not a firmware image", why=f"it is {kind.name}", remedy=kind.remedy)


def find_foreign(content: bytes) -> ForeignKind | None:
    """Recognise a file that is not a firmware image, such as a ZIP archive; return None for every other file."""
    for signature, kind in _SIGNATURES:
        if content.startswith(signature) and (signature != b"BZh" or _BZIP2.match(content)):
            return kind
    if content[_TAR_AT:].startswith(_TAR):
        return ForeignKind("a tar archive", _UNPACK)
    if _MARKUP.match(content):
        return ForeignKind("a web page or another XML document", _DOWNLOAD)
    return _find_program(content) or _find_json(content) or _find_text(content) or _find_suffix(content)


def _find_program(content: bytes) -> ForeignKind | None:
    """Recognise a program for Windows by its PE header, whose offset is at 0x3C."""
    if not content.startswith(b"MZ"):
        return None
    at = int.from_bytes(content[0x3C:0x40], "little")
    if content[at : at + 4] != b"PE\0\0":
        return None
    return ForeignKind("a program for Windows", "run it on Windows, or unpack the firmware file in it")


def _find_json(content: bytes) -> ForeignKind | None:
    if not _JSON_START.match(content):
        return None
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        # A truncated JSON file is recognised by its first bytes.
        return ForeignKind("a damaged JSON file", _FROM_BUILD) if _is_text(content[:_HEAD_SIZE]) else None
    magic = fields.get("magic") if isinstance(fields, dict) else None
    if isinstance(magic, str) and magic in _AUTOPILOTS:
        remedy = "give the .bin or .hex file of the same build, or decode the field image: Base64, then zlib"
        return ForeignKind(f"{_AUTOPILOTS[magic]}, JSON with a compressed image", remedy)
    return ForeignKind("a JSON file", _FROM_BUILD)


def _find_text(content: bytes) -> ForeignKind | None:
    """Recognise UTF-16 text, and Intel HEX or S-record files that begin with other text."""
    head = content[:_HEAD_SIZE]
    if _is_utf16(head):
        return ForeignKind("text in UTF-16", "save it again as ASCII text, for example with iconv -f utf-16 -t ascii")

    for form, what in ((_HEX_RECORD, "an Intel HEX file"), (_S_RECORD, "a Motorola S-record file")):
        if head.startswith(_BOM) and form.match(head[len(_BOM) :].lstrip()):
            return ForeignKind(f"{what} after a byte order mark", "save it again as ASCII text, without the mark")

        record = form.search(head)
        before = head[: record.start()] if record else b""
        if before.strip() and _is_text(before):
            lines = before.count(b"\n")
            remedy = f"remove the first {lines} lines" if lines > 1 else "remove the first line"
            first = before.decode("utf-8-sig", "replace").strip().partition("\n")[0].strip()
            found = f"{what} after the text {first[:40]!r}"
            return ForeignKind(found, f"{remedy}, so that the file begins with a record")
    return None


def _find_suffix(content: bytes) -> ForeignKind | None:
    """Recognise a DFU file by its suffix (USB DFU 1.1, appendix B).

    The checksum in the suffix covers the whole file.
    """
    suffix = content[-_SUFFIX_SIZE:]
    if suffix[6:8] not in _DFU_VERSIONS or suffix[8:12] != _SUFFIX_MARK or content.startswith(b"DfuSe"):
        return None
    if zlib.crc32(content[:-4]) ^ 0xFFFF_FFFF != int.from_bytes(suffix[-4:], "little"):
        return ForeignKind("a raw image with a DFU suffix whose checksum is wrong", "fetch or build the file again")
    return ForeignKind("a raw image with a DFU suffix of 16 bytes", "remove the suffix: dfu-suffix --delete FILE")


def _is_utf16(head: bytes) -> bool:
    for form, codec in _WIDE_RECORDS:
        if form.match(head):
            return True
        # After a byte order mark, the rest must be text, because data may begin with the same two bytes.
        mark = "\ufeff".encode(codec)
        if head.startswith(mark):
            sample = head[2:258]
            text = sample[: len(sample) // 2 * 2].decode(codec, "replace")
            return bool(text) and all(letter.isprintable() or letter.isspace() for letter in text)
    return False


def _is_text(content: bytes) -> bool:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The end of the sample may split a character.
        if error.start < len(content) - 3:
            return False
        text = content[: error.start].decode("utf-8-sig")
    return all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text)
