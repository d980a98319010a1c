"""Releases are recognised in the bytes of a file, and reported with the release that supersedes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from blockota.model.recognition import Located, describe_release, locate_releases
from blockota.model.release import Release, Status, Version
from tests.support.samples import release_of

START = 0x0800_0000
OLD, NEW = (release_of(text * 100, version=Version(1, minor, 0)) for minor, text in enumerate((b"old", b"newer")))


def located(content: bytes, releases: Sequence[Release], *bases: int) -> list[Located]:
    """Return the releases found in `content`, whose first byte may have any of the addresses `bases`."""

    def sha256(offset: int, lengths: Sequence[int]) -> list[bytes]:
        return [hashlib.sha256(content[offset : offset + length]).digest() for length in lengths]

    return locate_releases(releases, size=len(content), bases=lambda _: bases, sha256=sha256)


@pytest.mark.parametrize("rest", [b"", b"\xff" * 50, b"other"])
def test_a_release_is_found_at_the_start(rest: bytes) -> None:
    """An image is found if it stands alone, before erased bytes, or before other bytes."""
    assert located(b"old" * 100 + rest, [OLD, NEW], START) == [Located(OLD, 0)]


def test_a_release_is_found_at_its_address() -> None:
    """An image that follows other bytes is found at its load address.

    An image is not found if it extends beyond the end of the file.
    """
    moved = replace(OLD, load_address=START + 64)
    assert located(bytes(64) + b"old" * 100, [moved], START) == [Located(moved, 64)]
    assert not located(bytes(64) + b"old" * 99, [moved], START)
    assert not located(b"old" * 100, [moved], START + 128)


def test_each_release_in_a_file_is_found() -> None:
    """In a dump with a loader and a program, both images are found.

    If images overlap, only the longest is reported; all releases with equal images are reported.
    """
    program = replace(NEW, product="program", load_address=START + 300)
    assert located(b"old" * 100 + b"newer" * 100, [program, OLD], START) == [Located(OLD, 0), Located(program, 300)]
    part = release_of(b"old" * 10, product="part")
    twin = replace(OLD, product="twin")
    assert located(b"old" * 100, [part, OLD, twin], START) == [Located(OLD, 0), Located(twin, 0)]


def test_a_release_is_named_with_its_successor() -> None:
    """A found release is reported as newest, superseded, revoked or postponed.

    Only an active release can supersede another release.
    """
    later = replace(NEW, active_from=100)
    withdrawn = replace(NEW, status=Status.REVOKED)
    old, new = f"{OLD.product} 1.0.0", f"{NEW.product} 1.1.0"
    assert describe_release(NEW, [NEW, OLD], now=0) == f"{new}, the newest release"
    assert describe_release(OLD, [NEW, OLD], now=0) == f"{old}, superseded by 1.1.0"
    for others, now in (([replace(NEW, product="other")], 0), ([later], 99), ([withdrawn], 0)):
        assert describe_release(OLD, [*others, OLD], now=now) == f"{old}, the newest release"
    assert describe_release(later, [later, OLD], now=99).startswith(f"{new}, not active before 1970-01-01")
    revoked = replace(OLD, status=Status.REVOKED)
    assert describe_release(revoked, [NEW, OLD], now=0) == f"{old}, revoked, superseded by 1.1.0"
