"""Parse documentation pages that show commands with their output, and compare them with the real output.

A line that begins with ``$`` is a command, and the lines below it must appear in its output, in the same order. A line
that contains only ``…`` stands for omitted lines, and ``…`` within a line stands for the rest of that line. A line
``(exit status N)`` gives a command's exit status if the status is not 0. Hashes, times and block numbers in the output
may differ from the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

VOLATILE = (
    (re.compile(r"0x[0-9a-f]{64}"), "HASH"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "TIME"),
    (re.compile(r"for [\d,]+ gas"), "for GAS"),
    (re.compile(r"\bblock \d+"), "block N"),
    (re.compile(r"\d+ (more )?days"), "some days"),
    (re.compile(r"\s+"), " "),
)
OMITTED = "…"
_STATUS = re.compile(r"\(exit status (\d+)\)")


def commands(page: Path, *, start: str = "", end: str = "\0") -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a page with the lines that it should print.

    Args:
        page: a Markdown file.
        start: the heading before the first command, or empty for the whole page.
        end: the heading after which commands are ignored.
    """
    text = page.read_text("utf-8")
    section = text[text.index(start) :].partition(end)[0]
    command, lines = "", list[str]()
    for line in [*section.splitlines(), ""]:
        code = line[4:] if line.startswith("    ") else None
        if command and (code is None or code.startswith("$ ")):
            yield command, lines
            command = ""
        if code is not None and code.startswith("$ "):
            command, lines = code[2:], []
        elif command and code is not None:
            lines.append(code)


def exit_status(lines: list[str]) -> int:
    """Return the exit status that a page shows for a command."""
    return next((int(match[1]) for line in lines if (match := _STATUS.match(line))), 0)


def missing(lines: list[str], printed: str) -> list[str]:
    """Return the page's lines that are missing from a command's output, or are printed in another order."""
    found = iter([steady(line) for line in printed.splitlines()])
    wanted = [steady(line) for line in lines if line.strip() != OMITTED and not _STATUS.match(line)]
    return [shown for shown in wanted if not any(is_like(line, shown) for line in found)]


def steady(line: str) -> str:
    """Replace hashes, times and block numbers in a line by placeholders."""
    for pattern, word in VOLATILE:
        line = pattern.sub(word, line)
    return line.strip()


def is_like(line: str, shown: str) -> bool:
    """Return whether a printed line matches a line of the page, whose end may be omitted."""
    start, omitted, _ = shown.partition(OMITTED)
    return line.startswith(start.strip()) if omitted else line == shown
