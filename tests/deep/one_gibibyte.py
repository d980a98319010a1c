"""Test publishing and fetching an image of 1 GiB with the local store, HTTP and Kubo; run by `make deep`."""

from __future__ import annotations

import time
from pathlib import Path

from blockota.approval.proposal import Proposal
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_pairing
from tests.peers.kubo.conftest import kubo
from tests.peers.kubo.node import running_node
from tests.stories.conftest import Workshop, execute_signed, workshop
from tests.stories.large_images import MEBIBYTE, PRODUCT, check_image, peak_of, walk, write_image

__all__ = ["kubo", "workshop"]

GIBIBYTE = 1024 * MEBIBYTE
LIMIT = 64 * MEBIBYTE


def test_a_gibibyte_goes_the_whole_road_in_64_mebibytes(workshop: Workshop) -> None:
    """Publishing, verifying and fetching 1 GiB need at most 64 MiB of memory more than an idle command."""
    for name, peak in walk(workshop, size=GIBIBYTE).items():
        assert peak <= LIMIT, f"{name} took {peak:,} bytes more than an idle command"


def test_a_gibibyte_goes_through_kubo_in_64_mebibytes(workshop: Workshop, kubo: Path, tmp_path: Path) -> None:
    """Publishing 1 GiB to Kubo and fetching it back need at most 64 MiB of memory more than an idle command."""
    reason = Reason("a story", int(time.time()), 3600)
    execute_signed(propose_pairing(workshop.contract, PRODUCT, reason=reason), workshop.chain, cast=workshop.cast)
    digest = write_image(Path("large.bin"), GIBIBYTE)
    release = ("--product", PRODUCT.name, "--version", "1.0.0")
    idle = peak_of("release", "list")
    with running_node(kubo, tmp_path) as node:
        store = ("--store", f"kubo:{node.api}")
        words = ("--configuration", *store, "-o", "large.json")
        peaks = {"push": peak_of("release", "publish", "large.bin", *release, *words)}
        execute_signed(Proposal.from_json(Path("large.json").read_bytes()), workshop.chain, cast=workshop.cast)
        Path("large.bin").unlink()
        published = workshop.contract.latest(PRODUCT.name)
        assert published is not None
        assert node.pins()[str(published.cid)] == "recursive"
        peaks["fetch"] = peak_of("release", "fetch", *release, *store, "-o", "fetched.bin")
    check_image(Path("fetched.bin"), digest)
    for name, peak in peaks.items():
        assert peak - idle <= LIMIT, f"{name} took {peak - idle:,} bytes more than an idle command"
