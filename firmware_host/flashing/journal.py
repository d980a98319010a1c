"""The journal of a flashing run.

The journal is written before the first page is erased, and removed when the flash is proven. Each board has one
journal, ``<folder>/<unique id>.json``. The journal does not record the progress of the run, because the flash shows the
progress more reliably. The journal records facts that the flash no longer shows:

- the release that is being written;
- the checksums of each page before and after the run, which identify old and new pages in a half written flash;
- the bytes beside the image in the pages to erase, because the journal has their only copy;
- after a failed check 10, the wrong bytes that were found in the flash beside the image.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from blockota import strict_json
from blockota.errors import Action, BlockOTAError, RefusedError
from blockota.files import read_input, write_durable
from blockota.model.release import Release, Version
from firmware_host.bootloader.an3155 import MAX_BLOCK, SYNC
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.bootloader.client import FEED, Bootloader
from firmware_host.flashing.contents import read_twice
from firmware_host.flashing.plan import FlashPlan, Preserved, chunks, common

_FORMAT = "blockota-flash-journal-1"
_MAX_FILE_SIZE = 1 << 23
_MODE = 0o600
_FED = bytes({SYNC, *FEED})
_SHIFTED = 8
"""The number of shifted bytes after which a frame counts as changed on the line."""


@dataclass(frozen=True)
class UnitChange:
    """The CRC-32 of one page or sector before and after a run.

    `before` is None if the contents before the run are unknown.
    """

    address: int
    size: int
    before: int | None
    wanted: int

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> UnitChange:
        """Decode the change of one unit; a wrong field raises KeyError, TypeError or ValueError."""
        address, size, wanted = (strict_json.integer(fields, name) for name in ("address", "size", "wanted"))
        before = None if fields["before"] is None else strict_json.integer(fields, "before")
        return cls(address, size, before, wanted)


@dataclass(frozen=True)
class FoundUnit:
    """The CRC-32 of the current contents of one page or sector, and whether the page or sector is erased."""

    unit: EraseUnit
    checksum: int
    is_blank: bool


@dataclass(frozen=True)
class Changes:
    """The changes that a run will make to the flash.

    Attributes:
        at_once: whether the run uses a mass erase. An interrupted mass erase can leave any contents in every page.
        damaged: the bytes that a failed proof found at the addresses of the preserved bytes.
        sample: the first bytes at the image's addresses before the run, if the image has only one page; None if it has
            more pages.
    """

    units: tuple[UnitChange, ...]
    at_once: bool
    preserved: tuple[Preserved, ...]
    damaged: tuple[Preserved, ...] = ()
    sample: Preserved | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of the journal entry that describe the changes."""
        return {
            "atOnce": self.at_once,
            "units": [vars(unit) for unit in self.units],
            "preserved": [_preserved_fields(one) for one in self.preserved],
            "damaged": [_preserved_fields(one) for one in self.damaged],
            "sample": _preserved_fields(self.sample) if self.sample else None,
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Changes:
        """Decode the changes; a wrong field raises KeyError, TypeError or ValueError."""
        return cls(
            units=tuple(UnitChange.from_fields(one) for one in strict_json.mappings(fields, "units")),
            at_once=strict_json.boolean(fields, "atOnce"),
            preserved=tuple(_preserved(one) for one in strict_json.mappings(fields, "preserved")),
            # Journals of earlier versions lack these fields.
            damaged=tuple(_preserved(one) for one in strict_json.mappings({"damaged": []} | fields, "damaged")),
            sample=_preserved(fields["sample"]) if fields.get("sample") else None,
        )


@dataclass(frozen=True)
class JournalEntry:
    """A run that was interrupted before its flash was proven.

    `started` is the start of the run, in Unix seconds. `replaced` is the version of the product that was installed
    before the run; None if this version is unknown, or if the product was not installed.
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
        """Whether an interruption of this run can have left the flash in its current state.

        If the image's first words are erased, each page must be blank, or have its old or new contents. One page may
        have other contents, because power may have failed during its erase or write. After an interrupted mass erase,
        the first page must be blank, and all other pages may have any contents.

        If the first words are not erased (`is_sealed`), the interruption happened at the first page, which is erased
        first and written last. The other pages must therefore have only old contents, or only new contents. If all
        other pages are blank, the first page must also have its old or new contents. Without this rule, any program in
        the first page would match.
        """
        changes = {change.address: change for change in self.changes.units}
        if not self.changes.units or self.changes.units[0].address != units[0].unit.address:
            return False
        pairs = [(changes.get(one.unit.address), one) for one in units]
        if is_sealed:
            return _is_first_unit_only(pairs)

        # Seal erased: at most one unit is in none of the three states, unless a mass erase was interrupted.
        odd = [one for change, one in pairs if not (one.is_blank or _is_before(change, one) or _is_after(change, one))]
        if any(one.unit.address not in changes for one in odd):
            return False
        return len(odd) <= 1 or (self.changes.at_once and units[0].is_blank)

    def explains_only_unit(self, read: Callable[[range], bytes], *, wanted: bytes, blank: int) -> bool:
        """Whether an interrupted erase of the image's only page can have left the current contents of this page.

        An erase can only change programmed bits to erased bits, which have the value in `blank`. Every programmed bit
        of a half erased page must therefore also be programmed in the old contents. The old contents are the journal's
        sample, or the release's own bytes, `wanted`. The caller passes empty `wanted` if another image is to be
        flashed. A page that equals the sample or `wanted` is not accepted, because another program can have the same
        vector table.
        """
        sample = self.changes.sample
        if sample is None:
            return False
        found = read(sample.span)
        states = (sample, replace(sample, data=wanted)) if wanted else (sample,)
        return any(found != state.data and is_erased(state, found, blank=blank) for state in states)

    @property
    def fields(self) -> dict[str, Any]:
        """The entry as JSON."""
        entry = {
            "format": _FORMAT,
            "uniqueId": self.unique_id,
            "product": self.product,
            "version": str(self.version),
            "sha256": self.sha256.hex(),
            "operator": self.operator,
            "started": self.started,
            "replaced": str(self.replaced) if self.replaced else None,
        }
        return entry | self.changes.as_fields()

    @classmethod
    def from_fields(cls, fields: dict[str, Any], unique_id: str) -> JournalEntry:
        """Decode a board's journal entry.

        A wrong field raises KeyError, TypeError, ValueError or BlockOTAError.
        """
        if fields["uniqueId"] != unique_id:
            raise ValueError(f"uniqueId is {fields['uniqueId']!r:.40}, but the file name has another board's id")
        replaced = fields.get("replaced")

        return cls(
            unique_id=unique_id,
            product=strict_json.text(fields, "product"),
            version=Version.parse(strict_json.text(fields, "version")),
            sha256=strict_json.digest(fields, "sha256", prefix=""),
            operator=strict_json.text(fields, "operator"),
            started=strict_json.integer(fields, "started"),
            replaced=None if replaced is None else Version.parse(strict_json.text(fields, "replaced")),
            changes=Changes.from_fields(fields),
        )


@dataclass(frozen=True)
class FlashJournal:
    """The journal of one board, in a folder that is created when needed."""

    folder: Path
    unique_id: str
    operator: str = ""
    now: Callable[[], float] = time.time

    @property
    def path(self) -> Path:
        """The path of the board's journal."""
        return self.folder / f"{self.unique_id}.json"

    def entry(self) -> JournalEntry | None:
        """Read the interrupted run of this board; None if the board has no journal.

        An unreadable journal raises RefusedError.
        """
        if not self.path.exists():
            return None

        try:
            fields = strict_json.load(read_input(self.path, limit=_MAX_FILE_SIZE), form=_FORMAT)
            return JournalEntry.from_fields(fields, self.unique_id)
        except (KeyError, TypeError, ValueError, BlockOTAError) as error:
            raise RefusedError(
                f"the journal {self.path} cannot be read, so the board's interrupted run is unknown",
                why=strict_json.fault(error),
                remedy="move the journal away, and allow replacing the board's contents, which then count as unknown",
                action=Action.REPLACE_UNKNOWN,
            ) from error


@dataclass(frozen=True)
class JournaledRun:
    """One flashing of a release, recorded in the board's journal.

    `replaced` has the same meaning as in `JournalEntry`.
    """

    journal: FlashJournal
    release: Release
    replaced: Version | None = None

    def start(self, changes: Changes) -> None:
        """Write the journal durably in place of an earlier journal.

        After a RefusedError, the caller must not erase anything.
        """
        journal, release, units, sample = self.journal, self.release, changes.units, changes.sample
        if any(unit.before is None for unit in units):
            # A second attempt takes the contents before the first attempt from the journal of the first attempt.
            earlier = journal.entry()
            known: tuple[UnitChange, ...] = ()
            if earlier and earlier.sha256 == release.sha256:
                known, sample = earlier.changes.units, sample or earlier.changes.sample
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
            changes=replace(changes, units=units, sample=sample),
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
        # A journal that cannot be removed is harmless: the next run finds the complete release first.
        with contextlib.suppress(OSError):
            self.journal.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Restore:
    """The bytes that a run writes back.

    `notes` has a sentence for the operator about each range of bytes that the journal has, but that the run does not
    write.
    """

    kept: tuple[Preserved, ...] = ()
    notes: tuple[str, ...] = ()


def boards(folder: Path) -> list[str]:
    """Return the unique ids of all boards with a journal in a folder, from the file names."""
    return sorted(path.stem for path in folder.glob("*.json"))


def restore(plan: FlashPlan, entry: JournalEntry, *, bootloader: Bootloader) -> Restore:
    """Find the bytes in the journal that this run must write back to the flash.

    The function only reads the flash. Bytes are written back if the flash at their addresses is still partly or
    completely erased. Bytes are also written back if noise corrupted the frame that wrote one of their blocks, or if an
    earlier proof of these bytes failed. In all other cases, the flash has newer bytes, which are kept.

    Raises:
        RefusedError: some of the bytes to write back lie outside the pages of the plan.
    """
    blank = plan.chip.erased_byte
    kept: list[Preserved] = []
    notes: list[str] = []
    for one in entry.changes.preserved:
        if plan.chip.is_blank(one.data):
            continue

        found = Preserved(one.address, read_twice(bootloader, one.span))
        if not (_is_unfinished(one, found.data, blank=blank) or found in entry.changes.damaged):
            notes.append(
                f"The journal's bytes from {one.span.start:#010x} to {one.span.stop:#010x} are not restored, "
                "because the flash has newer bytes at these addresses."
            )
            continue

        if common(one.span, plan.span) != one.span:
            raise RefusedError(
                f"the flashing of {entry.product} {entry.version} was interrupted on this board, and its journal has "
                "bytes to restore",
                why=f"the bytes from {one.span.start:#010x} to {one.span.stop:#010x} are only in the journal, and lie "
                "outside this release's pages; nothing was changed",
                remedy="complete the interrupted run first; if its release may not be written any more, move the "
                f"journal {entry.unique_id}.json away, and keep it as the only copy of these bytes",
                action=Action.RESUME_FLASH,
            )
        kept.append(one)
    return Restore(tuple(kept), tuple(notes))


def _is_before(change: UnitChange | None, found: FoundUnit) -> bool:
    return change is not None and (change.size, change.before) == (found.unit.size, found.checksum)


def _is_after(change: UnitChange | None, found: FoundUnit) -> bool:
    return change is not None and (change.size, change.wanted) == (found.unit.size, found.checksum)


def _is_first_unit_only(pairs: Sequence[tuple[UnitChange | None, FoundUnit]]) -> bool:
    """Whether all units after the first have their old contents, or all of them have their new contents.

    If all units after the first are blank, the first unit must also have its old or new contents.
    """
    first, *others = pairs
    identifies = not all(found.is_blank for _, found in others)
    return any(
        all(is_state(*pair) for pair in others) and (identifies or is_state(*first))
        for is_state in (_is_before, _is_after)
    )


def _preserved_fields(preserved: Preserved) -> dict[str, Any]:
    return {"address": preserved.address, "data": preserved.data.hex()}


def _preserved(fields: dict[str, Any]) -> Preserved:
    address = strict_json.integer(fields, "address")
    try:
        return Preserved(address, strict_json.hexadecimal(fields, "data", prefix=""))
    except ValueError:
        # The value consists of contents of the flash, which an error does not print.
        raise ValueError(f"data of the bytes at {address:#010x} is not hex text") from None


def _is_unfinished(kept: Preserved, found: bytes, *, blank: int) -> bool:
    """Whether `found` can be the result of an interrupted attempt to write the bytes `kept`."""
    odd = []
    for block in chunks(range(kept.address - kept.address % MAX_BLOCK, kept.span.stop)):
        part = common(block, kept.span)
        whole, there = (data[part.start - kept.address :][: len(part)] for data in (kept.data, found))
        if not is_erased(Preserved(part.start, whole), there, blank=blank):
            odd.append((whole, there))
    return not odd or (len(odd) == 1 and _is_damaged(*odd[0], blank=blank))


def _is_damaged(whole: bytes, found: bytes, *, blank: int) -> bool:
    """Whether a block was written from a frame that noise corrupted, but whose checksum was valid by chance.

    If noise adds or removes a byte of the frame, the rest of the block has the original bytes, shifted by one place.
    The rest can also have the bytes `FEED`, with which the client ends an interrupted frame.
    """
    first = next(at for at, (byte, there) in enumerate(zip(whole, found, strict=True)) if byte != there)
    rest = found[first:]
    if not rest.strip(_FED):
        return True
    later, earlier = whole[first:-1], whole[first + 1 :]
    for there, sent in ((rest[1:], later), (rest, earlier)):
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(there, sent, strict=False)))
        # The frame's checksum can follow as one more byte; what the frame did not reach is erased.
        if same >= _SHIFTED and not there[same + 1 :].strip(bytes((blank,))):
            return True
    return False


def is_erased(kept: Preserved, found: bytes, *, blank: int) -> bool:
    """Whether the flash is erased or partly written: every programmed bit is also programmed in the bytes `kept`."""
    return all((there ^ blank) & ~(byte ^ blank) == 0 for byte, there in zip(kept.data, found, strict=True))
