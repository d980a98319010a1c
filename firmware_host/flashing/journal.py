"""The journal of a run: written before the first page is erased, removed when the flash is proven.

There is one file per board, ``<folder>/<unique id>.json``. It does not record progress, which the flash itself shows
more reliably. It records what the flash can no longer show: which release was going in; the checksum of each page
before the run and after it, so that a mixture of both is recognised; the bytes beside the image in pages that were
erased, which exist nowhere else; and what the flash showed in their place when their proof failed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blockota import strict_json
from blockota.errors import Action, BlockOTAError, RefusedError
from blockota.files import read_input, write_durable
from blockota.model.release import Release, Version
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.bootloader.client import Bootloader
from firmware_host.flashing.contents import read_twice
from firmware_host.flashing.plan import FlashPlan, Preserved, common

_FORMAT = "blockota-flash-journal-1"
_MAX_FILE_SIZE = 1 << 23
_MODE = 0o600


@dataclass(frozen=True)
class UnitChange:
    """The contents of one page or sector before a run and after it, as CRC-32.

    Attributes:
        address: address of its first byte.
        size: in bytes.
        before: None if unknown; a second attempt keeps what the first one found.
        wanted: what the run writes.
    """

    address: int
    size: int
    before: int | None
    wanted: int


@dataclass(frozen=True)
class FoundUnit:
    """The contents of one page or sector now.

    Attributes:
        unit: the page or sector.
        checksum: its CRC-32.
        is_blank: whether it is erased.
    """

    unit: EraseUnit
    checksum: int
    is_blank: bool


@dataclass(frozen=True)
class Changes:
    """The changes that a run is about to make.

    Attributes:
        units: the image's pages or sectors.
        at_once: whether a mass erase takes them all; an interruption can then leave each of them in any state.
        preserved: the bytes beside the image, in the units that are erased.
        damaged: what the flash holds in place of preserved bytes, if their proof failed.
    """

    units: tuple[UnitChange, ...]
    at_once: bool
    preserved: tuple[Preserved, ...]
    damaged: tuple[Preserved, ...] = ()


@dataclass(frozen=True)
class JournalEntry:
    """A run that was begun and has not ended in a proven flash.

    Attributes:
        unique_id: the board's, in hexadecimal.
        product: the product being flashed.
        version: its version.
        sha256: the digest of its image.
        changes: what the run was about to change.
        operator: who flashed.
        started: Unix seconds.
        replaced: the version of the product that the board held before, if any.
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
        """Whether an interruption of this run, and nothing else, can have left the flash in this state.

        Seal erased: each unit holds its old contents, its new ones, or is blank. One unit at most holds something
        else, because power failed while it was erased or written. After a mass erase any unit can be in any state,
        but the first one is blank by then.

        Seal present: the run was changing the first unit at most, so all others hold their old contents, or all hold
        their new ones. If the first is neither, the others must identify the run: if they are all blank, any
        foreign program would look the same.

        Args:
            units: the pages or sectors of the image, the first one before all others.
            is_sealed: whether any byte of the seal is not erased.
        """
        changes = {change.address: change for change in self.changes.units}
        if not self.changes.units or self.changes.units[0].address != units[0].unit.address:
            return False
        pairs = [(changes.get(one.unit.address), one) for one in units]
        if is_sealed:
            return _is_first_unit_only(pairs)

        # Seal erased: at most one unit is in none of the three states, unless a mass erase was cut.
        odd = [one for change, one in pairs if not (one.is_blank or _is_before(change, one) or _is_after(change, one))]
        if any(one.unit.address not in changes for one in odd):
            return False
        return len(odd) <= 1 or (self.changes.at_once and units[0].is_blank)

    @property
    def fields(self) -> dict[str, Any]:
        """The entry as JSON."""
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
            "preserved": [_preserved_fields(one) for one in changes.preserved],
            "damaged": [_preserved_fields(one) for one in changes.damaged],
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any], unique_id: str) -> JournalEntry:
        """Read the entry of a board from JSON.

        Raises:
            KeyError, TypeError, ValueError, BlockOTAError: the fields are not those of an entry, or of another board's.
        """
        if fields["uniqueId"] != unique_id:
            raise ValueError(f"uniqueId is {fields['uniqueId']!r:.40}, the file is named after another board")
        replaced = fields.get("replaced")
        return cls(
            unique_id=unique_id,
            product=strict_json.text(fields, "product"),
            version=Version.parse(strict_json.text(fields, "version")),
            sha256=strict_json.digest(fields, "sha256", prefix=""),
            operator=strict_json.text(fields, "operator"),
            started=strict_json.integer(fields, "started"),
            replaced=None if replaced is None else Version.parse(strict_json.text(fields, "replaced")),
            changes=Changes(
                units=tuple(_unit(one) for one in strict_json.mappings(fields, "units")),
                at_once=strict_json.boolean(fields, "atOnce"),
                preserved=tuple(_preserved(one) for one in strict_json.mappings(fields, "preserved")),
                # Journals of earlier versions lack this field.
                damaged=tuple(_preserved(one) for one in strict_json.mappings({"damaged": []} | fields, "damaged")),
            ),
        )


@dataclass(frozen=True)
class FlashJournal:
    """The journal of one board.

    Attributes:
        folder: the folder of all journals; made when needed.
        unique_id: the board's, in hexadecimal.
        operator: who flashes.
        now: returns Unix seconds.
    """

    folder: Path
    unique_id: str
    operator: str = ""
    now: Callable[[], float] = time.time

    @property
    def path(self) -> Path:
        """The board's file."""
        return self.folder / f"{self.unique_id}.json"

    def entry(self) -> JournalEntry | None:
        """Read the interrupted run of this board, if there is one.

        Raises:
            RefusedError: the file cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            fields = strict_json.load(read_input(self.path, limit=_MAX_FILE_SIZE), form=_FORMAT)
            return JournalEntry.from_fields(fields, self.unique_id)
        except (KeyError, TypeError, ValueError, BlockOTAError) as error:
            why = error.why or error.what if isinstance(error, BlockOTAError) else strict_json.fault(error)
            raise RefusedError(
                f"the journal {self.path} cannot be read, so the board's interrupted run is unknown",
                why=why,
                remedy="move the file away, and allow the board's contents, which then count as unknown, to be "
                "replaced",
                action=Action.REPLACE_UNKNOWN,
            ) from error


@dataclass(frozen=True)
class JournaledRun:
    """One flashing of a release, recorded in the board's journal.

    Attributes:
        journal: the board's journal.
        release: the release being flashed.
        replaced: the version of the product that the board held before, if any.
    """

    journal: FlashJournal
    release: Release
    replaced: Version | None = None

    def begin(self, changes: Changes) -> None:
        """Record the run durably, in place of the previous one.

        Raises:
            RefusedError: the file cannot be written; nothing may be erased then.
        """
        journal, release, units = self.journal, self.release, changes.units
        if any(unit.before is None for unit in units):
            # A second attempt does not know the contents before the first one, which its journal has.
            earlier = journal.entry()
            known = earlier.changes.units if earlier and earlier.sha256 == release.sha256 else ()
            before = {(unit.address, unit.size): unit.before for unit in known}
            units = tuple(
                replace(unit, before=before.get((unit.address, unit.size))) if unit.before is None else unit
                for unit in units
            )
        entry = JournalEntry(
            unique_id=journal.unique_id,
            product=release.product,
            version=release.version,
            sha256=release.sha256,
            changes=replace(changes, units=units),
            operator=journal.operator,
            started=int(journal.now()),
            replaced=self.replaced,
        )
        try:
            write_durable(journal.path, strict_json.dump(entry.fields), mode=_MODE)
        except OSError as error:
            raise RefusedError(
                "the board was not flashed, because the journal of the run cannot be written",
                why=f"{journal.path}: {error.strerror or error}; nothing was changed",
                remedy="free some space, or make the folder writable, and run the command again",
            ) from error

    def end(self) -> None:
        """Remove the journal, because the flash is proven."""
        # A file that stays is harmless: the next run finds the release whole and starts the journal anew.
        with contextlib.suppress(OSError):
            self.journal.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Restore:
    """Bytes of a journal that a run writes back.

    Attributes:
        kept: the bytes to write back.
        notes: one sentence for each stretch that is not written back, because the flash has newer bytes there.
    """

    kept: tuple[Preserved, ...] = ()
    notes: tuple[str, ...] = ()


def boards(folder: Path) -> list[str]:
    """The unique ids of all boards with a journal in a folder; no file is read."""
    return sorted(path.stem for path in folder.glob("*.json"))


def restore(plan: FlashPlan, entry: JournalEntry, *, bootloader: Bootloader) -> Restore:
    """Find the bytes of a journal that nothing has replaced since; the board is only read.

    Bytes on which the proof failed are no replacement. They are written back and proven like the erased ones.

    Raises:
        RefusedError: the plan does not reach some of these bytes.
        BoardError: the board is silent or refuses.
    """
    blank = plan.chip.erased_byte
    written = [one for one in entry.changes.preserved if one.data.strip(bytes((blank,)))]
    found = {one.address: Preserved(one.address, read_twice(bootloader, one.span)) for one in written}
    kept = [
        one
        for one in written
        if _is_erased(one, found[one.address].data, blank=blank) or found[one.address] in entry.changes.damaged
    ]
    for one in kept:
        if common(one.span, plan.span) != one.span:
            raise RefusedError(
                f"{entry.product} {entry.version} was interrupted on this board, and has bytes to put back",
                why=f"those from {one.span.start:#010x} to {one.span.stop:#010x} are in the journal only, and lie "
                "outside this release; nothing was changed",
                remedy="complete the interrupted run first; if its release may not be written any more, move the "
                f"journal {entry.unique_id}.json away, which still has those bytes",
                action=Action.RESUME_FLASH,
            )
    notes = (
        f"The journal's bytes from {one.span.start:#010x} to {one.span.stop:#010x} are not put back: "
        "the flash holds newer bytes there, which stay."
        for one in written
        if one not in kept
    )
    return Restore(tuple(kept), tuple(notes))


def _is_before(change: UnitChange | None, found: FoundUnit) -> bool:
    return change is not None and (change.size, change.before) == (found.unit.size, found.checksum)


def _is_after(change: UnitChange | None, found: FoundUnit) -> bool:
    return change is not None and (change.size, change.wanted) == (found.unit.size, found.checksum)


def _is_first_unit_only(pairs: Sequence[tuple[UnitChange | None, FoundUnit]]) -> bool:
    """Whether at most the first unit is changed, or everything but its seal is done."""
    first, *others = pairs
    identifies = not all(found.is_blank for _, found in others)
    return any(
        all(is_state(*pair) for pair in others) and (identifies or is_state(*first))
        for is_state in (_is_before, _is_after)
    )


def _unit(fields: dict[str, Any]) -> UnitChange:
    address, size, wanted = (strict_json.integer(fields, name) for name in ("address", "size", "wanted"))
    before = None if fields["before"] is None else strict_json.integer(fields, "before")
    return UnitChange(address, size, before, wanted)


def _preserved_fields(preserved: Preserved) -> dict[str, Any]:
    return {"address": preserved.address, "data": preserved.data.hex()}


def _preserved(fields: dict[str, Any]) -> Preserved:
    return Preserved(strict_json.integer(fields, "address"), strict_json.hexadecimal(fields, "data", prefix=""))


def _is_erased(kept: Preserved, found: bytes, *, blank: int) -> bool:
    """Whether every programmed bit in the flash is programmed in the kept bytes as well.

    This is so if the flash is blank, or if power failed while the bytes were erased or written.
    """
    return all((there ^ blank) & ~(byte ^ blank) == 0 for byte, there in zip(kept.data, found, strict=True))
