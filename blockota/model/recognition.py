"""Find releases in the contents of a flash, and describe whether a release is revoked or superseded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from blockota.model.release import Release, Status, show_time


@dataclass(frozen=True)
class Located:
    """A release in a file.

    Attributes:
        release: the release.
        offset: the position of the release's image in the file.
    """

    release: Release
    offset: int

    @property
    def span(self) -> range:
        """The positions of the image in the file."""
        return range(self.offset, self.offset + self.release.size)


def locate_releases(
    releases: Iterable[Release],
    *,
    size: int,
    bases: Callable[[Release], Iterable[int]],
    sha256: Callable[[int, Sequence[int]], Sequence[bytes]],
) -> list[Located]:
    """Find the releases whose images are in a file, in the order of their positions.

    If images overlap, only the longest image is returned. Several releases can have the same image.

    Args:
        releases: the candidates.
        size: the size of the file in bytes.
        bases: a function from a release to flash addresses. If the file contains the release, the file begins at one of
            these addresses.
        sha256: a function that returns the SHA-256 digests of several ranges of the file. Its arguments are the common
            start of the ranges, and their lengths.
    """
    candidates = {Located(one, one.load_address - base) for one in releases for base in bases(one)}
    candidates = {one for one in candidates if one.offset >= 0 and one.span.stop <= size}
    there: list[Located] = []
    for offset in {one.offset for one in candidates}:
        lengths = sorted({one.release.size for one in candidates if one.offset == offset})
        digests = dict(zip(lengths, sha256(offset, lengths), strict=True))
        there += [one for one in candidates if one.offset == offset and digests[one.release.size] == one.release.sha256]

    found: list[Located] = []
    for one in sorted(there, key=lambda one: (one.release.size, one.release.version), reverse=True):
        if all(one.span == other.span or not _overlap(one.span, other.span) for other in found):
            found.append(one)
    return sorted(found, key=lambda one: (one.offset, one.release.product, one.release.version))


def successor(release: Release, releases: Iterable[Release], *, now: int) -> Release | None:
    """Return the newest release that supersedes a release at the time `now`; None without a newer active release."""
    newer = [one for one in releases if one.product == release.product and one.version > release.version]
    active = [one for one in newer if one.status is Status.ACTIVE and one.active_from <= now]
    return max(active, key=lambda one: one.version, default=None)


def describe_release(release: Release, releases: Iterable[Release], *, now: int) -> str:
    """Describe a release and its status, such as ``acme-thermo2 1.2.0, superseded by 1.3.0``."""
    newer = successor(release, releases, now=now)
    words = []
    if release.status is Status.REVOKED:
        words.append("revoked")
    elif release.active_from > now:
        words.append(f"not active before {show_time(release.active_from)}")
    if newer:
        words.append(f"superseded by {newer.version}")
    return ", ".join([f"{release.product} {release.version}", *(words or ["the newest release"])])


def ranked(release: Release, releases: Iterable[Release], *, now: int) -> dict[str, Any]:
    """Return the fields of a release, and the field ``supersededBy``: the version that replaces the release."""
    newer = successor(release, releases, now=now)
    return release.as_fields() | {"supersededBy": str(newer.version) if newer else None}


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop
