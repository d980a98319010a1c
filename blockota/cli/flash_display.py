"""What is shown of the work on boards: notes, checks, a bar for each port, results, and a table of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from blockota.cli.flash_result import BoardResult
from blockota.cli.session import Session
from blockota.model.facts import Passed, ProvenRelease
from blockota.text import plain
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.events import Checked, Erased, Event, Repeated, Written

_STAGES = {Erased: "erasing", Written: "writing", Checked: "proving"}


class Display:
    """The terminal, on which the work on several boards is told from several threads.

    Args:
        session: knows the terminal.
        is_one: whether there is one board only: then its checks are told one by one.
    """

    def __init__(self, session: Session, *, is_one: bool) -> None:
        """Nothing is shown yet."""
        self.session, self.is_one = session, is_one
        console = session.err
        self._is_hidden = session.as_json or not console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self.bars = Progress(
            *columns,
            console=console,
            transient=True,
            disable=self._is_hidden,
            # What goes to a file must not be drawn above the bars.
            redirect_stdout=session.out.is_terminal,
        )

    def __enter__(self) -> Self:
        """Begin to draw bars."""
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let them vanish."""
        self.bars.stop()

    def release(self, proven: ProvenRelease) -> None:
        """Say which of the checks 1 to 5 held, which are about the release alone."""
        if not self.session.as_json:
            for check in proven.passed:
                self.session.done(f"{check.number:>2}  {check.what}")

    def table(self, results: Sequence[BoardResult]) -> None:
        """Print one row a board, unless there is one board only."""
        if self.is_one or not results:
            return
        rows = [
            (
                one.port,
                one.board or "-",
                one.before or "-",
                one.held or "-",
                one.error.what if one.error else one.result,
                one.line.number if one.line else "-",
            )
            for one in results
        ]
        self.session.table(("Port", "Board", "Before", "Proven now", "Result", "Log line"), rows)


class BoardDisplay:
    """What is shown of one port.

    Args:
        display: the terminal.
        port: the port's name.
    """

    def __init__(self, display: Display, port: str) -> None:
        """Nothing is shown yet."""
        self._display, self._session, self._port = display, display.session, port
        self._prefix = "" if display.is_one else f"{port}: "
        self._task: TaskID | None = None

    @property
    def is_alone(self) -> bool:
        """Whether there is one board only."""
        return self._display.is_one

    def note(self, sentence: str) -> None:
        """Say something beside the result, on stderr."""
        self._session.note(f"{self._prefix}{sentence}")

    def checks(self, passed: Sequence[Passed]) -> None:
        """Say which checks held, where there is one board only."""
        if self._display.is_one and not self._session.as_json:
            for check in passed:
                self._session.done(f"{check.number:>2}  {check.what}")

    def board(self, identity: BoardIdentity, notes: Sequence[str]) -> None:
        """Say which board is there, and how its port was opened."""
        for note in notes:
            self.note(note)
        name = identity.chip.name if identity.chip else "an unknown chip"
        unique = f"unique id {identity.unique_id}" if identity.unique_id else "its unique id cannot be read"
        self.note(f"Board: {name}, bootloader {identity.bootloader_version}, {unique}")

    def follow(self, event: Event) -> None:
        """Move the bar."""
        if isinstance(event, Repeated):
            self.note(f"The flash does not hold the image ({event.why}); all of it is written again.")
        if isinstance(event, Erased | Written | Checked) and event.total:
            bars = self._display.bars
            if self._task is None:
                self._task = bars.add_task("", total=None)
            stage = f"{self._prefix}{_STAGES[type(event)]}"
            bars.update(self._task, description=stage, completed=event.done, total=event.total)

    def end(self, result: BoardResult) -> None:
        """Take the bar away, and print the result; the error of a single board is the command's, and told there."""
        if self._task is not None:
            self._display.bars.remove_task(self._task)
            self._task = None
        if result.finished and not self._session.as_json:
            self._success(result)
        if result.error and not self._display.is_one:
            self._session.err.print(f"✗ {plain(f'{self._prefix}{result.error}')}", style="red", markup=False)
        if result.line:
            self.note(f"Line {result.line.number} of the bench log, SHA-256 {result.line.sha256.hex()}")

    def _success(self, result: BoardResult) -> None:
        finished, which = result.finished, "the board" if self._display.is_one else f"board {result.board}"
        already = " already" if result.result == "already" else ""
        summary = finished.summary if finished else ""
        self._session.done(f"{self._prefix}{which} holds {result.held}{already}: {summary}; {result.proof}")
        if result.preserved:
            self._session.done(
                f"{self._prefix}{result.preserved:,} bytes beside the image, in the same pages, were written back"
            )
        for line in result.banner.splitlines():
            self._session.out.print(f"[cyan]{self._prefix}board says:[/cyan] ", end="")
            self._session.out.print(line, markup=False)
