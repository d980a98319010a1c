"""The images that a proposal publishes: found, hashed, and compared with what is published today."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockota.cli.described import Description, describe_argument
from blockota.cli.session import Session
from blockota.difference import PAGE_SIZE, Placed, compare
from blockota.errors import BlockOTAError, ProposalError, StoreError

if TYPE_CHECKING:
    from blockota.chain_view import ChainView
    from blockota.cid import CID
    from blockota.difference import Difference
    from blockota.proposal import Proposal
    from blockota.release import Release, Version
    from firmware_host.image import FirmwareImage

_MAX_IMAGE_SIZE = 1 << 30
_Fields = dict[str, Any]


@dataclass(frozen=True)
class CheckedImage:
    """An image whose SHA-256 was computed here, and is the one in the calldata.

    Attributes:
        source: where the bytes came from.
        size: bytes.
        since: the product's newest release; None where this is its first.
        difference: what changes against it; None where its image is not at hand.
        description: the release's manifest, as far as the store holds it.
    """

    source: str
    size: int
    since: Version | None
    difference: Difference | None
    description: Description

    @property
    def changes(self) -> tuple[str, ...]:
        """What changes, in lines for people."""
        found = self.difference
        if self.since is None:
            return ("everything: it is the first release of this product",)
        if found is None:
            return (f"not known: the image of {self.since} is not in the store; give it with --previous",)
        sizes = f"since {self.since}: {found.old_size:,} → {found.new_size:,} bytes"
        if found.first is None or found.last is None:
            return (f"{sizes}, and nothing differs",)
        pages = f"{found.changed_pages:,} of {found.pages:,} pages of {PAGE_SIZE} bytes"
        return sizes, f"{pages}, {found.changed_bytes:,} bytes, from 0x{found.first:08x} to 0x{found.last:08x}"

    @property
    def fields(self) -> _Fields:
        """For JSON."""
        return {
            "source": self.source,
            "size": self.size,
            "since": str(self.since) if self.since else None,
            "difference": asdict(self.difference) if self.difference else None,
            "manifest": self.description.fields,
        }


def check_proposed_images(
    session: Session, proposal: Proposal, *, given: Sequence[Path], previous: Sequence[Path], view: ChainView
) -> list[CheckedImage]:
    """Hash every image of a proposal, and compare each with its product's newest release.

    Args:
        session: opens the store for what no file was given for.
        proposal: what publishes them.
        given: files of images; each must be one of the proposal's.
        previous: files of images to compare with; each must be a newest release's.
        view: tells the newest releases.

    Returns:
        One for each release, in their order.

    Raises:
        ProposalError: an image is not the one in the calldata.
        StoreError: an image was not given, and the store does not hold it.
    """
    from blockota.approval import check_images
    from blockota.intent import image_address

    releases = proposal.releases
    files = {image_address(release): (path, data) for path in given for release, data in _match(path, releases)}
    newest = [view.newest_of(_product(release)) for release in releases]
    before = dict(_read_previous(path, [release for release in newest if release]) for path in previous)

    def fetch(address: CID, size: int) -> bytes:
        if address in files:
            return files[address][1]
        release = next(release for release in releases if image_address(release) == address)
        return _stored(session, address, size=size, of=_name(release))

    checked = []
    for release, image, old in zip(releases, check_images(proposal, fetch), newest, strict=True):
        source = files.get(image_address(release), ("the store",))[0]
        found = _difference(session, release, image=image, newest=old, previous=before) if old else None
        described = describe_argument(session, release)
        checked.append(CheckedImage(str(source), len(image), old.version if old else None, found, described))
    return checked


def _match(path: Path, releases: Sequence[_Fields]) -> list[tuple[_Fields, bytes]]:
    """The releases whose image a file is."""
    image = _read(path, sizes=[release["size"] for release in releases])
    digest = hashlib.sha256(image.data).digest()
    matches = [(release, image.data) for release in releases if release["sha256"] == digest]
    if not matches:
        wanted = ", ".join(f"{release['size']} bytes with {release['sha256'].hex()}" for release in releases)
        raise ProposalError(
            f"the image {path} is not the one in the proposal",
            why=f"it has {len(image.data)} bytes with SHA-256 {digest.hex()}, the proposal publishes "
            f"{wanted or 'no image at all'}",
            remedy="do not sign, unless you took the wrong file; ask who made the proposal",
        )
    for release, _ in matches:
        _check_place(path, image, release=release)
    return matches


def _check_place(path: Path, image: FirmwareImage, *, release: _Fields) -> None:
    if image.format != "bin" and image.load_address != release["loadAddress"]:
        raise ProposalError(
            "the proposal puts the image elsewhere",
            why=f"{path} goes to 0x{image.load_address:08x}, the proposal says 0x{release['loadAddress']:08x}",
            remedy="do not sign; ask who made the proposal",
        )


def _stored(session: Session, address: CID, *, size: int, of: str) -> bytes:
    from blockota.stores import read_whole

    try:
        return read_whole(session.store, address, size=size)
    except StoreError as error:
        raise StoreError(
            f"the image of {of} cannot be checked",
            why=f"{error.what}, {error.why}" if error.why else error.what,
            remedy="give it with --image FILE, or name the store that holds it with --store",
        ) from error


def _difference(
    session: Session, release: _Fields, *, image: bytes, newest: Release, previous: dict[bytes, bytes]
) -> Difference | None:
    from blockota.stores import read_whole

    try:
        old = previous.get(newest.sha256) or read_whole(session.store, newest.cid, size=newest.size)
    except BlockOTAError:
        return None
    return compare(Placed(image, release["loadAddress"]), Placed(old, newest.load_address))


def _read_previous(path: Path, newest: Sequence[Release]) -> tuple[bytes, bytes]:
    """The SHA-256 and the bytes of an image that was published before."""
    data = _read(path, sizes=[release.size for release in newest]).data
    digest = hashlib.sha256(data).digest()
    if digest not in {release.sha256 for release in newest}:
        known = ", ".join(f"{release.product} {release.version} is {release.sha256.hex()}" for release in newest)
        raise ProposalError(
            f"the image {path} is not the one published before",
            why=f"its SHA-256 is {digest.hex()}, {known or 'and nothing was'}",
            remedy="fetch that one with `blockota release fetch`, or leave --previous out",
        )
    return digest, data


def _read(path: Path, *, sizes: Sequence[int]) -> FirmwareImage:
    from firmware_host.image import MAX_IMAGE_SIZE, read_image

    limit = min(max(MAX_IMAGE_SIZE, *sizes), _MAX_IMAGE_SIZE) if sizes else MAX_IMAGE_SIZE
    return read_image(path, load_address=0, limit=limit)


def _name(release: _Fields) -> str:
    from blockota.release import Version

    return f"{_product(release)} {Version.unpack(release['version']) or 'without a version'}"


def _product(release: _Fields) -> str:
    from blockota.release import product_name

    return product_name(release["product"])
