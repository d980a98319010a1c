"""The work on one board: from its first answer to its line in the bench log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blockota.cli.flash_display import BoardDisplay
from blockota.cli.flash_offer import Offer
from blockota.cli.flash_result import BoardResult
from blockota.cli.flash_stop import Stop, StoppableLink
from blockota.errors import BlockOTAError, BoardError, RefusedError, UsageError
from blockota.model.facts import Consent, Passed, Trust
from blockota.model.release import Release
from firmware_host.bench.log import BenchEntry, BenchLog
from firmware_host.bench.port import Seat
from firmware_host.bench.session import Bench, ClearedBoard
from firmware_host.bootloader.entry import BoardLine
from firmware_host.flashing.events import Finished
from firmware_host.flashing.journal import FlashJournal
from firmware_host.flashing.memory import Preserved
from firmware_host.flashing.on_chip import Proof
from firmware_host.line.link import open_link

RESUME = "`blockota flash --resume`"
"""How errors of the flasher name the command that completes a run."""


@dataclass(frozen=True)
class Orders:
    """What holds for every board.

    Attributes:
        consent: what the person agreed to.
        proof: how the flash is looked at and proven.
        may_erase_all: whether the person said that the chips hold nothing beyond the flash that they report.
        operator: who works.
        trust: whose record is believed.
        log: the bench's.
        journals: folder of the journals of interrupted runs.
        stop: tells when the work shall end.
        busy: the boards that are worked on, by unique id.
    """

    consent: Consent
    proof: Proof
    may_erase_all: bool
    operator: str
    trust: Trust
    log: BenchLog
    journals: Path
    stop: Stop
    busy: BusyBoards


class BusyBoards:
    """The boards that are worked on in this process, so that none is worked on twice at a time."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._ids: set[str] = set()

    @contextmanager
    def alone(self, unique_id: str) -> Iterator[None]:
        """Work on one board; those that do not tell their unique id, as `unique_id` is empty, are not told apart.

        Raises:
            RefusedError: another port has a board of the same unique id.
        """
        with self._lock:
            if unique_id in self._ids:
                raise RefusedError(
                    "another port has a board with the same unique id",
                    why=f"both say {unique_id}; either it is one board on two ports, or a chip is a copy",
                    remedy="name each board once; flash copies one after the other",
                )
            self._ids |= {unique_id} - {""}
        try:
            yield
        finally:
            with self._lock:
                self._ids.discard(unique_id)


@dataclass(frozen=True)
class Place:
    """Where one board is.

    Attributes:
        line: the way there.
        link: what carries the bytes.
        seat: the port, open.
        display: tells of the work.
    """

    line: BoardLine
    link: StoppableLink
    seat: Seat
    display: BoardDisplay


@contextmanager
def open_place(line: BoardLine, *, stop: Stop, display: BoardDisplay) -> Iterator[Place]:
    """Open a port.

    Args:
        line: the way to its boards.
        stop: tells when the work shall end.
        display: tells of the work.

    Raises:
        UsageError: the port's address or speed cannot be one.
        LinkError: there is no such port, it is busy, or it refuses.
    """
    with closing(StoppableLink(open_link(line.url, baud=line.first_baud), stop)) as link:
        yield Place(line, link, Seat(link, line, wait=stop.pause), display)


class BoardWork:
    """The work on one board.

    Args:
        orders: what holds for every board.
        place: where it is.
        bench: the board itself.
        release: what it is to hold, as far as that is known beforehand.
    """

    def __init__(self, orders: Orders, place: Place, *, bench: Bench, release: Release | None = None) -> None:
        """Nothing is done yet."""
        self._orders, self._place = orders, place
        self._bench = replace(bench, may_erase_all=orders.may_erase_all)
        self._result = BoardResult(place.line.url, bench.identity, release)
        self._started = time.monotonic()

    def run(self, find_offer: Callable[[], Offer]) -> BoardResult:
        """Find the release, flash it, start it, and write the log; what fails is in the result.

        Args:
            find_offer: gives the release that the board is to hold.
        """
        try:
            self._orders.log.check()
            with self._orders.busy.alone(self._result.board):
                self._flash(find_offer())
        except BlockOTAError as error:
            self._note(error=with_port(error, self._place.line))
        except KeyboardInterrupt:
            self._note(error=BoardError("stopped before anything was erased", why="nothing was changed"))
        self._write_log()
        return self._result

    def _flash(self, offer: Offer) -> None:
        proven, display = offer.proven, self._place.display
        self._note(release=proven.release, passed=proven.passed)
        if display.is_alone:
            display.note("Reading what the board's flash holds; nothing is changed before check 9 has passed.")
        look = self._bench.look(proven, known=offer.known, journal=self._journal(), proof=self._orders.proof)
        self._note(before="" if look.held is None else str(look.held))
        cleared = look.prove(self._orders.consent)
        self._check_passed(cleared.passed)
        finished = self._follow(cleared)
        self._check_passed((cleared.prove_flash(finished),))
        self._note(finished=finished, seconds=time.monotonic() - self._started)
        for note in cleared.notes:
            display.note(note)
        if not self._orders.consent.configuration:
            self._note(banner=self._start(proven.release.load_address))

    def _journal(self) -> FlashJournal:
        journal = FlashJournal(self._orders.journals, self._result.board, operator=self._orders.operator)
        if entry := journal.entry():
            self._place.display.note(
                f"A run with {entry.product} {entry.version} was interrupted on this board, as {journal.path} says."
            )
        return journal

    def _check_passed(self, passed: tuple[Passed, ...]) -> None:
        self._note(passed=(*self._result.passed, *passed))
        self._place.display.checks(passed)

    def _follow(self, cleared: ClearedBoard) -> Finished:
        events = cleared.flash()
        with self._place.link.changing():
            for event in events:
                if isinstance(event, Finished):
                    return event
                if isinstance(event, Preserved):
                    self._note(preserved=self._result.preserved + len(event.data))
                self._place.display.follow(event)
                if self._orders.stop.is_asked:
                    # The flasher alone can say what is half done: it ends with an error that does.
                    events.throw(KeyboardInterrupt())
        raise AssertionError("flashing ends with Finished")

    def _start(self, address: int) -> str:
        """What the board prints when it is started; the flash is proven by now, so no failure here is flashing's."""
        try:
            return self._place.seat.start(self._bench, address)
        except BlockOTAError as error:
            self._place.display.note(
                f"The board holds {self._result.held}, but it did not start: {error.what}: {error.why}. "
                "Reset the board with BOOT0 at 0."
            )
        except KeyboardInterrupt:
            self._place.display.note(f"The board was not started; it holds {self._result.held}.")
        return ""

    def _write_log(self) -> None:
        result = self._result
        try:
            self._note(line=self._orders.log.append(self._entry()))
        except BlockOTAError as error:
            if result.finished is None:
                self._place.display.note(f"The bench log has no line of this: {error}")
                return
            unlogged = UsageError(
                f"the board holds {result.held}, but the bench log has no line of it",
                why=f"{error.what}: {error.why}",
                remedy=error.remedy,
            )
            self._note(error=result.error or unlogged)

    def _entry(self) -> BenchEntry:
        result, trust = self._result, self._orders.trust
        release, finished = result.release, result.finished
        return BenchEntry(
            time=int(time.time()),
            operator=self._orders.operator,
            board=result.board,
            chip_id=self._bench.identity.product_id,
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

    def _note(self, **changes: Any) -> None:
        self._result = replace(self._result, **changes)


def with_port(error: BlockOTAError, line: BoardLine) -> BlockOTAError:
    """The same error, in which the command that completes a run names the board's port."""
    if RESUME not in error.remedy:
        return error
    options = "" if line == BoardLine(line.url) else f" {line.options}"
    remedy = error.remedy.replace(RESUME, f"{RESUME[:-1]} --port {line.url}{options}`")
    named = type(error)(error.what, why=error.why, remedy=remedy)
    named.__cause__ = error
    return named
