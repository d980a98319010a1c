"""Where a proposal's images come from: files that the person gave, the store, and those who serve them elsewhere."""

from __future__ import annotations

import hashlib
import io
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import click

from blockota.cli.display import parts_of, progress_bar, search_image, source_option
from blockota.cli.proposal_files import FILE
from blockota.cli.session import Session
from blockota.errors import ImageError, StoreError, VerificationError

if TYPE_CHECKING:
    from blockota.approval.chain_view import ChainView
    from blockota.formats.firmware_image import Format
    from blockota.model.release import Release
    from blockota.stores.search import Candidate


@dataclass(frozen=True)
class Sources:
    """What the person says of where images are.

    Attributes:
        images: files of images that the proposal publishes.
        previous: files of images to compare them with.
        named: URLs of ``--source``.
    """

    images: tuple[Path, ...]
    previous: tuple[Path, ...]
    named: tuple[str, ...]

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """What the values of `image_options` say; they are taken out."""
        return cls(options.pop("image"), options.pop("previous"), options.pop("source"))


@dataclass(frozen=True)
class ImageFile:
    """An image in an open file, of which only parts are read.

    Attributes:
        origin: where it came from, for people.
        file: its bytes, from the beginning; it can seek.
        size: how many bytes it has.
        sha256: their digest, computed here.
        format: what the file was read as.
        load_address: where a HEX or ELF file says that it goes; raw bytes cannot say so.
    """

    origin: str
    file: BinaryIO
    size: int
    sha256: bytes
    format: Format = "bin"
    load_address: int = 0

    def __len__(self) -> int:
        """How many bytes it has."""
        return self.size

    def __getitem__(self, part: slice, /) -> bytes:
        """Some of its bytes.

        Raises:
            ImageError: the file cannot be read.
        """
        start, stop, _ = part.indices(self.size)
        with reading(self.origin):
            self.file.seek(start)
            return self.file.read(max(stop - start, 0))


def image_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--image``, ``--previous`` and ``--source``."""
    for option in (
        source_option,
        click.option("--previous", type=FILE, multiple=True, help="Image before it, to compare; else looked for."),
        click.option("--image", type=FILE, multiple=True, help="Image that FILE publishes; else looked for."),
    ):
        command = option(command)
    return command


class ImageSearch:
    """Opens images, and closes all of them at its end.

    Args:
        session: knows the store, the settings and the terminal.
        named: the URLs of ``--source``.
        view: what is known of the chain. Where that is a file, or nothing, nobody is asked but the store and what
            ``--source`` names: an owner who signs without a network must not have to wait for one.

    Raises:
        UsageError: a URL names no gateway.
    """

    def __init__(self, session: Session, *, named: Sequence[str], view: ChainView | None) -> None:
        """Nothing is opened yet."""
        from blockota.stores.search import named as candidates

        self._session, self._named = session, tuple(named)
        self._candidates = list(candidates(named, session.credentials))
        self._is_on_line = view is not None and not view.source
        self._files = ExitStack()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files; copies that were made are gone then."""
        self._files.close()

    def find(self, release: Release) -> ImageFile:
        """An image from the store, or from those who serve it.

        Raises:
            UsageError: the settings name something that is no gateway.
            VerificationError: number 4, only something else was found.
            StoreError: it is nowhere to be had.
        """
        file = self._files.enter_context(_copy())
        try:
            self._ask(release, (), into=file)
            origin = "the store"
        except (StoreError, VerificationError):
            self._search(release, into=file)
            origin = "the network"
        return self._measured(origin, file)

    def open(self, path: Path, *, wanted: Collection[tuple[int, bytes]]) -> ImageFile:
        """An image from a file: what it holds, or what a HEX or ELF file stands for.

        Args:
            path: the file.
            wanted: size and SHA-256 of the images that are looked for. A file that is one of them is taken as it is,
                whatever it looks like; so is one that is too large to be anything else.

        Raises:
            UsageError: there is no such file.
            ImageError: it is no image, larger than any that is looked for, or cannot be read.
        """
        from blockota.cli.drafting import naming_image
        from blockota.formats.firmware_image import MAX_IMAGE_SIZE, RawFile, read_image

        sizes = {size for size, _ in wanted}
        size = _size_of(path)
        if size in sizes or MAX_IMAGE_SIZE < size <= max(sizes, default=0):
            with naming_image(path):
                file = RawFile(path, size, 0).open()
            self._files.callback(file.close)
            raw = self._measured(str(path), file)
            if size > MAX_IMAGE_SIZE or (size, raw.sha256) in wanted:
                return raw
        if sizes and size > MAX_IMAGE_SIZE:
            raise ImageError(
                f"{path} is too large",
                why=f"it has {size:,} bytes, the largest image that is looked for has {max(sizes):,}",
                remedy="check that it is the right file",
            )
        with naming_image(path):
            image = read_image(path, load_address=0)
        digest = hashlib.sha256(image.data).digest()
        return ImageFile(str(path), image.open(), image.size, digest, image.format, image.load_address)

    def _search(self, release: Release, *, into: BinaryIO) -> None:
        if self._is_on_line:
            search_image(self._session, release, named=self._named, into=into)
        else:
            self._ask(release, self._candidates, into=into, note=self._session.note)

    def _ask(
        self,
        release: Release,
        candidates: Sequence[Candidate],
        *,
        into: BinaryIO,
        note: Callable[[str], object] = lambda _: None,
    ) -> None:
        from blockota.stores.search import SearchObserver, SearchStage, find_image

        stage = SearchStage("the named sources", lambda: candidates)
        with progress_bar(self._session, "Reading", total=release.size) as bar:
            find_image(release, self._session.store, stages=[stage], into=into, observer=SearchObserver(note, bar))

    def _measured(self, origin: str, file: BinaryIO) -> ImageFile:
        with reading(origin):
            size = file.seek(0, io.SEEK_END)
            digest = hashlib.sha256()
            for part in parts_of(self._session, file, size=size):
                digest.update(part)
        return ImageFile(origin, file, size, digest.digest())


@contextmanager
def reading(origin: str) -> Iterator[None]:
    """Say of which image an error is that the system has with its file."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise ImageError(f"the image from {origin} cannot be read", why=why, remedy="try again") from error


@contextmanager
def _copy() -> Iterator[BinaryIO]:
    """A file without a name, which is gone when it is closed, however that comes about."""
    with reading("a temporary file"), tempfile.TemporaryFile() as file:
        yield file


def _size_of(path: Path) -> int:
    """Bytes of a regular file; -1 for whatever else, of which reading it says what is wrong."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
