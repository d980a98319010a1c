"""Build the programs that read and cosign our logs in tests/peers/tlog: ``python3 -m scripts.install_witness``.

litewitness is a witness (C2SP tlog-witness), and fsck checks the files of a log (C2SP tlog-tiles). torchwood 0.6.1 is
the newest version that Go 1.26 builds. ``--find NAME`` only searches the cache folder for a program.

The script uses only the standard library, because it runs before any package is installed.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from scripts.go_programs import SAVING_MEMORY, build_program, cache_folder, run_installer

PROGRAMS = {
    "litewitness": ("filippo.io/torchwood", "0.6.1", "./cmd/litewitness"),
    "fsck": ("github.com/transparency-dev/tessera", "1.0.4", "./cmd/fsck"),
}
"""The module, the version and the package of each program."""
LINKER = "-ldflags=-s -w"


def cached(name: str) -> Path:
    """Return the path of a built program in the cache folder."""
    return cache_folder() / "witness" / f"{name}-{PROGRAMS[name][1]}" / name


def find(name: str) -> Path | None:
    """Return the path of a program in the cache folder; None if it was not built yet."""
    return cached(name) if cached(name).is_file() else None


def build(name: str) -> Path:
    """Build a program into the cache folder.

    Raises:
        UnavailableError: the program cannot be built.
    """
    module, version, package = PROGRAMS[name]
    options = (*SAVING_MEMORY, LINKER)
    return build_program(f"{name} {version}", f"{module}@v{version}", package, target=cached(name), options=options)


if __name__ == "__main__":
    names = [name for name in PROGRAMS if name in sys.argv] or list(PROGRAMS)
    sys.exit(max(run_installer(name, find=partial(find, name), build=partial(build, name)) for name in names))
