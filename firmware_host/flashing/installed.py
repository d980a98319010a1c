"""What a board holds where a release is to go: a release, nothing, half of something, or nobody knows what."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from blockota.model.facts import KnownReleases
from blockota.model.release import Release
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.flashing.contents import FlashContents
from firmware_host.flashing.journal import FoundUnit, JournalEntry
from firmware_host.flashing.memory import wanted_memory
from firmware_host.flashing.plan import FlashPlan, common, overlap

Digests = Callable[[int, Sequence[int]], Sequence[bytes]]
"""Given an address and lengths in bytes, tells the SHA-256 of what a flash holds from there on, one a length."""
BATCH = 8
"""Sizes of images that are looked for at once: as many as a board hashes in one run."""


@dataclass(frozen=True)
class Holdings:
    """What the addresses of a release hold; where all is as it begins, they are blank.

    Attributes:
        release: a whole release of its product.
        other: a whole release of another product.
        half_written: what an interrupted run leaves.
        unknown: none of these, and not blank.
    """

    release: Release | None = None
    other: Release | None = None
    half_written: bool = False
    unknown: bool = False

    def __str__(self) -> str:
        """``1.0.0``, ``acme-other 1.0.0``, ``half written``, ``unknown`` or ``blank``."""
        if self.release:
            return str(self.release.version)
        if self.other:
            return f"{self.other.product} {self.other.version}"
        return "half written" if self.half_written else "unknown" if self.unknown else "blank"


def holdings(
    plan: FlashPlan, contents: FlashContents, *, known: KnownReleases, entry: JournalEntry | None = None
) -> Holdings:
    """Find out what a board holds where an image is to go; as little of it is looked at as tells.

    Args:
        plan: where the image goes.
        contents: of the board's flash.
        known: the releases that it may hold.
        entry: the board's run that was interrupted, if one is written down.

    Raises:
        BoardError: the board fell silent, or refused.
    """
    flash = plan.chip.flash(plan.flash_size)
    own, start = _within(flash, known.own), plan.image.load_address
    first = {release.size for some in islice(batches(own), 1) for release in some if release.load_address == start}
    contents.expect(start, sorted(first))
    look = _Look(plan, contents)
    if look.is_blank():
        return Holdings()
    if held := held_release(own, digests=contents.sha256):
        return Holdings(release=held)
    if look.is_half_written():
        return Holdings(half_written=True)
    there = (one for one in _within(flash, known.others()) if overlap(_span(one), plan.image.span))
    if other := held_release(there, digests=contents.sha256):
        return Holdings(other=other)
    # A journal can be old: what is a release by its digest is one, whatever was being done to the board once.
    is_explained = entry is not None and look.is_explained(entry)
    return Holdings(half_written=is_explained, unknown=not is_explained)


class _Look:
    """Looks at the units of a plan, by their checksums first."""

    def __init__(self, plan: FlashPlan, contents: FlashContents) -> None:
        self._plan, self._contents = plan, contents
        self._wanted = wanted_memory(plan)

    def is_blank(self) -> bool:
        """Whether nothing of the image's addresses holds anything."""
        return all(self._sum(unit) == self._blank(unit.size) or self._reads_blank(unit) for unit in self._plan.units)

    def is_half_written(self) -> bool:
        """Whether the first words are erased, and each other byte of the image's addresses is erased or the image's.

        That is what a run leaves that was interrupted after it had erased what it wanted to.
        """
        return all(self._is_part(unit) for unit in self._plan.units)

    def is_explained(self, entry: JournalEntry) -> bool:
        """Whether the board's journal explains what is there, or only the first words are wrong of its release."""
        units = [
            FoundUnit(unit, found := self._sum(unit), found == self._blank(unit.size)) for unit in self._plan.units
        ]
        is_sealed = bool(set(self._contents.read(self._plan.seal)) - {self._plan.chip.erased_byte})
        if entry.explains(units, is_sealed=is_sealed):
            return True
        body = [part for unit in self._plan.units for whole in self._plan.body if (part := common(unit.span, whole))]
        is_same = entry.sha256 == hashlib.sha256(self._plan.image.data).digest()
        return is_same and bool(body) and all(self._contents.read(part) == self._wanted[part] for part in body)

    def _sum(self, unit: EraseUnit) -> int:
        return self._contents.checksum(unit)

    def _blank(self, size: int) -> int:
        return zlib.crc32(bytes((self._plan.chip.erased_byte,)) * size)

    def _reads_blank(self, unit: EraseUnit) -> bool:
        # A unit that is the image's whole would be blank as a whole.
        part = common(unit.span, self._plan.image.span)
        return len(part) < unit.size and set(self._contents.read(part)) <= {self._plan.chip.erased_byte}

    def _is_part(self, unit: EraseUnit) -> bool:
        holds_seal = overlap(unit.span, self._plan.seal)
        if not holds_seal and self._sum(unit) in (self._blank(unit.size), self._wanted.checksum(unit.span)):
            return True
        part, blank = common(unit.span, self._plan.image.span), self._plan.chip.erased_byte
        rows = zip(part, self._contents.read(part), self._wanted[part], strict=True)
        return all(there == blank or (there == its and address not in self._plan.seal) for address, there, its in rows)


def _within(flash: range, releases: Iterable[Release]) -> list[Release]:
    return [one for one in releases if one.load_address in flash and _span(one).stop <= flash.stop]


def _span(release: Release) -> range:
    return range(release.load_address, release.load_address + release.size)


def held_release(releases: Iterable[Release], *, digests: Digests) -> Release | None:
    """Which of some releases a flash holds.

    The newest are looked for first, a few at a time, so that a board with one of them has to answer once.

    Args:
        releases: of one product, or of many.
        digests: of the flash.

    Returns:
        The one with the greatest version whose image is what the flash holds; None where none is.
    """
    for some in batches(releases):
        found = dict(_digests(some, digests))
        for release in some:
            if found[release.load_address, release.size] == release.sha256:
                return release
    return None


def batches(releases: Iterable[Release]) -> Iterator[list[Release]]:
    """Releases in groups of at most `BATCH` different sizes, the newest first."""
    some: list[Release] = []
    for release in sorted(releases, key=lambda release: release.version, reverse=True):
        if len({one.size for one in (*some, release)}) > BATCH:
            yield some
            some = []
        some.append(release)
    if some:
        yield some


def _digests(releases: Sequence[Release], digests: Digests) -> Iterator[tuple[tuple[int, int], bytes]]:
    """⟨address, length⟩ and digest; each is asked for once, and those of one address together."""
    for start in {release.load_address: None for release in releases}:
        lengths = sorted({release.size for release in releases if release.load_address == start})
        yield from zip(((start, length) for length in lengths), digests(start, lengths), strict=True)
