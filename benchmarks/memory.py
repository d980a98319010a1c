"""Measure the memory of a command that fetches an image of the largest possible size from a repository."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.commands import local_chain
from benchmarks.figure import Figure, folder_on_disk
from blockota.bindings.block_ota import BlockOTAContract, pair_call, publish_call
from blockota.chain import Chain
from blockota.keys import dev_account
from blockota.model.release import Product, Region, Release, Status, Version
from blockota.stores.local import LocalStore
from tests.stories import repositories
from tests.stories.large_images import check_image, peak_of, write_image

MEBIBYTE = 1 << 20
SIZE = 1024 * MEBIBYTE
PRODUCT = Product("acme-linux", "acme", 0x500, Region(0x8000_0000, SIZE), minimum_version=None, paired=True)


def figures() -> Iterator[Figure]:
    """The peak of ``blockota release fetch``, above that of a command that only asks the chain."""
    with folder_on_disk() as folder, contextlib.chdir(folder), local_chain() as chain:
        image = folder / "image.bin"
        digest = write_image(image, SIZE)
        (folder / "blockota.toml").write_text(f'[networks.local]\nurl = "{chain.url}"\n{publish(image, chain)}\n')
        image.unlink()
        words = ("release", "fetch", "--product", PRODUCT.name, "--store", "file:own", "-o", str(image))
        with repositories.serving(folder) as served:
            idle = peak_of("release", "list")
            peak = peak_of(*words, "--source", served.url)
        check_image(image, digest)
    yield Figure(
        f"peak memory of a fetch of {SIZE // MEBIBYTE} MiB, above an idle process",
        (peak - idle) / MEBIBYTE,
        "MiB",
        64,
        times="The most resident memory (VmHWM) of `blockota release fetch` from a `blockota repository serve`, which "
        "keeps the blocks in a store of its own, writes the image and proves it against the chain; less that of "
        "`blockota release list`, which asks the same chain and moves no content. Once: no other process changes it.",
    )


def publish(image: Path, chain: Chain) -> str:
    """Store an image where the repository looks, publish it, and return the setting that names the contract."""
    with image.open("rb") as file:
        root = LocalStore(Path(".blockota/store")).put(file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
    release = Release(
        product=PRODUCT.name,
        version=Version(1, 0, 0),
        sha256=digest,
        size=SIZE,
        load_address=PRODUCT.region.start,
        active_from=0,
        chip_id=PRODUCT.chip_id,
        status=Status.ACTIVE,
        dag_root=root.digest,
    )
    payer = dev_account(0)
    contract, _ = BlockOTAContract.deploy(chain, payer, owner=payer.address)
    for call in (pair_call(PRODUCT), publish_call([release])):
        chain.send(payer, call, to=contract.address)
    return f'contract = "{contract.address}"'
