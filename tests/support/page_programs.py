"""The programs of docs/library.md, with the output that each should print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
OMITTED = "…"


@dataclass(frozen=True)
class PageProgram:
    """A program of a page.

    Attributes:
        source: the program, as shown on the page.
        shown: the output on the page, in which ``…`` marks an omitted part.
    """

    source: str
    shown: str

    def prints(self, output: str) -> bool:
        """Return whether the page shows an output."""
        return bool(re.fullmatch(".*?".join(map(re.escape, self.shown.split(OMITTED))), output))


def programs(page: Path) -> list[PageProgram]:
    """Return the programs of a page, from top to bottom."""
    return [PageProgram(source, shown) for source, shown in _PROGRAM.findall(page.read_text("utf-8"))]
