"""Firmware images: a file's bytes, and the address they belong at.

What a file is, its content says and not its name: a programmer that takes an ELF file for raw bytes writes
its header to the board.
"""

from __future__ import annotations

import io
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from blockota.errors import ImageError, UsageError
from blockota.formats.elf import MAGIC as ELF_MAGIC
from blockota.formats.elf import parse_elf
from blockota.formats.intel_hex import parse_intel_hex

MAX_IMAGE_SIZE = 16 * 1024 * 1024
"""Bytes of the largest file, and of the largest image, that is read unless a caller says otherwise."""
MAX_RAW_SIZE = 1 << 30
"""Bytes of the largest raw image that is used from its file."""
MAX_GAP = 1024 * 1024
"""Bytes of the widest gap between two parts of an image that is filled."""
GAP_FILL = b"\xff"
"""What a gap is filled with: erased flash."""

Format = Literal["bin", "hex", "elf"]
"""What a file was read as: raw bytes, Intel HEX, or an ELF executable."""

_HEX_START = re.compile(rb"(?:\xef\xbb\xbf|\s)*:[0-9A-Fa-f]{2}")
_HEAD_SIZE = 4096
_FOREIGN = (
    (re.compile(rb"S[0-9][0-9A-Fa-f]{8}"), "a Motorola S-record file"),
    (re.compile(rb"UF2\n"), "a UF2 file"),
    (re.compile(rb"DfuSe"), "a DfuSe file"),
)


@dataclass(frozen=True)
class FirmwareImage:
    """What goes into the flash.

    Attributes:
        data: the bytes, without holes.
        load_address: where the first of them belongs.
        format: what the file was read as.
    """

    data: bytes
    load_address: int
    format: Format

    @property
    def span(self) -> range:
        """The addresses that the image takes."""
        return range(self.load_address, self.load_address + len(self.data))

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data)

    def open(self) -> io.BytesIO | io.BufferedReader:
        """Its bytes as a stream."""
        return io.BytesIO(self.data)


@dataclass(frozen=True)
class RawFile:
    """A raw image that stays in its file, because it is too large to be held in memory.

    Attributes:
        path: the file.
        size: how many bytes it had when it was looked at.
        load_address: where the first of them belongs.
        format: always raw bytes.
    """

    path: Path
    size: int
    load_address: int
    format: Format = "bin"

    @property
    def span(self) -> range:
        """The addresses that the image takes."""
        return range(self.load_address, self.load_address + self.size)

    def open(self) -> io.BytesIO | io.BufferedReader:
        """Its bytes as a stream; the caller closes it.

        Raises:
            UsageError: the file is gone.
            ImageError: it cannot be read.
        """
        with _translated(self.path):
            return self.path.open("rb")


def open_image(path: Path, *, load_address: int) -> FirmwareImage | RawFile:
    """Read a firmware image, or leave it in its file where it is raw and larger than `MAX_IMAGE_SIZE`.

    Args:
        path: the file.
        load_address: where raw bytes belong; HEX and ELF files say so themselves.

    Raises:
        UsageError: there is no such file.
        ImageError: as `read_image`; a raw file may have up to `MAX_RAW_SIZE` bytes.
    """
    size = _file_size(path, limit=MAX_RAW_SIZE)
    if size <= MAX_IMAGE_SIZE:
        return read_image(path, load_address=load_address)
    raw = RawFile(path, size, load_address)
    with raw.open() as file:
        head = file.read(_HEAD_SIZE)
    if head.startswith(ELF_MAGIC) or _HEX_START.match(head):
        raise _too_large(size, MAX_IMAGE_SIZE)
    _refuse_foreign(head)
    _check_address_space(raw.span)
    return raw


def read_image(source: Path | bytes, *, load_address: int | None = None, limit: int = MAX_IMAGE_SIZE) -> FirmwareImage:
    """Read a firmware image, raw, in Intel HEX or as an ELF executable.

    Args:
        source: a file, or a file's content.
        load_address: where raw bytes belong; HEX and ELF files say so themselves.
        limit: bytes that the file, and the image in it, may have at most.

    Raises:
        UsageError: there is no such file, or raw bytes come without a load address.
        ImageError: it cannot be read, is empty, too large, damaged, or for another machine.
    """
    content = source if isinstance(source, bytes) else _read_file(source, limit)
    if not content:
        raise ImageError("the image is empty", remedy="build or fetch it again")
    if len(content) > limit:
        raise _too_large(len(content), limit)
    if content.startswith(ELF_MAGIC):
        return _assemble(parse_elf(content), "elf", limit=limit)
    if _HEX_START.match(content):
        return _assemble(parse_intel_hex(content), "hex", limit=limit)
    _refuse_foreign(content)
    return _raw(content, load_address)


def _read_file(path: Path, limit: int) -> bytes:
    _file_size(path, limit=limit)
    with _translated(path):
        return path.read_bytes()


def _file_size(path: Path, *, limit: int) -> int:
    with _translated(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path} is no file", remedy="give an image: a .bin, .hex or .elf file")
    if status.st_size > limit:
        raise _too_large(status.st_size, limit)
    return status.st_size


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}", remedy="check the image's name and folder") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be read", why=reason, remedy="check the file's permissions") from error


def _too_large(size: int, limit: int) -> ImageError:
    return ImageError(
        "the image is too large", why=f"it has {size:,} bytes, the limit is {limit:,}", remedy="check the file"
    )


def _refuse_foreign(content: bytes) -> None:
    for pattern, what in _FOREIGN:
        if pattern.match(content):
            raise ImageError(
                "the file is no raw image",
                why=f"it is {what}, which BlockOTA does not read",
                remedy="convert it to Intel HEX or raw bytes",
            )


def _raw(content: bytes, load_address: int | None) -> FirmwareImage:
    if load_address is None:
        raise UsageError("a raw image does not say where it belongs", remedy="give its load address")
    return _in_address_space(FirmwareImage(content, load_address, "bin"))


def _assemble(pieces: Iterable[tuple[int, bytes]], what: Format, *, limit: int) -> FirmwareImage:
    """Join the parts of an image in order of address, and fill the gaps between them."""
    ordered = sorted(pieces)
    if not ordered:
        raise ImageError("the image is empty", why=f"the {what} file holds no data", remedy="build it again")
    for (address, data), (following, _) in pairwise(ordered):
        _check_gap(address + len(data), following)
    first, (last, tail) = ordered[0][0], ordered[-1]
    size = last + len(tail) - first
    if size > limit:
        raise _too_large(size, limit)
    image = bytearray(GAP_FILL * size)
    for address, data in ordered:
        image[address - first : address - first + len(data)] = data
    return _in_address_space(FirmwareImage(bytes(image), first, what))


def _check_gap(end: int, following: int) -> None:
    if following < end:
        raise ImageError("the image contradicts itself", why=f"two parts of it overlap at {following:#010x}")
    if following - end > MAX_GAP:
        raise ImageError(
            "the image is in two places",
            why=f"nothing is between {end:#010x} and {following:#010x}, more than {MAX_GAP:,} bytes",
            remedy="build an image for each place, and flash them as two products",
        )


def _in_address_space(image: FirmwareImage) -> FirmwareImage:
    _check_address_space(image.span)
    return image


def _check_address_space(span: range) -> None:
    if not 0 <= span.start < span.stop <= 1 << 32:
        raise ImageError(
            "the image lies outside the address space",
            why=f"it would take {span.start:#x} to {span.stop:#x}",
            remedy="check its load address",
        )
