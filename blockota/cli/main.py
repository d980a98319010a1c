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
from blockota.shutdown import interrupt_on_requests
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
    """Run the command, and end with its exit status; SIGTERM and SIGHUP end it as Ctrl-C, leaving nothing half."""
    interrupt_on_requests()
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Run one command; every error ends here as a sentence on stderr.

    Args:
        words: the command line without the program's name.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 gets escapes, not a failure
    try:
        cli.main(words, prog_name="blockota", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return _report(UsageError(error.format_message().rstrip(".")), words, is_told=True)
    except (click.Abort, KeyboardInterrupt) as stop:
        click.echo(f"Stopped. {_told_at_the_end(stop)}".rstrip(), err=True)
        return _INTERRUPTED
    except SystemExit:  # rich's way to say that whoever read our output has had enough
        return 0
    except Exception as error:  # noqa: BLE001 - a traceback must not reach a user
        return _report(_translated(error), words)
    return 0


def _told_at_the_end(stop: BaseException) -> str:
    """What a command that was interrupted has to say; click puts its own exception around it."""
    return plain(stop.__cause__ if isinstance(stop, click.Abort) and stop.__cause__ else stop)


def _translated(error: Exception) -> BlockOTAError:
    if isinstance(error, BlockOTAError):
        return error
    if isinstance(error, OSError) and error.filename is None:
        return _unwritable(error)
    return _defect(error)


def _unwritable(error: OSError) -> BlockOTAError:
    """What is left of the system's refusals when files and devices are translated where they are opened: the output."""
    return UsageError(
        "the output cannot be written, though the command may have done its work",
        why=error.strerror or str(error),
        remedy="free some space, look at what is there (`blockota release list`), and then decide",
    )


def _defect(error: Exception) -> BlockOTAError:
    wrapped = BlockOTAError(
        "this is a defect of BlockOTA",
        why=f"{type(error).__name__}: {error}",
        remedy="run it again with --debug, and report what it prints",
    )
    wrapped.__cause__ = error
    return wrapped


def _report(error: BlockOTAError, words: list[str], *, is_told: bool = False) -> int:
    if "--debug" in words:
        click.echo(_without_secrets("".join(traceback.format_exception(error))), err=True, nl=False)
    if "--json" in words:
        click.echo(json.dumps(getattr(error, "result", {}) | {"error": error_fields(error)}, indent=2))
    if not is_told:
        click.secho(f"Error: {plain(sentence_of(error))}", fg="red", err=True)
    return error.exit_status


def _without_secrets(text: str) -> str:
    """A traceback without what is behind the host in addresses: a hosted node's path is often its key."""
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
