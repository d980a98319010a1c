"""The sources keep to the layout of docs/architecture.md and to the limits of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import click
import pytest

from blockota.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
FLOORS: tuple[tuple[str, ...], ...] = (
    ("blockota.__main__", "blockota.cli"),
    ("blockota.library", "blockota.operations"),
    ("blockota.gateway", "blockota.desk"),
    ("blockota.vendor", "blockota.broker", "blockota.identity", "blockota.connection", "firmware_host.bench"),
    ("blockota.repository",),
    ("blockota.ledger", "firmware_host.flashing"),
    ("blockota.stores", "blockota.bindings", "blockota.messaging"),
    ("blockota.chain", "blockota.approval"),
    ("blockota.model",),
    ("blockota.formats", "firmware_host.bootloader"),
    ("firmware_host.line", "firmware_host.simulator", "firmware_host.fleet"),
    ("blockota",),
)
"""Packages from the command line down to the base; a package may import from every floor below its own."""
FORBIDDEN = {
    "blockota.chain": ("blockota.model", "firmware_host"),
    **{
        f"blockota.{package}": ("firmware_host",)
        for package in (
            *("operations", "gateway", "connection", "vendor", "broker", "repository", "identity", "ledger"),
            *("stores", "bindings", "messaging", "approval", "model", "formats"),
        )
    },
    "firmware_host.flashing": ("blockota.stores", "blockota.bindings", "blockota.chain", "blockota.approval"),
    "firmware_host.simulator": ("firmware_host.line", "firmware_host.bootloader"),
}
"""Packages that a package must not import, although they are on a lower floor."""
ALLOWED = {"blockota.gateway.faces.an3155": "firmware_host"}
"""Single modules to which `FORBIDDEN` does not apply: this one flashes the boards on the serial lines of a gateway."""
PURE = ("blockota.formats", "blockota.model", "blockota.approval")
BASE_OF_PURE = {"blockota.errors", "blockota.ethereum", "blockota.strict_json"}
STANDARD_OF_PURE = {
    *("__future__", "array", "base64", "binascii", "collections", "dataclasses", "datetime", "enum", "functools"),
    *("hashlib", "io", "ipaddress", "itertools", "json", "math", "operator", "re", "struct", "sys", "textwrap"),
    *("types", "typing", "unicodedata", "uuid", "zlib"),
}
"""Modules of the standard library that the pure packages may import."""
RESOURCES = {"blockota.formats.abi", "blockota.formats.delta"}
"""The pure modules that import ``importlib``: one reads our contracts' ABI, one finds out whether detools exists."""
HOMES = {
    "web3": (),
    "ape_ethereum": ("blockota.ape_account",),
    "eth_typing": ("blockota.ape_account", "blockota.pkcs11_account"),
    "hexbytes": ("blockota.ape_account", "blockota.pkcs11_account"),
    "smp": ("blockota.gateway.faces.smp",),
    "markupsafe": ("blockota.operations.web",),
    "rlp": ("blockota.chain", "blockota.pkcs11_account"),
    "urllib3": ("blockota.chain", "blockota.stores"),
    "eth_abi": (),
    "Crypto": ("blockota.ethereum",),
    # The simulator's RFC 2217 server uses pyserial's implementation, so that our client is not tested against itself.
    "serial": ("firmware_host.line", "firmware_host.simulator.server"),
    "rich": ("blockota.cli",),
    "click": ("blockota.cli",),
    # Microchip's licence: development only, and never in the product.
    "cryptoauthlib": (),
    "detools": ("blockota.formats.delta",),
    "click_didyoumean": ("blockota.cli",),
    "confusable_homoglyphs": ("blockota.approval.lookalikes",),
    "unicorn": ("firmware_host.simulator",),
    "ape": ("blockota.ape_account",),
    "filelock": ("blockota.file_locks",),
    "cbor2": ("blockota.formats.cbor", "blockota.gateway.faces.smp"),
    "pkcs11": ("blockota.pkcs11_keys",),
    "websockets": ("blockota.chain.wake",),
    "starlette": ("blockota.gateway", "blockota.identity", "blockota.operations"),
    "jinja2": ("blockota.operations",),
    "python_multipart": ("blockota.operations.web.uploads",),
    "sqlalchemy": ("blockota.operations",),
    "alembic": ("blockota.operations",),
    "psycopg": ("blockota.operations.postgresql",),
    "prometheus_client": ("blockota.repository.metrics",),
    "h11": ("blockota.repository", "blockota.stores.http"),
    "smpclient": ("blockota.gateway.faces.smp",),
    "joserfc": ("blockota.formats.request_token",),
    "paho": ("blockota.messaging.client",),
    "aiocoap": ("blockota.gateway.faces.lwm2m",),
}
"""Foreign libraries, and the packages where their exceptions are translated."""
SHARED = {"cryptography", "eth_account", "eth_keys", "eth_utils"}
"""Foreign libraries whose types of keys and signatures several packages use."""
BODY_P90, BODY_MAX, FILE_MAX, PARAMETERS_MAX = 30, 60, 500, 5
SOLIDITY_BODY_P90, SOLIDITY_FILE_MAX = 20, 300
MOCKS_PER_TEST = 0.05
WITH_COMMANDS = {"blockota.chain.local", "blockota.formats.foreign", "firmware_host.simulator.__main__"}
"""Modules that name the options of other programs, or have a command line of their own."""
TERMS = {"bench log", "log key", "gateway devices"}
"""Terms of the domain that are also the words of a command."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_imports_point_down() -> None:
    """A package imports only from lower floors (layers) of docs/architecture.md."""
    wrong = [
        f"{module} imports {imported}"
        for module, imported in import_edges()
        if package_of(module) != package_of(imported) and floor_of(imported) <= floor_of(module)
        if module not in {"blockota.__main__", "blockota"}  # the package re-exports the library's names
    ]
    assert not wrong


@pytest.mark.parametrize("package", FORBIDDEN)
def test_closed_directions(package: str) -> None:
    """A package imports none of the packages that `FORBIDDEN` lists for it."""
    closed = FORBIDDEN[package]
    assert not [
        f"{module} imports {imported}"
        for module, imported in import_edges()
        if lies_in(module, package) and any(lies_in(imported, one) for one in closed)
        if not lies_in(imported, ALLOWED.get(module, imported + "."))
    ]


def test_there_are_no_cycles() -> None:
    """The imports of the modules, including imports inside functions, form no cycle."""
    remaining = {module: {i for m, i in import_edges() if m == module and i != module} for module in modules()}
    while free := {module for module, imports in remaining.items() if not imports & remaining.keys()}:
        for module in free:
            del remaining[module]
    assert not remaining


@pytest.mark.parametrize("library", HOMES)
def test_a_foreign_library_stays_in_one_place(library: str) -> None:
    """A foreign library is imported only in the packages that translate its exceptions."""
    users = {module for module in modules() for name in imported_names(module) if name.split(".")[0] == library}
    assert not {module for module in users if not any(lies_in(module, home) for home in HOMES[library])}


def test_every_foreign_library_is_listed() -> None:
    """`HOMES` or `SHARED` lists each imported library that is not in the standard library."""
    ours = {"blockota", "firmware_host"}
    imported = {name.split(".")[0] for module in modules() for name in imported_names(module)}
    assert imported - ours - sys.stdlib_module_names == HOMES.keys() & imported | SHARED


def test_decisions_are_pure() -> None:
    """The packages formats, model and approval do no I/O, and read neither the clock nor the environment."""
    pure = [module for module in modules() if module.startswith(PURE)]
    allowed = STANDARD_OF_PURE | HOMES.keys() | SHARED | {"blockota"}
    imported = {(module, name.split(".")[0]) for module in pure for name in imported_names(module)}
    impure = {(module, name) for module, name in imported if name not in allowed}
    impure -= {(module, "importlib") for module in RESOURCES}
    based = {
        f"{module} imports {imported}"
        for module, imported in import_edges()
        if module in pure and floor_of(imported) == len(FLOORS) - 1 and imported not in BASE_OF_PURE | {"blockota"}
    }
    assert (impure, based) == (set(), set())


def test_function_bodies_are_short() -> None:
    """No function body exceeds the maximum length, and the 90th percentile of the lengths is below a lower limit."""
    lengths = sorted(body_length(function) for _, function in functions(modules()))
    assert lengths[int(len(lengths) * 0.9)] <= BODY_P90
    every = functions({str(path.relative_to(ROOT)): path for path in python_files()})
    assert not [f"{where} {body_length(function)}" for where, function in every if body_length(function) > BODY_MAX]


def test_files_are_short() -> None:
    """No Python file, including tests, has more than 500 lines."""
    long = {str(p.relative_to(ROOT)): n for p in python_files() if (n := len(p.read_text().splitlines())) > FILE_MAX}
    assert not long


def test_parameters_are_few() -> None:
    """A function has at most five parameters; the functions that click calls are exempt."""
    assert not [
        where
        for where, function in functions(modules())
        if not is_called_by_click(function) and len(parameters(function)) > PARAMETERS_MAX
    ]


def test_statements_have_one_conditional_expression() -> None:
    """No statement has more than one conditional expression (``a if b else c``)."""
    crowded = [
        f"{module}:{node.lineno}"
        for module, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.stmt) and conditional_expressions(node) > 1
    ]
    assert not crowded


def test_no_function_takes_any_options() -> None:
    """No function has variable keyword parameters (``**options``) of the type `Any`."""
    assert not [
        where
        for where, function in functions(modules())
        if (kwarg := function.args.kwarg) and kwarg.annotation and ast.unparse(kwarg.annotation) == "Any"
    ]


def test_the_library_names_no_command() -> None:
    """Texts outside `blockota.cli` name no command, no option and no installation; `blockota.cli` adds these."""
    verbs, nouns = "|".join(commands(cli)), "|".join(cli.list_commands(click.Context(cli)))
    named = re.compile(rf"(?<![\w-])(--[a-z]|(?:pip install|{verbs}|blockota (?:{nouns}))(?![\w-]))")
    pages = (ROOT / "blockota" / "operations" / "web" / "templates").glob("*.html")
    library = {module for module in modules() if not lies_in(module, "blockota.cli")} - WITH_COMMANDS
    texts = [(module, text) for module in library for text in literals(module)]
    assert not [
        (place, found)
        for place, text in [*texts, *((page.name, page.read_text()) for page in pages)]
        for found in named.findall(text)
        if found not in TERMS
    ]


def test_class_names_are_unique() -> None:
    """Two classes outside the tests never have the same name, even if one of them is private."""
    classes = Counter(
        node.name.lstrip("_")
        for path in python_files()
        if "tests" not in path.relative_to(ROOT).parts
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in classes.items() if count > 1]


def test_tests_are_documented_and_use_real_parts() -> None:
    """Every test has a docstring, and there is at most one mock for twenty tests."""
    tests = {str(path): path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)}
    found = [(where, f) for where, f in functions(tests) if f.name.startswith("test_")]
    assert not [where for where, function in found if not ast.get_docstring(function)]
    mocks = sum(
        len(re.findall(r"monkeypatch\.set|MagicMock|mock\.patch|@patch", p.read_text())) for p in tests.values()
    )
    assert mocks <= MOCKS_PER_TEST * len(found)


def test_sampled_sweeps_are_marked_for_make_deep() -> None:
    """Every test file that draws a sample of its cases has the mark `sampled`, by which `make deep` runs all cases."""
    sampling = re.compile(r"\b(sampled|killed_until_done)\(")
    files = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)}
    assert not [str(path) for path, text in files.items() if sampling.search(text) and "mark.sampled" not in text]


def test_solidity_is_short() -> None:
    """The contracts keep to limits for the length of files and function bodies."""
    # Ape keeps copies of its dependencies in contracts/.cache when the clone lies in a temporary folder.
    sources = [p for p in (ROOT / "contracts").rglob("*.sol") if ".cache" not in p.parts]
    assert sources
    assert not [str(p) for p in sources if len(p.read_text().splitlines()) > SOLIDITY_FILE_MAX]
    lengths = sorted(chain.from_iterable(solidity_bodies(p.read_text()) for p in sources))
    assert lengths[int(len(lengths) * 0.9)] <= SOLIDITY_BODY_P90


@cache
def modules() -> dict[str, Path]:
    """Return the files of all modules of `blockota` and `firmware_host`, by module name."""
    paths = chain((ROOT / "blockota").rglob("*.py"), (ROOT / "firmware_host").rglob("*.py"))
    return {module_name(path): path for path in paths}


def module_name(path: Path) -> str:
    """Return the dotted module name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text())


@cache
def imported_names(module: str) -> list[str]:
    """Return the names that a module imports, including imports inside functions."""
    names = list[str]()
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def literals(module: str) -> Iterator[str]:
    """Yield the string literals of a module, without its docstrings."""
    nodes = list(ast.walk(tree(modules()[module])))
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def commands(group: click.Group, path: str = "") -> Iterator[str]:
    """Yield the nouns with their verbs, such as ``release list``."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found, words = group.get_command(context, name), f"{path} {name}".strip()
        if path:
            yield words
        if isinstance(found, click.Group):
            yield from commands(found, words)


@cache
def import_edges() -> tuple[tuple[str, str], ...]:
    """Return the pairs ⟨module, imported module⟩ in which both modules are ours."""
    edges = ((module, owner(name)) for module in modules() for name in imported_names(module))
    return tuple((module, imported) for module, imported in edges if imported)


def owner(name: str) -> str:
    """Return the module of ours that defines a dotted name; empty for a name of a foreign library."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def module_of(function: str) -> str:
    """Return the name of the module in a function's dotted name."""
    return function.rpartition(".")[0]


def lies_in(module: str, package: str) -> bool:
    """Return whether a module is the given package, or lies in it."""
    return f"{module}.".startswith(f"{package}.")


def package_of(module: str) -> str:
    """Return the package in `FLOORS` to which a module belongs; "blockota" for a module of the base."""
    named = [name for floor in FLOORS for name in floor if lies_in(module, name)]
    found = max(named, key=len, default="")
    assert found, f"{module} is on no floor"
    return found


def floor_of(module: str) -> int:
    """Return the number of a module's floor (layer), counted from 0 at the top."""
    return next(number for number, floor in enumerate(FLOORS) if package_of(module) in floor)


def python_files() -> list[Path]:
    """Return all Python files that git tracks or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def functions(files: dict[str, Path]) -> Iterator[tuple[str, Function]]:
    """Yield every function of some files, with its dotted name."""
    for name, path in files.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, Function):
                yield f"{name}.{node.name}", node


def body_length(function: Function) -> int:
    """Return the number of lines of a function's body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def conditional_expressions(node: ast.AST) -> int:
    """Count the conditional expressions in a statement, without those in the statements inside it."""
    inside = [one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.stmt)]
    return sum(isinstance(one, ast.IfExp) + conditional_expressions(one) for one in inside)


def is_called_by_click(function: Function) -> bool:
    """Return whether click calls a function: a command, or the method ``convert`` of a parameter type."""
    return function.name == "convert" or any(
        "with_session" in ast.unparse(decorator) for decorator in function.decorator_list
    )


def parameters(function: Function) -> list[ast.arg]:
    """Return a function's parameters without ``self``, ``cls`` and starred parameters."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [parameter for parameter in every if parameter.arg not in {"self", "cls"}]


def solidity_bodies(source: str) -> Iterator[int]:
    """Yield the number of lines between the braces of each Solidity function, constructor and modifier."""
    pattern = re.compile(r"^( +)(?:function|constructor|modifier)\b[^;{]*\{\n(.*?)^\1\}", re.MULTILINE | re.DOTALL)
    for match in pattern.finditer(source):
        yield match[2].count("\n")
