"""``blockota device registrant``, ``spec`` and ``site``: who registers devices, of which models, at which gateways."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from click.types import FuncParamType

from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.devices import DevicesContract
from blockota.cli.identity import UUID_TYPE
from blockota.cli.keys import key_option, open_key
from blockota.cli.options import ProposalOptions, proposing_options, save_call
from blockota.cli.parameters import ADDRESS, NumberRange
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import UsageError
from blockota.files import read_input
from blockota.formats.iotregistry import compressed
from blockota.model.device import SpecUpdate, account_of
from blockota.model.release import product_key, show_time

FILE = click.Path(path_type=Path)
REGISTRANT_KEY = key_option("The registrant's")


def public_key(value: Any) -> bytes:
    """Parse a compressed or uncompressed secp256k1 key in hexadecimal, and return the compressed key."""
    text = str(value).removeprefix("0x")
    try:
        return value if isinstance(value, bytes) else compressed(bytes.fromhex(text))
    except (ValueError, UsageError) as error:
        raise click.BadParameter(f"{text!r:.140} is not a secp256k1 key: write 33 or 65 bytes in hex.") from error


PUBLIC_KEY = FuncParamType(public_key)


@click.group(cls=VerbGroup)
def registrant() -> None:
    """Admit the producers that register devices. The city's Safe decides."""


@registrant.command()
@click.argument("name")
@click.option(
    "--public-key", "key", type=PUBLIC_KEY, required=True, metavar="HEX", help="Output of `blockota key public`."
)
@click.option("--account", type=ADDRESS, help="Account that signs registrations; by default the key's.")
@proposing_options
@with_session
def admit(session: Session, /, name: str, key: bytes, account: str | None, proposing: ProposalOptions) -> None:
    """Propose to admit the registrant NAME.

    The names of the registrant's devices begin with NAME/. IOTRegistry identifies the registrant by its public key.

    \b
    Example:  blockota device registrant admit acme -o acme.json --public-key \\
            02ca4a8c7dc5090f924cde2264af240d76f6d58a5d2d15c8c5f59d95c70bd9e4dc
    """
    _propose(session, proposing, "admitRegistrant", _registrant_id(name), key, account or account_of(key))


@registrant.command()
@click.argument("name")
@proposing_options
@with_session
def suspend(session: Session, /, name: str, proposing: ProposalOptions) -> None:
    """Propose to suspend the registrant NAME, which can then neither register nor change devices.

    The registrant's devices stay registered.

    \b
    Example:  blockota device registrant suspend acme -o suspend.json
    """
    _propose(session, proposing, "suspendRegistrant", product_key(name))


@registrant.command()
@click.argument("name")
@proposing_options
@with_session
def restore(session: Session, /, name: str, proposing: ProposalOptions) -> None:
    """Propose to end the suspension of the registrant NAME.

    \b
    Example:  blockota device registrant restore acme -o restore.json
    """
    _propose(session, proposing, "restoreRegistrant", product_key(name))


@registrant.command()
@click.argument("name")
@click.argument("address", type=ADDRESS)
@proposing_options
@with_session
def account(session: Session, /, name: str, address: str, proposing: ProposalOptions) -> None:
    """Propose to make ADDRESS the account of the registrant NAME, for example after the loss of a key.

    Signatures of the former account are refused from then on.

    \b
    Example:  blockota device registrant account acme \\
                  0x90F79bf6EB2c4f870365E785982E1f101E93b906 -o account.json
    """
    _propose(session, proposing, "setRegistrantAccount", product_key(name), address)


@registrant.command("list")
@with_session
def list_registrants(session: Session) -> None:
    """List the registrants.

    \b
    Example:  blockota device registrant list
    """
    found = devices_contract(session).registrants()
    columns = ("NAME", "STATUS", "SINCE", "ACCOUNT", "PUBLIC KEY")
    rows = [
        (one.name, "suspended" if one.suspended else "active", show_time(one.since), one.account, one.public_key.hex())
        for one in found
    ]
    fields = {"registrants": [one.as_fields() for one in found]}
    session.result(fields, lambda: session.table(columns, rows, empty="No registrant is admitted."))


@click.group(cls=VerbGroup)
def spec() -> None:
    """Register specs of device models, and the products for each spec."""


@spec.command()
@click.argument("name")
@click.option("--data", type=FILE, help="File with the spec's text, such as a JSON schema.")
@REGISTRANT_KEY
@with_session
def add(session: Session, /, name: str, data: Path | None, key: str, password_fd: int | None) -> None:
    """Register the spec NAME, the name of a device model. A spec never changes.

    \b
    Example:  blockota device spec add thermo2 --data thermo2.schema.json \\
                  --key keystore:acme.json
    """
    contract = devices_contract(session)
    contract.register_spec(open_key(contract.chain.chain_id, key, password_fd), name, data=read_text(data))
    found = contract.known_spec(name)
    then = f"Next: `blockota device spec allow {name} --product PRODUCT --key KEY` names a product that updates it"
    session.result(found.as_fields(), lambda: session.done(f"the spec {name} is registered"), then=then)


@dataclass(frozen=True)
class _SpecEntry:
    """Option values that name a product on the list of a spec; None stands for the value in the settings."""

    name: str
    product: str
    chain_id: int | None
    contract: str | None
    key: str
    password_fd: int | None


def _entry_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the name of a spec and the options that name a product, as the parameter `entry`."""

    @click.argument("name")
    @click.option("--product", required=True, metavar="NAME", help="Product whose releases update the model.")
    @click.option("--chain", "chain_id", type=NumberRange(1, (1 << 64) - 1), help="Chain id of its chain.")
    @click.option("--contract", type=ADDRESS, help="The vendor's BlockOTA; by default from the settings.")
    @REGISTRANT_KEY
    @functools.wraps(command)
    def wrapped(*args: object, **kwargs: object) -> None:
        values: dict[str, Any] = {one.name: kwargs.pop(one.name) for one in fields(_SpecEntry)}
        command(*args, entry=_SpecEntry(**values), **kwargs)

    return wrapped


@spec.command()
@_entry_options
@with_session
def allow(session: Session, /, entry: _SpecEntry) -> None:
    """Allow a product to update the devices of the spec NAME.

    Gateways offer a device only the products that its spec lists.

    \b
    Example:  blockota device spec allow thermo2 --product acme-thermo2 \\
                  --key keystore:acme.json
    """
    _change_list(session, entry, allowed=True)


@spec.command()
@_entry_options
@with_session
def disallow(session: Session, /, entry: _SpecEntry) -> None:
    """Remove a product from the list of the spec NAME.

    \b
    Example:  blockota device spec disallow thermo2 --product acme-thermo2 \\
                  --key keystore:acme.json
    """
    _change_list(session, entry, allowed=False)


@spec.command("list")
@with_session
def list_specs(session: Session) -> None:
    """List the specs, and for each spec the products that may update its devices.

    \b
    Example:  blockota device spec list
    """
    contract = devices_contract(session)
    fields, rows = [], []
    for one in contract.specs():
        allowed = [entry for entry in contract.updates(one) if entry.allowed]
        fields.append(one.as_fields() | {"updates": [entry.as_fields() for entry in allowed]})

        origin = "imported" if one.signature else "registered"
        products = [f"{entry.product} of {entry.contract} on chain {entry.chain_id}" for entry in allowed]
        rows.append((one.name, one.registrant, origin, ", ".join(products) or "-"))

    columns = ("NAME", "REGISTRANT", "ORIGIN", "UPDATED BY")
    session.result({"specs": fields}, lambda: session.table(columns, rows, empty="No spec is registered."))


@click.group(cls=VerbGroup)
def site() -> None:
    """Assign blocks of 256 device numbers to gateways. The city's Safe decides."""


@site.command()
@click.argument("uuid", metavar="GATEWAY", type=UUID_TYPE)
@click.option("--blocks", type=NumberRange(1, 1024), default=1, show_default=True, help="Blocks of 256 numbers.")
@proposing_options
@with_session
def give(session: Session, /, uuid: UUID, blocks: int, proposing: ProposalOptions) -> None:
    """Propose to assign blocks of device numbers to the gateway with the UUID GATEWAY.

    \b
    Example:  blockota device site give 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  --blocks 4 -o blocks.json
    """
    _propose(session, proposing, "giveBlocks", uuid.bytes, blocks)


@site.command()
@click.argument("uuid", metavar="GATEWAY", type=UUID_TYPE)
@click.option("--by", type=UUID_TYPE, required=True, metavar="UUID", help="The gateway that takes its place.")
@proposing_options
@with_session
def replace(session: Session, /, uuid: UUID, by: UUID, proposing: ProposalOptions) -> None:
    """Propose to transfer all device numbers of GATEWAY, with their devices, to another gateway.

    \b
    Example:  blockota device site replace 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  --by 7c9e6679-7425-40de-944b-e07fc1f90ae7 -o replace.json
    """
    _propose(session, proposing, "replaceSite", uuid.bytes, by.bytes)


@site.command("list")
@with_session
def list_sites(session: Session) -> None:
    """List the gateways with device numbers.

    \b
    Example:  blockota device site list
    """
    found = devices_contract(session).sites()
    rows = [(one.uuid, one.given, one.given - one.left, one.left) for one in found]
    fields = {"sites": [one.as_fields() for one in found]}
    columns = ("GATEWAY", "NUMBERS", "USED", "LEFT")
    session.result(fields, lambda: session.table(columns, rows, empty="No gateway has device numbers."))


def devices_contract(session: Session) -> DevicesContract:
    """Return the contract DeviceRegistry of the gateway chain."""
    return session.gateway.open(DevicesContract)


def read_text(path: Path | None) -> str:
    """Return the text of a file; empty if no file is given.

    Raises:
        UsageError: the file is not UTF-8.
    """
    if path is None:
        return ""
    try:
        return read_input(path, limit=1 << 16).decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} cannot be recorded", why="the file is not text in UTF-8", remedy="convert it to UTF-8"
        ) from error


def _registrant_id(name: str) -> bytes:
    """Return a registrant's name as bytes32. A '/' separates it from the rest of a device's name."""
    if not re.fullmatch(r"[^/]+", name):
        raise click.BadParameter(f"{name!r} has a '/': a registrant's name is the part of names before it.")
    return product_key(name)


def _change_list(session: Session, entry: _SpecEntry, *, allowed: bool) -> None:
    chain_id, block_ota = entry.chain_id or session.settings.chain_id, entry.contract
    update = SpecUpdate(chain_id, block_ota or session.connection.contract_address, entry.product, allowed=allowed)
    if allowed and chain_id == session.settings.chain_id:  # products of another chain cannot be looked up
        BlockOTAContract(session.chain, update.contract).known_product(update.product)
    contract = devices_contract(session)
    name = contract.known_spec(entry.name).name
    contract.allow(open_key(contract.chain.chain_id, entry.key, entry.password_fd), name, update)
    words = "may update" if allowed else "may no longer update"
    sentence = f"{update.product} of {update.contract} on chain {update.chain_id} {words} devices of the spec {name}"
    session.result({"spec": name, **update.as_fields()}, lambda: session.done(sentence))


def _propose(session: Session, proposing: ProposalOptions, function: str, *arguments: Any) -> None:
    save_call(session, devices_contract(session), function, *arguments, proposing=proposing)
