"""The technician's work around a board: tell what it holds. `finding` brings the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from blockota.bindings import BlockOTAContract
from blockota.release import Release

Digests = Callable[[int, Sequence[int]], Sequence[bytes]]
"""Given an address and lengths in bytes, tells the SHA-256 of what a flash holds from there on, one a length."""
BATCH = 8
"""Sizes of images that are looked for at once: as many as a board hashes in one run."""


@dataclass(frozen=True)
class KnownReleases:
    """Every release that a board may hold, as far as the record says.

    Attributes:
        own: those of the product that is to be flashed.
        others: gives those of all other products of the contract; asked only about a board that holds none of `own`.
    """

    own: tuple[Release, ...]
    others: Callable[[], Sequence[Release]]


def known_releases(contract: BlockOTAContract, product: str, *, block: int) -> KnownReleases:
    """What the record knows at one block.

    Args:
        contract: whose record it is.
        product: what is to be flashed.
        block: the block whose record counts.
    """

    def others() -> list[Release]:
        names = [known.name for known in contract.products(block=block) if known.name != product]
        return [release for name in names for release in contract.history(name, block=block)]

    return KnownReleases(tuple(contract.history(product, block=block)), others)


def held_release(releases: Iterable[Release], *, digests: Digests) -> Release | None:
    """Which of some releases a flash holds.

    The newest are looked for first, a few at a time, so that a board with one of them has to answer once.

    Args:
        releases: of one product, or of many.
        digests: of the flash.

    Returns:
        The one with the greatest version whose image is what the flash holds; None where none is.
    """
    for some in batches(releases):
        found = dict(_digests(some, digests))
        for release in some:
            if found[release.load_address, release.size] == release.sha256:
                return release
    return None


def batches(releases: Iterable[Release]) -> Iterator[list[Release]]:
    """Releases in groups of at most `BATCH` different sizes, the newest first."""
    some: list[Release] = []
    for release in sorted(releases, key=lambda release: release.version, reverse=True):
        if len({one.size for one in (*some, release)}) > BATCH:
            yield some
            some = []
        some.append(release)
    if some:
        yield some


def _digests(releases: Sequence[Release], digests: Digests) -> Iterator[tuple[tuple[int, int], bytes]]:
    """⟨address, length⟩ and digest; each is asked for once, and those of one address together."""
    for start in {release.load_address: None for release in releases}:
        lengths = sorted({release.size for release in releases if release.load_address == start})
        yield from zip(((start, length) for length in lengths), digests(start, lengths), strict=True)
