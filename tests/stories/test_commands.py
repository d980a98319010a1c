"""Properties of all commands: help with an example, ``--json``, errors, and output to terminals and pipes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from blockota.cli.main import cli, run
from tests.conftest import IMAGES, ROOT
from tests.stories.conftest import PRODUCT, Workshop, publish_first


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below a group, with the words that invoke the command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


ALL = dict(commands(cli))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_a_screen_of_help_with_an_example(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The help of each command has an example, and at most 40 lines."""
    assert run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example:  blockota {' '.join(words)}" in text
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize("noun", sorted({words[0] for words in ALL if len(words) > 1}))
def test_the_help_of_a_noun_lists_its_verbs_in_whole_sentences(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of each command group lists every command with a sentence that is not cut off."""
    assert run([noun, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.partition("Commands:")[2].split())
    assert run(["--help"]) == 0
    nouns = capsys.readouterr().out
    assert "..." not in text
    for words in ALL:
        if words[0] == noun:
            assert f"{words[1]} " in text
            assert words[1] in nouns


def test_every_command_that_proposes_can_sign() -> None:
    """Every command that makes a proposal has ``--sign`` or ``--key``."""
    options = {words: {option for one in command.params for option in one.opts} for words, command in ALL.items()}
    proposing = {words for words, found in options.items() if "--proposer" in found}
    assert not {words for words in proposing if not options[words] & {"--sign", "--key"}}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_takes_json(words: tuple[str, ...]) -> None:
    """Every command accepts ``--json``."""
    assert "--json" in {option for parameter in ALL[words].params for option in parameter.opts}


@pytest.mark.parametrize(
    "words",
    [
        ("cid", str(IMAGES / "bluepill-1.0.0.bin")),
        ("product", "list"),
        ("product", "show", PRODUCT),
        ("release", "list"),
        ("release", "show", "--product", PRODUCT),
        ("release", "fetch", "--product", PRODUCT, "-o", "fetched.bin", "--force"),
        ("release", "verify", str(IMAGES / "bluepill-1.0.0.bin"), "--product", PRODUCT),
        ("contract", "show"),
        ("proposal", "show", "1.0.0.json"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_json_is_the_only_output_on_stdout(workshop: Workshop, words: tuple[str, ...]) -> None:
    """With ``--json``, a command prints exactly one JSON object on stdout.

    Without ``--json``, the command prints readable text.
    """
    workshop.after(publish_first)
    outcome = workshop.run(*words, "--json")
    assert outcome.status == 0, outcome.err
    assert isinstance(outcome.json, dict)
    assert workshop.run(*words).out.strip()


def test_an_error_is_reported_as_json(workshop: Workshop) -> None:
    """With ``--json``, an error is printed as a JSON object on stdout and as a sentence on stderr."""
    outcome = workshop.run("product", "show", "nobody", "--json")
    assert (outcome.status, outcome.json["error"]["exitStatus"]) == (3, 3)
    assert outcome.json["error"]["what"] in outcome.err


def test_debug_shows_where_an_error_came_from(workshop: Workshop) -> None:
    """The traceback of an error is shown only with ``--debug``."""
    assert "Traceback" not in workshop.run("product", "show", "nobody").err
    assert "Traceback" in workshop.run("product", "show", "nobody", "--debug").err


def test_long_output_is_not_cut_when_piped(workshop: Workshop) -> None:
    """A table that is piped keeps one line per row and contains no escape codes."""
    workshop.after(publish_first)
    lines = workshop.run("release", "list").out.splitlines()
    assert len(lines) == 2
    assert "\x1b" not in "".join(lines)


def test_a_closed_pipe_is_not_an_error(workshop: Workshop) -> None:
    """Output into a closed pipe exits with status 0, and output to a full disk with status 2."""
    command = f"{sys.executable} -m blockota product list"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for redirection, status in (("| true; exit ${PIPESTATUS[0]}", 0), ("> /dev/full", 2), ("--json > /dev/full", 2)):
        words = ["bash", "-c", f"{command} {redirection}"]
        done = subprocess.run(words, cwd=workshop.folder, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, "defect" in done.stderr) == (status, False), done.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["relase", "list"], "release"),  # a noun
        (["proposal", "excute"], "execute"),  # a verb
        (["sign", "1.4.0.json"], "proposal sign"),  # a verb without its noun
        (["publish", "app.bin"], "release publish?"),
        (["accept", "3"], "replica accept?"),
        (["exceute", "1.4.0.json"], "proposal execute?"),  # a mistyped verb without its noun
        (["Release", "list"], "release?"),
        (["show"], "product show or release show or identity show or device show or order show or ledger show"),
        (["release", "publish", "app.bin", "--prodct", "x"], "--product?"),
        (["--hlep"], "--help?"),
        (["version"], "--version?"),
        (["help"], "--help?"),
        (["board", "flash"], "`blockota flash`?"),
        (["broker", "announce"], "`blockota replica announce`?"),
        (["replica", "sync"], "`blockota vpn sync` or `blockota broker sync`?"),
        (["flash", "acme-thermo2"], "--product acme-thermo2?"),
    ],
    ids=" ".join,
)
def test_a_mistyped_command_is_answered_with_the_meant_one(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For an unknown or misplaced noun, verb or option, the error suggests the most similar command or option."""
    assert run(words) == 2
    assert f". Did you mean {meant}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("words", ["--config blockota.toml release list", "release --config blockota.toml list"])
def test_an_option_before_the_verb_is_answered_with_its_place(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If an option precedes the command's verb, the error states that options follow the verb."""
    assert run(words.split()) == 2
    assert re.search(r"Options follow the verb, as in `blockota \w+ VERB --config`\.", capsys.readouterr().err)
