"""Measure the structure of a checkout: ``python -m benchmarks.structure [FOLDER] [--walks] [--json]``.

The script imports nothing from the checkout, so it measures different commits by the same rules. To measure an older
commit, check it out into another folder, and pass that folder. ``--walks`` also runs commands of the checkout (see
`walks`); the checkout then needs a ``node_modules`` folder or link. The output is a Markdown table, or JSON with
``--json``.

Definitions:

- package: a folder in ``blockota`` or ``firmware_host``, or a module directly in one of the two.
- import edge: a pair of modules (or packages); code of the first imports the second.
- floors: the number of modules (or packages) on the longest chain of imports. Modules that import each other count as
    one module.
- body: the lines of a function without signature and docstring.
- comment: a line with a ``#`` comment that is not a tool's directive; counted per 100 lines of code.
- single-use helper: a function whose name begins with ``_`` and whose module uses it once.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from benchmarks.walks import walks

PRODUCT = ("blockota", "firmware_host")
SHORT_BODY = 6
"""A single-use helper with fewer lines than this must name a rule."""
DIRECTIVE = re.compile(r"#\s*(noqa|type:|pragma|ruff:|fmt:|!)")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Edges = set[tuple[str, str]]
Figures = dict[str, float | str]


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--walks", action="store_true", help="run the checkout's commands and count modules")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    options = parser.parse_args(arguments)
    figures = measure(options.folder.resolve())
    if options.walks:
        figures |= walks(options.folder.resolve())
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print("| figure | value |\n|---|---:|")
        print(*(f"| {name} | {value} |" for name, value in figures.items()), sep="\n")
    return 0


def measure(root: Path) -> Figures:
    """Return all figures that are computed from the sources."""
    paths = {module_name(root, path): path for folder in PRODUCT for path in python_files(root / folder)}
    tests = [*python_files(root / "tests"), *(root / "tests").rglob("*.sol")]
    contracts = [path for path in (root / "contracts").rglob("*.sol") if ".cache" not in path.parts]
    edges = import_edges(paths)
    between = {(package_of(one), package_of(other)) for one, other in edges}
    packages = {package_of(module) for module in paths}
    lengths = sorted(body_length(function) for path in paths.values() for function in functions(path))
    helpers = [body_length(function) for path in paths.values() for function in single_use_helpers(path)]
    return {
        "product lines (Python)": sum(map(lines_of, paths.values())),
        "product files (Python)": len(paths),
        "contract lines (Solidity)": sum(map(lines_of, contracts)),
        "script and benchmark lines": sum(
            map(lines_of, [*python_files(root / "scripts"), *python_files(root / "benchmarks")])
        ),
        "test lines (Python and Solidity)": sum(map(lines_of, tests)),
        "test files": len(tests),
        "packages": len(packages),
        "import edges between modules": len(edges),
        "import edges between packages": sum(one != other for one, other in between),
        "floors of modules": floors(paths, edges),
        "floors of packages": floors(packages, between),
        "function bodies, 90th percentile": lengths[int(len(lengths) * 0.9)],
        "function bodies, longest": lengths[-1],
        "comments per 100 lines of code": round(comments_per_hundred(paths.values()), 1),
        "single-use private helpers": len(helpers),
        f"of these shorter than {SHORT_BODY} lines": sum(length < SHORT_BODY for length in helpers),
    }


def python_files(folder: Path) -> list[Path]:
    """Return all Python files below a folder."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(root: Path, path: Path) -> str:
    """Return the dotted module name of a file."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    """Return the first two parts of a module's name."""
    return ".".join(module.split(".")[:2])


def lines_of(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text("utf-8").splitlines())


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def import_edges(paths: dict[str, Path]) -> Edges:
    """Return the pairs ⟨importing module, imported module⟩ among our modules; imports must be absolute."""
    edges = set()
    for module, path in paths.items():
        for node in ast.walk(tree(path)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                # `from package import name` imports a module if one has that name, otherwise the package itself.
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in paths else node.module for name in names]
            edges |= {(module, name) for name in names if name in paths and name != module}
    return edges


def floors(nodes: Iterable[str], edges: Edges) -> int:
    """Return the length of the longest chain of imports; the modules of an import cycle count as one."""
    remaining = {node: {other for one, other in edges if one == node and other != node} for node in nodes}
    count = 0
    while remaining:
        free = {node for node, targets in remaining.items() if not targets & remaining.keys()}
        if not free:
            reachable = {node: closure(node, remaining) for node in remaining}
            free = {node for node in remaining if all(node in reachable[other] for other in reachable[node])}
        remaining = {node: targets for node, targets in remaining.items() if node not in free}
        count += 1
    return count


def closure(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Return all nodes that are reachable from a node."""
    found: set[str] = set()
    pending = [start]
    while pending:
        new = (edges[pending.pop()] & edges.keys()) - found
        found |= new
        pending += new
    return found


def functions(path: Path) -> Iterator[Function]:
    """Yield every function of a file."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def body_length(function: Function) -> int:
    """Return the number of lines of a function's body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def single_use_helpers(path: Path) -> Iterator[Function]:
    """Yield each private function of a file that the file uses exactly once."""
    names = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name | ast.Attribute)
    )
    for function in functions(path):
        if function.name.startswith("_") and not function.name.endswith("__") and names[function.name] == 1:
            yield function


def comments_per_hundred(paths: Iterable[Path]) -> float:
    """Return the comments per 100 lines of code; blank lines, comments and docstrings do not count as code."""
    comments = code = 0
    for path in paths:
        lines = set()
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
            if token.type == tokenize.COMMENT:
                comments += not DIRECTIVE.match(token.string)
            elif token.type in {tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING}:
                lines |= set(range(token.start[0], token.end[0] + 1))
        code += len(lines - documentation(path))
    return 100 * comments / code


def documentation(path: Path) -> set[int]:
    """Return the line numbers of all docstrings, including those of attributes and constants."""
    return {
        line
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


if __name__ == "__main__":
    sys.exit(main())
