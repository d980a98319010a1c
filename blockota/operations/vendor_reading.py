"""Read a producer chain for the operations room: producers, releases and agreements at one block."""

from __future__ import annotations

from dataclasses import dataclass, field

from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.events import read_events
from blockota.bindings.producers import ProducersContract
from blockota.bindings.replication import ReplicationContract
from blockota.chain.follow import Follower
from blockota.chain.records import BlockHead
from blockota.connection import Connection
from blockota.model.agreement import Agreement
from blockota.model.release import Release
from blockota.operations.happenings import HappeningWriter


@dataclass(frozen=True)
class VendorReading:
    """The records of a producer chain at one confirmed block.

    Attributes:
        chain_id: id of the chain.
        block: the confirmed block.
        newest: the newest block.
        producers: the name of each BlockOTA contract's producer, by address.
        suspended: the names of suspended producers.
        releases: the releases of each contract, by address.
        agreements: all agreements of producers with brokers.
    """

    chain_id: int
    block: BlockHead
    newest: BlockHead
    producers: dict[str, str] = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()
    releases: dict[str, tuple[Release, ...]] = field(default_factory=dict)
    agreements: tuple[Agreement, ...] = ()


class VendorChain:
    """Reads a producer chain. Releases and agreements are read again only after a new event.

    Args:
        connection: the chain with its contracts.
        follower: follows the chain.
        writer: writes the events of the chain into the archive.
    """

    CONTRACTS = (ProducersContract.NAME, BlockOTAContract.NAME, ReplicationContract.NAME)

    def __init__(self, connection: Connection, follower: Follower, writer: HappeningWriter) -> None:
        self._connection, self._follower, self._writer = connection, follower, writer
        self._next_block = 0
        self._known: VendorReading | None = None

    def read(self) -> VendorReading:
        """Read the records of the chain at the newest confirmed block.

        Raises:
            ChainError: the node is out of reach or lags behind, or the chain was reorganised during the read.
            RefusedError: a contract's answer is not valid.
        """
        position = self._follower.advance()
        if position.reorganised_from is not None:
            self._known, self._next_block = None, 0
            self._writer.drop(position.reorganised_from)
        known, at = self._known, position.block.number

        names, producers, suspended = self._contracts(at)
        logs = self._follower.events(*names, first_block=self._next_block)
        events = list(read_events(logs, names))
        is_same = known is not None and not events and known.producers == producers
        releases = known.releases if known and is_same else self._releases(producers, at)
        agreements = known.agreements if known and is_same else self._agreements(names, at)
        self._follower.check()
        self._writer.write(events)
        self._follower.acknowledge()
        self._next_block = at + 1
        chain_id = self._connection.chain.chain_id
        self._known = VendorReading(
            chain_id, position.block, position.newest, producers, suspended, releases, agreements
        )
        return self._known

    def _contracts(self, at: int) -> tuple[dict[str, str], dict[str, str], frozenset[str]]:
        """Return the contracts to follow with their names, the producers by contract, and the suspended producers."""
        settings = self._connection.settings
        names, producers = dict[str, str](), dict[str, str]()
        suspended = frozenset[str]()

        if settings.registries.get(ProducersContract.SETTING):
            contract = self._connection.open(ProducersContract)
            names[contract.address] = ProducersContract.NAME
            admitted = contract.producers(block=at)
            for one in admitted:
                names[one.block_ota], producers[one.block_ota] = BlockOTAContract.NAME, one.name
                if one.replication:
                    names[one.replication] = ReplicationContract.NAME
            suspended = frozenset(one.name for one in admitted if one.suspended)

        if settings.contract:
            names[settings.contract] = BlockOTAContract.NAME
            producers.setdefault(settings.contract, "vendor")
        if settings.replication:
            names[settings.replication] = ReplicationContract.NAME

        return names, producers, suspended

    def _releases(self, producers: dict[str, str], at: int) -> dict[str, tuple[Release, ...]]:
        found = {}
        for address in producers:
            contract = BlockOTAContract(
                self._connection.chain, address, first_block=self._connection.settings.first_block
            )
            products = [one.name for one in contract.products(block=at)]
            found[address] = tuple(contract.histories(products, block=at)) if products else ()
        return found

    def _agreements(self, names: dict[str, str], at: int) -> tuple[Agreement, ...]:
        contracts = [address for address, name in names.items() if name == ReplicationContract.NAME]
        chain = self._connection.chain
        return tuple(one for address in contracts for one in ReplicationContract(chain, address).agreements(block=at))
