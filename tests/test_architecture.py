"""The house of DESIGN section 2 and the gates of section 8, held against the sources."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS: tuple[tuple[str, ...], ...] = (
    ("blockota.__main__", "blockota.cli", "blockota.dashboard", "firmware_host.__main__"),
    ("firmware_host",),
    (
        *("blockota.approval", "blockota.vendor", "blockota.broker", "blockota.gateway", "blockota.technician"),
        *("blockota.repository", "blockota.finding", "blockota.probing"),
        *("blockota.broker_sync", "blockota.broker_facts", "blockota.broker_state", "blockota.depot"),
    ),
    (
        *("blockota.bindings", "blockota.chain", "blockota.multisig", "blockota.stores", "blockota.mqtt"),
        *("blockota.contract", "blockota.replication"),
        *("blockota.node", "blockota.journal", "blockota.tracking", "blockota.outbox"),
        *("blockota.keys", "blockota.settings", "blockota.deployment", "blockota.localchain"),
        "blockota.ape_account",
        "blockota.clear_signing",
    ),
    (
        *("blockota.proposal", "blockota.intent", "blockota.refusals", "blockota.verification", "blockota.answers"),
        *("blockota.safe_transaction", "blockota.safe_owners", "blockota.signature", "blockota.chain_view"),
        *("blockota.red_flags", "blockota.difference", "blockota.transaction_builder"),
        *("blockota.release", "blockota.manifest", "blockota.draft", "blockota.agreement"),
        *("blockota.broker_plan", "blockota.broker_standing"),
        *("blockota.receipts", "blockota.identity"),
        "blockota.transaction",
    ),
    (
        "blockota.abi",
        "blockota.cid",
        "blockota.car",
        "blockota.merkle",
        "blockota.rlp",
        "blockota.files",
        "blockota.strict_json",
        "blockota.text",
        "blockota.errors",
    ),
)
"""From people down to formats; a module imports from its own layer and from those below."""
AT_HOME = {
    "web3": ("blockota.node",),
    "ipfshttpclient": ("blockota.stores.kubo",),
    # The simulated serial server lets pyserial speak RFC 2217: nothing of ours tests our client against itself.
    "serial": ("firmware_host.serial_port", "firmware_host.board.server_rfc2217"),
    "rich": ("blockota.cli",),
    "click": ("blockota.cli",),
    "unicorn": ("firmware_host.board",),
    "ape": ("blockota.ape_account",),
    "starlette": ("blockota.repository", "blockota.dashboard"),
    "uvicorn": ("blockota.repository", "blockota.dashboard"),
}
"""Libraries that stay where their exceptions are translated."""
PURE = (
    *("safe_transaction", "safe_owners", "signature", "chain_view", "red_flags", "difference", "transaction_builder"),
    *("proposal", "intent", "refusals", "verification", "answers", "release", "manifest", "draft", "agreement"),
    *("broker_plan", "broker_standing"),
    *("receipts", "identity", "cid", "car", "merkle", "text", "errors", "strict_json"),
)
IMPURE = {"os", "time", "socket", "subprocess", "pathlib", "random", "secrets", "tempfile", "shutil", "requests"}
BODY_MEDIAN, BODY_P90, BODY_MAX, COMMAND_MAX = 6, 25, 50, 25
FILE_MAX, PARAMETERS_MAX, POSITIONAL_MAX = 350, 5, 2
SOLIDITY_BODY_P90, SOLIDITY_FILE_MAX = 20, 300
MOCKS_A_TEST = 0.05
Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_imports_point_down() -> None:
    """No module imports from a layer above its own."""
    wrong = [
        f"{module} imports {imported}" for module, imported in import_edges() if layer_of(imported) < layer_of(module)
    ]
    assert not wrong


def test_there_are_no_cycles() -> None:
    """The modules can be put in an order in which each comes after all that it imports."""
    remaining = {module: {i for m, i in import_edges() if m == module and i != module} for module in modules()}
    while free := {module for module, imports in remaining.items() if not imports & remaining.keys()}:
        for module in free:
            del remaining[module]
    assert not remaining


@pytest.mark.parametrize("library", AT_HOME)
def test_a_library_stays_at_home(library: str) -> None:
    """A library whose exceptions are translated is imported where that is done, and nowhere else."""
    users = {module for module in modules() for name in imported_names(module) if name.split(".")[0] == library}
    assert not {module for module in users if not module.startswith(AT_HOME[library])}


@pytest.mark.parametrize("name", PURE)
def test_what_decides_is_pure(name: str) -> None:
    """Modules that decide import nothing that reads files, clocks, networks or the environment."""
    module = f"blockota.{name}"
    if module in modules():
        assert not {imported.split(".")[0] for imported in imported_names(module)} & IMPURE


def test_function_bodies_are_short() -> None:
    """Bodies keep to the median, the 90th percentile and the maximum of the gates."""
    lengths = sorted(body_length(function) for _, function in functions(modules()))
    assert statistics.median(lengths) <= BODY_MEDIAN
    assert lengths[int(len(lengths) * 0.9)] <= BODY_P90
    long = [f"{where} {body_length(f)}" for where, f in functions(modules()) if body_length(f) > BODY_MAX]
    assert not long


def test_commands_are_thin() -> None:
    """A command parses, calls the library and prints."""
    commands = {name: path for name, path in modules().items() if name.startswith("blockota.cli.")}
    long = [f"{where} {body_length(f)}" for where, f in functions(commands) if body_length(f) > COMMAND_MAX]
    assert not long


def test_files_are_short() -> None:
    """No Python file of ours, tests included, has more lines than the gate."""
    long = {str(p.relative_to(ROOT)): n for p in python_files() if (n := len(p.read_text().splitlines())) > FILE_MAX}
    assert not long


def test_parameters_are_few_and_named() -> None:
    """At most five parameters, of which at most two may be given by position (commands are called by click)."""
    wrong = [
        where
        for where, function in functions(modules())
        if not is_called_by_click(function)
        and (len(parameters(function)) > PARAMETERS_MAX or positional(function) > POSITIONAL_MAX)
    ]
    assert not wrong


def test_tests_are_told_and_use_real_parts() -> None:
    """Every test has a sentence, and mocks are at most a twentieth of the tests."""
    tests = {str(path): path for path in (ROOT / "tests").rglob("test_*.py")}
    found = [(where, f) for where, f in functions(tests) if f.name.startswith("test_")]
    assert not [where for where, function in found if not ast.get_docstring(function)]
    mocks = sum(
        len(re.findall(r"monkeypatch\.set|MagicMock|mock\.patch|@patch", p.read_text())) for p in tests.values()
    )
    assert mocks - own_mentions() <= MOCKS_A_TEST * len(found)


def test_solidity_is_short() -> None:
    """Contracts keep to the gates as well."""
    # Ape keeps copies of its dependencies in contracts/.cache when the clone lies in a temporary folder.
    sources = [p for p in (ROOT / "contracts").rglob("*.sol") if ".cache" not in p.parts]
    assert sources
    assert not [str(p) for p in sources if len(p.read_text().splitlines()) > SOLIDITY_FILE_MAX]
    lengths = sorted(chain.from_iterable(solidity_bodies(p.read_text()) for p in sources))
    assert lengths[int(len(lengths) * 0.9)] <= SOLIDITY_BODY_P90


@cache
def modules() -> dict[str, Path]:
    """All modules of the two packages, by name."""
    paths = chain((ROOT / "blockota").rglob("*.py"), (ROOT / "firmware_host").rglob("*.py"))
    return {module_name(path): path for path in paths}


def module_name(path: Path) -> str:
    """The dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text())


def imported_names(module: str) -> Iterator[str]:
    """What a module imports, wherever in the file."""
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def import_edges() -> tuple[tuple[str, str], ...]:
    """⟨module, imported module⟩ among our own."""
    edges = ((module, owner(name)) for module in modules() for name in imported_names(module))
    return tuple((module, imported) for module, imported in edges if imported)


def owner(name: str) -> str:
    """The module of ours that a dotted name lies in, or nothing."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def layer_of(module: str) -> int:
    """The number of a module's layer, counted from the top; the bare packages are below everything."""
    if module == "blockota":
        return len(LAYERS)
    named = [(len(name), i) for i, layer in enumerate(LAYERS) for name in layer if f"{module}.".startswith(f"{name}.")]
    assert named, f"{module} has no place in the house"
    return max(named)[1]


def python_files() -> list[Path]:
    """All Python files that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"],  # noqa: S607 - git is what lists them
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def functions(files: dict[str, Path]) -> Iterator[tuple[str, Function]]:
    """Every function, with a name that finds it."""
    for name, path in files.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, Function):
                yield f"{name}.{node.name}", node


def body_length(function: Function) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def is_called_by_click(function: Function) -> bool:
    """Whether click calls it: a command, with every option by name, or a parameter type's ``convert``."""
    return function.name == "convert" or any(
        "with_session" in ast.unparse(decorator) for decorator in function.decorator_list
    )


def parameters(function: Function) -> list[ast.arg]:
    """A function's parameters without ``self``, ``cls`` and starred ones; click calls ``convert``."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [parameter for parameter in every if parameter.arg not in {"self", "cls"}]


def positional(function: Function) -> int:
    """How many of them may be given by position."""
    return len(parameters(function)) - len(function.args.kwonlyargs)


def own_mentions() -> int:
    """Mentions of mocks in this file, which looks for them."""
    return len(re.findall(r"monkeypatch\.set|MagicMock|mock\.patch|@patch", Path(__file__).read_text()))


def solidity_bodies(source: str) -> Iterator[int]:
    """Lines between the braces of each function; the formatter puts the closing one where the function began."""
    pattern = re.compile(r"^( +)(?:function|constructor|modifier)\b[^;{]*\{\n(.*?)^\1\}", re.MULTILINE | re.DOTALL)
    for match in pattern.finditer(source):
        yield match[2].count("\n")
