"""``blockota board identify``: show a board's chip, its protections, and the release in its flash."""

from __future__ import annotations

from typing import Any

import click

from blockota.cli.boards import JOURNALS, connected, named_pages
from blockota.cli.display import spinner
from blockota.cli.lines import line_options
from blockota.cli.remedies import sentence_of
from blockota.cli.session import Session, with_session_offline
from blockota.errors import RefusedError, UnreachableError, UsageError
from blockota.model.recognition import describe_release, ranked
from firmware_host.bench.session import BoardSession, FlashFindings
from firmware_host.bootloader.an3155 import Command
from firmware_host.bootloader.entry import BoardLine
from firmware_host.flashing.journal import FlashJournal

_KIB = 1024
_NOT_SENT = {0x01: "Get Version", 0xA1: "Get Checksum"}
"""Commands that a bootloader can offer, and that BlockOTA does not send."""


@click.command()
@click.option("--network", metavar="NAME", help="Network of the settings file.")
@line_options
@with_session_offline
def identify(session: Session, /, line: BoardLine) -> None:
    """Identify a board and the release in its flash.

    Nothing in the flash is changed.

    First set BOOT0 to 1 and reset the board by hand, or pass --wiring if the port's control lines do this.

    The releases are read from the chain. If the chain is out of reach, only the board is identified.

    \b
    Example:  blockota board identify --port /dev/ttyUSB0
    """
    with connected(session, line) as (bootloader, identity):
        known = {int(command): command.title for command in Command} | _NOT_SENT
        chip = identity.chip
        unverified = [UNVERIFIED[name] for name in chip.unverified] if chip else []

        fields: dict[str, Any] = {
            "port": bootloader.link.name,
            "baud": bootloader.link.baud,
            "productId": identity.product_id,
            "chip": chip.name if chip else None,
            "bootloader": identity.bootloader_version,
            "flashSize": identity.flash_size,
            "uniqueId": identity.unique_id,
            "readoutProtected": identity.readout_protected,
            "writeProtectedPages": identity.write_protected_pages,
            "unverified": unverified,
            "commands": [known.get(code, f"{code:#04x}") for code in sorted(bootloader.capabilities.commands)],
        }
        fields |= _contents(session, BoardSession(bootloader, identity, ()))
    session.result(fields, lambda: session.fields(_identity_rows(fields)))


def _contents(session: Session, board: BoardSession) -> dict[str, Any]:
    """Return the releases in the board's flash (None if unknown), and a sentence that describes the flash."""
    if board.identity.readout_protected:
        return {"releases": None, "contents": "not read, because readout protection is on"}
    if board.identity.chip is None or board.identity.flash_size is None:
        return {"releases": None, "contents": "not read, because the chip is not supported"}

    try:
        with spinner(session, "Looking at the flash"):
            contract = session.contract
            known, now = contract.histories(one.name for one in contract.products()), session.chain.head().time
            findings = board.search(known)
        if findings is None:
            return {"releases": [], "contents": "unknown: this vendor has no release for this chip"}
        sentence = "; ".join(describe_release(one, known, now=now) for one in findings.releases)
        sentence = sentence or _without_release(session, board, findings)
    except (UsageError, RefusedError, UnreachableError) as error:  # the board is identified all the same
        return {"releases": None, "contents": f"not read: {sentence_of(error)}"}

    return {"releases": [ranked(one, known, now=now) for one in findings.releases], "contents": sentence}


def _without_release(session: Session, board: BoardSession, findings: FlashFindings) -> str:
    """Return a sentence that describes a flash in which no release was found."""
    unique_id = board.identity.unique_id
    entry = FlashJournal(session.settings.bench / JOURNALS.name, unique_id).entry() if unique_id else None
    if entry:
        return (
            f"half written: a run with {entry.product} {entry.version} was interrupted on this board. Complete it "
            "(`blockota flash --resume`)."
        )
    if findings.is_blank:
        return f"blank: {findings.region} is erased"
    return f"unknown: no release of this vendor is in {findings.region}"


UNVERIFIED = {
    "clock_hz": "clock of the digest program",
    "erase_command": "erase command",
    "erase_limit": "pages in one erase command",
    "erase_units": "size of a page, so the flash is erased as a whole",
    "free_ram": "RAM that the bootloader leaves free",
    "identity": "flash size and unique id, which are not read",
    "option_bytes": "addresses of the option bytes",
    "second_bank_page": "page numbers of the second bank, so both are tried",
    "usarts": "USARTs of the bootloader",
}
"""The facts of the chip table that no document or published code confirms, by the name of the field."""


def _identity_rows(fields: dict[str, Any]) -> dict[str, object]:
    size, pages = fields["flashSize"], fields["writeProtectedPages"]
    unknown = "unknown, because the chip is not supported" if fields["chip"] is None else "unknown"
    readout = {True: "on: the flash cannot be read or written", False: "off", None: unknown}

    writing = "off"
    if pages is None:
        writing = unknown
    elif pages:
        writing = named_pages(pages)

    return {
        "Chip": f"{fields['chip'] or 'not supported'}, product id {fields['productId']:#05x}",
        "Bootloader": f"version {fields['bootloader']}, at {fields['baud']} baud",
        "Flash": f"{size // _KIB} KiB" if size else unknown,
        "Unique id": fields["uniqueId"] or unknown,
        "Contents": fields["contents"],
        "Readout protection": readout[fields["readoutProtected"]],
        "Write protection": writing,
        "Commands": ", ".join(fields["commands"]),
        "Not verified": ", ".join(fields["unverified"]) or "nothing",
    }
