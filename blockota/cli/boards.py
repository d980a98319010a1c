"""What commands that speak to boards share: the options of the line, page numbers, and the board's own name typed."""

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

from blockota.cli.session import Session, with_session
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
"""The names in `firmware_host.bootloader.entry`, whose module a command's help does not need."""
_WIRING_HELP = "by-hand, dtr-rts, rts-dtr, dtr, rts or break."
_SLOWEST, _FASTEST = 1200, 1_000_000
_TYPED = 4
"""Characters of a unique id that are typed."""
_MAX_PAGE = 1 << 16
_OF_THE_CHAIN = ("config", "network", "store")
_PARAMETERS = "__click_params__"
"""Where click's decorators leave the options of a function that is no command yet."""


class BaudWord(click.ParamType):
    """``115200``, or ``auto`` for the highest speed that the board understands, as 0."""

    name = "baud"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the word."""
        from firmware_host.bootloader.entry import FASTEST

        if value in ("auto", FASTEST):
            return FASTEST
        if not (str(value).isdecimal() and _SLOWEST <= int(value) <= _FASTEST):
            self.fail(f"{value!r} is no speed: say {_SLOWEST} to {_FASTEST} bits a second, or auto.", param, ctx)
        return int(value)


class PagesWord(click.ParamType):
    """``3-7,9``: numbers of pages or sectors, from 0 on."""

    name = "pages"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the word."""
        if isinstance(value, tuple):
            return value
        pages: set[int] = set()
        for part in str(value).split(","):
            match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if not first <= last < _MAX_PAGE:
                self.fail(f"{value!r} names no pages: say 3-7,9.", param, ctx)
            pages.update(range(first, last + 1))
        return tuple(sorted(pages))


BAUD, PAGES = BaudWord(), PagesWord()


def with_session_alone(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Give a command its `Session`, without the options of chain and store, which a board does not need."""
    whole = with_session(command)

    @functools.wraps(whole)
    def wrapped(**kwargs: Any) -> None:
        whole(**dict.fromkeys(_OF_THE_CHAIN), **kwargs)

    options = vars(wrapped)
    options[_PARAMETERS] = [one for one in options[_PARAMETERS] if one.name not in _OF_THE_CHAIN]
    return wrapped


def line_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the way to one board, as ``line``, and the options that say it."""

    @click.option("--port", required=True, metavar="URL", help="/dev/ttyUSB0, socket://HOST:PORT or rfc2217://….")
    @_way_options
    @functools.wraps(command)
    def wrapped(*args: Any, port: str, way: Callable[[str], BoardLine], **kwargs: Any) -> None:
        command(*args, line=way(port), **kwargs)

    return wrapped


def lines_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the ways to several boards, as ``lines``; ``--port`` is said once for each of them."""

    @click.option("--port", required=True, multiple=True, metavar="URL", help="As often as there are boards.")
    @_way_options
    @functools.wraps(command)
    def wrapped(*args: Any, port: tuple[str, ...], way: Callable[[str], BoardLine], **kwargs: Any) -> None:
        command(*args, lines=tuple(map(way, port)), **kwargs)

    return wrapped


def _way_options(command: Callable[..., None]) -> Callable[..., None]:
    @click.option("--baud", type=BAUD, default="115200", show_default=True, help="Bits a second, or auto.")
    @click.option("--wiring", type=click.Choice(WIRINGS), metavar="NAME", default="by-hand", help=_WIRING_HELP)
    @click.option("--invert-reset", is_flag=True, help="In reset while the line is not asserted.")
    @click.option("--invert-boot0", is_flag=True, help="BOOT0 is 1 while the line is asserted.")
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from firmware_host.bootloader.entry import BoardLine, find_wiring

        baud, wiring = kwargs.pop("baud"), kwargs.pop("wiring")
        inversions = {name: kwargs.pop(name) for name in ("invert_reset", "invert_boot0")}
        found = find_wiring(wiring, **inversions)
        command(*args, way=lambda url: BoardLine(url, baud, found), **kwargs)

    return wrapped


@contextmanager
def connected(session: Session, line: BoardLine) -> Iterator[tuple[Bootloader, BoardIdentity]]:
    """Connect to a board, and ask it what it is.

    Args:
        session: is told what had to be done differently.
        line: the way to the board.

    Raises:
        UsageError: the port's address or speed cannot be one.
        BoardError: no port, no answer, or an answer that is not AN3155's.
    """
    from firmware_host.bootloader.entry import FASTEST, open_bootloader
    from firmware_host.bootloader.identity import identify

    with open_bootloader(line) as bootloader:
        for note in bootloader.link.notes:
            session.note(note)
        if line.baud == FASTEST:
            reason = "the highest that was understood"
            if line.wiring.is_by_hand:
                reason = "without a reset line no other is tried"
            session.note(f"{bootloader.link.baud} baud: {reason}.")
        yield bootloader, identify(bootloader)


def require_confirmation(session: Session, identity: BoardIdentity, *, consequence: str, confirmed: str | None) -> None:
    """Say what will be lost, and go on only when the person has named the board.

    Args:
        session: says it.
        identity: of the board.
        consequence: a sentence.
        confirmed: the board's name as given by ``--confirm``; without it the person is asked on the terminal.

    Raises:
        RefusedError: another board was named, or there is nobody to ask.
    """
    name = board_name(identity)
    session.note(f"{described(identity)}. {consequence}")
    if confirmed is None:
        confirmed = _typed_name(session, name)
    if confirmed.lower() != name:
        raise RefusedError(
            "nothing was changed",
            why=f"{confirmed} was named, and the board on the line is {name}",
            remedy=f"see that it is the right board, and then say --confirm {name}",
        )


def board_name(identity: BoardIdentity) -> str:
    """What a person confirms a board by: its unique id, or its product id where it does not tell that."""
    return identity.unique_id or f"{identity.product_id:#05x}"


def described(identity: BoardIdentity) -> str:
    """A board in a clause."""
    name = identity.chip.name if identity.chip else f"unknown chip, product id {identity.product_id:#05x}"
    return f"Board {board_name(identity)} ({name})"


def page_runs(pages: Iterable[int]) -> str:
    """Page numbers as people write them, as in ``3-7,9``."""
    runs = []
    for _, group in groupby(enumerate(sorted(pages)), key=lambda place: place[1] - place[0]):
        run = [page for _, page in group]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(runs)


def _typed_name(session: Session, name: str) -> str:
    if session.as_json or not (sys.stdin and sys.stdin.isatty()):
        raise RefusedError(
            "nothing was changed", why="there is no terminal to ask on", remedy=f"say --confirm {name} if this is meant"
        )
    end = name[-_TYPED:]
    typed = str(click.prompt(f"Type the last {len(end)} characters of {name} to go on", err=True)).strip()
    return name if typed.lower() in (end, name) else typed
