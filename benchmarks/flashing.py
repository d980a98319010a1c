"""Compare flashing with stm32flash and stm32loader: ``python -m benchmarks.flashing [--quick] [--json]``.

Each scene compares the processes `blockota flash` and stm32flash on a simulated board. The line has 115200 baud, and
its adapter delays every acknowledgement by 1 ms. The images of `blockota flash` are in the local store. The options of
stm32flash are ``-w -v -g``. In each turn, both programs start from the same flash contents. The script also injects
faults (`benchmarks.faults`). ``--quick`` measures one turn without the scenes of 300 KB, and injects few faults. The
exit status is 1 if a figure misses its limit.
"""

from __future__ import annotations

import hashlib
import io
import random
import statistics
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import faults
from benchmarks.boards import board, stm32flash, stm32loader
from benchmarks.chains import local_chain, publish, release_of
from benchmarks.figure import PERCENT, ROOT, Figure, folder_on_disk, options, report, seconds_of
from blockota.model.release import Product, Region, Version
from blockota.stores.local import LocalStore
from firmware_host.simulator import PROFILES

KIB = 1024
BASE = 0x0800_0000
BLUEPILL = ROOT / "examples" / "bluepill" / "images" / "bluepill-1.0.0.bin"
OLD, NEW = Version(1, 0, 0), Version(1, 1, 0)
TURNS, RUNS, QUICK_FAULTS = 3, 5, 500


@dataclass(frozen=True)
class FlashScene:
    """One chip, an image, and the bytes around it.

    Attributes:
        name: the name of the figure.
        part: the simulated chip.
        size: the size in bytes of each image, the old and the new.
        limit: the limit, in percent of stm32flash's duration.
        beside: the bytes after the image that must be preserved.
        changed: the pages of 1 KiB that differ; empty if every byte differs.
        words: further options of `blockota flash`.
    """

    name: str
    part: str
    size: int
    limit: float
    beside: int = 0
    changed: tuple[int, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def is_long(self) -> bool:
        """Whether the scene takes minutes."""
        return self.size > 128 * KIB

    def image(self, seed: int) -> bytes:
        """Return a program, or a vector table for some chips, followed by random bytes.

        If the simulator does not run the programs of a chip, `blockota flash` waits for output until its timeout.
        """
        profile = PROFILES[self.part]
        table = struct.pack("<2I", profile.ram_start + profile.ram_size, BASE + 0x101)
        if profile.runs_code:
            table = BLUEPILL.read_bytes()
        rest = random.Random(1 if self.changed else seed).randbytes(self.size - len(table))  # noqa: S311 - a filler
        made = bytearray(table + rest)
        for page in self.changed if seed == 1 else ():
            made[page * KIB + 700] ^= 0x55
        return bytes(made)


SCENES = (
    FlashScene("F103, 64 KiB over an older image", "stm32f103c8", 64 * KIB, 65),
    FlashScene("F103, 3 of 64 pages changed", "stm32f103c8", 64 * KIB, 12.5, changed=(7, 30, 51)),
    FlashScene("G071, 70 KiB over an older image", "stm32g071rb", 70 * KIB, 70),
    FlashScene("L476, 300 KiB over an older image", "stm32l476rg", 300 * KIB, 70),
    FlashScene("F407, 300,001 bytes over an older image", "stm32f407vg", 300_001, 65),
    FlashScene("F407, the same with --read-back", "stm32f407vg", 300_001, 102, words=("--read-back",)),
    FlashScene("F407, the same with 93 KB beside it that are kept", "stm32f407vg", 300_001, 90, beside=93_215),
)


def figures(scenes: Sequence[FlashScene] = SCENES, *, turns: int = TURNS) -> Iterator[Figure]:
    """Yield a figure for each scene, and two more for the first scene: with stm32loader and with an unchanged image."""
    for scene in scenes:
        old, new = scene.image(1), scene.image(2)
        kept = random.Random(3).randbytes(scene.beside)  # noqa: S311 - a filler
        with bench(scene, old, new) as folder:
            runs = [
                (
                    ours(scene, folder, over=old + kept, wanted=new + kept),
                    stm32flash(new, over=old + kept, part=scene.part),
                )
                for _ in range(1 if scene.is_long else turns)
            ]
        yield compared(scene, runs)

    scene = scenes[0]
    old, new = scene.image(1), scene.image(2)
    loader = [stm32loader(new, over=old) for _ in range(turns)]
    yield Figure(f"{scene.name}, stm32loader", statistics.median(loader), "s", runs=tuple(loader))
    with bench(scene, old, new) as folder:
        again = [ours(scene, folder, over=new, wanted=new) for _ in range(RUNS)]
    name = "F103, 64 KiB, the same image again"
    yield Figure(name, statistics.median(again), "s", 0.8, times="The whole process.", runs=tuple(again))


def compared(scene: FlashScene, runs: Sequence[tuple[float, float]]) -> Figure:
    """Return the figure of a scene from ⟨our seconds, stm32flash's seconds⟩ of each turn."""
    shares = [PERCENT * one / other for one, other in runs]
    one, other = (statistics.median(column) for column in zip(*runs, strict=True))
    command = " ".join(("blockota flash", *scene.words))
    return Figure(
        f"{scene.name}, of stm32flash's time",
        statistics.median(shares),
        "%",
        scene.limit,
        times=f"Whole processes: `{command}` takes {one:.2f} s, stm32flash `-w -v -g` takes {other:.2f} s.",
        runs=tuple(shares),
    )


def ours(scene: FlashScene, folder: Path, *, over: bytes, wanted: bytes) -> float:
    """Measure a whole `blockota flash` process.

    Raises:
        RuntimeError: the command failed, or the flash has the wrong contents.
    """
    with board(over, part=scene.part) as one:
        command = [sys.executable, "-m", "blockota", "flash", "--product", "acme", "--port", one.url, *scene.words]

        def run() -> None:
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if result.returncode or one.flash[: len(wanted)] != wanted:
                raise RuntimeError(f"{scene.name} failed: {result.stderr[-500:]}")

        return seconds_of(run)


@contextmanager
def bench(scene: FlashScene, old: bytes, new: bytes) -> Iterator[Path]:
    """Publish the two images on a new chain; yield a technician's folder with settings and the images in the store."""
    profile = PROFILES[scene.part]
    region = Region(BASE, profile.flash_size)
    product = Product("acme", "acme", profile.product_id, region, minimum_version=None, paired=True)
    with local_chain() as chain, folder_on_disk() as folder:
        store = LocalStore(folder / ".blockota" / "store")
        releases = []
        for version, image in ((OLD, old), (NEW, new)):
            root = store.put(io.BytesIO(image))
            digest = hashlib.sha256(image).digest()
            made = root.digest if len(image) > 1 << 20 else None
            releases.append(release_of(product, version, sha256=digest, size=len(image), dag_root=made))
        contract = publish(chain, product, releases)
        settings = f'[networks.local]\nurl = "{chain.url}"\ncontract = "{contract.address}"\n'
        (folder / "blockota.toml").write_text(settings)
        yield folder


if __name__ == "__main__":
    chosen = options(__doc__)
    short = [scene for scene in SCENES if not (chosen.quick and scene.is_long)]
    measured = figures(short, turns=1 if chosen.quick else TURNS)
    injected = faults.figures(count=QUICK_FAULTS if chosen.quick else faults.COUNT, is_shown=not chosen.json)
    sys.exit(report(measured, injected))
