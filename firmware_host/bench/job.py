"""Flash one board at one port, from the board's first answer to its line in the bench log.

The steps of a job:

1. Verify the bench log, and check that it can be written. Look up the board's device number. Claim the board, so that
   no other port works on it.
2. Find the release, and verify the release and its image: `Offers` runs checks 1 to 5.
3. Examine the board, and run checks 6 to 9 for this release (`session`). The flash is not changed before step 4.
4. Write and prove the board's own image, if the run has one (`board_images`). Nothing is erased before the image of
   the board exists.
5. Flash the board (`flashing.flasher`), and compare its flash with the chain's record (check 10).
6. Start the board's program.
7. Record the result in the bench log, whether the job succeeded or failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from blockota.errors import Action, BlockOTAError, BoardError, RefusedError, UsageError, VerificationError, shortened
from blockota.formats.mcuboot import program_offset
from blockota.model.board_image import CHECKS
from blockota.model.facts import Consent, Passed, Trust
from blockota.model.release import Release, Version
from blockota.shutdown import Stop
from firmware_host.bench.board_images import BoardImageJob, BoardImages
from firmware_host.bench.log import BenchEntry
from firmware_host.bench.log_folder import BenchLog
from firmware_host.bench.offers import Offer, Offers
from firmware_host.bench.port import BoardPort, open_port
from firmware_host.bench.result import BenchObserver, BoardMet, BoardResult, ChecksPassed, Progress, ReleaseChosen
from firmware_host.bench.session import BoardSession, ClearedBoard
from firmware_host.bootloader.entry import BoardLine
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.flasher import finish
from firmware_host.flashing.journal import FlashJournal, boards
from firmware_host.flashing.plan import Event, Preserved

_RESUMING = {Action.RESUME_FLASH, Action.RESUME_FLASH_WITHOUT_STUB}


class BusyBoards:
    """The unique ids of the boards in use, so that two ports never work on the same board."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: set[str] = set()

    @contextmanager
    def claim(self, unique_id: str) -> Iterator[None]:
        """Claim a board for a ``with`` block, unless another port has claimed it.

        An empty `unique_id` never conflicts.
        """
        with self._lock:
            if unique_id in self._ids:
                raise RefusedError(
                    "another port has a board with the same unique id",
                    why=f"two ports report {unique_id}; either both reach the same board, or a chip is a copy",
                    remedy="name the port of each board only once; flash boards with copied chips one after the other",
                )
            self._ids |= {unique_id} - {""}

        try:
            yield
        finally:
            with self._lock:
                self._ids.discard(unique_id)


@dataclass(frozen=True)
class Bench:
    """The settings and resources that all boards of a bench share.

    Attributes:
        journals: the folder of the journals of interrupted runs.
        stop: stops the work between two bootloader commands.
        find_device: returns the device number of the board with a unique id; 0 if the board is not registered.
        may_erase_all: whether the operator confirmed that the chip has no more flash than it reports.
    """

    consent: Consent
    trust: Trust
    operator: str
    log: BenchLog
    journals: Path
    observer: BenchObserver
    stop: Stop
    images: BoardImages
    proof: Proof = Proof.STUB
    may_erase_all: bool = False
    find_device: Callable[[str], int] = lambda _: 0
    busy: BusyBoards = field(default_factory=BusyBoards)

    def flash(self, line: BoardLine, offer: Offer) -> BoardResult:
        """Open a port, and flash its board. An error is returned as part of the result."""
        return self._flash(line, lambda _: offer, is_stuck=False)

    def resume(self, line: BoardLine, offers: Offers, product: str | None, version: Version | None) -> BoardResult:
        """Open a port, and complete the interrupted run that the board's journal records.

        `product` and `version` must match the interrupted run; None accepts any product or version.
        """
        return self._flash(line, lambda board: self._interrupted_offer(board, offers, product, version), is_stuck=True)

    def _flash(self, line: BoardLine, find_offer: Callable[[BoardSession], Offer], *, is_stuck: bool) -> BoardResult:
        try:
            with open_port(line, stop=self.stop) as port:
                board = port.connect(is_stuck=is_stuck)
                self.observer.progress(line.url, BoardMet(board.identity, board.notes))
                result = FlashJob(self, port, board).run(find_offer)
        except BlockOTAError as error:
            result = BoardResult(line.url, error=_with_line(error, line))
        except KeyboardInterrupt:
            stopped = BoardError("stopped before a board answered", why="nothing was changed")
            result = BoardResult(line.url, error=stopped)

        self.observer.ended(line.url, result)
        return result

    def _interrupted_offer(
        self, board: BoardSession, offers: Offers, product: str | None, version: Version | None
    ) -> Offer:
        unique_id = board.identity.unique_id or ""
        journal = FlashJournal(self.journals, unique_id).entry() if unique_id else None
        image = self.images.interrupted(unique_id) if unique_id else None

        if journal:
            run_product, run_version = journal.product, journal.version
        elif image:
            run_product, run_version = image.program, image.version
        else:
            others = shortened(boards(self.journals))
            raise RefusedError(
                "no interrupted run to resume on this board",
                why=f"{self.journals} has no journal for {unique_id or 'a board without a readable unique id'}"
                f"{others and f', only for {others}'}; nothing was changed",
                remedy="connect the board whose run was interrupted, or name the product to flash without resuming",
                action=Action.NAME_PRODUCT,
            )

        if self.images.may_make_new and not image:
            raise UsageError(
                "no new image can be made for this board",
                why=f"the interrupted run of {run_product} {run_version} left no incomplete image of the board's own; "
                "nothing was changed",
                remedy="resume without asking for a new image",
            )
        if product not in (None, run_product) or version not in (None, run_version):
            raise RefusedError(
                f"the flashing of {run_product} {run_version} was interrupted on this board",
                why=f"the command names {' '.join(str(one) for one in (product, version) if one)}; nothing was changed",
                remedy="resume without a product and version, or flash the named release without resuming",
            )

        try:
            return offers.offer(run_product, run_version, board_product=image.product if image else "")
        except VerificationError as error:
            # The interrupted release may not be written any more: another release has to replace its half image.
            raise error.revised(
                why=f"{error.why}; the board was not changed since the interruption",
                remedy=f"{error.remedy}; then flash {run_product} without resuming",
                action=Action.FLASH_PRODUCT,
                values={"product": run_product},
            ) from error


class FlashJob:
    """The work on one board.

    `release` is the release to be written, if it is already known.
    """

    def __init__(self, bench: Bench, port: BoardPort, board: BoardSession, release: Release | None = None) -> None:
        self._bench, self._port = bench, port
        self._board = replace(board, may_erase_all=bench.may_erase_all)
        self._result = BoardResult(port.line.url, board.identity, release)
        self._started = time.monotonic()

    def run(self, find_offer: Callable[[BoardSession], Offer]) -> BoardResult:
        """Flash the board, and record the result in the bench log. An error is returned as part of the result."""
        try:
            self._bench.log.check()  # (1)
            if unique_id := self._result.unique_id:
                self._result.device = self._bench.find_device(unique_id)
            with self._bench.busy.claim(unique_id):
                self._flash(find_offer(self._board))  # (2)
        except BlockOTAError as error:
            self._result.error = _with_line(error, self._port.line)
        except KeyboardInterrupt:
            self._result.error = BoardError("stopped before anything was erased", why="nothing was changed")

        self._write_log()  # (7)
        return self._result

    def _flash(self, offer: Offer) -> None:
        proven, result = offer.proven, self._result
        result.release, result.passed = proven.release, proven.passed
        self._progress(ReleaseChosen(proven.release))

        # (3) Examine and clear.
        journal: FlashJournal | None = None  # without a unique id, a later run could not find the board's journal
        if result.unique_id:
            journal = FlashJournal(self._bench.journals, result.unique_id, operator=self._bench.operator)
        if journal and (entry := journal.entry()):
            self._note(f"A run with {entry.product} {entry.version} was interrupted on this board: {journal.path}.")
        examined = self._board.examine(proven, known=offer.known, journal=journal, proof=self._bench.proof)
        if installed := examined.installed:
            result.before, result.replaced = str(installed), installed.release or installed.other
        cleared = examined.clear(self._bench.consent)
        self._passed(cleared.passed)

        bench = self._bench
        if own := offer.board_product:  # (4)
            self._note(f"The image of {own.name} is made for this board alone. It passes checks {CHECKS}.")
            job = BoardImageJob(bench.images, cleared, own, bench.proof, self._note, self._progress, bench.stop)
            result.board_image = job.run()
        elif image := bench.images.interrupted(result.unique_id):
            self._note(f"An earlier run was making an image of {image.product} for this board; this run does not.")
        self._write_release(cleared)  # (5)
        bench.images.complete(result.unique_id, proven.release)

        if not bench.consent.configuration:
            self._start(proven.release.load_address + program_offset(proven.image))  # (6)

    def _write_release(self, cleared: ClearedBoard) -> None:
        result = self._result

        def show(event: Event) -> None:
            if isinstance(event, Preserved):
                result.preserved += len(event.data)
            self._progress(event)

        finished = finish(cleared.flash(), show)
        self._passed((cleared.prove_flash(finished),))
        result.finished, result.seconds = finished, time.monotonic() - self._started
        for note in cleared.notes:
            self._note(note)

    def _start(self, address: int) -> None:
        """Start the board's program.

        A failed start is only noted, because the flash is already proven.
        """
        try:
            finished = self._result.finished
            is_written = bool(finished and finished.summary.programmed.units)
            started = self._port.start(self._board, address, listen=is_written)
            self._result.started, self._result.banner = started.by.value, started.text
            self._note(started.known)
        except BlockOTAError as error:
            self._note(
                f"The board holds {self._result.held}, but it is not known whether its program runs: {error.what}: "
                f"{error.why}. Reset the board with BOOT0 at 0."
            )
        except KeyboardInterrupt:
            self._note(f"The board was not started; it holds {self._result.held}.")

    def _entry(self) -> BenchEntry:
        """Return the record of this job. The fields of a step that was not reached stay empty."""
        result, trust = self._result, self._bench.trust
        entry = BenchEntry(
            time=int(time.time()),
            operator=self._bench.operator,
            board=result.unique_id,
            chip_id=self._board.identity.product_id,
            chain_id=trust.chain_id,
            contract=trust.contract,
            product="",
            before=result.before,
            after="",
            sha256="",
            flash_sha256="",
            proof="",
            result=result.result,
            port=self._port.line.url,
            milliseconds=round((time.monotonic() - self._started) * 1000),
            device=result.device,
        )

        if release := result.release:
            version, sha256 = str(release.version), release.sha256.hex()
            entry = replace(entry, product=release.product, version=version, sha256=sha256)
        if result.replaced:
            entry = replace(entry, before_sha256=result.replaced.sha256.hex())
        if own := result.board_image:
            entry = replace(
                entry,
                board_product=own.image.product.name,
                board_image_sha256=own.image.sha256.hex(),
                board_image_size=own.image.size,
                board_image_proof=own.finished.method,
                board_image_checks=CHECKS,
            )
        if finished := result.finished:
            # The version counts as installed only after the proof.
            entry = replace(entry, after=entry.version, flash_sha256=finished.sha256.hex(), proof=finished.method)
        return entry

    def _write_log(self) -> None:
        result = self._result
        try:
            result.line = self._bench.log.append(self._entry())
        except BlockOTAError as error:
            # If the flash is not proven, the first error is the one to report.
            if result.finished is None:
                self._note(f"The bench log has no line for this board: {error}")
                return
            unlogged = UsageError(
                f"the board holds {result.held}, but the bench log has no line for this run",
                why=f"{error.what}: {error.why}",
                remedy=f"{error.remedy}; then run the command again, which records the board",
                action=error.action,
            )
            result.error = result.error or unlogged

    def _note(self, sentence: str) -> None:
        self._bench.observer.note(self._port.line.url, sentence)

    def _progress(self, event: Progress) -> None:
        self._bench.observer.progress(self._port.line.url, event)

    def _passed(self, checks: tuple[Passed, ...]) -> None:
        self._result.passed = (*self._result.passed, *checks)
        self._progress(ChecksPassed(checks))


def require_interrupted_runs(journals: Path, images: BoardImages) -> None:
    """Require a journal or a record of an interrupted run, before any port is opened."""
    if not boards(journals) and not images.has_interrupted():
        raise RefusedError(
            "no interrupted run to resume",
            why=f"{journals} has no journal of an interrupted run",
            remedy="resume in the folder where the run was started, or name the product to flash without resuming",
            action=Action.NAME_PRODUCT,
        )


def _with_line(error: BlockOTAError, line: BoardLine) -> BlockOTAError:
    """Add the serial line to an error whose remedy is to resume the run, because the remedy names the line."""
    if error.action in _RESUMING:
        error.values["line"] = line
    return error
