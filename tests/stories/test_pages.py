"""The commands in documentation pages print the output that the pages show."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import IMAGES, ROOT
from tests.firmware_host.bench.test_log import ENTRY
from tests.stories.conftest import Workshop
from tests.stories.pages import commands, exit_status, missing
from tests.support.bench_logs import bench_log

PAGES = ("vendor",)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_the_commands_print(workshop: Workshop, name: str) -> None:
    """The commands of a documentation page, run from top to bottom, print the output that the page shows."""
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        Path(f"app-{version}.bin").write_bytes((IMAGES / f"bluepill-{version}.bin").read_bytes())
    for number, version in ((1, "1.0.0"), (2, "1.1.0")):
        board = f"424c4f434b4f54410000000{number}"
        bench_log(Path(f"bench-{number}")).append(replace(ENTRY, board=board, after=version))
    ran = 0
    for command, lines in commands(ROOT / "docs" / f"{name}.md"):
        words = shlex.split(command, comments=True)
        if words[0] != "blockota" or words[1:3] == ["dev", "up"]:
            continue
        outcome = workshop.run(*words[1:])
        assert outcome.status == exit_status(lines), f"$ {command}\n{outcome.err}"
        assert not missing(lines, outcome.out + "\n" + outcome.err), f"$ {command}\n{outcome.out}\n{outcome.err}"
        ran += 1
    assert ran
