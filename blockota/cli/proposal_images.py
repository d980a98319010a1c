"""The images that a proposal publishes: found, hashed, and compared with what is published today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockota.cli.described import Description, describe_argument
from blockota.cli.display import progress_bar
from blockota.cli.proposal_search import ImageFile, ImageSearch, Sources, reading
from blockota.cli.session import Session
from blockota.errors import BlockOTAError, ProposalError, StoreError
from blockota.model.difference import PAGE_SIZE, Placed, compare

if TYPE_CHECKING:
    from blockota.approval.chain_view import ChainView
    from blockota.approval.proposal import Proposal
    from blockota.model.difference import Difference
    from blockota.model.release import Release, Version

_Fields = dict[str, Any]


@dataclass(frozen=True)
class CheckedImage:
    """An image whose SHA-256 was computed here, and is the one in the calldata.

    Attributes:
        source: where the bytes came from.
        size: bytes.
        since: the product's newest release; None where this is its first, or where nobody knows.
        difference: what changes against it; where that cannot be told, a sentence about it.
        description: the release's manifest, as far as the store holds it.
    """

    source: str
    size: int
    since: Version | None
    difference: Difference | str
    description: Description

    @property
    def shown(self) -> dict[str, object]:
        """What was done and what changes, in lines for people."""
        hashed = f"hashed here from {self.source}: its {self.size:,} bytes have this SHA-256"
        return {"image": hashed, "changes": self._changes}

    @property
    def fields(self) -> _Fields:
        """For JSON."""
        return {
            "source": self.source,
            "size": self.size,
            "since": str(self.since) if self.since else None,
            "difference": None if isinstance(self.difference, str) else asdict(self.difference),
            "manifest": self.description.fields,
        }

    @property
    def _changes(self) -> tuple[str, ...]:
        found = self.difference
        if isinstance(found, str):
            return (found,)
        sizes = f"since {self.since}: {found.old_size:,} → {found.new_size:,} bytes"
        if found.first is None or found.last is None:
            return (f"{sizes}, and nothing differs",)
        pages = f"{found.changed_pages:,} of {found.pages:,} pages of {PAGE_SIZE} bytes"
        return sizes, f"{pages}, {found.changed_bytes:,} bytes, from 0x{found.first:08x} to 0x{found.last:08x}"


@dataclass(frozen=True)
class UncheckedImage:
    """An image that could not be checked, where that is no reason to stop.

    Attributes:
        trouble: why, a sentence.
        description: the release's manifest, as far as the store holds it.
    """

    trouble: str
    description: Description

    @property
    def shown(self) -> dict[str, object]:
        """In a line for people."""
        return {"image": f"NOT CHECKED: {self.trouble}"}

    @property
    def fields(self) -> _Fields:
        """For JSON."""
        return {"source": None, "trouble": self.trouble, "manifest": self.description.fields}


def check_proposed_images(
    session: Session, proposal: Proposal, *, sources: Sources, view: ChainView
) -> list[CheckedImage]:
    """Hash every image of a proposal, and compare each with its product's newest release.

    Args:
        session: opens the store, and knows who else serves images.
        proposal: what publishes them.
        sources: files of images, each of which must be the proposal's or a newest release's, and who else to ask.
        view: tells the newest releases.

    Returns:
        One for each release, in their order.

    Raises:
        ProposalError: an image is not the one in the calldata.
        VerificationError: number 4, only something else was found.
        StoreError: an image was not given, and is not to be found.
    """
    with ImageSearch(session, named=sources.named, view=view) as search:
        desk = _Desk(session, proposal, sources=sources, view=view, search=search)
        return [desk.check(release) for release in proposal.releases]


def look_at_images(
    session: Session, proposal: Proposal, *, sources: Sources, view: ChainView | None
) -> list[CheckedImage | UncheckedImage]:
    """The same for whoever only looks: what cannot be checked is told in its place.

    Raises:
        ProposalError: a file that was given is no image of the proposal's.
        UsageError: a file or a URL that was given is none.
        ImageError: a file that was given is no image.
    """
    with ImageSearch(session, named=sources.named, view=view) as search:
        desk = _Desk(session, proposal, sources=sources, view=view, search=search)
        return [desk.look(release) for release in proposal.releases]


class _Desk:
    """Where the images of one proposal are checked."""

    def __init__(
        self, session: Session, proposal: Proposal, *, sources: Sources, view: ChainView | None, search: ImageSearch
    ) -> None:
        self._session, self._view, self._search = session, view, search
        newest = [found for release in proposal.releases if (found := self._newest(release))]
        given = [self._given_image(path, proposal.releases) for path in sources.images]
        previous = [self._previous_image(path, newest) for path in sources.previous]
        self._given, self._previous = ({image.sha256: image for image in images} for images in (given, previous))

    def check(self, release: _Fields) -> CheckedImage:
        """Find one image, hash it, and compare it."""
        from blockota.vendor.publish import check_image

        image = self._given.get(release["sha256"]) or self._find(release)
        with progress_bar(self._session, "Checking", total=image.size) as bar, reading(image.origin):
            image.file.seek(0)
            check_image(release, image.file, on_progress=bar)
        newest = self._newest(release)
        described = describe_argument(self._session, release)
        found = self._difference(Placed(image, release["loadAddress"]), newest)
        return CheckedImage(image.origin, image.size, newest.version if newest else None, found, described)

    def look(self, release: _Fields) -> CheckedImage | UncheckedImage:
        """The same, where the reason is told when it is not possible."""
        try:
            return self.check(release)
        except BlockOTAError as error:
            trouble = f"{error.what}: {error.why}" if error.why else error.what
            return UncheckedImage(trouble, describe_argument(self._session, release))

    def _newest(self, release: _Fields) -> Release | None:
        return self._view.newest_of(_product(release)) if self._view else None

    def _given_image(self, path: Path, releases: Sequence[_Fields]) -> ImageFile:
        """An image that was given, which must be one of the proposal's, and go where the proposal puts it."""
        image = self._search.open(path, wanted={(release["size"], release["sha256"]) for release in releases})
        matches = [release for release in releases if release["sha256"] == image.sha256]
        if not matches:
            wanted = ", ".join(f"{release['size']:,} bytes with {release['sha256'].hex()}" for release in releases)
            raise ProposalError(
                f"the image {path} is not the one in the proposal",
                why=f"it has {image.size:,} bytes with SHA-256 {image.sha256.hex()}, the proposal publishes "
                f"{wanted or 'no image at all'}",
                remedy="do not sign, unless you took the wrong file; ask who made the proposal",
            )
        for release in matches:
            _check_place(image, release)
        return image

    def _previous_image(self, path: Path, newest: Sequence[Release]) -> ImageFile:
        """An image that was given to compare with, which must be one that was published before."""
        image = self._search.open(path, wanted={(release.size, release.sha256) for release in newest})
        if image.sha256 not in {release.sha256 for release in newest}:
            known = ", ".join(f"{release.product} {release.version} is {release.sha256.hex()}" for release in newest)
            raise ProposalError(
                f"the image {path} is not the one published before",
                why=f"its SHA-256 is {image.sha256.hex()}, {known or 'and nothing was'}",
                remedy="fetch that one with `blockota release fetch`, or leave --previous out",
            )
        return image

    def _find(self, release: _Fields) -> ImageFile:
        from blockota.bindings.block_ota import argument_release

        wanted, name = argument_release(release), _name(release)
        _check_size(release)
        if wanted is None:
            raise ProposalError(
                f"the image of {name} is not looked for", why="the contract refuses it", remedy="do not sign"
            )
        try:
            return self._search.find(wanted)
        except StoreError as error:
            raise StoreError(
                f"the image of {name} cannot be checked",
                why=f"{error.what}, {error.why}" if error.why else error.what,
                remedy="give it with --image FILE, or name who holds it with --store or --source",
            ) from error

    def _difference(self, new: Placed, newest: Release | None) -> Difference | str:
        if self._view is None:
            return "not known: the chain was not asked what is published today"
        if newest is None:
            return "everything: it is the first release of this product"
        try:
            old = self._previous.get(newest.sha256) or self._search.find(newest)
        except BlockOTAError:
            return f"not known: the image of {newest.version} was not found; give it with --previous"
        if old.sha256 != newest.sha256:
            return f"not known: what was found as the image of {newest.version} is another one"
        before = Placed(old, newest.load_address)
        touched = max(new.end, before.end) - min(new.start, before.start)
        with progress_bar(self._session, "Comparing", total=touched) as bar:
            return compare(new, before, on_progress=bar)


def _check_place(image: ImageFile, release: _Fields) -> None:
    if image.format != "bin" and image.load_address != release["loadAddress"]:
        raise ProposalError(
            "the proposal puts the image elsewhere",
            why=f"{image.origin} goes to 0x{image.load_address:08x}, the proposal says 0x{release['loadAddress']:08x}",
            remedy="do not sign; ask who made the proposal",
        )


def _check_size(release: _Fields) -> None:
    from blockota.formats.firmware_image import MAX_RAW_SIZE

    if not 0 < release["size"] <= MAX_RAW_SIZE:
        raise ProposalError(
            f"the image of {_name(release)} is not looked for",
            why=f"the proposal says that it has {release['size']:,} bytes, the limit is {MAX_RAW_SIZE:,}",
            remedy="do not sign; ask who made the proposal",
        )


def _name(release: _Fields) -> str:
    from blockota.model.release import Version

    return f"{_product(release)} {Version.unpack(release['version']) or 'without a version'}"


def _product(release: _Fields) -> str:
    from blockota.model.release import product_name

    return product_name(release["product"])
