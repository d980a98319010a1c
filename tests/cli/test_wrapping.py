"""Long values are wrapped inside their column, so that a text cannot imitate another row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from blockota.cli.layout import wrap
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
