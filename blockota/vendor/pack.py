"""Packs: one file with everything that an owner without a network needs to review and sign a proposal.

A pack is a CARv1 (`blockota.formats.car`). The roots in the CAR's header are the proposal file and the chain view file.
The blocks have this order: the proposal, the chain view, the images and manifests that the proposal publishes, and the
images of the newest releases. A review compares the published images with the newest releases. Equal contents give
equal bytes.

A pack is untrusted. A pack contains no file names and no compressed data, and is not unpacked into files. A pack is
read in these steps:

1. The number of blocks is limited, so that the index of the block positions is small.
2. Every block is verified against its CID before the pack is shown, and again when the review reads the block.
3. Proposal and chain view are read like separate files (`Proposal.from_json`, `ChainView.from_json`).
4. The pack contains the images, and is at least as large as all images together. Without the size check, one repeated
   block could represent a large image.
5. The pack contains every block of its files, and does not contain other blocks. The total number of links is limited.
   Each block of an image except the last has at least 1 MiB. Without these two limits, a small pack could take a long
   time to verify.

The review (`blockota.vendor.review`) then uses the pack as a store, from which it reads images and manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from blockota.approval.chain_view import ChainView
from blockota.approval.intent import image_address
from blockota.approval.proposal import Proposal
from blockota.errors import Action, BlockOTAError, ContentError, NotInStoreError, ProposalError, UsageError
from blockota.files import naming_file, reading
from blockota.formats.car import index_car, join_car
from blockota.formats.cid import CHUNK_SIZE, CID, RAW, Block, check_block, dag, read_file, read_links
from blockota.model.manifest import MAX_SIZE as MAX_MANIFEST_SIZE
from blockota.model.release import product_name
from blockota.stores.gateway import ReadOnlyStore
from blockota.stores.store import read_whole
from blockota.strict_json import MAX_FILE_SIZE
from blockota.vendor.files import is_pack
from blockota.vendor.images import ImageInputs, OpenImage, checked_images

MAX_BLOCKS = 1 << 14
"""The maximum number of blocks in a pack, which is enough for images of 16 GiB."""
_ROOTS = 2
"""The number of roots in the header: the proposal and the chain view."""


@dataclass(frozen=True)
class PackContents:
    """A summary of the contents of a pack.

    Attributes:
        images: number of images that the proposal publishes.
        previous: number of images of newest releases.
        missing: the parts that were not found, as sentences without a full stop. An owner can sign without the missing
            parts.
    """

    images: int
    previous: int
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the contents as text, such as ``the proposal, 1 image, 1 image to compare with``."""
        parts = ["the proposal"]
        for count, suffix in ((self.images, ""), (self.previous, " to compare with")):
            if count:
                parts.append(f"{count} image{'s' * (count > 1)}{suffix}")
        return ", ".join(parts)


class Pack(ReadOnlyStore):
    """A pack in an open file. The pack is also a read-only store of its images and manifests.

    Attributes:
        proposal: the proposal.
        view: the chain view, with the name of the pack as its source.
        name: name of the pack's file.
    """

    def __init__(self, file: BinaryIO, name: str, *, on_progress: Callable[[int], object] = lambda _: None) -> None:
        """Check a pack. `on_progress` is called with the number of bytes verified so far.

        Raises:
            ContentError, NotInStoreError, ProposalError: the file is not a pack, or is damaged.
        """
        self._file, self.name = file, name
        self._size = file.seek(0, 2)
        index = index_car(file, most_blocks=MAX_BLOCKS)
        self._places, self._roots = index.places, index.roots
        if len(self._roots) != _ROOTS or {root.codec for root in self._roots} != {RAW}:
            raise ContentError("the roots are not those of a pack", why="a pack has a proposal and a chain view")

        proposal, view = (read_whole(self, root, size=MAX_FILE_SIZE) for root in self._roots)
        self.proposal = Proposal.from_json(proposal)
        self.view = replace(ChainView.from_json(view), source=name)
        self._check_contents()

        # (2) Verify every block, also the blocks that the steps before did not read.
        done = 0
        for cid in self._places:
            done += len(check_block(cid, self.read_block(cid)))
            on_progress(done)

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order. Each block is verified before it is yielded.

        Raises:
            NotInStoreError: the pack does not have a block.
            ContentError: a block is corrupt.
        """
        return read_file(cid, self.read_block)

    def has(self, cid: CID) -> bool:
        """Whether the pack has the root block of a file."""
        return cid in self._places

    def read_block(self, cid: CID) -> bytes:
        """Read a block without verifying it.

        Raises:
            NotInStoreError: the pack does not have the block.
        """
        if cid not in self._places:
            raise NotInStoreError(f"{self.name} does not have {cid}", why="the pack was made without this file")
        position, size = self._places[cid]
        with reading(Path(self.name)):
            self._file.seek(position)
            return self._file.read(size)

    def _read_only(self, *_: object) -> UsageError:
        return UsageError(f"nothing can be stored in {self.name}", why="a pack is read-only")

    def _check_contents(self) -> None:
        """Check the pack's contents (steps 4 and 5 of the module docstring)."""
        releases = self.proposal.releases
        names = {product_name(release["product"]) for release in releases}
        newest = [one for one in self.view.newest if one.product in names and self.has(one.cid)]

        # (4) The pack contains the images, and is as large as all of them.
        for release in releases:
            if not self.has(image_address(release)):
                raise ContentError("an image is missing", why=f"the pack does not have {image_address(release)}")
        if sum(release["size"] for release in releases) + sum(one.size for one in newest) > self._size:
            raise ContentError("an image is missing", why=f"the pack has {self._size:,} bytes, fewer than its images")

        # (5) Every block belongs to one of the files.
        manifests = [CID(RAW, release["manifest"]) for release in releases if any(release["manifest"])]
        files = [*self._roots, *map(image_address, releases), *manifests, *(one.cid for one in newest)]
        if self._places.keys() - self._reachable(cid for cid in files if self.has(cid)):
            raise ContentError("the pack has other contents", why="a block does not belong to any of the pack's files")

    def _reachable(self, roots: Iterable[CID]) -> set[CID]:
        """Return the CIDs of all blocks of files. Only inner blocks are read."""
        found, count = set(roots), 0
        waiting = [cid for cid in found if cid.codec != RAW]

        while waiting:
            cid = waiting.pop()
            links = read_links(Block(cid, check_block(cid, self.read_block(cid))))
            count += len(links)
            if count > MAX_BLOCKS:
                raise ContentError("an image is in too many pieces", why=f"it has more than {MAX_BLOCKS:,} links")
            if any(link.file_size < CHUNK_SIZE for link in links[:-1]):
                raise ContentError("an image is in too many pieces", why=f"a piece has fewer than {CHUNK_SIZE:,} bytes")

            for child in {link.cid for link in links} - found:
                if not self.has(child):
                    raise ContentError("a part of an image is missing", why=f"the pack does not have {child}")
                found.add(child)
                if child.codec != RAW:
                    waiting.append(child)
        return found


@contextmanager
def open_pack(path: Path, *, on_progress: Callable[[int], object] = lambda _: None) -> Iterator[Pack]:
    """Open an untrusted pack. Nothing is written. `on_progress` is called with the number of bytes verified so far.

    Raises:
        ProposalError: the file is not a pack, is damaged, or has contents that a pack cannot have.
        UsageError: the file cannot be read.
    """
    with ExitStack() as files:
        with naming_file(path), reading(path):
            file = files.enter_context(path.open("rb"))
            try:
                pack = Pack(file, path.name, on_progress=on_progress)
            except (ContentError, NotInStoreError, ProposalError) as error:
                raise ProposalError(
                    "the file is not a complete pack",
                    why=f"{error.what}, {error.why}" if error.why else error.what,
                    remedy="do not sign it, and ask for the pack again",
                    action=Action.MAKE_PACK,
                ) from error

        # Outside the translation above, so that an error of the caller passes unchanged.
        yield pack


def read_packs_beside(path: Path) -> dict[str, Proposal]:
    """Return the proposals of the other packs in the folder of a pack, by file name.

    The images in these packs are not read.
    """
    found = {}
    for other in sorted(path.parent.glob("*.pack")):
        if other.name != path.name and is_pack(other):
            with suppress(BlockOTAError, OSError, LookupError), other.open("rb") as file:
                index = index_car(file, most_blocks=MAX_BLOCKS)
                position, size = index.places[index.roots[0]]
                file.seek(position)
                found[other.name] = Proposal.from_json(check_block(index.roots[0], file.read(size)))
    return found


def write_pack(proposal: Proposal, view: ChainView, inputs: ImageInputs, *, into: BinaryIO) -> PackContents:
    """Write a pack.

    The proposal's images are found and hashed, and then copied into the pack with the manifests. An owner can sign
    without manifests and without images of newest releases. If they are not found, the pack omits them.

    Args:
        proposal: the proposal.
        view: the state of the chain, read after the proposal was made.
        inputs: files, store and sources of the images.
        into: a file that is open for writing.

    Raises:
        ProposalError, VerificationError, StoreError, UsageError, ImageError: the errors of `check_images`.
    """
    head = [Block(CID.of(RAW, raw), raw) for raw in (proposal.to_json(), view.to_json())]
    with checked_images(proposal, view, inputs) as (published, newest):
        found = PackContents(len(published), len(newest))
        names = {product_name(release["product"]) for release in proposal.releases}
        if len(newest) < len([release for release in view.newest if release.product in names]):
            found.missing.append("an image to compare with, because the image of the newest release was not found")

        def blocks() -> Iterator[Block]:
            yield from head
            yield from _blocks(published)

            for release in proposal.releases:
                if not any(release["manifest"]):
                    continue
                try:
                    address = CID(RAW, release["manifest"])
                    yield Block(address, read_whole(inputs.open_store(), address, size=MAX_MANIFEST_SIZE))
                except BlockOTAError as error:
                    name = product_name(release["product"])
                    found.missing.append(f"the notes and metadata of {name}, because {error.what}")

            yield from _blocks(newest)

        into.writelines(join_car([block.cid for block in head], blocks()))
    return found


def _blocks(images: list[OpenImage]) -> Iterator[Block]:
    for image in images:
        image.file.seek(0)
        yield from dag(image.file)
