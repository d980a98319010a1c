"""If a broker's replica is a gateway's only source, the gateway finds and offers a delta from the replica."""

from __future__ import annotations

import hashlib
from pathlib import Path

from blockota.gateway.core import DeviceOffer
from tests.peers.deltas.test_deltas import NEW, OLD, PATCH
from tests.stories.conftest import PRODUCT, Workshop
from tests.stories.repositories import serving
from tests.stories.test_devices import done
from tests.stories.test_gateway import entries_with, running, site
from tests.stories.test_release_desk import ok, sign
from tests.stories.test_repository import decide
from tests.support.receipts import SigningDevice
from tests.support.waiting import eventually

__all__ = ["site"]
BROKER = ("--key", "dev:4")


def publish_delta(site: Workshop) -> None:
    """Publish 1.1.0 with a delta from 1.0.0, through the Safe."""
    Path("new.bin").write_bytes(NEW)
    words = ("--product", PRODUCT, "--version", "1.1.0", "--delta-from", "1.0.0", "-o", "new.json")
    ok(site.run("release", "publish", "new.bin", *words))
    for owner in ("dev:1", "dev:2"):
        ok(sign(site, "new.json", owner))
    ok(site.run("proposal", "execute", "new.json", "--key", "dev:0"))


def test_a_gateway_gets_a_delta_from_a_broker(site: Workshop) -> None:
    """The replica serves the releases of its agreements, and the update's receipt names the replica as the source."""
    publish_delta(site)
    for number, version in enumerate(("1.0.0", "1.1.0"), 1):
        words = ("--product", PRODUCT, "--version", version, "--expires-in", "30m")
        ok(site.run("replica", "propose", *words, *BROKER))
        decide(site, "accept", number)

    device, broker = SigningDevice(), site.cast.broker.address
    with serving(site.folder, "--as", "broker", "--broker", broker) as served, running(policy="auto") as face:
        for agreement in ("1", "2"):
            done(site, "replica", "announce", agreement, served.url, *BROKER)
        face.await_offer(256, "1.1.0")
        face.report(256, device, OLD)

        def with_delta() -> DeviceOffer | None:
            found = face.offer(256)
            return found if found and found.deltas else None

        offer = eventually(with_delta, what="an offer with a delta")
        assert offer
        [delta] = offer.deltas
        assert delta.path.read_bytes() == PATCH
        assert delta.base == hashlib.sha256(OLD).digest()

        face.report(256, device, NEW)
        eventually(lambda: len(entries_with(site, None)) > 1, what="the receipt")
        installed = entries_with(site, None)[-1]
        assert (installed["version"], installed["source"]) == ("1.1.0", served.url)
