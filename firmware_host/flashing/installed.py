"""Determine what is installed at an image's addresses: a release, a half written image, unknown bytes or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from blockota.model.facts import KnownReleases
from blockota.model.release import Region, Release
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.flashing.contents import FlashContents
from firmware_host.flashing.journal import FoundUnit, JournalEntry
from firmware_host.flashing.plan import FlashPlan, common, wanted_contents

BATCH = 8
"""The number of image sizes that are compared at once. The digest program hashes the same number of lengths in one run.
"""


@dataclass(frozen=True)
class Installed:
    """The contents of the flash at the addresses of a release.

    `release` is a complete release of the product. `other` is a complete release of another product. If no attribute is
    set, the flash is blank.
    """

    release: Release | None = None
    other: Release | None = None
    half_written: bool = False
    unknown: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether the addresses are blank or half written, so that an interrupted run may be completed."""
        return not (self.release or self.other or self.unknown)

    def __str__(self) -> str:
        """The contents in words: ``1.0.0``, ``acme-other 1.0.0``, ``half written``, ``unknown`` or ``blank``."""
        if self.release:
            return str(self.release.version)
        if self.other:
            return f"{self.other.product} {self.other.version}"
        if self.half_written:
            return "half written"
        return "unknown" if self.unknown else "blank"


def find_installed(
    plan: FlashPlan, contents: FlashContents, *, known: KnownReleases, entry: JournalEntry | None = None
) -> Installed:
    """Determine the contents of the flash at the addresses of an image, and read as few bytes as possible.

    The addresses are compared with the following, in this order:

    1. only erased bytes;
    2. a release of the product;
    3. a part of the image, with erased first words;
    4. a release of another product;
    5. the result of an interrupted run that the board's journal records.

    The journal is checked last, because it can be outdated. Contents with the digest of a release count as this
    release, even if the journal records an interrupted run.
    """
    flash, start = Region(plan.chip.flash(plan.flash_size).start, plan.flash_size), plan.image.load_address
    own = [one for one in known.own if flash.contains(one.region)]
    # The run of the digest program that computes the checksums for (1) also computes the digests for (2).
    first = {release.size for some in islice(batches(own), 1) for release in some if release.load_address == start}
    contents.expect(start, sorted(first))

    if is_blank(plan, contents):  # (1)
        return Installed()
    if release := held_release(own, sha256=contents.sha256):  # (2)
        return Installed(release=release)
    if _is_half_written(plan, contents):  # (3)
        return Installed(half_written=True)
    place = Region(start, len(plan.image.data))
    others = (one for one in known.others() if flash.contains(one.region) and one.region.overlaps(place))
    if other := held_release(others, sha256=contents.sha256):  # (4)
        return Installed(other=other)
    is_explained = entry is not None and _is_explained(plan, contents, entry)  # (5)
    return Installed(half_written=is_explained, unknown=not is_explained)


def held_release(
    releases: Iterable[Release], *, sha256: Callable[[int, Sequence[int]], Sequence[bytes]]
) -> Release | None:
    """Find the newest release whose digest equals the digest of the flash.

    `sha256` has the signature of `FlashContents.sha256`. The flash is hashed in batches, which begin with the newest
    releases. For a board with a recent release, one batch is therefore sufficient.
    """
    for some in batches(releases):
        found: dict[tuple[int, int], bytes] = {}
        for start in {release.load_address for release in some}:
            lengths = sorted({release.size for release in some if release.load_address == start})
            found |= zip(((start, length) for length in lengths), sha256(start, lengths), strict=True)
        for release in some:
            if found[release.load_address, release.size] == release.sha256:
                return release
    return None


def find_releases(
    releases: Iterable[Release], *, sha256: Callable[[int, Sequence[int]], Sequence[bytes]]
) -> tuple[Release, ...]:
    """Find the releases in a flash. If several releases overlap, only the newest of these releases is returned.

    The arguments are those of `held_release`.
    """
    found: list[Release] = []
    candidates = list(releases)
    while release := held_release(candidates, sha256=sha256):
        found.append(release)
        candidates = [one for one in candidates if not one.region.overlaps(release.region)]
    return tuple(sorted(found, key=lambda one: one.load_address))


def batches(releases: Iterable[Release]) -> Iterator[list[Release]]:
    """Sort releases from new to old, and split them into groups with at most `BATCH` different image sizes."""
    some: list[Release] = []
    for release in sorted(releases, key=lambda release: release.version, reverse=True):
        if len({one.size for one in (*some, release)}) > BATCH:
            yield some
            some = []
        some.append(release)
    if some:
        yield some


def is_blank(plan: FlashPlan, contents: FlashContents) -> bool:
    """Whether the flash is erased at the addresses of the image."""
    return all(_is_unit_blank(plan, contents, unit) for unit in plan.units)


def _is_unit_blank(plan: FlashPlan, contents: FlashContents, unit: EraseUnit) -> bool:
    if contents.checksum(unit) == plan.chip.blank_checksum(unit.size):
        return True
    # If the whole unit belongs to the image, its checksum has decided the question.
    part = common(unit.span, plan.image.span)
    return len(part) < unit.size and set(contents.read(part)) <= {plan.chip.erased_byte}


def _is_half_written(plan: FlashPlan, contents: FlashContents) -> bool:
    """Whether the first words are erased, and every other byte is erased or equals the image.

    A run that is interrupted after its erases leaves the flash in this state.
    """
    wanted, blank = wanted_contents(plan), plan.chip.erased_byte
    for unit in plan.units:
        is_known = contents.checksum(unit) in (plan.chip.blank_checksum(unit.size), wanted.checksum(unit.span))
        if is_known and not common(unit.span, plan.seal):
            continue
        part = common(unit.span, plan.image.span)
        for address, there, byte in zip(part, contents.read(part), wanted[part], strict=True):
            if there != blank and (there != byte or address in plan.seal):
                return False
    return True


def _is_explained(plan: FlashPlan, contents: FlashContents, entry: JournalEntry) -> bool:
    """Whether the contents of the flash can be the result of the interrupted run in the journal."""
    units = []
    for unit in plan.units:
        found = contents.checksum(unit)
        units.append(FoundUnit(unit, found, found == plan.chip.blank_checksum(unit.size)))
    # The seal decides which of the two rules of `explains` applies.
    is_sealed = bool(set(contents.read(plan.seal)) - {plan.chip.erased_byte})
    if entry.explains(units, is_sealed=is_sealed):
        return True

    wanted, blank = wanted_contents(plan), plan.chip.erased_byte
    is_same = entry.sha256 == hashlib.sha256(plan.image.data).digest()
    sample = entry.changes.sample
    if sample and common(sample.span, plan.image.span) == sample.span:
        own = wanted[sample.span] if is_same else b""
        if entry.explains_only_unit(contents.read, wanted=own, blank=blank):
            return True

    body = [part for unit in plan.units for whole in plan.body if (part := common(unit.span, whole))]
    return is_same and bool(body) and all(contents.read(part) == wanted[part] for part in body)
