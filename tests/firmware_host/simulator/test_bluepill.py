"""The committed images of the example firmware run on a simulated board."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware_host.direct_link import started

BLUEPILL = Path(__file__).parents[3] / "examples" / "bluepill"
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


def banner(image: bytes) -> bytes:
    """Return the text that an image prints after it has started on a simulated board."""
    return started(image).run(0.01)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_committed_image_prints_its_version(version: str) -> None:
    """Each example image contains and prints a banner with its product and version."""
    image = (BLUEPILL / "images" / f"bluepill-{version}.bin").read_bytes()
    words = f"BlockOTA bluepill {version} (".encode()
    assert banner(image).startswith(words)
    assert words in image


@pytest.mark.parametrize("version", VERSIONS)
def test_no_folder_of_the_build_is_in_an_image(version: str) -> None:
    """The example ELF files contain no build path, source file name or compiler name."""
    image = (BLUEPILL / "images" / f"bluepill-{version}.elf").read_bytes()
    assert not [word for word in (b"src/", b"main.c", b"bluepill/", b"GCC") if word in image]


def test_the_largest_image_nearly_fills_the_flash() -> None:
    """The image of version 1.2.0 has between 59 and 62 KiB, and nearly fills the flash."""
    assert 59 * 1024 < (BLUEPILL / "images" / "bluepill-1.2.0.bin").stat().st_size < 62 * 1024
