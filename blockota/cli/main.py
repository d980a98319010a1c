"""The command ``blockota``: its nouns, and where errors become sentences and exit statuses."""

from __future__ import annotations

import importlib
import io
import json
import re
import sys
import traceback
from typing import Any

import click

from blockota import __version__
from blockota.cli.remedies import remedy_of, sentence_of
from blockota.errors import BlockOTAError, UsageError
from blockota.shutdown import ignore_signals, stop_on_signals
from blockota.text import plain

_NOUNS = {
    "cid": "Print the content address of a file.",
    "product": "What images are for: pair, unpair, floor, list, show.",
    "release": "Releases: publish, revoke, list, show, fetch, verify.",
    "replica": "Agreements with brokers: propose, accept, decline, announce, withdraw, terminate, list, check.",
    "broker": "A broker's copies: sync what its agreements name.",
    "repository": "Serve releases over HTTP as a vendor or broker: serve, token.",
    "proposal": "What the vendor's Safe is asked: list, show, sign, execute, reject, simulate and more.",
    "contract": "The contract itself: show, pause, resume.",
    "safe": "The Safe's owners and threshold: owners, add, remove, threshold.",
    "transaction": "Transactions that are not settled: list, resume, forget.",
    "flash": "Write a proven release to a board, and prove the flash.",
    "board": "One STM32 on a serial line: identify, read, erase, protect, unprotect, doctor, simulate, log.",
    "dev": "A local chain to try everything on: up, status, down.",
    "demo": "Walk the whole road once, from vendor to running board.",
}
_INTERRUPTED = 130


class _Nouns(click.Group):
    """Loads a noun's module only when it is asked for, so that help is there at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The nouns, in the order of the road."""
        del ctx
        return list(_NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One noun's command."""
        del ctx
        if cmd_name not in _NOUNS:
            return None
        module = importlib.import_module(f"blockota.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the nouns without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_NOUNS.items()))


@click.group(cls=_Nouns, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="blockota")
def cli() -> None:
    """Firmware releases as public facts on a chain, checked before a board is written.

    \b
    Try it:  blockota dev up
             blockota release list
             blockota demo

    Settings come from blockota.toml in this folder, from --config FILE, or from BLOCKOTA_* variables. Exit status:
    0 done, 1 a defect of ours, 2 usage, 3 refused (nothing was changed), 4 board or link, 5 chain or store out of
    reach, 130 stopped by Ctrl-C, SIGTERM or SIGHUP.
    """


def main() -> None:
    """Run the command and exit with its status. SIGTERM and SIGHUP interrupt it as Ctrl-C does."""
    words = sys.argv[1:]
    with stop_on_signals(interrupt_at=1):
        failure = _execute(words)
    status = _report(failure, words)  # outside, so that a second Ctrl-C does not cut the report short
    ignore_signals()
    sys.exit(status)


def run(words: list[str]) -> int:
    """Run one command and report its failure on stderr.

    Args:
        words: the command line without the program's name.

    Returns:
        The exit status.
    """
    return _report(_execute(words), words)


def _execute(words: list[str]) -> BaseException | None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # terminals without UTF-8 get escapes instead of an error
    try:
        cli.main(words, prog_name="blockota", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as failure:  # noqa: BLE001 - users see a sentence, not a traceback
        return failure
    except SystemExit:  # rich exits when the reader of our output has closed the pipe
        return None
    return None


def _report(failure: BaseException | None, words: list[str]) -> int:
    """Print how a command failed, and choose its exit status."""
    if failure is None:
        return 0
    if isinstance(failure, click.Abort | KeyboardInterrupt):
        # click raises Abort from the KeyboardInterrupt, whose text is the command's final report.
        report = failure.__cause__ if isinstance(failure, click.Abort) and failure.__cause__ else failure
        text = sentence_of(report.args[0]) if report.args and isinstance(report.args[0], BlockOTAError) else report
        click.echo(f"Stopped. {plain(text)}".rstrip(), err=True)
        return _INTERRUPTED
    if isinstance(failure, click.UsageError):
        failure.show()
        error: BlockOTAError = UsageError(failure.format_message().rstrip("."))
    else:
        error = _translated(failure)
        click.secho(f"Error: {plain(sentence_of(error))}", fg="red", err=True)
    if "--debug" in words:
        click.echo(_without_secrets("".join(traceback.format_exception(error))), err=True, nl=False)
    if "--json" in words:
        click.echo(json.dumps(getattr(error, "result", {}) | {"error": error_fields(error)}, indent=2))
    return error.exit_status


def _translated(failure: BaseException) -> BlockOTAError:
    if isinstance(failure, BlockOTAError):
        return failure
    if isinstance(failure, OSError) and failure.filename is None:
        # Files and devices translate their errors where they are opened: what remains is writing the output.
        return UsageError(
            "cannot write the output, although the command may have done its work",
            why=failure.strerror or str(failure),
            remedy="free some space and check what was done before running it again",
        )
    defect = BlockOTAError(
        "this is a defect of BlockOTA",
        why=f"{type(failure).__name__}: {failure}",
        remedy="run it again with --debug, and report what it prints",
    )
    defect.__cause__ = failure
    return defect


def _without_secrets(text: str) -> str:
    """The traceback with URL paths and credentials removed: on hosted nodes the path is the API key."""
    text = re.sub(r"(https?://)(?:[^@/\s'\"]*@)?([^/\s'\"]+)/[^\s'\")]+", r"\1\2/…", text)
    return re.sub(r"(with url:) \S+", r"\1 …", text)


def error_fields(error: BlockOTAError) -> dict[str, Any]:
    """An error as JSON."""
    fields: dict[str, Any] = {
        "kind": type(error).__name__,
        "what": error.what,
        "why": error.why,
        "remedy": remedy_of(error),
        "exitStatus": error.exit_status,
    }
    number = getattr(error, "number", None)
    return fields | ({"check": number} if number else {})
