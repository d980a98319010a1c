"""The technician's work around a board: fetch the image that the chain names, and tell what a board holds."""

from __future__ import annotations

from collections.abc import Callable

from blockota.bindings import BlockOTAContract
from blockota.errors import ContentError, VerificationError
from blockota.release import Region, Release, Version
from blockota.stores import Store, read_whole


def read_image(release: Release, store: Store) -> bytes:
    """A release's image from a store, every block checked on the way, and no more of it than the record says.

    Raises:
        VerificationError: number 4, a block is corrupt, or there are more bytes than the record says.
        StoreError: the store does not hold the image.
    """
    try:
        return read_whole(store, release.cid, size=release.size)
    except ContentError as error:
        raise VerificationError(
            4,
            "the image in the store is not the release",
            why=f"{error.what}, {error.why}",
            remedy="take the image from another store with --store, or from a file with --image",
        ) from error


def installed_version(
    contract: BlockOTAContract, product: str, *, digest: Callable[[Region], bytes], block: int
) -> Version | None:
    """Which release of a product a board holds.

    Args:
        contract: whose record is searched.
        product: the product's name.
        digest: the SHA-256 of what the board's flash holds in a region.
        block: the block whose record counts.

    Returns:
        The greatest version whose image is what the flash holds; None where no release is.
    """
    history = contract.history(product, block=block)
    return max((r.version for r in history if digest(r.region) == r.sha256), default=None)
