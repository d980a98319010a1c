"""Releases to flash: looked up on the chain, their images fetched, both proven (checks 1 to 5)."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blockota.bindings.block_ota import BlockOTAContract, known_releases
from blockota.errors import Action, ImageError
from blockota.files import read_input
from blockota.formats.firmware_image import MAX_IMAGE_SIZE, read_image
from blockota.model.facts import KnownReleases, ProvenRelease, Trust
from blockota.model.release import Release, Version
from blockota.model.verification import prove_release
from blockota.stores.search import SearchObserver, SearchStage, find_image
from blockota.stores.store import Store


@dataclass(frozen=True)
class Offer:
    """A release that may be written, as of one block.

    Attributes:
        proven: the release and its image.
        known: the other releases on the chain at that block.
    """

    proven: ProvenRelease
    known: KnownReleases


@dataclass(frozen=True)
class ImageSource:
    """Where images are found.

    Attributes:
        store: asked first.
        stages: returns the sources to ask then, for one release.
        observe: returns the observer of the search for one release.
        file: read instead, if given; nothing else is asked then.
    """

    store: Store
    stages: Callable[[Release], Sequence[SearchStage]]
    observe: Callable[[Release], SearchObserver] = lambda _: SearchObserver()
    file: Path | None = None


class Offers:
    """Proven releases by product and version. Each image is fetched once. May be used by several threads.

    Args:
        contract: the BlockOTA contract.
        trust: whose record is believed, and after how many confirmations.
        source: where images are found.
    """

    def __init__(self, contract: BlockOTAContract, trust: Trust, source: ImageSource) -> None:
        self._contract, self._trust, self._source = contract, trust, source
        self._images: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def offer(self, product: str, version: Version | None) -> Offer:
        """Look a release up on the chain, and prove it and its image.

        Args:
            product: the product's name.
            version: None for the newest active version.

        Raises:
            VerificationError: number 1 to 5.
            ImageError: the image is larger than any board's flash.
            UnreachableError: the chain or the store is unreachable.
        """
        with self._lock:
            answer = self._contract.answer(product, version, confirmations=self._trust.confirmations)
            proven = prove_release(answer, self._trust, read_image=self._image)
            known = known_releases(self._contract, product, block=answer.block_number)
        return Offer(proven, KnownReleases(known.own, lambda: self._others(known)))

    def _others(self, known: KnownReleases) -> Sequence[Release]:
        with self._lock:
            return known.others()

    def _image(self, release: Release) -> bytes:
        if release.sha256 not in self._images:
            self._images[release.sha256] = self._fetch(release)
        return self._images[release.sha256]

    def _fetch(self, release: Release) -> bytes:
        if release.size > MAX_IMAGE_SIZE:
            raise ImageError(
                f"{release.product} {release.version} cannot be flashed over a serial port",
                why=f"its image has {release.size:,} bytes, the limit is {MAX_IMAGE_SIZE:,}",
                remedy="fetch it, and install it as the vendor says",
                action=Action.FETCH_IMAGE,
            )
        source = self._source
        if source.file is None:
            with tempfile.TemporaryFile() as found:
                find_image(
                    release, source.store, stages=source.stages(release), into=found, observer=source.observe(release)
                )
                found.seek(0)
                return found.read()

        content = read_input(source.file, limit=MAX_IMAGE_SIZE)
        # The published bytes are the release in any format; only other bytes can be a .hex or .elf of it.
        if not content or hashlib.sha256(content).digest() == release.sha256:
            return content
        return read_image(content, load_address=release.load_address).data
