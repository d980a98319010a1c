"""Build nats-server for the cluster of tests/deep/nats: ``python3 -m scripts.install_nats``.

``--find`` only searches the cache folder for nats-server.

The script uses only the standard library, because it runs before any package is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.go_programs import SAVING_MEMORY, build_program, cache_folder, run_installer

VERSION = "2.15.3"
MODULE = f"github.com/nats-io/nats-server/v2@v{VERSION}"


def cached() -> Path:
    """Return the path of a built nats-server in the cache folder."""
    return cache_folder() / "nats" / VERSION / "nats-server"


def find() -> Path | None:
    """Return the path of nats-server in the cache folder; None if it was not built yet."""
    return cached() if cached().is_file() else None


def build() -> Path:
    """Build nats-server into the cache folder.

    Raises:
        UnavailableError: nats-server cannot be built.
    """
    return build_program(f"nats-server {VERSION}", MODULE, ".", target=cached(), options=SAVING_MEMORY)


if __name__ == "__main__":
    sys.exit(run_installer("nats-server", find=find, build=build))
