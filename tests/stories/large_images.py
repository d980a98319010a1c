"""Publish, sign and fetch an image of any size, and measure the peak memory of each command."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import BlockOTAContract
from blockota.model.release import Product, Region
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_pairing
from tests.stories import repositories
from tests.stories.conftest import Workshop, execute_signed
from tests.support import forks

PRODUCT = Product("acme-linux", "acme", 0x450, Region(0x8000_0000, 1 << 30), minimum_version=None, paired=True)
MEBIBYTE = 1 << 20
_MEASURED = """
import pathlib, sys
from blockota.cli.main import run
status = run(sys.argv[2:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
pathlib.Path(sys.argv[1]).write_text(peak.split()[1])
sys.exit(status)
"""
"""Python program that runs a command and writes its peak memory; getrusage would include the parent's memory."""


def walk(workshop: Workshop, *, size: int) -> dict[str, int]:
    """Publish, sign, verify and fetch an image, and then sign the next image.

    Returns:
        The peak memory of each command in bytes, minus that of a similar command without an image.
    """
    pair(workshop)
    digest = write_image(Path("large.bin"), size)
    release = ("--product", PRODUCT.name, "--version", "1.0.0")
    reading = peak_of("release", "list")
    peaks = {"publish": peak_of("release", "publish", "large.bin", *release, "--configuration", "-o", "large.json")}
    nonce = Proposal.from_json(Path("large.json").read_bytes()).nonce
    peak_of("proposal", "reject", "--nonce", str(nonce), "--reason", "no image", "-o", "empty.json")
    without = {
        "sign": peak_of("proposal", "sign", "empty.json", "--key", "dev:1", "--yes"),
        "show": peak_of("proposal", "show", "empty.json"),
    }
    peaks["sign the first"] = peak_of("proposal", "sign", "large.json", "--key", "dev:1", "--yes")
    execute_signed(Proposal.from_json(Path("large.json").read_bytes()), workshop.chain, cast=workshop.cast)
    peaks["verify"] = peak_of("release", "verify", "large.bin", "--product", PRODUCT.name)
    Path("large.bin").unlink()
    peaks["fetch"] = peak_of("release", "fetch", *release, "-o", "near.bin")
    check_image(Path("near.bin"), digest)
    with repositories.serving(workshop.folder) as served:
        words = ("--store", "file:elsewhere", "--source", served.url)
        peaks["fetch over HTTP"] = peak_of("release", "fetch", *release, *words, "-o", "far.bin")
        peaks |= sign_the_next(served.url)
    check_image(Path("far.bin"), digest)
    return {name: peak - without.get(name.split()[0], reading) for name, peak in peaks.items()}


def sign_the_next(url: str) -> dict[str, int]:
    """Propose and sign an image that differs in one byte from the previous image.

    Returns:
        The peak memory of each command, in bytes.
    """
    shutil.copy("far.bin", "next.bin")
    with Path("next.bin").open("r+b") as file:
        file.write(b"\0")
    words = ("--product", PRODUCT.name, "--version", "2.0.0", "--configuration", "-o", "next.json")
    peaks = {"publish the next": peak_of("release", "publish", "next.bin", *words)}
    sign = ("proposal", "sign", "next.json", "--yes")
    peaks["sign"] = peak_of(*sign, "--key", "dev:1")
    given = ("--image", "next.bin", "--store", "file:third", "--source", url)
    peaks["sign over HTTP"] = peak_of(*sign, "--key", "dev:2", *given)
    peaks["show"] = peak_of("proposal", "show", "next.json")
    Path("next.bin").unlink()
    return peaks


def pair(workshop: Workshop) -> None:
    """Pair a product with a memory region of 1 GiB."""
    contract: BlockOTAContract = workshop.contract
    reason = Reason("a story", int(time.time()), 3600)
    execute_signed(propose_pairing(contract, PRODUCT, reason=reason), workshop.chain, cast=workshop.cast)


def write_image(path: Path, size: int) -> str:
    """Write pseudo-random bytes to an image file, and return their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size // MEBIBYTE):
            part = hashlib.shake_128(b"%d" % number).digest(MEBIBYTE)
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def check_image(path: Path, digest: str) -> None:
    """Assert that a file has this SHA-256, and delete the file."""
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    path.unlink()


def peak_of(*words: str, run: Callable[[list[str]], subprocess.CompletedProcess[str]] = forks.run) -> int:
    """Run a command in a process that `run` starts, and return the command's peak memory in bytes."""
    done = run(["-c", _MEASURED, "peak", *words])
    assert done.returncode == 0, done.stderr
    return int(Path("peak").read_text()) * 1024
