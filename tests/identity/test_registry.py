"""A registry reader reads all records at one block, so a ban takes effect with the next block.

While the node is unreachable, senders without a stored record are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from blockota.bindings.identities import IdentitiesContract, enrolment_argument
from blockota.chain import BlockHead, Chain
from blockota.errors import ChainError
from blockota.formats.public_key import read_pem
from blockota.identity import registry as registry_module
from blockota.identity.receiving import Received, ReceiverParts, RequestReceiver
from blockota.identity.registry import IdentityReader
from blockota.identity.request_state import RequestState
from blockota.identity.validator import METHODS
from blockota.identity.warnings import WarningMaker
from blockota.model.identity import Enrolment, Identity, IdentityKind, Keys
from blockota.model.request import Fault, Receiver
from tests.support.city import City
from tests.support.foreign_requests import ForeignSender
from tests.support.relay import Relay, relayed
from tests.support.validators import VALIDATOR
from tests.support.waiting import DEADLINE

KNOWN = ForeignSender("ES256", number=30)
PLACE = IPv4Address("10.64.1.30")


class Clock:
    """A clock of monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture(scope="module", autouse=True)
def _enrolled(city: City) -> None:
    """Enrol a gateway with a virtual IP."""
    enrol(city, KNOWN, PLACE)


def enrol(city: City, sender: ForeignSender, address: IPv4Address | None = None) -> None:
    """Enrol a gateway."""
    enrolment = Enrolment(sender.uuid, IdentityKind.GATEWAY, Keys(read_pem(sender.pem.decode())), address)
    city.decide("identities", "enrol", enrolment_argument(enrolment))


@pytest.fixture
def relay(city: City) -> Iterator[Relay]:
    """A relay in front of the node."""
    with relayed(urlsplit(city.chain.url).port or 0) as found:
        yield found


def reader_of(city: City, relay: Relay, clock: Clock, *, is_watched: bool = False) -> IdentityReader:
    """Return a reader that reaches the node through a relay."""

    def open_contract() -> IdentitiesContract:
        chain = Chain(f"http://127.0.0.1:{relay.port}", chain_id=city.chain.chain_id)
        return IdentitiesContract(chain, city.deployment.registries["identities"])

    return IdentityReader(open_contract, is_watched=is_watched, clock=clock)


def test_a_record_is_valid_for_its_block(city: City, relay: Relay) -> None:
    """A ban is visible in the first reading after the poll interval of 0.25 s.

    Two readings within the interval refer to the same block.
    """
    sender, clock = ForeignSender("ES256", number=31), Clock()
    enrol(city, sender)
    reader = reader_of(city, relay, clock)
    assert not is_banned(reader, sender.uuid)
    city.decide("identities", "ban", sender.uuid.bytes, b"test".ljust(32, b"\0"))
    assert not is_banned(reader, sender.uuid)
    clock.now += 0.25
    assert is_banned(reader, sender.uuid)


def is_banned(reader: IdentityReader, uuid: UUID) -> bool:
    """Return whether the record of an identity has a ban."""
    identity = reader.reading(uuid, "").identity
    assert identity
    return identity.banned


def test_a_virtual_ip_belongs_to_one_identity(city: City, relay: Relay) -> None:
    """The owner of a virtual IP is found, even if its identity was enrolled after the first reading.

    An address that is not a virtual IP of the registry has no owner.
    """
    clock = Clock()
    reader = reader_of(city, relay, clock)
    assert reader.reading(uuid4(), str(PLACE)).address_owner == KNOWN.uuid
    assert reader.reading(KNOWN.uuid, f"::ffff:{PLACE}").address_owner == KNOWN.uuid
    later, place = ForeignSender("ES256", number=32), IPv4Address("10.64.1.32")
    assert reader.reading(KNOWN.uuid, str(place)).address_owner is None
    enrol(city, later, place)
    clock.now += 0.25
    assert reader.reading(KNOWN.uuid, str(place)).address_owner == later.uuid
    assert [reader.reading(KNOWN.uuid, one).address_owner for one in ("192.0.2.1", "mqtt", "::1", "")] == [None] * 4
    found = reader.identity_at(str(place))
    assert found
    assert found.uuid == later.uuid


@pytest.mark.parametrize("is_watched", [False, True])
def test_without_the_node_known_records_stay_and_others_are_unknown(
    city: City, relay: Relay, *, is_watched: bool
) -> None:
    """During an outage of the node, the reader still returns known records with the time of their block.

    Records that were not read before cannot be read until the node is back.
    """
    clock = Clock()
    reader = reader_of(city, relay, clock, is_watched=is_watched)
    reader.refresh()
    before = reader.reading(KNOWN.uuid, "")
    relay.cut()
    for _ in range(5):
        clock.now += 5
        if is_watched:
            with pytest.raises(ChainError):
                reader.refresh()
        assert reader.reading(KNOWN.uuid, "") == before
        with pytest.raises(ChainError, match="out of reach"):
            reader.reading(uuid4(), "")
    relay.restore()
    clock.now += 5
    reader.refresh()
    assert reader.reading(uuid4(), "").identity is None


class ScriptedRegistry:
    """A registry whose newest block and records a test sets; it also acts as its own chain."""

    def __init__(self, *blocks: BlockHead) -> None:
        self.blocks, self.records = list(blocks), [record_of(KNOWN.uuid, PLACE)]
        self.asked: list[int | None] = []

    @property
    def chain(self) -> ScriptedRegistry:
        """The node."""
        return self

    def head(self) -> BlockHead:
        """Return the next block; after the last block, return the last block again."""
        return self.blocks.pop(0) if len(self.blocks) > 1 else self.blocks[0]

    def identity(self, uuid: UUID, *, block: int | None = None) -> Identity | None:
        """Return a record."""
        self.asked.append(block)
        return next((one for one in self.records if one.uuid == uuid), None)

    def count(self, *, block: int | None = None) -> int:
        """Return the number of records."""
        return len(self.records) if block is not None else 0

    def identities(self, *, block: int | None = None) -> Iterator[Identity]:
        """Yield the records, newest first."""
        return reversed(self.records if block is not None else [])

    def reader(self, clock: Clock) -> IdentityReader:
        """Return a reader of this registry, which reads a block at each call of `refresh`."""
        return IdentityReader(lambda: cast(IdentitiesContract, self), is_watched=True, clock=clock)


def record_of(uuid: UUID, address: IPv4Address) -> Identity:
    """Return the record of a gateway."""
    keys = Keys(read_pem(KNOWN.pem.decode()))
    return Identity(uuid, IdentityKind.GATEWAY, keys, address, False, None, False, 0, 0, None)  # noqa: FBT003


def block(number: int, time: int, branch: bytes = b"a") -> BlockHead:
    """Return a block of a branch."""
    return BlockHead(number, time, branch + bytes([number]))


@pytest.mark.parametrize("is_watched", [False, True])
def test_a_node_that_hangs_is_not_waited_for(
    city: City, relay: Relay, monkeypatch: pytest.MonkeyPatch, *, is_watched: bool
) -> None:
    """If the node does not answer in time, reading an unknown record raises an error. Known records stay."""
    clock = Clock()
    reader = reader_of(city, relay, clock, is_watched=is_watched)
    reader.refresh()
    before = reader.reading(KNOWN.uuid, "")
    relay.is_silent = True
    monkeypatch.setattr(registry_module, "TIMEOUT", 0.05)
    with pytest.raises(ChainError, match="out of reach") as refused:
        reader.reading(uuid4(), "")
    assert refused.value.why == "no answer in time"
    assert reader.reading(KNOWN.uuid, "") == before
    relay.is_silent = False
    monkeypatch.setattr(registry_module, "TIMEOUT", DEADLINE)
    clock.now += 1
    reader.refresh()
    assert reader.reading(uuid4(), "").identity is None


def test_a_node_that_lags_behind_is_not_followed() -> None:
    """If the node reports an older block than before, the reading is refused.

    A node that lags behind may lack new bans.
    A new chain is followed.
    """
    registry, clock = ScriptedRegistry(block(9, 90), block(7, 70), block(2, 95, b"new")), Clock()
    reader = registry.reader(clock)
    reader.refresh()
    with pytest.raises(ChainError, match="behind"):
        reader.refresh()
    assert reader.reading(KNOWN.uuid, "").block_time == 90
    assert registry.asked == [9]
    reader.refresh()
    assert reader.reading(KNOWN.uuid, "").block_time == 95


def test_virtual_ips_follow_a_reorganisation() -> None:
    """If a reorganisation removes an enrolment, the reader no longer returns the record.

    The new branch may be longer than the old branch, or equally long.
    The virtual IP of a removed enrolment has no owner.
    """
    registry, clock = ScriptedRegistry(block(7, 70), block(8, 80, b"b"), block(8, 80, b"c")), Clock()
    other, place = uuid4(), IPv4Address("10.64.1.99")
    registry.records.append(record_of(other, place))
    reader = registry.reader(clock)
    reader.refresh()
    assert reader.reading(KNOWN.uuid, str(place)).address_owner == other
    registry.records.pop()
    reader.refresh()
    assert reader.reading(KNOWN.uuid, str(place)).address_owner is None
    assert reader.reading(uuid4(), str(PLACE)).address_owner == KNOWN.uuid
    registry.records[0] = record_of(KNOWN.uuid, place)
    reader.refresh()
    assert reader.reading(uuid4(), str(PLACE)).address_owner is None
    assert reader.reading(uuid4(), str(place)).address_owner == KNOWN.uuid


def test_a_reader_opens_the_registry_when_the_node_is_there(city: City, relay: Relay) -> None:
    """A reader can be made while the node is out of reach, and reads when the node is back."""
    clock = Clock()
    relay.cut()
    reader = reader_of(city, relay, clock)
    with pytest.raises(ChainError, match="out of reach"):
        reader.reading(KNOWN.uuid, "")
    relay.restore()
    clock.now += 5
    assert reader.reading(KNOWN.uuid, "").identity


def test_an_old_block_refuses_every_request(city: City, relay: Relay, tmp_path: Path) -> None:
    """Requests are accepted up to the maximum age of the newest block (60 s), and refused one second later.

    A refusal because of an old block is not logged as a warning, because the sender is not at fault.
    """
    reader = reader_of(city, relay, Clock())
    reader.refresh()
    head = reader.head
    assert head
    time = [head.time + 60]
    with RequestState(tmp_path / "state.sqlite") as state:
        parts = ReceiverParts(reader, state, WarningMaker(VALIDATOR), lambda: time[0])
        receiver = RequestReceiver(Receiver(VALIDATOR, METHODS, max_age=60), parts, keep=lambda some: [{}] * len(some))

        def receive() -> Received:
            return receiver.receive(KNOWN.request(iat=time[0]), address="")

        assert receive().fault is None
        time[0] += 1
        refused = receive()
        assert (refused.fault, refused.warning, state.waiting()) == (Fault.REGISTRY_STALE, "", 0)
