"""Flash several boards: at several ports simultaneously, or one after another at one port."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from blockota.errors import BoardError, BoardProtocolError, LinkError, NoAnswerError
from blockota.model.release import Release
from blockota.shutdown import Stop
from firmware_host.bench.doctor import Reply
from firmware_host.bench.job import Bench, FlashJob
from firmware_host.bench.offers import Offers
from firmware_host.bench.port import BOOTLOADER, BoardPort, open_port
from firmware_host.bench.result import BenchObserver, BoardMet, BoardResult
from firmware_host.bench.session import BoardSession
from firmware_host.bootloader.entry import SETTLE_SECONDS, BoardLine

PAUSE_SECONDS = 0.4
"""Seconds between two polls. The pause is short for an operator, but long enough that a poll rarely reaches a board
during its start."""
REMOVED = 3
"""The number of unanswered polls after which a board counts as removed. A connected board answers every second poll."""
ABSENT = len(SETTLE_SECONDS) + 1
"""The number of unanswered polls after which a port counts as empty. If the wiring can reset the board, each poll
follows a reset."""
_POLL_SECONDS = 0.1
_STOPPING = "Stopping: a page that is being written is finished first."
_STILL_STOPPING = "Still stopping; another Ctrl-C changes nothing, because no board may be left half written."


def at_all_ports(
    lines: Sequence[BoardLine], work: Callable[[BoardLine], list[BoardResult]], *, stop: Stop, observer: BenchObserver
) -> list[BoardResult]:
    """Work at several ports at the same time, with one thread per port.

    A failure at one port does not affect other ports. Call this function in the main thread, inside
    `blockota.shutdown.stop_on_signals`. After a request to stop, every board is brought to a known state, even if the
    request is repeated.
    """
    answered = 0
    with ThreadPoolExecutor(len(lines), thread_name_prefix="port") as pool:
        running = [pool.submit(work, line) for line in lines]
        while True:
            done, pending = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                stop.ask()  # even after a bug in one thread, no other board may be left half written

            requests = len(stop.requests)
            if requests and not answered:
                observer.note("", _STOPPING)
            if requests > max(answered, 1):
                observer.note("", _STILL_STOPPING)
            answered = requests

            if not pending:
                break
    return [result for future in running for result in future.result()]


class PortWatch:
    """Flashes one board after another at a port.

    Each new board is flashed, until the bench is stopped. The release is proven again for each board, because the
    vendor can revoke it between two boards.
    """

    def __init__(self, bench: Bench, offers: Offers, release: Release, line: BoardLine) -> None:
        self._bench, self._offers, self._release, self._line = bench, offers, release, line
        self._results: list[BoardResult] = []
        self._last: str | None = None  # unique id of the board that was flashed last
        self._is_settled = False  # the last board is not tried again while it stays
        self._is_there = False  # a poll has found the next board already
        self._is_stuck = False  # the last session broke off, perhaps in the middle of a frame
        self._last_note = ""
        # If a control line drives BOOT0, the port also resets the board.
        self._how = "" if line.wiring.drives_boot0 else ", with BOOT0 at 1, and reset it"
        self._next = f"put the next one in{self._how}"

    def run(self) -> list[BoardResult]:
        """Flash boards until the bench is stopped."""
        try:
            while True:
                try:
                    # As long as the port exists.
                    with open_port(self._line, stop=self._bench.stop) as port:
                        first = f"Put a board in{self._how}."
                        self._note(f"Take the board out, and {self._next}." if self._results else first)
                        while True:
                            self._next_board(port)
                except LinkError as error:
                    self._note(f"Waiting for the port: {error.what}: {error.why}.")
                    self._forgive()
                    self._is_stuck = bool(self._results)
                self._bench.stop.pause(PAUSE_SECONDS)
        except KeyboardInterrupt:
            return self._results

    def _next_board(self, port: BoardPort) -> None:
        self._await_board(port)
        try:
            board = port.connect()
        except (NoAnswerError, BoardProtocolError) as error:
            self._note(f"A board answered, and then did not: {error.what}: {error.why}. Reset it with BOOT0 at 1.")
            self._is_stuck = True
            self._bench.stop.pause(PAUSE_SECONDS)
            return
        # A board without a readable unique id cannot be recognised, and is always flashed.
        if self._is_settled and self._last and board.identity.unique_id == self._last:
            self._note(f"Board {self._last} is there still or again, and is not flashed again; {self._next}.")
        else:
            self._flash(port, board)
        self._await_removal(port)

    def _flash(self, port: BoardPort, board: BoardSession) -> None:
        release, observer = self._release, self._bench.observer
        observer.progress(self._line.url, BoardMet(board.identity, () if self._results else board.notes))
        job = FlashJob(self._bench, port, board, release)
        result = job.run(lambda _: self._offers.offer(release.product, release.version))
        self._results.append(result)
        # A failed session can leave the bootloader in the middle of a frame.
        self._is_stuck = isinstance(result.error, BoardError)
        observer.ended(self._line.url, result)
        self._last, self._is_settled, self._last_note = board.identity.unique_id, True, ""
        self._bench.stop.check()
        again = "; put in again, this one is tried again" if result.error else ""
        self._note(f"Take the board out, and {self._next}{again}.")

    def _await_board(self, port: BoardPort) -> None:
        silent = 0
        while not (self._is_there or self._poll(port, reset=True) in BOOTLOADER):
            silent += 1
            # The port is empty, so the next board is newly connected, even if it is the same one.
            if silent == ABSENT:
                self._forgive()
            self._bench.stop.pause(PAUSE_SECONDS)
        self._is_there = False

    def _await_removal(self, port: BoardPort) -> None:
        """Wait until the board stops answering.

        The polls do not reset the board, so a board that has started its program also counts as removed.
        """
        silent = 0
        while silent < REMOVED:
            self._bench.stop.pause(PAUSE_SECONDS)
            reply = self._poll(port, reset=False)
            if reply is Reply.FRESH:
                # The operator pressed reset, or has already connected another board.
                self._is_there = True
                self._forgive()
                return
            silent = 0 if reply is Reply.CONNECTED else silent + 1

    def _poll(self, port: BoardPort, *, reset: bool) -> Reply:
        reply = port.poll(reset=reset, is_stuck=self._is_stuck)
        self._is_stuck = self._is_stuck and reply not in BOOTLOADER
        return reply

    def _forgive(self) -> None:
        """Allow another attempt on the last board if its flashing failed and the board was removed."""
        if self._results and self._results[-1].error:
            self._is_settled = False

    def _note(self, sentence: str) -> None:
        """Send a note to the observer, unless it repeats the last note."""
        if sentence != self._last_note:
            self._last_note = sentence
            self._bench.observer.note(self._line.url, sentence)
