"""Read a producer chain: the admitted producers, and all releases of the products that the site's devices may run.

All records are read at one confirmed block. A contract is read again only after it has emitted an event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from blockota.bindings.block_ota import BlockOTAContract, Publication, publication_of, published_manifests
from blockota.bindings.producers import ProducersContract
from blockota.bindings.replication import ReplicationContract
from blockota.chain import Chain
from blockota.chain.follow import Follower, Position
from blockota.errors import BlockOTAError, RefusedError, UnreachableError
from blockota.formats.cid import CID
from blockota.model.facts import ChainAnswer
from blockota.model.release import Product, Release, Status, product_key
from blockota.model.target import Component


@dataclass(frozen=True)
class ProductReading:
    """A product with all its releases at a confirmed block.

    Attributes:
        product: the record of the product.
        releases: the releases, newest first.
        manifests: content addresses of the manifests, by version; None for a release without a manifest.
        withheld: why the releases must not be installed, for example because the contract is paused; empty if they may.
        ahead: the newest release, if it is not confirmed yet; None if the newest release is confirmed.
    """

    product: Product
    releases: tuple[Release, ...]
    manifests: Mapping[Publication, CID | None]
    withheld: str = ""
    ahead: Release | None = None


@dataclass(frozen=True)
class ProducerReading:
    """The records of a producer chain at one confirmed block.

    Attributes:
        position: the block.
        products: the records of the wanted products. A product is missing if it does not exist, or if its contract is
            not followed.
        replications: for each BlockOTA contract, by its address: the contract that stores the agreements with brokers.
        faults: contracts that could not be read, each with the reason.
        confirmations: the number of blocks that follow a confirmed block.
    """

    position: Position
    products: Mapping[Component, ProductReading]
    replications: Mapping[str, ReplicationContract]
    faults: Mapping[str, str]
    confirmations: int = 0

    def answer(self, component: Component, release: Release) -> ChainAnswer:
        """Return the facts on the chain that checks 1 to 5 of a release need. The release must be in `products`."""
        found, block = self.products[component], self.position.block
        active = (one for one in found.releases if is_active(one, block.time))
        return ChainAnswer(
            chain_id=component.chain_id,
            contract=component.contract,
            block_number=block.number,
            block_time=block.time,
            newest_block=self.position.newest.number,
            paused=False,
            requested=component.product,
            product=found.product,
            version=release.version,
            release=release,
            newest=next((one.version for one in active), None),
        )


def is_active(release: Release, time: int) -> bool:
    """Whether a release is not revoked, and in effect at a time."""
    return release.status is Status.ACTIVE and release.active_from <= time


@dataclass
class _ContractState:
    """The last reading of a BlockOTA contract."""

    next_block: int = 0
    is_changed: bool = True
    is_paused: bool = False
    manifests: dict[Publication, CID | None] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=dict)
    releases: dict[str, tuple[Release, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Followed:
    """The facts about a followed BlockOTA contract.

    Attributes:
        replication: address of the contract that stores the agreements with brokers; None if no contract stores them.
        is_suspended: whether the producer is suspended.
    """

    replication: str | None = None
    is_suspended: bool = False


class ProducerChain:
    """Reads a producer chain.

    Args:
        chain: the chain.
        follower: follows the chain.
        confirmations: the number of blocks that follow a confirmed block.
        producers: the consortium's contract; None to follow only the contracts in `contracts`.
        contracts: the BlockOTA contracts to follow, each with the contract that stores its agreements with brokers. If
            the mapping is empty, the contracts in `producers` are followed.
    """

    def __init__(
        self,
        chain: Chain,
        follower: Follower,
        *,
        confirmations: int,
        producers: ProducersContract | None,
        contracts: Mapping[str, str | None],
    ) -> None:
        self._chain, self._follower, self._confirmations = chain, follower, confirmations
        self._producers, self._named = producers, contracts
        self._followed: dict[str, _Followed] | None = None
        self._next_block = 0
        self._states: dict[str, _ContractState] = {}

    @property
    def chain_id(self) -> int:
        """Id of the chain."""
        return self._chain.chain_id

    def read(self, wanted: Collection[Component]) -> ProducerReading:
        """Read products at the newest confirmed block.

        Args:
            wanted: the products that the site's Specs allow. Products on other chains are skipped.

        Raises:
            ChainError: the node is out of reach or lags behind, or the chain was reorganised during the read.
            RefusedError: the return data of the consortium's contract is not valid.
        """
        # (1) The confirmed block. After a reorganisation, everything is read again.
        position = self._follower.advance()
        if position.reorganised_from is not None:
            self._followed, self._states, self._next_block = None, {}, 0
        at = position.block.number

        # (2) The contracts that are followed, and the products of them that are wanted.
        followed = self._read_followed(at)
        products: dict[str, set[str]] = {}
        for one in wanted:
            if one.chain_id == self.chain_id and one.contract in followed:
                products.setdefault(one.contract, set()).add(one.product)

        # (3) Read the contracts whose events report a change.
        found: dict[Component, ProductReading] = {}
        faults: dict[str, str] = {}
        for address, names in products.items():
            try:
                found |= self._read_contract(address, names, at=at, is_suspended=followed[address].is_suspended)
            except UnreachableError:
                raise
            except BlockOTAError as error:  # a Spec can list an address that is not a BlockOTA; read the others
                faults[address] = f"{error.what}: {error.why}"

        # (4) The confirmed block is still on the chain.
        self._follower.check()
        self._next_block = at + 1
        for address in products.keys() - faults.keys():
            self._states[address].is_changed, self._states[address].next_block = False, at + 1
        self._follower.acknowledge()
        agreements = {address: followed[address].replication for address in products}
        replications = {address: ReplicationContract(self._chain, one) for address, one in agreements.items() if one}
        return ProducerReading(position, found, replications, faults, self._confirmations)

    def with_newest(self, reading: ProducerReading) -> ProducerReading:
        """Add the newest unconfirmed releases, so that their images can be found before the confirmation.

        Raises:
            ChainError: the node is out of reach.
        """
        if reading.position.newest.number == reading.position.block.number:
            return reading
        found = dict(reading.products)
        for address in {one.contract for one in found}:
            names = [one.product for one in found if one.contract == address]
            for release in BlockOTAContract(self._chain, address).newest(names):
                component = Component(self.chain_id, address, release.product)
                if release not in found[component].releases:
                    found[component] = replace(found[component], ahead=release)
        return replace(reading, products=found)

    def _read_followed(self, at: int) -> dict[str, _Followed]:
        """Return the facts about each BlockOTA contract to follow, by the address of the contract."""
        if self._producers is None:
            return {address: _Followed(second) for address, second in self._named.items()}

        events = self._follower.events(self._producers.address, first_block=self._next_block)
        if self._followed is None or events:
            admitted = {one.block_ota: one for one in self._producers.producers(block=at)}
            chosen = self._named or {address: one.replication for address, one in admitted.items()}
            self._followed = {
                address: _Followed(second, is_suspended=address in admitted and admitted[address].suspended)
                for address, second in chosen.items()
            }
        return self._followed

    def _read_contract(
        self, address: str, names: set[str], *, at: int, is_suspended: bool
    ) -> dict[Component, ProductReading]:
        state = self._states.setdefault(address, _ContractState())
        contract = BlockOTAContract(self._chain, address)
        events = self._follower.events(address, first_block=state.next_block)
        state.manifests |= published_manifests(events)

        # A contract is read again only after an event, or for a product that was not wanted before.
        if events:
            state.is_changed = True
        if state.is_changed or names - state.releases.keys():
            state.is_paused = contract.is_paused(block=at)
            state.products = {one.name: one for one in contract.products(block=at) if one.name in names}
            releases = contract.histories(state.products, block=at)
            state.releases = {name: tuple(one for one in releases if one.product == name) for name in names}

        # Nothing is offered from a suspended producer, a paused contract, or a product that is not paired.
        stopped = ""
        if is_suspended:
            stopped = "the producer is suspended"
        elif state.is_paused:
            stopped = "the contract is paused"
        found = {}
        for name, product in state.products.items():
            if name in names:
                manifests = {one: cid for one, cid in state.manifests.items() if one[0] == product_key(name)}
                withheld = stopped or ("" if product.paired else "the product is not paired")
                reading = ProductReading(product, state.releases[name], manifests, withheld=withheld)
                found[Component(self.chain_id, address, name)] = reading
        return found


def manifest_of(reading: ProductReading, release: Release) -> CID | None:
    """Return the address of the manifest of a release; None if the release has no manifest.

    Raises:
        RefusedError: the event of the publication was not found, so the address of the manifest is unknown.
    """
    name = publication_of(release)
    if name not in reading.manifests:
        raise RefusedError(
            f"the event that published {release.product} {release.version} was not found",
            why="the node does not have this log of the contract",
            remedy="use another node, or correct first_block in blockota.toml",
        )
    return reading.manifests[name]
