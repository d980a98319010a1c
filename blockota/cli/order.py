"""``blockota order``: define groups of devices, and order updates and configurations for them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.devices import DevicesContract
from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.orders import OrdersContract
from blockota.bindings.producers import ProducersContract
from blockota.cli.identity import UUID_TYPE
from blockota.cli.keys import key_option, open_key
from blockota.cli.options import ProposalOptions, may_propose_options, save_proposal
from blockota.cli.parameters import TIME, VERSION, NumberRange
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import Action, RefusedError, UsageError
from blockota.files import read_input
from blockota.model.draft import Draft
from blockota.model.order import Group, GroupKind, Order, OrderStatus, read_devices
from blockota.model.release import show_time
from blockota.operations.ordering import (
    WantedOrder,
    check_configuration,
    check_order,
    configurations_of,
    model_group,
    releases_of,
    site_group,
)
from blockota.vendor.propose import Reason
from blockota.vendor.publish import propose_releases

if TYPE_CHECKING:  # eth-account takes 0.2 s to load
    from eth_account.signers.base import BaseAccount

_FILE = click.Path(path_type=Path)
_NUMBER = NumberRange(1, (1 << 64) - 1)
_MAX_LIST_SIZE = 1 << 26
_KEY = key_option("The operator's")


@dataclass(frozen=True, kw_only=True)
class OrderOptions(WantedOrder):
    """Option values of a command that orders a release."""

    key: str
    password_fd: int | None


def order_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe an order, as the parameter `ordering`."""

    @click.option("--group", required=True, metavar="NAME", help="Group of devices.")
    @click.option("--product", required=True, metavar="NAME", help="Product of the release.")
    @click.option("--version", type=VERSION, required=True, help="Version of the release.")
    @click.option("--not-before", type=TIME, default=0, help="2026-12-01T08:00+01:00 or +7d; else at once.")
    @click.option("--deadline", type=TIME, help="End of the offer; by default, after 30 days.")
    @_KEY
    @functools.wraps(command)
    def wrapped(*args: object, **kwargs: object) -> None:
        values: dict[str, Any] = {one.name: kwargs.pop(one.name) for one in fields(OrderOptions)}
        command(*args, ordering=OrderOptions(**values), **kwargs)

    return wrapped


@click.group(cls=VerbGroup)
def order() -> None:
    """Order that devices get a release or a configuration, as an operator.

    Gateways read the orders, verify the release themselves, and offer it to the devices of the group.
    """


@order.command()
@order_options
@click.option("--producer", metavar="NAME", help="Its producer; by default the contract of the settings.")
@with_session
def update(session: Session, /, producer: str | None, ordering: OrderOptions) -> None:
    """Order a release for the devices of a group.

    The release must belong to an admitted producer. It must be confirmed, active, and not below the floor.

    \b
    Example:  blockota order update --group thermo2-berlin \\
                  --product acme-thermo2 --version 1.4.0 \\
                  --key keystore:operator.json
    """
    if producer is None:
        contract = session.contract
    else:  # the settings of a city may lack the contract of a vendor
        contract = releases_of(session.connection.open(ProducersContract), producer)
    _send_order(session, contract, ordering, account=_open(session, ordering))


@order.command()
@click.argument("image", type=_FILE)
@order_options
@may_propose_options
@with_session
def configure(session: Session, /, image: Path, ordering: OrderOptions, proposing: ProposalOptions | None) -> None:
    """Publish the configuration IMAGE, and order it for a group.

    The first run writes the proposal to publish IMAGE on the city's BlockOTA, for the owners of the city's Safe. After
    the owners have executed the proposal, run the same command again to send the operator's order.

    \b
    Example:  blockota order configure berlin.bin --group thermo2-berlin \\
                  --product acme-thermo2-cfg --version 1.0.3 -o cfg-1.0.3.json \\
                  --key keystore:operator.json
    """
    account = _open(session, ordering)
    draft, is_published = check_configuration(session.gateway, session.connection, ordering, image, account.address)
    contract = configurations_of(session.connection)
    if is_published:
        _send_order(session, contract, ordering, account=account)
    else:
        _propose_configuration(session, contract, draft, proposing)


@order.command()
@click.argument("number", type=_NUMBER)
@_KEY
@with_session
def cancel(session: Session, /, number: int, key: str, password_fd: int | None) -> None:
    """Cancel an open order.

    Only the operator who sent the order NUMBER, or an administrator, can cancel it.

    \b
    Example:  blockota order cancel 12 --key keystore:operator.json
    """
    orders = session.gateway.open(OrdersContract)
    account = open_key(session.gateway.settings.chain_id, key, password_fd)
    orders.cancel(account, orders.known_order(number))
    found = orders.known_order(number)
    session.result(found.as_fields(), lambda: session.done(f"order {number} is cancelled"))


@order.command()
@click.argument("name")
@click.option("--model", metavar="SPEC", help="All devices of a model.")
@click.option("--site", type=UUID_TYPE, metavar="UUID", help="All devices of a gateway.")
@click.option("--list", "listed", type=_FILE, metavar="FILE", help="File with one device number on each line.")
@key_option("The operator's, to define it", default="")
@with_session
def group(
    session: Session,
    /,
    name: str,
    model: str | None,
    site: UUID | None,
    listed: Path | None,
    key: str,
    password_fd: int | None,
) -> None:
    """Define a group of devices, or show it.

    The group NAME contains all devices of a model, of a site or of a list. Without --model, --site and --list, the
    group is shown. A group never changes. Keep the file of --list, because gateways compare the file with the group's
    record on the chain.

    \b
    Example:  blockota order group thermo2-berlin --model thermo2 \\
                  --key keystore:operator.json
    """
    orders = session.gateway.open(OrdersContract)
    if given := [value for value in (model, site, listed) if value is not None]:
        if len(given) > 1:
            raise UsageError(
                "several definitions of the group are given",
                why="a group is defined by a model, a site or a list",
                remedy="pass one of --model, --site and --list",
            )
        if not key:
            raise UsageError(
                "no key is given",
                why="only an operator can define a group",
                remedy="name the operator's key",
                action=Action.USE_KEY,
            )

        wanted = _group_of(session, name, model=model, site=site, listed=listed)
        orders.define_group(open_key(session.gateway.settings.chain_id, key, password_fd), wanted)

    found = orders.known_group(name)
    session.result(found.as_fields(), lambda: session.fields(_rows_of_group(session, found)))


@order.command("list")
@click.option("--group", "name", metavar="NAME", help="Only the orders for this group.")
@click.option("--all", "everything", is_flag=True, help="List all orders, including closed orders.")
@with_session
def list_(session: Session, /, name: str | None, *, everything: bool) -> None:
    """List the open orders.

    \b
    Example:  blockota order list --group thermo2-berlin
    """
    orders = session.gateway.open(OrdersContract).orders()
    found = [one for one in orders if name in (None, one.group) and (everything or one.status is OrderStatus.OPEN)]
    columns = ("NUMBER", "GROUP", "RELEASE", "STATUS", "WINDOW", "OPERATOR")
    rows = [(one.number, one.group, one.release, one.status, one.window, one.operator) for one in found]
    none = "No orders." if everything else "No order is open; --all lists closed orders too."
    as_json = {"orders": [one.as_fields() for one in found]}
    session.result(as_json, lambda: session.table(columns, rows, empty=none))


@order.command()
@click.argument("number", type=_NUMBER)
@with_session
def show(session: Session, /, number: int) -> None:
    """Show the order NUMBER and its group.

    \b
    Example:  blockota order show 12
    """
    orders = session.gateway.open(OrdersContract)
    found = orders.known_order(number)
    of_group = orders.known_group(found.group)
    as_json = {**found.as_fields(), "groupRecord": of_group.as_fields()}
    session.result(as_json, lambda: session.fields({**_rows_of_order(found), **_rows_of_group(session, of_group)}))


def _open(session: Session, ordering: OrderOptions) -> BaseAccount:
    return open_key(session.gateway.settings.chain_id, ordering.key, ordering.password_fd)


def _send_order(session: Session, contract: BlockOTAContract, ordering: OrderOptions, *, account: BaseAccount) -> None:
    """Check a release, and send the order of the release for a group."""
    release, deadline = check_order(session.gateway, session.connection, contract, ordering, account.address)
    orders = session.gateway.open(OrdersContract)
    number, _ = orders.order(account, ordering.group, release, not_before=ordering.not_before, deadline=deadline)
    made = orders.known_order(number)
    sentence = f"order {number}: the devices of {made.group} get {release} {made.window}"
    session.result(made.as_fields(), lambda: session.done(sentence))


def _propose_configuration(
    session: Session, city: BlockOTAContract, draft: Draft, proposing: ProposalOptions | None
) -> None:
    """Write the proposal to publish a configuration, unless the file exists."""
    if proposing is None:
        raise UsageError(
            f"{draft.product} {draft.version} is not published",
            why="the city's Safe must publish a configuration before it can be ordered",
            remedy="name a file for the proposal",
            action=Action.CHOOSE_OUTPUT,
        )
    if proposing.output.exists():
        raise RefusedError(
            f"{draft.product} {draft.version} is not published yet",
            why=f"{proposing.output} was not executed, or proposes something else",
            remedy="have it signed and executed, then repeat this command",
            action=Action.SHOW_PROPOSAL,
        )

    def propose(reason: Reason) -> Proposal:
        return propose_releases(city, [draft], store=session.store, reason=reason)[1]

    save_proposal(session, propose, proposing)
    if not session.as_json:
        session.note("After its execution, repeat this command to send the order.")


def _group_of(session: Session, name: str, *, model: str | None, site: UUID | None, listed: Path | None) -> Group:
    if model is not None:
        return model_group(session.gateway.open(DevicesContract), name, model)
    if site is not None:
        return site_group(session.gateway.open(IdentitiesContract), name, site)
    if listed is None:
        raise AssertionError("a group is defined by a model, a site or a list")
    return Group.of_list(name, read_devices(read_input(listed, limit=_MAX_LIST_SIZE).decode("utf-8", "replace")))


def _rows_of_order(found: Order) -> dict[str, object]:
    release = found.release
    return {
        "order": found.number,
        "status": found.status,
        "release": release,
        "contract": f"{release.contract} on chain {release.chain_id}",
        "window": found.window,
        "operator": found.operator,
    }


def _rows_of_group(session: Session, found: Group) -> dict[str, object]:
    devices = f"of the site {found.site}" if found.site else f"of the list with the root {found.value.hex()}"
    if found.kind is GroupKind.MODEL:
        names = {spec.hash: spec.name for spec in session.gateway.open(DevicesContract).specs()}
        devices = f"of the model {names.get(found.value, found.value.hex())}"
    return {
        "group": found.name,
        "devices": devices,
        "defined": f"{show_time(found.defined_at)} by {found.operator}",
    }
