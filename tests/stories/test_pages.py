"""The pages that show commands with what they print: the commands are run, and the output is held against the page.

A line ``$ blockota …`` is run; the lines below it must appear in what it prints, in their order. A line of ``…`` stands
for lines that the page leaves out, and inside a line for the rest of it. Hashes, times and ports may differ.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import IMAGES, ROOT
from tests.stories.conftest import Workshop

PAGES = ("release-desk",)
VOLATILE = (
    (re.compile(r"0x[0-9a-f]{64}"), "HASH"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "TIME"),
    (re.compile(r"for [\d,]+ gas"), "for GAS"),
    (re.compile(r"\bblock \d+"), "block N"),
    (re.compile(r"\d+ (more )?days"), "some days"),
    (re.compile(r"\s+"), " "),
)
OMITTED = "…"


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command of a page with the lines that it should print."""
    command, lines = "", list[str]()
    for line in [*page.read_text("utf-8").splitlines(), ""]:
        code = line[4:] if line.startswith("    ") else None
        if command and (code is None or code.startswith("$ ")):
            yield command, lines
            command = ""
        if code is not None and code.startswith("$ "):
            command, lines = code[2:], []
        elif command and code is not None:
            lines.append(code)


def steady(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, word in VOLATILE:
        line = pattern.sub(word, line)
    return line.strip()


def is_like(line: str, shown: str) -> bool:
    """Whether a printed line is the one on the page, whose end may be left out."""
    start, omitted, _ = shown.partition(OMITTED)
    return line.startswith(start.strip()) if omitted else line == shown


def missing(lines: list[str], printed: str) -> list[str]:
    """The lines of a page that were not printed, in their order, after those before them."""
    found = iter([steady(line) for line in printed.splitlines()])
    wanted = [steady(line) for line in lines if line.strip() != OMITTED]
    return [shown for shown in wanted if not any(is_like(line, shown) for line in found)]


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
        status = next((int(line.split()[2].rstrip(")")) for line in lines if line.startswith("(exit status")), 0)
        assert outcome.status == status, f"$ {command}\n{outcome.err}"
        shown = [line for line in lines if not line.startswith("(exit status")]
        assert not missing(shown, outcome.out + "\n" + outcome.err), f"$ {command}\n{outcome.out}\n{outcome.err}"
        ran += 1
    assert ran


def test_the_page_names_every_red_flag() -> None:
    """Each word that a person may have to type is explained, and no other."""
    source = (ROOT / "blockota" / "red_flags.py").read_text("utf-8")
    page = (ROOT / "docs" / "release-desk.md").read_text("utf-8")
    words = set(re.findall(r'RedFlag\(\s*"(\w+)"', source))
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == words
    assert len(words) > 10
