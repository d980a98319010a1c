"""The commands in docs/bench.md print the output that the page shows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from firmware_host.simulator import SimulatedBoard, serve_rfc2217, serve_tcp
from tests.conftest import ROOT
from tests.firmware_host.direct_link import started
from tests.stories.benches import APPLICATION, FULL, Bench
from tests.stories.conftest import Workshop
from tests.stories.pages import commands, exit_status, missing
from tests.stories.technicians import board, publish_all

PAGE = ROOT / "docs" / "bench.md"
LINE = "## A production line"
"""The section whose commands `test_production_line` runs."""


def test_the_board_commands_of_the_page_print_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ``blockota board`` commands in docs/bench.md print the shown output for simulated boards."""
    monkeypatch.chdir(tmp_path)
    bench, ran = Bench(capsys), 0
    with served_boards() as ports:
        for command, lines in commands(PAGE):
            program, noun, *words = shlex.split(command)
            if (program, noun) == ("blockota", "board"):
                outcome = bench.run(*[ports.get(word, word) for word in words])
                out, err = (with_names(text, ports) for text in (outcome.out, outcome.err))
                assert outcome.status == exit_status(lines), f"$ {command}\n{out}{err}"
                assert not missing(lines, out + err) or not missing(lines, err + out), f"$ {command}\n{err}{out}"
                ran += 1
    assert ran > 10


@contextmanager
def served_boards() -> Iterator[dict[str, str]]:
    """Serve the simulated boards of docs/bench.md, and yield their URLs by the page's port names."""
    with (
        serve_tcp(SimulatedBoard(flash=FULL)) as good,
        serve_tcp(started(APPLICATION)) as forgotten,
        serve_rfc2217(started(APPLICATION)) as wired,
    ):
        yield {"/dev/ttyUSB0": good, "/dev/ttyUSB1": forgotten, "rfc2217://rack:3116": wired}


def with_names(text: str, ports: dict[str, str]) -> str:
    """Replace the URLs in printed text by the page's port names."""
    for name, url in ports.items():
        text = text.replace(url, name)
    return text


def test_the_flash_commands_of_the_page_print_what_it_shows(workshop: Workshop) -> None:
    """The ``blockota flash`` commands in docs/bench.md print the shown output for simulated boards."""
    workshop.after(publish_all)
    boards = {"/dev/ttyUSB0": SimulatedBoard(), "/dev/ttyUSB1": board(2), "/dev/ttyUSB2": board(3, flash=b"theirs")}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(serve_tcp(one)) for name, one in boards.items()}
        typed = [shlex.split(command) for command, _ in commands(PAGE, end=LINE)]
        ran = 0
        for words, (_, lines) in zip(typed, commands(PAGE, end=LINE), strict=True):
            if words[:2] == ["blockota", "flash"]:
                outcome = workshop.run(*[ports.get(word, word) for word in words[1:]])
                printed = outcome.out + outcome.err
                for name, url in ports.items():
                    printed = printed.replace(url, name)
                assert outcome.status == exit_status(lines), printed
                assert not missing(lines, printed), printed
                ran += 1
    assert ran == 4
