"""Help texts fit a terminal of 80 columns, and no sentence in a list of commands is cut."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from blockota.cli.main import cli

WIDTH = 80


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield a context for a command and for each command below it, on a terminal of 80 columns."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH)
    yield context
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            assert found
            yield from contexts(found, verb, context)


CONTEXTS = {context.command_path: context for context in contexts(cli, "blockota")}


@pytest.mark.parametrize("path", CONTEXTS)
def test_a_help_text_fits_the_terminal(path: str) -> None:
    """No line of a help text is wider than the terminal."""
    context = CONTEXTS[path]
    assert not [line for line in context.command.get_help(context).splitlines() if len(line) > WIDTH]


@pytest.mark.parametrize("path", [path for path in CONTEXTS if path.count(" ") == 1])
def test_a_command_is_listed_on_one_line(path: str) -> None:
    """The list of a noun's commands has one line for each, with the whole first sentence of its help text."""
    noun = CONTEXTS[path]
    verbs = {context.info_name: context.command for context in CONTEXTS.values() if context.parent is noun}
    listed = noun.command.get_help(noun).partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(verbs)
    for name, sentence in (line.split(maxsplit=1) for line in listed):
        assert " ".join((verbs[name].help or "").split()).startswith(sentence)
        assert sentence.endswith(".")
