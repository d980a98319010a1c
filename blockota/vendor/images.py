"""Checks the images that a proposal publishes: finds and hashes each image, and compares it with the newest release.

An image is read from a file that the signer named. Without a file, the store is searched, and then the sources on the
network. Files, store and sources are not trusted. The image is hashed on the signer's machine, and must have the
SHA-256 and the content address in the calldata.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from blockota.approval.chain_view import ChainView
from blockota.approval.intent import image_address
from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import argument_release
from blockota.errors import Action, BlockOTAError, ImageError, ProposalError, StoreError, VerificationError, shortened
from blockota.files import naming_file
from blockota.formats.cid import RAW, dag
from blockota.formats.firmware_image import MAX_IMAGE_SIZE, Format
from blockota.formats.mcuboot import HEADER_SIZE, read_header, security_counter
from blockota.formats.vector_table import find_link_address
from blockota.model.container import Container
from blockota.model.difference import Difference, Placed, compare
from blockota.model.draft import MAX_PROGRAM
from blockota.model.loader_facts import LoaderFacts, examine
from blockota.model.manifest import Description
from blockota.model.release import Release, Version, product_name
from blockota.stores.search import NETWORK, ImageSources, SearchObserver, SearchStage, find_image, named
from blockota.stores.store import NamedStore, Store
from blockota.vendor.description import describe_argument
from blockota.vendor.drafting import MAX_RAW_SIZE, RawFile, read_image_file
from blockota.vendor.files import read_image_key

_PART_SIZE = 1 << 20
"""Number of bytes that are read and hashed at once."""
Argument = Mapping[str, Any]
"""A release as an argument of ``publish``."""


class ImageObserver:
    """Receives notes and progress of the image checks. This base class ignores both."""

    def note(self, sentence: str) -> None:
        """Report a remark that is not part of the result."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
        """Report the progress of one step.

        Args:
            what: name of the step, one word.
            total: number of bytes that the step processes.

        Returns:
            A context manager for the duration of the step. The context manager yields a function to call with the
            number of bytes processed so far.
        """
        del what, total
        return nullcontext(lambda _: None)


@dataclass(frozen=True)
class ImageInputs:
    """The files, the store and the sources from which the images of a proposal are read.

    Attributes:
        open_store: returns the store; called only if an image or a manifest is needed from the store.
        sources: sources that are searched after the store. An offline review searches only the sources that the user
            named.
        images: files of images that the proposal publishes.
        previous: files of images that were published before, for the comparison.
        observer: receives notes and progress.
        image_keys: a dict from product name to the file with the public key for the product's images.
    """

    open_store: Callable[[], Store]
    sources: ImageSources = field(default_factory=ImageSources)
    images: Sequence[Path] = ()
    previous: Sequence[Path] = ()
    observer: ImageObserver = field(default_factory=ImageObserver)
    image_keys: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckedImage:
    """An image that was hashed on this machine, and has the SHA-256 in the calldata.

    Attributes:
        source: file or place from which the image was read.
        size: size of the image, in bytes.
        since: version of the product's newest release; None without a newest release, or if the chain was not read.
        difference: difference from the newest release, or a sentence that explains why it cannot be computed.
        description: the manifest of the release.
        linked_for: `LinkAddress.address` of the program; None if the load address is not known to be wrong.
        loader: the MCUboot header and signature facts that a device's loader checks; None if no loader checks the
            image.
    """

    source: str
    size: int
    since: Version | None
    difference: Difference | str
    description: Description
    linked_for: int | None = None
    loader: LoaderFacts | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The result of the check as a JSON object."""
        difference = None if isinstance(self.difference, str) else asdict(self.difference)
        checked = {
            "source": self.source,
            "size": self.size,
            "since": str(self.since) if self.since else None,
            "difference": difference,
            "manifest": self.description.fields,
            "linkedFor": self.linked_for,
        }
        return checked | self.loader.fields if self.loader else checked


@dataclass(frozen=True)
class UncheckedImage:
    """An image that could not be checked. The review does not require the check.

    Attributes:
        trouble: why the image could not be checked.
        description: the manifest of the release.
    """

    trouble: str
    description: Description

    @property
    def fields(self) -> dict[str, Any]:
        """The result of the check as a JSON object."""
        return {"source": None, "trouble": self.trouble, "manifest": self.description.fields}


@dataclass(frozen=True)
class OpenImage:
    """An image in an open file, which is read in parts.

    Attributes:
        origin: file or place from which the image was read.
        file: seekable file with the bytes of the image, from position 0.
        sha256: hash of the image (SHA-256), computed on this machine.
        load_address: load address in the file; 0 for raw bytes, which do not contain a load address.
    """

    origin: str
    file: BinaryIO
    size: int
    sha256: bytes
    format: Format = "bin"
    load_address: int = 0

    def __len__(self) -> int:
        """Return the size of the image in bytes."""
        return self.size

    def __getitem__(self, part: slice, /) -> bytes:
        """Read a range of the image's bytes.

        Raises:
            ImageError: the file cannot be read.
        """
        start, stop, _ = part.indices(self.size)
        with _reading(self.origin):
            self.file.seek(start)
            return self.file.read(max(stop - start, 0))


def check_images(
    proposal: Proposal, view: ChainView | None, inputs: ImageInputs, *, is_required: bool
) -> tuple[CheckedImage | UncheckedImage, ...]:
    """Hash every image of a proposal, and compare each with the newest release of its product.

    Args:
        proposal: the proposal. If the proposal does not publish a release, no image is checked.
        view: the state of the chain, with the newest releases; None if it is not known.
        inputs: files, store and sources. Each given file must be an image of the proposal or of a product's newest
            release.
        is_required: whether an image that cannot be checked is an error. If False, the function returns an
            `UncheckedImage` for this image. A wrong file that the signer gave is always an error.

    Returns:
        One result for each release, in the order of the calldata.

    Raises:
        ProposalError: an image is not the image in the calldata.
        VerificationError: every image that was found is wrong (check 4 in `blockota.model.verification`).
        StoreError: an image was not given, and was not found.
        UsageError: a given file or URL cannot be used.
        ImageError: a given file is not an image.
    """
    with ExitStack() as files:
        check = _ImageCheck(proposal, view, inputs, files=files)
        checked: list[CheckedImage | UncheckedImage] = []
        for release in proposal.releases:
            try:
                checked.append(check.check(release))
            except BlockOTAError as error:
                if is_required:
                    raise
                trouble = f"{error.what}: {error.why}" if error.why else error.what
                checked.append(UncheckedImage(trouble, describe_argument(release, open_store=inputs.open_store)))
    return tuple(checked)


@contextmanager
def checked_images(
    proposal: Proposal, view: ChainView, inputs: ImageInputs
) -> Iterator[tuple[list[OpenImage], list[OpenImage]]]:
    """Open and hash the images of a proposal. Also open each available image of a newest release.

    Raises:
        ProposalError, VerificationError, StoreError, UsageError, ImageError: the errors of `check_images`.
    """
    with ExitStack() as files:
        check = _ImageCheck(proposal, view, inputs, files=files)
        published = [check.open(release) for release in proposal.releases]
        newest = dict.fromkeys(found for release in proposal.releases if (found := check.newest(release)))
        yield published, [image for release in newest if (image := check.open_newest(release))]


def check_image(argument: Argument, image: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> None:
    """Hash an image, and compare it with a release that a proposal publishes. The image is read once, in parts.

    Args:
        argument: the release as an argument of ``publish``.
        image: the image to check.
        on_progress: called with the number of bytes hashed so far.

    Raises:
        ProposalError: the image is not the image in the calldata, or the calldata has a wrong content address.
    """
    size, digest, address = 0, hashlib.sha256(), None
    for block in dag(image):
        address = block.cid
        if address.codec == RAW:
            digest.update(block.data)
            size += len(block.data)
            on_progress(size)

    if digest.digest() != argument["sha256"] or size != argument["size"]:
        raise ProposalError(
            "the image is not the one in the proposal",
            why=f"the image has {size:,} bytes with SHA-256 {digest.hexdigest()}, but the proposal has "
            f"{argument['size']:,} bytes with {argument['sha256'].hex()}",
            remedy="do not sign the proposal; ask its proposer",
        )
    if address != image_address(argument):
        raise ProposalError(
            "the proposal has a wrong content address",
            why=f"the image has the content address {address}, but the proposal has {image_address(argument)}",
            remedy="do not sign the proposal; ask its proposer",
        )


class _ImageCheck:
    """Checks the images of one proposal. Image files stay open, and temporary copies exist, until `files` is closed."""

    def __init__(self, proposal: Proposal, view: ChainView | None, inputs: ImageInputs, *, files: ExitStack) -> None:
        self._view, self._inputs, self._files = view, inputs, files
        self._named = list(named(inputs.sources.named, inputs.sources.credentials))
        newest = [found for release in proposal.releases if (found := self.newest(release))]
        given = [self._open_given(path, proposal.releases) for path in inputs.images]
        previous = [self._open_previous(path, newest) for path in inputs.previous]
        self._given = {image.sha256: image for image in given}
        self._previous = {image.sha256: image for image in previous}

    def check(self, release: Argument) -> CheckedImage:
        """Find the image of a release, hash it, and compare it with the newest release."""
        image, newest = self.open(release), self.newest(release)
        description = describe_argument(release, open_store=self._inputs.open_store)
        old = self.open_newest(newest) if newest else None
        difference = self._compare(Placed(image, release["loadAddress"]), newest, old)
        since = newest.version if newest else None

        # A larger image cannot be a program. In a data image, no link address is found, because it has no vector table.
        is_program = image.size <= MAX_IMAGE_SIZE and description.container is Container.STM32
        content = image[:] if is_program else b""
        found = find_link_address(content, release["loadAddress"])
        linked_for = found.address if found else None

        # Only an image for a loader is read into memory: the image of a device with Linux can have 1 GiB.
        facts = None
        key = read_image_key(self._inputs.image_keys, product_name(release["product"]))
        if key or description.container is Container.MCUBOOT or read_header(image[:HEADER_SIZE]):
            before = None if old is None else security_counter(old[:MAX_PROGRAM]) or 0
            facts = examine(image[:MAX_PROGRAM], key=key, before=before)
        return CheckedImage(image.origin, image.size, since, difference, description, linked_for, facts)

    def open(self, release: Argument) -> OpenImage:
        """Find the image of a release, and hash it."""
        image = self._given.get(release["sha256"]) or self._find_proposed(release)
        # The image is read again to compute its content address. This also detects a change of the file in between.
        with self._inputs.observer.progress("Checking", image.size) as progress, _reading(image.origin):
            image.file.seek(0)
            check_image(release, image.file, on_progress=progress)
        return image

    def open_newest(self, newest: Release) -> OpenImage | None:
        """Find the image of a product's newest release.

        Returns None if a correct image was not found.
        """
        try:
            found = self._previous.get(newest.sha256) or self._find(newest, asks_network=False)
        except BlockOTAError:
            return None
        return found if found.sha256 == newest.sha256 else None

    def newest(self, release: Argument) -> Release | None:
        """Return the newest release of the same product."""
        return self._view.newest_of(product_name(release["product"])) if self._view else None

    def _open_given(self, path: Path, releases: Sequence[Argument]) -> OpenImage:
        """Open a file that must be an image of the proposal and have the proposal's load address."""
        image = self._open(path, wanted={(release["size"], release["sha256"]) for release in releases})
        matches = [release for release in releases if release["sha256"] == image.sha256]
        if not matches:
            wanted = shortened(f"{release['size']:,} bytes with {release['sha256'].hex()}" for release in releases)
            raise ProposalError(
                f"the image {path} is not the one in the proposal",
                why=f"the file has {image.size:,} bytes with SHA-256 {image.sha256.hex()}, but the proposal publishes "
                f"{wanted or 'no image at all'}",
                remedy="do not sign the proposal; give the right file, or ask the proposer",
            )

        for release in matches:
            if image.format != "bin" and image.load_address != release["loadAddress"]:
                raise ProposalError(
                    "the proposal has another load address than the image",
                    why=f"{image.origin} has the load address 0x{image.load_address:08x}, but the proposal has "
                    f"0x{release['loadAddress']:08x}",
                    remedy="do not sign the proposal; ask its proposer",
                )
        return image

    def _open_previous(self, path: Path, newest: Sequence[Release]) -> OpenImage:
        """Open a file that must be the image of a product's newest release."""
        image = self._open(path, wanted={(release.size, release.sha256) for release in newest})
        if image.sha256 not in {release.sha256 for release in newest}:
            known = shortened(f"{release.product} {release.version} has {release.sha256.hex()}" for release in newest)
            raise ProposalError(
                f"the image {path} is not the image that was published before",
                why=f"the file has SHA-256 {image.sha256.hex()}, {known or 'and no release was published'}",
                remedy="omit the previous image, or fetch the published one",
                action=Action.FETCH_IMAGE,
            )
        return image

    def _open(self, path: Path, *, wanted: Collection[tuple[int, bytes]]) -> OpenImage:
        """Open an image file.

        Args:
            path: image file: raw (.bin), Intel HEX, S-record, UF2, DfuSe or ELF.
            wanted: size and SHA-256 of each expected image. A file that equals an expected image is used as raw bytes,
                even if it looks like another format. A file that is too large for other formats is also used as raw
                bytes.

        Raises:
            UsageError: the file does not exist.
            ImageError: the file is not an image, is larger than every expected image, or cannot be read.
        """
        # (1) Compare the raw bytes, in parts, if the file has an expected size.
        sizes = {size for size, _ in wanted}
        try:
            size = path.stat().st_size if path.is_file() else -1
        except (OSError, ValueError):  # reported when the file is read below
            size = -1
        if size in sizes or MAX_IMAGE_SIZE < size <= max(sizes, default=0):
            with naming_file(path):
                file = RawFile(path, size, 0).open()
            self._files.callback(file.close)
            raw = self._measure(str(path), file)
            if size > MAX_IMAGE_SIZE or (size, raw.sha256) in wanted:
                return raw
        if sizes and size > MAX_IMAGE_SIZE:
            raise ImageError(
                f"{path} is too large",
                why=f"the file has {size:,} bytes, but the largest expected image has {max(sizes):,}",
                remedy="check that the file is the right one",
            )
        # (2) Otherwise, read a file of another format into memory.
        with naming_file(path):
            image = read_image_file(path, load_address=0)
        digest = hashlib.sha256(image.data).digest()
        return OpenImage(str(path), image.open(), image.size, digest, image.format, image.load_address)

    def _find_proposed(self, release: Argument) -> OpenImage:
        """Find the image of a release that the proposal publishes."""
        wanted = argument_release(release)
        name = f"{product_name(release['product'])} {Version.unpack(release['version']) or 'without a version'}"
        if not 0 < release["size"] <= MAX_RAW_SIZE:
            raise ProposalError(
                f"the image of {name} is not searched for",
                why=f"the image has {release['size']:,} bytes in the proposal, but the limit is {MAX_RAW_SIZE:,}",
                remedy="do not sign the proposal; ask its proposer",
            )
        if wanted is None:
            raise ProposalError(
                f"the image of {name} is not searched for", why="the contract refuses the release", remedy="do not sign"
            )

        try:
            return self._find(wanted)
        except StoreError as error:
            raise StoreError(
                f"the image of {name} cannot be checked",
                why=f"{error.what}, {error.why}" if error.why else error.what,
                remedy="give the image file, name a store or a source that has it, or ask the proposer for a pack",
                action=Action.TAKE_IMAGE_ELSEWHERE,
            ) from error

    def _find(self, release: Release, *, asks_network: bool = True) -> OpenImage:
        """Find an image in the store, then at the sources, and last on the IPFS network of a Kubo store.

        Args:
            release: the release whose image is searched for.
            asks_network: whether the IPFS network may be asked, which can take minutes.

        Raises:
            UsageError: a URL in the settings is not the URL of a gateway.
            VerificationError: every image that was found is wrong (check 4).
            StoreError: the image was not found.
        """
        # The image is written to a file, because an image can have 1 GiB.
        file = self._files.enter_context(_temporary_file())
        store, observer = self._inputs.open_store(), self._inputs.observer
        with suppress(StoreError, VerificationError):
            with observer.progress("Reading", release.size) as progress:
                find_image(release, store, stages=[], into=file, observer=SearchObserver(progress=progress))
            return self._measure(store.name if isinstance(store, NamedStore) else "the store", file)

        # Off line, the sources of the settings are not asked, because the owner would wait for their timeout.
        is_on_line = self._view is not None and not self._view.source
        stages, what = [SearchStage("the named sources", lambda: self._named)], "Reading"
        if is_on_line:
            found = self._inputs.sources.stages(release)
            stages, what = [stage for stage in found if asks_network or stage is not NETWORK], "Fetching"
        with observer.progress(what, release.size) as progress:
            find_image(release, store, stages=stages, into=file, observer=SearchObserver(observer.note, progress))
        return self._measure("the network", file)

    def _measure(self, origin: str, file: BinaryIO) -> OpenImage:
        """Measure the size and the SHA-256 of an open file."""
        with _reading(origin):
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            digest, done = hashlib.sha256(), 0
            with self._inputs.observer.progress("Checking", size) as progress:
                while part := file.read(_PART_SIZE):
                    digest.update(part)
                    done += len(part)
                    progress(done)
        return OpenImage(origin, file, size, digest.digest())

    def _compare(self, new: Placed, newest: Release | None, old: OpenImage | None) -> Difference | str:
        if self._view is None:
            return "not known: the newest release was not read from the chain"
        if newest is None:
            return "everything: there is no earlier release to compare with"
        if old is None:
            return f"not known: the image of {newest.version} was not found, and no file was given to compare with"
        before = Placed(old, newest.load_address)
        touched = max(new.end, before.end) - min(new.start, before.start)
        with self._inputs.observer.progress("Comparing", touched) as progress:
            return compare(new, before, on_progress=progress)


@contextmanager
def _reading(origin: str) -> Iterator[None]:
    """Convert an operating system error into an error that names the image's origin."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise ImageError(f"the image from {origin} cannot be read", why=why, remedy="try again") from error


@contextmanager
def _temporary_file() -> Iterator[BinaryIO]:
    """Open a nameless file, which the operating system deletes when the file is closed, even after a crash."""
    with _reading("a temporary file"), tempfile.TemporaryFile() as file:
        yield file
