"""Options of the line to a board, page numbers, and confirmation by a board's id, for the commands that need them."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from blockota.cli.session import Session
from blockota.errors import RefusedError
from blockota.settings import STATE_FOLDER

if TYPE_CHECKING:
    from firmware_host.bootloader.client import Bootloader
    from firmware_host.bootloader.entry import BoardLine
    from firmware_host.bootloader.identity import BoardIdentity

P = ParamSpec("P")
BENCH_LOG = Path(STATE_FOLDER) / "bench" / "bench-log.jsonl"
"""The bench log, beside the other state in the folder in which commands are run."""
JOURNALS = BENCH_LOG.with_name("interrupted")
"""The folder of the journals of interrupted runs."""
WIRINGS = ("by-hand", "dtr-rts", "rts-dtr", "dtr", "rts", "break")
"""The names in `firmware_host.bootloader.entry`, which is not imported for a command's help."""
_SLOWEST, _FASTEST = 1200, 1_000_000
_TYPED = 4
"""Characters of a unique id that the operator types."""
_MAX_PAGE = 1 << 16


class BaudWord(click.ParamType):
    """``115200``, or ``auto`` for the highest speed that the board understands, as 0."""

    name = "baud"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the option."""
        from firmware_host.bootloader.entry import FASTEST

        if value in ("auto", FASTEST):
            return FASTEST
        if not (str(value).isdecimal() and _SLOWEST <= int(value) <= _FASTEST):
            self.fail(f"{value!r} is not a speed: give {_SLOWEST} to {_FASTEST} bits per second, or auto.", param, ctx)
        return int(value)


class PagesWord(click.ParamType):
    """``3-7,9``: numbers of pages or sectors, from 0 on."""

    name = "pages"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse the option."""
        if isinstance(value, tuple):
            return value
        pages: set[int] = set()
        for part in str(value).split(","):
            match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if not first <= last < _MAX_PAGE:
                self.fail(f"{value!r} names no pages: give page numbers such as 3-7,9.", param, ctx)
            pages.update(range(first, last + 1))
        return tuple(sorted(pages))


BAUD, PAGES = BaudWord(), PagesWord()


def with_session_offline(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Pass a command a `Session` without the options of chain and store, which a board does not need."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.pop("as_json"))
        kwargs.pop("debug")  # main() looks for it on the command line
        command(Session(None, None, store=None, as_json=as_json), *args, **kwargs)

    return wrapped


def line_options(command: Callable[..., None]) -> Callable[..., None]:
    """Pass a command the line to one board, as ``line``, and add the options that define it."""

    @click.option("--port", required=True, metavar="URL", help="/dev/ttyUSB0, socket://HOST:PORT or rfc2217://….")
    @_wiring_options
    @functools.wraps(command)
    def wrapped(
        *args: object, port: str, baud: int, wiring: str, invert_reset: bool, invert_boot0: bool, **kwargs: object
    ) -> None:
        from firmware_host.bootloader.entry import BoardLine, find_wiring

        found = find_wiring(wiring, invert_reset=invert_reset, invert_boot0=invert_boot0)
        command(*args, line=BoardLine(port, baud, found), **kwargs)

    return wrapped


def lines_options(command: Callable[..., None]) -> Callable[..., None]:
    """Pass a command the lines to several boards, as ``lines``; ``--port`` is given once for each of them."""

    @click.option("--port", required=True, multiple=True, metavar="URL", help="A board's port; may be repeated.")
    @_wiring_options
    @functools.wraps(command)
    def wrapped(
        *args: object,
        port: tuple[str, ...],
        baud: int,
        wiring: str,
        invert_reset: bool,
        invert_boot0: bool,
        **kwargs: object,
    ) -> None:
        from firmware_host.bootloader.entry import BoardLine, find_wiring

        found = find_wiring(wiring, invert_reset=invert_reset, invert_boot0=invert_boot0)
        command(*args, lines=tuple(BoardLine(url, baud, found) for url in port), **kwargs)

    return wrapped


def _wiring_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--invert-boot0", is_flag=True, help="BOOT0 is 1 while the line is asserted."),
        click.option("--invert-reset", is_flag=True, help="In reset while the line is not asserted."),
        click.option(
            "--wiring",
            type=click.Choice(WIRINGS),
            metavar="NAME",
            default="by-hand",
            help="by-hand, dtr-rts, rts-dtr, dtr, rts or break.",
        ),
        click.option("--baud", type=BAUD, default="115200", show_default=True, help="Bits per second, or auto."),
    ):
        command = option(command)
    return command


@contextmanager
def connected(session: Session, line: BoardLine) -> Iterator[tuple[Bootloader, BoardIdentity]]:
    """Connect to a board, and identify it.

    Args:
        session: prints notes about the port.
        line: the line to the board.

    Raises:
        UsageError: the URL or the speed is invalid.
        BoardError: the port does not exist, the board is silent, or its answer does not follow AN3155.
    """
    from firmware_host.bootloader.entry import FASTEST, open_bootloader
    from firmware_host.bootloader.identity import identify

    with open_bootloader(line) as bootloader:
        for note in bootloader.link.notes:
            session.note(note)
        if line.baud == FASTEST:
            how = "the highest that was understood"
            if line.wiring.is_by_hand:
                how = "without a reset line no other is tried"
            session.note(f"{bootloader.link.baud} baud: {how}.")
        yield bootloader, identify(bootloader)


def require_confirmation(session: Session, identity: BoardIdentity, *, consequence: str, confirmed: str | None) -> None:
    """Print what will be lost, and continue only if the operator names the board.

    Args:
        session: prints it.
        identity: the board.
        consequence: a sentence.
        confirmed: the value of ``--confirm``; without it the operator is asked on the terminal.

    Raises:
        RefusedError: another board was named, or there is no terminal.
    """
    name = board_name(identity)
    session.note(f"{described(identity)}. {consequence}")
    if confirmed is None:
        confirmed = _typed_name(session, name)
    if confirmed.lower() != name:
        raise RefusedError(
            "nothing was changed",
            why=f"{confirmed} was named, and the board on the line is {name}",
            remedy=f"make sure that it is the right board, then add --confirm {name}",
        )


def board_name(identity: BoardIdentity) -> str:
    """The name that confirms a board: its unique id, or its product id if the other cannot be read."""
    return identity.unique_id or f"{identity.product_id:#05x}"


def described(identity: BoardIdentity) -> str:
    """A board in a clause."""
    name = identity.chip.name if identity.chip else f"unknown chip, product id {identity.product_id:#05x}"
    return f"Board {board_name(identity)} ({name})"


def page_runs(pages: Iterable[int]) -> str:
    """Page numbers as runs, such as ``3-7,9``."""
    runs = []
    for _, group in groupby(enumerate(sorted(pages)), key=lambda place: place[1] - place[0]):
        run = [page for _, page in group]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(runs)


def _typed_name(session: Session, name: str) -> str:
    if session.as_json or not (sys.stdin and sys.stdin.isatty()):
        raise RefusedError(
            "nothing was changed",
            why="there is no terminal to ask for confirmation",
            remedy=f"add --confirm {name} if this is intended",
        )
    end = name[-_TYPED:]
    typed = str(click.prompt(f"Type the last {len(end)} characters of {name} to go on", err=True)).strip()
    return name if typed.lower() in (end, name) else typed
