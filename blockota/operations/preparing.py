"""Prepare orders and bans for a signed-in person, who signs them with a wallet or with a command.

The room makes the same checks as the command, and simulates each call as a transaction of the person's account.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from blockota.approval.proposal import Proposal
from blockota.bindings.contract import Contract, refusals_in_words
from blockota.bindings.orders import group_arguments, order_arguments
from blockota.bindings.producers import ProducersContract
from blockota.connection import Connection
from blockota.errors import UsageError
from blockota.formats.abi import interface
from blockota.model.identity import ban_reason
from blockota.model.order import Group
from blockota.model.release import Version
from blockota.operations.city_reading import CityChain
from blockota.operations.commands import RoomCommand, Values
from blockota.operations.ordering import (
    WantedOrder,
    check_order,
    model_group,
    releases_of,
    require_operator,
    site_group,
)
from blockota.vendor.propose import Reason, propose_call

PROPOSAL_TIME = 7 * 86_400
"""Seconds after which a prepared proposal expires."""


@dataclass(frozen=True)
class PreparedCall:
    """A transaction that a person signs with a wallet or with a command.

    Attributes:
        words: a description of the transaction's effect.
        chain_id: id of the chain.
        to: address of the contract.
        data: the calldata.
        command: the command that sends the same transaction.
        values: the values of the command's parameters, except the key.
        network: name of the producer chain's network; empty for the first network of the room.
    """

    words: str
    chain_id: int
    to: str
    data: bytes
    command: RoomCommand
    values: Values
    network: str = ""

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of the transaction for a wallet."""
        return {"chainId": self.chain_id, "to": self.to, "data": f"0x{self.data.hex()}", "value": "0x0"}


def prepare_order(
    city: CityChain, vendor: Connection, wanted: WantedOrder, producer: str, account: str
) -> PreparedCall:
    """Prepare an operator's order.

    Args:
        city: the gateway chain.
        vendor: the producer chain with the release.
        wanted: the order.
        producer: name of the release's producer.
        account: address of the operator's account.

    Raises:
        RefusedError: the account may not order, the group is not defined, or the release may not be ordered.
        ChainError: a node is out of reach.
    """
    contract = releases_of(vendor.open(ProducersContract), producer)
    release, deadline = check_order(city.connection, vendor, contract, wanted, account)
    arguments = order_arguments(wanted.group, release, not_before=wanted.not_before, deadline=deadline)
    values = {"producer": producer, "group": wanted.group, "product": wanted.product, "version": str(wanted.version)}
    for name, moment in (("not_before", wanted.not_before), ("deadline", wanted.deadline)):
        if moment:
            values[name] = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M+00:00")
    words = f"The devices of the group {wanted.group} are to get {release}"
    shown = words, RoomCommand.ORDER_UPDATE, values
    return _prepared(city.orders, "order", arguments, account=account, shown=shown)


def prepare_group(city: CityChain, name: str, place: str, account: str) -> PreparedCall:
    """Prepare an operator's definition of a group.

    Args:
        city: the gateway chain.
        name: name of the new group.
        place: UUID of a gateway, or the name of a model.
        account: address of the operator's account.

    Raises:
        UsageError: the name is not valid.
        RefusedError: the account may not define groups, or the gateway or model does not exist.
        ChainError: the node is out of reach.
    """
    require_operator(city.identities, account)
    site: UUID | None = None
    with suppress(ValueError):  # the name of a model
        site = UUID(place)

    group: Group = site_group(city.identities, name, site) if site else model_group(city.devices, name, place)
    words = f"The group {name} has all devices of {f'the gateway {site}' if site else f'the model {place}'}"
    shown = words, RoomCommand.DEFINE_GROUP, {"name": name, "site" if site else "model": str(site or place)}
    return _prepared(city.orders, "defineGroup", group_arguments(group), account=account, shown=shown)


def prepare_ban(city: CityChain, uuid: UUID, reason: str, account: str) -> PreparedCall:
    """Prepare an Administrator's ban of an identity.

    Raises:
        UsageError: the reason is empty, too long, or not printable ASCII.
        RefusedError: the identity is not enrolled, or the account may not ban it.
        ChainError: the node is out of reach.
    """
    found = city.identities.known_identity(uuid)
    words = f"The {found.kind} {uuid} is banned at once"
    arguments = (uuid.bytes, ban_reason(reason))
    shown = words, RoomCommand.BAN_IDENTITY, {"name": str(uuid), "cause": reason}
    return _prepared(city.identities, "ban", arguments, account=account, shown=shown)


def propose_ban(city: CityChain, uuid: UUID, reason: str, *, now: int) -> Proposal:
    """Prepare a proposal by which the city's Safe bans an identity, such as an Administrator.

    Raises:
        UsageError: the reason is empty, too long, or not printable ASCII.
        RefusedError: the identity is not enrolled, or the contract would refuse the ban.
        ChainError: the node is out of reach.
    """
    city.identities.known_identity(uuid)
    why = Reason(reason, now, PROPOSAL_TIME)
    return propose_call(city.identities, "ban", uuid.bytes, ban_reason(reason), reason=why)


def _prepared(
    contract: Contract,
    function: str,
    arguments: Sequence[Any],
    *,
    account: str,
    shown: tuple[str, RoomCommand, Values],
) -> PreparedCall:
    """Encode a call, and simulate it as a transaction of the person's account."""
    data = interface(contract.NAME).encode_call(function, *arguments)
    with refusals_in_words():
        contract.chain.call(contract.address, data, sender=account)
    words, command, values = shown
    return PreparedCall(words, contract.chain.chain_id, contract.address, data, command, values)


def version_of(text: str) -> Version:
    """Return the version of a form.

    Raises:
        UsageError: the text is not a version.
    """
    try:
        return Version.parse(text)
    except ValueError as error:
        raise UsageError(f"{text!r:.40} is not a version", why="a version is three numbers, such as 1.4.0") from error
