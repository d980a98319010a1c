"""The SMP face sends patches to a board in QEMU, and sends the whole image if the board refuses a patch."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from blockota.formats.delta import make_patch
from blockota.gateway.faces.smp.board import SmpLine
from blockota.gateway.facts import DeltaOffer
from blockota.model.release import Version
from tests.support.gateway import appending, gateway_core, known_device
from tests.support.qemu import QemuBoard
from tests.support.qemu_images import NEW, OLD, SLOT_0, SLOT_1, digest_of, flash_with
from tests.support.smp_face import NUMBER, facts_of, running_face

FORMAT, PATCH = make_patch(OLD, NEW)


def updated(folder: Path, running: bytes, patch: bytes) -> tuple[QemuBoard, bytes, list[dict[str, Any]]]:
    """Update a board to the new image, with a patch from the old image.

    Returns:
        The board, the contents of its flash after the update, and the log lines of the face.
    """
    path = folder / "patch"
    path.write_bytes(patch)
    base, sha256 = hashlib.sha256(OLD).digest(), hashlib.sha256(patch).digest()
    delta = DeltaOffer(base, Version.parse("1.0.0"), FORMAT, sha256, len(patch), path)
    facts = facts_of(folder, device=known_device(NUMBER, face="smp"), images=(OLD, NEW), deltas=(delta,))

    async def update(board: QemuBoard) -> list[dict[str, Any]]:
        line = SmpLine(str(board.port), answer=20)
        async with (
            gateway_core(folder, facts) as gateway,
            appending(gateway),
            running_face(gateway, folder, line) as (lines, _),
        ):
            image = hashlib.sha256(NEW).digest()
            await gateway.until(lambda: [one for one in gateway.appended() if one.image == image])
        return lines

    with QemuBoard(folder, flash_with(running)) as board:
        lines = asyncio.run(update(board))
        return board, board.cut(), lines


def spoiled(content: bytes, at: int) -> bytes:
    """Return a content with one wrong byte."""
    return content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]


def test_a_patch_makes_the_image(tmp_path: Path) -> None:
    """The board receives only the patch."""
    board, flash, lines = updated(tmp_path, OLD, PATCH)
    assert (flash[SLOT_0:].startswith(NEW), flash[SLOT_1:].startswith(OLD)) == (True, True)
    assert board.sent < len(NEW)
    assert lines == []


@pytest.mark.parametrize(
    ("running", "patch", "reason"),
    [
        (OLD[:-1] + bytes((OLD[-1] ^ 1,)), PATCH, "delta for another image"),
        (OLD, spoiled(PATCH, len(PATCH) // 2), "another SHA-256|damaged delta"),
    ],
    ids=["wrong base", "damaged"],
)
def test_the_image_follows_a_refused_patch(tmp_path: Path, running: bytes, patch: bytes, reason: str) -> None:
    """If the patch is damaged, or the running image is not the patch's base, the board gets the whole image."""
    assert digest_of(running) == digest_of(OLD)
    _, flash, [line] = updated(tmp_path, running, patch)
    assert flash[SLOT_0:].startswith(NEW)
    assert re.search(reason, line["why"])
