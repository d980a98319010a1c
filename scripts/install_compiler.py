"""Make the Solidity compiler of ape-config.yaml available to py-solc-x, Ape and Foundry.

Run as ``.venv/bin/python scripts/install_compiler.py``. One that is installed already is kept. Else py-solc-x downloads
the native compiler. Where its host is out of reach, ``scripts/solc_launcher.js`` is installed in its place, which
serves npm's ``solc`` (the same compiler, built for WebAssembly) behind the native command line.
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
"""How long a download may take; a host that does not answer must not hold up the set-up for longer."""


def main() -> int:
    """Install what is missing; the exit status is 1 when it cannot be had, after one sentence that says why."""
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
    """Whether the file is there, can be run, and is that version."""
    try:
        answer = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return f"Version: {version}+" in answer.stdout


def download(version: str) -> bool:
    """Let py-solc-x fetch the native compiler; in a process of its own, since it sets itself no time limit."""
    command = [sys.executable, "-c", "import sys, solcx; solcx.install_solc(sys.argv[1])", version]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=DOWNLOAD_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def npm_version(version: str) -> str | None:
    """What npm's solc calls itself, with its commit ("0.8.28+commit.7893614a…"); None unless it is that version."""
    package = CLONE / "node_modules" / "solc"
    node = shutil.which("node")
    if node is None or not (package / "package.json").is_file():
        return None
    command = [node, "-p", "require(process.argv[1]).version()", str(package)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return answer if answer.startswith(f"{version}+") else None


def install_launcher(target: Path, full_version: str) -> None:
    """Write the launcher under the compiler's name, whole or not at all."""
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
