"""``blockota bench``: show and export the bench log, sum up a day, and print the log's key."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import click

from blockota.cli.boards import bench_logs
from blockota.cli.session import Session, VerbGroup, with_session_offline
from blockota.errors import Action, ContentError, RefusedError, UsageError, plain
from blockota.files import refuse_overwriting, write_result
from blockota.model.facts import proof_words
from firmware_host.bench.log import Line, confirmed_lines, read_log
from firmware_host.bench.log_folder import open_bench_log
from firmware_host.bench.reports import Day, Tally, csv_of, tallies

LOG_OPTION = click.option(
    "--log",
    "path",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Bench log; by default from the settings.",
)
_STDOUT = "-"
_COLUMNS = ("LINE", "TIME", "BOARD", "PRODUCT", "BEFORE", "AFTER", "PROOF", "OPERATOR", "RESULT", "RECEIPT")
_ROWS = ("PRODUCT", "VERSION", "OPERATOR", "PORT", "GOOD", "BAD", "REPEATED", "FIRST", "LAST", "MEAN TIME")


@click.group(cls=VerbGroup)
def bench() -> None:
    """Show and export the bench log, sum up the boards of a day, and print the key of the log."""


@bench.command()
@LOG_OPTION
@click.option("--board", "wanted", metavar="ID", help="Select the board whose unique id ends with ID.")
@click.option("--csv", "output", metavar="FILE", help="Export the lines as CSV into FILE; - for the standard output.")
@click.option("--confirmed-part", is_flag=True, help="Export the lines before the damage of a log.")
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@with_session_offline
def log(
    session: Session,
    /,
    *,
    path: Path | None,
    wanted: str | None,
    output: str | None,
    confirmed_part: bool,
    force: bool,
) -> None:
    """Show the bench log, or export it as CSV, and verify it.

    A removed, changed or inserted line is detected. The column RECEIPT is the index that `blockota log receipt` takes.
    FOLDER can also be the log file of an earlier version of BlockOTA.

    A damaged log is refused. With --confirmed-part, only the lines before the damage are exported; the hash of each
    exported line is confirmed by the next line. A cell that a spreadsheet would run as a formula begins with an
    apostrophe.

    \b
    Example:  blockota bench log --board 0001
              blockota bench log --csv boards.csv
    """
    if output is None and (confirmed_part or force):
        raise UsageError("--confirmed-part and --force apply to an export only", remedy="give --csv FILE")
    if output is None:
        show_log(session, path, wanted)
    else:
        path = path or _default_log(session)
        _export(session, _lines_to_export(session, path, confirmed_part=confirmed_part), wanted, output, force=force)


def show_log(session: Session, path: Path | None, wanted: str | None) -> None:
    """Print a bench log, or its lines about one board. The default log is the one that the settings name.

    Raises:
        UsageError: the log cannot be read.
        ContentError: the log does not verify.
    """
    path = path or _default_log(session)
    lines = list(read_log(path))  # every line is verified, even if it is not shown
    shown = _of_board(lines, wanted)
    last = lines[-1].as_fields() if lines else None
    found = [line.fields | {"receipt": line.receipt} for line in shown]
    fields = {"file": str(path), "whole": True, "last": last, "lines": found}
    rows = []
    for line in shown:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.fields["time"]))
        cells = {column: line.fields[column.lower()] for column in _COLUMNS[2:-1]}
        cells["PROOF"] = proof_words(cells["PROOF"])
        receipt = "-" if line.receipt is None else line.receipt
        rows.append((line.number, moment, *(cell or "-" for cell in cells.values()), receipt))

    def show() -> None:
        session.table(_COLUMNS, rows, empty="The log has no lines of this board." if lines else "The log is empty.")
        if lines:
            count = f"{len(lines)} {'line' if len(lines) == 1 else 'lines'}"
            session.done(f"The log is whole: {count}, the last has SHA-256 {lines[-1].sha256.hex()}.")

    session.result(fields, show)


def _default_log(session: Session) -> Path:
    *old, path = bench_logs(session)
    for one in old:
        session.note(f"Earlier lines are in {one}, a log of an earlier version.")
    return path


def _of_board(lines: Sequence[Line], wanted: str | None) -> list[Line]:
    return [line for line in lines if str(line.fields.get("board", "")).endswith((wanted or "").lower())]


def _lines_to_export(session: Session, path: Path, *, confirmed_part: bool) -> list[Line]:
    lines, error = confirmed_lines(path)
    if error is None:
        return lines
    if not confirmed_part:
        raise ContentError(
            error.what,
            why=f"{error.why}; nothing was exported",
            remedy=f"{error.remedy}; the lines before the damage can be exported",
            action=Action.EXPORT_CONFIRMED_LINES,
        )

    if not lines:
        raise RefusedError(
            "nothing was exported",
            why=f"no line of {path} is confirmed: {error.what}: {error.why}",
            remedy=error.remedy,
        )

    count = "line 1 is" if len(lines) == 1 else f"lines 1 to {len(lines)} are"
    session.note(
        f"{error.what[:1].upper()}{error.what[1:]}: {error.why}. Only {count} exported; each exported line is "
        "confirmed by its hash in the next line. A log that was replaced as a whole is not detected."
    )
    return lines


def _export(session: Session, lines: Sequence[Line], wanted: str | None, output: str, *, force: bool) -> None:
    shown = _of_board(lines, wanted)
    content = csv_of(shown)
    if output == _STDOUT:
        if session.as_json:
            raise UsageError(
                "--json and `--csv -` exclude each other", why="both write to stdout", remedy="export to a file"
            )
        if sys.stdout.isatty():
            # A name in the log could contain control characters, which must not reach the terminal.
            content = b"\r\n".join(plain(row).encode() for row in content.decode().split("\r\n"))
        click.get_binary_stream("stdout").write(content)
        return
    refuse_overwriting(Path(output), None, force=force)
    write_result(Path(output), content)
    last = lines[-1].as_fields() if lines else None
    fields = {"file": output, "lines": len(shown), "last": last}
    count = f"{len(shown):,} {'line' if len(shown) == 1 else 'lines'}"
    session.result(fields, lambda: session.done(f"exported {count} of the bench log into {output}"))


@bench.command()
@click.argument("logs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--date", "wanted", metavar="YYYY-MM-DD", help="The day, in local time; today by default.")
@with_session_offline
def summary(session: Session, /, logs: tuple[Path, ...], wanted: str | None) -> None:
    """Sum up the boards of a day.

    LOGS are bench logs; the default is the bench log that the settings name.

    A board with several lines counts as one board, by its newest line; the column REPEATED counts such boards. MEAN
    TIME is the mean duration of the successful runs. Each log is verified in the same way as by `blockota bench log`. A
    line that is in several LOGS counts once.

    \b
    Example:  blockota bench summary --date 2026-11-28
    """
    day = Day.of(_date(wanted))
    found = [(str(path), line) for path in logs or bench_logs(session) for line in read_log(path)]
    unique = {line.sha256: (path, line.number, line.entry()) for path, line in reversed(found)}
    if len(unique) < len(found):
        session.note(f"{len(found) - len(unique)} lines are repeated in these logs, and count once.")
    parts, total = tallies(unique.values(), day)
    fields = {
        "date": f"{day.start:%Y-%m-%d}",
        "begin": day.start.isoformat(),
        "end": day.end.isoformat(),
        "groups": [one.as_fields(day) for one in parts],
        "total": total.as_fields(day) if total else None,
    }

    def show() -> None:
        name = f"{day.start:%Y-%m-%d} ({day.offset})"
        session.table(_ROWS, [_row(one, day) for one in parts], empty=f"The logs have no line of {name}.")
        if total:
            boards = total.good + total.bad
            words = f"{boards} {'board' if boards == 1 else 'boards'}, {total.good} good, {total.bad} bad"
            session.done(f"{name}: {words}, {total.repeated} repeated")

    session.result(fields, show)


@bench.command()
@LOG_OPTION
@with_session_offline
def key(session: Session, /, path: Path | None) -> None:
    """Print the public key of the bench log.

    To verify receipts of this log, add the key to the table [trust] of the settings. The key's name is the origin of
    the log.

    \b
    Example:  blockota bench key
    """
    log = open_bench_log(session.config, environment=os.environ, folder=path)
    log.check()
    fields = {"folder": str(log.folder), "origin": log.key.name, "key": str(log.key)}
    session.result(fields, lambda: session.fields({"folder": log.folder, "key": log.key}))


def _date(wanted: str | None) -> date:
    if wanted is None:
        return datetime.now().astimezone().date()
    try:
        return date.fromisoformat(wanted)
    except ValueError as error:
        raise UsageError(
            f"{wanted!r:.40} is not a date", why="a date has the form 2026-11-28", remedy="correct the date"
        ) from error


def _row(tally: Tally, day: Day) -> tuple[object, ...]:
    names = (name or "-" for name in (tally.product, tally.version, tally.operator, tally.port))
    times = (f"{day.moment(one):%H:%M:%S}" for one in (tally.first, tally.last))
    mean = "-" if tally.mean_seconds is None else f"{tally.mean_seconds:.1f} s"
    return (*names, tally.good, tally.bad, tally.repeated, *times, mean)
