"""BlockOTA makes deltas with detools, and checks each delta before its publication.

On a Linux device, the program detools applies the deltas.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import RefusedError
from blockota.formats.cid import CID
from blockota.formats.delta import FORMATS, apply_patch, make_patch, require_result
from blockota.stores.local import LocalStore
from tests.conftest import IMAGES
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.stories.test_release_desk import ok, sign
from tests.support.programs import noise

OLD, NEW = ((IMAGES / f"bluepill-{version}.bin").read_bytes() for version in ("1.0.0", "1.1.0"))
FORMAT, PATCH = make_patch(OLD, NEW)
DETOOLS = Path(sys.executable).parent / "detools"


def test_the_smallest_patch_is_taken() -> None:
    """The smallest patch uses heatshrink compression if code moved, and crle compression if one byte changed."""
    assert (FORMAT, len(PATCH)) == ("heatshrink", 223)
    assert apply_patch(OLD, PATCH, compression=FORMAT, limit=len(NEW)) == NEW
    large = noise(20_000)
    compression, patch = make_patch(large, large[:10_000] + b"\1" + large[10_001:])
    assert compression == "crle"
    assert len(patch) < 100


def test_a_wrong_base_does_not_make_the_image() -> None:
    """A patch that is applied to a wrong image produces wrong bytes.

    These bytes are refused because their SHA-256 differs from the release's.
    """
    other = bytes(len(OLD))
    digest = hashlib.sha256(NEW).digest()
    require_result(OLD, PATCH, compression=FORMAT, size=len(NEW), sha256=digest)
    with pytest.raises(RefusedError, match="the delta cannot be used: it makes 620 bytes with SHA-256"):
        require_result(other, PATCH, compression=FORMAT, size=len(NEW), sha256=digest)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_damaged_patch_is_refused(data: st.DataObject) -> None:
    """A damaged patch is either refused, or produces a result within the size limit.

    No unexpected error occurs, and the program always ends.
    """
    damaged = bytearray(PATCH)
    for at in data.draw(st.lists(st.integers(1, len(damaged) - 1), max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    with suppress(RefusedError):
        assert len(apply_patch(OLD, cut, compression=FORMAT, limit=len(NEW))) <= len(NEW)


@pytest.mark.parametrize("patch", [b"", b"\x01", NEW, PATCH[1:], b"\x12" + PATCH[1:]])
def test_another_format_than_the_stated_one_is_refused(patch: bytes) -> None:
    """A patch is refused if the device does not support the patch's compression."""
    for compression in FORMATS:
        with pytest.raises(RefusedError, match=f"not a sequential patch with the compression {compression}"):
            apply_patch(OLD, patch, compression=compression, limit=len(NEW))


def published(workshop: Workshop) -> None:
    """Publish 1.0.0, and 1.1.0 with a delta."""
    workshop.publish("1.0.0", IMAGES / "bluepill-1.0.0.bin")
    words = ("--product", PRODUCT, "--version", "1.1.0", "-o", "1.1.0.json", "--delta-from", "1.0.0")
    made = ok(workshop.run("release", "publish", str(IMAGES / "bluepill-1.1.0.bin"), *words))
    assert "deltas       from 1.0.0: 223 bytes, heatshrink" in made.out
    for owner in ("dev:1", "dev:2"):
        assert "from 1.0.0: 223 bytes, heatshrink" in ok(sign(workshop, "1.1.0.json", owner)).out
    ok(workshop.run("proposal", "execute", "1.1.0.json", "--key", "dev:0"))


def updated(running: bytes, patch: Path, delta: dict[str, Any]) -> tuple[bytes, str]:
    """Update a Linux device with the program detools. If the result is not the release, install the whole image."""
    Path("running.bin").write_bytes(running)
    if hashlib.sha256(running).hexdigest() == delta["base"]:
        applied = subprocess.run(
            [DETOOLS, "apply_patch", "running.bin", patch, "made.bin"], capture_output=True, check=False
        )
        made = Path("made.bin").read_bytes() if applied.returncode == 0 else b""
        if hashlib.sha256(made).digest() == hashlib.sha256(NEW).digest():
            return made, "delta"
    return NEW, "whole image"


def test_a_device_with_linux_applies_a_published_delta(workshop: Workshop) -> None:
    """The manifest of a release describes the delta, and the store contains the delta.

    ``detools apply_patch`` makes the new image from the base image.
    """
    workshop.after(published)
    (delta,) = ok(workshop.run("release", "show", PRODUCT, "--json")).json["manifest"]["deltas"]
    assert (delta["from"], delta["base"]) == ("1.0.0", hashlib.sha256(OLD).hexdigest())
    assert (delta["sha256"], delta["size"]) == (hashlib.sha256(PATCH).hexdigest(), 223)
    patch = b"".join(LocalStore(Path(".blockota/store")).open(CID.parse(delta["cid"])))
    Path("1.1.0.patch").write_bytes(patch)
    assert updated(OLD, Path("1.1.0.patch"), delta) == (NEW, "delta")

    # A device with another base, or with a spoiled patch, takes the whole image.
    other = bytes(len(OLD))
    mistaken = delta | {"base": hashlib.sha256(other).hexdigest()}
    assert updated(other, Path("1.1.0.patch"), mistaken) == (NEW, "whole image")
    assert updated(other, Path("1.1.0.patch"), delta) == (NEW, "whole image")
    Path("1.1.0.patch").write_bytes(patch[:100])
    assert updated(OLD, Path("1.1.0.patch"), delta) == (NEW, "whole image")


def test_a_delta_that_is_not_smaller_is_omitted(workshop: Workshop) -> None:
    """A delta that is not smaller than the image is left out of the release, and the command reports this."""
    workshop.publish("1.0.0", IMAGES / "bluepill-1.0.0.bin")
    Path("data.bin").write_bytes(noise(4000))
    words = ("--product", PRODUCT, "--version", "1.1.0", "-o", "new.json", "--load-address", "0x08004000")
    outcome = ok(workshop.run("release", "publish", "data.bin", *words, "--configuration", "--delta-from", "1.0.0"))
    assert "No delta from 1.0.0 is listed: it would not be smaller than the image." in outcome.err
    assert "deltas" not in outcome.out


def test_a_delta_needs_an_older_release(workshop: Workshop) -> None:
    """A version that does not exist or is not older is refused, and nothing is stored."""
    workshop.publish("1.0.0", IMAGES / "bluepill-1.0.0.bin")
    words = ("release", "publish", str(IMAGES / "bluepill-1.1.0.bin"), "--product", PRODUCT, "-o", "new.json")
    refused(workshop.run(*words, "--version", "1.1.0", "--delta-from", "0.9.0"), REFUSED, "0.9.0 does not exist")
    refused(workshop.run(*words, "--version", "1.0.0", "--delta-from", "1.0.0"), REFUSED, "1.0.0 is not older")
    refused(workshop.run(*words, "--version", "1.1.0", "--delta-from", "old"), USAGE, "is not a version")
    assert not Path("new.json").exists()
