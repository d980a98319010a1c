"""Draw sentences of the documentation, docstrings and errors for a reader, from a seed.

``python -m scripts.sample_prose [--seed N] [--count 30]`` prints each sentence with its file and line. A reader who
knows the field but not the code should have to read at most one of thirty sentences twice.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
SHORTEST = 30
"""The minimum length of a sentence in characters; shorter texts are headings and labels."""
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`0-9])")
_ERROR = re.compile(r"(Error|Refused)$")


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
            for sentence in _SENTENCE_END.split(" ".join(text.split())):
                if len(sentence) >= SHORTEST:
                    yield f"{name}:{line}", sentence


def of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each paragraph, list item and table row, without code blocks and headings."""
    paragraph: list[str] = []
    start = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        ends = not line.strip() or line.startswith(("    ", "#", "|", "-", "```"))
        if ends and paragraph:
            yield start, " ".join(paragraph)
            paragraph = []
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield number, " | ".join(cell.strip() for cell in line.strip("|").split("|"))
        elif line.startswith("- "):
            paragraph, start = [line[2:]], number
        elif not ends:
            start = start if paragraph else number
            paragraph.append(line.strip())


def of_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring and of each error text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if docstring := ast.get_docstring(node):
                yield getattr(node, "lineno", 1), docstring
        elif isinstance(node, ast.Call) and _ERROR.search(ast.unparse(node.func)):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            for part in parts:
                if isinstance(part, ast.Constant | ast.JoinedStr) and len(shown(part)) >= SHORTEST:
                    yield node.lineno, shown(part)


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
