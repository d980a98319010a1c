"""BlockOTA correctly reads the files that objcopy, srec_cat, dfuse-pack and dfu-suffix write."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from blockota.errors import ImageError
from blockota.formats.firmware_image import read_image
from tests.conftest import IMAGES
from tests.formats.test_dfuse import dfuse, target

BASE = 0x0800_0000
RAW = IMAGES / "bluepill-1.2.0.bin"
ELF = IMAGES / "bluepill-1.2.0.elf"


def run(*words: object) -> None:
    """Run a program, which must succeed."""
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@pytest.mark.parametrize("options", [(), ("--srec-forceS3",), ("--srec-len", "64")], ids=["default", "S3", "long"])
def test_s_records_of_objcopy(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The S-records that objcopy makes from an ELF file are read as the raw image of the ELF file."""
    run("arm-none-eabi-objcopy", "-O", "srec", *options, ELF, tmp_path / "app.srec")
    image = read_image((tmp_path / "app.srec").read_bytes())
    assert (image.data, image.load_address, image.format) == (RAW.read_bytes(), BASE, "srec")


def test_s_records_of_srec_cat(tmp_path: Path) -> None:
    """S-records from srec_cat are read with the load address and the gap that srec_cat's options define."""
    made = tmp_path / "app.srec"
    words = (RAW, "-binary", "-crop", 0, 0x400, 0x800, 0xC00, "-offset", BASE)
    run("srec_cat", *words, "-o", made, "-motorola", "-line-length", 70)
    image = read_image(made.read_bytes())
    assert (image.load_address, image.size) == (BASE, 0xC00)
    assert image.gaps == (range(BASE + 0x400, BASE + 0x800),)
    assert image.data[0x800:] == RAW.read_bytes()[0x800:0xC00]


def test_intel_hex_of_srec_cat(tmp_path: Path) -> None:
    """A HEX file that srec_cat merged from two overlapping parts with equal bytes is read as the whole image."""
    made = tmp_path / "app.hex"
    run("srec_cat", RAW, "-binary", "-offset", BASE, "-o", made, "-intel")
    assert read_image(made.read_bytes()).data == RAW.read_bytes()
    # srec_cat refuses overlaps itself, so the same records are repeated by hand.
    lines = made.read_bytes().splitlines(keepends=True)
    assert read_image(b"".join([*lines[:-1], *lines])).data == RAW.read_bytes()


def test_dfuse_files_of_dfuse_pack(tmp_path: Path) -> None:
    """A DfuSe file that dfuse-pack makes from two raw parts is read as an image with both parts in place."""
    content = RAW.read_bytes()
    (tmp_path / "first.bin").write_bytes(content[:1000])
    (tmp_path / "second.bin").write_bytes(content[1000:])
    parts = [f"{BASE:#x}:{tmp_path / 'first.bin'}", f"{BASE + 1000:#x}:{tmp_path / 'second.bin'}"]
    run("dfuse-pack", "-b", parts[0], "-b", parts[1], tmp_path / "app.dfu")
    image = read_image((tmp_path / "app.dfu").read_bytes())
    assert (image.data, image.load_address, image.format) == (content, BASE, "dfuse")


def test_dfu_suffix_accepts_the_files_of_the_tests(tmp_path: Path) -> None:
    """dfu-suffix accepts the checksum of the DfuSe files that BlockOTA's tests make."""
    (tmp_path / "app.dfu").write_bytes(dfuse(target((BASE, b"code"))))
    run("dfu-suffix", "--check", tmp_path / "app.dfu")


def test_a_raw_image_with_a_suffix_is_recognised(tmp_path: Path) -> None:
    """A raw image with a suffix of dfu-suffix is refused. After the suffix is removed, the image is read again."""
    file = tmp_path / "app.dfu"
    shutil.copy(RAW, file)
    run("dfu-suffix", "--add", file)
    with pytest.raises(ImageError, match="a raw image with a DFU suffix"):
        read_image(file.read_bytes(), load_address=BASE)
    run("dfu-suffix", "--delete", file)
    assert read_image(file.read_bytes(), load_address=BASE).data == RAW.read_bytes()
