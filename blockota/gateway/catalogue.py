"""The images and manifests of the gateway: found once for all devices, proven, and kept as whole files.

An image is found before its release is confirmed, and given to the core after checks 1 to 5 have passed on the
confirmed record. The folder has these files, each named by the SHA-256 of its content, and written to a new name first:

``images/<sha256>``         an image; every start verifies it again
``images/<sha256>.source``  where the image was found, as a text
``manifests/<sha256>``      a manifest
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from blockota.errors import StoreError, VerificationError
from blockota.files import whole_file
from blockota.formats.cid import CID
from blockota.gateway.facts import ProvenImage
from blockota.model.facts import ChainAnswer, Trust
from blockota.model.manifest import MAX_SIZE, Manifest
from blockota.model.release import Product, Release
from blockota.model.target import Component
from blockota.model.verification import prove_record
from blockota.stores.search import ImageSources, SearchObserver, find_image, find_small_file
from blockota.stores.store import Store
from blockota.url_secrets import shown_url

_PART = 1 << 20
_NAMED_SOURCES = 3
OF_STORE = "the gateway's store"
"""The source of an image that was in the store of the gateway."""


@dataclass(frozen=True)
class WantedFile:
    """A file that is to be found.

    Attributes:
        component: the product.
        release: the release.
        manifest: the address of its manifest; None to find its image.
        is_confirmed: whether the release is confirmed.
    """

    component: Component
    release: Release
    manifest: CID | None = None
    is_confirmed: bool = True

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the file."""
        return self.manifest.digest if self.manifest else self.release.sha256

    def __str__(self) -> str:
        """``the manifest of acme-thermo2 1.1.0``."""
        return f"the {'manifest' if self.manifest else 'image'} of {self.release.product} {self.release.version}"


class ImageCatalogue:
    """Keeps images and manifests in a folder.

    Args:
        folder: the folder of the gateway.
        store: the store in which files are searched first.
        sources: returns the further sources of a product's files.

    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, folder: Path, store: Store, *, sources: Callable[[Component], ImageSources]) -> None:
        self._images, self._manifests, self._new = (folder / name for name in ("images", "manifests", "new"))
        self._store, self._sources = store, sources
        self._proven: dict[tuple[Component, Release, Product | None], tuple[int, ...]] = {}
        self._read: dict[bytes, Manifest] = {}
        with _translated(folder):
            for one in (self._images, self._manifests, self._new):
                one.mkdir(parents=True, exist_ok=True)
            for left in self._new.iterdir():  # of a process that was killed
                left.unlink()

    def has(self, wanted: WantedFile) -> bool:
        """Whether a file is in the folder."""
        return self._path(wanted).exists()

    def find(self, wanted: WantedFile, *, observer: SearchObserver) -> None:
        """Find a file, verify its SHA-256, and keep it.

        Args:
            wanted: the file.
            observer: receives the progress, and may stop the search by an exception.

        Raises:
            StoreError: no source serves the file, or it cannot be written.
            VerificationError: only other bytes were found.
            RefusedError: the manifest is not one of the release.
        """
        sources = self._sources(wanted.component)
        stages = sources.stages(wanted.release)
        with _translated(self._images.parent):
            if wanted.manifest:
                what = f"the manifest of {wanted.release.product} {wanted.release.version}"
                raw = find_small_file(wanted.manifest, self._store, stages=stages, size=MAX_SIZE, what=what)
                Manifest.from_json(raw).require_about(wanted.release)
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
        """Return the manifest of a release; None if it was not found yet."""
        if address.digest not in self._read:
            try:
                raw = (self._manifests / address.digest.hex()).read_bytes()
            except OSError:
                return None
            manifest = Manifest.from_json(raw)
            manifest.require_about(release)
            self._read[address.digest] = manifest
        return self._read[address.digest]

    def prove(self, answer: ChainAnswer, trust: Trust) -> ProvenImage | None:
        """Prove a release by checks 1 to 5, and return its image; None if the image was not found yet.

        A file is read again only if it, the release or the product has changed.

        Raises:
            VerificationError: a check failed. A file that is not the image is removed.
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
        state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._proven.get(name) != state:
            try:
                prove_record(answer, trust, read_parts=lambda _: _parts(path))
            except VerificationError as error:
                if error.number == _OF_IMAGE:
                    path.unlink(missing_ok=True)
                raise
            self._proven[name] = state
        return ProvenImage(release.sha256, release.size, path, str(release.cid), source=self._source_of(release))

    def keep(self, sha256: Collection[bytes]) -> None:
        """Remove all images but the given ones."""
        names = {one.hex() for one in sha256}
        with _translated(self._images):
            for path in self._images.iterdir():
                if path.name.removesuffix(".source") not in names:
                    path.unlink(missing_ok=True)

    def _path(self, wanted: WantedFile) -> Path:
        return (self._manifests if wanted.manifest else self._images) / wanted.sha256.hex()

    def _source_path(self, release: Release) -> Path:
        return self._images / f"{release.sha256.hex()}.source"

    def _source_of(self, release: Release) -> str | None:
        try:
            return self._source_path(release).read_text()
        except (OSError, ValueError):
            return None


_OF_IMAGE = 4
"""The number of the check of the image's bytes."""


def _require_image(file: BinaryIO, release: Release) -> None:
    """Check size and SHA-256 of a found image.

    Raises:
        VerificationError: they are not those of the record.
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
