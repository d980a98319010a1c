"""Decode the events of several contracts, as `blockota.chain.follow` returns them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blockota.chain import Log
from blockota.errors import RefusedError
from blockota.formats.abi import DecodingError, interface

GATEWAY_CONTRACTS = ("IdentityRegistry", "DeviceRegistry", "UpdateLedger", "UpdateOrders")
"""The contracts on a gateway chain. `Producers` is on a producer chain, beside the vendors' contracts."""


@dataclass(frozen=True)
class DecodedEvent:
    """An event of a contract.

    Attributes:
        contract: the contract's name in the Solidity source, such as ``UpdateOrders``.
        name: the event's name, such as ``OrderPlaced``.
        arguments: the event's arguments by name.
        log: the event as the node returned it, with its block and transaction.
    """

    contract: str
    name: str
    arguments: Mapping[str, Any]
    log: Log


def read_events(logs: Iterable[Log], contracts: Mapping[str, str]) -> Iterator[DecodedEvent]:
    """Decode events. Events that this version of BlockOTA does not know are skipped.

    Args:
        logs: the events.
        contracts: the name of the contract at each address.

    Yields:
        The decoded events, in the order of the logs.

    Raises:
        RefusedError: an event's arguments cannot be decoded. Either the address belongs to another contract, or the
            node's answer is wrong.
    """
    names = {address.lower(): name for address, name in contracts.items()}
    for log in logs:
        contract = names[log.address.lower()]
        try:
            event = interface(contract).decode_event(log.topics, log.data)
        except DecodingError as error:
            raise RefusedError(
                f"an event of {contract} is not valid",
                why=f"in block {log.block_number}, transaction 0x{log.transaction.hex()}: {error}",
                remedy=f"compare the address of {contract} in blockota.toml with the settings of the city, or use "
                "another node",
            ) from error

        if event:
            yield DecodedEvent(contract, event.name, event.arguments, log)
