"""Find the release for a board, and prove the release and its image (checks 1 to 5)."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blockota.bindings.block_ota import BlockOTAContract, known_releases
from blockota.errors import Action, ImageError, RefusedError, VerificationError
from blockota.files import read_input
from blockota.formats.firmware_image import MAX_IMAGE_SIZE, read_image
from blockota.formats.mcuboot import program_offset
from blockota.formats.vector_table import find_link_address
from blockota.model.board_image import require_place
from blockota.model.facts import ChainAnswer, KnownReleases, ProvenRelease, Trust
from blockota.model.manifest import Description
from blockota.model.program import SRAM, find_fault
from blockota.model.recognition import describe_release
from blockota.model.release import Product, Release, Status, Version
from blockota.model.verification import prove_release
from blockota.stores.search import SearchObserver, SearchStage, find_image
from blockota.stores.store import Store

_IMAGE_CHECK = 4
"""The number of the check that compares an image with its record."""


@dataclass(frozen=True)
class Offer:
    """A release that passed checks 1 to 5, and all releases in the contract at the same block.

    `board_product` is the product of the board's own image, read at the same block; None without an own image.
    """

    proven: ProvenRelease
    known: KnownReleases
    board_product: Product | None = None


@dataclass(frozen=True)
class ImageSource:
    """The sources of images: only `file` if a file is given, otherwise first the store and then the `stages`.

    The manifest is read only if check 7 or 9 needs the manifest.
    """

    store: Store
    stages: Callable[[Release], Sequence[SearchStage]]
    observe: Callable[[Release], SearchObserver] = lambda _: SearchObserver()
    file: Path | None = None
    describe: Callable[[Release], Description] = lambda _: Description()


def _is_plain(proven: ProvenRelease) -> bool:
    """Whether an image is a program for the release's address, so that checks 7 and 9 do not need the manifest."""
    image, release = proven.image, proven.release
    # No board's flash ends before the region, so check 9 finds no other address than this search.
    linked_for = find_link_address(image, release.load_address, flash_end=proven.product.region.end)
    return linked_for is None and not program_offset(image) and not find_fault(image, release.region, SRAM)


class Offers:
    """Proven releases by product and version. Each image is fetched once. The class is thread-safe."""

    def __init__(
        self, contract: BlockOTAContract, trust: Trust, source: ImageSource, *, board_product: str = ""
    ) -> None:
        self._contract, self._trust, self._source = contract, trust, source
        self._board_product = board_product
        self._images: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def offer(self, product: str, version: Version | None, *, board_product: str = "") -> Offer:
        """Look up a release, or the newest active release, on the chain, and prove the release and its image.

        To resume a run, `board_product` names the product of the board's own image in the interrupted run. If
        `board_product` is empty, the configured product is used.

        Raises:
            RefusedError: one of checks 1 to 5 failed, or the board's own image does not fit beside the release.
            UnreachableError: the chain or the store is unreachable.
        """
        with self._lock:
            answer = self._contract.answer(product, version, confirmations=self._trust.confirmations)
            try:
                proven = prove_release(answer, self._trust, read_image=self._image)
            except VerificationError as error:
                if error.number == _IMAGE_CHECK and self._source.file and answer.release:
                    raise self._other_file(error, self._source.file, answer=answer, wanted=answer.release) from error
                raise
            if not _is_plain(proven):
                proven = replace(proven, description=self._source.describe(proven.release))
            known = known_releases(self._contract, product, block=answer.block_number)
            own = self._own_product(board_product or self._board_product, block=answer.block_number)
        if own:
            require_place(own, proven.release)

        def others() -> Sequence[Release]:
            # Called later, from any port's thread, and only if a board has none of the product's releases.
            with self._lock:
                return known.others()

        return Offer(proven, KnownReleases(known.own, others), own)

    def _other_file(
        self, error: VerificationError, file: Path, *, answer: ChainAnswer, wanted: Release
    ) -> VerificationError:
        """Return the error of check 4 for an image file that is not the wanted release.

        The error names the content of the file.
        """
        known = known_releases(self._contract, wanted.product, block=answer.block_number)
        releases = (*known.own, *known.others())
        image = self._image(wanted)
        # A read-out of a board begins with a release.
        begins = [one for one in releases if hashlib.sha256(image[: one.size]).digest() == one.sha256]
        there = max(begins, key=lambda one: one.size, default=None)
        what, now = f"{file} is not {wanted.product} {wanted.version}", answer.block_time
        remedy, action = "omit the file", Action.OMIT_IMAGE
        values: dict[str, str] = {}
        if there is None:
            why = f"it is not the image of a release of this vendor; {error.why}"
            remedy = "flash without a file, so that the image is fetched"
            return VerificationError(error.number, what, why=why, remedy=remedy, action=action)

        name = describe_release(there, releases, now=now)
        why = f"it is {name}"
        if rest := len(image) - there.size:
            what, why = f"{file} is not only a release", f"it begins with {name}, and has {rest:,} more bytes"
        elif there.status is Status.REVOKED or there.active_from > now:
            remedy = "do not use the file; omit it"
        else:
            remedy, action = "to flash the file, name its release; otherwise omit the file", Action.FLASH_OTHER_RELEASE
            values = {"product": there.product, "version": str(there.version)}
        return VerificationError(error.number, what, why=why, remedy=remedy, action=action, values=values)

    def _own_product(self, name: str, *, block: int) -> Product | None:
        """Read the product of the board's own image at the block at which checks 1 and 2 of the release passed."""
        if not name:
            return None

        product = self._contract.product(name, block=block)
        if product is None or not product.paired:
            state = "no longer paired" if product else "unknown to this vendor"
            raise RefusedError(
                "the board's own image has no flash region",
                why=f"the product {name}, whose region the image needs, is {state} at block {block}",
                remedy="check the name, or ask the vendor to pair the product",
                action=Action.LIST_PRODUCTS,
            )
        return product

    def _image(self, release: Release) -> bytes:
        if release.sha256 not in self._images:
            self._images[release.sha256] = self._fetch(release)
        return self._images[release.sha256]

    def _fetch(self, release: Release) -> bytes:
        if release.size > MAX_IMAGE_SIZE:
            raise ImageError(
                f"{release.product} {release.version} cannot be flashed over a serial port",
                why=f"its image has {release.size:,} bytes, but the limit is {MAX_IMAGE_SIZE:,}",
                remedy="fetch the image, and install it by the vendor's instructions",
                action=Action.FETCH_IMAGE,
            )
        source = self._source
        if source.file is None:
            found = io.BytesIO()
            find_image(
                release, source.store, stages=source.stages(release), into=found, observer=source.observe(release)
            )
            return found.getvalue()

        content = read_input(source.file, limit=MAX_IMAGE_SIZE)
        # A file with the release's SHA-256 is the image, in any format; only another file is parsed as .hex or .elf.
        if not content or hashlib.sha256(content).digest() == release.sha256:
            return content
        image = read_image(content, load_address=release.load_address)
        if image.load_address != release.load_address and hashlib.sha256(image.data).digest() == release.sha256:
            raise ImageError(
                f"{source.file} is for another address than {release.product} {release.version}",
                why=f"it begins at {image.load_address:#010x}, but the release begins at {release.load_address:#010x}",
                remedy="flash without a file, so that the image is fetched",
                action=Action.OMIT_IMAGE,
            )
        return image.data
