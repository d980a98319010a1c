"""Build Kubo, the IPFS node for the tests of the Kubo store and for its benchmark: ``python3 scripts/install_kubo.py``.

An ``ipfs`` on PATH that is new enough is used. Otherwise the Go toolchain builds one from the module proxy and moves
the finished program into the user's cache folder, which all clones share. ``--find`` only searches.

The program is built in the module's own folder, not by ``go install``: Kubo's go.mod may replace modules, which Go
allows in a main module only. If a replaced module of the newest version cannot be downloaded, the version before it is
built.

Standard library only, because it runs before anything is installed.
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
from collections.abc import Iterable
from pathlib import Path

VERSIONS = ("0.43.1", "0.43.0")
"""The versions to build: the first of these that can be downloaded."""
OLDEST = (0, 40)
"""The oldest version that is used from PATH: the first with the profile ``unixfs-v1-2025``."""
OLDEST_GO = (1, 26, 5)
GO = shutil.which("go") or "/usr/local/go/bin/go"
"""On PATH, or in the default folder of Go's installer."""
SHOWN_LOG_LINES = 15


class UnavailableError(Exception):
    """Kubo cannot be built; the text contains the reason and the remedy."""


def main() -> int:
    """Print the path of a Kubo, and build it first if none is installed; return the exit status, 1 after a failure."""
    found = find()
    if not found and "--find" not in sys.argv:
        try:
            found = build_newest()
        except UnavailableError as error:
            say(f"Kubo cannot be had: {error}")
        except KeyboardInterrupt:
            say("Stopped; the same command goes on where this one ended.")
    if found:
        print(found)
    return 0 if found else 1


def find() -> Path | None:
    """Find an installed Kubo: on PATH if it is new enough, otherwise one that was built before."""
    on_path = shutil.which("ipfs")
    built = [cached(version) for version in VERSIONS]
    candidates = [Path(on_path)] if on_path and (version_of(Path(on_path)) or (0,)) >= OLDEST else []
    return next((path for path in [*candidates, *built] if path.is_file()), None)


def cached(version: str) -> Path:
    """The path of a built Kubo in the cache."""
    return cache_folder() / "kubo" / f"v{version}" / "ipfs"


def cache_folder() -> Path:
    """The folder for built programs, which all clones of a user share."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blockota"


def version_of(program: Path) -> tuple[int, ...] | None:
    """The version that a program reports; None if it does not report one."""
    try:
        answer = subprocess.run(
            [program, "version", "--number"], capture_output=True, text=True, check=False, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", answer)
    return tuple(map(int, match.groups())) if match else None


def build_newest() -> Path:
    """Build the first version for which that is possible, or raise `UnavailableError`."""
    check_go()
    reasons = []
    for version in VERSIONS:
        try:
            return build(version)
        except UnavailableError as error:
            reasons.append(f"{version}: {error}")
            say(f"Kubo {version} cannot be built here: {str(error).splitlines()[0]}")
    raise UnavailableError("\n".join(reasons))


def check_go() -> None:
    """Check the version of Go.

    Raises:
        UnavailableError: Go is missing or too old.
    """
    wanted = ".".join(map(str, OLDEST_GO))
    if not shutil.which(GO):
        raise UnavailableError(f"Go is missing: install Go {wanted} or newer (go.dev/dl), or Kubo as `ipfs` on PATH.")
    found = run([GO, "env", "GOVERSION"]).strip()
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", found)
    if match is None or tuple(int(part or 0) for part in match.groups()) < OLDEST_GO:
        raise UnavailableError(f"{found} is too old: install Go {wanted} or newer (go.dev/dl).")


def build(version: str) -> Path:
    """Build one version into the cache.

    Raises:
        UnavailableError: a module cannot be downloaded, or the build fails.
    """
    began, target = time.monotonic(), cached(version)
    say(f"Building Kubo {version}, which takes some minutes the first time ...")
    described = json.loads(run([GO, "mod", "download", "-json", f"github.com/ipfs/kubo@v{version}"]) or "{}")
    if "Dir" not in described:
        raise UnavailableError(described.get("Error", "the module proxy does not hold it"))
    source = Path(described["Dir"])
    packages = run([GO, "list", "-deps", "./cmd/ipfs"], folder=source).split()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        program = Path(folder) / "ipfs"
        compile_program(source, program, packages=len(packages))
        if version_of(program) is None:
            raise UnavailableError("what was built does not start")
        program.replace(target)
    say(f"Built Kubo {version} in {time.monotonic() - began:.0f} s.")
    return target


def compile_program(source: Path, program: Path, *, packages: int) -> None:
    """Run the compiler, and show progress by the packages that it lists."""
    command = [GO, "build", "-trimpath", "-v", "-o", str(program), "./cmd/ipfs"]
    with subprocess.Popen(command, cwd=source, stderr=subprocess.PIPE, text=True) as process:
        lines = list(counted(process.stderr or (), packages))
    if process.returncode:
        raise UnavailableError("the build failed:\n" + "\n".join(lines[-SHOWN_LOG_LINES:]))


def counted(lines: Iterable[str], packages: int) -> Iterable[str]:
    """Yield the lines; on a terminal, show how many there were so far."""
    for number, line in enumerate(lines):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{number} of at most {packages} packages ")
            sys.stderr.flush()
        yield line.rstrip()


def run(command: list[str], *, folder: Path | None = None) -> str:
    """Run a command and return its standard output, which may be JSON that describes an error.

    Raises:
        UnavailableError: it fails and its output is not JSON.
    """
    # Run in a folder without go.mod, so that the result does not depend on the current folder.
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(command, cwd=folder or empty, capture_output=True, text=True, check=False)
    if done.returncode and not done.stdout.startswith("{"):
        raise UnavailableError("\n".join(done.stderr.strip().splitlines()[-SHOWN_LOG_LINES:]))
    return done.stdout


def say(text: str) -> None:
    """Print a line on stderr; on a terminal it replaces the progress."""
    sys.stderr.write(f"\r\033[K{text}\n" if sys.stderr.isatty() else f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
