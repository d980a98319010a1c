"""``--source``, and the search for a release's image that ``release fetch`` and ``flash`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from blockota.cli.session import Session

if TYPE_CHECKING:
    from blockota.model.release import Release
    from blockota.stores.search import Candidate, SearchStage

_PART_SIZE = 1 << 20


def source_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command name sources that are asked before those of the settings and the chain."""
    words = "Ask this repository or gateway first when the store lacks the image; can be given several times."
    return click.option("--source", multiple=True, metavar="URL", help=words)(command)


def search_image(session: Session, release: Release, *, named: Sequence[str], into: BinaryIO) -> None:
    """Write a release's image into an empty file, from wherever it is to be had, and tell of it on stderr.

    Args:
        session: knows the store, the settings and the chain.
        release: the chain's record.
        named: the URLs of ``--source``.
        into: a file that is open for reading and writing.

    Raises:
        UsageError: a URL of the command line or the settings names no gateway.
        VerificationError: number 4, only something else was found.
        StoreError: nobody serves the image.
    """
    from blockota.stores.search import SearchObserver, find_image

    stages = _stages(session, release, named=named)
    with progress_bar(session, "Fetching", total=release.size) as bar:
        find_image(release, session.store, stages=stages, into=into, observer=SearchObserver(session.note, bar))


def parts_of(session: Session, file: BinaryIO, *, size: int) -> Iterator[bytes]:
    """An image's bytes, from the beginning of a file, with a bar while they are checked.

    Args:
        session: knows the terminal.
        file: where the image is.
        size: bytes that are expected.
    """
    file.seek(0)
    done = 0
    with progress_bar(session, "Checking", total=size) as bar:
        while part := file.read(_PART_SIZE):
            yield part
            done += len(part)
            bar(done)


@contextmanager
def progress_bar(session: Session, what: str, *, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while something is done; it is gone afterwards, and not there without a terminal or with JSON.

    Args:
        session: knows the terminal.
        what: is done, one word.
        total: bytes of all of it, where it is known.

    Yields:
        What takes the bytes that are done.
    """
    console = session.err
    columns = (TextColumn("{task.description:<9}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    is_hidden = session.as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


@contextmanager
def counting_bar(session: Session, what: str) -> Iterator[Callable[[int], None]]:
    """A bar like `progress_bar`, without an end that is known, whose taker is told what is added."""
    done = 0
    with progress_bar(session, what, total=None) as bar:

        def add(size: int) -> None:
            nonlocal done
            done += size
            bar(done)

        yield add


def _stages(session: Session, release: Release, *, named: Sequence[str]) -> tuple[SearchStage, ...]:
    """Who is asked, in this order; what the person has written is read at once, so that mistakes are told at once."""
    from blockota.stores.search import SearchStage
    from blockota.stores.search import named as candidates

    settings = session.settings
    first, vendor, gateways = (
        list(candidates(urls, session.credentials)) for urls in (named, settings.vendor_sources, settings.gateways)
    )
    return (
        SearchStage("what --source names", lambda: first),
        SearchStage("the vendor and the brokers", lambda: [*vendor, *_announced(session, release)]),
        SearchStage("the gateways", lambda: gateways),
    )


def _announced(session: Session, release: Release) -> Iterator[Candidate]:
    from blockota.stores.search import announced

    if session.settings.replication is not None:
        replicas = session.replication.replicas(release.product, release.version)
        yield from announced(replicas, is_local_chain=session.is_local_chain, credentials=session.credentials)
