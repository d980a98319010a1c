"""The example firmware's committed images are what its sources give."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware_host.direct_link import started

BLUEPILL = Path(__file__).parents[3] / "examples" / "bluepill"
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


def banner(image: bytes) -> bytes:
    """Return the text that the image prints when a board boots it."""
    return started(image).run(0.01)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_committed_image_prints_its_version(version: str) -> None:
    """The banner names product and version, and both can be found in the file."""
    image = (BLUEPILL / "images" / f"bluepill-{version}.bin").read_bytes()
    words = f"BlockOTA bluepill {version} (".encode()
    assert banner(image).startswith(words)
    assert words in image


@pytest.mark.parametrize("version", VERSIONS)
def test_no_folder_of_the_build_is_in_an_image(version: str) -> None:
    """The ELF file contains no path, source file or compiler name."""
    image = (BLUEPILL / "images" / f"bluepill-{version}.elf").read_bytes()
    assert not [word for word in (b"src/", b"main.c", b"bluepill/", b"GCC") if word in image]


def test_the_largest_image_nearly_fills_the_flash() -> None:
    """1.2.0 is about 60 KiB, so that all pages but a few are written."""
    assert 59 * 1024 < (BLUEPILL / "images" / "bluepill-1.2.0.bin").stat().st_size < 62 * 1024
