"""The terminal output of ``blockota flash``: notes, checks, a bar for each port, results, and a table of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from rich.progress import TaskID, TimeRemainingColumn

from blockota.cli.display import bars_of
from blockota.cli.layout import SCREEN, print_sentence
from blockota.cli.main import error_fields
from blockota.cli.remedies import sentence_of
from blockota.cli.session import Session
from blockota.model.facts import Passed
from blockota.model.release import Release
from blockota.stores.search import SearchObserver
from firmware_host.bench.result import (
    BoardImageResult,
    BoardMet,
    BoardResult,
    ChecksPassed,
    Counters,
    ReleaseChosen,
    combined_error,
)
from firmware_host.bench.result import Progress as BoardProgress
from firmware_host.flashing.plan import Checked, Erased, Finished, Programmed, Repeated

_STAGES = {Erased: "erasing", Programmed: "writing", Checked: "proving"}


class FlashDisplay:
    """Prints the progress of a flash; a `BenchObserver` that the threads of several ports share.

    Args:
        session: the session that prints to the terminal.
        is_one: whether only one board is flashed; the checks of a single board are printed one by one.

    Attributes:
        counters: the number of good and of bad boards so far.
    """

    def __init__(self, session: Session, *, is_one: bool) -> None:
        self._session, self._is_one, self.counters = session, is_one, Counters()
        self._bars = bars_of(session, TimeRemainingColumn())
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Begin to draw bars."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bars."""
        self._bars.stop()

    def checks(self, passed: Sequence[Passed]) -> None:
        """Print checks that passed."""
        if not self._session.as_json:
            for check in passed:
                self._session.check(check.number, check.what)

    def fetching(self, release: Release) -> SearchObserver:
        """Show a bar while a release's image is fetched."""
        name = f"fetching {release.product} {release.version}"

        def show(done: int) -> None:
            self._show(name, name, done, release.size)
            if done >= release.size:
                self._remove(name)

        return SearchObserver(self._session.note, show)

    def note(self, port: str, sentence: str, /) -> None:
        """Print a sentence on stderr."""
        self._session.note(f"{self._prefix(port)}{sentence}")

    def progress(self, port: str, event: BoardProgress, /) -> None:
        """Update the display after one step of flashing a board."""
        if isinstance(event, BoardMet):
            identity = event.identity
            name = identity.chip.name if identity.chip else "an unknown chip"
            unique = f"unique id {identity.unique_id}" if identity.unique_id else "its unique id cannot be read"
            for sentence in (*event.notes, f"Board: {name}, bootloader {identity.bootloader_version}, {unique}"):
                self.note(port, sentence)
        elif isinstance(event, ReleaseChosen) and self._is_one:
            self.note(port, "Reading the contents of the board's flash; nothing is changed before check 9 has passed.")
        elif isinstance(event, ChecksPassed) and self._is_one:
            self.checks(event.checks)
        elif isinstance(event, Repeated):
            self.note(port, f"The proof of the flash failed ({event.why}); the whole image is written again.")
        elif isinstance(event, Erased | Programmed | Checked) and event.total:
            self._show(port, f"{self._prefix(port)}{_STAGES[type(event)]}", event.done, event.total)

    def ended(self, port: str, result: BoardResult, /) -> None:
        """Remove the port's progress bar, and print the result, except the error of a single board."""
        self._remove(port)
        if result.finished and not self._session.as_json:
            self._success(port, result)
        if result.error and not self._is_one:
            self._session.warn(f"{self._prefix(port)}{sentence_of(result.error)}")
        if result.line:
            self.note(port, f"Line {result.line.number} of the bench log, SHA-256 {result.line.sha256.hex()}")
        counted = self.counters.add(result)
        if not self._is_one:
            self.note(port, counted)

    def table(self, results: Sequence[BoardResult]) -> None:
        """Print one row for each board, unless only one board is flashed."""
        if self._is_one or not results:
            return

        rows = []
        for one in results:
            outcome = one.error.what if one.error else one.result
            line = one.line.number if one.line else "-"
            rows.append((one.port, one.unique_id or "-", one.before or "-", one.held or "-", outcome, line))
        self._session.table(("PORT", "BOARD", "BEFORE", "PROVEN NOW", "RESULT", "LOG LINE"), rows)
        self._session.note(str(self.counters))

    def _prefix(self, port: str) -> str:
        return f"{port}: " if port and not self._is_one else ""

    def _success(self, port: str, result: BoardResult) -> None:
        prefix, finished = self._prefix(port), result.finished
        board = "the board" if self._is_one else f"board {result.unique_id}"
        already = " already" if result.result == "already" else ""
        summary = finished.summary if finished else ""
        proof = f"proven {_proven_by(finished)}, {result.seconds:.1f} s in all"
        self._session.done(f"{prefix}{board} holds {result.held}{already}: {summary}; {proof}")

        if result.preserved:
            beside = "bytes beside the image, in the same pages, were written back"
            self._session.done(f"{prefix}{result.preserved:,} {beside}")
        if result.board_image:
            self._session.done(f"{prefix}{board} holds {_own_image(result.board_image)}")

        for line in result.banner.splitlines():
            print_sentence(self._session.out, line, mark=f"{prefix}board says: ", mark_style="cyan")

    def _show(self, key: str, description: str, done: int, total: int) -> None:
        if key in self._tasks:
            self._bars.update(self._tasks[key], description=description, completed=done, total=total)
            return
        with SCREEN:
            self._tasks[key] = self._bars.add_task(description, completed=done, total=total)

    def _remove(self, key: str) -> None:
        if key in self._tasks:
            with SCREEN:
                self._bars.remove_task(self._tasks.pop(key))
                self._bars.refresh()


def _proven_by(finished: Finished | None) -> str:
    return "by hashing on the chip" if finished and finished.method == "stub" else "by reading it back"


def _own_image(result: BoardImageResult) -> str:
    image, finished = result.image, result.finished
    already = " already" if result.is_unchanged else ""
    how = _proven_by(finished)
    where = f"{image.size:,} bytes at {image.region.start:#010x} with SHA-256 {image.sha256.hex()}"
    return f"its own image of {image.product.name}{already}: {where}; proven {how}, without checks 1 to 4"


def finish(
    session: Session, results: Sequence[BoardResult], *, display: FlashDisplay, is_stopped: bool, then: str
) -> None:
    """Print the results and, after a success, the next step; end the command with the worst exit status.

    Raises:
        KeyboardInterrupt: the command was stopped.
        BlockOTAError: the flashing of a board failed.
    """
    error = combined_error(results) if results else None
    reports = []
    for result in results:
        failure = {"error": error_fields(result.error)} if result.error else {}
        reports.append(result.fields | failure)
    fields = {"results": reports, "counters": display.counters.fields}

    # With --json, a command prints one object: the error at the end contains the results.
    if not session.as_json or is_stopped or error is None:
        session.result(fields, lambda: display.table(results), then="" if is_stopped or error else then)

    if is_stopped:
        failed = sum(result.error is not None for result in results)
        done = len(results) - failed
        summary = f"{done} {'board is' if done == 1 else 'boards are'} done, {failed} failed."
        if not results:
            summary = "No board was flashed."
        elif len(results) == 1:
            summary = sentence_of(error) if error else f"The board holds {results[0].held}."
        raise KeyboardInterrupt(summary)

    if error:
        error.result = fields
        raise error
