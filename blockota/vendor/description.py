"""Finds a release's manifest: gets its address from the chain or a proposal, and its bytes from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from blockota.bindings.block_ota import BlockOTAContract, argument_release
from blockota.errors import Action, BlockOTAError, RefusedError
from blockota.formats.cid import CID, RAW
from blockota.model.manifest import MAX_SIZE, Manifest
from blockota.model.release import Release
from blockota.stores.store import Store, read_whole


@dataclass(frozen=True)
class Description:
    """The manifest of a release, or the reason why it cannot be shown.

    Attributes:
        address: content address of the manifest; None if the release has none, or if the address is unknown.
        manifest: the manifest; None if the release has none, or if it cannot be shown.
        trouble: sentence that explains why the manifest cannot be shown; empty if it can be shown.
    """

    address: CID | None = None
    manifest: Manifest | None = None
    trouble: str = ""

    @property
    def fields(self) -> dict[str, Any] | None:
        """The description as a JSON object; None if the release has no manifest."""
        if self.address is None and not self.trouble:
            return None
        return {
            "cid": str(self.address) if self.address else None,
            "notes": self.manifest.notes if self.manifest else None,
            "metadata": dict(self.manifest.metadata) if self.manifest else None,
            **(self.manifest.accepted if self.manifest else {}),
        } | ({"trouble": self.trouble} if self.trouble else {})


def find_description(
    contract: BlockOTAContract, release: Release, *, from_block: int, open_store: Callable[[], Store]
) -> Description:
    """Find the manifest of a recorded release by the event of its publication, in `from_block` or later.

    A missing or wrong manifest and the errors of `open_store` are not raised, but returned as `trouble`.
    """
    address = None
    try:
        address = contract.manifest_address(release, from_block=from_block)
        if address is None:
            return Description()
        return Description(address, read_manifest(open_store(), address, release=release))
    except BlockOTAError as error:
        return Description(address, trouble=str(error))


def describe_argument(argument: Mapping[str, Any], *, open_store: Callable[[], Store]) -> Description:
    """Find the manifest of a release that a proposal publishes; errors are returned as `trouble`, not raised."""
    release = argument_release(argument)
    if release is None or release.manifest is None:
        return Description()
    address = CID(RAW, release.manifest)
    try:
        return Description(address, read_manifest(open_store(), address, release=release))
    except BlockOTAError as error:
        return Description(address, trouble=str(error))


def require_manifest(contract: BlockOTAContract, release: Release, *, from_block: int, store: Store) -> Manifest:
    """Read the manifest of a recorded release.

    Raises:
        RefusedError: the release has no manifest, or the stored file is not its manifest.
        StoreError: the store does not have the manifest.
    """
    address = contract.manifest_address(release, from_block=from_block)
    if address is None:
        raise RefusedError(
            f"{release.product} {release.version} has no manifest",
            why="the release was published without notes and metadata",
            remedy="fetch the image alone",
            action=Action.OMIT_MANIFEST,
        )
    return read_manifest(store, address, release=release)


def read_manifest(store: Store, address: CID, *, release: Release) -> Manifest:
    """Read a manifest, and check it against its address and the release.

    Raises:
        RefusedError: the file is corrupt, not a manifest, or about another release.
        StoreError: the store does not have the manifest.
    """
    manifest = Manifest.from_json(read_whole(store, address, size=MAX_SIZE))
    manifest.require_about(release)
    return manifest
