"""The digest of an MCUboot image is the one that its own program computes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from blockota.formats.mcuboot import image_digest
from blockota.model.container import Container, find_content_fault
from scripts.peers import PACKAGES
from tests.support.programs import program

SIGN = (
    *("sign", "--header-size", "0x200", "--pad-header", "--slot-size", "0x8000", "--align", "4"),
    *("--version", "1.4.0"),
)
CASES = {
    "unsigned": (),
    "signed": ("-k", "key.pem"),
    "with a floor": ("-k", "key.pem", "--security-counter", "7"),
    "padded to its slot": ("-k", "key.pem", "--pad", "--confirm"),
}


def imgtool(*words: str, folder: Path) -> str:
    """Run imgtool in a folder, and return its output."""
    command = [str(PACKAGES / "imgtool"), *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_digest_is_the_one_of_imgtool(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Images are recognised, and their digest is what ``imgtool verify`` prints and a device reports."""
    (tmp_path / "app.bin").write_bytes(program(0x4200, after=bytes(5000)))
    imgtool("keygen", "-k", "key.pem", "-t", "ecdsa-p256", folder=tmp_path)
    imgtool(*SIGN, *options, "app.bin", "signed.bin", folder=tmp_path)
    image = (tmp_path / "signed.bin").read_bytes()
    assert find_content_fault(Container.MCUBOOT, image) == ""
    printed = imgtool("verify", "signed.bin", folder=tmp_path)
    digest = re.search(r"Image digest: ([0-9a-f]{64})", printed)
    assert digest
    assert image_digest(image).hex() == digest[1]
