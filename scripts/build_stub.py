"""Assemble the program that hashes the flash on the chip, so that a technician's machine needs no assembler.

``.venv/bin/python -m scripts.build_stub`` writes ``firmware_host/flashing/stub/stub.bin``. With ``--check`` the script
writes nothing, and exits with 1 if the file differs from the assembled source. The script needs the Debian package
gcc-arm-none-eabi.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from firmware_host.flashing.digest_stub import STUB_ADDRESS

STUB = Path(__file__).resolve().parent.parent / "firmware_host" / "flashing" / "stub"
TOOLS = "arm-none-eabi-"


def main(arguments: list[str] | None = None) -> int:
    """Write the assembled program, or only compare it with ``--check``; return 1 if it differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, and exit with 1 if it differs")
    check = parser.parse_args(arguments).check
    with TemporaryDirectory() as folder:
        program = build(Path(folder))
    committed = STUB / "stub.bin"
    if committed.is_file() and committed.read_bytes() == program:
        return 0
    if check:
        print(f"{committed.name} is not the assembled stub.s. Run `python -m scripts.build_stub`.", file=sys.stderr)
        return 1
    committed.write_bytes(program)
    print(f"Wrote {committed.name}, {len(program)} bytes.")
    return 0


def build(folder: Path) -> bytes:
    """Assemble the program in an empty folder, and leave ``stub.elf`` there for `symbols`."""
    # The program is linked for its load address, because its vector table contains absolute addresses.
    placed = f"-Wl,-Ttext={STUB_ADDRESS:#x},--entry={STUB_ADDRESS:#x},--build-id=none,--fatal-warnings"
    run("gcc", "-nostdlib", placed, STUB / "stub.s", "-o", folder / "stub.elf")
    run("objcopy", "-O", "binary", "-j", ".text", folder / "stub.elf", folder / "stub.bin")
    return (folder / "stub.bin").read_bytes()


def symbols(folder: Path) -> dict[str, int]:
    """Return the addresses of the global symbols in ``stub.elf``, by name."""
    lines = run("nm", "--extern-only", folder / "stub.elf").splitlines()
    return {name: int(address, 16) for address, _, name in map(str.split, lines)}


def run(tool: str, *arguments: str | Path) -> str:
    """Run one of the tools of gcc-arm-none-eabi, and return its output."""
    command = [TOOLS + tool, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
