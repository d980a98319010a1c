"""UpdateOrders with the real registries: groups, orders, cancellations, models, and bans of operators."""

from __future__ import annotations

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance
from eth_keys.datatypes import PrivateKey
from eth_utils.crypto import keccak

from blockota.model.device import spec_hash
from blockota.model.order import Group
from blockota.model.release import Version, product_key
from tests.contracts.conftest import City
from tests.contracts.test_storage import mapped, packed, word
from tests.contracts.trees import ADMINISTRATOR, GATEWAY, OPERATOR
from tests.support.samples import SAFE

CHAIN, PRODUCT, VERSION = 1, product_key("acme-thermo2"), Version(1, 4, 0).packed
DEADLINE = 4_000_000_000
SITE, MODEL, LIST = (
    Group.of_site("berlin", GATEWAY),
    Group.of_model("thermo", "thermo2"),
    Group.of_list("two", [256, 300]),
)
OPEN, CANCELLED, EXPIRED, VOID = 1, 2, 3, 4


def terms(group: Group = SITE) -> tuple[bytes, int, str, bytes]:
    """Return the arguments that identify the orders of a group for the product."""
    return product_key(group.name), CHAIN, SAFE, PRODUCT


@pytest.fixture
def operator(city: City) -> TestAccountAPI:
    """The account of the Operator."""
    return city.accounts[2]


@pytest.fixture
def orders(city: City, operator: TestAccountAPI) -> ContractInstance:
    """UpdateOrders with three groups."""
    for group in (SITE, MODEL, LIST):
        city.orders.defineGroup(product_key(group.name), group.kind.value, group.value, sender=operator)
    return city.orders


def test_when_an_operator_defines_a_group_it_should_be_recorded_and_emitted(
    city: City, operator: TestAccountAPI
) -> None:
    """A group is recorded with its operator and time, and cannot be changed."""
    name = product_key(LIST.name)
    receipt = city.orders.defineGroup(name, LIST.kind.value, LIST.value, sender=operator)
    (event,) = receipt.decode_logs(city.orders.GroupDefined)
    record = city.orders.group(name)
    for found in (event, record):
        assert (found.kind, found.value, found.operator) == (LIST.kind.value, LIST.value, OPERATOR.bytes)
    assert (event.id, record.definedAt) == (name, ape.chain.blocks.head.timestamp)
    with ape.reverts(city.orders.GroupDefinedAlready, group=name):
        city.orders.defineGroup(name, SITE.kind.value, SITE.value, sender=operator)
    for kind, value in ((0, LIST.value), (1, bytes(32)), (2, bytes(31) + b"\1"), (2, bytes(16) + b"\x80" + bytes(15))):
        with ape.reverts(city.orders.InvalidGroup, groupKind=kind, value=value):
            city.orders.defineGroup(product_key("other"), kind, value, sender=operator)
    for invalid in (bytes(32), b"two words".ljust(32, b"\0")):
        with ape.reverts(city.orders.GroupNameInvalid, group=invalid):
            city.orders.defineGroup(invalid, LIST.kind.value, LIST.value, sender=operator)
    assert (city.orders.identities(), city.orders.devices()) == (city.identities.address, city.devices.address)


def test_when_an_operator_orders_it_should_be_recorded_and_emitted(
    orders: ContractInstance, operator: TestAccountAPI
) -> None:
    """An order gets the next id, and becomes the current order of its group and product.

    A second open order for the same group and product is refused.
    """
    orders.order(*terms(LIST), VERSION, 0, DEADLINE, sender=operator)
    receipt = orders.order(*terms(), VERSION, 7, DEADLINE, sender=operator)
    (event,) = receipt.decode_logs(orders.OrderPlaced)
    assert (event.id, event.group, event.operator) == (2, product_key(SITE.name), OPERATOR.bytes)
    assert (event.chain, event.blockOta, event.product) == (CHAIN, SAFE, PRODUCT)
    record = orders.current(*terms())
    for found in (event, record):
        assert (found.version, found.notBefore, found.deadline) == (VERSION, 7, DEADLINE)
    assert (record.id, record.operator, record.status) == (2, OPERATOR.bytes, OPEN)
    assert record.placedAt == ape.chain.blocks.head.timestamp
    assert orders.orderCount() == 2
    with ape.reverts(orders.OrderStillOpen, id=2, version=VERSION, operator=OPERATOR.bytes, deadline=DEADLINE):
        orders.order(*terms(), VERSION + 1, 0, DEADLINE, sender=operator)


def test_when_the_order_is_wrong_it_should_refuse(orders: ContractInstance, operator: TestAccountAPI) -> None:
    """An unknown group, a missing version, a past deadline, and an empty time window are refused."""
    unknown = (product_key("nowhere"), *terms()[1:])
    with ape.reverts(orders.GroupUnknown, group=unknown[0]):
        orders.order(*unknown, VERSION, 0, DEADLINE, sender=operator)
    with ape.reverts(orders.VersionMissing):
        orders.order(*terms(), 0, 0, DEADLINE, sender=operator)
    with ape.reverts(orders.DeadlineInPast, deadline=7):
        orders.order(*terms(), VERSION, 0, 7, sender=operator)
    with ape.reverts(orders.WindowEmpty, notBefore=DEADLINE, deadline=DEADLINE):
        orders.order(*terms(), VERSION, DEADLINE, DEADLINE, sender=operator)


def test_when_the_caller_is_not_an_operator_it_should_refuse(
    city: City, orders: ContractInstance, owner_a: AccountAPI
) -> None:
    """Gateways, Administrators and accounts without an identity can neither order nor define groups."""
    for account, kind in ((owner_a, 0), (city.accounts[0], 2), (city.accounts[1], 3)):
        with ape.reverts(orders.NotAnOperator, caller=account.address, kind=kind, active=kind != 0):
            orders.order(*terms(), VERSION, 0, DEADLINE, sender=account)
        with ape.reverts(orders.NotAnOperator, caller=account.address):
            orders.defineGroup(product_key("other"), LIST.kind.value, LIST.value, sender=account)


def test_when_the_spec_of_the_model_does_not_list_the_product_it_should_refuse(
    city: City, orders: ContractInstance, operator: TestAccountAPI, vendor: AccountAPI, owner_a: TestAccountAPI
) -> None:
    """An order for a group of all devices of a model is refused unless the model's Spec lists the product."""
    devices = city.devices
    point = PrivateKey(bytes.fromhex(owner_a.private_key.removeprefix("0x"))).public_key.to_compressed_bytes()
    devices.admitRegistrant(product_key("acme"), point, owner_a.address, sender=vendor)
    devices.registerSpec("thermo2", "{}", sender=owner_a)
    with ape.reverts(orders.ProductNotAllowed, group=product_key(MODEL.name), product=PRODUCT):
        orders.order(*terms(MODEL), VERSION, 0, DEADLINE, sender=operator)
    devices.allow(spec_hash("thermo2"), CHAIN, SAFE, PRODUCT, sender=owner_a)
    orders.order(*terms(MODEL), VERSION, 0, DEADLINE, sender=operator)
    with ape.reverts(orders.ProductNotAllowed, chain=2):
        orders.order(product_key(MODEL.name), 2, SAFE, PRODUCT, VERSION, 0, DEADLINE, sender=operator)


def test_when_an_order_is_cancelled_it_should_make_room_for_the_next(
    city: City, orders: ContractInstance, operator: TestAccountAPI
) -> None:
    """The operator and an Administrator can cancel an open order by its id; other accounts cannot."""
    orders.order(*terms(), VERSION, 0, DEADLINE, sender=operator)
    with ape.reverts(orders.CancellingNotAllowed, id=1, caller=city.accounts[0].address):
        orders.cancel(*terms(), 1, sender=city.accounts[0])
    with ape.reverts(orders.OrderDiffers, id=2, current=1):
        orders.cancel(*terms(), 2, sender=operator)
    (event,) = orders.cancel(*terms(), 1, sender=operator).decode_logs(orders.OrderCancelled)
    assert (event.id, event.group, event.by) == (1, product_key(SITE.name), OPERATOR.bytes)
    assert orders.current(*terms()).status == CANCELLED
    with ape.reverts(orders.WrongOrderStatus, id=1, orderStatus=CANCELLED):
        orders.cancel(*terms(), 1, sender=operator)
    orders.order(*terms(), VERSION, 0, DEADLINE, sender=operator)
    (event,) = orders.cancel(*terms(), 2, sender=city.accounts[1]).decode_logs(orders.OrderCancelled)
    assert event.by == ADMINISTRATOR.bytes


def test_when_the_operator_is_banned_its_orders_should_be_void(
    city: City, orders: ContractInstance, operator: TestAccountAPI, vendor: AccountAPI
) -> None:
    """A ban of the operator voids the operator's existing orders, even after the ban is lifted.

    Orders that the operator makes after the ban was lifted are valid.
    """
    orders.order(*terms(), VERSION, 0, DEADLINE, sender=operator)
    city.identities.ban(OPERATOR.bytes, b"left".ljust(32, b"\0"), sender=city.accounts[1])
    assert orders.current(*terms()).status == VOID
    with ape.reverts(orders.NotAnOperator, caller=operator.address, kind=6, active=False):
        orders.order(*terms(LIST), VERSION, 0, DEADLINE, sender=operator)
    city.identities.unban(OPERATOR.bytes, sender=vendor)
    assert orders.current(*terms()).status == VOID
    ape.chain.pending_timestamp += 10
    orders.order(*terms(), VERSION, 0, DEADLINE, sender=operator)
    assert orders.current(*terms()).status == OPEN


def test_when_the_deadline_passes_it_should_expire(orders: ContractInstance, operator: TestAccountAPI) -> None:
    """At its deadline an order expires, and a new order can then replace it."""
    soon = int(ape.chain.pending_timestamp) + 100
    orders.order(*terms(), VERSION, 0, soon, sender=operator)
    ape.chain.pending_timestamp = soon
    ape.chain.mine()
    assert orders.current(*terms()).status == EXPIRED
    orders.order(*terms(), VERSION, 0, DEADLINE, sender=operator)
    assert orders.current(*terms()).id == 2


def test_groups_and_orders_should_be_stored_as_documented(orders: ContractInstance, operator: TestAccountAPI) -> None:
    """The words of a group and of an order are in the storage slots of docs/contracts.md."""
    orders.order(*terms(), VERSION, 7, DEADLINE, sender=operator)
    placed = ape.chain.blocks.head.timestamp
    uuid = int.from_bytes(OPERATOR.bytes)
    assert word(orders, 0) == 1
    place = mapped(product_key(SITE.name), 1)
    defined = orders.group(product_key(SITE.name)).definedAt
    assert word(orders, place) == packed((SITE.kind.value, 8), (uuid, 128), (defined, 40))
    assert word(orders, place + 1) == int.from_bytes(SITE.value)
    group, chain, contract, product = terms()
    key = keccak(group + chain.to_bytes(32) + bytes.fromhex(contract[2:]).rjust(32, b"\0") + product)
    place = mapped(key, 2)
    assert word(orders, place) == packed((1, 64), (VERSION, 64), (uuid, 128))
    assert word(orders, place + 1) == packed((7, 40), (DEADLINE, 40), (placed, 40))
