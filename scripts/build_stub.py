"""Assemble the digest programs, which hash a chip's flash, into package data, so that a bench does not need a compiler.

``.venv/bin/python -m scripts.build_stub`` writes ``stub_v7m.bin`` and ``stub_v6m.bin`` into
``firmware_host/flashing/stub``. With ``--check`` the script writes nothing, and exits with 1 if a file differs from its
assembled source. The script needs Debian's gcc-arm-none-eabi.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

STUB = Path(__file__).resolve().parent.parent / "firmware_host" / "flashing" / "stub"
TOOLS = "arm-none-eabi-"
SOURCES = {"stub_v7m": ("stub_v7m.s",), "stub_v6m": ("stub_v6m.s", "stub_v6m.c")}
"""The sources of each program, by the name of the program."""
C_FLAGS = ("-std=c11", "-Os", "-ffreestanding", "-fno-builtin", "-Wall", "-Wextra", "-Werror")


def main(arguments: list[str] | None = None) -> int:
    """Write the programs, or compare them; return 1 if a program differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, and exit with 1 if a program differs")
    check = parser.parse_args(arguments).check
    status = 0
    for name in SOURCES:
        with TemporaryDirectory() as folder:
            program = build(Path(folder), name)
        committed = STUB / f"{name}.bin"
        if committed.is_file() and committed.read_bytes() == program:
            continue
        if check:
            print(f"{committed.name} differs from its source. Run `python -m scripts.build_stub`.", file=sys.stderr)
            status = 1
            continue
        committed.write_bytes(program)
        print(f"Wrote {committed.name}, {len(program)} bytes.")
    return status


def build(folder: Path, name: str) -> bytes:
    """Build a program in an empty folder; the result includes ``stub.elf``, which `symbols` reads."""
    sources = [STUB / source for source in SOURCES[name]]
    core = "-mcpu=cortex-m0" if name == "stub_v6m" else "-mcpu=cortex-m3"
    # The programs run at any address; they are linked to address 0.
    linked = f"-Wl,-T,{STUB / 'stub.ld'},--entry=start,--build-id=none,--fatal-warnings"
    run("gcc", core, "-mthumb", *C_FLAGS, "-nostdlib", linked, *sources, "-o", folder / "stub.elf")
    run("objcopy", "-O", "binary", "-j", ".text", folder / "stub.elf", folder / "stub.bin")
    return (folder / "stub.bin").read_bytes()


def symbols(folder: Path) -> dict[str, int]:
    """The addresses of the global symbols in ``stub.elf``, by name."""
    lines = run("nm", "--extern-only", folder / "stub.elf").splitlines()
    return {name: int(address, 16) for address, _, name in map(str.split, lines)}


def run(tool: str, *arguments: str | Path) -> str:
    """Run a tool of the compiler, and return its output."""
    command = [TOOLS + tool, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
