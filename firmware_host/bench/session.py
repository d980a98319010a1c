"""Examine one board, run checks 6 to 9, flash the board, and prove its flash (check 10).

The checks (numbered as in `blockota.model.verification`):

- Checks 1 to 5: `bench.offers.Offers.offer` proves the release and its image against the chain.
- Checks 6 to 9: `BoardSession.examine` reads the board's flash, and `Examination.clear` decides whether the release may
  replace the installed release. The flash is not changed before checks 6 to 9 have passed.
- Check 10: `ClearedBoard.flash` writes the image, and `ClearedBoard.prove_flash` compares the flash with the chain's
  record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blockota.errors import BoardError, VerificationError
from blockota.formats.firmware_image import FirmwareImage
from blockota.model.facts import BoardAnswer, Consent, InterruptedRun, KnownReleases, Passed, ProvenRelease
from blockota.model.release import Region, Release, Status
from blockota.model.verification import prove_board, prove_flash
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.contents import WORTH, FlashContents, OnChip, Proof
from firmware_host.flashing.digest_stub import DigestStub
from firmware_host.flashing.erasure import flash_of
from firmware_host.flashing.flasher import carry_out
from firmware_host.flashing.installed import Installed, find_installed, find_releases, is_blank
from firmware_host.flashing.journal import FlashJournal, JournaledRun, JournalEntry, Restore, restore
from firmware_host.flashing.plan import Event, Finished, FlashPlan, plan


@dataclass(frozen=True)
class FlashFindings:
    """The flash region of a vendor's releases, the releases found there, and whether it is erased."""

    region: Region
    releases: tuple[Release, ...]
    is_blank: bool


@dataclass(frozen=True)
class BoardSession:
    """One board that is connected and identified.

    `notes` describe for the operator how the port was opened.
    """

    bootloader: Bootloader
    identity: BoardIdentity
    notes: tuple[str, ...]
    wait: Callable[[float], None] = time.sleep
    may_erase_all: bool = False

    def examine(
        self,
        proven: ProvenRelease,
        *,
        known: KnownReleases,
        journal: FlashJournal | None = None,
        proof: Proof = Proof.STUB,
    ) -> Examination:
        """Determine what is installed at the addresses of a release, without changing the flash.

        Raises:
            RefusedError: the chip is not supported (check 7), or the journal cannot be read.
        """
        contents = FlashContents(self.bootloader)
        entry = journal.entry() if journal else None
        installed: Installed | None = None
        if self._is_readable(proven.release):
            planned = self.plan(proven.image, proven.release.load_address)
            contents = self.contents(planned, proof=proof)
            # The release to be written is a candidate even if it is missing in the list of known releases.
            candidates = KnownReleases((proven.release, *known.own), known.others)
            with nothing_changed():
                installed = find_installed(planned, contents, known=candidates, entry=entry)
                if installed.unknown:
                    # Noise may have corrupted an answer: read once more before the contents count as unknown.
                    contents.changed()
                    installed = find_installed(planned, contents, known=candidates, entry=entry)
        return Examination(self, proven, contents, installed=installed, entry=entry, journal=journal, known=known)

    def search(self, known: Iterable[Release]) -> FlashFindings | None:
        """Search for releases in the board's flash without changing it.

        Returns None if no release fits on this board. `known` has the releases on the chain. Releases that do not fit
        the board's chip or flash size are ignored.
        """
        flash = self._flash()
        releases = [one for one in known if one.chip_id == self.identity.product_id and flash.contains(one.region)]
        if not releases:
            return None

        # An image as long as all places of releases together: its plan names the pages to read.
        start, end = min(one.region.start for one in releases), max(one.region.end for one in releases)
        planned = self.plan(bytes(end - start), start)
        contents = self.contents(planned, proof=Proof.STUB)
        found = find_releases(releases, sha256=contents.sha256)
        return FlashFindings(Region(start, end - start), found, is_blank=not found and is_blank(planned, contents))

    def contents(self, planned: FlashPlan, *, proof: Proof) -> FlashContents:
        """Return a reader of the flash, which hashes on the chip if the chip and `proof` allow it."""
        # Reading a short image takes no longer than writing the digest program to RAM.
        stub = DigestStub(self.bootloader, planned.chip, flash_size=planned.flash_size, wait=self.wait)
        if stub.page_limit < 1 or proof is Proof.NO_STUB or len(planned.span) <= WORTH:
            return FlashContents(self.bootloader)
        return OnChip(self.bootloader, stub, plan=planned, proof=proof)

    def plan(self, data: bytes, address: int) -> FlashPlan:
        """Plan which pages of this board's flash an image at an address occupies; see `flashing.plan.plan`."""
        chip, flash_size = flash_of(self.identity)
        return plan(chip, FirmwareImage(data, address, "bin"), flash_size=flash_size, may_erase_all=self.may_erase_all)

    def answer(
        self, installed: Installed, *, lost: tuple[range, ...] = (), interrupted: InterruptedRun | None = None
    ) -> BoardAnswer:
        """Return the facts about the board that checks 6 to 9 need.

        `Examination.clear` calls this method with the results of the examination.
        """
        identity, release = self.identity, installed.release
        ram = identity.chip.ram if identity.chip else ()
        protected = identity.write_protected
        write_protected = None if protected is None else tuple(map(_region, protected))

        return BoardAnswer(
            chip_id=identity.product_id,
            flash=self._flash(),
            ram=tuple(map(_region, ram)),
            readout_protected=bool(identity.readout_protected),
            write_protected=write_protected,
            installed=release.version if release else None,
            other=installed.other,
            holds_unknown=installed.unknown,
            half_written=installed.half_written,
            lost=tuple(map(_region, lost)),
            interrupted=interrupted,
            is_revoked=release is not None and release.status is Status.REVOKED,
        )

    def _is_readable(self, release: Release) -> bool:
        """Whether the flash can be examined. Check 7 or 8 refuses a board whose flash cannot be examined."""
        identity = self.identity
        if identity.product_id != release.chip_id or identity.readout_protected:
            return False

        if identity.chip is None:
            raise VerificationError(
                7,
                "the board's chip is not supported",
                why=f"its product id 0x{identity.product_id:03x} matches the release, but the chip table does not have "
                "its memory map",
                remedy="update BlockOTA, or ask the vendor how to flash this board",
            )
        return self._flash().contains(release.region)

    def _flash(self) -> Region:
        """The region of the board's flash.

        If the board did not report its flash size, the region is that of the largest chip with the same product id.
        """
        chip, flash_size = self.identity.chip, self.identity.flash_size
        return _region(chip.flash(flash_size or chip.flash_limit) if chip else range(0))


@dataclass(frozen=True)
class Examination:
    """The result of examining a board's flash for one release, before checks 6 to 9.

    `installed` is None if the flash could not be examined. `entry` is the interrupted run in the journal; None without
    an interrupted run.
    """

    board: BoardSession
    proven: ProvenRelease
    contents: FlashContents
    installed: Installed | None
    entry: JournalEntry | None
    journal: FlashJournal | None
    known: KnownReleases

    def clear(self, consent: Consent) -> ClearedBoard:
        """Run checks 6 to 9.

        Raises:
            VerificationError: a check failed; the error has the number of the first failed check.
            RefusedError: the journal has bytes to restore outside the pages of this release.
        """
        installed, entry, release = self.installed or Installed(), self.entry, self.proven.release
        lost: tuple[range, ...] = ()
        if installed.half_written and not entry:
            # Addresses beside a half written image are blank: only a journal at another bench can have their contents.
            planned = self.board.plan(self.proven.image, release.load_address)
            with nothing_changed():
                lost = tuple(span for span in planned.beside if planned.chip.is_blank(self.contents.read(span)))
        interrupted: InterruptedRun | None = None
        if entry and installed.is_partial and entry.product == release.product:
            revoked = {one.version for one in self.known.own if one.status is Status.REVOKED}
            interrupted = InterruptedRun(
                entry.version, entry.replaced, entry.version in revoked, entry.replaced in revoked
            )
        answer = self.board.answer(installed, lost=lost, interrupted=interrupted)
        passed = tuple(prove_board(self.proven, answer, consent=consent))

        # A complete image needs no restoring: its first words were written after the bytes beside it were proven.
        back = Restore()
        if entry and installed.is_partial:
            with nothing_changed():
                planned = self.board.plan(self.proven.image, release.load_address)
                back = restore(planned, entry, bootloader=self.board.bootloader)
        run = JournaledRun(self.journal, release, answer.replaced) if self.journal else None
        return ClearedBoard(self.board, self.proven, passed, self.contents, back=back, run=run)


@dataclass(frozen=True)
class ClearedBoard:
    """A board that passed checks 6 to 9 for one release.

    Only `Examination.clear` creates instances. `back` has the bytes beside the image that an interrupted run erased.
    This run writes these bytes back. `run` records the run in a journal.
    """

    board: BoardSession
    proven: ProvenRelease
    passed: tuple[Passed, ...]
    contents: FlashContents
    back: Restore
    run: JournaledRun | None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the operator about how the flash was examined and proven.

        Flashing can add notes.
        """
        return (*self.back.notes, *self.contents.notes)

    def flash(self) -> Generator[Event]:
        """Erase and write the pages that differ, and prove the whole image, as `carry_out` describes."""
        planned = self.board.plan(self.proven.image, self.proven.release.load_address)
        bootloader = self.board.bootloader
        yield from carry_out(planned, bootloader, contents=self.contents, journal=self.run, kept=self.back.kept)

    def prove_flash(self, finished: Finished) -> Passed:
        """Check 10: compare the flash with the chain's record.

        Raises FlashProofError if the flash differs from the record.
        """
        return prove_flash(self.proven.release, finished.sha256, method=finished.method)


@contextmanager
def nothing_changed() -> Iterator[None]:
    """Add to a `BoardError` that nothing was changed on the board."""
    try:
        yield
    except BoardError as error:
        raise error.revised(why=f"{error.why}; nothing was changed") from error


def _region(span: range) -> Region:
    return Region(span.start, len(span))
