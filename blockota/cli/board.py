"""``blockota board``: identify, read, erase, protect or simulate a board, diagnose its line, and show bench logs."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import click

from blockota.cli.bench import LOG_OPTION, show_log
from blockota.cli.board_changes import erase, protect, unprotect
from blockota.cli.board_identify import identify
from blockota.cli.boards import bench_logs, connected
from blockota.cli.display import progress_bar
from blockota.cli.lines import line_options
from blockota.cli.parameters import NUMBER, SIZE, VERSION
from blockota.cli.remedies import remedy_of
from blockota.cli.session import Session, VerbGroup, with_session_offline
from blockota.errors import BoardError, RefusedError
from blockota.files import refuse_overwriting, result_files
from blockota.model.release import Version
from firmware_host.bench.doctor import findings, observe
from firmware_host.bench.log import read_log
from firmware_host.bench.reports import held_releases
from firmware_host.bootloader.chips import FLASH_BASE, Chip
from firmware_host.bootloader.chips import chips as supported_chips
from firmware_host.bootloader.entry import BoardLine
from firmware_host.flashing.erasure import flash_of
from firmware_host.flashing.plan import chunks
from firmware_host.line.port_names import find_ports
from firmware_host.simulator.__main__ import simulate as serve

_KIB = 1024


@click.group(cls=VerbGroup)
def board() -> None:
    """Work on one STM32 that is connected to a serial line; `blockota flash` writes releases."""


board.add_command(identify)


@board.command()
@with_session_offline
def ports(session: Session) -> None:
    """List the serial ports of this machine.

    \b
    Example:  blockota board ports
    """
    found = find_ports()
    fields = [
        {"port": one.name, "adapter": one.adapter, "stableName": one.stable_name, "remedy": one.remedy} for one in found
    ]
    rows = [(one.name, one.adapter or "-", "no" if one.remedy else "yes") for one in found]

    def show() -> None:
        empty = "This machine has no serial port: plug in the board's USB adapter."
        session.table(("PORT", "ADAPTER", "CAN BE OPENED"), rows, empty=empty)
        for one in found:
            if one.stable_name:
                session.note(
                    f"{one.name} is also {one.stable_name}, which does not depend on the order of plugging in."
                )
        for remedy in dict.fromkeys(one.remedy for one in found if one.remedy):
            session.note(f"To open the port, {remedy}.")

    session.result({"ports": fields}, show)


@board.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option("--address", type=NUMBER, help="First address; the start of the flash by default.")
@click.option("--length", type=SIZE, help="Size to read, such as 64K; by default up to the end of the memory region.")
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@line_options
@with_session_offline
def read(
    session: Session, /, *, line: BoardLine, output: Path, address: int | None, length: int | None, force: bool
) -> None:
    """Read a board's flash or other memory into a file.

    To read RAM, system memory or option bytes, pass an address and a length.

    The file is written whole or not at all. Nothing on the board is changed.

    \b
    Example:  blockota board read -o flash.bin --port /dev/ttyUSB0
              blockota board read -o options.bin --address 0x1ffff800 \\
                  --port /dev/ttyUSB0
    """
    refuse_overwriting(output, None, force=force)
    with connected(session, line) as (bootloader, identity):
        span = _span(*flash_of(identity), first=address, length=length)
        # The digest covers the bytes that the board sent, for a comparison with a second reading or with the file.
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
    """Diagnose the line to a board.

    The exit status is 0 if the board can be flashed.

    Nothing on the board is changed, but the board may be reset. If the port has control lines and no bootloader
    answers, other wirings and speeds are tried, and the combination that works is reported.

    \b
    Example:  blockota board doctor --port /dev/ttyUSB0
    """
    session.note("Examining the line; this takes some seconds, half a minute if nothing answers.")
    found = findings(observe(line))
    worst = next((finding for finding in found if finding.hinders), None)
    fields = {
        "port": line.url,
        "canBeFlashed": worst is None,
        "findings": [
            {"about": one.about, "hinders": one.hinders, "what": one.what, "remedy": remedy_of(one)} for one in found
        ],
    }

    def show() -> None:
        for finding in found:
            remedy = remedy_of(finding)
            text = f"{finding.what}. {remedy[:1].upper()}{remedy[1:]}".rstrip(". ") + "."
            if not (finding.hinders or remedy):
                session.done(text)
            elif finding is not worst:  # the first obstacle is printed as the command's error
                click.echo(f"! {text}")

    if worst is None or not session.as_json:
        session.result(fields, show)
    if worst:
        error = BoardError(
            f"the board on {line.url} cannot be flashed over this line",
            why=worst.what,
            remedy=worst.remedy,
            action=worst.action,
            values=worst.values,
        )
        error.result = fields
        raise error


@board.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[SIMULATOR-OPTIONS]")
@with_session_offline
def simulate(session: Session, /, options: tuple[str, ...]) -> None:
    """Serve a simulated board until Ctrl-C, and print its URL for --port.

    SIMULATOR-OPTIONS select the chip, faults, control lines and delays. `blockota board simulate -- --help` lists
    these options.

    \b
    Example:  blockota board simulate --tcp 3115 --flash board.flash
              blockota board simulate --rfc2217 3116 --wiring dtr-rts
              blockota board simulate --json -- --readout-protected
    """
    try:
        program = "blockota board simulate --"
        serve(options, lambda url: session.result({"url": url}, lambda: click.echo(url)), program=program)
    except SystemExit:  # argparse has printed the help text
        return


@board.command()
@with_session_offline
def chips(session: Session) -> None:
    """List the chips that can be flashed, with their ids and names.

    \b
    Example:  blockota board chips
    """
    found = sorted(supported_chips(), key=lambda chip: chip.product_id)
    rows = [(f"0x{chip.product_id:03x}", chip.name, f"{chip.flash_limit // _KIB:,} KiB") for chip in found]
    fields = [{"chipId": chip.product_id, "name": chip.name, "flashLimit": chip.flash_limit} for chip in found]
    session.result({"chips": fields}, lambda: session.table(("CHIP", "NAME", "FLASH UP TO"), rows))


@board.command()
@LOG_OPTION
@click.option("--board", "wanted", metavar="ID", help="Show only the board whose unique id ends with ID.")
@with_session_offline
def log(session: Session, /, path: Path | None, wanted: str | None) -> None:
    """Show and verify the bench log, as `blockota bench log` does.

    To detect that a whole log was replaced, compare the number and hash of its last line with the values that were
    printed when that line was written.

    \b
    Example:  blockota board log --board 0001
    """
    show_log(session, path, wanted)


@board.command("list")
@click.argument("logs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--product", metavar="NAME", help="List only boards with a release of this product.")
@click.option("--version", type=VERSION, help="List only boards with this version.")
@with_session_offline
def list_boards(session: Session, /, logs: tuple[Path, ...], product: str | None, version: Version | None) -> None:
    """List the boards and their releases, according to bench logs.

    LOGS are bench logs; the default is the bench log that the settings name.

    For each board, the list shows only the newest line of all logs. Each log is verified in the same way as by
    `blockota board log`.

    \b
    Example:  blockota board list --product acme-thermo2 --version 1.2.0 \\
                  bench-1 bench-2
    """
    found = logs or bench_logs(session)
    lines = [(str(path), line.number, line.entry()) for path in found for line in read_log(path)]
    shown = [one for one in held_releases(lines) if product in (None, one.product) and version in (None, one.version)]

    rows = []
    for one in shown:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.entry.time))
        proven = "yes" if one.entry.after else "no, found before a run that failed"
        rows.append((one.entry.board or "-", one.product, one.version, proven, moment, one.log, one.number))
    columns = ("BOARD", "PRODUCT", "HOLDS", "PROVEN", "TIME", "LOG", "LINE")
    fields = {"boards": [one.as_fields() for one in shown]}
    session.result(fields, lambda: session.table(columns, rows, empty="No matching board in the logs."))


for _command in (erase, protect, unprotect):
    board.add_command(_command)


def _span(chip: Chip, flash_size: int, *, first: int | None, length: int | None) -> range:
    """Return the range of addresses to read, which lies in one memory region of the chip."""
    start = FLASH_BASE if first is None else first
    memories = chip.readable(flash_size)
    memory = next((span for span in memories if start in span), range(0))
    stop = memory.stop if length is None else start + length

    if not start < stop <= memory.stop:
        spans = ", ".join(f"{span.start:#010x}-{span.stop - 1:#010x}" for span in memories if span)
        too_few = f"fewer than {length:,} bytes follow, and " if memory and length else ""
        raise RefusedError(
            f"cannot read {'' if length is None else f'{length:,} bytes '}at {start:#010x}",
            why=f"{too_few}the {chip.name} can be read at {spans}",
            remedy="give --address and --length within one of these ranges",
        )

    return range(start, stop)
