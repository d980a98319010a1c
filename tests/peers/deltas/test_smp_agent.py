"""If a patch exists, the SMP face sends the patch to BlockOTA's agent instead of the whole image."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from blockota.formats.delta import make_patch
from blockota.gateway.facts import DeltaOffer
from blockota.model.receipt import EntryKind
from blockota.model.release import Version
from tests.gateway.faces.test_smp_agent import board_of
from tests.support.agent_device import AgentDevice
from tests.support.smp_device import mcuboot_image
from tests.support.smp_face import NEW, OLD, Site, serve

__all__ = ["serve"]
CONTENT = hashlib.shake_256(b"program").digest(6000)
BASE = mcuboot_image("1.0.0", content=CONTENT)
TARGET = mcuboot_image("1.1.0", content=CONTENT[:4000] + hashlib.shake_256(b"change").digest(1200) + CONTENT[4000:])
FORMAT, PATCH = make_patch(BASE, TARGET)


def delta(folder: Path, base: bytes = BASE, patch: bytes = PATCH) -> DeltaOffer:
    """Write a patch to a file, and return its offer."""
    path = folder / f"{len(patch)}.patch"
    path.write_bytes(patch)
    sha256 = hashlib.sha256(patch).digest()
    return DeltaOffer(hashlib.sha256(base).digest(), Version.parse("1.0.0"), FORMAT, sha256, len(patch), path)


async def updated(site: Site) -> AgentDevice:
    """Wait until the board is updated, and return it."""
    await site.until(lambda: site.logged(EntryKind.CLAIMED)[1:] == [hashlib.sha256(TARGET).digest()])
    assert site.board.slots[0] == TARGET
    return board_of(site)


def test_a_delta_is_sent(serve: Callable[..., None], tmp_path: Path) -> None:
    """If deltas from the running image exist, the face sends the smallest patch instead of the image."""

    async def use(site: Site) -> None:
        board = await updated(site)
        assert (board.patched, board.written, board.starts) == (len(PATCH), 0, 1)

    assert 1000 < len(PATCH) < len(TARGET) / 2
    deltas = delta(tmp_path, OLD, PATCH[:9]), delta(tmp_path, patch=PATCH + b"more"), delta(tmp_path)
    serve(use, kind=AgentDevice, facts={"images": (BASE, TARGET), "deltas": deltas})


def test_a_board_without_a_base_gets_the_image(serve: Callable[..., None], tmp_path: Path) -> None:
    """A delta is not sent if it is from another image, or if it is not smaller than the image."""

    async def use(site: Site) -> None:
        board = await updated(site)
        assert (board.patched, board.written) == (0, len(TARGET))

    deltas = delta(tmp_path, NEW), delta(tmp_path, patch=bytes(len(TARGET)))
    serve(use, kind=AgentDevice, facts={"images": (BASE, TARGET), "deltas": deltas})


def test_a_program_without_the_agent_gets_the_image(serve: Callable[..., None], tmp_path: Path) -> None:
    """Programs other than BlockOTA's agent have no command for patches."""

    async def use(site: Site) -> None:
        await site.until(lambda: site.board.slots[0] == TARGET)
        assert site.board.written == len(TARGET)

    serve(use, facts={"images": (BASE, TARGET), "deltas": (delta(tmp_path),)})


@pytest.mark.parametrize("fault", ["refused", "wrong result"])
def test_a_patch_that_the_board_does_not_take(serve: Callable[..., None], tmp_path: Path, fault: str) -> None:
    """After a refused patch, the image is sent in the same try.

    The patch is sent at most twice, because the board may have restarted the first time.
    """

    async def use(site: Site) -> None:
        board = await updated(site)
        assert board.written == len(TARGET)
        assert board.patched == (0 if fault == "refused" else 2 * len(PATCH))
        [line] = [line for line in site.lines if "patch" in str(line)]
        assert ("EBADSTATE (6)" if fault == "refused" else "another SHA-256") in line["why"]
        assert [entry for entry in site.entries() if entry.kind is EntryKind.WARNING] == []

    def start(site: Site) -> Awaitable[None]:
        board_of(site).refuses_patches, board_of(site).spoils_patches = fault == "refused", True
        return use(site)

    serve(start, kind=AgentDevice, facts={"images": (BASE, TARGET), "deltas": (delta(tmp_path),)})


def test_an_interrupted_patch(serve: Callable[..., None], tmp_path: Path) -> None:
    """After a lost answer, the gateway sends only the rest of the patch.

    After a restart of the board, the gateway sends the whole patch again.
    """

    async def use(site: Site) -> None:
        board = await updated(site)
        assert len(PATCH) < board.patched < 2 * len(PATCH)
        assert (board.written, board.starts) == (0, 2)

    def start(site: Site) -> Awaitable[None]:
        board_of(site).lost_parts, board_of(site).restarts_at = {2}, 4
        return use(site)

    serve(
        start, kind=AgentDevice, facts={"images": (BASE, TARGET), "deltas": (delta(tmp_path),)}, board={"buffer": 256}
    )
