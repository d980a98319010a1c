"""The bench's page about flashing: its commands are typed, from top to bottom, in a vendor's workshop."""

from __future__ import annotations

import shlex
from contextlib import ExitStack

from firmware_host.simulator import SimulatedBoard, serve_tcp
from tests.conftest import ROOT
from tests.stories.conftest import Workshop
from tests.stories.pages import commands, exit_status, missing
from tests.stories.technicians import board, publish_all

PAGE = ROOT / "docs" / "bench.md"


def test_the_page_shows_what_flashing_prints(workshop: Workshop) -> None:
    """A blank board, an update, the same again, and three boards of which one is not ours."""
    publish_all(workshop)
    boards = {"/dev/ttyUSB0": SimulatedBoard(), "/dev/ttyUSB1": board(2), "/dev/ttyUSB2": board(3, flash=b"theirs")}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(serve_tcp(one)) for name, one in boards.items()}
        typed = [shlex.split(command) for command, _ in commands(PAGE)]
        ran = 0
        for words, (_, lines) in zip(typed, commands(PAGE), strict=True):
            if words[:2] == ["blockota", "flash"]:
                outcome = workshop.run(*[ports.get(word, word) for word in words[1:]])
                printed = outcome.out + outcome.err
                for name, url in ports.items():
                    printed = printed.replace(url, name)
                assert outcome.status == exit_status(lines), printed
                assert not missing(lines, printed), printed
                ran += 1
    assert ran == 4
