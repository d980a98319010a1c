"""Finds a release's manifest.

The manifest's address is recorded on the chain or in a proposal. The manifest itself is in the store or at a source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blockota.bindings.block_ota import BlockOTAContract, argument_release
from blockota.errors import Action, BlockOTAError, RefusedError
from blockota.formats.cid import CID, RAW
from blockota.model.manifest import MAX_SIZE, Description, Manifest
from blockota.model.release import Release
from blockota.stores.search import SearchStage, find_small_file
from blockota.stores.store import Store


def find_description(
    contract: BlockOTAContract,
    release: Release,
    *,
    open_store: Callable[[], Store],
    stages: Sequence[SearchStage] = (),
) -> Description:
    """Find the manifest of a recorded release.

    The event of the publication contains the manifest's address.

    Args:
        contract: the vendor's contract.
        release: the release.
        open_store: returns the store, which is read first.
        stages: the sources to ask after the store.

    Returns:
        The manifest. If the manifest is missing or wrong, or `open_store` fails, the result contains the reason as
        `trouble`.
    """
    address = None
    try:
        address = contract.manifest_address(release)
        if address is None:
            return Description()
        return Description(address, read_manifest(open_store(), address, release=release, stages=stages))
    except BlockOTAError as error:
        return Description(address, trouble=str(error))


def describe_argument(argument: Mapping[str, Any], *, open_store: Callable[[], Store]) -> Description:
    """Find the manifest of a release that a proposal publishes. Errors are returned as `trouble`, not raised."""
    release = argument_release(argument)
    if release is None or release.manifest is None:
        return Description()
    address = CID(RAW, release.manifest)
    try:
        return Description(address, read_manifest(open_store(), address, release=release))
    except BlockOTAError as error:
        return Description(address, trouble=str(error))


def require_manifest(
    contract: BlockOTAContract, release: Release, *, store: Store, stages: Sequence[SearchStage] = ()
) -> Manifest:
    """Read the manifest of a recorded release from the store, or from the sources of `stages`.

    Raises:
        RefusedError: the release has no manifest, or the file is not the release's manifest.
        StoreError: neither the store nor a source has the manifest.
    """
    address = contract.manifest_address(release)
    if address is None:
        raise RefusedError(
            f"{release.product} {release.version} has no manifest",
            why="the release was published without notes and metadata",
            remedy="fetch the image alone",
            action=Action.OMIT_MANIFEST,
        )
    return read_manifest(store, address, release=release, stages=stages)


def read_manifest(store: Store, address: CID, *, release: Release, stages: Sequence[SearchStage] = ()) -> Manifest:
    """Read a manifest, and check the manifest against its address and the release.

    Raises:
        RefusedError: the file is not a manifest, or describes another release.
        StoreError: neither the store nor a source has the manifest.
        ContentError: the store has wrong bytes under the manifest's address, and `stages` is empty.
    """
    what = f"the manifest {address} of {release.product} {release.version}"
    manifest = Manifest.from_json(find_small_file(address, store, stages=stages, size=MAX_SIZE, what=what))
    manifest.require_about(release)
    return manifest
