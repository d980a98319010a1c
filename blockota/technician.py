"""The technician's work around a board: tell what it holds. `finding` brings the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from blockota.bindings import BlockOTAContract
from blockota.release import Release

Digests = Callable[[int, Sequence[int]], Sequence[bytes]]
"""Given an address and lengths in bytes, tells the SHA-256 of what a flash holds from there on, one a length."""


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

    Args:
        releases: of one product, or of many.
        digests: of the flash.

    Returns:
        The one with the greatest version whose image is what the flash holds; None where none is.
    """
    ordered = sorted(releases, key=lambda release: release.load_address)
    found = [
        release
        for start, group in groupby(ordered, key=lambda release: release.load_address)
        for release in _held(start, list(group), digests=digests)
    ]
    return max(found, key=lambda release: release.version, default=None)


def _held(start: int, releases: Sequence[Release], *, digests: Digests) -> list[Release]:
    """Those of some releases with one load address that are there; each length is asked for once."""
    lengths = sorted({release.size for release in releases})
    found = dict(zip(lengths, digests(start, lengths), strict=True))
    return [release for release in releases if found[release.size] == release.sha256]
