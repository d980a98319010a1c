"""Run the tests against third-party programs: ``make peers``, or ``make peers ONLY=kubo,nginx`` for some programs.

The script searches for every program before it runs a test. If a program is missing, no test runs: the script prints
all missing programs and the command that installs them, and exits with 1. ``--packages`` prints the Debian packages of
the programs.

The script uses only the standard library, because ``.ci/run`` runs it before any package is installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.bootstrap import COMPILING

CLONE = Path(__file__).resolve().parent.parent
TESTS = CLONE / "tests" / "peers"
DATABASE = dict.fromkeys(
    ("createdb", "initdb", "pg_basebackup", "pg_ctl", "pg_isready", "postgres", "psql"), "postgresql"
)
"""The programs of a server of PostgreSQL and its standby, with their Debian package."""
PARTS = {
    "arm_gcc": {
        "arm-none-eabi-gcc": "gcc-arm-none-eabi",
        "arm-none-eabi-objcopy": "binutils-arm-none-eabi",
        "make": "make",
    },
    "browser": {"chromium": "chromium", "prometheus": "prometheus", "promtool": "prometheus"},
    "city": {
        **DATABASE,
        "geth": "",
        "ip": "iproute2",
        "mosquitto": "mosquitto",
        "nft": "nftables",
        "setpriv": "util-linux",
        "wg": "wireguard-tools",
        "wireguard-go": "wireguard-go",
    },
    "clique": {"geth": ""},
    "curl": {"curl": "curl"},
    "ganache": {},
    "gateway": {"curl": "curl"},
    "goosebit": {"swupdate": "swupdate", "openssl": "openssl"},
    "image_tools": {
        "arm-none-eabi-objcopy": "binutils-arm-none-eabi",
        "dfu-suffix": "dfu-util",
        "dfuse-pack": "dfu-util",
        "srec_cat": "srecord",
    },
    "deltas": COMPILING,
    "demo_city": {},
    "device": {
        "arm-none-eabi-gcc": "gcc-arm-none-eabi",
        "arm-none-eabi-objcopy": "binutils-arm-none-eabi",
        "gcc": "gcc",
        "imgtool": "",
        "qemu-system-arm": "qemu-system-arm",
        "smpmgr": "",
    },
    "iotregistry": {},
    "kubo": {"ipfs": ""},
    "lwm2m": {
        **COMPILING,
        "coap-client-gnutls": "libcoap3-bin",
        "coap-client-notls": "libcoap3-bin",
        "coap-client-openssl": "libcoap3-bin",
        "java": "openjdk-17-jdk-headless",
        "mvn": "maven",
    },
    "mcuboot": {"imgtool": ""},
    "mqtt": {"mosquitto": "mosquitto", "softhsm2-util": "softhsm2"},
    "nginx": {"nginx": "nginx-light", "curl": "curl"},
    "postgresql": DATABASE,
    "receipts": {"go": ""},
    "safe_eth": {},
    "secure_element": {},
    "smp": {"smpmgr": ""},
    "softhsm": {"imgtool": "", "softhsm2-util": "softhsm2"},
    "stm32flash": {"stm32flash": "stm32flash"},
    "swupdate": {"swupdate": "swupdate", "openssl": "openssl"},
    "tlog": {"go": "", "litewitness": "", "fsck": "", "ssh-agent": "openssh-client"},
    "wheel": {},
    "wireguard": {
        "curl": "curl",
        "ip": "iproute2",
        "nft": "nftables",
        "ping": "iputils-ping",
        "wg": "wireguard-tools",
        "wireguard-go": "wireguard-go",
    },
}
"""The programs of each folder of tests/peers with their Debian packages; "" for programs that are built from source."""
BUILT = {"geth": "geth", "ipfs": "kubo", "litewitness": "witness", "fsck": "witness"}
"""Programs that are built from source, each with the name of its script ``scripts/install_….py``."""
TARGETS = {"geth": "clique", "ipfs": "kubo", "litewitness": "witness", "fsck": "witness"}
"""The targets of the Makefile that build programs from source."""
PACKAGES = CLONE / ".build" / "peers" / "bin"
"""The folder with the programs of the packages in requirements-peers.lock, and with a Python that imports them."""
ORACLE = CLONE / ".build" / "oracle" / "bin" / "python"
"""The Python with the package of requirements-oracle.lock, which is installed separately because of its licence."""
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin")
"""Folders of daemons and of Go's installer; a user's PATH may lack them."""
POSTGRESQL = Path("/usr/lib/postgresql")
"""Debian's folder of PostgreSQL's programs, by version. The programs in PATH are wrappers that need a
cluster made by Debian's tools."""
USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen parts; the exit status is 1 if a program is missing or a test fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PARTS", help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--packages", action="store_true", help="print the Debian packages and exit")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else list(PARTS)
    if unknown := [part for part in chosen if part not in PARTS]:
        print(f"Unknown part {', '.join(unknown)}. The parts are {', '.join(PARTS)}.", file=sys.stderr)
        return USAGE
    if options.packages:
        print(*packages({program: package for part in chosen for program, package in PARTS[part].items()}))
        return 0

    if missing := find_missing(chosen):
        print(describe(missing), file=sys.stderr)
        return 1
    folders = [str(TESTS / part) for part in chosen]
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(os.cpu_count()), "--dist", "loadfile", *folders]
    environment = os.environ | {"BLOCKOTA_NOTHING_SKIPPED": "1"}
    return subprocess.run(command, cwd=CLONE, env=environment, check=False).returncode


def find_missing(parts: list[str]) -> dict[str, str]:
    """Return the programs of these parts that are not installed, with their Debian packages."""
    wanted = {program: package for part in parts for program, package in PARTS[part].items()}
    return {program: package for program, package in wanted.items() if not find_program(program)}


def find_program(name: str) -> str:
    """Return the path of a program, or "" if the program is not installed."""
    if name in BUILT:
        command = [sys.executable, "-m", f"scripts.install_{BUILT[name]}", "--find", name]
        return subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False).stdout.strip()
    debian = sorted(map(str, POSTGRESQL.glob("*/bin")), reverse=True)
    folders = [*debian, os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS, str(PACKAGES)]
    return shutil.which(name, path=os.pathsep.join(folders)) or ""


def packages(programs: dict[str, str]) -> list[str]:
    """Return the Debian packages of programs, sorted and without repetitions."""
    return sorted({package for package in programs.values() if package})


def describe(missing: dict[str, str]) -> str:
    """Return a text with one line for each missing program, and with the command that installs them."""
    elsewhere = {"go": "from go.dev/dl"}
    lines = [
        f"  {program}: {package or elsewhere.get(program, 'built from source; needs Go')}"
        for program, package in missing.items()
    ]
    steps = [f"sudo apt-get install --yes {' '.join(found)}"] if (found := packages(missing)) else []
    steps += dict.fromkeys(f"make {TARGETS[program]}" for program in missing if program in BUILT)
    return "\n".join(["These programs are missing:", *lines, "Install them with:", f"  {' && '.join(steps)}"])


if __name__ == "__main__":
    sys.exit(main())
