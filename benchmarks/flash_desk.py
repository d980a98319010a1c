"""The set-up of the flashing benchmark: a chain with releases, and flash runs in a process with loaded modules."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.boards import LINE, board
from benchmarks.chains import local_chain, publish, release_of
from benchmarks.figure import ROOT, folder_on_disk, seconds_of
from benchmarks.flash_stages import Stages, WatchedLink
from blockota.bindings.block_ota import BlockOTAContract, known_releases
from blockota.model.facts import Consent, KnownReleases, ProvenRelease, Trust
from blockota.model.release import Product, Region, Version
from blockota.model.verification import prove_release
from firmware_host.bench.session import BoardSession
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.events import Finished
from firmware_host.flashing.journal import FlashJournal
from firmware_host.line.link import open_link

PAGE, PAGES = 1024, 64
PRODUCT = Product("acme-thermo2", "acme", 0x410, Region(0x0800_0000, PAGE * PAGES), minimum_version=None, paired=True)
OTHER, NEAR, WANTED = Version(1, 0, 0), Version(1, 0, 1), Version(1, 1, 0)
CHANGED = (7, 30, 51)
"""The pages in which the image of release `NEAR` differs from `WANTED`; the image of `OTHER` differs in all pages."""
BLUEPILL = ROOT / "examples" / "bluepill" / "images"


def images() -> dict[Version, bytes]:
    """Return the three images; each contains a program that starts, and fills the flash."""
    wanted = filled("bluepill-1.1.0.bin", seed=1)
    near = bytearray(wanted)
    for page in CHANGED:
        near[page * PAGE + 700] ^= 0x55
    return {OTHER: filled("bluepill-1.0.0.bin", seed=2), NEAR: bytes(near), WANTED: wanted}


def filled(name: str, *, seed: int) -> bytes:
    """Return a small program that is padded to the size of the flash with random bytes, so that no block is blank."""
    program = (BLUEPILL / name).read_bytes()
    return program + random.Random(seed).randbytes(PAGE * PAGES - len(program))  # noqa: S311 - a filler


@dataclass(frozen=True)
class Flashing:
    """The times of one flash run in a process that has loaded its modules.

    Attributes:
        chain: seconds to read the chain's record and verify the image against the record.
        looked: seconds from opening the port until check 9 has passed, when the pages to write are known.
        proven: seconds from opening the port to the proof (check 10).
        started: seconds from opening the port until the board acknowledged the command Go.
        stages: seconds of each stage up to the proof.
    """

    chain: float
    looked: float
    proven: float
    started: float
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Desk:
    """A technician's set-up: a chain with three releases, their images, and a working folder on the disk."""

    contract: BlockOTAContract
    folder: Path
    images: Mapping[Version, bytes]

    @property
    def image(self) -> bytes:
        """The image that is flashed."""
        return self.images[WANTED]

    def checked(self) -> tuple[ProvenRelease, KnownReleases]:
        """Read the newest release from the chain, and verify the image against the release: checks 1 to 5."""
        answer = self.contract.answer(PRODUCT.name, None, confirmations=0)
        trust = Trust(self.contract.chain.chain_id, self.contract.address, confirmations=0)
        proven = prove_release(answer, trust, read_image=lambda _: self.image)
        return proven, known_releases(self.contract, PRODUCT.name, block=answer.block_number)

    def flash(self, *, over: Version, proof: Proof) -> Flashing:
        """Flash the newest release over another release, and prove the flash.

        Raises:
            RuntimeError: success was reported, but the flash does not contain the image.
            BlockOTAError: the flash run failed.
        """
        with board(self.images[over]) as one:
            began = time.perf_counter()
            proven, known = self.checked()
            stages, opened = Stages(), time.perf_counter()
            link = WatchedLink(open_link(one.url, baud=LINE.baud), stages)
            with closing(link):
                bootloader = Bootloader(link)
                bootloader.connect()
                bench = BoardSession(bootloader, identify(bootloader), link.notes, may_erase_all=True)
                journal = FlashJournal(self.folder / "journals", bench.identity.unique_id or "")
                cleared = bench.examine(proven, known=known, journal=journal, proof=proof).clear(Consent())
                looked = time.perf_counter()
                (end,) = (event for event in cleared.flash() if isinstance(event, Finished))
                cleared.prove_flash(end)
                done = time.perf_counter()
                stages.turn_to("start")
                bootloader.go(PRODUCT.region.start)
                started = time.perf_counter()
            if one.flash != self.image:
                raise RuntimeError("success was reported, but the flash differs from the image")
        return Flashing(opened - began, looked - opened, done - opened, started - opened, stages=dict(stages.seconds))

    def command(self, *options: str, over: Version) -> float:
        """Measure a whole ``blockota flash`` process, including the wait for the program's banner.

        Raises:
            RuntimeError: the command failed, or the image is not in the flash.
        """
        with board(self.images[over]) as one, tempfile.NamedTemporaryFile(suffix=".bin") as file:
            Path(file.name).write_bytes(self.image)
            words = ["flash", "--product", PRODUCT.name, "--port", one.url, "--image", file.name, *options]

            def run() -> None:
                command = [sys.executable, "-m", "blockota", *words]
                result = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
                if result.returncode or one.flash != self.image:
                    raise RuntimeError(f"{words} failed: {result.stderr[-500:]}")

            return seconds_of(run)


@contextmanager
def desk() -> Iterator[Desk]:
    """Start a new anvil chain, and publish the three releases on it."""
    made = images()
    with local_chain() as chain, folder_on_disk() as folder:
        releases = [
            release_of(PRODUCT, version, sha256=hashlib.sha256(image).digest(), size=len(image))
            for version, image in made.items()
        ]
        contract = publish(chain, PRODUCT, releases)
        settings = f'[networks.local]\nurl = "{chain.url}"\ncontract = "{contract.address}"\n'
        (folder / "blockota.toml").write_text(settings)
        yield Desk(contract, folder, made)
