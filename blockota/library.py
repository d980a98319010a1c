"""The Python API of BlockOTA: read a vendor's releases, and verify images against the chain.

Every returned image has passed checks 1 to 5 of `blockota.model.verification`. Checks 1 to 3 verify that chain and
contract are the configured ones, that the product is paired, and that the release is active. Checks 4 and 5 verify that
the image has the recorded SHA-256 and lies inside the product's region. Checks 6 to 10 need the board. All errors are
subclasses of `BlockOTAError`. This example fetches and verifies the newest release of each product::

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
        url: the JSON-RPC endpoint of a node.
        chain_id: the chain's id (EIP-155).
        contract: address of the vendor's BlockOTA contract.
        confirmations: blocks that must lie above a block before it is read; 0 only on a local chain.

    Raises:
        UsageError: the URL is neither ``http://`` nor ``https://``.
        ChainError: the node is out of reach.
        RefusedError: the node serves another chain.
    """

    def __init__(self, url: str, *, chain_id: int, contract: str, confirmations: int = 12) -> None:
        self._contract = BlockOTAContract(Chain(url, chain_id=chain_id), contract)
        self._trust = Trust(chain_id, contract, confirmations)

    def products(self) -> list[Product]:
        """Return all products in the order of their first pairing."""
        return self._contract.products(block=self._confirmed_block())

    def releases(self, product: str) -> list[Release]:
        """Return all releases of a product, newest first, including revoked releases."""
        return list(self._contract.history(product, block=self._confirmed_block()))

    def verify(self, image: bytes, product: str, version: Version | None = None) -> ProvenRelease:
        """Verify an image (checks 1 to 5).

        Args:
            image: the image.
            product: name of the product.
            version: the expected version; None means the newest active version.

        Raises:
            VerificationError: a check failed; the error has the check's number.
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
            version: the version; None means the newest active version.
            store: the URL of the content store to ask first; a local store keeps the fetched image.
            sources: the URLs of repositories and gateways to ask after the store.

        Raises:
            VerificationError: a check failed; the error has the check's number.
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
