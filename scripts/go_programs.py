"""Download and build Go programs for tests and benchmarks, into the user's cache folder.

All clones of a user share the cache folder. The script runs ``go build`` in the module's folder. It does not use ``go
install``, which refuses a module whose go.mod replaces other modules.

The script uses only the standard library, because it runs before any package is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

OLDEST_GO = (1, 26, 5)
GO = shutil.which("go") or "/usr/local/go/bin/go"
"""The go command on PATH, or in the default folder of Go's installer."""
SAVING_MEMORY = ("-p", "1")
"""Compiler option for a large program: compile one package at a time, to save memory."""
SHOWN_LOG_LINES = 15
STARTS_WITHIN = 30
"""Seconds in which a built program must print its version or its help."""


class UnavailableError(Exception):
    """A Go program cannot be built; the text contains the reason and the remedy."""


def run_installer(name: str, *, find: Callable[[], Path | None], build: Callable[[], Path]) -> int:
    """Find a program, or build it, and print its path; with ``--find``, only find it.

    Returns:
        The exit status, which is 1 if the program was neither found nor built.
    """
    found = find()
    if not found and "--find" not in sys.argv:
        try:
            found = build()
        except UnavailableError as error:
            say(f"{name} cannot be built: {error}")
        except KeyboardInterrupt:
            say("Stopped; run the same command again to continue.")
    if found:
        print(found)
    return 0 if found else 1


def cache_folder() -> Path:
    """Return the folder for built programs, which all clones of a user share."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blockota"


def build_program(name: str, module: str, package: str, *, target: Path, options: Iterable[str] = ()) -> Path:
    """Build a package of a Go module, such as "github.com/ipfs/kubo@v0.43.1", and return the path of the program.

    Raises:
        UnavailableError: the go command is missing or too old, a module cannot be downloaded, the build fails, or the
            program does not start.
    """
    check_go()
    began = time.monotonic()
    say(f"Building {name}, which takes some minutes the first time ...")
    described = json.loads(run([GO, "mod", "download", "-json", module]) or "{}")
    if "Dir" not in described:
        raise UnavailableError(described.get("Error", "the module proxy does not have the module"))
    source = Path(described["Dir"])
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        program = Path(folder) / target.name
        count = len(run([GO, "list", "-deps", package], folder=source).split())
        compile_program([GO, "build", "-trimpath", "-v", "-o", str(program), *options, package], source, count=count)
        if not starts(program):
            raise UnavailableError("the built program does not start")
        program.replace(target)
    say(f"Built {name} in {time.monotonic() - began:.0f} s.")
    return target


def check_go() -> None:
    """Check that Go is installed and new enough.

    Raises:
        UnavailableError: Go is missing or too old.
    """
    wanted = ".".join(map(str, OLDEST_GO))
    if not shutil.which(GO):
        raise UnavailableError(f"Go is missing: install Go {wanted} or newer (go.dev/dl).")
    found = run([GO, "env", "GOVERSION"]).strip()
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", found)
    if match is None or tuple(int(part or 0) for part in match.groups()) < OLDEST_GO:
        raise UnavailableError(f"{found} is too old: install Go {wanted} or newer (go.dev/dl).")


def compile_program(command: list[str], source: Path, *, count: int) -> None:
    """Run the compiler, and show the number of compiled packages; `count` is the largest possible number."""
    with subprocess.Popen(command, cwd=source, stderr=subprocess.PIPE, text=True) as process:
        lines = list(counted(process.stderr or (), count))
    if process.returncode:
        raise UnavailableError("the build failed:\n" + "\n".join(lines[-SHOWN_LOG_LINES:]))


def counted(lines: Iterable[str], count: int) -> Iterable[str]:
    """Yield the lines of the compiler's output; on a terminal, show the number of lines so far."""
    for number, line in enumerate(lines):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{number} of at most {count} packages ")
            sys.stderr.flush()
        yield line.rstrip()


def starts(program: Path) -> bool:
    """Return whether a program starts and prints its version or its help."""
    try:
        # Programs without the command `version` end with an error, but print their help.
        probes = [
            subprocess.run([program, word], capture_output=True, check=False, timeout=STARTS_WITHIN)
            for word in ("version", "-h")
        ]
    except (OSError, subprocess.TimeoutExpired):
        return False
    return any(done.returncode == 0 for done in probes)


def run(command: list[str], *, folder: Path | None = None) -> str:
    """Run a command and return its standard output, which may be JSON that describes an error.

    Raises:
        UnavailableError: the command fails, and its output is not JSON.
    """
    # Run in a folder without go.mod, so that the result does not depend on the current folder.
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(command, cwd=folder or empty, capture_output=True, text=True, check=False)
    if done.returncode and not done.stdout.startswith("{"):
        raise UnavailableError("\n".join(done.stderr.strip().splitlines()[-SHOWN_LOG_LINES:]))
    return done.stdout


def say(text: str) -> None:
    """Print a line on stderr; on a terminal, the line replaces the progress line."""
    sys.stderr.write(f"\r\033[K{text}\n" if sys.stderr.isatty() else f"{text}\n")
