"""``blockota device``: register the devices of a city, record their keys, ban devices, and show them."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
from click.types import FuncParamType

from blockota.bindings.devices import change_arguments, import_call
from blockota.cli.device_parties import FILE, REGISTRANT_KEY, devices_contract, read_text, registrant, site, spec
from blockota.cli.identity import UUID_TYPE
from blockota.cli.keys import key_option, open_key
from blockota.cli.options import (
    ProposalDetails,
    ProposalOptions,
    may_propose_options,
    proposing_options,
    save_call,
    save_proposal,
)
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import UsageError, shortened
from blockota.files import read_input
from blockota.formats.public_key import PublicKey
from blockota.model.device import Device, device_key, read_batch, registration_of, split_name
from blockota.model.iot_import import MOST_THINGS, find_spec, plan_things, read_transactions, things_of
from blockota.model.release import show_time
from blockota.vendor.propose import propose

_Found = TypeVar("_Found")
_MAX_NUMBER, _NONCE_SIZE, _MAX_FILE_SIZE = (1 << 64) - 1, 16, 1 << 26


def device_name(value: Any) -> int | str:
    """Parse the number of a device, or one of its aliases."""
    text = str(value)
    if not (text.isascii() and text.isdigit()):
        return text
    if int(text) > _MAX_NUMBER:
        raise click.BadParameter(f"{text} is not the number of a device: it has more than 64 bits.")
    return int(text)


def nonce(value: Any) -> bytes:
    """Parse a nonce of 1 to 64 bytes in hexadecimal."""
    try:
        found = value if isinstance(value, bytes) else bytes.fromhex(str(value).removeprefix("0x"))
    except ValueError:
        found = b""
    if not 0 < len(found) <= 64:  # noqa: PLR2004 - the contract's limit
        raise click.BadParameter(f"{value!r} is not a nonce: write 1 to 64 bytes in hex.")
    return found


DEVICE_NAME = FuncParamType(device_name)
_DEVICE = click.argument("name", metavar="DEVICE", type=DEVICE_NAME)
_PARTY_KEY = key_option("Key of the device's registrant or of an Administrator, without a proposal", default="")


@click.group(cls=VerbGroup)
def device() -> None:
    """Register the devices of a city.

    A device is named by its number or an alias such as acme/thermo2/SN-000123.
    """


device.add_command(registrant)
device.add_command(spec)
device.add_command(site)


@device.command()
@click.argument("aliases", metavar="REGISTRANT/SPEC/SERIAL [ALIAS…]", nargs=-1, required=True)
@click.option(
    "--site", "gateway", type=UUID_TYPE, required=True, metavar="UUID", help="Gateway that serves the device."
)
@click.option("--device-key", type=FILE, help="PEM file of the device's public P-256 key.")
@click.option("--data", type=FILE, help="File with a text to record, such as JSON for the spec.")
@click.option("--nonce", "thing", type=FuncParamType(nonce), metavar="HEX", help="Id of the device; random by default.")
@REGISTRANT_KEY
@click.option("--payer", metavar="URI", help="Key that pays instead of the registrant's.")
@with_session
def register(
    session: Session,
    /,
    aliases: tuple[str, ...],
    gateway: UUID,
    device_key: Path | None,
    data: Path | None,
    thing: bytes | None,
    key: str,
    password_fd: int | None,
    payer: str | None,
) -> None:
    """Register a device under its name.

    All aliases begin with REGISTRANT/. The device gets the next free number of its gateway. Only a device with a key
    can sign its reports (evidence of level A).

    \b
    Example:  blockota device register acme/thermo2/SN-000123 \\
                  --site 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  --device-key device.pem --key keystore:acme.json
    """
    wanted = registration_of(
        aliases,
        nonce=thing or secrets.token_bytes(_NONCE_SIZE),
        data=read_text(data),
        site=gateway,
        key=_device_key(device_key) if device_key else None,
    )

    # An unknown spec is refused before the password of the key is asked for.
    contract = devices_contract(session)
    contract.known_spec(wanted.spec)
    account = open_key(contract.chain.chain_id, key, password_fd)
    pays = open_key(contract.chain.chain_id, payer) if payer else account
    found = contract.register(account, wanted, payer=pays)

    then = (
        "" if found.key else f"Next: `blockota device key {found.number} FILE --key KEY` records its key, if it has one"
    )
    session.result(found.as_fields(), lambda: session.done(f"{found.name} is device {found.number}"), then=then)


@device.command()
@click.argument("file", type=FILE)
@click.option(
    "--site", "gateway", type=UUID_TYPE, required=True, metavar="UUID", help="Gateway that serves the devices."
)
@REGISTRANT_KEY
@with_session
def batch(session: Session, /, file: Path, gateway: UUID, key: str, password_fd: int | None) -> None:
    """Register all devices of FILE by one hash of their names.

    Each line of FILE is the name of a device, REGISTRANT/SPEC/SERIAL. All devices of FILE must have the same model. The
    devices get numbers in the order of the lines. Keep FILE, because the chain stores only the hash. A device of a
    batch has no key.

    \b
    Example:  blockota device batch thermo2.txt \\
                  --site 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  --key keystore:acme.json
    """
    names = _read_named(file, lambda: read_batch(read_input(file, limit=_MAX_FILE_SIZE).decode("utf-8", "replace")))
    contract = devices_contract(session)
    contract.known_spec(split_name(names[0])[1])
    found = contract.register_batch(open_key(contract.chain.chain_id, key, password_fd), names, site=gateway)
    last = found.first + found.count - 1
    sentence = f"the {found.count:,} devices of {file} have the numbers {found.first} to {last}"
    session.result(found.as_fields(), lambda: session.done(sentence))


@device.command("key")
@_DEVICE
@click.argument("file", type=FILE)
@REGISTRANT_KEY
@with_session
def set_key(session: Session, /, name: int | str, file: Path, key: str, password_fd: int | None) -> None:
    """Record the P-256 key of DEVICE from the PEM file FILE.

    The registry keeps a replaced key and the blocks in which it was valid. A replaced key cannot be recorded again.

    \b
    Example:  blockota device key acme/thermo2/SN-000123 device.pem \\
                  --key keystore:acme.json
    """
    contract, wanted = devices_contract(session), _device_key(file)
    found = contract.known_device(name)
    contract.set_key(open_key(contract.chain.chain_id, key, password_fd), found.number, wanted)
    fields = contract.known_device(found.number).as_fields()
    session.result(fields, lambda: session.done(f"the key of {found.name} is recorded"))


@device.command("import")
@click.argument("file", type=FILE)
@click.option("--site", "gateway", type=UUID_TYPE, metavar="UUID", help="Gateway that serves the devices.")
@click.option("--spec", "model", metavar="NAME", help="Import this spec of the file instead of its things.")
@proposing_options
@with_session
def import_(
    session: Session, /, file: Path, gateway: UUID | None, model: str | None, proposing: ProposalOptions
) -> None:
    """Propose to import devices from IOTRegistry, with their signatures.

    Each line of FILE is one call of IOTRegistry's chaincode. Devices (things) that cannot be imported are omitted and
    listed. Imported devices stay marked as imported, because IOTRegistry's signatures do not cover the nonce.

    \b
    Example:  blockota device import things.jsonl \\
                  --site 0f8fad5b-d9cb-469f-a165-70867728950e -o import.json
    """
    if (gateway is None) == (model is None):
        raise UsageError(
            "exactly one of --site and --spec is needed",
            why="--site UUID imports things, --spec NAME imports a spec",
            remedy="pass one of them",
        )

    contract = devices_contract(session)
    transactions = _read_named(file, lambda: read_transactions(read_input(file, limit=_MAX_FILE_SIZE)))
    known = contract.known_to_import(things_of(transactions))
    if gateway is None:
        owner, wanted = find_spec(transactions, known, name=str(model))
        arguments = (owner.encode().ljust(32, b"\0"), wanted.name, wanted.data, wanted.signature)
        save_call(session, contract, "importSpec", *arguments, proposing=proposing)
        return

    plan = plan_things(transactions, known, site=gateway)

    # The gas of one transaction is enough for `MOST_THINGS` things; the others need a next proposal.
    chosen, later = plan.things[:MOST_THINGS], plan.things[MOST_THINGS:]
    for one in plan.omitted:
        if not one.is_done:
            session.warn(f"line {one.line}: {one.what} is left out: {one.why}")
    if plan.ambiguous:
        session.note(f"':' in names: the signatures of {shortened(plan.ambiguous)} are also valid for other aliases.")
    plan.require_things()

    fields = {
        "things": [thing.aliases[0] for thing, _ in chosen],
        "later": [thing.aliases[0] for thing, _ in later],
        "leftOut": [{"line": one.line, "thing": one.what, "why": one.why} for one in plan.omitted],
        "ambiguous": list(plan.ambiguous),
    }
    rows = {"things": f"{len(chosen)} to import, {len(later)} for a next proposal, {len(plan.omitted)} left out"}
    save_proposal(
        session,
        lambda reason: propose(contract, import_call(chosen), reason=reason),
        proposing,
        about=lambda: ProposalDetails(fields, [rows]),
        connection=session.gateway,
    )


@dataclass(frozen=True)
class _How:
    """Options that state how a device is changed: with the key of an account, or by a proposal to the city's Safe."""

    key: str
    password_fd: int | None
    proposing: ProposalOptions | None


def _by_key_or_proposal(command: Callable[..., None]) -> Callable[..., None]:
    """Add DEVICE, ``--key`` and the options of a proposal; exactly one of ``--key`` and ``-o`` must be given."""

    @_DEVICE
    @_PARTY_KEY
    @may_propose_options
    @functools.wraps(command)
    def wrapped(
        *args: object, key: str, password_fd: int | None, proposing: ProposalOptions | None, **kwargs: object
    ) -> None:
        if bool(key) == bool(proposing):
            raise UsageError(
                "exactly one of --key and -o is needed",
                why="--key URI changes the device immediately, -o FILE writes a proposal to the city's Safe",
                remedy="pass one of them",
            )
        command(*args, how=_How(key, password_fd, proposing), **kwargs)

    return wrapped


@device.command()
@click.option("--to", required=True, metavar="NAME", help="The new registrant.")
@_by_key_or_proposal
@with_session
def transfer(session: Session, /, name: int | str, to: str, how: _How) -> None:
    """Transfer DEVICE to another registrant.

    The device keeps its aliases and its spec. Pass --key as the device's registrant, or -o to write a proposal for the
    city's Safe.

    \b
    Example:  blockota device transfer acme/thermo2/SN-000123 --to bolt \\
                  --key keystore:acme.json
    """
    _change(session, name, "transfer", f"belongs to {to}", how, to=to)


@device.command()
@click.option("--cause", required=True, metavar="TEXT", help="Public reason, at most 32 characters.")
@_by_key_or_proposal
@with_session
def ban(session: Session, /, name: int | str, cause: str, how: _How) -> None:
    """Ban DEVICE; gateways then offer no release to it.

    Pass --key as the device's registrant or an Administrator, or -o to write a proposal for the city's Safe. A
    registrant cannot lift a ban by the city.

    \b
    Example:  blockota device ban acme/thermo2/SN-000123 --cause stolen \\
                  --key keystore:acme.json
    """
    _change(session, name, "ban", "is banned", how, reason=cause)


@device.command()
@_by_key_or_proposal
@with_session
def unban(session: Session, /, name: int | str, how: _How) -> None:
    """Lift the ban of DEVICE.

    \b
    Example:  blockota device unban acme/thermo2/SN-000123 \\
                  --key keystore:acme.json
    """
    _change(session, name, "unban", "is not banned any more", how)


@device.command()
@click.argument("name", metavar="DEVICE")
@click.option("--iotregistry", is_flag=True, help="Print IOTRegistry's answer; DEVICE may be a key, as Spec:thermo2.")
@with_session
def show(session: Session, /, name: str, *, iotregistry: bool) -> None:
    """Show DEVICE with its former registrants and keys.

    \b
    Example:  blockota device show acme/thermo2/SN-000123
    """
    contract = devices_contract(session)
    if iotregistry:
        click.echo(contract.query(name if ":" in name else f"Alias:{contract.known_device(device_name(name)).name}"))
        return
    found = contract.known_device(device_name(name))

    former = contract.versions(found.number)[1:]
    batch = None if found.record else contract.batch_of(found.number)
    fields = found.as_fields() | {
        "former": [one.as_fields() for one in former],
        "batch": batch.as_fields() if batch else None,
    }

    rows = _rows(found) | (
        {"batch": f"{batch.count} devices from {batch.first}, root {batch.root.hex()}"} if batch else {}
    )

    def show_all() -> None:
        session.fields(rows)
        for one in former:
            session.print("")
            blocks = f"block {one.from_block} to block {one.to_block}"
            session.fields({"formerly": blocks, "registrant": one.registrant, "key": _shown(one.key)})

    session.result(fields, show_all)


@device.command("list")
@click.option("--site", "gateway", type=UUID_TYPE, metavar="UUID", help="Only devices of this gateway.")
@click.option("--spec", "model", metavar="NAME", help="Only devices of this model.")
@with_session
def list_(session: Session, /, gateway: UUID | None, model: str | None) -> None:
    """List the devices and the batches of devices.

    \b
    Example:  blockota device list --spec thermo2
    """
    contract = devices_contract(session)
    found = [one for one in contract.devices() if gateway in (None, one.site)]
    if model is not None:
        found = [one for one in found if one.record and one.record.spec == model]

    sites = [one for one in contract.sites() if gateway in (None, one.uuid)]
    batches = [(one, batch) for one in sites for batch in contract.batches(one.uuid)] if model is None else []

    columns = ("NUMBER", "NAME", "STATUS", "KEY", "ORIGIN", "GATEWAY")
    rows: list[tuple[object, ...]] = [
        (one.number, one.name, one.status, "yes" if one.key else "no", _origin(one), one.site) for one in found
    ]
    for where, batch in batches:
        numbers = f"{batch.first}-{batch.first + batch.count - 1}"
        rows.append((numbers, f"{batch.count} devices of {batch.registrant}", "-", "-", "batch", where.uuid))

    fields = {"devices": [one.as_fields() for one in found], "batches": [batch.as_fields() for _, batch in batches]}
    empty = "No such device." if gateway or model else "No device is registered."
    session.result(fields, lambda: session.table(columns, rows, empty=empty))


def _change(session: Session, name: int | str, function: str, done: str, how: _How, **arguments: str) -> None:
    contract = devices_contract(session)
    found = contract.known_device(name)
    values = change_arguments(found.number, **arguments)
    if how.proposing:
        save_call(session, contract, function, *values, proposing=how.proposing)
        return
    account = open_key(contract.chain.chain_id, how.key, how.password_fd)
    contract.change(account, function, *values)
    fields = contract.known_device(found.number).as_fields()
    session.result(fields, lambda: session.done(f"{found.name} {done}"))


def _device_key(file: Path) -> PublicKey:
    return _read_named(file, lambda: device_key(read_text(file)))


def _read_named(file: Path, read: Callable[[], _Found]) -> _Found:
    """Read a file with a function, and add the file's name to errors about the contents."""
    try:
        return read()
    except UsageError as error:
        raise error.revised(what=error.what if str(file) in error.what else f"{file}: {error.what}") from error


def _rows(found: Device) -> dict[str, object]:
    rows: dict[str, object] = {
        "number": found.number,
        "aliases": "those of its batch",
        "status": found.status if found.banned_at is None else found.status.upper(),
        "registrant": found.registrant,
        "spec": f"hash {found.spec_hash.hex()}",
        "gateway": found.site,
        "origin": _origin(found),
        "key": _shown(found.key),
        "since": f"{show_time(found.since)}, block {found.from_block}",
    }

    if record := found.record:
        rows |= {"aliases": ", ".join(record.aliases), "spec": record.spec}
        rows |= {"nonce": found.nonce.hex(), "data": record.data or "none"}
    return rows


def _origin(found: Device) -> str:
    if found.record is None:
        return "registered with its batch"
    return "IMPORTED, by a signature that does not cover its nonce" if found.signature else "registered"


def _shown(key: Any) -> str:
    return f"P-256 {key.data.hex()}" if key else "none"
