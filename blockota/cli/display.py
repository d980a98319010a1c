"""Progress bars on stderr and the search for a release's image, for several commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import BinaryIO

from rich.constrain import Constrain
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TransferSpeedColumn

from blockota.cli.session import Session
from blockota.model.release import Release
from blockota.stores.search import SearchObserver, find_image

_PART_SIZE = 1 << 20
_ECHO = len("^C^C^C^C")
"""Columns behind progress bars for the ^C that a terminal prints if Ctrl-C is pressed."""


def search_image(session: Session, release: Release, *, named: Sequence[str], into: BinaryIO) -> None:
    """Write a release's image into an empty file, from the store or a source, with a progress bar on stderr.

    Raises:
        UsageError: a URL on the command line or in the settings is not the URL of a gateway.
        VerificationError: check 4 failed, because every image that was found differs from the release.
        StoreError: no source serves the image.
    """
    stages = session.connection.image_sources(named).stages(release)
    with progress_bar(session, "Fetching", total=release.size) as bar:
        find_image(release, session.store, stages=stages, into=into, observer=SearchObserver(session.note, bar))


def parts_of(session: Session, file: BinaryIO, *, size: int, start: int = 0) -> Iterator[bytes]:
    """Yield `size` bytes of an image file, beginning at `start`, and show a progress bar while the caller reads."""
    file.seek(start)
    done = 0
    with progress_bar(session, "Checking", total=size) as bar:
        while part := file.read(min(_PART_SIZE, size - done)):
            yield part
            done += len(part)
            bar(done)


@contextmanager
def progress_bar(session: Session, what: str, *, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr, and yield a function that is called with the number of bytes processed so far.

    The progress bar disappears at the end. Without a terminal or with ``--json``, no progress bar is shown.
    """
    with bars_of(session, TransferSpeedColumn()) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


@contextmanager
def counting_bar(session: Session, what: str, *, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, and yield a function that adds a number of bytes to the progress."""
    done = 0
    with progress_bar(session, what, total=total) as bar:

        def add(size: int) -> None:
            nonlocal done
            done += size
            bar(done)

        yield add


@contextmanager
def spinner(session: Session, what: str) -> Iterator[None]:
    """Show a spinner on stderr during work of unknown length. It is omitted where progress bars are omitted."""
    with nullcontext() if _is_plain(session) else session.err.status(what):
        yield


def bars_of(session: Session, last: ProgressColumn) -> Progress:
    """Return progress bars on stderr, as wide as the terminal; `last` is their last column.

    Printed lines appear above the bars, which disappear at the end. No bar is shown with ``--json``, without a
    terminal, on a dumb terminal, or with NO_COLOR.
    """

    class Bars(Progress):
        def get_renderables(self) -> Iterator[Constrain]:
            """Yield bars that leave room for the ^C that a terminal prints at the end of the line."""
            yield Constrain(self.make_tasks_table(self.tasks), session.err.width - _ECHO)

    return Bars(
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        last,
        console=session.err,
        transient=True,
        expand=True,
        disable=_is_plain(session),
        redirect_stdout=session.out.is_terminal,  # output to a file must not be drawn above the bars
    )


def _is_plain(session: Session) -> bool:
    return session.as_json or session.err.color_system is None
