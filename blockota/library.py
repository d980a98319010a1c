"""What ``import blockota`` offers to programs: a vendor's releases, and images verified against their record.

Every image that is returned has passed checks 1 to 5 of `blockota.model.verification`: the chain and contract are the
given ones, the product is paired, the release is active, the image has the recorded SHA-256, and it lies inside the
product's region. Checks 6 to 10 need the device. Errors are those of `blockota.errors`, all below `BlockOTAError`::

    import blockota

    record = blockota.VendorRecord(url, chain_id=1337, contract=contract, confirmations=0)
    for product in record.products():
        try:
            proven = record.fetch(product.name, store="file:firmware")
        except blockota.VerificationError as error:
            print(f"{product.name}: check {error.number} failed, {error.why}")
            continue
        print(f"{product.name} {proven.release.version}: {len(proven.image)} bytes")
        assert record.verify(proven.image, product.name).release == proven.release
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from blockota.bindings.block_ota import BlockOTAContract
from blockota.chain import LOCAL_CHAIN_IDS, Chain
from blockota.errors import (
    BlockOTAError,
    ChainError,
    ContentError,
    RefusedError,
    StoreError,
    UsageError,
    VerificationError,
)
from blockota.model.facts import ProvenRelease, Trust
from blockota.model.release import Product, Release, Version
from blockota.model.verification import prove_release
from blockota.stores.search import ImageSources, find_image
from blockota.stores.store import open_store

__all__ = [
    "BlockOTAError",
    "ChainError",
    "ContentError",
    "Product",
    "ProvenRelease",
    "RefusedError",
    "Release",
    "StoreError",
    "UsageError",
    "VendorRecord",
    "VerificationError",
    "Version",
]
_DEFAULT_STORE = "file:.blockota/store"


class VendorRecord:
    """The releases that a vendor recorded in its contract.

    Args:
        url: JSON-RPC endpoint of a node of the chain.
        chain_id: the chain's id (EIP-155).
        contract: address of the vendor's BlockOTA contract.
        confirmations: blocks that must lie above a block before it is read; 0 only on a local chain.

    Raises:
        UsageError: the URL has another scheme.
        ChainError: the node is out of reach.
        RefusedError: the node serves another chain.
    """

    def __init__(self, url: str, *, chain_id: int, contract: str, confirmations: int = 12) -> None:
        self._contract = BlockOTAContract(Chain(url, chain_id=chain_id), contract)
        self._trust = Trust(chain_id, contract, confirmations)

    def products(self) -> list[Product]:
        """All products, in the order in which they were paired first."""
        return self._contract.products(block=self._confirmed_block())

    def releases(self, product: str) -> list[Release]:
        """All releases of a product, also revoked ones, newest first."""
        return list(self._contract.history(product, block=self._confirmed_block()))

    def verify(self, image: bytes, product: str, version: Version | None = None) -> ProvenRelease:
        """Verify an image (checks 1 to 5).

        Args:
            image: the image.
            product: name of the product.
            version: the expected version; None means the newest active one.

        Raises:
            VerificationError: with the number of the first failed check.
            ChainError: the node is out of reach.
        """
        answer = self._contract.answer(product, version, confirmations=self._trust.confirmations)
        return prove_release(answer, self._trust, read_image=lambda _: image)

    def fetch(
        self,
        product: str,
        version: Version | None = None,
        *,
        store: str = _DEFAULT_STORE,
        sources: Sequence[str] = (),
    ) -> ProvenRelease:
        """Fetch a release's image and verify it (checks 1 to 5).

        Args:
            product: name of the product.
            version: the version; None means the newest active one.
            store: URL of the content store that is asked first; a local one keeps what is fetched.
            sources: URLs of repositories and gateways to ask after it.

        Raises:
            VerificationError: with the number of the first failed check.
            StoreError: no source serves the image.
            ChainError: the node is out of reach.
        """
        answer = self._contract.answer(product, version, confirmations=self._trust.confirmations)
        is_local = self._trust.chain_id in LOCAL_CHAIN_IDS

        def read_image(release: Release) -> bytes:
            found = io.BytesIO()
            stages = ImageSources(named=tuple(sources), allow_private=is_local).stages(release)
            find_image(release, open_store(store), stages=stages, into=found)
            return found.getvalue()

        return prove_release(answer, self._trust, read_image=read_image)

    def _confirmed_block(self) -> int:
        return max(self._contract.chain.head().number - self._trust.confirmations, 0)
