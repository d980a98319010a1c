"""The commands of the technician's page print what the page shows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmware_host.simulator import SimulatedBoard, serve_rfc2217, serve_tcp
from tests.conftest import ROOT
from tests.stories.benches import APPLICATION, FULL, Bench
from tests.stories.pages import commands, exit_status, missing

PAGE = ROOT / "docs" / "bench.md"


def test_the_page_shows_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed from top to bottom, with simulated boards at the ports of the page, the commands do what it says."""
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
    """The boards of the page: their URLs by the ports that it names."""
    with (
        serve_tcp(SimulatedBoard(flash=FULL)) as good,
        serve_tcp(started()) as forgotten,
        serve_rfc2217(started()) as wired,
    ):
        yield {"/dev/ttyUSB0": good, "/dev/ttyUSB1": forgotten, "rfc2217://rack:3116": wired}


def with_names(text: str, ports: dict[str, str]) -> str:
    """What was printed, with the ports that the page names."""
    for name, url in ports.items():
        text = text.replace(url, name)
    return text


def started() -> SimulatedBoard:
    """A board that runs its program, whose bootloader nobody has woken yet."""
    board = SimulatedBoard(flash=APPLICATION)
    board.boot0 = False
    board.reset()
    return board
