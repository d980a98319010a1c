"""The page about the bench: its commands are typed, and its tables held against the sources."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest

from firmware_host.simulator import SimulatedBoard, serve_rfc2217, serve_tcp
from tests.conftest import ROOT
from tests.stories.benches import APPLICATION, FULL, Bench
from tests.stories.pages import commands, exit_status, missing

PAGE = ROOT / "docs" / "bench.md"
SOURCES = (
    *sorted((ROOT / "firmware_host").glob("*.py")),
    *sorted((ROOT / "blockota" / "cli").glob("board*.py")),
    *sorted((ROOT / "blockota" / "cli").glob("flash*.py")),
    ROOT / "blockota" / "verification.py",
)
NOT_OURS = {"AssertionError", "ConnectionResetError", "ValueError"}
"""Errors that are caught and translated before a person could see them."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_the_page_shows_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed from top to bottom, with simulated boards at the ports of the page, the commands do what it says."""
    monkeypatch.chdir(tmp_path)
    bench, ran = Bench(capsys), 0
    with served_boards() as ports:
        for command, lines in commands(PAGE):
            program, noun, *words = shlex.split(command)
            if (program, noun) == ("blockota", "board"):
                outcome = bench.run(*[ports.get(word, word) for word in words])
                out, err = (with_names(text, ports) for text in (outcome.out, outcome.err))
                assert outcome.status == exit_status(lines), f"$ {command}\n{out}{err}"
                assert not missing(lines, out + err) or not missing(lines, err + out), f"$ {command}\n{err}{out}"
                ran += 1
    assert ran > 10


@contextmanager
def served_boards() -> Iterator[dict[str, str]]:
    """The boards of the page: their URLs by the ports that it names."""
    with (
        serve_tcp(SimulatedBoard(flash=FULL)) as good,
        serve_tcp(started()) as forgotten,
        serve_rfc2217(started()) as wired,
    ):
        yield {"/dev/ttyUSB0": good, "/dev/ttyUSB1": forgotten, "rfc2217://rack:3116": wired}


def with_names(text: str, ports: dict[str, str]) -> str:
    """What was printed, with the ports that the page names."""
    for name, url in ports.items():
        text = text.replace(url, name)
    return text


def started() -> SimulatedBoard:
    """A board that runs its program, whose bootloader nobody has woken yet."""
    board = SimulatedBoard(flash=APPLICATION)
    board.boot0 = False
    board.reset()
    return board


def test_the_page_has_each_error_and_no_other() -> None:
    """What an error says first stands in the page's tables, with … for its values."""
    tables = PAGE.read_text("utf-8").partition("## Each error")[2]
    rows = set(re.findall(r"^\| ([^|]+) \| [^|]+ \|$", tables, re.MULTILINE)) - {"error", "---"}
    told = set(chain.from_iterable(map(told_by, SOURCES)))
    assert told - rows == set(), "these errors have no row in docs/bench.md"
    assert rows - told == set(), "these rows of docs/bench.md are about no error"
    assert len(told) > 80


def test_the_page_has_each_finding_and_no_other() -> None:
    """What the doctor may find stands in the page's table."""
    page = PAGE.read_text("utf-8").partition("## Is the line right?")[2]
    rows = set(re.findall(r"^\| `([\w-]+)` \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE))
    source = (ROOT / "firmware_host" / "doctor.py").read_text("utf-8")
    assert set(re.findall(r'Finding\(\s*"([\w-]+)"', source)) == rows


def told_by(path: Path) -> Iterator[str]:
    """What the errors of a module say first; of those that wrap another one's words, nothing."""
    tree = ast.parse(path.read_text("utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, Function)):
        for call in calls(function):
            if is_error(call.func):
                place = int(name_of(call.func) == "VerificationError")
                yield from texts(call.args[place], function=function, tree=tree)


def texts(value: ast.expr, *, function: Function, tree: ast.Module) -> Iterator[str]:
    """The text of an expression; of a name, those that it is given in its function or by the function's callers."""
    if isinstance(value, ast.Constant):
        yield str(value.value)
    elif isinstance(value, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in value.values)
    elif isinstance(value, ast.Name):
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == value.id:
                yield from texts(node.value, function=function, tree=tree)
        names = [one.arg for one in function.args.args]
        for call in calls(tree) if value.id in names else ():
            if name_of(call.func) == function.name:
                yield from texts(call.args[names.index(value.id)], function=function, tree=tree)


def calls(node: ast.AST) -> Iterator[ast.Call]:
    """All calls below a node."""
    return (below for below in ast.walk(node) if isinstance(below, ast.Call))


def is_error(called: ast.expr) -> bool:
    """Whether a call makes one of our errors, by its class or by ``type(error)``."""
    name = name_of(called)
    return name.endswith("Error") and name not in NOT_OURS


def name_of(called: ast.expr) -> str:
    """The name that is called."""
    if isinstance(called, ast.Call) and name_of(called.func) == "type":
        return "Error"
    return called.id if isinstance(called, ast.Name) else ""
