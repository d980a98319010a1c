"""The release that boards are flashed with: asked of the chain, its image found, and both proven (checks 1 to 5)."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blockota.cli.display import search_image
from blockota.cli.session import Session
from blockota.model.facts import KnownReleases
from blockota.model.release import Release, Version
from blockota.model.verification import ProvenRelease


@dataclass(frozen=True)
class Offer:
    """A release that may be written, as the chain has it at one block.

    Attributes:
        proven: the release and its image.
        known: what else the chain knows at that block.
    """

    proven: ProvenRelease
    known: KnownReleases


class Offers:
    """Asks the chain for releases, and finds their images, each once; for several threads.

    Args:
        session: knows the chain and the store.
        file: take the image from this file, and ask nobody.
        sources: the URLs of ``--source``.
    """

    def __init__(self, session: Session, *, file: Path | None, sources: Sequence[str]) -> None:
        """Nothing is asked yet."""
        self._session, self._file, self._sources = session, file, sources
        self._images: dict[bytes, bytes] = {}
        self._one_at_a_time = threading.Lock()

    def offer(self, product: str, version: Version | None) -> Offer:
        """Ask the chain, and prove the release and its image.

        Args:
            product: its name.
            version: None for the newest active one.

        Raises:
            VerificationError: number 1 to 5.
            UnreachableError: chain or store cannot be reached.
        """
        from blockota.bindings.block_ota import known_releases
        from blockota.model.facts import KnownReleases
        from blockota.model.verification import prove_release

        session = self._session
        with self._one_at_a_time:
            answer = session.contract.answer(product, version, confirmations=session.settings.confirmations)
            proven = prove_release(answer, session.trust, read_image=self._image)
            known = known_releases(session.contract, product, block=answer.block_number)
        return Offer(proven, KnownReleases(known.own, lambda: self._others(known)))

    def _others(self, known: KnownReleases) -> Sequence[Release]:
        with self._one_at_a_time:
            return known.others()

    def _image(self, release: Release) -> bytes:
        if release.sha256 not in self._images:
            self._images[release.sha256] = self._find(release)
        return self._images[release.sha256]

    def _find(self, release: Release) -> bytes:
        import hashlib

        from blockota.files import read_input
        from blockota.formats.firmware_image import MAX_IMAGE_SIZE, read_image

        _refuse_beyond_flash(release, limit=MAX_IMAGE_SIZE)
        if self._file is None:
            with tempfile.TemporaryFile() as found:
                search_image(self._session, release, named=self._sources, into=found)
                found.seek(0)
                return found.read()
        content = read_input(self._file, limit=MAX_IMAGE_SIZE)
        # The published bytes are the release whatever they look like; only other ones can be a .hex or .elf of it.
        if not content or hashlib.sha256(content).digest() == release.sha256:
            return content
        return read_image(content, load_address=release.load_address).data


def _refuse_beyond_flash(release: Release, *, limit: int) -> None:
    """Refuse before it is fetched and held in memory what no board could take."""
    from blockota.errors import ImageError

    if release.size > limit:
        raise ImageError(
            f"{release.product} {release.version} is for no board that can be flashed here",
            why=f"its image has {release.size:,} bytes, the largest that is written over a serial port has {limit:,}",
            remedy="take it with `blockota release fetch`, and install it as the vendor says",
        )
