"""The samples of `scripts.sample_prose` are whole sentences, and neither code nor figures."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.sample_prose import of_docstring, of_markdown, of_python, sentences

DOCSTRING = """Read the file: a colon does not end a sentence.

    A paragraph has
    two lines::

        this = is_code(and_not_prose)

    =====  ======================
    part   what it does
    =====  ======================
    name   what it does there
    other  a row that goes on in
           the next line
    =====  ======================

    1. The first step.
    2. The second step: it goes on after the colon of a line,
       as in this
       case: one.

    Args:
        path: the file that is read,
            with a second line.
        size: the number of bytes.

    Example:
        read(path)
    """
MARKDOWN = """# A heading

A paragraph has
two lines: one sentence.

    blockota code block

| name | meaning |
| --- | --- |
| `one` | the row has words |
| two | 3,000 | 0.5 s |

- The first item
  has two lines.
- The second item.
"""
SOURCE = '''
def fail(path):
    """Raise an error."""
    raise UsageError(f"{path} cannot be read", why="it is empty", remedy="give another file")
'''


def test_a_docstring_gives_paragraphs_items_rows_and_described_names() -> None:
    """Each part of a docstring is drawn as a whole, with its own line number, and without code."""
    assert list(of_docstring(DOCSTRING, 10)) == [
        (10, "Read the file: a colon does not end a sentence."),
        (12, "A paragraph has two lines:"),
        (18, "part | what it does"),
        (20, "name | what it does there"),
        (21, "other | a row that goes on in the next line"),
        (25, "The first step."),
        (26, "The second step: it goes on after the colon of a line, as in this case: one."),
        (31, "path: the file that is read, with a second line."),
        (33, "size: the number of bytes."),
    ]


def test_a_page_gives_paragraphs_items_and_rows_of_words() -> None:
    """Headings, code blocks, the header of a table and rows of figures are left out."""
    assert list(of_markdown(MARKDOWN)) == [
        (3, "A paragraph has two lines: one sentence."),
        (10, "`one` | the row has words"),
        (13, "The first item has two lines."),
        (15, "The second item."),
    ]


def test_an_error_is_drawn_with_its_reason_and_remedy() -> None:
    """An error is drawn as one sample with its reason and remedy, because the reason cannot be understood alone."""
    assert [text for _, text in of_python(SOURCE)] == [
        "Raise an error.",
        "… cannot be read / it is empty / give another file",
    ]


def test_a_sentence_that_refers_back_is_drawn_with_the_one_before_it(tmp_path: Path) -> None:
    """A sentence that begins with a pronoun is drawn with the sentence before it; a colon does not split a sentence."""
    page = "The gateway reads each of the blocks: all of them. It does not read any other block.\n"
    (tmp_path / "page.md").write_text(page)
    for command in (["init", "-q"], ["add", "page.md"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert [text for _, text in sentences(tmp_path)] == [
        "The gateway reads each of the blocks: all of them.",
        "(The gateway reads each of the blocks: all of them.) It does not read any other block.",
    ]
