"""Functions that verify or fetch the images of releases, and yield the events of the contract."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from blockota.bindings.block_ota import ContractEvent, read_event
from blockota.chain.follow import Follower
from blockota.connection import Connection
from blockota.errors import Action, RefusedError
from blockota.files import naming_file
from blockota.model.facts import ProvenRelease
from blockota.model.program import BOOT_ADDRESS
from blockota.model.release import Release, Version
from blockota.model.verification import prove_release
from blockota.stores.search import find_image
from blockota.vendor.drafting import open_image


def verify_image(
    connection: Connection, image: bytes | Path, product: str | None, version: Version | None
) -> ProvenRelease:
    """Verify an image against the chain (checks 1 to 5).

    Args:
        connection: the chain and the contract.
        image: the bytes of the image, or its file.
        product: the expected product; None to accept each product.
        version: the expected version; None to accept each version.

    Raises:
        VerificationError: a check failed.
        RefusedError: the image is not a release, or the file is not an image.
        UnreachableError: the node is out of reach.
    """
    contract = connection.contract
    products = [contract.known_product(product)] if product else contract.products()
    if isinstance(image, bytes):
        content = image
    else:
        with naming_file(image), open_image(image, load_address=BOOT_ADDRESS).open() as file:
            content = file.read()

    if not (product and version):
        release = _find(contract.histories(one.name for one in products), content, product, version)
        product, version = release.product, release.version
    answer = contract.answer(product, version, confirmations=connection.settings.confirmations)
    return prove_release(answer, connection.trust, read_image=lambda _: content)


def fetch_image(
    connection: Connection, product: str, version: Version | None, *, sources: Sequence[str]
) -> ProvenRelease:
    """Fetch the image of a release, and verify it against the chain (checks 1 to 5).

    Args:
        connection: the chain, the contract and the store.
        product: name of the product.
        version: the version; None means the newest active version.
        sources: URLs of sources that are tried after the store.

    Raises:
        VerificationError: a check failed.
        UnreachableError: no source serves the image, or the node is out of reach.
    """
    answer = connection.contract.answer(product, version, confirmations=connection.settings.confirmations)

    def read_image(release: Release) -> bytes:
        found = io.BytesIO()
        find_image(release, connection.store, stages=connection.image_sources(sources).stages(release), into=found)
        return found.getvalue()

    return prove_release(answer, connection.trust, read_image=read_image)


def follow_events(connection: Connection, *, pause: float | None) -> Iterator[ContractEvent]:
    """Yield the events of confirmed blocks, oldest first. After a reorganisation, events of the new blocks follow.

    Args:
        connection: the chain and the contract.
        pause: the seconds between two reads; None to end the events at the newest confirmed block.

    Raises:
        UnreachableError: the node is out of reach, or has pruned the events.
    """
    contract, settings = connection.contract, connection.settings
    follower = Follower(contract.chain, confirmations=settings.confirmations, first_block=settings.first_block)
    first_block = 0
    while True:
        position = follower.advance()
        if position.reorganised_from is not None:
            first_block = min(first_block, position.reorganised_from)

        logs = follower.events(contract.address, first_block=first_block)
        follower.acknowledge()
        first_block = position.block.number + 1
        yield from (event for log in logs if (event := read_event(log)))

        if pause is None:
            return
        time.sleep(pause)


def _find(releases: Sequence[Release], content: bytes, product: str | None, version: Version | None) -> Release:
    """Return the release with an image; the first one if several releases have the same image."""
    digest = hashlib.sha256(content).digest()
    for release in releases:
        if release.sha256 == digest and version in {None, release.version}:
            return release
    raise RefusedError(
        f"the image is not {version or 'a release'} of {product or 'any product of this vendor'}",
        why=f"the contract has no record of the SHA-256 {digest.hex()}",
        remedy="do not use the image; fetch the image of a release",
        action=Action.FETCH_IMAGE,
    )
