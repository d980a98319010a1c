"""Build geth, whose Clique engine seals the networks of tests/peers/clique: ``python3 -m scripts.install_geth``.

1.13.15 is the last version that seals. ``--find`` only searches the cache: a newer geth on PATH cannot seal.

Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.go_programs import SAVING_MEMORY, build_program, cache_folder, run_installer

VERSION = "1.13.15"
MODULE = f"github.com/ethereum/go-ethereum@v{VERSION}"
LINKER = "-ldflags=-checklinkname=0 -s -w"
"""A dependency, fjl/memsize, links to a private function of the runtime, which Go 1.23 and newer refuse by default."""


def cached() -> Path:
    """The path of a built geth in the cache."""
    return cache_folder() / "geth" / f"v{VERSION}" / "geth"


def find() -> Path | None:
    """The geth that was built before; None before the first build."""
    return cached() if cached().is_file() else None


def build() -> Path:
    """Build geth into the cache.

    Raises:
        UnavailableError: as `build_program`.
    """
    return build_program(f"geth {VERSION}", MODULE, "./cmd/geth", target=cached(), options=(*SAVING_MEMORY, LINKER))


if __name__ == "__main__":
    sys.exit(run_installer("geth", find=find, build=build))
