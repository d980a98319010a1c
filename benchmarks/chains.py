"""Start a new local chain and publish releases on it, for the benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from blockota.bindings.block_ota import BlockOTAContract, pair_call, publish_call
from blockota.chain import Chain
from blockota.chain.local import LocalChain, free_port
from blockota.keys import dev_account
from blockota.model.release import Product, Release, Status, Version


@contextmanager
def local_chain() -> Iterator[Chain]:
    """Start a new anvil chain, and stop it after the block."""
    with tempfile.TemporaryDirectory() as folder:
        local = LocalChain(Path(folder), free_port())
        try:
            yield local.start()
        finally:
            local.stop()


def release_of(
    product: Product, version: Version, *, sha256: bytes, size: int, dag_root: bytes | None = None
) -> Release:
    """Return an active release whose image begins at the start of the product's region."""
    return Release(
        product=product.name,
        version=version,
        sha256=sha256,
        size=size,
        load_address=product.region.start,
        active_from=0,
        chip_id=product.chip_id,
        status=Status.ACTIVE,
        dag_root=dag_root,
    )


def publish(chain: Chain, product: Product, releases: Sequence[Release]) -> BlockOTAContract:
    """Deploy BlockOTA for a development account, pair a product and publish its releases."""
    payer = dev_account(0)
    contract, _ = BlockOTAContract.deploy(chain, payer, owner=payer.address)
    for call in (pair_call(product), *([publish_call(list(releases))] if releases else [])):
        chain.send(payer, call, to=contract.address)
    return contract
