"""The work at one port: a board once, the completion of an interrupted run, or board after board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from blockota.cli.flash_board import BoardWork, Orders, Place, open_place, with_port
from blockota.cli.flash_display import BoardDisplay
from blockota.cli.flash_offer import Offer, Offers
from blockota.cli.flash_result import BoardResult
from blockota.errors import BlockOTAError, BoardError, RefusedError, VerificationError
from blockota.model.release import Version
from firmware_host.bench.session import Bench
from firmware_host.bootloader.entry import BoardLine
from firmware_host.flashing import journal as flash_journal
from firmware_host.flashing.journal import JournalEntry


class PortWork(Protocol):
    """What is done at a port."""

    def __call__(self, line: BoardLine, display: BoardDisplay, /) -> list[BoardResult]:
        """Do it; what fails is in the results."""


@dataclass(frozen=True)
class Once:
    """One board, with a release that is proven already.

    Attributes:
        orders: what holds for every board.
        offer: the release.
    """

    orders: Orders
    offer: Offer

    def __call__(self, line: BoardLine, display: BoardDisplay, /) -> list[BoardResult]:
        """Flash the board that is there."""
        return [at_board(self.orders, line, display=display, work=self._flash)]

    def _flash(self, place: Place) -> BoardResult:
        bench = place.seat.meet()
        place.display.board(bench.identity, bench.notes)
        return BoardWork(self.orders, place, bench=bench).run(lambda: self.offer)


@dataclass(frozen=True)
class Resumption:
    """One board, whose interrupted run is completed as its journal says.

    Attributes:
        orders: what holds for every board.
        offers: finds releases.
        product: what the person says it was; None leaves it to the journal.
        version: the same.
    """

    orders: Orders
    offers: Offers
    product: str | None
    version: Version | None

    def __call__(self, line: BoardLine, display: BoardDisplay, /) -> list[BoardResult]:
        """Complete the run of the board that is there."""
        return [at_board(self.orders, line, display=display, work=self._resume)]

    def _resume(self, place: Place) -> BoardResult:
        bench = place.seat.meet(is_stuck=True)
        place.display.board(bench.identity, bench.notes)
        return BoardWork(self.orders, place, bench=bench).run(lambda: self._offer(bench))

    def _offer(self, bench: Bench) -> Offer:
        entry = self._entry(bench.identity.unique_id or "")
        try:
            return self.offers.offer(entry.product, entry.version)
        except VerificationError as error:
            raise VerificationError(
                error.number,
                error.what.partition(", ")[2],
                why=f"{error.why}; the board is as the interruption left it",
                remedy=f"{error.remedy}; then say `blockota flash --product {entry.product}` with it, without --resume",
            ) from error

    def _entry(self, unique_id: str) -> JournalEntry:
        entry = flash_journal.find(self.orders.journals, unique_id) if unique_id else None
        if entry is None:
            raise RefusedError(
                "there is nothing to resume on this board",
                why=f"{self.orders.journals} has no journal of {unique_id or 'a board that does not tell its id'}"
                f"{_others(self.orders)}; nothing was changed",
                remedy="take the board that was interrupted, or flash this one with --product and without --resume",
            )
        if self.product not in (None, entry.product) or self.version not in (None, entry.version):
            raise RefusedError(
                f"{entry.product} {entry.version} was interrupted on this board",
                why=f"{self.product or entry.product} {self.version or entry.version} was named; nothing was changed",
                remedy="leave --product and --version out, or leave --resume out to flash what you name",
            )
        return entry


def require_journals(orders: Orders) -> None:
    """Refuse before a board is disturbed where nothing can be resumed.

    Raises:
        RefusedError: no run was interrupted, as far as the journals say.
    """
    if not flash_journal.boards(orders.journals):
        raise RefusedError(
            "there is nothing to resume",
            why=f"{orders.journals} has no journal of an interrupted run",
            remedy="flash the board with --product and without --resume, in the folder where it was begun",
        )


def at_board(
    orders: Orders, line: BoardLine, *, display: BoardDisplay, work: Callable[[Place], BoardResult]
) -> BoardResult:
    """Open a port, and work on the board there.

    Args:
        orders: what holds for every board.
        line: the way to it.
        display: tells of the work.
        work: what is done.

    Returns:
        What came of it; where no board answered it has an error alone.
    """
    try:
        with open_place(line, stop=orders.stop, display=display) as place:
            result = work(place)
    except BlockOTAError as error:
        result = BoardResult(line.url, error=with_port(error, line))
    except KeyboardInterrupt:
        result = BoardResult(line.url, error=BoardError("stopped before a board answered", why="nothing was changed"))
    display.end(result)
    return result


def _others(orders: Orders) -> str:
    boards = flash_journal.boards(orders.journals)
    return f", only of {', '.join(boards)}" if boards else ""
