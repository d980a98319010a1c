"""Install the dependencies of a make target if they are missing: ``python3 scripts/bootstrap.py TARGET``.

The targets are runtime, tests, peers, docs, slither, halmos, clear-signing and fuzz.

The script uses only the standard library, because it runs before any package is installed. The script installs only
into this clone (``.venv``, ``node_modules``, ``.build``) and the tools' own cache folders. Each step writes a stamp
file with the digest of its source files, and runs again only when the source files change.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
VENV = CLONE / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = CLONE / ".build" / "setup.log"
OLDEST_PYTHON, OLDEST_NODE = (3, 11), 20
LINTER_PYTHON, UNBORN_PYTHON = (3, 12), 30
"""The oldest Python for the linter of clear-signing descriptors, and a minor version beyond the newest Python."""
SHOWN_LOG_LINES = 15
TOOLS = {
    "docs": "mkdocs",
    "slither": "slither",
    "halmos": "halmos",
    "clear-signing": "erc7730",
    "fuzz": "atheris",
    "peers": "smpmgr",
    "oracle": "cryptoauthlib",
}
"""Targets whose tool has its own venv, and the tool's command, or its package if it has no command."""
WITHOUT_COMMAND = {"fuzz", "oracle"}
COMPILING = {
    "gcc": "gcc",
    "make": "make",
    "autoconf": "autoconf",
    "automake": "automake",
    "libtoolize": "libtool",
    "python3-config": "python3-dev",
}
"""The programs that compile detools and DTLSSocket, with their Debian packages."""


@dataclass(frozen=True)
class Step:
    """One step of the installation.

    Attributes:
        title: the step's name in messages.
        stamps: names of the stamp files. If any stamp file is current, the step is up to date. When the step is run, it
            writes the first stamp file.
        sources: for each stamp file, the tuple of source files whose digest a current stamp file contains.
        product: a path that exists after the step.
        commands: the commands of the step, in order.
    """

    title: str
    stamps: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    product: Path
    commands: tuple[list[str], ...]

    def is_done(self) -> bool:
        """Return whether a stamp file is current and the step's product exists."""
        pairs = zip(self.stamps, self.sources, strict=True)
        return self.product.exists() and any(read(VENV / stamp) == digest(files) for stamp, files in pairs)

    def run(self) -> bool:
        """Run the step's commands, with progress on stderr; return False if a command fails."""
        began = time.monotonic()
        if not all(run_command(command, self.title) for command in self.commands):
            end = "\n".join(read(LOG).splitlines()[-SHOWN_LOG_LINES:])
            say(f"Setting up {self.title} failed. The end of {LOG.relative_to(CLONE)}:\n{end}")
            return False
        VENV.mkdir(exist_ok=True)
        (VENV / self.stamps[0]).write_text(digest(self.sources[0]))
        say(f"Set up {self.title} in {time.monotonic() - began:.0f} s.")
        return True


def steps(target: str) -> list[Step]:
    """Return the steps that a target needs, in order."""
    runtime, tests = ("requirements.lock", "pyproject.toml"), ("requirements-dev.lock", "pyproject.toml")
    npm = Step(
        "the npm packages (local chains, Safe, compiler)",
        (".npm",),
        (("package-lock.json",),),
        CLONE / "node_modules" / "@foundry-rs",
        (["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],),
    )
    if target == "runtime":
        # The requirements of the tests include those of the commands, at the same versions.
        return [npm, python_step("requirements.lock", (".runtime", ".tests"), (runtime, tests))]
    if target == "docs":  # the site is made from the sources, without importing them
        return [tool_step(target, sys.executable)]
    compiler = Step(
        "the Solidity compiler",
        (".compiler",),
        (("ape-config.yaml", "scripts/install_compiler.py"),),
        CLONE,
        ([str(PYTHON), "scripts/install_compiler.py"],),
    )
    if target == "peers":
        foreign = replace(tool_step(target, sys.executable), title="the packages of foreign clients")
        # Microchip's licence allows its library with Microchip's products alone: it gets a venv of its own.
        oracle = replace(tool_step("oracle", sys.executable), title="Microchip's cryptoauthlib")
        return [*steps("tests"), compiled_step(), foreign, oracle]
    newer = newer_python()
    tools = [tool_step(target, newer or sys.executable)] if target in TOOLS else []
    if target == "tests" and newer:
        tools.append(tool_step("clear-signing", newer))
    # Each worker of pytest would otherwise compile all modules of the first run by itself.
    bytecode = Step(
        "the bytecode of the tests",
        (".bytecode",),
        (tests,),
        CLONE,
        ([str(PYTHON), "-m", "pytest", "--collect-only", "-qq", "--ignore", "tests/peers", "tests"],),
    )
    return [npm, python_step("requirements-dev.lock", (".tests",), (tests,)), compiler, bytecode, *tools]


def tool_step(target: str, interpreter: str) -> Step:
    """Return the step that installs a tool into its own venv; the tool's requirements conflict with BlockOTA's."""
    folder, lock = CLONE / ".build" / target, f"requirements-{target}.lock"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    return Step(
        TOOLS[target].capitalize(),
        (f".{target}",),
        ((lock,),),
        folder / "bin" / ("python" if target in WITHOUT_COMMAND else TOOLS[target]),
        ([interpreter, "-m", "venv", "--clear", str(folder)], [*pip, "--require-hashes", "-r", lock]),
    )


def compiled_step() -> Step:
    """Return the step that compiles the libraries of the extras delta and dtls, which have no wheels, into the venv."""
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install"]
    lock = "requirements-compiled.lock"
    return Step(
        "the packages that are compiled",
        (".compiled",),
        ((lock,),),
        VENV / "bin" / "detools",
        ([*pip, "--require-hashes", "-r", lock],),
    )


def newer_python() -> str | None:
    """Return a Python that is new enough for the linter, or None.

    The candidates are this Python, and those in PATH, .build/python and pyenv.
    """
    minors = range(LINTER_PYTHON[1], UNBORN_PYTHON)
    on_path = [path for minor in minors if (path := shutil.which(f"python3.{minor}"))]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    folders = [path for folder in (CLONE / ".build" / "python", pyenv) for path in sorted(folder.glob("*/bin/python3"))]
    candidates = [sys.executable, *on_path, *map(str, folders)]
    return next((candidate for candidate in candidates if is_new_enough(candidate)), None)


def is_new_enough(interpreter: str) -> bool:
    """Return whether an interpreter starts, is new enough for the linter, and can create a venv."""
    test = f"import ensurepip, sys; sys.exit(sys.version_info < {LINTER_PYTHON})"
    try:
        return subprocess.run([interpreter, "-c", test], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def python_step(lock: str, stamps: tuple[str, ...], sources: tuple[tuple[str, ...], ...]) -> Step:
    """Return the step that installs BlockOTA and the packages of a lock file into the venv."""
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install"]
    return Step(
        "the Python packages",
        stamps,
        sources,
        PYTHON,
        (
            [sys.executable, "-m", "venv", str(VENV)],
            [*pip, "--require-hashes", "-r", lock],
            [*pip, "--no-deps", "-e", "."],
        ),
    )


def missing_prerequisite(target: str) -> str:
    """Return a sentence about a missing prerequisite of a target; empty if all prerequisites are installed."""
    if target == "clear-signing" and newer_python() is None:
        return "The linter needs Python 3.12 or newer: install one with its venv module, on PATH or with pyenv."
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        return f"Python {found} is too old: BlockOTA needs 3.11 or newer. Choose one with `make PYTHON=python3.12 ...`."
    if target == "peers" and (missing := [name for name in COMPILING if not shutil.which(name)]):
        packages = " ".join(sorted(COMPILING[name] for name in missing))
        return f"Programs are missing that compile Python packages ({', '.join(missing)}): install {packages}."
    if importlib.util.find_spec("ensurepip") is None:
        return "Python's venv module is missing: install it (on Debian and Ubuntu the package python3-venv)."
    return "" if target == "docs" else missing_node()


def missing_node() -> str:
    """Return a sentence about a missing or old Node; empty if Node and npm are installed."""
    node = shutil.which("node")
    if not node or not shutil.which("npm"):
        return "Node or npm is missing: install Node 20 or newer (nodejs.org, or your system's packages)."
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    match = re.match(r"v(\d+)", version)
    if match is None or int(match[1]) < OLDEST_NODE:
        return f"Node {version} is too old: BlockOTA needs Node 20 or newer (nodejs.org, or your system's packages)."
    return ""


def run_command(command: list[str], title: str) -> bool:
    """Run a command, write its output to the log, and show on a terminal how many packages it has installed."""
    packages = 0
    process = subprocess.Popen(command, cwd=CLONE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process, LOG.open("a") as log:
        for line in process.stdout or ():
            log.write(line)
            packages += line.startswith("Collecting ")
            show_progress(f"Setting up {title} ... {packages or ''}")
    return process.returncode == 0


def show_progress(text: str) -> None:
    """Overwrite the last line of a terminal; print nothing if stderr is not a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def say(text: str) -> None:
    """Print a line on stderr, and remove the progress line."""
    show_progress("")
    sys.stderr.write(f"{text}\n")


def digest(sources: tuple[str, ...]) -> str:
    """Return the SHA-256 of the contents of files."""
    return hashlib.sha256(b"".join((CLONE / source).read_bytes() for source in sources)).hexdigest()


def read(path: Path) -> str:
    """Return a file's text; empty if the file does not exist."""
    return path.read_text() if path.exists() else ""


def main() -> int:
    """Run the steps of a target; return 1 if a prerequisite is missing or a step fails."""
    target = sys.argv[1] if len(sys.argv) > 1 else "runtime"
    if missing := missing_prerequisite(target):
        say(missing)
        return 1
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    for step in steps(target):
        if step.is_done():
            continue
        if not sys.stderr.isatty():
            say(f"Setting up {step.title} ...")
        if not step.run():
            return 1
    return 0


def guarded() -> int:
    """Run `main`, and report an interruption or a file error in one sentence instead of a traceback."""
    try:
        return main()
    except KeyboardInterrupt:
        say("Stopped; run the same command again to continue.")
    except OSError as error:
        say(f"This folder cannot be set up: {error}.")
    return 1


if __name__ == "__main__":
    sys.exit(guarded())
