"""The contract UpdateOrders: read groups and orders as values, and send orders as an operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from blockota.bindings.contract import Contract, status_of
from blockota.chain import BlockHead, Log, Receipt
from blockota.errors import Action, RefusedError
from blockota.formats.abi import interface
from blockota.model.order import Group, GroupKind, Order, OrderStatus
from blockota.model.receipt import ReleaseId
from blockota.model.release import Version, product_key, product_name

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount


class OrdersContract(Contract):
    """The contract with the groups of devices and the orders of a city's operators."""

    NAME, SETTING = "UpdateOrders", "orders"

    def group(self, name: str, *, block: int | None = None) -> Group | None:
        """Return a group; None if the group is not defined."""
        record = self._ask("group", product_key(name), block=block)
        if not record["kind"]:
            return None
        kind = status_of(GroupKind, record["kind"], of="a group", setting=self.SETTING)
        return Group(name, kind, record["value"], UUID(bytes=record["operator"]), record["definedAt"])

    def known_group(self, name: str) -> Group:
        """Return a group.

        Raises:
            RefusedError: no operator has defined the group.
        """
        found = self.group(name)
        if found is None:
            raise RefusedError(
                f"the group {name!r:.60} is not defined",
                why=f"the contract {self.address} has no record of it",
                remedy="check the name, or define the group",
            )
        return found

    def define_group(self, account: BaseAccount, group: Group) -> Receipt:
        """Define a group, as an operator.

        Raises:
            ContractRefusalError: the account may not define groups, or the group is defined already.
        """
        return self._send(account, "defineGroup", *group_arguments(group))

    def order(
        self, account: BaseAccount, group: str, release: ReleaseId, *, not_before: int, deadline: int
    ) -> tuple[int, Receipt]:
        """Order a release for the devices of a group, as an operator.

        Returns:
            The number of the order, and the receipt of the transaction.

        Raises:
            ContractRefusalError: the account may not order, the group or the window is wrong, the model does not allow
                the product, or an order for the product is already open.
        """
        arguments = order_arguments(group, release, not_before=not_before, deadline=deadline)
        receipt = self._send(account, "order", *arguments)
        for log in receipt.logs:
            placed = interface(self.NAME).decode_event(log.topics, log.data)
            if placed and placed.name == "OrderPlaced":
                return int(placed.arguments["id"]), receipt
        raise AssertionError("the receipt of an order has no OrderPlaced event")

    def cancel(self, account: BaseAccount, order: Order) -> Receipt:
        """Cancel an open order, as its operator or as an administrator.

        Raises:
            ContractRefusalError: the account may not cancel the order, or the order is not open.
        """
        return self._send(account, "cancel", *_key(order.group, order.release), order.number)

    def orders(self) -> list[Order]:
        """Read all orders from the contract's events, sorted by number, with their status at the newest block.

        For each group and product, the contract stores only the newest order. A new order is possible only after the
        previous order was cancelled, expired or became void.
        """
        head = self.chain.head()
        events = self.chain.logs(self.address, [], from_block=self.first_block, to_block=head.number)
        return self.orders_in(events, head)

    def orders_in(self, logs: Iterable[Log], head: BlockHead) -> list[Order]:
        """Return the orders that the given events describe, with their status at a block.

        Args:
            logs: all events of the contract up to the block.
            head: the block.
        """
        decoded = [(log, event) for log in logs if (event := interface(self.NAME).decode_event(log.topics, log.data))]
        placed = [
            {**event.arguments, "block": log.block_number} for log, event in decoded if event.name == "OrderPlaced"
        ]
        cancelled = {event.arguments["id"] for _, event in decoded if event.name == "OrderCancelled"}

        keys = [(one["group"], one["chain"], one["blockOta"], one["product"]) for one in placed]
        newest = dict(zip(keys, self._ask_many("current", keys, block=head.number), strict=True))
        found = []
        for facts, key in zip(placed, keys, strict=True):
            if newest[key]["id"] == facts["id"]:
                status = status_of(OrderStatus, newest[key]["status"], of="an order", setting=self.SETTING)
            elif facts["id"] in cancelled:
                status = OrderStatus.CANCELLED
            else:
                status = OrderStatus.EXPIRED if facts["deadline"] <= head.time else OrderStatus.VOID
            found.append(_order(facts, status))
        return found

    def known_order(self, number: int) -> Order:
        """Return an order by its number.

        Raises:
            RefusedError: no order has this number.
        """
        found = next((one for one in self.orders() if one.number == number), None)
        if found is None:
            raise RefusedError(
                f"order {number} does not exist",
                why=f"the contract {self.address} has no record of it",
                remedy="check the number",
                action=Action.LIST_ORDERS,
            )
        return found


def group_arguments(group: Group) -> tuple[Any, ...]:
    """Return the arguments of ``defineGroup``."""
    return product_key(group.name), group.kind.value, group.value


def order_arguments(group: str, release: ReleaseId, *, not_before: int, deadline: int) -> tuple[Any, ...]:
    """Return the arguments of ``order``."""
    return *_key(group, release), release.version.packed, not_before, deadline


def _key(group: str, release: ReleaseId) -> tuple[bytes, int, str, bytes]:
    """Return the arguments that identify a group and a product."""
    return product_key(group), release.chain_id, release.contract, product_key(release.product)


def _order(facts: Mapping[str, Any], status: OrderStatus) -> Order:
    """Return the order that an OrderPlaced event describes."""
    version = Version.unpack(facts["version"])
    if version is None:  # the contract refuses it, so the node's answer is wrong
        raise RefusedError("the node's answer is not valid", why=f"order {facts['id']} is for version 0.0.0")

    release = ReleaseId(facts["chain"], facts["blockOta"], product_name(facts["product"]), version)
    return Order(
        number=facts["id"],
        group=product_name(facts["group"]),
        release=release,
        operator=UUID(bytes=facts["operator"]),
        not_before=facts["notBefore"],
        deadline=facts["deadline"],
        status=status,
        block=facts["block"],
    )
