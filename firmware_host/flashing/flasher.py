"""Puts an image into a board's flash, by plan, and tells what happens as it happens.

An acknowledgement from a bootloader proves nothing: protected pages, worn cells and pages that were not erased
are acknowledged as well (AN3155, notes to Erase and Write Memory). So the whole image is proven at the end, the pages
that were left alone as well. What is known of the flash beforehand only decides what is written; where it was wrong
the proof fails, and everything is written once more.

What a power cut leaves, step by step:

1. *before the first page is erased*: the old program. The journal is on the disk by now.
2. *in the erase of the page with the vector table*: nobody knows; perhaps the old program still starts, which is whole
   but for this page. Nothing else is touched before its first words read erased.
3. *from then until the seal is written*: no first words, so nothing that a core could start.
4. *in the writing of the seal*, its first words: everything else was proven before. What starts is the release, or
   nothing, or a program with a torn vector table, which eight bytes are read back to exclude.

So the proof comes before the seal, and the seal's own eight bytes are read after it. One run of the program in the
chip's RAM is enough for that. Proving the whole after the seal would need no fewer, and a cut between seal and
proof would leave a program that starts and that nobody has proven.
"""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Generator, Iterator, Sequence
from enum import Enum, auto
from functools import cache

from blockota.errors import BoardError, FlashProofError, RefusedError
from firmware_host.bootloader.chips import EraseUnit
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import PUT_BACK, require_same_board
from firmware_host.flashing.contents import FlashContents, ReadBack, confirm, holds, read_surely
from firmware_host.flashing.events import Checked, Erased, Event, Finished, Repeated, Summary, Written
from firmware_host.flashing.journal import Changes, JournaledRun, UnitChange
from firmware_host.flashing.memory import Memory, Preserved, wanted_memory
from firmware_host.flashing.plan import FlashPlan, Found, Work, blocks, common, overlap, without, work

_AGAIN = (
    "set BOOT0 to 1, reset the board, and run the same command again; "
    "if it calls the board's contents unknown, because an older program was half erased, add --replace-unknown"
)
_RESUME = "set BOOT0 to 1, reset the board, and run `blockota flash --resume`, which completes it"


def carry_out(
    plan: FlashPlan,
    bootloader: Bootloader,
    *,
    contents: FlashContents | None = None,
    journal: JournaledRun | None = None,
    kept: Sequence[Preserved] = (),
) -> Generator[Event]:
    """Flash an image, as far as the board does not hold it already, and prove the whole of it.

    Args:
        plan: where the image goes.
        bootloader: connected to the board that the plan was made for.
        contents: what the flash holds, as far as it is known; by default it is read back.
        journal: where it is written down what is being done; None keeps none.
        kept: bytes beside the image that an interrupted run erased; they are put back.

    Yields:
        What was done; `Finished` comes last, and only when the image is proven.

    Raises:
        RefusedError: the bootloader lacks a command for it, or the journal cannot be written; nothing was changed.
        FlashProofError: the flash does not hold what it should (check 10), though all was written twice.
        BoardError: the board or its link failed, or a KeyboardInterrupt came, or was thrown in where the caller
            caught it. Each error says in what state the flash is.
    """
    bootloader.require_flashing()
    flashing = _Flashing(plan, bootloader, contents=contents or ReadBack(bootloader), journal=journal, kept=kept)
    try:
        yield from flashing.steps()
    except BoardError as error:
        why, remedy = f"{error.why}; {flashing.state()}", flashing.remedy_for(error)
        raise type(error)(error.what, why=why, remedy=remedy) from error
    except KeyboardInterrupt as error:
        raise BoardError("flashing was interrupted", why=flashing.state(), remedy=flashing.remedy()) from error


class _Stage(Enum):
    """What is being done, as far as it decides what an interruption leaves behind."""

    PLANNING = auto()
    UNSEALING = auto()
    ERASING = auto()
    WRITING = auto()
    PROVING = auto()
    SEALING = auto()
    PROVING_SEAL = auto()
    PROVEN = auto()


class _Flashing:
    """One plan while it is carried out: the bytes to write, and how far it has come."""

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
        self._wanted, self._seen = wanted_memory(plan), Memory(plan.seal, plan.chip.erased_byte)
        for span in self._plan.beside:
            self._wanted.put(self._kept, within=span)
        self._stage, self._repeated = _Stage.PLANNING, False
        self._work, self._summary = Work((), (), plan.units, at_once=False), Summary()
        self._erased_units = 0
        self._pending: list[range] = []
        self._read: list[range] = []
        self._blank = cache(lambda size: zlib.crc32(bytes((plan.chip.erased_byte,)) * size))

    def steps(self) -> Iterator[Event]:
        # A person may have taken a while to agree.
        self._require_same_board()
        if self._holds_everything():
            yield from self._confirm()
            self._summary = self._summary.plus(self._work, written=0)
        else:
            first = self._prepare()
            yield from self._preserved()
            yield from self._passes(first)
        self._stage = _Stage.PROVEN
        if self._journal:
            self._journal.end()
        image = self._wanted[self._plan.image.span]
        yield Finished(hashlib.sha256(image).digest(), self._contents.method, self._summary)

    def _holds_everything(self) -> bool:
        spans = [part for one in self._kept for span in self._plan.beside if (part := common(one.span, span))]
        beside = [Preserved(span.start, self._wanted[span]) for span in spans]
        return holds(self._contents, self._plan.image, beside=beside)

    def _confirm(self) -> Iterator[Checked]:
        image = self._plan.image
        for done in confirm(self._contents, self._wanted, span=image.span):
            yield Checked(done, len(image.data))

    def _prepare(self) -> Work:
        """Compare what is there with what is wanted; read what stands beside the image where it is to be erased."""
        for unit in self._plan.units:
            if self._beside([unit]) and self._contents.checksum(unit) != self._wanted.checksum(unit.span):
                self._read_beside([unit])
        found = [self._found(unit) for unit in self._plan.units]
        if all(state.as_wanted for state in found):
            # A hint was wrong, because the image's digest is not what it should be.
            found = [Found(as_wanted=False, blank=False)] * len(found)
        planned = work(self._plan, found)
        self._read_beside(planned.write)
        return planned

    def _found(self, unit: EraseUnit) -> Found:
        there = self._contents.checksum(unit)
        blank = there == self._blank(unit.size)
        if blank and unit is self._plan.units[0]:
            self._seen[self._plan.seal] = self._contents.read(self._plan.seal)
            blank = self._seen.blank(self._plan.seal)
        return Found(as_wanted=there == self._wanted.checksum(unit.span), blank=blank)

    def _read_beside(self, units: Sequence[EraseUnit]) -> None:
        for span in self._beside(units):
            if span not in self._read:
                self._wanted[span] = read_surely(self._bootloader, span)
                self._wanted.put(self._kept, within=span)
                self._read.append(span)

    def _beside(self, units: Sequence[EraseUnit]) -> list[range]:
        return [span for span in self._plan.beside if any(overlap(unit.span, span) for unit in units)]

    def _preserved(self) -> Iterator[Preserved]:
        for span in self._read:
            if not self._wanted.blank(span):
                yield Preserved(span.start, self._wanted[span])

    def _passes(self, first: Work) -> Iterator[Event]:
        self._write_down(first)
        try:
            yield from self._pass(first)
        except FlashProofError as error:
            # Where the first words do not even erase, nothing else was changed, and nothing else shall be.
            if self._stage is _Stage.UNSEALING:
                raise
            yield Repeated(error.why)
            self._repeated = True
            # A byte too many on the line fails the proof as well, and must not be taken for the next answer.
            self._bootloader.link.drain()
            self._require_same_board()
            yield from self._pass(self._everything())

    def _require_same_board(self) -> None:
        require_same_board(self._bootloader, self._plan.chip, flash_size=self._plan.flash_size)

    def _everything(self) -> Work:
        everything = work(self._plan, [Found(as_wanted=False, blank=False)] * len(self._plan.units))
        self._read_beside(everything.write)
        # The flash is changed already: better without a journal now than not at all.
        with contextlib.suppress(RefusedError):
            self._write_down(everything)
        return everything

    def _write_down(self, planned: Work) -> None:
        if self._journal:
            units = tuple(self._change(unit) for unit in self._plan.units)
            kept = tuple(Preserved(span.start, self._wanted[span]) for span in self._read)
            self._journal.begin(Changes(units, planned.at_once, kept))

    def _change(self, unit: EraseUnit) -> UnitChange:
        before = None if self._repeated else self._contents.checksum(unit)
        return UnitChange(unit.address, unit.size, before, self._wanted.checksum(unit.span))

    def _pass(self, planned: Work) -> Iterator[Event]:
        self._work, self._erased_units = planned, 0
        order = blocks(self._plan, planned.write)
        self._pending = [block for block in order if not self._wanted.blank(block)]
        total = sum(map(len, self._pending))
        self._summary = self._summary.plus(planned, written=total)
        self._contents.changed()
        yield from self._erase()
        yield from self._write(total)
        yield from self._prove_and_seal(total)

    def _erase(self) -> Iterator[Event]:
        self._stage = _Stage.UNSEALING
        queue = list(self._work.erase)
        if queue[:1] == [self._plan.units[0]]:
            self._bootloader.erase_pages([queue[0].number])
            self._erased_units, queue = 1, queue[1:]
        self._prove_unsealed()
        self._stage = _Stage.ERASING
        if self._work.at_once:
            self._bootloader.erase_all()
            self._erased_units, queue = len(self._work.erase), []
        yield from self._erase_one_by_one(queue)

    def _erase_one_by_one(self, queue: Sequence[EraseUnit]) -> Iterator[Erased]:
        # One command a unit: it costs two bytes' time, and an interruption is known to the unit.
        sizes = [unit.size for unit in self._work.erase]
        yield Erased(sum(sizes[: self._erased_units]), sum(sizes))
        for unit in queue:
            self._bootloader.erase_pages([unit.number])
            self._erased_units += 1
            yield Erased(sum(sizes[: self._erased_units]), sum(sizes))

    def _prove_unsealed(self) -> None:
        # The old first words must be gone before anything else goes: else an old program would start that is
        # half erased, or two programs mixed.
        seal = self._plan.seal
        for _ in range(2):
            self._seen[seal] = self._bootloader.read(seal.start, len(seal))
            if self._seen.blank(seal):
                return
            # Perhaps the line has garbled it, and nobody shall throw a board away for that.
            self._bootloader.link.drain()
        page = self._plan.units[0].number
        raise FlashProofError(
            "check 10 failed, the flash does not hold what it should",
            why=f"page {page} does not erase, at {seal.start:#010x} it still reads {self._seen[seal].hex(' ')}",
            remedy="remove write protection, if there is any; otherwise the page is worn out: replace the board",
        )

    def _write(self, total: int) -> Iterator[Event]:
        self._stage = _Stage.WRITING
        while self._pending and self._pending[0] != self._plan.seal:
            yield self._write_next(total)

    def _write_next(self, total: int) -> Written:
        block = self._pending[0]
        self._bootloader.write(block.start, self._wanted[block])
        del self._pending[0]
        return Written(total - sum(map(len, self._pending)), total)

    def _prove_and_seal(self, total: int) -> Iterator[Event]:
        """Prove the image but for the seal, and what stands beside it in units that were written; seal; prove that."""
        seal = self._plan.seal
        beside = [part for span in self._beside(self._work.write) for part in without(span, seal)]
        spans = [*self._plan.body, *beside]
        proof = sum(map(len, spans)) + len(seal)
        self._stage = _Stage.PROVING
        for done in self._contents.prove(self._wanted, spans):
            yield Checked(done, proof)
        if self._pending:
            self._stage = _Stage.SEALING
            yield self._write_next(total)
        self._stage = _Stage.PROVING_SEAL
        for done in self._contents.prove(self._wanted, [seal]):
            yield Checked(proof - len(seal) + done, proof)

    def remedy_for(self, error: BoardError) -> str:
        """What a person does after an error."""
        if isinstance(error, FlashProofError):
            return error.remedy
        return f"{PUT_BACK}, and {self.remedy()}" if error.remedy.startswith(PUT_BACK) else self.remedy()

    def remedy(self) -> str:
        """What completes a run that ends now."""
        remedy = _RESUME if self._journal and self._stage is not _Stage.PLANNING else _AGAIN
        hashing = self._stage is _Stage.PROVING and self._contents.method == "stub"
        return f"{remedy}; if it falls silent at the same point, add --no-stub" if hashing else remedy

    def state(self) -> str:
        """Say what the flash holds now."""
        if self._stage is _Stage.PLANNING:
            return "nothing was changed"
        if self._stage is _Stage.PROVEN:
            return "the flash holds the image, and that is proven"
        done = self._work
        unwritten = sum(any(block.start in unit.span for block in self._pending) for unit in done.write)
        written = len(done.write) - unwritten if self._erased_units == len(done.erase) else 0
        twice = ["this was the second attempt"] if self._repeated else []
        counts = f"erased {self._erased_units} of {len(done.erase)} pages, wrote {written} of {len(done.write)}"
        return "; ".join((*twice, counts, *self._losses(), self._consequence()))

    def _losses(self) -> Iterator[str]:
        for span in self._read:
            lost = any(overlap(block, span) for block in self._pending)
            state = "not all written back" if lost else "written back, and not proven"
            proven = self._stage.value > _Stage.PROVING.value and not lost
            if not proven and not self._wanted.blank(span):
                yield f"the bytes {span.start:#010x} to {span.stop:#010x} beside the image are {state}"

    def _consequence(self) -> str:
        page = self._plan.units[0].number
        if self._stage is _Stage.PROVING_SEAL:
            return "everything is written, but its first words are not proven"
        if self._stage is _Stage.SEALING:
            return "everything but the image's first words is proven, and whether those are written is unknown"
        if self._stage is _Stage.UNSEALING:
            others = (
                "the other pages were written, and are not proven" if self._repeated else "nothing else was changed"
            )
            return f"{self._unsealing()}; {others}"
        if self._plan.image.load_address == self._plan.chip.flash_base:
            return f"the vector table in page {page} reads erased, so the board will not start a half written image"
        return f"the image's first words, in page {page}, read erased, so that it cannot be taken for whole"

    def _unsealing(self) -> str:
        page = self._plan.units[0].number
        if not self._seen.blank(self._plan.seal):
            return f"page {page} was not erased whole"
        return f"whether page {page} is erased is unknown, and so is what the board will start"
