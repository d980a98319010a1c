"""The pages that show commands with what they print: the commands are run, and the output is held against the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import IMAGES, ROOT
from tests.stories.conftest import Workshop
from tests.stories.pages import commands, exit_status, missing

PAGES = ("vendor",)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_the_commands_print(workshop: Workshop, name: str) -> None:
    """Typed from top to bottom, the commands of a page do what it says."""
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        Path(f"app-{version}.bin").write_bytes((IMAGES / f"bluepill-{version}.bin").read_bytes())
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


def test_the_page_names_every_red_flag() -> None:
    """Each word that a person may have to type is explained, and no other."""
    source = (ROOT / "blockota" / "approval" / "red_flags.py").read_text("utf-8")
    page = (ROOT / "docs" / "vendor.md").read_text("utf-8").partition("## What a wallet shows")[0]
    words = set(re.findall(r'RedFlag\(\s*"(\w+)"', source))
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == words
    assert len(words) > 10
