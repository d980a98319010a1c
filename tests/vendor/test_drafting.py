"""Image files: their size is checked before they are read, and errors name the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockota.errors import BlockOTAError, ImageError, UsageError
from blockota.formats.firmware_image import MAX_IMAGE_SIZE
from blockota.vendor.drafting import MAX_RAW_SIZE, RawFile, open_image, read_image_file

BASE = 0x0800_0000


def test_a_missing_file_is_a_usage_error() -> None:
    """A missing image file is refused with exit status 2."""
    with pytest.raises(UsageError, match=r"file missing\.bin does not exist") as refusal:
        read_image_file(Path("missing.bin"), load_address=BASE)
    assert refusal.value.exit_status == 2


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (".", UsageError, "is not a regular file"),
        ("empty.bin/image.bin", UsageError, "cannot be read: Not a directory"),
        ("a\0b", UsageError, "cannot be read"),
        ("empty.bin", ImageError, "is empty"),
    ],
    ids=["folder", "below a file", "zero byte", "empty"],
)
def test_what_is_not_an_image_file_is_refused(
    tmp_path: Path, name: str, kind: type[BlockOTAError], message: str
) -> None:
    """A folder or an unreadable path in place of an image raises a UsageError, and an empty file an ImageError."""
    (tmp_path / "empty.bin").touch()
    with pytest.raises(kind, match=message):
        read_image_file(tmp_path / name, load_address=BASE)


def sparse(path: Path, head: bytes, size: int) -> Path:
    """Create a file that begins with the given bytes and continues with zeros."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    """An image file above the size limit is refused before it is read."""
    path = sparse(tmp_path / "large.bin", b"", MAX_IMAGE_SIZE + 1)
    with pytest.raises(ImageError, match="16,777,217 bytes, the limit is 16,777,216"):
        read_image_file(path, load_address=BASE)


def test_a_large_raw_image_stays_in_its_file(tmp_path: Path) -> None:
    """A raw image above the memory limit is opened as a file instead of being loaded."""
    path = sparse(tmp_path / "large.bin", b"code", MAX_IMAGE_SIZE + 1)
    assert open_image(path, load_address=BASE) == RawFile(path, MAX_IMAGE_SIZE + 1, BASE)


@pytest.mark.parametrize(
    ("head", "size", "why"),
    [
        (b"\x7fELF", MAX_IMAGE_SIZE + 1, "the image is too large"),
        (b":10", MAX_IMAGE_SIZE + 1, "the image is too large"),
        (b"UF2\n", MAX_IMAGE_SIZE + 1, "the image is too large"),
        (b"PK\x03\x04", MAX_IMAGE_SIZE + 1, "it is a ZIP archive"),
        (b"code", MAX_RAW_SIZE + 1, "the image is too large"),
    ],
)
def test_a_large_file_of_another_format_is_refused(tmp_path: Path, head: bytes, size: int, why: str) -> None:
    """An image above the size limit for memory is accepted only if it is raw."""
    with pytest.raises(ImageError, match=why):
        open_image(sparse(tmp_path / "large.bin", head, size), load_address=BASE)
