"""Build Kubo, the IPFS node for the tests of the Kubo store and for its benchmark: ``python3 -m scripts.install_kubo``.

The program ``ipfs`` on PATH is used if it is new enough. ``--find`` only searches for Kubo. If the newest version of
Kubo cannot be built, the version before it is built.

The script uses only the standard library, because it runs before any package is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.go_programs import UnavailableError, build_program, cache_folder, check_go, run_installer, say

VERSIONS = ("0.43.1", "0.43.0")
"""The versions of Kubo; the first that can be built is used."""
OLDEST = (0, 40)
"""The oldest version on PATH that is used: the first version with the profile ``unixfs-v1-2025``."""


def find() -> Path | None:
    """Find an installed Kubo: a program on PATH that is new enough, or else a program that this script built before."""
    on_path = shutil.which("ipfs")
    built = [cached(version) for version in VERSIONS]
    candidates = [Path(on_path)] if on_path and (version_of(Path(on_path)) or (0,)) >= OLDEST else []
    return next((path for path in [*candidates, *built] if path.is_file()), None)


def cached(version: str) -> Path:
    """Return the path of a built Kubo in the cache folder."""
    return cache_folder() / "kubo" / f"v{version}" / "ipfs"


def version_of(program: Path) -> tuple[int, ...] | None:
    """Return the version that a program reports; None if the program does not report a version."""
    try:
        answer = subprocess.run(
            [program, "version", "--number"], capture_output=True, text=True, check=False, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", answer)
    return tuple(map(int, match.groups())) if match else None


def build() -> Path:
    """Build the first version in `VERSIONS` that can be built.

    Raises:
        UnavailableError: no version can be built; the text contains the reason for each version.
    """
    check_go()
    reasons = []
    for version in VERSIONS:
        try:
            return build_program(
                f"Kubo {version}", f"github.com/ipfs/kubo@v{version}", "./cmd/ipfs", target=cached(version)
            )
        except UnavailableError as error:
            reasons.append(f"{version}: {error}")
            say(f"Kubo {version} cannot be built here: {str(error).splitlines()[0]}")
    raise UnavailableError("\n".join(reasons))


if __name__ == "__main__":
    sys.exit(run_installer("Kubo", find=find, build=build))
