"""Flash an image by a plan, and yield events of the progress.

A bootloader acknowledges commands even if they have no effect, for example on a protected page or on worn cells
(AN3155, notes to Erase Memory and Write Memory). The whole image, including unchanged pages, is therefore proven at the
end. The checksums that are read before a run decide only which pages are written. If a checksum was wrong, the proof
fails, and the run writes every page once more.

The *seal* is the image's first words (initial stack pointer and reset vector), which are written last. A run has the
following steps. Each step states what the flash contains after a power cut in this step:

1. *Write the journal.* The old program is unchanged.
2. *Erase the page with the vector table.* This page can have any contents, and the rest of the old program is
   unchanged. The run continues only after it has read the seal back as erased.
3. *Erase and write the other pages, then the first page without the seal.*
4. *Prove the image without the seal, and the bytes beside the image.* In steps 3 and 4 the seal is erased, so the board
   does not start a program.
5. *Write the seal, and prove the seal.* The rest of the image is complete. After a power cut, the vector table is
   erased, partly written or complete. The run reads the seal back to detect a partly written vector table.
6. *Remove the journal.* The release is complete.

The seal is written only after the proof of the image, so that a power cut cannot leave an unproven program that starts.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from enum import Enum, auto

from blockota.errors import Action, BoardError, FlashProofError, RefusedError
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.bootloader.chips import FLASH_BASE, EraseUnit
from firmware_host.bootloader.client import Bootloader, CommandRefusedError
from firmware_host.bootloader.identity import AnotherBoardError, reconnect, require_same_board
from firmware_host.flashing.contents import FlashContents, read_twice
from firmware_host.flashing.erasure import EraseRefusedError, is_used, refused_erase
from firmware_host.flashing.journal import Changes, JournaledRun, UnitChange
from firmware_host.flashing.plan import (
    Checked,
    Erased,
    Event,
    Finished,
    FlashPlan,
    Preserved,
    Programmed,
    Repeated,
    Summary,
    UnitState,
    Work,
    blocks,
    common,
    wanted_contents,
    without,
    work,
)

_SHOWN = 16  # bytes of a flash, in an error
_CHANGES_UNKNOWN = UnitState(as_wanted=False, blank=False)
_WITHOUT_STUB = {
    Action.RESUME_FLASH: Action.RESUME_FLASH_WITHOUT_STUB,
    Action.REPLACE_UNKNOWN: Action.FLASH_WITHOUT_STUB,
}
"""The actions of errors, each with the same action without the digest program."""


def carry_out(
    plan: FlashPlan,
    bootloader: Bootloader,
    *,
    contents: FlashContents | None = None,
    journal: JournaledRun | None = None,
    kept: Sequence[Preserved] = (),
) -> Generator[Event]:
    """Flash an image, and prove the whole image.

    Erase units that already have their wanted contents are not changed. A KeyboardInterrupt ends the run between two
    bootloader commands, also if the caller throws it into the generator.

    Without `contents`, the proof reads the flash back. `kept` has bytes beside the image that an interrupted run
    erased. This run writes them back.

    Yields:
        The events of the run. The last event is `Finished`, after the image is proven.

    Raises:
        RefusedError: the bootloader lacks a command, or the journal cannot be written. Nothing was changed.
        FlashProofError: check 10 failed twice.
        BoardError: the board or its link failed, or the run was interrupted. The error describes the state of the
            flash.
    """
    bootloader.require_flashing()
    flashing = _Flashing(plan, bootloader, contents=contents or FlashContents(bootloader), journal=journal, kept=kept)
    try:
        yield from flashing.steps()
    except BoardError as error:
        raise flashing.described(error) from error
    except KeyboardInterrupt as error:
        raise flashing.described(BoardError("flashing was interrupted")) from error


def finish(events: Iterator[Event], progress: Callable[[Event], None]) -> Finished:
    """Consume the events of a run, and return the last event.

    `progress` receives the other events.
    """
    for event in events:
        if isinstance(event, Finished):
            return event
        progress(event)
    raise AssertionError("flashing ends with Finished")


class _RunStage(Enum):
    """The stages of a run.

    The stage determines the state of the flash after an interruption.
    """

    PLANNING = auto()
    UNSEALING = auto()
    ERASING = auto()
    WRITING = auto()
    PROVING = auto()
    SEALING = auto()
    PROVING_SEAL = auto()
    PROVEN = auto()


class _Flashing:
    """One run of a plan: the bytes to write, and the progress."""

    def __init__(
        self,
        plan: FlashPlan,
        bootloader: Bootloader,
        *,
        contents: FlashContents,
        journal: JournaledRun | None,
        kept: Sequence[Preserved],
    ) -> None:
        self._plan, self._bootloader = plan, bootloader
        self._contents, self._journal, self._kept = contents, journal, kept
        self._wanted, self._is_unsealed = wanted_contents(plan), True  # as the first words were read last
        for span in self._plan.beside:
            self._wanted.restore(self._kept, within=span)

        self._stage, self._repeated = _RunStage.PLANNING, False
        self._work, self._summary = Work((), (), plan.units, at_once=False), Summary()
        self._erased_units = 0
        self._counts_gap: bool | None = None  # whether page numbers leave a gap before the second bank; None if unknown
        self._order: list[range] = []  # blocks to write
        self._pending: list[range] = []  # blocks that are not written yet; the seal is the last
        self._read: list[range] = []  # spans beside the image that were read, to be written back
        self._damaged: tuple[Preserved, ...] = ()  # bytes found in place of the preserved ones when a proof failed

    def steps(self) -> Iterator[Event]:
        # The operator may have connected another board since the examination.
        require_same_board(self._bootloader, self._plan.chip, flash_size=self._plan.flash_size)
        image, contents = self._plan.image, self._contents
        kept = [part for one in self._kept for span in self._plan.beside if (part := common(one.span, span))]
        digest = hashlib.sha256(image.data).digest()
        is_there = contents.sha256(image.load_address, [len(image.data)]) == (digest,)

        if is_there and all(contents.read(span) == self._wanted[span] for span in kept):
            for done in self._confirmed():
                yield Checked(done, len(image.data))
            self._summary = self._summary.plus(self._work, written=0)
        else:
            first = self._compare()
            for span in self._read:
                yield from self._to_write_back(span)
            yield from self._passes(first)

        self._stage = _RunStage.PROVEN
        if self._journal:
            self._journal.end()  # (6)
        yield Finished(digest, contents.method, self._summary)

    def _confirmed(self) -> Iterator[int]:
        """Read the image back, unless a hash on the chip is sufficient or all bytes have already been read.

        If noise corrupts an answer, the image is read a second time.
        """
        contents, span = self._contents, self._plan.image.span
        if contents.method != "read-back" or (contents.has_read(span) and contents.read(span) == self._wanted[span]):
            return
        try:
            yield from contents.prove(self._wanted, [span])
        except FlashProofError:
            self._bootloader.link.drain()
            yield from contents.prove(self._wanted, [span])

    def _compare(self) -> Work:
        """Compare each erase unit with its wanted contents.

        If a unit must be erased, read its bytes beside the image.
        """
        for unit in self._plan.units:
            if self._beside([unit]) and self._contents.checksum(unit) != self._wanted.checksum(unit.span):
                self._read_beside([unit])
        states = []
        for unit in self._plan.units:
            there = self._contents.checksum(unit)
            blank = there == self._plan.chip.blank_checksum(unit.size)
            if blank and unit is self._plan.units[0]:
                # A checksum is only a hint. If the old seal were still present, an old program could start.
                blank = self._is_unsealed = self._plan.chip.is_blank(self._contents.read(self._plan.seal))
            states.append(UnitState(as_wanted=there == self._wanted.checksum(unit.span), blank=blank))
        if all(state.as_wanted for state in states):
            # The SHA-256 of the image's addresses differs, so one of the checksums is wrong.
            states = [_CHANGES_UNKNOWN] * len(states)
        planned = work(self._plan, states, is_rest_blank=self._contents.is_rest_blank)
        self._require_whole_flash(planned)
        self._read_beside(planned.write)
        # Bytes beside the image in a unit that is not written are neither lost nor written back.
        self._read = [span for span in self._read if any(common(unit.span, span) for unit in planned.write)]
        return planned

    def _require_whole_flash(self, planned: Work) -> None:
        """Refuse a mass erase if it could also erase flash that the chip does not report."""
        plan = self._plan
        if not (planned.erase and plan.chip.is_erased_whole) or plan.flash_size >= plan.chip.flash_limit:
            return

        if not (plan.may_erase_all or self._contents.is_rest_blank()):
            raise RefusedError(
                "the board was not flashed, and nothing was changed",
                why=f"{plan.chip.name} can be erased only as a whole, and it may have more flash than the "
                f"{plan.flash_size // 1024} KiB that it reports",
                remedy="confirm that the chip has no more flash",
                action=Action.CONFIRM_FLASH_SIZE,
            )

    def _read_beside(self, units: Sequence[EraseUnit]) -> None:
        for span in self._beside(units):
            if span not in self._read:
                self._wanted[span] = self._contents.read_beside(span)
                self._wanted.restore(self._kept, within=span)
                self._read.append(span)

    def _to_write_back(self, span: range) -> Iterator[Preserved]:
        """Yield the bytes of a span that must be written back, without the erased bytes at its ends."""
        data, blank = self._wanted[span], bytes((self._plan.chip.erased_byte,))
        start = span.start + len(data) - len(data.lstrip(blank))
        if kept := data.strip(blank):
            yield Preserved(start, kept)

    def _beside(self, units: Sequence[EraseUnit]) -> list[range]:
        return [span for span in self._plan.beside if any(common(unit.span, span) for unit in units)]

    def _passes(self, first: Work) -> Iterator[Event]:
        """Run the first pass. If the proof of the first pass fails, run a second pass that writes every erase unit."""
        self._write_journal(first)
        try:
            yield from self._pass(first)
        except FlashProofError as error:
            # The first page cannot be erased. No other page was changed, and no other page may be changed.
            if self._stage is _RunStage.UNSEALING:
                raise
            yield Repeated(error.why)
        else:
            return

        self._repeated = True
        # A stray byte on the line can also make the proof fail; it must not be read as the next answer.
        self._bootloader.link.drain()
        require_same_board(self._bootloader, self._plan.chip, flash_size=self._plan.flash_size)
        everything = work(self._plan, [_CHANGES_UNKNOWN] * len(self._plan.units))
        self._read_damaged()
        known = len(self._read)
        self._read_beside(everything.write)
        for span in self._read[known:]:
            yield from self._to_write_back(span)
        # The flash is already changed, so the run continues even if the journal cannot be written.
        with contextlib.suppress(RefusedError):
            self._write_journal(everything)
        try:
            yield from self._pass(everything)
        except FlashProofError:
            # Report the failed proof, even if the line or the disk fails now.
            with contextlib.suppress(BoardError, RefusedError):
                self._bootloader.link.drain()
                self._read_damaged()
                self._write_journal(everything)
            raise

    def _read_damaged(self) -> None:
        """After a failed proof, find the wrong bytes beside the image, which the journal then records."""
        found = [Preserved(span.start, read_twice(self._bootloader, span)) for span in self._read]
        self._damaged = tuple(one for one in found if one.data != self._wanted[one.span])

    def _write_journal(self, planned: Work) -> None:  # (1)
        if not self._journal:
            return
        units = []
        for unit in self._plan.units:
            before = None if self._repeated else self._contents.checksum(unit)
            units.append(UnitChange(unit.address, unit.size, before, self._wanted.checksum(unit.span)))

        kept = tuple(Preserved(span.start, self._wanted[span]) for span in self._read)
        self._journal.start(Changes(tuple(units), planned.at_once, kept, self._damaged, self._sample()))

    def _sample(self) -> Preserved | None:
        """Return the first bytes of the old contents if the image occupies only one erase unit; otherwise None.

        These bytes identify the old program if the unit is half erased. If the image occupies several units, the units
        that are not erased yet identify the old program.
        """
        if len(self._plan.units) > 1 or self._repeated:
            return None
        span = self._plan.image.span[:MAX_BLOCK]
        return Preserved(span.start, self._contents.read(span))

    def _pass(self, planned: Work) -> Iterator[Event]:
        self._work, self._erased_units = planned, 0
        self._order = [block for block in blocks(self._plan, planned.write) if not self._wanted.is_blank(block)]
        self._pending = list(self._order)
        total = sum(map(len, self._pending))
        self._summary = self._summary.plus(planned, written=total)
        self._contents.changed()

        yield from self._erase()  # (2), (3)
        self._stage = _RunStage.WRITING
        while self._pending and self._pending[0] != self._plan.seal:
            yield self._write_next(total)
        yield from self._prove_and_seal(total)  # (4), (5)

    def _erase(self) -> Iterator[Erased]:
        self._stage = _RunStage.UNSEALING
        # (2) The page with the vector table, alone.
        queue = list(self._work.erase)
        if queue[:1] == [self._plan.units[0]]:
            self._is_unsealed = True
            self._erase_unit(queue[0])
            self._erased_units, queue = 1, queue[1:]
        self._prove_unsealed()

        # (3) All other pages.
        self._stage = _RunStage.ERASING
        if self._work.at_once:
            self._bootloader.erase_all()
            self._erased_units, queue = len(self._work.erase), []
        sizes = [unit.size for unit in self._work.erase]
        yield Erased(sum(sizes[: self._erased_units]), sum(sizes))
        # One command per erase unit costs the time of two more bytes, and shows exactly which units are erased.
        for unit in queue:
            self._erase_unit(unit)
            self._erased_units += 1
            yield Erased(sum(sizes[: self._erased_units]), sum(sizes))

    def _erase_unit(self, unit: EraseUnit) -> None:
        """Erase one unit.

        The boot ROM can number the pages of the second bank in two ways. The first erase in this bank tries both
        numbers, and shows which one is right. A number without a page has no effect (AN3155, note to Erase Memory).
        """
        other = unit.other_number
        if other is None or self._counts_gap is not None:
            self._erase_page(other if other is not None and self._counts_gap else unit.number)
        elif is_used(self._bootloader, self._plan.chip, unit=unit):  # a page that is blank already shows nothing
            self._erase_page(unit.number)
            self._counts_gap = is_used(self._bootloader, self._plan.chip, unit=unit)
            if self._counts_gap:
                self._erase_page(other)

    def _erase_page(self, number: int) -> None:
        """Erase one page.

        Noise can cause a refusal, and a refused command does not erase anything. The command is therefore sent once
        more.
        """
        try:
            self._bootloader.erase_pages([number])
        except CommandRefusedError:
            # Connecting again ends the half command that a stray byte leaves.
            reconnect(self._bootloader, self._plan.chip, flash_size=self._plan.flash_size)
            try:
                self._bootloader.erase_pages([number])
            except CommandRefusedError as error:
                raise refused_erase(error, self._plan.chip) from error

    def _prove_unsealed(self) -> None:
        """Require that the image's first words are erased, so that a half erased or mixed program cannot start."""
        seal, chip = self._plan.seal, self._plan.chip
        found = self._bootloader.read(seal.start, len(seal))
        if not chip.is_blank(found):
            # Noise may have corrupted the answer: read the first words once more before reporting a defect.
            self._bootloader.link.drain()
            found = self._bootloader.read(seal.start, len(seal))
        self._is_unsealed = chip.is_blank(found)
        if self._is_unsealed:
            return

        page, there = self._plan.units[0].number, found.lstrip(bytes((chip.erased_byte,)))
        address = seal.stop - len(there)
        raise FlashProofError(
            "check 10 failed, the flash was not erased",
            why=f"page {page} still reads {there[:_SHOWN].hex(' ')} at {address:#010x} after its erase",
            remedy="remove write protection if it is set; otherwise the page is worn out: replace the board",
        )

    def _write_next(self, total: int) -> Programmed:
        block = self._pending[0]
        self._bootloader.write(block.start, self._wanted[block])
        del self._pending[0]
        return Programmed(total - sum(map(len, self._pending)), total)

    def _prove_and_seal(self, total: int) -> Iterator[Event]:
        seal = self._plan.seal
        beside = [part for span in self._beside(self._work.write) for part in without(span, seal)]
        if self._contents.method == "read-back":
            beside = [part for span in beside for part in self._needs_proof(span)]
        spans = [*self._plan.body, *beside]
        proof = sum(map(len, spans)) + len(seal)

        self._stage = _RunStage.PROVING  # (4)
        for done in self._contents.prove(self._wanted, spans):
            yield Checked(done, proof)

        if self._pending:
            self._stage = _RunStage.SEALING  # (5)
            yield self._write_next(total)
        self._stage = _RunStage.PROVING_SEAL
        for done in self._contents.prove(self._wanted, [seal]):
            yield Checked(proof - len(seal) + done, proof)

    def _needs_proof(self, span: range) -> list[range]:
        """Return the addresses beside the image, in `span`, that must be proven.

        In a blank span, only the written blocks are proven, because reading the whole span can take too long.
        """
        if not self._wanted.is_blank(span):
            return [span]
        return [part for block in self._order if (part := common(block, span))]

    def described(self, error: BoardError) -> BoardError:
        """Return the error with a description of the state of the flash, and with the remedy that completes the run."""
        why = f"{error.why}; {self._state()}" if error.why else self._state()
        if isinstance(error, FlashProofError | EraseRefusedError):
            return error.revised(why=why)
        if self._stage is _RunStage.PROVEN:
            return error.revised(why=why, remedy="run the same command again, which changes nothing", action=None)

        remedy, action = "set BOOT0 to 1, reset the board, and ", Action.RESUME_FLASH
        if self._journal and self._stage is not _RunStage.PLANNING:
            remedy += "complete the run"
        else:
            again = "if the board's contents then count as unknown (a half erased older program), allow replacing them"
            remedy, action = f"{remedy}run the same command again; {again}", Action.REPLACE_UNKNOWN
        if isinstance(error, AnotherBoardError):
            remedy = f"connect the first board again, and {remedy}"
        elif self._stage is _RunStage.PROVING and self._contents.method == "stub":
            remedy += "; if the board stops answering at the same point again, read the flash back instead of hashing "
            remedy += "it on the chip"
            action = _WITHOUT_STUB[action]
        return error.revised(why=why, remedy=remedy, action=action)

    def _state(self) -> str:
        """Describe the present state of the flash in words."""
        if self._stage is _RunStage.PLANNING:
            return "nothing was changed"
        if self._stage is _RunStage.PROVEN:
            return "the flash is proven to contain the image"
        done = self._work
        unwritten = sum(any(block.start in unit.span for block in self._pending) for unit in done.write)
        written = len(done.write) - unwritten if self._erased_units == len(done.erase) else 0
        twice = ["this was the second attempt"] if self._repeated else []
        losses = []
        for span in self._read:
            lost = any(common(block, span) for block in self._pending)
            proven = self._stage.value > _RunStage.PROVING.value and not lost
            if not proven and not self._wanted.is_blank(span):
                state = "not all written back" if lost else "acknowledged, but not proven"
                losses.append(f"the bytes {span.start:#010x} to {span.stop:#010x} beside the image are {state}")

        counts = (
            f"the board acknowledged: erased {self._erased_units} of {len(done.erase)} pages, wrote {written} of "
            f"{len(done.write)}"
        )
        return "; ".join((*twice, counts, *losses, self._consequence()))

    def _consequence(self) -> str:
        """Describe in words which program the board starts next."""
        page = self._plan.units[0].number
        if self._stage is _RunStage.PROVING_SEAL:
            return "the whole image is written, but its first words are not proven"
        if self._stage is _RunStage.SEALING:
            return "the image is proven except for its first words, and whether those are written is unknown"
        if self._stage is _RunStage.UNSEALING:
            first = f"whether page {page} is erased is unknown, and so is what the board will start"
            if not self._is_unsealed:
                first = f"page {page} was not completely erased"
            others = "the other pages were written, but are not proven"
            return f"{first}; {others if self._repeated else 'nothing else was changed'}"
        if self._plan.image.load_address == FLASH_BASE:
            return f"the vector table in page {page} reads erased, so the board will not start a half written image"
        return f"the image's first words, in page {page}, read erased, so the image does not count as complete"
