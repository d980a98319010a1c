"""Records of the images made for single boards: the SHA-256 and size of an image, never its bytes.

Each board has one record for each product, ``<folder>/<product>/<unique id>.json``. The record is written when the
image was made, before the first erase. It decides whether a later run may make another image: a serial number or key
must not be issued twice for one board without the operator's consent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from blockota import strict_json
from blockota.errors import BlockOTAError, RefusedError
from blockota.files import read_input, write_durable
from blockota.model.release import Release, Version, read_name, read_status, read_version

_FORMAT = "blockota-board-image-1"
_MAX_FILE_SIZE = 1 << 16
_MODE = 0o600


class ImageState(Enum):
    """The state of the image of one board."""

    MADE = 1
    """The command has made the image, which is not proven to be in the flash."""
    WRITTEN = 2
    """The flash is proven to contain the image; the program of the same run is not proven."""
    COMPLETE = 3
    """Image and program are proven."""

    def __str__(self) -> str:
        """The word, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class ImageRecord:
    """The record of the newest image of one board and product, with its size in bytes.

    `program` and `version` are those of the program that is written in the same run.
    """

    unique_id: str
    product: str
    sha256: bytes
    size: int
    state: ImageState
    program: str
    version: Version

    @property
    def fields(self) -> dict[str, Any]:
        """The record as JSON."""
        return {
            "format": _FORMAT,
            "uniqueId": self.unique_id,
            "product": self.product,
            "sha256": self.sha256.hex(),
            "size": self.size,
            "status": str(self.state),
            "program": self.program,
            "version": str(self.version),
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any], *, unique_id: str, product: str) -> ImageRecord:
        """Decode the record of a board and product; a wrong field raises KeyError, TypeError or ValueError."""
        if (fields["uniqueId"], fields["product"]) != (unique_id, product):
            raise ValueError("uniqueId or product is not that of the file's name")
        return cls(
            unique_id=unique_id,
            product=product,
            sha256=strict_json.digest(fields, "sha256", prefix=""),
            size=strict_json.integer(fields, "size"),
            state=read_status(ImageState, fields),
            program=read_name(fields, "program"),
            version=read_version(fields, "version"),
        )


@dataclass(frozen=True)
class ImageRecords:
    """The records of all boards, in a folder that is created when needed."""

    folder: Path

    def find(self, unique_id: str, product: str) -> ImageRecord | None:
        """Return the record of a board and product; None if there is none.

        Raises:
            RefusedError: the record cannot be read.
        """
        path = self._path(unique_id, product)
        if not path.exists():
            return None
        try:
            fields = strict_json.load(read_input(path, limit=_MAX_FILE_SIZE), form=_FORMAT)
            return ImageRecord.from_fields(fields, unique_id=unique_id, product=product)
        except (KeyError, TypeError, ValueError, BlockOTAError) as error:
            raise RefusedError(
                f"the record {path} cannot be read, so whether the board has an image of {product} is unknown",
                why=f"{strict_json.fault(error)}; nothing was changed",
                remedy="move the record away; the command then makes a new image for this board",
            ) from error

    def interrupted(self, unique_id: str) -> ImageRecord | None:
        """Return the record of a run that was interrupted on a board; None if there is none."""
        return next((one for one in self._all(unique_id) if one.state is not ImageState.COMPLETE), None)

    def has_interrupted(self) -> bool:
        """Whether a run was interrupted on any board; a record that cannot be read counts as interrupted."""
        try:
            return self.interrupted("*") is not None
        except RefusedError:
            return True

    def write(self, record: ImageRecord) -> None:
        """Write a record durably; it replaces the earlier record of the board and product.

        Raises:
            RefusedError: the record cannot be written; the caller must not erase anything.
        """
        path = self._path(record.unique_id, record.product)
        try:
            write_durable(path, strict_json.dump(record.fields), mode=_MODE)
        except OSError as error:
            raise RefusedError(
                "the board was not flashed, because the record of its own image cannot be written",
                why=f"{path}: {error.strerror or error}; nothing was erased",
                remedy="free some space, or make the folder writable, and run the command again",
            ) from error

    def complete(self, unique_id: str, program: Release) -> None:
        """Record that a program is proven on a board, which completes the runs with this program."""
        for record in self._all(unique_id):
            is_of_run = (record.program, record.version) == (program.product, program.version)
            if is_of_run and record.state is ImageState.WRITTEN:
                self.write(replace(record, state=ImageState.COMPLETE))

    def _path(self, unique_id: str, product: str) -> Path:
        return self.folder / product / f"{unique_id}.json"

    def _all(self, unique_id: str) -> Iterator[ImageRecord]:
        """The records of a board, or of every board for ``*``."""
        paths = sorted(self.folder.glob(f"*/{unique_id}.json"))
        return filter(None, (self.find(path.stem, path.parent.name) for path in paths))
