"""What was being done to a board, written down before the first page is erased, and removed when the flash is proven.

A file a board, ``<folder>/<unique id>.json``. How far a run came is not in it: the flash itself tells that better than
any file could. What the flash cannot tell any more is: which release was going in, what each page held before and was
to hold after, so that a mixture of both is known for what it is; and the bytes beside the image, in pages that were
erased, which nobody else has.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blockota import strict_json
from blockota.errors import BlockOTAError, RefusedError
from blockota.files import read_input, whole_file
from blockota.model.release import Release, Version
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.flashing.memory import Preserved

_FORMAT = "blockota-flash-journal-1"
_MAX_FILE_SIZE = 1 << 23
_MODE = 0o600


@dataclass(frozen=True)
class UnitChange:
    """What one page or sector held before a run, and is to hold after it, as CRC-32.

    Attributes:
        address: of its first byte.
        size: in bytes.
        before: None where nobody knows; a run that is repeated keeps what its first attempt found.
        wanted: what the run puts there.
    """

    address: int
    size: int
    before: int | None
    wanted: int


@dataclass(frozen=True)
class Changes:
    """What a run is about to do.

    Attributes:
        units: the image's pages or sectors.
        at_once: whether one command erases them all, and an interruption can leave each of them in any state.
        preserved: the bytes beside the image, in the units that will be erased.
    """

    units: tuple[UnitChange, ...]
    at_once: bool
    preserved: tuple[Preserved, ...]


@dataclass(frozen=True)
class JournalEntry:
    """A run that was begun and has not ended in a proven flash.

    Attributes:
        unique_id: the board's, in hexadecimal.
        product: what was being flashed.
        version: of it.
        sha256: of its image.
        changes: what was to be done.
        operator: who did it, as the bench names people.
        started: when, in Unix seconds.
        replaced: the version of the product that the board held before, if it held one.
    """

    unique_id: str
    product: str
    version: Version
    sha256: bytes
    changes: Changes
    operator: str
    started: int
    replaced: Version | None = None

    def explains(self, units: Sequence[FoundUnit], *, is_sealed: bool) -> bool:
        """Whether the flash holds what an interruption of this run can have left, and nobody else can have put there.

        While the first words are erased each unit holds what it held before, what it was to hold, or nothing. One
        unit at most holds something else: the power went while it was erased or written. Where all were erased by one
        command, the first is blank by then, and the others can hold anything.

        While the first words are there, the run was changing the first unit at most: all others hold what they held
        before, or all hold what they were to hold. If the first is neither, the others must tell something: where
        all of them are blank, a program of somebody else would look the same.

        Args:
            units: what the pages or sectors that count hold, the first of the image before all others.
            is_sealed: whether any of the image's first words is not erased.
        """
        changes = {change.address: change for change in self.changes.units}
        if not self.changes.units or self.changes.units[0].address != units[0].unit.address:
            return False
        pairs = [(changes.get(one.unit.address), one) for one in units]
        if is_sealed:
            return _is_begun(pairs)
        odd = [one for change, one in pairs if not _is_known(change, one)]
        if any(one.unit.address not in changes for one in odd):
            return False
        return len(odd) <= 1 or (self.changes.at_once and units[0].is_blank)

    @property
    def fields(self) -> dict[str, Any]:
        """What the file says."""
        changes = self.changes
        return {
            "format": _FORMAT,
            "uniqueId": self.unique_id,
            "product": self.product,
            "version": str(self.version),
            "sha256": self.sha256.hex(),
            "operator": self.operator,
            "started": self.started,
            "replaced": str(self.replaced) if self.replaced else None,
            "atOnce": changes.at_once,
            "units": [vars(unit) for unit in changes.units],
            "preserved": [{"address": kept.address, "data": kept.data.hex()} for kept in changes.preserved],
        }


@dataclass(frozen=True)
class FoundUnit:
    """What a page or sector holds now.

    Attributes:
        unit: which it is.
        checksum: the CRC-32 of what it holds.
        is_blank: whether that is the CRC-32 of nothing.
    """

    unit: EraseUnit
    checksum: int
    is_blank: bool


class FlashJournal:
    """The journal of one board.

    Args:
        folder: where the journals of all boards lie; made when it is needed.
        unique_id: the board's, in hexadecimal.
        operator: who flashes.
        now: Unix seconds.
    """

    def __init__(
        self, folder: Path, unique_id: str, *, operator: str = "", now: Callable[[], float] = time.time
    ) -> None:
        """Nothing is read or made yet."""
        self._folder, self._unique_id, self._operator, self._now = folder, unique_id, operator, now

    @property
    def path(self) -> Path:
        """The file."""
        return _path(self._folder, self._unique_id)

    def entry(self) -> JournalEntry | None:
        """The run of this board that was interrupted, if any.

        Raises:
            RefusedError: the file cannot be read.
        """
        return find(self._folder, self._unique_id)

    def begin(self, release: Release, changes: Changes, *, replaced: Version | None = None) -> None:
        """Write down what is about to be done, in place of what was there; it survives a power cut of this machine.

        Raises:
            RefusedError: it cannot be written; then nothing may be erased.
        """
        changes = replace(changes, units=self._with_before(release, changes.units))
        entry = JournalEntry(
            unique_id=self._unique_id,
            product=release.product,
            version=release.version,
            sha256=release.sha256,
            changes=changes,
            operator=self._operator,
            started=int(self._now()),
            replaced=replaced,
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path, mode=_MODE) as file:
                file.write(strict_json.dump(entry.fields))
            _flush_names(self._folder)
        except OSError as error:
            raise RefusedError(
                "the board was not flashed, because what is to be done cannot be written down first",
                why=f"{self.path}: {error.strerror or error}; nothing was changed",
                remedy="free some space, or make the folder writable, and run the command again",
            ) from error

    def _with_before(self, release: Release, units: Sequence[UnitChange]) -> tuple[UnitChange, ...]:
        """A second attempt does not know what was there before the first: that stands in the first one's journal."""
        if all(unit.before is not None for unit in units):
            return tuple(units)
        earlier = self.entry()
        known = earlier.changes.units if earlier and earlier.sha256 == release.sha256 else ()
        before = {(unit.address, unit.size): unit.before for unit in known}
        return tuple(
            replace(unit, before=before.get((unit.address, unit.size))) if unit.before is None else unit
            for unit in units
        )

    def end(self) -> None:
        """Forget the run: the flash is proven.

        Raises:
            OSError: the file cannot be removed.
        """
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class JournaledRun:
    """One flashing of a release, with the board's journal.

    Attributes:
        journal: of the board.
        release: what is flashed.
        replaced: the version that the board held before, if any.
    """

    journal: FlashJournal
    release: Release
    replaced: Version | None = None

    def begin(self, changes: Changes) -> None:
        """Write down what is about to be done.

        Raises:
            RefusedError: it cannot be written; then nothing may be erased.
        """
        self.journal.begin(self.release, changes, replaced=self.replaced)

    def end(self) -> None:
        """Forget the run: the flash is proven."""
        # A file that cannot be removed is harmless: the next run finds the release whole, and starts the journal anew.
        with contextlib.suppress(OSError):
            self.journal.end()


def find(folder: Path, unique_id: str) -> JournalEntry | None:
    """The interrupted run of a board, if the folder has one.

    Args:
        folder: of the journals.
        unique_id: the board's, in hexadecimal.

    Raises:
        RefusedError: the file cannot be read.
    """
    path = _path(folder, unique_id)
    return _read(path, unique_id) if path.exists() else None


def boards(folder: Path) -> list[str]:
    """The unique ids of the boards of which a folder has journals; none of those is read."""
    return sorted(path.stem for path in folder.glob("*.json"))


def _path(folder: Path, unique_id: str) -> Path:
    return folder / f"{unique_id}.json"


def _is_known(change: UnitChange | None, found: FoundUnit) -> bool:
    return found.is_blank or _is_as_before(change, found) or _is_as_wanted(change, found)


def _is_as_before(change: UnitChange | None, found: FoundUnit) -> bool:
    return change is not None and (change.size, change.before) == (found.unit.size, found.checksum)


def _is_as_wanted(change: UnitChange | None, found: FoundUnit) -> bool:
    return change is not None and (change.size, change.wanted) == (found.unit.size, found.checksum)


def _is_begun(pairs: Sequence[tuple[UnitChange | None, FoundUnit]]) -> bool:
    """Whether at most the first unit is changed, or everything but its first words is done."""
    first, *others = pairs
    told = not all(found.is_blank for _, found in others)
    return any(
        all(is_as(*pair) for pair in others) and (told or is_as(*first)) for is_as in (_is_as_before, _is_as_wanted)
    )


def _read(path: Path, unique_id: str) -> JournalEntry:
    try:
        fields = strict_json.load(read_input(path, limit=_MAX_FILE_SIZE), form=_FORMAT)
        return _entry(fields, unique_id)
    except (KeyError, TypeError, ValueError, BlockOTAError) as error:
        why = error.why or error.what if isinstance(error, BlockOTAError) else strict_json.fault(error)
        raise RefusedError(
            f"the journal {path} cannot be read, so nobody knows what was being done to this board",
            why=why,
            remedy="move the file away; the board's contents then count as unknown (--replace-unknown)",
        ) from error


def _entry(fields: dict[str, Any], unique_id: str) -> JournalEntry:
    if fields["uniqueId"] != unique_id:
        raise ValueError(f"uniqueId is {fields['uniqueId']!r:.40}, the file is named for another board")
    return JournalEntry(
        unique_id=unique_id,
        product=strict_json.text(fields, "product"),
        version=Version.parse(strict_json.text(fields, "version")),
        sha256=strict_json.digest(fields, "sha256", prefix=""),
        operator=strict_json.text(fields, "operator"),
        started=strict_json.integer(fields, "started"),
        replaced=Version.parse(strict_json.text(fields, "replaced")) if fields.get("replaced") is not None else None,
        changes=Changes(
            units=tuple(_unit(one) for one in strict_json.mappings(fields, "units")),
            at_once=strict_json.boolean(fields, "atOnce"),
            preserved=tuple(
                Preserved(strict_json.integer(one, "address"), strict_json.hexadecimal(one, "data", prefix=""))
                for one in strict_json.mappings(fields, "preserved")
            ),
        ),
    )


def _unit(fields: dict[str, Any]) -> UnitChange:
    address, size, wanted = (strict_json.integer(fields, name) for name in ("address", "size", "wanted"))
    before = None if fields["before"] is None else strict_json.integer(fields, "before")
    return UnitChange(address, size, before, wanted)


def _flush_names(folder: Path) -> None:
    """Put the folder itself on the disk, so that a power cut does not undo the new name."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
