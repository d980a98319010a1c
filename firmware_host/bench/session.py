"""The bench: a proven release meets a board.

The chain was asked and the image proven (checks 1 to 5) before the port is opened. Then the board says what it is
and what it holds (checks 6 to 9), is flashed, and what its flash holds is compared with the chain's record (10).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blockota.errors import BoardError, VerificationError
from blockota.formats.firmware_image import FirmwareImage
from blockota.model.facts import BoardAnswer, Consent, InterruptedRun, KnownReleases
from blockota.model.release import Region, Release, Status
from blockota.model.verification import Passed, ProvenRelease, prove_board, prove_flash
from firmware_host.bootloader.chips import Chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.contents import FlashContents, ReadBack
from firmware_host.flashing.digest_stub import DigestStub
from firmware_host.flashing.events import Event, Finished
from firmware_host.flashing.flasher import carry_out
from firmware_host.flashing.installed import Holdings, holdings
from firmware_host.flashing.journal import FlashJournal, JournaledRun, JournalEntry
from firmware_host.flashing.on_chip import WORTH, OnChip, Proof
from firmware_host.flashing.plan import FlashPlan, plan
from firmware_host.flashing.put_back import PutBack, put_back

_NOTHING = PutBack()


@dataclass(frozen=True)
class Bench:
    """One board, connected and identified.

    Attributes:
        bootloader: speaks to it.
        identity: what it said of itself.
        notes: what the link had to do differently, for the person to know.
        wait: lets seconds pass.
        may_erase_all: whether the person said that the chip holds nothing beyond the flash that it reports.
    """

    bootloader: Bootloader
    identity: BoardIdentity
    notes: tuple[str, ...]
    wait: Callable[[float], None] = time.sleep
    may_erase_all: bool = False

    def look(
        self,
        proven: ProvenRelease,
        *,
        known: KnownReleases,
        journal: FlashJournal | None = None,
        proof: Proof = Proof.STUB,
    ) -> BoardLook:
        """Find out what the board holds where a release is to go; nothing is changed.

        Args:
            proven: a release that passed checks 1 to 5.
            known: the releases that the board may hold, of the chain's record.
            journal: of this board; an interrupted run that it tells of is gone on with.
            proof: how the flash is looked at and proven; where the chip is not known to run the program that
                hashes it, it is read back whatever is said here.

        Raises:
            VerificationError: number 7, no table has the chip.
            RefusedError: the journal cannot be read.
            BoardError: the board fell silent.
        """
        contents: FlashContents = ReadBack(self.bootloader)
        entry = journal.entry() if journal else None
        held: Holdings | None = None
        if self._is_readable(proven.release):
            contents = self._contents(self.plan(proven), proof)
            with _nothing_changed():
                held = holdings(self.plan(proven), contents, known=_with(proven.release, known), entry=entry)
        return BoardLook(self, proven, contents, held=held, entry=entry, journal=journal, known=known)

    def prove(
        self,
        proven: ProvenRelease,
        consent: Consent,
        *,
        known: KnownReleases,
        journal: FlashJournal | None = None,
        proof: Proof = Proof.STUB,
    ) -> ClearedBoard:
        """Look, and make the checks 6 to 9; nothing is changed.

        Args:
            proven: as for `look`.
            consent: what the person agreed to.
            known: as for `look`.
            journal: as for `look`.
            proof: as for `look`.

        Raises:
            VerificationError: with the number of the first check that failed.
            RefusedError: the journal cannot be read, or keeps bytes that this release would leave nowhere.
            BoardError: the board fell silent.
        """
        return self.look(proven, known=known, journal=journal, proof=proof).prove(consent)

    def plan(self, proven: ProvenRelease) -> FlashPlan:
        """How a release goes into this board's flash.

        Raises:
            ImageError: it does not lie within the flash.
        """
        chip, flash_size = self._known()
        image = FirmwareImage(proven.image, proven.release.load_address, "bin")
        return plan(chip, image, flash_size=flash_size, may_erase_all=self.may_erase_all)

    def _contents(self, planned: FlashPlan, proof: Proof) -> FlashContents:
        chip, flash_size = self._known()
        # A short flash is read in the time that the program takes to get into the RAM.
        if not chip.stub_clock_hz or proof is Proof.NO_STUB or len(planned.span) <= WORTH:
            return ReadBack(self.bootloader)
        stub = DigestStub(self.bootloader, chip, flash_size=flash_size, wait=self.wait)
        return OnChip(self.bootloader, stub, plan=planned, proof=proof)

    def _is_readable(self, release: Release) -> bool:
        """Whether check 7 and 8 will not refuse the board before what it holds could count."""
        identity = self.identity
        if identity.product_id != release.chip_id or identity.readout_protected:
            return False
        if identity.chip is None:
            raise _unknown_chip(identity)
        return self._flash().contains(release.region)

    def answer(
        self, held: Holdings, *, lost: tuple[range, ...] = (), interrupted: InterruptedRun | None = None
    ) -> BoardAnswer:
        """What the board said, for the checks 6 to 9.

        Args:
            held: what it holds.
            lost: addresses beside half an image that are erased, and of which no journal tells.
            interrupted: what its journal says.
        """
        identity = self.identity
        return BoardAnswer(
            chip_id=identity.product_id,
            flash=self._flash(),
            ram=_region(identity.chip.ram if identity.chip else range(0)),
            readout_protected=bool(identity.readout_protected),
            write_protected=_regions(identity.write_protected),
            installed=held.release.version if held.release else None,
            other=held.other,
            holds_unknown=held.unknown,
            half_written=held.half_written,
            lost=tuple(map(_region, lost)),
            interrupted=interrupted,
        )

    def _flash(self) -> Region:
        """The board's flash; where it does not tell its size, what the largest of its family has."""
        chip, flash_size = self.identity.chip, self.identity.flash_size
        return _region(chip.flash(flash_size or chip.flash_limit) if chip else range(0))

    def _known(self) -> tuple[Chip, int]:
        if self.identity.chip is None or self.identity.flash_size is None:
            raise AssertionError("a board that was not identified cannot be flashed")
        return self.identity.chip, self.identity.flash_size


@dataclass(frozen=True)
class BoardLook:
    """What a board holds where one release is to go.

    Attributes:
        bench: the board.
        proven: the release.
        contents: of its flash, as far as it was looked at.
        held: what that is; None where the board is none that the release can be for.
        entry: the run of it that was interrupted, if one is written down.
        journal: of the board; None keeps none.
        known: the releases that it may hold.
    """

    bench: Bench
    proven: ProvenRelease
    contents: FlashContents
    held: Holdings | None
    entry: JournalEntry | None
    journal: FlashJournal | None
    known: KnownReleases

    def prove(self, consent: Consent) -> ClearedBoard:
        """Checks 6 to 9.

        Args:
            consent: what the person agreed to.

        Raises:
            VerificationError: with the number of the first check that failed.
            RefusedError: the journal keeps bytes that this release would leave nowhere.
            BoardError: the board fell silent.
        """
        held = self.held or Holdings()
        answer = self.bench.answer(held, lost=self._lost(held), interrupted=self._interrupted(held))
        passed = tuple(prove_board(self.proven, answer, consent=consent))
        back = PutBack() if held.release or held.other or held.unknown else self._put_back()
        run = JournaledRun(self.journal, self.proven.release, answer.replaced) if self.journal else None
        return ClearedBoard(self.bench, self.proven, passed, self.contents, back=back, run=run)

    def _interrupted(self, held: Holdings) -> InterruptedRun | None:
        entry = self.entry
        if entry is None or entry.product != self.proven.release.product or held.release or held.other or held.unknown:
            return None
        revoked = {one.version for one in self.known.own if one.status is Status.REVOKED}
        return InterruptedRun(entry.version, entry.replaced, entry.version in revoked)

    def _lost(self, held: Holdings) -> tuple[range, ...]:
        """Where a run that was begun elsewhere has erased bytes that only the journal there can have."""
        if self.entry or not held.half_written:
            return ()
        planned = self.bench.plan(self.proven)
        blank = bytes((planned.chip.erased_byte,))
        with _nothing_changed():
            return tuple(span for span in planned.beside if not self.contents.read(span).strip(blank))

    def _put_back(self) -> PutBack:
        # A whole image needs none of it: the bytes beside were proven before its first words were written.
        if self.entry is None:
            return PutBack()
        with _nothing_changed():
            return put_back(self.bench.plan(self.proven), self.entry, bootloader=self.bench.bootloader)


@dataclass(frozen=True)
class ClearedBoard:
    """A board that passed checks 6 to 9 for one release; only `Bench.prove` makes one.

    Attributes:
        bench: the board.
        proven: the release that may be written to it.
        passed: the checks, in order.
        contents: what its flash holds, as far as it was looked at.
        back: bytes beside the image that an interrupted run erased.
        run: writes the board's journal; None keeps none.
    """

    bench: Bench
    proven: ProvenRelease
    passed: tuple[Passed, ...]
    contents: FlashContents
    back: PutBack = _NOTHING
    run: JournaledRun | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the person should know of how the flash was looked at; more may come while it is flashed."""
        return (*self.back.notes, *self.contents.notes)

    def flash(self) -> Generator[Event]:
        """Erase and write what has to change, and prove the whole image.

        Yields:
            What was done; `Finished` comes last.

        Raises:
            RefusedError: the journal cannot be written; nothing was changed.
            BoardError: the board or its link failed; the error says in what state the flash is.
        """
        planned = self.bench.plan(self.proven)
        yield from carry_out(
            planned, self.bench.bootloader, contents=self.contents, journal=self.run, kept=self.back.kept
        )

    def prove_flash(self, finished: Finished) -> Passed:
        """Check 10: compare what the flash holds with the chain's record.

        Raises:
            FlashProofError: it is something else.
        """
        return prove_flash(self.proven.release, finished.sha256, method=finished.method)


def _with(release: Release, known: KnownReleases) -> KnownReleases:
    """The same, the wanted release among them in any case."""
    return KnownReleases((release, *known.own), known.others)


@contextmanager
def _nothing_changed() -> Iterator[None]:
    try:
        yield
    except BoardError as error:
        raise type(error)(error.what, why=f"{error.why}; nothing was changed", remedy=error.remedy) from error


def _unknown_chip(identity: BoardIdentity) -> VerificationError:
    return VerificationError(
        7,
        "this program does not know the board's chip",
        why=f"its product id 0x{identity.product_id:03x} is the release's, but no table here has its flash and RAM",
        remedy="update BlockOTA, or ask the vendor how to flash this board",
    )


def _regions(spans: tuple[range, ...] | None) -> tuple[Region, ...] | None:
    return None if spans is None else tuple(map(_region, spans))


def _region(span: range) -> Region:
    return Region(span.start, len(span))
