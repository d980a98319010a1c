"""The commands in docs/broker.md are run in order, with a real chain, Safe and repositories."""

from __future__ import annotations

import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from blockota.chain.local import free_port
from blockota.cli.main import cli
from tests.conftest import IMAGES, ROOT
from tests.stories.brokers import serving_as_typed
from tests.stories.conftest import Workshop
from tests.stories.pages import commands, exit_status, missing

PAGE, END = ROOT / "docs" / "broker.md", "## A Kubo node as the store"
CHAIN, VENDOR, BROKER = "127.0.0.1:8545", "127.0.0.1:8080", "127.0.0.1:8081"
"""Addresses in docs/broker.md, which the test replaces by addresses with free ports."""
VENDORS_WORDS = ({"proposal"}, {"replica", "accept"}, {"replica", "terminate"})


@dataclass
class Bench:
    """The folders of the vendor and the broker, and their running repositories.

    Attributes:
        workshop: runs commands; its folder is the vendor's.
        folder: the broker's folder.
        running: the exit stack that stops the repositories.
        places: maps each address in docs/broker.md to the real address.
    """

    workshop: Workshop
    folder: Path
    running: ExitStack
    places: dict[str, str] = field(default_factory=dict)

    def typed(self, command: str, lines: list[str]) -> None:
        """Run a command, and compare its output and exit status with docs/broker.md."""
        status, printed = self._run(shlex.split(self.real(command)))
        assert status == exit_status(lines), f"$ {command}\n{printed}"
        assert not missing(lines, self.shown(printed)), f"$ {command}\n{printed}"

    def real(self, text: str) -> str:
        """Replace the page's addresses in a text by the real addresses."""
        for place, found in self.places.items():
            text = text.replace(place, found)
        return text

    def shown(self, text: str) -> str:
        """Replace the real addresses in a text by the page's addresses."""
        for place, found in self.places.items():
            text = text.replace(found, place)
        return text

    def _run(self, words: list[str]) -> tuple[int, str]:
        if words[0] == "curl":
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout
        if words[1:3] == ["repository", "serve"]:
            return 0, self.running.enter_context(serving_as_typed(self.folder, *words[1:]))
        is_vendors = any(known <= set(words[1:3]) for known in VENDORS_WORDS)
        with chdir(self.workshop.folder if is_vendors else self.folder):
            outcome = self.workshop.run(*words[1:])
        return outcome.status, outcome.out + outcome.err


@pytest.fixture
def bench(workshop: Workshop) -> Iterator[Bench]:
    """A vendor who publishes and serves 1.0.0, and a broker with the settings of docs/broker.md."""
    workshop.publish("1.0.0", IMAGES / "bluepill-1.0.0.bin")
    folder = workshop.folder / "broker"
    folder.mkdir()
    with ExitStack() as running:
        bench = Bench(workshop, folder, running)
        bench.places = {place: f"127.0.0.1:{free_port()}" for place in (VENDOR, BROKER)}
        bench.places[CHAIN] = workshop.chain.url.removeprefix("http://")
        words = ("repository", "serve", "--listen", bench.places[VENDOR])
        running.enter_context(serving_as_typed(workshop.folder, *words))
        (folder / "blockota.toml").write_text(bench.real(settings()))
        yield bench


def settings() -> str:
    """Return the settings file in docs/broker.md, which is the first code block."""
    text = PAGE.read_text("utf-8")
    block = re.search(r"(?:^    .*\n|^\n(?=    ))+", text[text.index("\n    ") :], re.MULTILINE)
    assert block
    return textwrap.dedent(block[0])


def test_the_page_shows_what_the_commands_print(bench: Bench) -> None:
    """The commands in docs/broker.md print the output shown there, from the proposal to the end of an agreement."""
    shown = list(commands(PAGE, end=END))
    for command, lines in shown:
        bench.typed(command, lines)
    assert len(shown) > 15


def test_the_page_names_options_that_there_are() -> None:
    """Every command-line option in docs/broker.md exists."""
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE.read_text("utf-8").partition(END)[0]))
    nouns = (cli.get_command(click.Context(cli), name) for name in cli.list_commands(click.Context(cli)))
    verbs = (verb for noun in nouns if isinstance(noun, click.Group) for verb in noun.commands.values())
    assert not named - {option for verb in verbs for parameter in verb.params for option in parameter.opts}
