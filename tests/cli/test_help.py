"""Help texts fit a terminal of 80 columns and 40 lines, have valid examples, and list complete sentences."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest

from blockota.cli.main import cli

WIDTH, HEIGHT, HEIGHT_OF_NOUNS = 80, 40, 60


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield a context for a command and for each of its subcommands, on a terminal of 80 columns."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            assert found
            yield from contexts(found, verb, context)


CONTEXTS = {context.command_path: context for context in contexts(cli, "blockota")}


@pytest.mark.parametrize("path", CONTEXTS)
def test_a_help_text_fits_the_terminal(path: str) -> None:
    """A help text has at most 40 lines, and no line is longer than 80 columns. The list of nouns may be longer."""
    context = CONTEXTS[path]
    lines = context.command.get_help(context).splitlines()
    assert not [line for line in lines if len(line) > WIDTH]
    assert len(lines) <= (HEIGHT if context.parent else HEIGHT_OF_NOUNS)


def examples(command: click.Command) -> list[list[str]]:
    """Return the words of the commands in the examples of a help text."""
    text = (command.help or "").partition("Example:")[2].partition("\n\n")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in text.strip().splitlines()]


@pytest.mark.parametrize("path", [path for path, context in CONTEXTS.items() if examples(context.command)])
def test_the_examples_of_a_help_text_are_valid(path: str) -> None:
    """The command line accepts each example of a help text, and the first example is the command itself."""
    found = examples(CONTEXTS[path].command)
    assert " ".join(found[0]).startswith(path)
    for words in found:
        name = max((name for name in CONTEXTS if words[: name.count(" ") + 1] == name.split()), key=len)
        CONTEXTS[name].command.make_context(name, words[name.count(" ") + 1 :], parent=CONTEXTS[name].parent)


@pytest.mark.parametrize("path", [path for path in CONTEXTS if path.count(" ") == 1])
def test_a_command_is_listed_on_one_line(path: str) -> None:
    """The list of a noun's commands shows the whole first sentence of each command's help text."""
    noun = CONTEXTS[path]
    verbs = {context.info_name: context.command for context in CONTEXTS.values() if context.parent is noun}
    listed = noun.command.get_help(noun).partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(verbs)
    for name, sentence in (line.split(maxsplit=1) for line in listed):
        assert " ".join((verbs[name].help or "").split()).startswith(sentence)
        assert sentence.endswith(".")
