"""Board after board at one port: put one in, it is flashed, take it out, next."""

from __future__ import annotations

from dataclasses import dataclass

from blockota.cli.flash_board import BoardWork, Orders, Place, open_place
from blockota.cli.flash_display import BoardDisplay
from blockota.cli.flash_offer import Offers
from blockota.cli.flash_result import BoardResult
from blockota.errors import BoardError, BoardProtocolError, LinkError, NoAnswerError
from blockota.model.release import Release
from firmware_host.bench.doctor import Reply
from firmware_host.bench.port import BOOTLOADER, Seat
from firmware_host.bench.session import Bench
from firmware_host.bootloader.entry import SETTLE_SECONDS, BoardLine

PAUSE_SECONDS = 0.4
"""Between two looks at a port: a person does not notice it, and a board that comes up is seldom met by a byte."""
REMOVED = 3
"""Looks without an answer after which a board counts as gone; one in conversation answers every second."""
NOBODY = len(SETTLE_SECONDS) + 1
"""Looks, each with a reset where that can be done, after which there is no board; slow chips are waited for."""


@dataclass(frozen=True)
class Watch:
    """Boards of one release, as they come.

    Attributes:
        orders: what holds for every board.
        offers: finds the release.
        release: which one; it is asked again of the chain for each board, because it may be revoked meanwhile.
    """

    orders: Orders
    offers: Offers
    release: Release

    def __call__(self, line: BoardLine, display: BoardDisplay, /) -> list[BoardResult]:
        """Flash boards until the work shall end."""
        shift = _Shift(self, line, display=display)
        try:
            while True:
                shift.at_port()
        except KeyboardInterrupt:
            return shift.results


class _Shift:
    """What happened at one port so far."""

    def __init__(self, watch: Watch, line: BoardLine, *, display: BoardDisplay) -> None:
        self.results: list[BoardResult] = []
        self._watch, self._line, self._display = watch, line, display
        self._stop = watch.orders.stop
        self._last: str | None = None
        self._is_over = self._is_there = False
        # Whether the last conversation broke off, perhaps in the middle of a frame.
        self._is_stuck = False
        self._said = ""
        # Where BOOT0 is driven from here the board is reset from here, too.
        self._how = "" if line.wiring.drives_boot0 else ", with BOOT0 at 1, and reset it"
        self._next = f"put the next one in{self._how}"

    def at_port(self) -> None:
        """Work as long as the port is there, and wait while it is not."""
        try:
            with open_place(self._line, stop=self._stop, display=self._display) as place:
                self._say(f"Take the board out, and {self._next}." if self.results else f"Put a board in{self._how}.")
                while True:
                    self._next_board(place)
        except LinkError as error:
            self._say(f"Waiting for the port: {error.what}: {error.why}.")
            self._gone()
            self._is_stuck = bool(self.results)
        self._stop.pause(PAUSE_SECONDS)

    def _next_board(self, place: Place) -> None:
        self._await_board(place.seat)
        try:
            bench = place.seat.meet()
        except (NoAnswerError, BoardProtocolError) as error:
            self._say(f"A board answered, and then did not: {error.what}: {error.why}. Reset it with BOOT0 at 1.")
            self._is_stuck = True
            self._stop.pause(PAUSE_SECONDS)
            return
        # Nobody knows of a board without a unique id whether it is the last one.
        if self._is_over and self._last and bench.identity.unique_id == self._last:
            self._say(f"Board {self._last} is there still or again, and is not flashed again; {self._next}.")
        else:
            self._flash(place, bench)
        self._await_removal(place.seat)

    def _flash(self, place: Place, bench: Bench) -> None:
        watch, release = self._watch, self._watch.release
        self._display.board(bench.identity, () if self.results else bench.notes)
        work = BoardWork(watch.orders, place, bench=bench, release=release)
        result = work.run(lambda: watch.offers.offer(release.product, release.version))
        self.results.append(result)
        self._is_stuck = isinstance(result.error, BoardError)
        self._display.end(result)
        self._last, self._is_over, self._said = bench.identity.unique_id, True, ""
        self._stop.check()
        again = "; put in again, this one is tried again" if result.error else ""
        self._say(f"Take the board out, and {self._next}{again}.")

    def _await_board(self, seat: Seat) -> None:
        silent = 0
        while not self._is_there:
            self._is_there = self._look(seat, reset=True) in BOOTLOADER
            silent += not self._is_there
            if silent == NOBODY:
                self._gone()
            if not self._is_there:
                self._stop.pause(PAUSE_SECONDS)
        self._is_there = False

    def _await_removal(self, seat: Seat) -> None:
        """Wait until the board is silent; nothing resets it here, so one that runs its program is silent as well."""
        silent = 0
        while silent < REMOVED:
            self._stop.pause(PAUSE_SECONDS)
            reply = self._look(seat, reset=False)
            if reply is Reply.FRESH:
                # Somebody has pressed reset, or put another board in already.
                self._is_there = True
                self._gone()
                return
            silent = 0 if reply is Reply.IN_CONVERSATION else silent + 1

    def _look(self, seat: Seat, *, reset: bool) -> Reply:
        reply = seat.look(reset=reset, is_stuck=self._is_stuck)
        self._is_stuck = self._is_stuck and reply not in BOOTLOADER
        return reply

    def _gone(self) -> None:
        """The board that was worked on last was taken out: if it failed, it may be tried again."""
        if self.results and self.results[-1].error:
            self._is_over = False

    def _say(self, sentence: str) -> None:
        """Say it, unless it was the last that was said."""
        if sentence != self._said:
            self._said = sentence
            self._display.note(sentence)
