"""Run Foundry's forge on the contracts: ``.venv/bin/python scripts/forge.py test --match-contract BlockOTA``.

The script runs the binary of the npm package directly, without the npm wrapper, which starts Node. Forge uses the
compiler that ape-config.yaml names and py-solc-x has installed. Forge has its own home folder, so that settings of the
user have no effect.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml
from solcx.install import get_solcx_install_folder

CLONE = Path(__file__).resolve().parent.parent
SEED = "0x626c6f636b6f7461"
"""With this seed Foundry draws the same numbers in every run, so that results can be reproduced."""


def main() -> None:
    """Replace this process with forge, with the same arguments."""
    binary = find_forge()
    os.chdir(CLONE)
    os.execve(binary, [str(binary), *sys.argv[1:]], environment())  # noqa: S606 - a fixed program, no shell


def find_forge() -> Path:
    """Return the binary of the npm package for this platform; exit with an error if it is not installed."""
    binary = next((CLONE / "node_modules" / "@foundry-rs").glob("forge-*/bin/forge"), None)
    if binary is None:
        sys.exit("forge is missing: run `npm ci` first.")
    return binary


def environment() -> dict[str, str]:
    """Return the environment for forge; PATH begins with forge's folder, for tools that start forge themselves."""
    version = yaml.safe_load((CLONE / "ape-config.yaml").read_text())["solidity"]["version"]
    home = CLONE / ".build" / "forge" / "home"
    home.mkdir(parents=True, exist_ok=True)
    return os.environ | {
        "FOUNDRY_SOLC": str(get_solcx_install_folder() / f"solc-v{version}"),
        "HOME": str(home),
        "PATH": f"{find_forge().parent}{os.pathsep}{os.environ['PATH']}",
    }


if __name__ == "__main__":
    main()
