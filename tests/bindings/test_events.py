"""Tests of the decoder of several contracts' events."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_utils.crypto import keccak

from blockota.bindings.contract import create
from blockota.bindings.events import GATEWAY_CONTRACTS, DecodedEvent, read_events
from blockota.bindings.identities import enrolment_argument
from blockota.chain import Chain, Log
from blockota.chain.event_store import EventStore
from blockota.chain.follow import Follower
from blockota.errors import RefusedError
from blockota.formats.abi import artifact, encode, interface
from tests.conftest import Cast
from tests.support.identities import UUIDS, enrolment_of

ORDERS, IDENTITIES = "0x" + "0a" * 20, "0x" + "0b" * 20
CONTRACTS = {ORDERS: "UpdateOrders", IDENTITIES: "IdentityRegistry"}
UUID = bytes(range(16))
BANNED = Log(
    (keccak(text="IdentityBanned(bytes16,bytes16,bytes32)"), UUID.ljust(32, b"\0"), bytes(32)),
    b"lost".ljust(32, b"\0"),
    7,
    bytes(32),
    IDENTITIES,
    1,
    bytes(32),
)
PLACED = Log(
    (
        keccak(text="OrderPlaced(uint64,bytes32,bytes16,uint64,address,bytes32,uint64,uint40,uint40)"),
        *(encode([kind], [value]) for kind, value in (("uint64", 5), ("bytes32", b"g" * 32), ("bytes16", UUID))),
    ),
    encode(
        ("uint64", "address", "bytes32", "uint64", "uint40", "uint40"), (1337, ORDERS, b"p" * 32, 1 << 32, 100, 200)
    ),
    8,
    bytes(32),
    ORDERS,
    0,
    bytes(32),
)


def test_events_of_several_contracts_are_decoded_in_order() -> None:
    """Each event is decoded with the ABI of the contract at its address; events missing from the ABI are skipped."""
    unknown = BANNED._replace(topics=(bytes(32),))
    anonymous = BANNED._replace(topics=())
    banned, placed = read_events([BANNED, unknown, anonymous, PLACED], CONTRACTS)
    assert banned == DecodedEvent(
        "IdentityRegistry",
        "IdentityBanned",
        {"uuid": UUID, "by": bytes(16), "reason": b"lost".ljust(32, b"\0")},
        BANNED,
    )
    assert (placed.name, placed.arguments["id"], placed.arguments["operator"]) == ("OrderPlaced", 5, UUID)
    assert placed.arguments["deadline"] == 200


def test_an_event_that_cannot_be_decoded_is_refused() -> None:
    """An event with too few arguments raises an error with the contract, the block and the transaction."""
    with pytest.raises(RefusedError, match=r"an event of IdentityRegistry is not valid: in block 7, transaction 0x00"):
        list(read_events([BANNED._replace(data=b"")], CONTRACTS))


def zero_of(kind: str) -> object:
    """Return the zero value of an ABI type."""
    if kind.endswith("[]"):
        return []
    zeros = {"string": "", "bytes": b"", "bool": False, "address": "0x" + "00" * 20}
    if kind in zeros:
        return zeros[kind]
    return bytes(int(kind.removeprefix("bytes"))) if kind.startswith("bytes") else 0


@pytest.mark.parametrize("contract", ["Producers", *GATEWAY_CONTRACTS])
def test_every_event_of_the_contracts_can_be_decoded(contract: str) -> None:
    """All arguments of the contracts' events have supported types, and all indexed arguments have one word."""
    for event in (entry for entry in artifact(contract)["abi"] if entry["type"] == "event"):
        indexed = [one["type"] for one in event["inputs"] if one["indexed"]]
        assert not {kind for kind in indexed if kind in {"bytes", "string"} or kind.endswith("[]")}
        others = [one["type"] for one in event["inputs"] if not one["indexed"]]
        values = [zero_of(kind) for kind in others]
        signature = f"{event['name']}({','.join(one['type'] for one in event['inputs'])})"
        log = BANNED._replace(topics=(keccak(text=signature), *[bytes(32)] * len(indexed)), data=encode(others, values))
        assert [found.name for found in read_events([log], {IDENTITIES: contract})] == [event["name"]]


def test_a_restarted_gateway_continues_after_the_events_that_it_has_processed(
    anvil: Chain, cast: Cast, tmp_path: Path
) -> None:
    """On a real node, each event of two contracts is decoded exactly once, although the gateway restarts."""
    owner = cast.payer
    start = anvil.head().number
    identities, _ = create(anvil, owner, "IdentityRegistry", owner.address)
    names = {
        identities: "IdentityRegistry",
        create(anvil, owner, "DeviceRegistry", owner.address, identities)[0]: "DeviceRegistry",
    }
    processed, seen = start, list[str]()
    registry = interface("IdentityRegistry")
    for call in (
        registry.encode_call("enrol", enrolment_argument(enrolment_of(1))),
        registry.encode_call("ban", UUIDS[1].bytes, b"lost".ljust(32, b"\0")),
    ):
        anvil.send(owner, call, to=identities)
        with EventStore.open(tmp_path / "events.sqlite", chain_id=anvil.chain_id) as store:
            follower = Follower(anvil, first_block=start, store=store)
            position = follower.advance()
            for event in read_events(follower.events(*names, first_block=processed + 1), names):
                seen.append(f"{event.contract}.{event.name}")
            follower.check()
            processed = position.block.number
            follower.acknowledge()
    assert seen == [
        "IdentityRegistry.OwnershipTransferred",
        "DeviceRegistry.OwnershipTransferred",
        "IdentityRegistry.IdentityEnrolled",
        "IdentityRegistry.IdentityBanned",
    ]
