"""Flashing one board at one port, from its first answer to its line in the bench log.

The steps of a job:

1. Prove that the bench log is whole and can be written, and claim the board, so that no other port works on it.
2. Find the release; it and its image are proven (checks 1 to 5, `offer`).
3. Examine the board, and clear it for this release (checks 6 to 9, `session`). Nothing is changed before this.
4. Flash it (`flashing.flasher`), and compare its flash with the chain's record (check 10).
5. Start its program.
6. Record the result in the bench log, whatever it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from blockota.errors import Action, BlockOTAError, BoardError, RefusedError, UsageError, VerificationError
from blockota.model.facts import Consent, Passed, Trust
from blockota.model.release import Release, Version
from blockota.shutdown import Stop
from firmware_host.bench.log import BenchEntry, BenchLog
from firmware_host.bench.offer import Offer, Offers
from firmware_host.bench.port import BoardPort, open_port
from firmware_host.bench.result import BoardResult
from firmware_host.bench.session import BoardSession, ClearedBoard
from firmware_host.bootloader.entry import BoardLine
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing import journal as flash_journal
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.events import Event, Finished
from firmware_host.flashing.journal import FlashJournal, JournalEntry
from firmware_host.flashing.plan import Preserved

_RESUMING = {Action.RESUME_FLASH, Action.RESUME_FLASH_WITHOUT_STUB}


@dataclass(frozen=True)
class BoardMet:
    """A board has answered.

    Attributes:
        identity: what it reported about itself.
        notes: what the operator should know about how the port was opened.
    """

    identity: BoardIdentity
    notes: Sequence[str]


@dataclass(frozen=True)
class ReleaseChosen:
    """A release was chosen and proven; the board is examined next.

    Attributes:
        release: the release.
    """

    release: Release


@dataclass(frozen=True)
class ChecksPassed:
    """Some of the checks 6 to 10 have passed.

    Attributes:
        checks: in order.
    """

    checks: Sequence[Passed]


Progress = BoardMet | ReleaseChosen | ChecksPassed | Event


class BenchObserver(Protocol):
    """Receives what happens at the bench, from the thread of each port; `port` is the port's URL, or empty."""

    def note(self, port: str, sentence: str, /) -> None:
        """Receive a sentence for the operator."""

    def progress(self, port: str, event: Progress, /) -> None:
        """Receive a step of the work on the board at a port."""

    def ended(self, port: str, result: BoardResult, /) -> None:
        """Receive the result of the work on the board at a port."""


class BusyBoards:
    """The boards being worked on, so that two ports never work on the same board."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: set[str] = set()

    @contextmanager
    def claim(self, unique_id: str) -> Iterator[None]:
        """Claim a board while the block runs; boards without a readable unique id (empty) are never the same.

        Raises:
            RefusedError: another port has claimed it.
        """
        with self._lock:
            if unique_id in self._ids:
                raise RefusedError(
                    "another port has a board with the same unique id",
                    why=f"both report {unique_id}; either it is one board on two ports, or a chip is a copy",
                    remedy="name each board once; flash copies one after the other",
                )
            self._ids |= {unique_id} - {""}
        try:
            yield
        finally:
            with self._lock:
                self._ids.discard(unique_id)


@dataclass(frozen=True)
class Bench:
    """A place where boards are flashed: what applies to all of them.

    Attributes:
        consent: what the operator agreed to.
        trust: whose record is believed.
        operator: the operator's name, for the log.
        log: the bench log.
        journals: folder of the journals of interrupted runs.
        observer: receives what happens.
        stop: ends the work between two commands of a bootloader.
        proof: how flashes are examined and proven.
        may_erase_all: whether the operator confirmed that no flash lies beyond the reported size.
        busy: the boards being worked on.
    """

    consent: Consent
    trust: Trust
    operator: str
    log: BenchLog
    journals: Path
    observer: BenchObserver
    stop: Stop
    proof: Proof = Proof.STUB
    may_erase_all: bool = False
    busy: BusyBoards = field(default_factory=BusyBoards)

    def flash(self, line: BoardLine, offer: Offer) -> BoardResult:
        """Open a port, and flash the board there.

        Args:
            line: the port, its speed and wiring.
            offer: the release.

        Returns:
            The result, which includes any error.
        """
        return self._flash(line, lambda _: offer, is_stuck=False)

    def resume(self, line: BoardLine, offers: Offers, product: str | None, version: Version | None) -> BoardResult:
        """Open a port, and complete the interrupted run of the board there, as its journal records it.

        Args:
            line: the port, its speed and wiring.
            offers: proves releases.
            product: the product that the operator named, if any.
            version: the version that the operator named, if any.

        Returns:
            The result, which includes any error.
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
        entry = self._interrupted_run(board.identity.unique_id or "")
        if product not in (None, entry.product) or version not in (None, entry.version):
            raise RefusedError(
                f"{entry.product} {entry.version} was interrupted on this board",
                why=f"{product or entry.product} {version or entry.version} was named; nothing was changed",
                remedy="resume without naming product and version, or flash what you name without resuming",
            )
        try:
            return offers.offer(entry.product, entry.version)
        except VerificationError as error:
            failed = VerificationError(
                error.number,
                error.what.partition(", ")[2],
                why=f"{error.why}; the board is as the interruption left it",
                remedy=f"{error.remedy}; then flash {entry.product} with it, without resuming",
                action=Action.FLASH_PRODUCT,
            )
            failed.values["product"] = entry.product
            raise failed from error

    def _interrupted_run(self, unique_id: str) -> JournalEntry:
        entry = flash_journal.find(self.journals, unique_id) if unique_id else None
        if entry is None:
            others = ", ".join(flash_journal.boards(self.journals))
            raise RefusedError(
                "there is nothing to resume on this board",
                why=f"{self.journals} has no journal of {unique_id or 'a board without a readable unique id'}"
                f"{others and f', only of {others}'}; nothing was changed",
                remedy="connect the board whose run was interrupted, or name the product to flash without resuming",
                action=Action.NAME_PRODUCT,
            )
        return entry


class FlashJob:
    """The work on one board.

    Args:
        bench: what applies to all boards.
        port: the board's port, open.
        board: the board.
        release: the release to be written, if it is known before the job.
    """

    def __init__(self, bench: Bench, port: BoardPort, board: BoardSession, release: Release | None = None) -> None:
        self._bench, self._port = bench, port
        self._board = replace(board, may_erase_all=bench.may_erase_all)
        self._result = BoardResult(port.line.url, board.identity, release)
        self._started = time.monotonic()

    def run(self, find_offer: Callable[[BoardSession], Offer]) -> BoardResult:
        """Do the work, and record it in the bench log.

        Args:
            find_offer: returns the release for the board.

        Returns:
            The result, which includes any error.
        """
        try:
            self._bench.log.check()  # (1)
            with self._bench.busy.claim(self._result.unique_id):
                self._flash(find_offer(self._board))  # (2)
        except BlockOTAError as error:
            self._result.error = _with_line(error, self._port.line)
        except KeyboardInterrupt:
            self._result.error = BoardError("stopped before anything was erased", why="nothing was changed")
        self._write_log()  # (6)
        return self._result

    def _flash(self, offer: Offer) -> None:
        proven, result = offer.proven, self._result
        result.release, result.passed = proven.release, proven.passed
        self._progress(ReleaseChosen(proven.release))

        # (3) Examine and clear.
        journal = FlashJournal(self._bench.journals, result.unique_id, operator=self._bench.operator)
        if entry := journal.entry():
            self._note(f"A run with {entry.product} {entry.version} was interrupted on this board: {journal.path}.")
        examined = self._board.examine(proven, known=offer.known, journal=journal, proof=self._bench.proof)
        result.before = "" if examined.installed is None else str(examined.installed)
        cleared = examined.clear(self._bench.consent)
        self._passed(cleared.passed)

        # (4) Flash and prove.
        finished = self._follow(cleared)
        self._passed((cleared.prove_flash(finished),))
        result.finished, result.seconds = finished, time.monotonic() - self._started
        for note in cleared.notes:
            self._note(note)

        if not self._bench.consent.configuration:
            result.banner = self._start(proven.release.load_address)  # (5)

    def _follow(self, cleared: ClearedBoard) -> Finished:
        for event in cleared.flash():
            if isinstance(event, Finished):
                return event
            if isinstance(event, Preserved):
                self._result.preserved += len(event.data)
            self._progress(event)
        raise AssertionError("flashing ends with Finished")

    def _start(self, address: int) -> str:
        """Start the program. The flash is proven by now, so a failure is only noted."""
        try:
            return self._port.start(self._board, address)
        except BlockOTAError as error:
            self._note(
                f"The board holds {self._result.held}, but it did not start: {error.what}: {error.why}. "
                "Reset the board with BOOT0 at 0."
            )
        except KeyboardInterrupt:
            self._note(f"The board was not started; it holds {self._result.held}.")
        return ""

    def _write_log(self) -> None:
        result = self._result
        try:
            result.line = self._bench.log.append(self._entry())
        except BlockOTAError as error:
            if result.finished is None:
                self._note(f"The bench log has no line for this board: {error}")
                return
            unlogged = UsageError(
                f"the board holds {result.held}, but the bench log has no line for it",
                why=f"{error.what}: {error.why}",
                remedy=error.remedy,
                action=error.action,
            )
            result.error = result.error or unlogged

    def _entry(self) -> BenchEntry:
        result, trust = self._result, self._bench.trust
        release, finished = result.release, result.finished
        return BenchEntry(
            time=int(time.time()),
            operator=self._bench.operator,
            board=result.unique_id,
            chip_id=self._board.identity.product_id,
            chain_id=trust.chain_id,
            contract=trust.contract,
            product=release.product if release else "",
            before=result.before,
            after=str(release.version) if release and finished else "",
            sha256=release.sha256.hex() if release else "",
            flash_sha256=finished.sha256.hex() if finished else "",
            proof=finished.method if finished else "",
            result=result.result,
        )

    def _note(self, sentence: str) -> None:
        self._bench.observer.note(self._port.line.url, sentence)

    def _progress(self, event: Progress) -> None:
        self._bench.observer.progress(self._port.line.url, event)

    def _passed(self, checks: tuple[Passed, ...]) -> None:
        self._result.passed = (*self._result.passed, *checks)
        self._progress(ChecksPassed(checks))


def require_interrupted_runs(journals: Path) -> None:
    """Refuse before a board is disturbed if there is nothing to resume.

    Args:
        journals: folder of the journals.

    Raises:
        RefusedError: there is no journal of any board.
    """
    if not flash_journal.boards(journals):
        raise RefusedError(
            "there is nothing to resume",
            why=f"{journals} has no journal of an interrupted run",
            remedy="resume in the folder where the run was begun, or name the product to flash instead of resuming",
            action=Action.NAME_PRODUCT,
        )


def _with_line(error: BlockOTAError, line: BoardLine) -> BlockOTAError:
    """Add the port to the values of an action that needs it."""
    if error.action in _RESUMING:
        error.values["line"] = line
    return error
