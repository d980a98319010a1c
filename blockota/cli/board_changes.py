"""``blockota board erase``, ``protect`` and ``unprotect``: commands that erase or lock the flash, after a confirmation.

The operator types the last characters of the board's unique id, or passes the whole id with ``--confirm``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from blockota.cli.boards import (
    JOURNALS,
    connected,
    described,
    named_pages,
    parse_pages,
    require_confirmation,
)
from blockota.cli.display import progress_bar
from blockota.cli.lines import line_options
from blockota.cli.session import Session, with_session_offline
from blockota.errors import UsageError
from firmware_host.bootloader.entry import BoardLine
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.bootloader.protection import protect_pages, protect_readout, unprotect_pages, unprotect_readout
from firmware_host.flashing.erasure import erase as erase_units
from firmware_host.flashing.erasure import flash_of, known_chip, page_numbers, units_to_erase

_ALL = "all"
_confirm = click.option("--confirm", metavar="ID", help="The board's unique id; without it, the command asks.")


def pages_or_all(value: Any) -> tuple[int, ...] | str:
    """Parse page numbers such as ``3-7,9``, or ``all``."""
    return _ALL if value == _ALL else parse_pages(value)


@click.command()
@click.option("--pages", type=parse_pages, metavar="PAGES", help="Numbers of pages or sectors, as in 3-7,9.")
@click.option("--all", "everything", is_flag=True, help="Erase the whole flash.")
@_confirm
@line_options
@with_session_offline
def erase(
    session: Session, /, *, line: BoardLine, pages: tuple[int, ...] | None, everything: bool, confirm: str | None
) -> None:
    """Erase pages of a board's flash, or the whole flash.

    The erasure is proven by reading the flash back.

    The contents of the pages are lost. The command asks for the last characters of the board's unique id.

    \b
    Example:  blockota board erase --pages 3-7,9 --port /dev/ttyUSB0
              blockota board erase --all --confirm 424c4f434b4f544100000001 \\
                  --port /dev/ttyUSB0
    """
    if everything is (pages is not None):
        raise UsageError("exactly one of --pages and --all is needed", remedy="pass one of them, such as --pages 3-7,9")

    with connected(session, line) as (bootloader, identity):
        units = units_to_erase(identity, pages)
        size = sum(unit.size for unit in units)
        which = "the whole flash" if pages is None else named_pages(pages)

        recovery, journal = "they cannot be restored", _journal(identity)
        if journal and pages is None:
            recovery += f", and {journal}, the journal of its interrupted run, is removed"
        elif journal:
            recovery = f"only the bytes in {journal}, the journal of its interrupted run, can be restored"
        consequence = f"Erasing {which} destroys {size:,} bytes; {recovery}."
        require_confirmation(session, identity, consequence=consequence, confirmed=confirm)

        chip, flash_size = flash_of(identity)
        with progress_bar(session, "Proving", total=size) as bar:
            for done in erase_units(bootloader, chip, units=units, flash_size=flash_size):
                bar(done)

    if pages is None:
        _remove_journal(session, identity)
    fields = {"uniqueId": identity.unique_id, "pages": [unit.number for unit in units], "bytes": size}
    session.result(fields, lambda: session.done(f"erased {which}, {size:,} bytes, and proved it by reading them back"))


@click.command()
@click.option("--readout", is_flag=True, help="The flash cannot be read, written or proven any more.")
@click.option(
    "--write",
    "pages",
    type=pages_or_all,
    is_flag=False,
    flag_value=_ALL,
    metavar="[PAGES]",
    help="These pages, or all pages, cannot be erased or written any more.",
)
@_confirm
@line_options
@with_session_offline
def protect(
    session: Session, /, *, line: BoardLine, readout: bool, pages: tuple[int, ...] | str | None, confirm: str | None
) -> None:
    """Protect a board's flash against reading or writing.

    The protection is read back from the board.

    The command asks for the last characters of the board's unique id.

    \b
    Example:  blockota board protect --write 0-3 --port /dev/ttyUSB0
              blockota board protect --readout --port /dev/ttyUSB0
    """
    _require_one(readout, bool(pages))
    consequence = (
        "With readout protection, the board's flash cannot be read, written or proven, "
        "until the protection is removed, which destroys all contents."
    )

    with connected(session, line) as (bootloader, identity):
        chip, _ = flash_of(identity)  # refuses a board with readout protection, which would reject the commands
        if pages:
            numbers = page_numbers(identity, None if isinstance(pages, str) else pages)
            which = "all pages" if pages == _ALL else named_pages(numbers)
            consequence = (
                f"With write protection, {which} cannot be erased or written. The same applies to other pages that the "
                "chip protects together with them. Nothing is erased; the present write protection is replaced."
            )

        require_confirmation(session, identity, consequence=consequence, confirmed=confirm)
        after = protect_pages(bootloader, chip, pages=numbers) if pages else protect_readout(bootloader, chip)
    _show(session, identity, after=after)


@click.command()
@click.option("--readout", is_flag=True, help="The flash can be read again; the chip erases the whole flash.")
@click.option("--write", is_flag=True, help="All pages can be written again; nothing is erased.")
@_confirm
@line_options
@with_session_offline
def unprotect(session: Session, /, *, line: BoardLine, readout: bool, write: bool, confirm: str | None) -> None:
    """Remove a board's write protection or readout protection.

    Removing the readout protection erases the whole flash.

    The command asks for the last characters of the board's unique id. Under readout protection the unique id cannot be
    read, and the command asks for the product id instead.

    \b
    Example:  blockota board unprotect --write --port /dev/ttyUSB0
              blockota board unprotect --readout --confirm 0x410 \\
                  --port /dev/ttyUSB0
    """
    _require_one(readout, write)

    consequence = "Removing the write protection lets every page be erased and written again; nothing is erased now."
    if readout:
        consequence = (
            "Removing the readout protection destroys all contents of the board's flash. They cannot be restored, "
            "and the journal of an interrupted run is removed."
        )

    with connected(session, line) as (bootloader, identity):
        chip = known_chip(identity) if readout else flash_of(identity)[0]
        require_confirmation(session, identity, consequence=consequence, confirmed=confirm)
        after = unprotect_readout(bootloader, chip) if readout else unprotect_pages(bootloader, chip)
        if readout:
            _remove_journal(session, after)
    _show(session, identity, after=after)


def _require_one(*named: bool) -> None:
    if sum(named) != 1:
        raise UsageError("exactly one of --readout and --write is needed", remedy="pass one of them")


def _journal(identity: BoardIdentity) -> Path | None:
    """Return the journal of the board's interrupted run in this folder; None if it does not exist."""
    path = JOURNALS / f"{identity.unique_id}.json"
    return path if identity.unique_id and path.exists() else None


def _remove_journal(session: Session, identity: BoardIdentity) -> None:
    """Remove the journal of a board whose flash was erased on purpose, so that the next flash restores no old bytes."""
    if journal := _journal(identity):
        try:
            journal.unlink()
        except OSError as error:
            session.note(
                f"cannot remove {journal} ({error.strerror}). Remove it, or the next flash restores its bytes."
            )


def _show(session: Session, before: BoardIdentity, *, after: BoardIdentity) -> None:
    """Print the board's protections after its reset."""
    # Under readout protection the unique id cannot be read, so the id that was read before is reported.
    pages = after.write_protected_pages
    fields = {
        "uniqueId": after.unique_id or before.unique_id,
        "readoutProtected": after.readout_protected,
        "writeProtectedPages": pages,
    }

    writing = "off"
    if pages is None:
        writing = "unknown"
    elif pages:
        writing = f"on for {named_pages(pages)}"

    readout = "on" if after.readout_protected else "off"
    sentence = f"{described(before)} reports after its reset: readout protection {readout}, write protection {writing}."
    session.result(fields, lambda: session.done(sentence))
