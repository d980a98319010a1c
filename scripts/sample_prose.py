"""Draw sentences of the documentation, docstrings and errors for a reader, from a seed.

``python -m scripts.sample_prose [--seed N] [--count 30]`` prints each sentence with its file and line. A reader who
knows the field but not the code should have to read at most one of thirty sentences twice.

A sentence of a docstring is a whole sentence of a paragraph, a list item, a table row, or the description of one
argument. An error is drawn with its reason and remedy. A sentence that begins with a pronoun is drawn with the
sentence before it, in parentheses. Code blocks, headings and rows of figures are not drawn.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeGuard

CLONE = Path(__file__).resolve().parent.parent
SHORTEST = 30
"""The minimum length of a sentence in characters; shorter texts are headings and labels."""
_LEAST_WORDS = 4
"""The least number of words of a sentence; a table row with fewer words has only names and figures."""
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)\s+(?=[A-Z`\"*(])")
_REFERENCE = re.compile(r"(It|Its|They|Their|This|These|Such|Otherwise|Then|Without it)\b")
_ERROR = re.compile(r"(Error|Refused)$")
_WORD = re.compile(r"[A-Za-z]{2,}")
_ITEM = re.compile(r"(?:[-*]|\d+\.|\(\d+\)) +")
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Example|Examples):")
_NAMED = re.compile(r"(\*{0,2}\w+(?:, \w+)*): +(?=\S)")
_RULE = re.compile(r"=+(?: +=+)+")
_FIGURE = re.compile(r"[≤≥<>≈~\u2212-]? ?\d[\d.,]*(?: ?\S+| (?:s|ms|%|KiB|MiB|K)(?!\w).*)?")

Lines = Iterator[tuple[int, str]]


def sentences(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each sentence in the Markdown and Python files that git tracks."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md", "*.py"],  # noqa: S607 - git is found on PATH
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        texts = of_markdown if name.endswith(".md") else of_python
        for line, text in texts((folder / name).read_text("utf-8")):
            whole = " ".join(text.split())
            # A row of a table and an error are read as a whole.
            parts = [whole] if " | " in whole or " / " in whole else _SENTENCE_END.split(whole)
            for before, sentence in pairwise(["", *parts]):
                if len(sentence) >= SHORTEST and len(_WORD.findall(sentence)) >= _LEAST_WORDS:
                    refers_back = before and _REFERENCE.match(sentence)
                    yield f"{name}:{line}", f"({before}) {sentence}" if refers_back else sentence


def of_markdown(text: str) -> Lines:
    """Yield line and text of each paragraph, list item and table row, without code blocks and headings."""
    block, start, in_fence, row = list[str](), 0, False, (0, "")
    for number, line in enumerate([*text.splitlines(), ""], 1):
        in_fence ^= line.startswith("```")
        item = _ITEM.match(line)
        is_prose = bool(line.strip()) and not in_fence and not line.startswith(("    ", "#", "|", "```", "![", ":::"))
        if block and (item or not is_prose):
            yield start, " ".join(block)
            block = []
        if is_prose:
            start = start if block else number
            block.append(line[item.end() :] if item else line.strip())
        # The header of a table is the row before the rule, and is not drawn.
        is_row, is_rule = line.startswith("|"), set(line) <= set("|-: ")
        if row[1] and not (is_row and is_rule):
            yield row
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        has_figures = any(_FIGURE.fullmatch(cell) for cell in cells[1:])
        row = (number, " | ".join(cells)) if is_row and not is_rule and not has_figures else (0, "")


def of_python(text: str) -> Lines:
    """Yield line and text of each part of a docstring, and of each error."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and ast.get_docstring(node):
                yield from of_docstring(str(first.value.value), first.lineno)
        elif isinstance(node, ast.Call) and _ERROR.search(ast.unparse(node.func)):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            texts = [shown(part) for part in parts if isinstance(part, ast.JoinedStr) or _is_text(part)]
            if error := " / ".join(one for one in texts if _WORD.search(one)):
                yield node.lineno, error


def of_docstring(text: str, first_line: int) -> Lines:
    """Yield the line number and the text of each paragraph, list item, table row and described name in a docstring.

    Args:
        text: the docstring, as the source has it.
        first_line: number of its first line.
    """
    block, start, code, in_table, names_follow, is_example = list[str](), 0, -1, False, False, False
    for number, line in enumerate([*inspect.cleandoc(text).splitlines(), ""], first_line):
        words, indent = line.strip(), len(line) - len(line.lstrip())
        if code >= 0 and (not words if is_example else words and indent <= code):
            code, is_example = -1, False  # the code after "::" ends with its indentation, an example at an empty line
        if words == "\b" or words.startswith((">>>", "Example:", "Examples:")):
            code, is_example = 0, True
        # A table ends at the empty line after a rule; names are described in the sections of arguments and attributes.
        is_rule = bool(_RULE.fullmatch(words))
        in_table = is_rule or (in_table and bool(words))
        names_follow = bool(_SECTION.fullmatch(words)) or (names_follow and bool(words))
        begins = _ITEM.match(words) or (names_follow and _NAMED.match(words)) or (in_table and not line.startswith(" "))
        is_prose = bool(words) and code < 0 and not is_rule and not _SECTION.fullmatch(words)
        if block and (begins or not is_prose):
            yield start, " ".join(block)
            block = []
        if not is_prose:
            continue
        start = start if block else number
        item = _ITEM.match(words)
        shown_words = words[item.end() :] if item else words
        block.append(re.sub(r" {2,}", " | ", shown_words) if in_table else shown_words)
        if words.endswith("::"):
            code, block[-1] = indent, block[-1][:-1]


def _is_text(part: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(part, ast.Constant) and isinstance(part.value, str)


def shown(value: ast.Constant | ast.JoinedStr) -> str:
    """Return the text of a string literal, with … in place of the values of an f-string."""
    if isinstance(value, ast.Constant):
        return str(value.value)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in value.values)


def main() -> int:
    """Print the sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--count", type=int, default=30)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    every = list(sentences(CLONE))
    for place, sentence in random.Random(options.seed).sample(every, options.count):  # noqa: S311 - a sample
        print(f"{place}: {sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
