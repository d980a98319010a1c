"""The images and manifests of the gateway.

The gateway finds and verifies each image and manifest once for all devices, and stores it as a whole file. The search
for an image begins before its release is confirmed. The core receives an image only after checks 1 to 5 have passed on
the confirmed record. The parts of checks 7 and 9 that need no device must have passed, too. The core receives a delta
only after the catalogue has applied the delta and obtained the release's image. Each file is named by a SHA-256, and is
first written under a temporary name. The folder has the following files:

==========================  ====================================================
``images/<sha256>``         an image, which is verified again after every start
``images/<sha256>.source``  a text that names the sources of the image
``manifests/<sha256>``      the manifest of a release
``deltas/<sha256>``         a delta, which is applied again after every start
==========================  ====================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from blockota.errors import BlockOTAError, RefusedError, StoreError, VerificationError
from blockota.files import whole_file
from blockota.formats.cid import CID
from blockota.formats.delta import require_result
from blockota.formats.firmware_image import MAX_IMAGE_SIZE
from blockota.gateway.facts import DeltaOffer, ProvenImage
from blockota.model.container import SWU_HEAD_SIZE, Container
from blockota.model.facts import ChainAnswer, Trust
from blockota.model.manifest import MAX_SIZE, Delta, Description, Manifest
from blockota.model.release import Product, Release
from blockota.model.target import Component
from blockota.model.verification import prove_container, prove_record
from blockota.stores.search import ImageSources, SearchObserver, find_image, find_small_file
from blockota.stores.store import Store
from blockota.url_secrets import shown_url

_PART = 1 << 20
_NAMED_SOURCES = 3
OF_STORE = "the gateway's store"
"""The text that names the source of an image that was in the gateway's own store."""


@dataclass(frozen=True)
class WantedFile:
    """A file that is to be found.

    Attributes:
        component: the product.
        release: the release.
        manifest: the address of the manifest to find; None to find an image or a delta.
        delta: the delta to find; None to find an image or a manifest.
        is_confirmed: whether the release is confirmed.
    """

    component: Component
    release: Release
    manifest: CID | None = None
    delta: Delta | None = None
    is_confirmed: bool = True

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the file."""
        if self.manifest:
            return self.manifest.digest
        return self.delta.sha256 if self.delta else self.release.sha256

    def __str__(self) -> str:
        """``the manifest of acme-thermo2 1.1.0``."""
        name = f"{self.release.product} {self.release.version}"
        if self.delta:
            return f"the delta of {name} from {self.delta.base_version}"
        return f"the {'manifest' if self.manifest else 'image'} of {name}"


class ImageCatalogue:
    """Stores images, manifests and deltas in a folder.

    Args:
        folder: the folder of the gateway.
        store: the store that is searched before all other sources.

    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self._images, self._manifests, self._deltas, self._new = (
            folder / name for name in ("images", "manifests", "deltas", "new")
        )
        self._store = store
        self._proven: dict[tuple[Component, Release, Product | None], tuple[int, ...]] = {}
        self._read: dict[bytes, Manifest] = {}
        self._applied: dict[tuple[bytes, bytes, bytes], BlockOTAError | None] = {}

        with _translated(folder):
            for one in (self._images, self._manifests, self._deltas, self._new):
                one.mkdir(parents=True, exist_ok=True)
            for left in self._new.iterdir():  # of a process that was killed
                left.unlink()

    def has(self, wanted: WantedFile) -> bool:
        """Whether a file is in the folder."""
        return self._path(wanted).exists()

    def find(self, wanted: WantedFile, sources: ImageSources, *, observer: SearchObserver) -> None:
        """Find a file, verify its SHA-256, and store it in the folder.

        Args:
            wanted: the file.
            sources: the sources that are searched after the store.
            observer: receives the progress of the search, and may stop the search by raising an exception.

        Raises:
            StoreError: no source serves the file, or the file cannot be written.
            VerificationError: the found image does not have the size and SHA-256 in the record.
            RefusedError: the manifest describes another release, or the delta differs from the manifest's entry.
        """
        stages = sources.stages(wanted.release)
        with _translated(self._images.parent):
            if wanted.manifest:
                what = f"the manifest of {wanted.release.product} {wanted.release.version}"
                raw = find_small_file(wanted.manifest, self._store, stages=stages, size=MAX_SIZE, what=what)
                Manifest.from_json(raw).require_about(wanted.release)
                with whole_file(self._path(wanted), staging=self._new) as file:
                    file.write(raw)
                return

            if delta := wanted.delta:
                raw = find_small_file(delta.cid, self._store, stages=stages, size=delta.size, what=str(wanted))
                _require_delta(raw, delta)
                with whole_file(self._path(wanted), staging=self._new) as file:
                    file.write(raw)
                return

            served: list[str] = []
            noting = replace(observer, served=lambda url: served.append(shown_url(url)))
            with whole_file(self._path(wanted), staging=self._new) as file:
                find_image(wanted.release, self._store, stages=stages, into=file, observer=noting)
                _require_image(file, wanted.release)
                with whole_file(self._source_path(wanted.release), staging=self._new) as note:
                    note.write((", ".join(served[:_NAMED_SOURCES]) or OF_STORE).encode())

    def manifest(self, release: Release, address: CID) -> Manifest | None:
        """Return the manifest of a release; None if the manifest has not been found yet."""
        if address.digest not in self._read:
            try:
                raw = (self._manifests / address.digest.hex()).read_bytes()
            except OSError:
                return None
            manifest = Manifest.from_json(raw)
            manifest.require_about(release)
            self._read[address.digest] = manifest
        return self._read[address.digest]

    def prove(
        self, answer: ChainAnswer, trust: Trust, manifest: Manifest | None = None, *, is_configuration: bool = False
    ) -> ProvenImage | None:
        """Prove a release by checks 1 to 5 and the checks of its container.

        An image file that passed the checks is read again only after the file, the release or the product has changed.

        Args:
            answer: the confirmed record.
            trust: the configured contract and number of confirmations.
            manifest: the manifest of the release; None if the release has no manifest.
            is_configuration: whether the image is a configuration.

        Returns:
            The proven image, without deltas; None if the image has not been found yet.

        Raises:
            VerificationError: a check failed. The file is removed if check 4 failed, because its bytes are not the
                image.
        """
        release = answer.release
        if release is None:
            return None
        path = self._images / release.sha256.hex()
        try:
            stat = path.stat()
        except OSError:
            return None

        name = (Component(answer.chain_id, answer.contract, answer.requested), release, answer.product)
        # A file with another inode, size or time may have another content, and is proven again.
        state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._proven.get(name) != state:
            try:
                prove_record(answer, trust, read_parts=lambda _: _parts(path))
                described = Description(manifest=manifest)
                image = _content(path, described.container)
                prove_container(release, described, image, is_configuration=is_configuration)
            except VerificationError as error:
                if error.number == _OF_IMAGE:
                    path.unlink(missing_ok=True)
                raise
            self._proven[name] = state

        try:
            source = self._source_path(release).read_text()
        except (OSError, ValueError):  # the source is shown only, so an image without it is proven all the same
            source = None
        return ProvenImage(
            *(release.sha256, release.size, path, str(release.cid)),
            container=manifest.container if manifest else Container.STM32,
            source=source,
            manifest=manifest,
        )

    def prove_delta(self, release: Release, delta: Delta) -> DeltaOffer | None:
        """Apply a delta to its base image.

        The result for each delta is remembered until the gateway stops.

        Returns:
            The delta, if it produces the image of the release; None if the delta or its base image was not found yet.

        Raises:
            RefusedError: the delta does not produce the image of the release.
            UsageError: the library for deltas is not installed.
            StoreError: a file cannot be read.
        """
        path, base = self._deltas / delta.sha256.hex(), self._images / delta.base.hex()
        name = (delta.base, delta.sha256, release.sha256)
        if name not in self._applied:
            with _translated(self._deltas):
                if not (path.exists() and base.exists()):
                    return None
                raw = path.read_bytes()
                content = base.read_bytes() if base.stat().st_size <= MAX_IMAGE_SIZE else b""

            # The files may have been damaged since they were found.
            try:
                _require_delta(raw, delta)
            except RefusedError:
                path.unlink(missing_ok=True)  # it was spoiled on the disk, and is searched again
                raise
            if hashlib.sha256(content).digest() != delta.base:
                return None  # the base was spoiled, or is too large for a delta

            # A delta that was refused is not applied again.
            try:
                require_result(content, raw, compression=delta.format, size=release.size, sha256=release.sha256)
            except RefusedError as error:
                self._applied[name] = error
            else:
                self._applied[name] = None

        if (refusal := self._applied[name]) is not None:
            raise refusal
        return DeltaOffer(delta.base, delta.base_version, delta.format, delta.sha256, delta.size, path)

    def keep(self, sha256: Collection[bytes]) -> None:
        """Remove all images and deltas whose SHA-256 is not in `sha256`."""
        names = {one.hex() for one in sha256}
        with _translated(self._images):
            for path in (*self._images.iterdir(), *self._deltas.iterdir()):
                if path.name.removesuffix(".source") not in names:
                    path.unlink(missing_ok=True)

    def _path(self, wanted: WantedFile) -> Path:
        folder = self._deltas if wanted.delta else self._images
        return (self._manifests if wanted.manifest else folder) / wanted.sha256.hex()

    def _source_path(self, release: Release) -> Path:
        return self._images / f"{release.sha256.hex()}.source"


_OF_IMAGE = 4
"""The number of the check that compares the image's bytes."""


def _require_image(file: BinaryIO, release: Release) -> None:
    """Compare the size and the SHA-256 of a found image with the record of the release.

    Raises:
        VerificationError: the size or the SHA-256 differs from the record.
    """
    file.flush()
    file.seek(0)
    hashed, size = hashlib.sha256(), 0
    while part := file.read(_PART):
        hashed.update(part)
        size += len(part)

    if (size, hashed.digest()) != (release.size, release.sha256):
        raise VerificationError(
            _OF_IMAGE,
            "the image is not the release",
            why=f"the file has {size:,} bytes and SHA-256 {hashed.hexdigest()}",
            remedy="report the source to the vendor",
        )


def _require_delta(raw: bytes, delta: Delta) -> None:
    """Compare the size and the SHA-256 of a found delta with the manifest.

    Raises:
        RefusedError: the size or the SHA-256 differs from the manifest.
    """
    if (len(raw), hashlib.sha256(raw).digest()) != (delta.size, delta.sha256):
        raise RefusedError(
            "the file is not the delta of the manifest",
            why=f"it has {len(raw):,} bytes and SHA-256 {hashlib.sha256(raw).hexdigest()}",
            remedy="report this to the vendor",
        )


def _content(path: Path, container: Container) -> bytes:
    """Return the bytes that the checks need: the whole image for STM32 and MCUboot, and its beginning otherwise."""
    is_whole = container in (Container.STM32, Container.MCUBOOT)
    with path.open("rb") as file:
        return file.read(MAX_IMAGE_SIZE if is_whole else SWU_HEAD_SIZE)


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_PART):
            yield part


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the images in {folder} cannot be read or written",
            why=error.strerror or str(error),
            remedy="check the folder's permissions and the disk's free space",
        ) from error
