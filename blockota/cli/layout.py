"""Lays out text for a terminal's width: sentences break between words, and a table's row takes more lines if need be.

Output to a file or another program is not broken: there a width is None, which means unlimited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console
from rich.text import Text

from blockota.errors import plain

_COPIED = re.compile(r"(?:0x)?[0-9a-fA-F]{40,64}|b[a-z2-7]{58}")
"""Pattern of an address, a hash or a content address."""
_NUMBER = re.compile(r"((?<!\S)\(?\d[\d,]*(?:\.\d+)?) ")
"""Pattern of a number and the space behind it."""
_BAR = "│ "
_NARROWEST = 10
_INDENTS = range(2, 20)
"""The indents of the further lines of a sentence, in columns."""
_GAP = "  "


def error_console() -> Console:
    """Return a console on stderr."""
    # Soft wrap leaves long words to the terminal: rich would break addresses and hashes, which users copy.
    return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def print_sentence(console: Console, sentence: str, *, mark: str = "", mark_style: str = "", style: str = "") -> None:
    """Print a sentence behind a mark such as ``✓``. On a terminal, its lines break between words, behind the mark."""
    lines = sentence_lines(plain(sentence), width=width_of(console), taken=cell_len(mark))
    # One print for all lines, so that neither another thread nor a progress bar comes between them.
    console.print(Text.assemble((mark if sentence else mark.rstrip(), mark_style), ("\n".join(lines), style)))


def width_of(console: Console) -> int | None:
    """Return the width of a terminal in columns; None for a file or another program."""
    return console.width if console.is_terminal else None


def sentence_lines(sentence: str, *, width: int | None, taken: int = 0) -> list[str]:
    """Break a sentence between words. A word that is longer than a line stays whole, because users copy it.

    Args:
        sentence: the sentence, on one line.
        width: the terminal's width; None for no limit.
        taken: the width of the mark before the sentence. Further lines are indented by as much, within limits.
    """
    indent = taken if taken in _INDENTS else _INDENTS.start
    if width is None:
        return [sentence]
    # A number stays with its unit. Sentences do not have this space: `plain` escapes it.
    first, *words = _NUMBER.sub("\\1\N{NO-BREAK SPACE}", sentence).split(" ")
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
    """Break a text into lines of at most `width` cells, so that no line of the text can imitate the next row of a list.

    Hashes and addresses stay whole, because users copy them. The bar of a quoted text is repeated on each line.
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

    If the table is too wide, its widest columns leave it: their cells stand below each row, behind their column's name.
    """
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    beside = list(range(len(columns)))
    while width is not None and len(beside) > 1 and _total(widths[place] for place in beside) > width:
        beside.remove(max(beside[1:], key=lambda place: widths[place]))
    below = [place for place in range(len(columns)) if place not in beside]

    def line(cells: Sequence[str]) -> str:
        return _GAP.join(set_cell_size(cells[place], widths[place]) for place in beside).rstrip()

    yield Text(line(columns), "bold")
    label = max((len(columns[place]) for place in below), default=0)
    for row in rows:
        yield Text(line(row))
        for place in below:
            name = f"{_GAP}{columns[place]:<{label}}{_GAP}"
            for number, part in enumerate(wrap(row[place], (width or 0) - len(name))):
                yield Text.assemble((" " * len(name) if number else name, "dim"), part)


def _total(widths: Iterator[int]) -> int:
    found = list(widths)
    return sum(found) + len(_GAP) * (len(found) - 1)
