"""Reads image files and release notes into drafts of releases, for the command line and for Ape scripts."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blockota.errors import ImageError, UsageError
from blockota.files import naming_file, read_input
from blockota.formats.firmware_image import (
    MAX_IMAGE_SIZE,
    FirmwareImage,
    Format,
    check_raw,
    is_container,
    read_image,
    too_large,
)
from blockota.model.draft import SRAM, Draft
from blockota.model.manifest import MAX_NOTES_SIZE, notes_from
from blockota.model.release import Product, Region

MAX_RAW_SIZE = 1 << 30
"""Maximum size of a raw image that is read from its file in parts, in bytes."""
_HEAD_SIZE = 4096


@dataclass(frozen=True)
class RawFile:
    """A raw image that is too large for memory, and is read from its file in parts.

    Attributes:
        size: size of the file when it was first opened, in bytes.
        load_address: address of the image's first byte.
    """

    path: Path
    size: int
    load_address: int
    format: Format = "bin"

    def open(self) -> io.BytesIO | io.BufferedReader:
        """Open the file as a stream, which the caller must close.

        Raises:
            UsageError: the file does not exist any more.
            ImageError: the file cannot be read.
        """
        with _translated(self.path):
            return self.path.open("rb")


def open_image(path: Path, *, load_address: int) -> FirmwareImage | RawFile:
    """Read a firmware image; a raw image larger than `MAX_IMAGE_SIZE` stays in its file.

    Args:
        path: image file, in raw format (.bin), Intel HEX or ELF.
        load_address: address of a raw image's first byte; HEX and ELF files contain their own.

    Raises:
        UsageError: the file does not exist.
        ImageError: the file is not a firmware image, is larger than allowed, or cannot be read.
    """
    size = _file_size(path, limit=MAX_RAW_SIZE)
    if size <= MAX_IMAGE_SIZE:
        return read_image_file(path, load_address=load_address)
    # Only raw bytes can be read in parts; the first bytes show whether the file is in HEX or ELF.
    raw = RawFile(path, size, load_address)
    with raw.open() as file:
        head = file.read(_HEAD_SIZE)
    if is_container(head):
        raise too_large(size, MAX_IMAGE_SIZE)
    check_raw(head, range(load_address, load_address + size))
    return raw


def read_image_file(path: Path, *, load_address: int, limit: int = MAX_IMAGE_SIZE) -> FirmwareImage:
    """Read a firmware image file with `read_image`; the file's size is checked before it is read.

    Raises:
        UsageError: the file does not exist.
        ImageError: the file is not a firmware image, is too large, or cannot be read.
    """
    _file_size(path, limit=limit)
    with _translated(path):
        content = path.read_bytes()
    return read_image(content, load_address=load_address, limit=limit)


def with_image(draft: Draft, path: Path, *, product: Product, ram: tuple[Region, ...]) -> Draft:
    """Add the image of a file to a draft, with its load address and the RAM of the product's chip.

    If the chip is unknown, `ram` is empty, and the stack pointer may lie anywhere in the SRAM region of a Cortex-M.

    Raises:
        UsageError: the file does not exist, or contains another load address than the draft.
        ImageError: the file is not an image.
    """
    start = product.region.start if draft.load_address is None else draft.load_address
    with naming_file(path):
        firmware = open_image(path, load_address=start)
    if draft.load_address not in (None, firmware.load_address):
        raise UsageError(
            "the load address contradicts the image",
            why=f"the {firmware.format} file has the load address 0x{firmware.load_address:08x}",
            remedy="omit the load address, or give a .bin file",
        )
    image = firmware.data if isinstance(firmware, FirmwareImage) else firmware
    return replace(draft, image=image, load_address=firmware.load_address, ram=ram or SRAM)


def read_notes(path: Path | None) -> str:
    """Read release notes from a text file; empty if `path` is None.

    Raises:
        UsageError: the file cannot be read, or is larger than 64 KiB.
        RefusedError: the file is not UTF-8.
    """
    return notes_from(read_input(path, limit=MAX_NOTES_SIZE)) if path else ""


def _file_size(path: Path, *, limit: int) -> int:
    with _translated(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path} is not a regular file", remedy="give an image: a .bin, .hex or .elf file")
    if status.st_size > limit:
        raise too_large(status.st_size, limit)
    return status.st_size


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"file {path} does not exist", remedy="check the image's name and folder") from error
    except (OSError, ValueError) as error:
        # ValueError: a null byte in the path.
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be read", why=reason, remedy="check the file's permissions") from error
