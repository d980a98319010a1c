"""The gateway reads its site and the releases from the chains, and verifies images before it offers them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import pytest

from blockota.bindings.block_ota import floor_call, revoke_call
from blockota.bindings.producers import ProducersContract
from blockota.chain.follow import Follower
from blockota.gateway.assembly import Assembly
from blockota.gateway.catalogue import ImageCatalogue
from blockota.gateway.facts import SiteFacts
from blockota.gateway.following import Following
from blockota.gateway.producer_chain import ProducerChain
from blockota.gateway.settings import GatewaySettings
from blockota.gateway.site_chain import SiteChain
from blockota.gateway.snapshots import Readings, SnapshotFile, encode
from blockota.line_log import LineLog
from blockota.model.container import Container
from blockota.model.device import SpecUpdate, spec_hash
from blockota.model.manifest import Manifest
from blockota.model.release import Version, product_key
from blockota.model.target import Component
from blockota.stores.local import LocalStore
from blockota.stores.search import ImageSources, SearchObserver
from blockota.vendor.example import PRODUCT
from tests.support.city import GATEWAY, MODEL, OPERATOR, REGISTRANT, City
from tests.support.identities import p256_key
from tests.support.networks import rpc
from tests.support.samples import code

from blockota.keys import dev_account  # isort: skip


@dataclass
class Reader:
    """A gateway's readers for one chain that is both the gateway chain and the producer chain.

    Attributes:
        city: the city.
        folder: the folder with the gateway's files.
        store: the store with all images.
        confirmations: the number of later blocks after which a block counts as confirmed.
    """

    city: City
    folder: Path
    store: LocalStore
    confirmations: int = 0
    assembly: Assembly = field(init=False)

    def __post_init__(self) -> None:
        """Open the readers."""
        city, first = self.city, self.city.deployment.block_number
        followers = [Follower(city.chain, confirmations=self.confirmations, first_block=first) for _ in range(2)]
        contracts = (city.identities, city.devices, city.orders)
        self.site = SiteChain(GATEWAY.uuid, followers[0], contracts, lists=self.folder / "lists")
        producers = ProducersContract(city.chain, city.deployment.registries["producers"])
        self.chain = ProducerChain(
            city.chain, followers[1], confirmations=self.confirmations, producers=producers, contracts={}
        )
        self.catalogue = ImageCatalogue(self.folder, self.store)
        self.settings = GatewaySettings(GATEWAY.uuid, self.folder)

    def read(self) -> SiteFacts:
        """Read both chains once."""
        site = self.site.read()
        reading = self.chain.with_newest(self.chain.read({c for s in site.specs.values() for c in s.components}))
        self.assembly = Assembly(self.catalogue)
        return self.assembly.assemble(site, [reading], self.settings)

    def find(self) -> None:
        """Find all wanted files."""
        for wanted in self.assembly.wanted:
            self.catalogue.find(wanted, ImageSources(), observer=SearchObserver())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Return the image store that all tests of this file share, because they share one chain."""
    return LocalStore(tmp_path_factory.mktemp("store"))


@pytest.fixture
def reader(city: City, store: LocalStore, tmp_path: Path) -> Reader:
    """Return a reader that has read nothing."""
    return Reader(city, tmp_path, store)


def component(city: City) -> Component:
    """Return the example's product."""
    return Component(city.chain.chain_id, city.deployment.contract, PRODUCT.name)


def test_a_release_is_offered_after_its_image_is_proven(city: City, reader: Reader) -> None:
    """A gateway reads its devices, their Spec and its releases.

    The image of a release is fetched and verified once, and kept over a restart.
    """
    number = city.register("SN-1")
    release = city.publish("1.0.0", image := code(700), reader.store)
    facts = reader.read()
    assert facts.devices[number].name == f"acme/{MODEL}/SN-1"
    assert facts.specs[spec_hash(MODEL)].components == (component(city),)
    assert [str(one) for one in reader.assembly.wanted] == [f"the image of {PRODUCT.name} 1.0.0"]
    assert facts.components[component(city)].releases[0].image is None

    reader.find()
    [found] = reader.read().components[component(city)].releases
    assert found.image
    assert found.image.path.read_bytes() == image
    assert (found.image.sha256, found.image.source) == (release.sha256, "the gateway's store")
    assert not reader.assembly.wanted

    # A file that was spoiled while the gateway was off is found to be so, and is searched again.
    found.image.path.write_bytes(b"spoiled".ljust(len(image)))
    again = Reader(city, reader.folder, reader.store)
    assert again.read().components[component(city)].releases[0].image is None
    assert "check 4 failed" in " ".join(again.assembly.faults.values())
    again.read()
    again.find()
    assert again.read().components[component(city)].releases[0].image


def test_readings_are_kept_for_the_next_start(city: City, reader: Reader, tmp_path: Path) -> None:
    """The file of a reading is read back as written.

    A damaged reading file, and the file of another gateway, are ignored.
    """
    city.register("SN-9", p256_key(1))
    city.publish("1.2.0", code(705), reader.store)
    site = reader.site.read()
    chain = reader.chain.read({component(city)})
    SnapshotFile(tmp_path / "readings.json", GATEWAY.uuid).save(Readings(site, {"local": chain}))
    found = SnapshotFile(tmp_path / "readings.json", GATEWAY.uuid).load()
    assert found == Readings(site, {"local": replace(chain, replications={})})
    assert SnapshotFile(tmp_path / "readings.json", UUID(int=1)).load() is None
    (tmp_path / "readings.json").write_text('{"format": 1}')
    assert SnapshotFile(tmp_path / "readings.json", GATEWAY.uuid).load() is None


def test_a_release_is_kept_before_it_can_be_offered(city: City, reader: Reader, tmp_path: Path) -> None:
    """A release whose facts are complete survives a kill of the gateway."""
    city.register("SN-10", p256_key(2))
    path, chains = tmp_path / "readings.json", ((lambda: reader.site), {"local": lambda: reader.chain})
    settings = GatewaySettings(GATEWAY.uuid, tmp_path)

    def following() -> Following:
        files = SnapshotFile(path, GATEWAY.uuid)
        return Following(chains, reader.catalogue, settings, LineLog(lambda _: None), snapshot=files)

    running = following()
    running.read()
    assert running.assemble()
    running.save(is_last=True)
    release = city.publish("1.3.0", code(715), reader.store)
    running.read()
    assert running.assemble()
    known = SnapshotFile(path, GATEWAY.uuid).load()
    assert known
    assert release.sha256.hex() in str(encode(known.producers))


def test_a_revoked_release_stays_known_and_is_not_kept(city: City, reader: Reader) -> None:
    """After its revocation, a release remains in the list, but without an image.

    The image of a release is fetched before the release is confirmed.
    """
    city.publish("2.0.0", code(710), reader.store)
    city.publish("2.1.0", code(720), reader.store)
    reader.read()
    reader.find()
    city.decide_release(revoke_call(PRODUCT.name, Version(2, 1, 0), reason="bricks boards"))
    facts = reader.read().components[component(city)]
    assert [(str(one.release.version), one.is_active, one.image is None) for one in facts.releases[:2]] == [
        ("2.1.0", False, True),
        ("2.0.0", True, False),
    ]
    reader.catalogue.keep(reader.assembly.kept)
    assert not (reader.folder / "images" / facts.releases[0].release.sha256.hex()).exists()
    assert (reader.folder / "images" / facts.releases[1].release.sha256.hex()).exists()

    deep = Reader(city, reader.folder / "deep", reader.store, confirmations=2)
    city.publish("2.2.0", code(730), deep.store)
    assert [str(one.release.version) for one in deep.read().components[component(city)].releases[:1]] == ["2.1.0"]
    assert f"the image of {PRODUCT.name} 2.2.0" in map(str, deep.assembly.wanted)
    deep.find()
    city.decide_release(floor_call(PRODUCT.name, Version(2, 2, 0)))
    city.chain.mine()
    found = deep.read().components[component(city)]
    assert str(found.releases[0].release.version) == "2.2.0"
    assert found.releases[0].image


def test_only_what_the_spec_lists_of_a_followed_producer_is_offered(city: City, reader: Reader) -> None:
    """Products of an unregistered contract, and of a suspended producer, are withheld."""
    stranger = SpecUpdate(city.chain.chain_id, city.cast.mallory.address, "evil", allowed=True)
    account = dev_account(REGISTRANT)
    city.devices.allow(account, MODEL, stranger)
    city.register("SN-2")
    facts = reader.read()
    assert len(facts.components) == 2
    evil = facts.components[Component(stranger.chain_id, stranger.contract, "evil")]
    assert (evil.releases, evil.withheld) == ((), "its producer is not followed, or lacks it")
    assert facts.components[component(city)].withheld == ""

    city.decide("producers", "suspend", product_key("acme"))
    assert reader.read().components[component(city)].withheld == "the producer is suspended"
    assert reader.assembly.facts.components[component(city)].releases
    city.decide("producers", "restore", product_key("acme"))
    city.devices.allow(account, MODEL, SpecUpdate(stranger.chain_id, stranger.contract, "evil", allowed=False))
    facts = reader.read()
    assert (len(facts.components), facts.components[component(city)].withheld) == (1, "")


def test_orders_name_their_devices_and_bans_are_seen(city: City, reader: Reader) -> None:
    """An order applies only to devices that were registered before it.

    Bans of devices and of the gateway itself are read.
    """
    before = frozenset(reader.read().devices)
    number = city.order("berlin", city.release_id("2.0.0"))
    later = city.register("SN-3")
    facts = reader.read()
    [order] = facts.orders
    assert (order.order.number, order.members, later in facts.devices) == (number, before, True)

    city.decide("devices", "ban", later, b"stolen".ljust(32, b"\0"))
    city.decide("identities", "ban", GATEWAY.uuid.bytes, b"test".ljust(32, b"\0"))
    facts = reader.read()
    assert (facts.devices[later].is_banned, facts.is_banned) == (True, True)
    assert reader.assembly.faults["identity"] == "it is banned"
    city.decide("identities", "unban", GATEWAY.uuid.bytes)
    assert not reader.read().is_banned
    assert reader.assembly.faults == {}


def test_a_gateway_without_an_identity_is_reported(city: City, reader: Reader) -> None:
    """If the gateway's identity is not enrolled, or is of another kind, the gateway reports this as trouble."""
    contracts = (city.identities, city.devices, city.orders)
    for uuid, why in (
        (UUID(int=7), "it is not enrolled"),
        (OPERATOR.uuid, "it is enrolled as operator, and this service needs a gateway"),
    ):
        follower = Follower(city.chain, confirmations=0, first_block=city.deployment.block_number)
        reader.site = SiteChain(uuid, follower, contracts, lists=reader.folder / "lists")
        reader.read()
        assert reader.assembly.faults["identity"] == why


def test_a_container_that_does_not_fit_is_not_offered(city: City, reader: Reader) -> None:
    """A release for an STM32 fails check 7 if its manifest names the wrong container."""
    image = code(760)
    facts = (PRODUCT.name, Version(3, 0, 0), hashlib.sha256(image).digest(), len(image))
    manifest = Manifest(*facts, container=Container.OPAQUE)
    reader.store.put(io.BytesIO(manifest.to_json()))
    city.publish("3.0.0", image, reader.store, manifest=manifest.cid.digest)
    reader.read()
    reader.find()
    found = reader.read().components[component(city)].releases[0]
    assert (found.manifest, found.image) == (None, None)
    assert "check 7 failed" in " ".join(reader.assembly.faults.values())


def test_a_release_of_a_replaced_block_is_not_offered(city: City, reader: Reader) -> None:
    """After a reorganisation, the facts are those of the new blocks, including devices and orders."""
    reader.read()
    before = rpc(city.chain, "evm_snapshot")
    city.publish("9.0.0", code(790), reader.store)
    number = city.register("SN-R")
    reader.read()
    reader.find()
    facts = reader.read()
    assert facts.components[component(city)].releases[0].image
    assert number in facts.devices

    assert rpc(city.chain, "evm_revert", before)
    city.chain.mine()
    city.chain.mine()
    facts = reader.read()
    assert "9.0.0" not in [str(one.release.version) for one in facts.components[component(city)].releases]
    assert number not in facts.devices
