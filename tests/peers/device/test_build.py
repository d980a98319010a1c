"""GCC and imgtool reproduce the committed programs of the device."""

from __future__ import annotations

import subprocess

import pytest

from scripts.build_device import IMAGES, PROGRAMS, build
from scripts.peers import PACKAGES
from tests.peers.arm_gcc.test_arm_gcc import COMPILER

SIGNED = {name: program.signature for name, program in PROGRAMS.items() if program.signature}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_sources_give_the_committed_program(name: str) -> None:
    """Each program stays within its size limit. The original compiler version reproduces the committed bytes."""
    built = build(name)
    version_found = subprocess.check_output(["arm-none-eabi-gcc", "-dumpfullversion"], text=True).strip()
    assert built
    if version_found == COMPILER:
        assert built == (IMAGES / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", SIGNED)
def test_imgtool_accepts_the_signature(name: str) -> None:
    """The program imgtool verifies an image's digest and signature with the key that `PROGRAMS` names."""
    key = SIGNED[name].key
    options = ["-k", str(IMAGES / key)] if key else []
    command = [str(PACKAGES / "imgtool"), "verify", *options, str(IMAGES / f"{name}.bin")]
    assert "Image was correctly validated" in subprocess.check_output(command, text=True)
