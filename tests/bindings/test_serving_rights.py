"""The right to serve a release begins after the required confirmations and ends after a reorganisation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blockota.bindings.block_ota import BlockOTAContract, pair_call, publish_call, revoke_call
from blockota.bindings.replication import ReplicationContract, decision_call
from blockota.bindings.serving_rights import Reading, RightsReader
from blockota.chain import BlockHead, Chain
from blockota.chain.follow import Follower
from blockota.errors import ChainError
from blockota.formats.cid import CID, RAW
from blockota.model.release import Release, Version
from blockota.model.rights import Rights, rights_at
from blockota.repository.catalogue import Catalogue
from blockota.stores.local import LocalStore
from tests.conftest import Cast
from tests.support.networks import fresh_anvil, method_of, post, refusal, rpc, stand_in
from tests.support.samples import PRODUCT, release_of

DEPTH = 3
MANIFESTS = [bytes((number,)) * 32 for number in (1, 2)]


@dataclass(frozen=True)
class Scene:
    """The contracts of a vendor on a chain of their own, on which a release needs DEPTH confirmations."""

    contract: BlockOTAContract
    replication: ReplicationContract
    cast: Cast
    first_block: int

    @property
    def chain(self) -> Chain:
        """The chain of the contracts."""
        return self.contract.chain

    def send(self, call: bytes, *, to: str = "") -> None:
        """Send a transaction as the vendor and mine it."""
        self.chain.send(self.cast.payer, call, to=to or self.contract.address)

    def publish(self, image: bytes, version: Version, *, manifest: bytes) -> Release:
        """Publish a release with a manifest, and return the release."""
        made = release_of(image, version=version, manifest=manifest)
        self.send(publish_call([made]))
        return made

    def mine(self, blocks: int) -> None:
        """Mine the given number of blocks."""
        rpc(self.chain, "anvil_mine", hex(blocks))

    def vendor(self, chain: Chain | None = None) -> RightsReader:
        """Return a reader of the vendor's releases."""
        contract = BlockOTAContract(chain or self.chain, self.contract.address)
        return RightsReader(contract, self.follower(contract.chain))

    def broker(self) -> RightsReader:
        """Return a reader of the broker's agreements."""
        follower = self.follower(self.chain)
        return RightsReader(self.contract, follower, replication=self.replication, broker=self.cast.broker.address)

    def follower(self, chain: Chain) -> Follower:
        """Return a follower of the chain that requires DEPTH confirmations."""
        return Follower(chain, confirmations=DEPTH, first_block=self.first_block)


@pytest.fixture
def scene(cast: Cast) -> Iterator[Scene]:
    """Deploy the contracts with a paired product on a fresh chain; a plain account acts as the vendor."""
    with fresh_anvil() as chain:
        rpc(chain, "anvil_mine", hex(20))
        contract, receipt = BlockOTAContract.deploy(chain, cast.payer, owner=cast.payer.address)
        replication = ReplicationContract.deploy(chain, cast.payer, block_ota=contract.address)
        found = Scene(contract, replication, cast, receipt.block_number)
        found.send(pair_call(PRODUCT))
        found.mine(DEPTH)
        yield found


def rights(reader: RightsReader) -> Rights:
    """Read the chain, and return the releases that may be served now."""
    reading = reader.read()
    return rights_at(reading.time, reading.claims)


def test_a_release_is_served_when_it_is_deep_enough(scene: Scene) -> None:
    """A publication or revocation takes effect only after the required confirmations."""
    reader = scene.vendor()
    made = scene.publish(b"image", Version(1, 1, 0), manifest=MANIFESTS[0])
    scene.mine(DEPTH - 1)
    assert rights(reader).roots == {}
    scene.mine(1)
    assert set(rights(reader).roots) == {made.cid, CID(RAW, MANIFESTS[0])}
    scene.send(revoke_call(PRODUCT.name, Version(1, 1, 0), reason="recalled"))
    scene.mine(DEPTH - 1)
    assert set(rights(reader).roots) == {made.cid, CID(RAW, MANIFESTS[0])}
    scene.mine(1)
    assert rights(reader).gone == {made.cid, CID(RAW, MANIFESTS[0])}


def test_a_count_that_the_node_invents_is_not_believed(scene: Scene) -> None:
    """Reading the agreements ends at the first empty page, even if the node reports a larger number of agreements."""

    class BoastfulContract(ReplicationContract):
        """A contract whose node reports the largest possible number of agreements."""

        def _ask(self, function: str, *arguments: Any, block: int | None = None) -> Any:
            return (1 << 64) - 1 if function == "agreementCount" else super()._ask(function, *arguments, block=block)

    scene.publish(b"image", Version(1, 1, 0), manifest=bytes(32))
    expires_at = scene.chain.head().time + 3600
    scene.replication.propose(scene.cast.broker, PRODUCT.name, version=Version(1, 1, 0), expires_at=expires_at)
    boastful = BoastfulContract(scene.chain, scene.replication.address)
    assert [agreement.number for agreement in boastful.agreements()] == [1]


def test_an_agreement_is_served_when_it_is_deep_enough(scene: Scene) -> None:
    """A broker may serve a release only after the acceptance of its agreement is confirmed."""
    made = scene.publish(b"image", Version(1, 1, 0), manifest=bytes(32))
    expires_at = scene.chain.head().time + 3600
    scene.replication.propose(scene.cast.broker, PRODUCT.name, version=made.version, expires_at=expires_at)
    proposed = scene.replication.agreement(1)
    assert proposed
    reader = scene.broker()
    scene.send(decision_call("accept", proposed), to=scene.replication.address)
    scene.mine(DEPTH - 1)
    assert rights(reader).roots == {}
    scene.mine(1)
    assert set(rights(reader).roots) == {made.cid}
    rpc(scene.chain, "anvil_reorg", DEPTH + 1, [])
    scene.mine(DEPTH)
    found = rights(reader)
    assert (found.roots, found.gone) == ({}, frozenset())


def test_a_reorganisation_removes_a_right(scene: Scene) -> None:
    """A reorganisation of more blocks than the confirmations removes the right to serve a release and its manifest."""
    reader = scene.vendor()
    made = scene.publish(b"image", Version(1, 1, 0), manifest=MANIFESTS[0])
    scene.mine(DEPTH)
    assert made.cid in rights(reader).roots
    rpc(scene.chain, "anvil_reorg", DEPTH + 1, [])
    scene.mine(1)
    found = rights(reader)
    assert (found.roots, found.gone) == ({}, frozenset())
    scene.publish(b"image", Version(1, 1, 0), manifest=MANIFESTS[1])
    scene.mine(DEPTH)
    assert set(rights(reader).roots) == {made.cid, CID(RAW, MANIFESTS[1])}


def test_agreements_expire_by_the_newest_block(scene: Scene) -> None:
    """The time that decides about expired agreements is the time of the newest block, which has no confirmations."""
    reading = scene.vendor().read()
    newest = scene.chain.head()
    assert (reading.block, reading.time) == (newest.number - DEPTH, newest.time)


def test_a_node_that_is_behind_takes_nothing_back(scene: Scene, tmp_path: Path) -> None:
    """A node that lags behind does not remove rights to serve, and the health report shows the lag."""
    scene.publish(b"image", Version(1, 1, 0), manifest=bytes(32))
    early = scene.chain.head().number
    scene.mine(DEPTH)
    chain = Lagging(scene.chain.url)
    catalogue = Catalogue(scene.vendor(chain).read, LocalStore(tmp_path))
    assert catalogue.health()["chainBlock"] == early
    chain.newest = early
    catalogue.refresh()
    assert (catalogue.health()["status"], catalogue.health()["releases"]) == ("stale", 1)
    assert "is behind" in str(catalogue.health()["trouble"])
    chain.newest = None
    catalogue.refresh()
    assert (catalogue.health()["status"], catalogue.health()["trouble"]) == ("incomplete", "")


class Lagging(Chain):
    """A node whose newest block can be replaced by an older block."""

    newest: int | None = None

    def head(self, number: int | None = None) -> BlockHead:
        """Return the head of a block, by default of the newest block."""
        return super().head(self.newest if number is None else number)


def test_a_restarted_chain_is_read_again(scene: Scene, cast: Cast) -> None:
    """After a development chain was restarted and has fewer blocks, the whole chain is read again."""
    reader = scene.vendor()
    scene.publish(b"image", Version(1, 1, 0), manifest=bytes(32))
    scene.mine(50)
    assert rights(reader).releases == 1
    rpc(scene.chain, "anvil_reset")
    rpc(scene.chain, "anvil_mine", hex(20))
    contract, _ = BlockOTAContract.deploy(scene.chain, cast.payer, owner=cast.payer.address)
    code = rpc(scene.chain, "eth_getCode", contract.address, "latest")
    rpc(scene.chain, "anvil_setCode", scene.contract.address, code)
    scene.mine(DEPTH)
    assert rights(reader).releases == 0


def test_events_are_searched_from_the_first_block_on(scene: Scene) -> None:
    """All manifests are found although the node, like many public nodes, cannot return events of earlier blocks."""
    oldest = scene.first_block

    def answer(body: bytes) -> tuple[int, bytes]:
        if method_of(body) == "eth_getLogs" and int(json.loads(body)["params"][0]["fromBlock"], 16) < oldest:
            return 200, refusal("pruned history unavailable", code=4444)
        return 200, post(scene.chain.url, body)

    with stand_in(answer) as url:
        reader = scene.vendor(Chain(url))
        scene.publish(b"image", Version(1, 1, 0), manifest=MANIFESTS[0])
        scene.mine(DEPTH)
        for _ in range(2):
            found = reader.read()
            assert (found.manifests_known, found.claims[0].manifest) == (True, CID(RAW, MANIFESTS[0]))
        scene.mine(600)
        oldest = scene.chain.head().number - 300
        assert reader.read().claims[0].manifest == CID(RAW, MANIFESTS[0])


def test_a_contract_that_is_too_new_is_waited_for(scene: Scene) -> None:
    """Until the contract's first block is confirmed, reading raises an error with the number of confirmations."""
    first_block = scene.chain.head().number - DEPTH + 1
    reader = RightsReader(scene.contract, Follower(scene.chain, confirmations=DEPTH, first_block=first_block))
    with pytest.raises(ChainError, match=r"not confirmed yet.*newest block is \d+, .* when 3 blocks follow it"):
        reader.read()
    scene.mine(1)
    assert isinstance(reader.read(), Reading)
