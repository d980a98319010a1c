"""GCC and binutils for ARM reproduce the committed programs, and objcopy agrees with BlockOTA's ELF reader."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from blockota.formats.firmware_image import read_image
from firmware_host.flashing.digest_stub import PARAMETERS, PROGRAMS, Program
from scripts.build_stub import SOURCES, build, main, symbols
from tests.conftest import IMAGES as EXAMPLES
from tests.firmware_host.simulator.test_bluepill import BLUEPILL, VERSIONS, banner
from tests.firmware_host.stub_harness import STUBS

BASE = 0x0800_0000
COMPILER = "12.2.1"
"""GCC version that built the committed images, from Debian's gcc-arm-none-eabi 15:12.2.rel1-1."""


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_gives_the_committed_program(tmp_path: Path, name: str) -> None:
    """The sources of each digest program compile to exactly the committed bytes."""
    assert build(tmp_path, name) == (STUBS / f"{name}.bin").read_bytes()
    assert main(["--check"]) == 0


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_host_and_program_agree_where_things_are(tmp_path: Path, program: Program) -> None:
    """The offsets in the host's code equal the symbols of the digest program."""
    end = len(build(tmp_path, program.file.removesuffix(".bin")))
    offsets = symbols(tmp_path)
    assert offsets["head_end"] == program.head_size
    assert offsets["checked_end"] == end
    assert offsets["parameters"] == end - PARAMETERS.size - 4
    if program.results:
        assert offsets["results"] == program.results


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sources_give_the_committed_images(tmp_path: Path, version: str) -> None:
    """The original GCC version reproduces the example images exactly.

    Images of another version contain the same banner.
    """
    # A copy in another folder: the files must not depend on the path.
    sources = shutil.copytree(BLUEPILL, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("images", "build"))
    version_found = subprocess.check_output(["arm-none-eabi-gcc", "-dumpfullversion"], text=True).strip()
    subprocess.run(["make", "-s", f"VERSION={version}"], cwd=sources, check=True)
    for kind in ("elf", "bin", "hex"):
        built = (sources / "build" / f"bluepill-{version}.{kind}").read_bytes()
        committed = (BLUEPILL / "images" / f"bluepill-{version}.{kind}").read_bytes()
        if version_found == COMPILER:
            assert built == committed, f"bluepill-{version}.{kind}"
        elif kind == "bin":
            assert banner(built) == banner(committed)


def test_elf_is_read_as_objcopy_reads_it(tmp_path: Path) -> None:
    """Our ELF reader returns the same bytes as objcopy's binary and Intel HEX output."""
    source = EXAMPLES / "bluepill-1.2.0.elf"
    wanted = read_image(source.read_bytes())
    for form in ("binary", "ihex"):
        target = tmp_path / form
        subprocess.run(["arm-none-eabi-objcopy", "--gap-fill", "0xff", "-O", form, source, target], check=True)
        assert read_image(target.read_bytes(), load_address=BASE).data == wanted.data


def test_the_header_that_the_linker_maps_is_omitted(tmp_path: Path) -> None:
    """If GNU ld includes the ELF header in the first segment, our ELF reader omits the header."""
    (tmp_path / "a.s").write_text(".section .text\n.global _start\n_start: .word 0x20005000, 0x08002109\n nop\n nop\n")
    path, raw = tmp_path / "a.elf", tmp_path / "a.bin"
    command = [
        "arm-none-eabi-gcc",
        "-nostdlib",
        "-Wl,-Ttext=0x08002100",
        "-mcpu=cortex-m3",
        "-mthumb",
        "a.s",
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", path, raw], check=True)
    image = read_image(path.read_bytes())
    assert struct.unpack_from("<2I", path.read_bytes(), 52) == (1, 0), "the first segment begins with the header"
    assert (image.data, image.load_address) == (raw.read_bytes(), 0x0800_2100)
