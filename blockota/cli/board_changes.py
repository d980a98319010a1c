"""``blockota board erase``, ``protect`` and ``unprotect``: what destroys or locks, and asks for the board's name first.

All follow one rule: the person types the last characters of the board's unique id, or names it whole with --confirm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from blockota.cli.boards import (
    JOURNALS,
    PAGES,
    connected,
    described,
    line_options,
    page_runs,
    require_confirmation,
    with_session_alone,
)
from blockota.cli.display import progress_bar
from blockota.cli.session import Session
from blockota.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from firmware_host.bootloader.client import Bootloader
    from firmware_host.bootloader.entry import BoardLine
    from firmware_host.bootloader.identity import BoardIdentity

_ALL = "all"
_KIB = 1024
_confirm = click.option("--confirm", metavar="ID", help="The board's unique id, in place of being asked.")


class PagesOrAll(click.ParamType):
    """``3-7,9``, or ``all`` as None in a tuple of its own."""

    name = "pages"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...] | str:
        """Read the word."""
        return _ALL if value == _ALL else PAGES.convert(value, param, ctx)


@click.command()
@click.option("--pages", type=PAGES, help="Pages or sectors by number, as in 3-7,9.")
@click.option("--all", "everything", is_flag=True, help="The whole flash.")
@_confirm
@line_options
@with_session_alone
def erase(session: Session, /, line: BoardLine, **options: Any) -> None:
    """Erase pages of a board's flash, or all of it, and read them back to prove it.

    What they hold is lost. The command says what that is, and asks for the last characters of the board's unique id.

    \b
    Example:  blockota board erase --pages 3-7,9 --port /dev/ttyUSB0
              blockota board erase --all --confirm 424c4f434b4f544100000001 --port /dev/ttyUSB0
    """
    from firmware_host.flashing.erasure import erase as erase_units
    from firmware_host.flashing.erasure import flash_of, units_to_erase

    pages = _one_of(options["pages"], everything=options["everything"])
    with connected(session, line) as (bootloader, identity):
        units = units_to_erase(identity, pages)
        size = sum(unit.size for unit in units)
        which = "the whole flash" if pages is None else f"page {page_runs(pages)}"
        consequence = f"Erasing {which} destroys {size:,} bytes; {_for_good(identity, pages)}."
        require_confirmation(session, identity, consequence=consequence, confirmed=options["confirm"])
        chip, flash_size = flash_of(identity)
        with progress_bar(session, "Proving", total=size) as bar:
            for done in erase_units(bootloader, chip, units=units, flash_size=flash_size):
                bar(done)
    if pages is None:
        _forget_interruption(session, identity)
    fields = {"uniqueId": identity.unique_id, "pages": [unit.number for unit in units], "bytes": size}
    session.result(fields, lambda: session.done(f"{size:,} bytes are erased, and read as erased: {which}."))


@click.command()
@click.option("--readout", is_flag=True, help="Nobody can read the flash, nor write or prove it.")
@click.option(
    "--write",
    "pages",
    type=PagesOrAll(),
    is_flag=False,
    flag_value=_ALL,
    metavar="[PAGES]",
    help="These pages, or all, keep what they hold.",
)
@_confirm
@line_options
@with_session_alone
def protect(session: Session, /, line: BoardLine, **options: Any) -> None:
    """Protect a board's flash from being read or written, and ask the board afterwards whether it is.

    The command says what follows from it, and asks for the last characters of the board's unique id.

    \b
    Example:  blockota board protect --write 0-3 --port /dev/ttyUSB0
              blockota board protect --readout --port /dev/ttyUSB0
    """
    from firmware_host.flashing.erasure import flash_of

    _one_protection(options["readout"], bool(options["pages"]))
    with connected(session, line) as (bootloader, identity):
        flash_of(identity)  # a board that is locked already refuses everything
        consequence = _protecting(identity, options["pages"])
        require_confirmation(session, identity, consequence=consequence, confirmed=options["confirm"])
        after = _protected(bootloader, identity, pages=options["pages"])
    _show(session, identity, after=after)


@click.command()
@click.option("--readout", is_flag=True, help="The flash can be read again; the chip erases all of it.")
@click.option("--write", is_flag=True, help="All pages can be written again; nothing is erased.")
@_confirm
@line_options
@with_session_alone
def unprotect(session: Session, /, line: BoardLine, **options: Any) -> None:
    """Lift a board's readout protection, which erases all of its flash, or its write protection.

    The command says what follows from it, and asks for the last characters of the board's unique id, or of its product
    id: a board that is protected from being read does not tell the other.

    \b
    Example:  blockota board unprotect --write --port /dev/ttyUSB0
              blockota board unprotect --readout --confirm 0x410 --port /dev/ttyUSB0
    """
    from firmware_host.flashing.erasure import flash_of, known_chip

    _one_protection(options["readout"], options["write"])
    consequence = (
        "Lifting the readout protection destroys all that its flash holds; nothing brings it back, "
        "and the journal of a run that was interrupted on it is removed."
        if options["readout"]
        else "Lifting the write protection lets every page be erased and written again; nothing is erased now."
    )
    with connected(session, line) as (bootloader, identity):
        _ = known_chip(identity) if options["readout"] else flash_of(identity)
        require_confirmation(session, identity, consequence=consequence, confirmed=options["confirm"])
        after = _unprotected(bootloader, identity, readout=options["readout"])
        if options["readout"]:
            _forget_interruption(session, after)
    _show(session, identity, after=after)


def _journal(identity: BoardIdentity) -> Path | None:
    """The journal of a run that was interrupted on the board, in this folder; None where there is none."""
    path = JOURNALS / f"{identity.unique_id}.json"
    return path if identity.unique_id and path.exists() else None


def _for_good(identity: BoardIdentity, pages: tuple[int, ...] | None) -> str:
    if not (journal := _journal(identity)):
        return "nothing brings them back"
    if pages is None:
        return f"nothing brings them back, and the journal of the run that was interrupted on it, {journal}, is removed"
    return f"only those that {journal} has, the journal of the run that was interrupted on it, are put back by a flash"


def _forget_interruption(session: Session, identity: BoardIdentity) -> None:
    """What is erased on purpose is not put back by the next flash."""
    if journal := _journal(identity):
        try:
            journal.unlink()
        except OSError as error:
            session.note(f"{journal} cannot be removed ({error.strerror}): remove it, or a flash puts its bytes back.")


def _one_of(pages: tuple[int, ...] | None, *, everything: bool) -> tuple[int, ...] | None:
    if everything is (pages is not None):
        raise UsageError("say what is to be erased", remedy="name --pages 3-7,9, or --all")
    return pages


def _one_protection(*named: bool) -> None:
    if sum(named) != 1:
        raise UsageError("say which protection is meant", remedy="name --readout or --write, one of the two")


def _protecting(identity: BoardIdentity, pages: tuple[int, ...] | str | None) -> str:
    if pages is None:
        return (
            "With readout protection nobody can read its flash, nor write or prove it, "
            "until the protection is lifted, which destroys all that it holds."
        )
    which = "all pages" if pages == _ALL else f"page {page_runs(_numbers(identity, pages))}"
    return (
        f"With write protection {which} cannot be erased or written, nor others that the chip protects with them; "
        "protection that pages have now is replaced. Nothing is erased."
    )


def _numbers(identity: BoardIdentity, pages: tuple[int, ...] | str) -> tuple[int, ...]:
    from firmware_host.flashing.erasure import page_numbers

    return page_numbers(identity, None if isinstance(pages, str) else pages)


def _protected(
    bootloader: Bootloader, identity: BoardIdentity, *, pages: tuple[int, ...] | str | None
) -> BoardIdentity:
    from firmware_host.bootloader.protection import protect_pages, protect_readout
    from firmware_host.flashing.erasure import known_chip

    chip = known_chip(identity)
    if pages is None:
        return protect_readout(bootloader, chip)
    return protect_pages(bootloader, chip, pages=_numbers(identity, pages))


def _unprotected(bootloader: Bootloader, identity: BoardIdentity, *, readout: bool) -> BoardIdentity:
    from firmware_host.bootloader.protection import unprotect_pages, unprotect_readout
    from firmware_host.flashing.erasure import known_chip

    chip = known_chip(identity)
    return unprotect_readout(bootloader, chip) if readout else unprotect_pages(bootloader, chip)


def _show(session: Session, before: BoardIdentity, *, after: BoardIdentity) -> None:
    """Print what the board says of its protections now."""
    pages = after.write_protected_pages
    fields = {
        "uniqueId": after.unique_id or before.unique_id,
        "readoutProtected": after.readout_protected,
        "writeProtectedPages": pages,
    }
    writing = "not told" if pages is None else f"on for page {page_runs(pages)}" if pages else "off"
    readout = "on" if after.readout_protected else "off"
    sentence = f"{described(before)} says after its reset: readout protection {readout}, write protection {writing}."
    session.result(fields, lambda: session.done(sentence))
