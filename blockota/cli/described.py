"""What a vendor says of a release: its manifest, found by the contract's event, read from the store, and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockota.cli.session import Session
from blockota.errors import BlockOTAError, RefusedError

if TYPE_CHECKING:
    from blockota.formats.cid import CID
    from blockota.model.manifest import Manifest
    from blockota.model.release import Release


@dataclass(frozen=True)
class Description:
    """A release's manifest, as far as it could be read.

    Attributes:
        address: its content address; None where the release has none, or the chain could not tell.
        manifest: the manifest itself.
        trouble: why it cannot be shown, a sentence; empty where it can.
    """

    address: CID | None
    manifest: Manifest | None
    trouble: str = ""

    @property
    def fields(self) -> dict[str, Any] | None:
        """For JSON; None where the release is known to have none."""
        if self.address is None and not self.trouble:
            return None
        return {
            "cid": str(self.address) if self.address else None,
            "notes": self.manifest.notes if self.manifest else None,
            "metadata": dict(self.manifest.metadata) if self.manifest else None,
        } | ({"trouble": self.trouble} if self.trouble else {})

    def show(self, session: Session) -> None:
        """Print metadata and notes for people; no line of the notes can be taken for one of ours."""
        if self.trouble:
            session.note(f"The release's notes cannot be shown. {self.trouble}")
        if self.manifest and self.manifest.metadata:
            session.fields({f"  {key}": value for key, value in self.manifest.metadata})
        for line in self.manifest.notes.split("\n") if self.manifest and self.manifest.notes else ():
            session.fields({"  │": line})


def find_description(session: Session, found: Release) -> Description:
    """A release's manifest for showing: one that is missing or wrong is told, and is no error."""
    from blockota.vendor.publish import read_manifest

    address = None
    try:
        address = session.contract.manifest_address(found, from_block=session.settings.first_block)
        if address is None:
            return Description(None, None)
        return Description(address, read_manifest(session.store, address, release=found))
    except BlockOTAError as error:
        return Description(address, None, str(error))


def describe_argument(session: Session, argument: Mapping[str, Any]) -> Description:
    """The manifest of a release that a proposal is to publish, for whoever is to sign it.

    Args:
        session: the command's; its store is asked.
        argument: the release, as ``publish`` is called with it.
    """
    from blockota.bindings.block_ota import argument_release
    from blockota.formats.cid import CID, RAW
    from blockota.vendor.publish import read_manifest

    release = argument_release(argument)
    if release is None or release.manifest is None:
        return Description(None, None)
    address = CID(RAW, release.manifest)
    try:
        return Description(address, read_manifest(session.store, address, release=release))
    except BlockOTAError as error:
        return Description(address, None, str(error))


def read_described(session: Session, found: Release) -> Manifest:
    """A release's manifest, which must be there.

    Raises:
        RefusedError: the release has none, or what the store holds is none.
        StoreError: the store does not hold it.
    """
    from blockota.vendor.publish import read_manifest

    address = session.contract.manifest_address(found, from_block=session.settings.first_block)
    if address is None:
        raise RefusedError(
            f"{found.product} {found.version} has no manifest",
            why="it was published without notes and metadata",
            remedy="leave --manifest out",
        )
    return read_manifest(session.store, address, release=found)
