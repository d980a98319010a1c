"""Build evmd, CometBFT with the EVM, for the network of tests/deep/cometbft: ``python3 -m scripts.install_cometbft``.

evmd is the example chain of cosmos/evm. ``--find`` only searches the cache folder for evmd.

The script uses only the standard library, because it runs before any package is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.go_programs import SAVING_MEMORY, build_program, cache_folder, run_installer

VERSION = "0.2.0"
MODULE = f"github.com/cosmos/evm@v{VERSION}"
LINKER = "-ldflags=-checklinkname=0 -s -w"
"""bytedance/sonic, a dependency, links to private functions of the runtime, which Go 1.23 and newer refuse."""


def cached() -> Path:
    """Return the path of a built evmd in the cache folder."""
    return cache_folder() / "cometbft" / f"evm-{VERSION}" / "evmd"


def find() -> Path | None:
    """Return the path of evmd in the cache folder; None if evmd was not built yet."""
    return cached() if cached().is_file() else None


def build() -> Path:
    """Build evmd into the cache folder.

    Raises:
        UnavailableError: evmd cannot be built.
    """
    return build_program(f"evmd {VERSION}", MODULE, "./cmd/evmd", target=cached(), options=(*SAVING_MEMORY, LINKER))


if __name__ == "__main__":
    sys.exit(run_installer("evmd", find=find, build=build))
