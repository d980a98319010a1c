"""Fits text to the width of a terminal: breaks sentences between words, and long table rows into several lines.

Output to a file or another program is not broken into lines: its width is None, which means unlimited.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from threading import RLock
from typing import Literal

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console
from rich.text import Text

from blockota.errors import plain

_COPIED = re.compile(r"(?:0x)?[0-9a-fA-F]{40,64}|b[a-z2-7]{58}")
"""Pattern of an address, a hash or a content address."""
_NUMBER = re.compile(r"((?<!\S)\(?\d[\d,]*(?:\.\d+)?) ")
"""Pattern of a number and the space after it."""
_COMMAND = re.compile(r"\S*`[^`]+`\S*")
"""Pattern of a command between backticks, with what is attached to it."""
SCREEN = RLock()
"""The lock for printing a sentence, and for showing or removing a progress bar.

rich moves the cursor up by the number of bars before it prints. If another thread changed this number in between, a bar
or a sentence would be overwritten.
"""
_BAR = "│ "
_NARROWEST = 10
_INDENTS = range(2, 20)
"""The indents of the further lines of a sentence, in columns."""
_GAP = "  "


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console on stdout or stderr. With NO_COLOR (https://no-color.org), it prints no escape sequence."""
    colors: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    # Soft wrap leaves long words to the terminal: rich would break addresses and hashes, which users copy.
    return Console(stderr=stderr, width=width, color_system=colors, highlight=False, emoji=False, soft_wrap=True)


def print_sentence(console: Console, sentence: str, *, mark: str = "", mark_style: str = "", style: str = "") -> None:
    """Print a sentence after a mark such as ``✓``.

    On a terminal, the sentence breaks between words, and further lines are indented.
    """
    lines = sentence_lines(plain(sentence), width=width_of(console), taken=cell_len(mark))
    # One print for all lines, so that neither another thread nor a progress bar comes between them.
    with SCREEN:
        console.print(Text.assemble((mark if sentence else mark.rstrip(), mark_style), ("\n".join(lines), style)))


def width_of(console: Console) -> int | None:
    """Return the width of a terminal in columns; None for a file or another program."""
    return console.width if console.is_terminal else None


def sentence_lines(sentence: str, *, width: int | None, taken: int = 0) -> list[str]:
    """Break a sentence between words.

    Long words, and commands that fit into one line, are not broken, so that users can copy them.

    Args:
        sentence: the sentence, on one line.
        width: the terminal's width; None for no limit.
        taken: the width of the mark before the sentence. The further lines of the sentence are indented by the same
            width, within limits.
    """
    indent = taken if taken in _INDENTS else _INDENTS.start
    if width is None:
        return [sentence]

    room = width - indent

    def joined(command: re.Match[str]) -> str:
        return command[0].replace(" ", "\N{NO-BREAK SPACE}") if cell_len(command[0]) <= room else command[0]

    # A no-break space keeps a number with its unit. The sentence itself has none, because `plain` escapes it.
    sentence = _COMMAND.sub(joined, _NUMBER.sub("\\1\N{NO-BREAK SPACE}", sentence))
    first, *words = sentence.split(" ")
    lines = [first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if (indent if lines[1:] else taken) + cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    shown = [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
    return [shown[0], *(" " * indent + line for line in shown[1:])]


def wrap(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` cells, so that no line of the text can look like a new row of a list.

    Hashes and addresses are not broken, because users copy them. The bar before a quoted text is repeated on each line.
    """
    if cell_len(text) <= width or _COPIED.fullmatch(text):
        return [text]

    bar = _BAR if text.startswith(_BAR) else ""
    width = max(width - len(bar), _NARROWEST)

    first, *words = text.removeprefix(bar).split(" ")
    lines = chop_cells(first, width) or [""]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines += chop_cells(word, width)

    return [bar + line for line in lines]


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None) -> Iterator[Text]:
    """Yield the lines of a table, the header first.

    If the table is too wide, as few columns as possible are removed, starting with the last. Below each row, the cells
    of the removed columns are printed after the names of the columns.
    """
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    below = [] if width is None else _too_wide(widths, width)
    beside = [place for place in range(len(columns)) if place not in below]

    def line(cells: Sequence[str]) -> str:
        return _GAP.join(set_cell_size(cells[place], widths[place]) for place in beside).rstrip()

    # The lines below a row begin with the same columns for all rows, so that rows can be compared.
    groups: list[list[int]] = []
    for place in below:
        sizes = (len(f"{_GAP}{columns[one]} ") + widths[one] for one in [*(groups or [[]])[-1], place])
        if not groups or sum(sizes) > (width or 0):
            groups.append([])
        groups[-1].append(place)

    yield Text(line(columns), "bold")
    for row in rows:
        yield Text(line(row))
        for group in groups:
            yield from _line_below([(columns[place], row[place], widths[place]) for place in group], width or 0)


def _too_wide(widths: Sequence[int], width: int) -> list[int]:
    """Return the columns that must be removed so that a table fits a width; the first column always stays."""
    removable = range(len(widths) - 1, 0, -1)
    for count in range(len(widths)):
        for removed in combinations(removable, count):
            kept = [size for place, size in enumerate(widths) if place not in removed]
            if sum(kept) + len(_GAP) * (len(kept) - 1) <= width:
                return sorted(removed)
    return sorted(removable)


def _line_below(cells: Sequence[tuple[str, str, int]], width: int) -> Iterator[Text]:
    """Yield a line with removed cells, given as (column name, cell, width); a long cell continues on further lines."""
    line, indent, others = Text(), 0, list[str]()
    for name, cell, size in cells:
        line.append(f"{_GAP}{name} ", "dim")
        indent = line.cell_len
        first, *others = wrap(cell, width - indent)
        line.append(set_cell_size(first, size))
    line.rstrip()
    yield line
    yield from (Text(" " * indent + part) for part in others)
