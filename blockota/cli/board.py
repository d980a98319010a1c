"""``blockota board``: identify a board, read it, simulate one, diagnose its line, and show the bench log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blockota.cli.board_changes import erase, protect, unprotect
from blockota.cli.boards import BENCH_LOG, connected, line_options, page_runs, with_session_offline
from blockota.cli.display import progress_bar
from blockota.cli.parameters import NUMBER
from blockota.cli.remedies import remedy_of
from blockota.cli.session import Session
from blockota.errors import BlockOTAError, BoardError, RefusedError, UsageError
from blockota.files import refuse_overwriting, result_files

if TYPE_CHECKING:
    from firmware_host.bench.doctor import Finding
    from firmware_host.bench.log import Line
    from firmware_host.bootloader.chips import Chip
    from firmware_host.bootloader.client import Bootloader
    from firmware_host.bootloader.entry import BoardLine
    from firmware_host.bootloader.identity import BoardIdentity

_KIB = 1024


@click.group()
def board() -> None:
    """One STM32 on a serial line: identify, read, erase, protect, diagnose."""


for _command in (erase, protect, unprotect):
    board.add_command(_command)


@board.command()
@line_options
@with_session_offline
def identify(session: Session, /, line: BoardLine) -> None:
    """Identify a board; nothing on it is changed.

    Set BOOT0 to 1 and reset the board first, or name with --wiring the lines that do it.

    \b
    Example:  blockota board identify --port /dev/ttyUSB0
    """
    with connected(session, line) as (bootloader, identity):
        fields = _identity_fields(bootloader, identity)
    session.result(fields, lambda: session.fields(_identity_rows(fields)))


@board.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--address", type=NUMBER, help="Of the first byte; by default the start of the flash.")
@click.option("--length", type=NUMBER, help="In bytes; by default up to the end of that memory.")
@click.option("--force", is_flag=True, help="Replace the file.")
@line_options
@with_session_offline
def read(
    session: Session,
    /,
    *,
    line: BoardLine,
    output: Path,
    address: int | None,
    length: int | None,
    force: bool,
) -> None:
    """Read a board's flash, or its RAM, system memory or option bytes by their addresses, into a file.

    The file is written whole or not at all. Nothing on the board is changed.

    \b
    Example:  blockota board read -o flash.bin --port /dev/ttyUSB0
              blockota board read -o options.bin --address 0x1ffff800 --port /dev/ttyUSB0
    """
    import hashlib

    from firmware_host.flashing.erasure import flash_of
    from firmware_host.flashing.plan import chunks

    refuse_overwriting(output, None, force=force)
    with connected(session, line) as (bootloader, identity):
        span = _span(*flash_of(identity), first=address, length=length)
        with result_files(output, None) as (file, _), progress_bar(session, "Reading", total=len(span)) as bar:
            digest = hashlib.sha256()
            for chunk in chunks(span):
                part = bootloader.read(chunk.start, len(chunk))
                file.write(part)
                digest.update(part)
                bar(chunk.stop - span.start)
    fields = {"file": str(output), "address": span.start, "length": len(span), "sha256": digest.hexdigest()}
    sentence = f"{len(span):,} bytes from {span.start:#010x} are in {output}, SHA-256 {digest.hexdigest()}"
    session.result(fields | {"uniqueId": identity.unique_id}, lambda: session.done(sentence))


@board.command()
@line_options
@with_session_offline
def doctor(session: Session, /, line: BoardLine) -> None:
    """Diagnose the line to a board; exit status 0 if the board can be flashed.

    Nothing on the board is changed, but it may be reset: if the port has control lines and no bootloader answers,
    other wirings and speeds are tried, and the one that works is reported.

    \b
    Example:  blockota board doctor --port /dev/ttyUSB0
    """
    from firmware_host.bench.doctor import findings
    from firmware_host.bench.trials import observe

    session.note("Examining the line; this takes some seconds, half a minute if nothing answers.")
    found = findings(observe(line))
    error = _hindrance(line, found)
    fields = {
        "port": line.url,
        "canBeFlashed": error is None,
        "findings": [_finding_fields(finding) for finding in found],
    }
    if error:
        session.result_of_failure(error, fields)
    if not error or not session.as_json:
        session.result(fields, lambda: _show_findings(session, found))
    if error:
        raise error


@board.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@with_session_offline
def simulate(session: Session, /, options: tuple[str, ...]) -> None:
    """Serve a simulated board until Ctrl-C, and print its URL for --port.

    It is what `python -m firmware_host.simulator` serves, with all OPTIONS of that command, which are listed by
    `blockota board simulate -- --help`: chips, faults, control lines, the time that things take.

    \b
    Example:  blockota board simulate --tcp 3115 --flash board.flash
              blockota board simulate --rfc2217 3116 --wiring dtr-rts
              blockota board simulate --json -- --readout-protected
    """
    from firmware_host.simulator.__main__ import simulate as serve

    try:
        serve(options, lambda url: session.result({"url": url}, lambda: click.echo(url)))
    except SystemExit as end:
        if end.code:
            remedy = "see them all with `blockota board simulate -- --help`"
            raise UsageError("the simulator does not understand its options", remedy=remedy) from None


@board.command()
@click.option("--log", "path", type=click.Path(path_type=Path), default=BENCH_LOG, show_default=True)
@click.option("--board", "wanted", metavar="ID", help="Only this board's lines; the end of its unique id.")
@with_session_offline
def log(session: Session, /, path: Path, wanted: str | None) -> None:
    """Show the bench log, and prove that no line was removed, changed or inserted.

    A log that was replaced as a whole shows only in the number and the hash of a line: compare the last line with the
    ones that were printed when it was written.

    \b
    Example:  blockota board log --board 0001
    """
    from firmware_host.bench.log import BenchLog

    lines = list(BenchLog(path).lines())
    shown = [line for line in lines if str(line.fields.get("board", "")).endswith((wanted or "").lower())]
    last = {"number": lines[-1].number, "sha256": lines[-1].sha256.hex()} if lines else None
    fields = {"file": str(path), "whole": True, "last": last, "lines": [line.fields for line in shown]}
    session.result(fields, lambda: _show_log(session, lines, shown=shown))


def _identity_fields(bootloader: Bootloader, identity: BoardIdentity) -> dict[str, Any]:
    from firmware_host.bootloader.an3155 import Command

    known = {int(command): command.title for command in Command}
    commands = sorted(bootloader.capabilities.commands)
    return {
        "port": bootloader.link.name,
        "baud": bootloader.link.baud,
        "productId": identity.product_id,
        "chip": identity.chip.name if identity.chip else None,
        "bootloader": identity.bootloader_version,
        "flashSize": identity.flash_size,
        "uniqueId": identity.unique_id,
        "readoutProtected": identity.readout_protected,
        "writeProtectedPages": identity.write_protected_pages,
        "commands": [known.get(code, f"{code:#04x}") for code in commands],
    }


def _identity_rows(fields: dict[str, Any]) -> dict[str, object]:
    size, pages = fields["flashSize"], fields["writeProtectedPages"]
    unknown = "unknown, because the chip is not supported" if fields["chip"] is None else "unknown"
    readout = {True: "on: the flash cannot be read or written", False: "off", None: unknown}
    writing = "off"
    if pages is None:
        writing = unknown
    elif pages:
        writing = f"pages {page_runs(pages)}"
    return {
        "Chip": f"{fields['chip'] or 'not supported'}, product id {fields['productId']:#05x}",
        "Bootloader": f"version {fields['bootloader']}, at {fields['baud']} baud",
        "Flash": f"{size // _KIB} KiB" if size else unknown,
        "Unique id": fields["uniqueId"] or unknown,
        "Readout protection": readout[fields["readoutProtected"]],
        "Write protection": writing,
        "Commands": ", ".join(fields["commands"]),
    }


def _span(chip: Chip, flash_size: int, *, first: int | None, length: int | None) -> range:
    """The addresses to read, all in one memory of the chip."""
    start = chip.flash_base if first is None else first
    memories = chip.readable(flash_size)
    memory = next((span for span in memories if start in span), range(0))
    stop = memory.stop if length is None else start + length
    if not start < stop <= memory.stop:
        spans = ", ".join(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in memories if span)
        raise RefusedError(
            f"there are no {length if length is not None else 'bytes'} to read at {start:#010x}",
            why=f"the {chip.name} can be read at {spans}",
            remedy="give --address and --length within one of these",
        )
    return range(start, stop)


def _finding_fields(finding: Finding) -> dict[str, Any]:
    return {
        "about": finding.about,
        "hinders": finding.hinders,
        "what": finding.what,
        "remedy": remedy_of(finding),
    }


def _hindrance(line: BoardLine, found: Sequence[Finding]) -> BlockOTAError | None:
    worst = next((finding for finding in found if finding.hinders), None)
    if worst is None:
        return None
    return BoardError(
        f"the board on {line.url} cannot be flashed over this line",
        why=worst.what,
        remedy=worst.remedy,
        action=worst.action,
        values=worst.values,
    )


def _show_findings(session: Session, found: Sequence[Finding]) -> None:
    """Print the findings, without the first one that hinders: it is the command's error."""
    reported = next((finding for finding in found if finding.hinders), None)
    for finding in found:
        remedy = remedy_of(finding)
        text = f"{finding.what}. {remedy[:1].upper()}{remedy[1:]}".rstrip(". ") + "."
        if not (finding.hinders or remedy):
            session.done(text)
        elif finding is not reported:
            click.echo(f"! {text}")


def _show_log(session: Session, lines: Sequence[Line], *, shown: Sequence[Line]) -> None:
    columns = ("LINE", "TIME", "BOARD", "PRODUCT", "BEFORE", "AFTER", "PROOF", "OPERATOR", "RESULT")
    session.table(columns, [_log_row(line) for line in shown])
    if lines:
        session.done(f"The log is whole: {lines[-1].number} lines, the last has SHA-256 {lines[-1].sha256.hex()}.")
    else:
        session.done("The log is whole and empty.")


def _log_row(line: Line) -> tuple[object, ...]:
    fields = line.fields
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(fields["time"]))
    names = ("board", "product", "before", "after", "proof", "operator", "result")
    return (line.number, moment, *(fields[name] or "-" for name in names))
