"""Run Foundry's forge on the contracts: ``.venv/bin/python scripts/forge.py test --match-contract BlockOTA``.

It is npm's binary itself (the wrapper starts Node first), with the compiler of ape-config.yaml as py-solc-x keeps it,
and a home of its own, so that settings of the user's have no say.
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
    """Become forge, with the arguments given."""
    binary = find_forge()
    os.chdir(CLONE)
    os.execve(binary, [str(binary), *sys.argv[1:]], environment())  # noqa: S606 - a fixed program, no shell


def find_forge() -> Path:
    """The binary of the npm package for this platform; exits if it is not installed."""
    binary = next((CLONE / "node_modules" / "@foundry-rs").glob("forge-*/bin/forge"), None)
    if binary is None:
        sys.exit("forge is missing: run `npm ci` first.")
    return binary


def environment() -> dict[str, str]:
    """The environment of forge; its folder is first on the PATH, for tools that start forge themselves."""
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
