"""The command ``blockota``: finds the module of each noun, and turns errors into sentences and exit statuses."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import re
import sys
import traceback
from difflib import get_close_matches
from typing import Any

import click

from blockota import __version__
from blockota.cli.layout import console, print_sentence
from blockota.cli.remedies import remedy_of, sentence_of
from blockota.errors import BlockOTAError, UsageError, missing_package
from blockota.shutdown import ignore_signals, stop_on_signals
from blockota.url_secrets import without_secrets

_NOUNS = {
    "cid": "Print the content address of a file.",
    "product": "Products and their chips: pair, unpair, floor, list, show.",
    "release": "Releases: publish, revoke, list, show, fetch, verify.",
    "replica": "Agreements with brokers: propose, accept, decline, announce, withdraw, terminate, list, check.",
    "producer": "Producers that gateways follow: admit, suspend, restore, list.",
    "identity": "Identities: enrol, rotate, ban, unban, retire, show, list.",
    "device": "Devices: registrant, spec, site, register, batch, key, import, transfer, ban, unban, show, list.",
    "order": "Orders of operators: update, configure, cancel, group, list, show.",
    "gateway": "The gateway of a site: init, run, status, devices, device, retry, pause.",
    "validator": "The service that checks signed requests: init, run, status.",
    "cloud": "The database of a city's readings: init, run, status.",
    "operations": "The operations page: init, run, sign-in.",
    "vpn": "Tunnels between enrolled identities: key, sync, status.",
    "ledger": "Anchored logs: show, installed, suspect, decide.",
    "log": "Logs: append, checkpoint, anchor, serve, fsck, receipt, verify, key.",
    "broker": "A broker's copies: sync them with its agreements.",
    "repository": "A server of releases over HTTP: serve, token.",
    "proposal": "Proposals to a Safe: list, show, pack, sign, execute, reject, simulate, merge, "
    "export-view, export, import.",
    "contract": "The contract that records releases: show, pause, resume.",
    "safe": "The Safe's owners: owners, add, remove, replace, threshold.",
    "key": "Keys in files and tokens: new, address, public, sign-image.",
    "transaction": "Pending transactions: list, resume, forget.",
    "flash": "Write a verified release to boards, and prove their flash.",
    "board": "An STM32 on a serial line: ports, identify, read, erase, protect, unprotect, doctor, simulate, "
    "chips, log, list.",
    "bench": "The bench log of flashed boards: log, summary, key.",
    "dev": "A local chain for development: up, status, down.",
    "demo": "Run the whole procedure once, from publishing to a flashed board.",
}
_EXTRAS = {"gateway": "gateway", "validator": "access", "cloud": "operations", "operations": "operations"}
"""The extra with the libraries of a noun that runs a service."""
_INTERRUPTED = 130
_OFFERS = "Did you mean one of these?"
"""The words of click-didyoumean before its list of similar commands, which has one command on each line."""


class _Nouns(click.Group):
    """Imports the module of a noun only when the noun is used, so that help is printed at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the nouns in the order of the help text."""
        del ctx
        return list(_NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a noun."""
        del ctx
        if cmd_name not in _NOUNS:
            return None
        module = importlib.import_module(f"blockota.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a noun. For an unknown word, the error names the most similar commands."""
        if args[0] not in _NOUNS:
            # click-didyoumean compares with the nouns only, but users forget the noun, or mistype the verb.
            meant = {noun: [noun] for noun in _NOUNS} | {"help": ["--help"], "version": ["--version"]}
            for noun in _NOUNS:
                for verb in getattr(self.get_command(ctx, noun), "commands", ()):
                    meant.setdefault(verb, []).append(f"{noun} {verb}")
            if similar := get_close_matches(args[0].lower(), meant, n=1):
                offers = "\n".join(meant[similar[0]])
                raise click.UsageError(f"No such command {args[0]!r}. {_OFFERS}\n{offers}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the nouns without importing their modules."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_NOUNS.items()))


@click.group(cls=_Nouns, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="blockota")
def cli() -> None:
    """Publish firmware releases on a chain, and verify them before a board is flashed.

    \b
    Try it:  blockota demo
             blockota dev up
             blockota release list

    Settings come from blockota.toml in this folder, from --config FILE, or from BLOCKOTA_* variables.

    \b
    Exit status:  0 done       3 refused, nothing was changed   130 stopped by a
                  1 a defect   4 board, device or link              signal, such
                  2 usage      5 chain or store out of reach        as Ctrl-C
    """


def main() -> None:
    """Run the command and exit with its status. SIGTERM and SIGHUP interrupt the command as Ctrl-C does."""
    # The search for cyclic garbage takes a tenth of a short command's time, and finds little: search less often.
    gc.set_threshold(10_000)
    words = sys.argv[1:]
    with stop_on_signals(interrupt_at=1):
        failure = _execute(words)
    status = _report(failure, words)  # after the block, so that a second Ctrl-C cannot interrupt the report
    ignore_signals()
    gc.freeze()  # skips the search at the end of the process
    sys.exit(status)


def run(words: list[str]) -> int:
    """Run one command, report its failure on stderr, and return its exit status.

    Args:
        words: the command line without the program's name.
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
        is_error = bool(report.args) and isinstance(report.args[0], BlockOTAError)
        text = str(sentence_of(report.args[0]) if is_error else report)
        print_sentence(
            console(stderr=True), f"{text[:1].upper()}{text[1:]}", mark="Stopped. ", mark_style="bold yellow"
        )
        return _INTERRUPTED

    if isinstance(failure, click.UsageError):
        if failure.ctx:
            click.echo(f"{failure.ctx.get_usage()}\nTry '{failure.ctx.command_path} --help' for help.\n", err=True)
        text = _usage_text(failure)
        error: BlockOTAError = UsageError(text.rstrip("."))
    else:
        error = _translated(failure, words)
        text = sentence_of(error)

    print_sentence(console(stderr=True), text, mark="Error: ", mark_style="bold red")
    if "--debug" in words:
        click.echo(without_secrets("".join(traceback.format_exception(error))), err=True, nl=False)
    if "--json" in words:
        with contextlib.suppress(OSError):  # the reported error may be that stdout cannot be written
            click.echo(json.dumps({**error.result, "error": error_fields(error)}, indent=2))
    return error.exit_status


def _usage_text(failure: click.UsageError) -> str:
    """Return the message of a usage error as a sentence.

    If an option is missing, the message includes its help text.
    """
    message, has_offers, offers = failure.format_message().partition(_OFFERS)
    text = " ".join(message.split())  # a list of choices has several lines
    if has_offers:
        names = [name.strip() for name in offers.split("\n") if name.strip()]
        return f"{text} Did you mean {' or '.join(names)}?"
    extra = re.fullmatch(r"Got unexpected extra argument \((\S+)\)\.?", text)
    if extra and failure.ctx and any("--product" in option.opts for option in failure.ctx.command.params):
        return f"{text.rstrip('.')}. Did you mean --product {extra[1]}?"
    meaning = ""
    if isinstance(failure, click.MissingParameter) and isinstance(failure.param, click.Option):
        meaning = (failure.param.help or "").rstrip(".")
    if isinstance(failure, click.NoSuchOption):
        text = text.replace(" Did you mean", ". Did you mean")
        if failure.ctx and isinstance(failure.ctx.command, click.Group) and not failure.possibilities:
            command = f"{failure.ctx.command_path} {'VERB' if failure.ctx.parent else 'NOUN VERB'}"
            text = f"{text}. Options follow the verb, as in `{command} {failure.option_name}`"
    # Messages with more words than the option's name need no help text.
    if meaning and text.endswith("'."):
        return f"{text[:-1]} ({meaning[:1].lower()}{meaning[1:]})."
    return text if text.endswith((".", "?")) else f"{text}."


def _translated(failure: BaseException, words: list[str]) -> BlockOTAError:
    if isinstance(failure, BlockOTAError):
        return failure
    extra = next((_EXTRAS[word] for word in words if word in _EXTRAS), "")
    if isinstance(failure, ModuleNotFoundError) and extra:
        return missing_package("the command cannot run", str(failure.name), extra)
    if isinstance(failure, OSError) and failure.filename is None:
        # Errors of files and devices are translated where these are opened, so this one comes from writing the output.
        return UsageError(
            "cannot write the output, although the command may have done its work",
            why=failure.strerror or str(failure),
            remedy="free some disk space, and check the command's effect before running it again",
        )
    defect = BlockOTAError(
        "this is a defect of BlockOTA",
        why=without_secrets(f"{type(failure).__name__}: {failure}"),
        remedy="run the command again with --debug, and report the output",
    )
    defect.__cause__ = failure
    return defect


def error_fields(error: BlockOTAError) -> dict[str, Any]:
    """Return the fields of an error for the JSON output."""
    fields: dict[str, Any] = {
        "kind": type(error).__name__,
        "what": error.what,
        "why": error.why,
        "remedy": remedy_of(error),
        "exitStatus": error.exit_status,
    }
    number = getattr(error, "number", None)
    return fields | ({"check": number} if number else {})
