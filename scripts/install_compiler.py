"""Make the Solidity compiler of ape-config.yaml available to py-solc-x, Ape and Foundry.

Run the script with ``.venv/bin/python scripts/install_compiler.py``. An installed compiler is kept. If the compiler is
missing, py-solc-x downloads the native compiler. If the download fails, ``scripts/solc_launcher.js`` is installed
instead: the launcher runs npm's ``solc`` (the same compiler, built for WebAssembly) with the native command line.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

import yaml
from solcx.install import get_solcx_install_folder

CLONE = Path(__file__).resolve().parent.parent
DOWNLOAD_SECONDS = 30.0
"""The time limit of a download, so that a host that does not respond cannot block the installation."""


def main() -> int:
    """Install the compiler if it is missing; return the exit status, 1 after an error was printed."""
    version = str(yaml.safe_load((CLONE / "ape-config.yaml").read_text())["solidity"]["version"])
    target = get_solcx_install_folder() / f"solc-v{version}"
    if works(target, version):
        return 0
    if not download(version) or not works(target, version):
        full_version = npm_version(version)
        if full_version is None:
            print(
                f"The compiler cannot be installed: npm's solc {version} is missing. Run `npm ci` first.",
                file=sys.stderr,
            )
            return 1
        install_launcher(target, full_version)
    print(f"Installed solc {version} as {target}.", file=sys.stderr)
    return 0


def works(compiler: Path, version: str) -> bool:
    """Return whether the compiler exists, can be executed, and has this version."""
    try:
        answer = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return f"Version: {version}+" in answer.stdout


def download(version: str) -> bool:
    """Download the native compiler with py-solc-x, in a process with a time limit; return False if it fails."""
    command = [sys.executable, "-c", "import sys, solcx; solcx.install_solc(sys.argv[1])", version]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=DOWNLOAD_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def npm_version(version: str) -> str | None:
    """Return the full version of npm's solc ("0.8.28+commit.7893614a…"); None if solc is missing or differs."""
    package = CLONE / "node_modules" / "solc"
    node = shutil.which("node")
    if node is None or not (package / "package.json").is_file():
        return None
    command = [node, "-p", "require(process.argv[1]).version()", str(package)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return answer if answer.startswith(f"{version}+") else None


def install_launcher(target: Path, full_version: str) -> None:
    """Write the launcher under the compiler's file name, atomically."""
    text = (CLONE / "scripts" / "solc_launcher.js").read_text()
    for placeholder, value in {"__VERSION__": full_version, "__CLONE__": str(CLONE)}.items():
        text = text.replace(f'"{placeholder}"', json.dumps(value))
    with NamedTemporaryFile("w", dir=target.parent, delete=False) as file:
        file.write(text)
    launcher = Path(file.name)
    launcher.chmod(0o755)
    launcher.replace(target)


if __name__ == "__main__":
    sys.exit(main())
