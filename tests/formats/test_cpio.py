"""The first name in a cpio archive, by which a .swu is recognised."""

from __future__ import annotations

import pytest

from blockota.formats.cpio import first_name
from tests.support.programs import swu

ARCHIVE = swu()


def test_the_first_name_is_read_from_the_header() -> None:
    """The first name is read from both cpio formats without padding. The bytes after the first name have no effect."""
    assert first_name(ARCHIVE) == first_name(ARCHIVE[:125]) == "sw-description"
    assert first_name(swu(first="a" * 300)) == "a" * 300
    assert first_name(ARCHIVE.replace(b"070702", b"070701", 1)) == "sw-description"


@pytest.mark.parametrize(
    "head",
    [b"", b"070702", ARCHIVE[:124], b"070707" + ARCHIVE[6:], ARCHIVE[:20] + b"g" + ARCHIVE[21:], b"\x7fELF" * 64],
)
def test_other_bytes_have_no_first_name(head: bytes) -> None:
    """No first name is found in a truncated header, in another cpio format, or in any other file."""
    assert first_name(head) is None
