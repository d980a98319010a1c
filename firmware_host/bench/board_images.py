"""Let a command make an image for one board, and write this image before the program of the same run.

The board's image is written first, so that the new program never starts without this image. These are the steps:

1. Prove that the image lies in pages that the program does not use (checks 7 and 8).
2. Find out whether an earlier run has written an image. If the board's record names an image, and the flash still
   contains this image, the image is kept.
3. Otherwise, run the command, which makes the image (check 5). After an interrupted run in the same process, use the
   image that is still in memory.
4. Record the SHA-256 and size of the image, erase and write its region, and prove the region (check 10). The region
   after the image is erased, so that a key of an earlier, longer image does not remain.
5. After the program is also proven, record that the run is complete (`BoardImages.complete`).

The bytes of an image are never written to a file. If the process ends during step 4, the image is lost, and only its
record remains: ``<folder>/<product>/<unique id>.json``. A later run then needs the operator's consent to run the
command again, because the command may issue a second serial number or key. The record is written before the first
erase.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from blockota import strict_json
from blockota.errors import (
    Action,
    BlockOTAError,
    BoardError,
    FlashProofError,
    RefusedError,
    UsageError,
    VerificationError,
)
from blockota.files import read_input, write_durable
from blockota.model.board_image import BoardImage, padded, prove_fit, prove_place, prove_written
from blockota.model.release import Product, Release, Version, read_name, read_status, read_version
from blockota.shutdown import Stop
from firmware_host.bench.image_command import ImageCommand
from firmware_host.bench.result import BoardImageResult, ChecksPassed, Progress
from firmware_host.bench.session import ClearedBoard, nothing_changed
from firmware_host.flashing.contents import FlashContents, Proof
from firmware_host.flashing.erasure import flash_of
from firmware_host.flashing.flasher import carry_out, finish
from firmware_host.flashing.installed import Installed
from firmware_host.flashing.plan import Event, Finished, FlashPlan, Part, Repeated, Summary, common, without

_FORMAT = "blockota-board-image-1"
_MAX_FILE_SIZE = 1 << 16
_MODE = 0o600
_CONTENTS_DIFFER = "the bytes read back differ from the written ones"


class ImageState(Enum):
    """The state of the image of one board."""

    MADE = 1
    """The command has made the image, but the flash is not proven to contain it."""
    WRITTEN = 2
    """The flash is proven to contain the image, but the program of the same run is not proven."""
    COMPLETE = 3
    """The image and the program are proven."""

    def __str__(self) -> str:
        """The name of the state, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class ImageRecord:
    """The record of the newest image of one board and product.

    The record also names the program that is written in the same run.
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
        """Decode the record of a board and product.

        A wrong field raises KeyError, TypeError or ValueError.
        """
        if (fields["uniqueId"], fields["product"]) != (unique_id, product):
            raise ValueError("uniqueId or product does not match the file's name")

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
class BoardImages:
    """The images made for single boards, and their records in a folder.

    All ports share one `BoardImages`.

    Attributes:
        may_make_new: whether the operator requested a new image for each board that already had an image.
        may_replace: whether the operator allowed the replacement of contents that are not in any record.
        made: the images that are not proven yet, by unique id and product.
        given: the unique id and product of each board whose image this process has proven.
        turn: a lock that prevents the command from running for two boards at the same time.
    """

    folder: Path
    command: ImageCommand | None = None
    may_make_new: bool = False
    may_replace: bool = False
    made: dict[tuple[str, str], bytes] = field(default_factory=dict, repr=False)
    given: set[tuple[str, str]] = field(default_factory=set)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def find(self, unique_id: str, product: str) -> ImageRecord | None:
        """Return the record of a board and product; None if no record exists.

        A record that cannot be read raises RefusedError.
        """
        path = self._path(unique_id, product)
        if not path.exists():
            return None

        try:
            fields = strict_json.load(read_input(path, limit=_MAX_FILE_SIZE), form=_FORMAT)
            return ImageRecord.from_fields(fields, unique_id=unique_id, product=product)
        except (KeyError, TypeError, ValueError, BlockOTAError) as error:
            raise RefusedError(
                f"the record {path} cannot be read, so the state of the board's image of {product} is unknown",
                why=f"{strict_json.fault(error)}; nothing was changed",
                remedy="move the record to another folder; the command then makes a new image for this board",
            ) from error

    def interrupted(self, unique_id: str) -> ImageRecord | None:
        """Return the record of a run that was interrupted on a board; None if no run was interrupted."""
        return next((one for one in self._all(unique_id) if one.state is not ImageState.COMPLETE), None)

    def has_interrupted(self) -> bool:
        """Whether a run was interrupted on any board.

        A record that cannot be read counts as interrupted.
        """
        try:
            return self.interrupted("*") is not None
        except RefusedError:
            return True

    def write(self, record: ImageRecord) -> None:
        """Write a record durably in place of the earlier record.

        After a RefusedError, the caller must not erase anything.
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
        """Record that the board's runs with this program are complete, because the program is proven."""
        with suppress(RefusedError):  # a failure is harmless: the next run proves both again
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


@dataclass(frozen=True)
class BoardImageJob:
    """The work on one board's own image.

    The board has already passed checks 6 to 9 for the program of the same run. `product` is the paired product of the
    image. `note` receives sentences for the operator, and `progress` receives the steps.
    """

    images: BoardImages
    cleared: ClearedBoard
    product: Product
    proof: Proof
    note: Callable[[str], None]
    progress: Callable[[Progress], None]
    stop: Stop

    def run(self) -> BoardImageResult:
        """Write the board's own image and return the proven image.

        If the flash already contains the image, nothing is written.

        Raises:
            RefusedError: the image has no pages of its own, cannot be made, or is lost. Nothing was erased.
            KeyboardInterrupt: a stop was requested while the command ran. Nothing was erased.
        """
        self.progress(ChecksPassed(tuple(prove_place(self.product, self.cleared.board.answer(Installed())))))  # (1)
        place = self._plan(b"")
        self._require_own_pages(place)

        contents = self.cleared.board.contents(place, proof=self.proof)  # (2)
        record = self.images.find(self._unique_id, self.product.name)
        # A board that is connected again keeps the new image that the operator asked for.
        kept = None if self.images.may_make_new and self._key not in self.images.given else record
        region = self.product.region
        with nothing_changed():
            fits = kept is not None and 0 < kept.size <= region.size
            if kept and not (fits and contents.sha256(region.start, [kept.size]) == (kept.sha256,)):
                kept = None
            is_cut_off = kept is not None and self._is_cut_off(kept, contents)
        if kept and not is_cut_off:
            return self._keep(kept, place, method=contents.method)
        with nothing_changed():
            data = self._read(kept, contents) if kept else self._made(record, contents, place)  # (3)
        return self._write(data)

    @property
    def _unique_id(self) -> str:
        return self.cleared.board.identity.unique_id or ""

    @property
    def _key(self) -> tuple[str, str]:
        return self._unique_id, self.product.name

    def _require_own_pages(self, place: FlashPlan) -> None:
        """Require pages that the program does not use.

        If the board's own image shared pages with the program, the program's journal would store bytes of this image in
        a file.
        """
        if not self._unique_id:
            raise RefusedError(
                "the board cannot be given an image of its own",
                why="its unique id cannot be read; nothing was changed",
                remedy="use a board with a readable unique id",
            )

        if place.chip.is_erased_whole:
            raise VerificationError(
                7,
                "a board with this chip cannot have an image of its own",
                why=f"the size of the pages of the {place.chip.name} is not known, so BlockOTA erases its whole flash "
                "with each release; nothing was changed",
                remedy="flash the board without an own image, and store the data of the board outside this flash",
            )

        proven = self.cleared.proven
        program, release = self.cleared.board.plan(proven.image, proven.release.load_address), proven.release
        if shared := [unit for unit in place.units if unit in program.units]:
            raise self._not_own(shared[0].address, f"belongs to {release.product} {release.version}")

    def _require_blank(self, place: FlashPlan, contents: FlashContents, *, may_replace: bool) -> None:
        """Require blank pages.

        If the operator consents, the region may have any contents. All other bytes of its pages must be blank, because
        a board's own image has no journal from which they could be restored.
        """
        chip, region = place.chip, place.image.span
        for unit in place.units:
            if contents.checksum(unit) == chip.blank_checksum(unit.size):
                continue

            if not all(chip.is_blank(contents.read(part)) for part in without(unit.span, region)):
                raise self._not_own(unit.address, "contains other data")
            if not may_replace and not chip.is_blank(contents.read(common(unit.span, region))):
                raise RefusedError(
                    "the place of the board's own image is not blank",
                    why=f"{self.product.region} contains bytes that are not in any record of this bench; nothing was "
                    "changed",
                    remedy="check that the right board is connected, then consent to replacing its contents",
                    action=Action.REPLACE_UNKNOWN,
                )

    def _not_own(self, address: int, use: str) -> VerificationError:
        product = self.product
        return VerificationError(
            7,
            "the board's own image has no pages of its own",
            why=f"the page at {address:#010x} is part of {product.region}, the region of {product.name}, and {use}",
            remedy="ask the vendor to pair the product with a region of whole pages without other data",
        )

    def _is_cut_off(self, record: ImageRecord, contents: FlashContents) -> bool:
        """Whether the region still has bytes of an older, longer image behind the image of an interrupted run.

        After a complete run, the result is always False, because the program may have written data to these addresses.
        """
        if record.state is not ImageState.MADE:
            return False
        region, (chip, _) = self.product.region, flash_of(self.cleared.board.identity)
        return not chip.is_blank(contents.read(range(region.start + record.size, region.end)))

    def _read(self, record: ImageRecord, contents: FlashContents) -> bytes:
        """Read the image of an interrupted run from the flash.

        The caller must have verified that the flash contains the image.
        """
        start = self.product.region.start
        data = contents.read_beside(range(start, start + record.size))
        if BoardImage.of(self.product, data).sha256 != record.sha256:
            raise FlashProofError(
                "the board's own image cannot be read back",
                why="the bytes read from the flash differ from the image that an earlier run made",
                remedy="flash the board again; use a shorter cable or a lower speed if that fails too",
            )
        return data

    def _keep(self, record: ImageRecord, place: FlashPlan, *, method: str) -> BoardImageResult:
        """Keep the image of an earlier run. The caller must have verified that the flash contains this image."""
        image = BoardImage(self.product, record.sha256, record.size)
        self.progress(ChecksPassed((prove_fit(image), prove_written(image, record.sha256, method=method))))
        self._record_written(image)
        return BoardImageResult(image, Finished(record.sha256, method, Summary(identical=Part.of(place.units))))

    def _made(self, record: ImageRecord | None, contents: FlashContents, place: FlashPlan) -> bytes:
        """Return the image of an interrupted run if the image is in memory; otherwise, let the command make one."""
        if found := self.images.made.get(self._key):
            self.note(f"The image of {self.product.name} that was made before the interruption is written again.")
            return found

        images = self.images
        if record and not images.may_make_new:
            raise RefusedError(
                f"the image that was made for this board is lost ({record.product})",
                why=f"the flash does not contain the {record.size:,} bytes with SHA-256 {record.sha256.hex()} that an "
                "earlier run made, and no copy of them is stored; nothing was changed",
                remedy="revoke the serial number or key that the command issued for the lost image, then consent to a "
                "new image",
                action=Action.NEW_BOARD_IMAGE,
            )

        self._require_blank(place, contents, may_replace=images.may_replace or images.may_make_new)
        command = images.command
        if command is None:
            raise UsageError(
                f"the command that makes the image of {self.product.name} for this board is missing",
                why="the run needs a new image; nothing was changed",
                remedy="give the command",
                action=Action.NAME_IMAGE_COMMAND,
            )

        with images.turn:
            self.stop.check()
            data = command.run(
                self._values(),
                limit=self.product.region.size,
                show=lambda line: self.note(f"The image command says: {line}"),
                stop=self.stop,
            )
        prove_fit(BoardImage.of(self.product, data))
        images.made[self._key] = data
        return data

    def _values(self) -> dict[str, str]:
        """The environment variables that describe the board to the command."""
        identity, release = self.cleared.board.identity, self.cleared.proven.release
        return {
            "BLOCKOTA_BOARD_ID": self._unique_id,
            "BLOCKOTA_BOARD_CHIP": f"{identity.product_id:#05x}",
            "BLOCKOTA_BOARD_PRODUCT": release.product,
            "BLOCKOTA_BOARD_VERSION": str(release.version),
            "BLOCKOTA_BOARD_IMAGE_PRODUCT": self.product.name,
            "BLOCKOTA_BOARD_IMAGE_LIMIT": str(self.product.region.size),
        }

    def _write(self, data: bytes) -> BoardImageResult:
        planned = self._plan(data)
        image = BoardImage.of(self.product, data, erased_byte=planned.chip.erased_byte)
        self.progress(ChecksPassed((prove_fit(image),)))
        self._record(image, ImageState.MADE)  # (4)
        contents = self.cleared.board.contents(planned, proof=self.proof)
        try:
            finished = finish(carry_out(planned, self.cleared.board.bootloader, contents=contents), self._show)
        except BoardError as error:
            # The new error quotes the cause: the caught error describes the flash as if the image were a program, and
            # its remedy does not apply.
            raise self._interrupted(error) from None

        self.progress(ChecksPassed((prove_written(image, finished.sha256, method=finished.method),)))
        self._record_written(image)
        return BoardImageResult(image, finished)

    def _show(self, event: Event) -> None:
        # The reason of a failed proof names bytes of the flash, which may be part of a key.
        self.progress(Repeated(_CONTENTS_DIFFER) if isinstance(event, Repeated) else event)

    def _interrupted(self, error: BoardError) -> BoardError:
        found = error.__cause__ if isinstance(error.__cause__, BoardError) else None
        why = found.why if found else ""
        if isinstance(error, FlashProofError):
            why = _CONTENTS_DIFFER
        state = f"the image of {self.product.name} is not proven, and the program was not changed"

        return error.revised(
            why=f"{why}; {state}" if why else state,
            remedy="set BOOT0 to 1, reset this board, and flash it again; if this command has ended, first withdraw "
            "the serial number or key of this image, which is stored nowhere, and ask for a new image",
            action=Action.NEW_BOARD_IMAGE,
        )

    def _record_written(self, image: BoardImage) -> None:
        # A record that still says "made" is harmless: the next run finds the image in the flash.
        with suppress(RefusedError):
            self._record(image, ImageState.WRITTEN)
        self.images.made.pop(self._key, None)
        self.images.given.add(self._key)

    def _record(self, image: BoardImage, state: ImageState) -> None:
        release = self.cleared.proven.release
        product, digest, size = image.product.name, image.sha256, image.size
        record = ImageRecord(self._unique_id, product, digest, size, state, release.product, release.version)
        self.images.write(record)

    def _plan(self, data: bytes) -> FlashPlan:
        """Plan the whole region, with erased bytes after the image."""
        chip, _ = flash_of(self.cleared.board.identity)
        whole = padded(self.product, data, erased_byte=chip.erased_byte)
        return self.cleared.board.plan(whole, self.product.region.start)
