"""Recognises releases in a file.

The file is an image, or contains flash memory that was read from a board.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blockota.formats.firmware_image import FirmwareImage
from blockota.model.container import NO_CHIP
from blockota.model.program import BOOT_ADDRESS
from blockota.model.recognition import Located, locate_releases
from blockota.model.release import Region, Release
from blockota.vendor.drafting import RawFile, open_image

_PART_SIZE = 1 << 20
_ERASED = ({0xFF}, {0x00})  # the families L0 and L1 erase to 0x00, all others to 0xFF


def open_read_out(path: Path, releases: Iterable[Release]) -> FirmwareImage | RawFile:
    """Open an image file, or a file with the flash of a board.

    An image for a device other than an STM32 may have any format.

    Raises:
        UsageError: the file does not exist.
        ImageError: the file is not an image, is larger than allowed, or cannot be read.
    """
    size = path.stat().st_size if path.is_file() else 0
    wanted = {one.sha256 for one in releases if one.chip_id == NO_CHIP and one.size == size}
    if wanted:
        raw = RawFile(path, size, 0)
        with raw.open() as file:
            if hashlib.file_digest(file, "sha256").digest() in wanted:
                return raw
    return open_image(path, load_address=BOOT_ADDRESS)


@dataclass(frozen=True)
class ReadOut:
    """The bytes of an opened file.

    Attributes:
        given: the file's size and format; for a format with addresses, also the image's address.
        file: the bytes of the file.
    """

    given: FirmwareImage | RawFile
    file: BinaryIO

    def find(self, releases: Iterable[Release], regions: Mapping[str, Region]) -> list[Located]:
        """Find the releases in the file. `regions` contains the regions of the products.

        A raw file does not contain an address. The function assumes that it begins at a release, at the start of the
        product's region, or at the start of the flash.
        """
        given = self.given

        def bases(release: Release) -> set[int]:
            if given.format != "bin":
                return {given.load_address}
            return {release.load_address, regions[release.product].start, BOOT_ADDRESS}

        return locate_releases(releases, size=given.size, bases=bases, sha256=self._sha256)

    def parts(self, span: range) -> Iterator[bytes]:
        """Yield the bytes of the range `span` in parts."""
        self.file.seek(span.start)
        position = span.start
        while part := self.file.read(min(_PART_SIZE, span.stop - position)):
            yield part
            position += len(part)

    def is_erased_beside(self, found: Sequence[Located]) -> bool:
        """Whether all bytes outside the found releases are erased."""
        values: set[int] = set()
        position = 0
        for span in [*(one.span for one in found), range(self.given.size, self.given.size)]:
            for part in self.parts(range(position, span.start)) if span.start > position else ():
                values |= set(part)
            position = max(position, span.stop)
        return not values or values in _ERASED

    def _sha256(self, offset: int, lengths: Sequence[int]) -> list[bytes]:
        digests, hashed, position = [], hashlib.sha256(), offset
        for length in lengths:  # in ascending order
            for part in self.parts(range(position, offset + length)):
                hashed.update(part)
            position = offset + length
            digests.append(hashed.copy().digest())
        return digests
