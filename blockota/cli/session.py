"""The session that all commands share: the common options, and the chain, contracts and store that they select."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate

import click
from click_didyoumean import DYMGroup
from rich.text import Text

from blockota.cli.layout import console, print_sentence, table_lines, width_of, wrap
from blockota.errors import plain
from blockota.settings import GATEWAY_REGISTRIES, BenchSettings, Role, Settings, load_bench, load_settings

if TYPE_CHECKING:
    from blockota.bindings.block_ota import BlockOTAContract
    from blockota.bindings.contract import OwnedContract
    from blockota.bindings.replication import ReplicationContract
    from blockota.chain import Chain
    from blockota.connection import Connection
    from blockota.model.facts import Trust
    from blockota.stores.store import Store

_PIPED_WIDTH = 240
"""Width of the values of a list in output to a file or another program, in columns."""


class Session:
    """One run of a command. Settings, chain, contracts and store are opened when they are first used.

    The constructor's arguments are the options that `with_session` adds; None selects the value in the settings.
    `config` is the settings file that the user named. `out` and `err` are the consoles on stdout and stderr.
    """

    def __init__(self, config: Path | None, network: str | None, *, store: str | None, as_json: bool) -> None:
        self.config, self._network, self._store, self.as_json = config, network, store, as_json
        self.err = console(stderr=True)
        # One console for one terminal, because only lines of its own console appear above a progress bar.
        is_terminal = bool(sys.stdout and sys.stdout.isatty())
        self.out = self.err
        if not (is_terminal and self.err.is_terminal):
            width = None if is_terminal else _PIPED_WIDTH
            self.out = console(width=width)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings, with the network of the producer chain."""
        return load_settings(self.config, network=self._network, environment=os.environ)

    @functools.cached_property
    def bench(self) -> BenchSettings:
        """The settings of the bench."""
        return load_bench(self.config, environment=os.environ)

    @functools.cached_property
    def connection(self) -> Connection:
        """The producer chain, its contracts, and the store from ``--store`` or the settings."""
        return self._connect(self.settings)

    @functools.cached_property
    def gateway(self) -> Connection:
        """The gateway chain and its contracts; equals `connection` if the settings name one network for both chains."""
        settings = load_settings(self.config, network=self._network, environment=os.environ, role=Role.GATEWAY)
        return self.connection if settings == self.settings else self._connect(settings)

    def connection_to(self, chain_id: int) -> Connection:
        """Return `gateway` if the chain id belongs only to the gateway chain, else `connection`."""
        is_gateway = chain_id != self.settings.chain_id and chain_id == self.gateway.settings.chain_id
        return self.gateway if is_gateway else self.connection

    def owned(self, setting: str) -> tuple[Connection, OwnedContract]:
        """Return the contract that a setting names and a Safe owns, with the connection to the contract's chain."""
        connection = self.gateway if setting in GATEWAY_REGISTRIES else self.connection
        return connection, connection.owned(setting)

    def _connect(self, settings: Settings) -> Connection:
        from blockota.connection import Connection

        # The journal of transactions shows the command with its arguments, without its options.
        context = click.get_current_context()
        words = [context.command_path]
        for name in (argument.name for argument in context.command.params if isinstance(argument, click.Argument)):
            value = context.params.get(name or "")
            words += map(str, value if isinstance(value, tuple) else [value] * (value is not None))
        return Connection(replace(settings, store=self.store_url), purpose=plain(" ".join(words)), note=self.note)

    @property
    def chain(self) -> Chain:
        """The configured chain."""
        return self.connection.chain

    @property
    def contract(self) -> BlockOTAContract:
        """The configured contract BlockOTA."""
        return self.connection.contract

    @property
    def replication(self) -> ReplicationContract:
        """The configured contract FirmwareReplication."""
        return self.connection.replication

    @property
    def trust(self) -> Trust:
        """The chain, contract and confirmations with which release records are verified."""
        return self.connection.trust

    @property
    def store(self) -> Store:
        """The configured content store."""
        return self.connection.store

    @property
    def store_url(self) -> str:
        """URL of the configured content store."""
        return self._store or self.settings.store

    def result(self, fields: Mapping[str, Any], show: Callable[[], None], *, then: str = "") -> None:
        """Print a command's result, either `fields` as JSON or the output of `show`.

        `then` is the next step (`blockota.cli.next_steps`), which is printed as the last line, or as ``next`` of the
        JSON object.
        """
        if self.as_json:
            click.echo(json.dumps({**fields, **({"next": then} if then else {})}, indent=2))
            return
        show()
        if then:
            print_sentence(self.err, then, style="bold")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "") -> None:
        """Print a table, or the sentence `empty` if the table has no rows."""
        if empty and not rows:
            self.print(empty)
            return
        cells = [[plain(cell) for cell in row] for row in rows]
        for line in table_lines(columns, cells, width=width_of(self.out)):
            self.out.print(line)

    def fields(self, rows: Mapping[str, object]) -> None:
        """Print labels and values, one pair on each line."""
        width = max(len(label) for label in rows)
        for label, value in rows.items():
            self.row(label, plain(value), column=width + 2)

    def row(self, label: str, value: str, *, column: int) -> None:
        """Print a label and its value; each line of the value begins at the column `column`."""
        for number, line in enumerate(wrap(value, self.out.width - column)):
            self.out.print(Text.assemble((f"{'' if number else label:<{column}}", "bold"), line))

    def print(self, sentence: str) -> None:
        """Print a sentence."""
        print_sentence(self.out, sentence)

    def done(self, sentence: str) -> None:
        """Print that a step is done."""
        print_sentence(self.out, sentence, mark="✓ ", mark_style="green")

    def check(self, number: int, what: str) -> None:
        """Print that a check of the verification passed."""
        print_sentence(self.out, what, mark=f"✓ {number:>2}  ", mark_style="green")

    def note(self, sentence: str) -> None:
        """Print a remark on stderr, because stdout is for the result."""
        print_sentence(self.err, sentence, style="dim")

    def warn(self, sentence: str) -> None:
        """Print on stderr a failure that does not stop the command."""
        print_sentence(self.err, sentence, mark="✗ ", mark_style="red")


def with_session_offline(command: Callable[Concatenate[Session, ...], None]) -> Callable[..., None]:
    """Pass a `Session` to a command that needs neither chain nor store, and add ``--json`` and ``--debug``."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapped(
        *args: object,
        as_json: bool,
        debug: bool,
        config: Path | None = None,
        network: str | None = None,
        store: str | None = None,
        **kwargs: object,
    ) -> None:
        del debug  # main() looks for --debug on the command line, so that it works for usage errors too
        command(Session(config, network, store=store, as_json=as_json), *args, **kwargs)

    return wrapped


def with_session(command: Callable[Concatenate[Session, ...], None]) -> Callable[..., None]:
    """Pass a `Session` to a command, and add the options that define the session."""
    wrapped = with_session_offline(command)
    for option in (
        click.option("--store", metavar="URL", help="file:DIR, kubo:http://… or https://HOST."),
        click.option("--network", metavar="NAME", help="Network of the settings file."),
        click.option("--config", type=click.Path(path_type=Path), help="Settings file; blockota.toml by default."),
    ):
        wrapped = option(wrapped)
    return wrapped


_OFFERED = 2
"""The largest number of other commands that the error for an unknown verb offers: many nouns have `list` and `show`."""


class VerbGroup(DYMGroup):
    """The commands of a noun. The help text lists each command with its first sentence, in the order of definition."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb. If the word is a verb of another noun, such as `board flash`, the error names that command."""
        root, word = ctx.find_root(), args[0]
        if word not in self.commands and isinstance(root.command, click.Group):
            nouns = {noun: root.command.get_command(root, noun) for noun in root.command.list_commands(root)}
            meant = [noun for noun in nouns if noun == word]
            meant += [f"{noun} {word}" for noun, command in nouns.items() if word in getattr(command, "commands", ())]
            if 0 < len(meant) <= _OFFERED:
                offers = " or ".join(f"`{root.command_path} {command}`" for command in meant)
                raise click.UsageError(f"No such command {word!r}. Did you mean {offers}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their whole first sentences; click would cut a sentence to one line."""
        del ctx
        width = max(len(command.help or "") for command in self.commands.values())
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(width)) for name, verb in self.commands.items()])
