"""Build geth, whose Clique engine seals the networks of tests/peers/clique: ``python3 -m scripts.install_geth``.

geth 1.13.15 is the last version that seals Clique blocks, so ``--find`` searches only the cache folder, not PATH.

The script uses only the standard library, because it runs before any package is installed.
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
    """Return the path of a built geth in the cache folder."""
    return cache_folder() / "geth" / f"v{VERSION}" / "geth"


def find() -> Path | None:
    """Return the path of geth in the cache folder; None if geth was not built yet."""
    return cached() if cached().is_file() else None


def build() -> Path:
    """Build geth into the cache folder.

    Raises:
        UnavailableError: geth cannot be built.
    """
    return build_program(f"geth {VERSION}", MODULE, "./cmd/geth", target=cached(), options=(*SAVING_MEMORY, LINKER))


if __name__ == "__main__":
    sys.exit(run_installer("geth", find=find, build=build))
