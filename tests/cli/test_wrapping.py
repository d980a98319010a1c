"""Sentences, tables and long values are wrapped, so that words stay whole and a text cannot imitate another row."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from blockota.cli.layout import sentence_lines, table_lines, wrap
from blockota.cli.session import Session

WIDTH = 20


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=200))
def test_no_line_is_wider_than_the_column(text: str) -> None:
    """No wrapped line is wider than the column, and wrapping removes only spaces."""
    lines = wrap(text, WIDTH)
    assert all(cell_len(line) <= WIDTH for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "") or text.startswith("│ ")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("twenty cells at most", ["twenty cells at most"]),
        ("broken between words, once", ["broken between", "words, once"]),
        ("·" * 41, ["·" * 20, "·" * 20, "·"]),
        ("│ a quoted line that is long", ["│ a quoted line that", "│ is long"]),
        ("0x" + "ab" * 32, ["0x" + "ab" * 32]),
        ("b" + "a" * 58, ["b" + "a" * 58]),
        ("0x" + "ab" * 32 + " SHA-256", ["0x" + "ab" * 9, "ab" * 10, "ab" * 10, "ababab SHA-256"]),
    ],
)
def test_texts_are_broken_and_hashes_are_not(text: str, lines: list[str]) -> None:
    """Lines are broken between words, but a line that is only a hash or a CID stays whole."""
    assert wrap(text, WIDTH) == lines


def test_a_reason_stays_in_its_column(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A reason padded to the terminal's width cannot imitate a row with another SHA-256."""
    session = Session(None, None, store=None, as_json=False)
    monkeypatch.setattr(session.out, "width", 80)
    session.fields(
        {"reason": "first release" + "·" * 54 + "SHA-256" + "·" * 7 + "92f95228ac41b55a", "expires": "never"}
    )
    labels = [line[:9].strip() for line in capsys.readouterr().out.splitlines()]
    assert (labels[0], set(labels[1:-1]), labels[-1]) == ("reason", {""}, "expires")


@pytest.mark.parametrize(
    ("sentence", "lines"),
    [
        ("nothing was changed", ["nothing was changed"]),
        ("the flash has 60,708 bytes now", ["the flash has", "  60,708 bytes now"]),
        ("run `blockota dev up` first", ["run", "  `blockota dev up`", "  first"]),
        ("run `blockota dev status`, then", ["run `blockota dev", "  status`, then"]),
        ("it is http://127.0.0.1:8080/ipfs now", ["it is", "  http://127.0.0.1:8080/ipfs", "  now"]),
    ],
)
def test_sentences_break_between_words(sentence: str, lines: list[str]) -> None:
    """Sentences break between words, but not between a number and its unit, or inside a command that fits.

    A word that is longer than a line is not broken.
    """
    assert sentence_lines(sentence, width=WIDTH) == lines
    assert sentence_lines(sentence, width=None) == [sentence]


@given(
    st.integers(1, 5).flatmap(
        lambda count: st.lists(st.lists(st.text("abc 0", max_size=30), min_size=count, max_size=count), min_size=1)
    ),
    st.integers(30, 120),
)
def test_tables_fit_the_terminal(rows: list[list[str]], width: int) -> None:
    """No line is wider than the terminal.

    Each column and each character of the table is shown, and words that fit into a line are not split.
    """
    columns = [f"COLUMN{number}" for number in range(len(rows[0]))]
    lines = [line.plain for line in table_lines(columns, rows, width=width)]
    assert all(cell_len(line) <= width for line in lines)
    words = [word for row in rows for cell in row for word in cell.split()]
    # A word that does not fit after the name of its column is broken.
    whole = {word for word in words if len(f"  {columns[0]} {word}") <= width}
    assert set(" ".join(lines).split()) >= whole | set(columns)
    assert not Counter("".join(words)) - Counter("".join(lines))


def test_a_wide_table_moves_as_few_columns_as_possible_below_its_rows() -> None:
    """The last columns of a table that is too wide are removed, and every row shows their cells below it."""
    columns, row = ("A", "B", "C", "D"), ("a" * 8, "b" * 8, "c" * 8, "d" * 8)
    lines = [line.plain for line in table_lines(columns, [row, ("1", "2", "3", "4")], width=30)]
    assert lines == [
        "A         B         C",
        "aaaaaaaa  bbbbbbbb  cccccccc",
        "  D dddddddd",
        "1         2         3",
        "  D 4",
    ]
