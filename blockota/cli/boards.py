"""Functions of the board commands: connect to a board, parse page numbers, and confirm a change by the board's id."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from blockota.cli.session import Session
from blockota.errors import RefusedError
from blockota.settings import BENCH_FOLDER, JOURNALS_NAME, OLD_BENCH_LOG_NAME, STATE_FOLDER, settings_folder
from firmware_host.bench.log_folder import bench_log_folder
from firmware_host.bench.port import open_port
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import FASTEST, BoardLine
from firmware_host.bootloader.identity import BoardIdentity

JOURNALS = Path(STATE_FOLDER) / BENCH_FOLDER / JOURNALS_NAME
"""The folder of the journals of interrupted runs."""
_TYPED = 4
"""Number of characters of a unique id that the operator types."""
_MAX_PAGE = 1 << 16


def parse_pages(value: Any) -> tuple[int, ...]:
    """Parse numbers of pages or sectors, counted from 0, such as ``3-7,9``."""
    if isinstance(value, tuple):
        return value
    found: set[int] = set()
    for part in str(value).split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MAX_PAGE:
            raise click.BadParameter(f"{value!r} names no pages: give page numbers such as 3-7,9.")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def bench_logs(session: Session) -> list[Path]:
    """Return the paths of the bench's logs: the log file of an earlier version, if it exists, and the current log."""
    state = settings_folder(session.config, environment=os.environ) / STATE_FOLDER / BENCH_FOLDER
    new, old = bench_log_folder(session.config, environment=os.environ), state / OLD_BENCH_LOG_NAME
    return [path for path in (old, new) if path.exists()] or [new]


@contextmanager
def connected(session: Session, line: BoardLine) -> Iterator[tuple[Bootloader, BoardIdentity]]:
    """Connect to a board, and identify it.

    Raises:
        UsageError: the URL or the speed is invalid.
        BoardError: the port does not exist, the board is silent, or its response violates AN3155.
    """
    with open_port(line) as port:
        board = port.connect()
        for note in board.notes:
            session.note(note)
        if line.baud == FASTEST:
            how = "the highest speed that the board understood"  # found by trials, of which each needs a reset line
            if line.wiring.is_by_hand:
                how = "no other speed is tried without a reset line"
            session.note(f"{board.bootloader.link.baud} baud: {how}.")
        yield board.bootloader, board.identity


def require_confirmation(session: Session, identity: BoardIdentity, *, consequence: str, confirmed: str | None) -> None:
    """Print what will be lost, and continue only if the operator names the board.

    `confirmed` is the value of ``--confirm``; if it is None, the operator is asked on the terminal.

    Raises:
        RefusedError: the operator named another board, or cannot be asked without a terminal.
    """
    # The name of a port does not identify the board behind the port, so the operator names the board.
    name = board_name(identity)
    session.note(f"{described(identity)}. {consequence}")

    if confirmed is None:
        if session.as_json or not (sys.stdin and sys.stdin.isatty()):
            raise RefusedError(
                "nothing was changed",
                why="the change cannot be confirmed without a terminal",
                remedy=f"add --confirm {name} if the change is intended",
            )
        end = name[-_TYPED:]
        confirmed = str(click.prompt(f"Type the last {len(end)} characters of {name} to continue", err=True)).strip()
        if confirmed.lower() == end:
            confirmed = name

    if confirmed.lower() != name and identity.unique_id is None:
        raise RefusedError(
            "nothing was changed",
            why=f"the board's unique id cannot be read, so {confirmed} cannot be compared with it",
            remedy=f"make sure that this is the right board, then confirm it by its product id, --confirm {name}",
        )
    if confirmed.lower() != name:
        raise RefusedError(
            "nothing was changed",
            why=f"{confirmed} was named, but the board on the line is {name}",
            remedy=f"make sure that this is the right board, then add --confirm {name}",
        )


def board_name(identity: BoardIdentity) -> str:
    """Return the name that confirms a board: its unique id, or its product id if the unique id cannot be read."""
    return identity.unique_id or f"{identity.product_id:#05x}"


def described(identity: BoardIdentity) -> str:
    """Return the names of a board and of its chip, as the beginning of a sentence."""
    name = identity.chip.name if identity.chip else f"unknown chip, product id {identity.product_id:#05x}"
    return f"Board {board_name(identity)} ({name})"


def named_pages(pages: Collection[int]) -> str:
    """Return page numbers as text, such as ``page 5`` or ``pages 3-7,9``."""
    return f"page{'s' * (len(pages) != 1)} {page_runs(pages)}"


def page_runs(pages: Iterable[int]) -> str:
    """Return page numbers as runs, such as ``3-7,9``."""
    runs = []
    for _, group in groupby(enumerate(sorted(pages)), key=lambda place: place[1] - place[0]):
        run = [page for _, page in group]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(runs)
