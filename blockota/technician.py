"""The technician's work around a board: tell what it holds. `finding` brings the image."""

from __future__ import annotations

from collections.abc import Callable

from blockota.bindings import BlockOTAContract
from blockota.release import Region, Version


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
