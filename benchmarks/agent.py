"""Measure the device agent's sizes and its updates over SMP in QEMU: ``python -m benchmarks.agent``.

Needs QEMU, gcc-arm-none-eabi and the packages of ``make peers``.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figure import PERCENT, Figure, options, report, seconds_of
from blockota.formats.delta import make_patch
from blockota.gateway.faces.smp.board import SmpLine
from scripts.build_device import IMAGES, PROGRAMS, ImageSignature
from scripts.peers import PACKAGES
from tests.support.gateway import appending, gateway_core, known_device
from tests.support.qemu import QemuBoard
from tests.support.qemu_images import OLD, agent, flash_with
from tests.support.smp_face import NUMBER, facts_of, running_face

BOARDS = ("microbit", "stm32f103")
IMAGE_SIZE = 96 * 1024
RUNS = 5
BUFFERS = 11
"""The lines of 128 characters that carry 1,024 bytes, the buffer of the agent. By default, smpmgr assumes two lines."""


def figures() -> Iterator[Figure]:
    """Yield sizes in bytes, and the durations of an update of 96 KiB in QEMU."""
    yield from sizes()
    with TemporaryDirectory() as name:
        folder = Path(name)
        padding = random.Random(1).randbytes(IMAGE_SIZE - len(OLD))  # noqa: S311 - incompressible bytes
        image = agent(folder, ImageSignature(version="2.0.0"), appendix=padding)
        (folder / "image.bin").write_bytes(image)
        size = f"{len(image):,} bytes"
        told = ("--line-buffers", str(BUFFERS))
        yield _update(
            f"the face SMP updates a board in QEMU with {size}", lambda board: _by_face(board, image), limit=3
        )
        whole = "`smpmgr upgrade` updates a board in QEMU, the whole process"
        words = ("upgrade", "--slot", "1", str(folder / "image.bin"))
        yield _update(f"{whole}, {' '.join(told)}, {size}", lambda board: _by_smpmgr(board, *told, *words), limit=3)
        yield _update(f"{whole}, without options, {size}", lambda board: _by_smpmgr(board, *words), limit=None)


def sizes() -> Iterator[Figure]:
    """Yield the sizes of the committed programs, and the size of an update of the agent itself as a delta."""
    for name, program in PROGRAMS.items():
        content = (IMAGES / f"{name}.bin").read_bytes()
        if "agent" in name:
            content = content[: int.from_bytes(content[12:16], "little")]  # without header and signature
        if "test" not in name and "faulty" not in name:
            yield Figure(f"size of {name}", len(content), "bytes", program.limit)
    for board in BOARDS:
        old, new = ((IMAGES / f"{board}-agent-{version}.bin").read_bytes() for version in ("1.0.0", "1.1.0"))
        kind, patch = make_patch(old, new)
        share, times = PERCENT * len(patch) / len(new), f"{len(patch):,} of {len(new):,} bytes, {kind}"
        yield Figure(f"{board}: delta of the agent 1.0.0 → 1.1.0, relative to the image", share, "%", 5, times=times)


def _update(name: str, update: Callable[[QemuBoard], float], *, limit: float | None) -> Figure:
    """Update new boards over SMP; the first update is a warm-up."""
    runs = []
    for _ in range(RUNS + 1):
        with TemporaryDirectory() as folder, QemuBoard(Path(folder), flash_with(OLD)) as board:
            board.wait_until_ready(1)
            runs.append(update(board))
    return Figure(name, statistics.median(runs[1:]), "s", limit, runs=tuple(runs[1:]))


def _by_smpmgr(board: QemuBoard, *words: str) -> float:
    command = [str(PACKAGES / "smpmgr"), "--port", str(board.port), "--timeout", "20", *words]
    return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


def _by_face(board: QemuBoard, image: bytes) -> float:
    """Return the seconds from the gateway's discovery of a release to the board's restart into its image."""

    async def update(folder: Path) -> float:
        (folder / "images").mkdir()
        device = known_device(NUMBER, face="smp")
        line = SmpLine(str(board.port), answer=20)
        async with (
            gateway_core(folder, facts_of(folder, device=device, images=(OLD, OLD))) as gateway,
            appending(gateway),
            running_face(gateway, folder, line, poll=60),
        ):
            await gateway.until(lambda: any(one.image for one in gateway.appended()))
            facts = facts_of(folder, device=device, images=(OLD, image))
            began = time.perf_counter()
            await gateway.core.update(facts, {})
            await gateway.until(lambda: board.boots > 1)
            return time.perf_counter() - began

    with TemporaryDirectory() as folder:
        return asyncio.run(update(Path(folder)))


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(figures()))
