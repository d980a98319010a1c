"""``blockota identity``: enrol identities with their keys, ban and retire them, and show them."""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from click.types import FuncParamType

from blockota.bindings.identities import IdentitiesContract, enrolment_argument, key_arguments
from blockota.cli.keys import key_option, open_key
from blockota.cli.options import ProposalDetails, ProposalOptions, may_propose_options, proposing_options, save_call
from blockota.cli.parameters import address as read_address
from blockota.cli.session import Session, VerbGroup, with_session
from blockota.errors import UsageError
from blockota.model.identity import Enrolment, IdentityKind, Keys, ban_reason, identity_kind, virtual_ip_of
from blockota.model.release import show_time
from blockota.vendor.enrolment import KeyNames, read_enrolments

_FILE = click.Path(path_type=Path)


def uuid_of(value: Any) -> UUID:
    """Parse a UUID such as ``0f8fad5b-d9cb-469f-a165-70867728950e``."""
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a UUID, such as 0f8fad5b-d9cb-469f-a165-70867728950e.") from error


def uuid_or_address(value: Any) -> UUID | str:
    """Parse a UUID, or the address of an account."""
    return read_address(value) if str(value).startswith("0x") else uuid_of(value)


def account_or_none(value: Any) -> str:
    """Parse the address of an account, or the word ``none``."""
    return "none" if value == "none" else read_address(value)


UUID_TYPE, NAME, ACCOUNT = map(FuncParamType, (uuid_of, uuid_or_address, account_or_none))
KIND = click.Choice([str(kind) for kind in IdentityKind])
_UUID = click.argument("name", metavar="UUID", type=UUID_TYPE)


@click.group(cls=VerbGroup)
def identity() -> None:
    """Enrol the gateways, administrators, operators, technicians and services of a city.

    The city's Safe decides. An Administrator can ban without the Safe.
    """


def key_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name the account and the keys of an identity, as `keys`."""

    @click.option("--public-key", type=_FILE, metavar="FILE", help="PEM file of its key.")
    @click.option("--account", type=ACCOUNT, metavar="ADDRESS", help="Account of its transactions.")
    @click.option("--log-key", metavar="FILE", help="Ed25519 key of the log.")
    @click.option("--tunnel-key", metavar="BASE64", help="X25519 key of the tunnel.")
    @functools.wraps(command)
    def wrapped(
        *args: object,
        public_key: Path | None,
        account: str | None,
        log_key: str | None,
        tunnel_key: str | None,
        **kwargs: object,
    ) -> None:
        command(*args, keys=KeyNames(public_key, account, log_key, tunnel_key), **kwargs)

    return wrapped


@identity.command()
@click.option("--kind", type=KIND, metavar="KIND", help="Kind of identity, for example gateway.")
@click.option("--uuid", "name", type=UUID_TYPE, metavar="UUID", help="UUID of the identity; random by default.")
@key_options
@click.option("--virtual-ip", metavar="ADDRESS", help="IPv4 address inside the tunnel.")
@click.option("--list", "listed", type=_FILE, metavar="FILE", help="Enrol the identities of a JSON file.")
@proposing_options
@with_session
def enrol(
    session: Session,
    /,
    kind: str | None,
    name: UUID | None,
    keys: KeyNames,
    virtual_ip: str | None,
    listed: Path | None,
    proposing: ProposalOptions,
) -> None:
    """Propose to enrol an identity, or a list of identities.

    The account, keys and virtual IP of an identity can never belong to another identity. The kinds are validator,
    gateway, administrator, fog, cloud, operator and technician. The public key is P-256, Ed25519 or RSA. The log's key
    is a PEM file or a C2SP verifier key. `wg pubkey` prints the tunnel's public key. The file of --list has the form
    that `blockota identity list --json` prints.

    \b
    Example:  blockota identity enrol --kind gateway --public-key gateway.pem \\
                  --log-key log.pub -o enrol.json \\
                  --account 0x90F79bf6EB2c4f870365E785982E1f101E93b906
    """
    if listed is not None:
        if any((kind, name, virtual_ip, keys.key, keys.account, keys.log_key, keys.tunnel_key)):
            raise UsageError(
                "--list cannot be combined with options of an identity",
                why="the file has the kinds, keys and addresses of all identities",
                remedy="omit --list, or omit the other options",
            )
        enrolments = read_enrolments(listed)
    elif kind is None or keys.key is None:
        raise UsageError(
            "--kind or --public-key is missing",
            why="an identity has a kind and a public key",
            remedy="pass both options, or --list FILE to enrol several identities",
        )
    else:
        address = virtual_ip_of(virtual_ip) if virtual_ip else None
        enrolments = [Enrolment(name or uuid.uuid4(), identity_kind(kind), keys.read(), address)]

    for one in enrolments:
        if one.keys.account is None and one.kind is not IdentityKind.FOG:
            session.note(f"Warning: the {one.kind} {one.uuid} has no account: it cannot send transactions.")

    arguments = [enrolment_argument(one) for one in enrolments]
    call = ("enrol", arguments[0]) if len(arguments) == 1 else ("enrolAll", arguments)
    names = [str(one.uuid) for one in enrolments]
    details = ProposalDetails({"identities": names}, [{"identity": one} for one in names])
    save_call(session, _contract(session), *call, proposing=proposing, details=details)


@identity.command()
@_UUID
@key_options
@proposing_options
@with_session
def rotate(session: Session, /, name: UUID, keys: KeyNames, proposing: ProposalOptions) -> None:
    """Propose to replace keys or the account of the identity UUID.

    Keys without an option stay. The value `none` removes a key. The registry keeps replaced keys and the blocks in
    which they were valid.

    \b
    Example:  blockota identity rotate 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  --public-key new.pem -o rotate.json
    """
    contract = _contract(session)
    before = contract.known_identity(name).keys
    after = keys.read(before)
    if after == before:
        raise UsageError(
            "nothing would change",
            why="the identity already has the named keys and account",
            remedy="name a new key or account",
        )
    save_call(session, contract, "rotate", name.bytes, *key_arguments(after), proposing=proposing)


@identity.command()
@_UUID
@click.option("--cause", required=True, metavar="TEXT", help="Public reason, at most 32 characters.")
@key_option("Key of an Administrator, who bans at once without a proposal", default="")
@may_propose_options
@with_session
def ban(
    session: Session,
    /,
    name: UUID,
    cause: str,
    key: str,
    password_fd: int | None,
    proposing: ProposalOptions | None,
) -> None:
    """Ban the identity UUID.

    With --key of an Administrator, the ban takes effect immediately; with -o, a proposal is written.

    A banned identity can neither anchor a log, nor order updates, nor ban identities. Only the Safe can lift a ban or
    ban an Administrator. An Administrator can ban at most 10 identities within an hour.

    \b
    Example:  blockota identity ban 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  --cause stolen --key keystore:admin.json
    """
    # One Administrator is enough to ban, because an incident cannot wait for a quorum. Lifting a ban takes the Safe.
    if bool(key) == bool(proposing):
        raise UsageError(
            "exactly one of --key and -o is needed",
            why="--key URI bans immediately as an Administrator, -o FILE writes a proposal to ban",
            remedy="pass one of them",
        )

    if proposing:
        save_call(session, _contract(session), "ban", name.bytes, ban_reason(cause), proposing=proposing)
        return

    account = open_key(session.gateway.settings.chain_id, key, password_fd)
    receipt = _contract(session).ban(account, name, reason=cause)
    transaction = "0x" + receipt.transaction.hex()

    fields = {"uuid": str(name), "banned": True, "transaction": transaction, "block": receipt.block_number}
    sentence = f"{name} is banned since block {receipt.block_number}, transaction {transaction}"
    then = (
        f"Next: `blockota identity rotate {name} --public-key FILE -o FILE` replaces its key; "
        f"`blockota identity unban {name} -o FILE` lifts the ban"
    )
    session.result(fields, lambda: session.done(sentence), then=then)


@identity.command()
@_UUID
@proposing_options
@with_session
def unban(session: Session, /, name: UUID, proposing: ProposalOptions) -> None:
    """Propose to lift the ban of the identity UUID.

    \b
    Example:  blockota identity unban 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  -o unban.json
    """
    save_call(session, _contract(session), "unban", name.bytes, proposing=proposing)


@identity.command()
@_UUID
@proposing_options
@with_session
def retire(session: Session, /, name: UUID, proposing: ProposalOptions) -> None:
    """Propose to retire the identity UUID permanently.

    The identity's record stays readable. Its keys can never be enrolled again.

    \b
    Example:  blockota identity retire 0f8fad5b-d9cb-469f-a165-70867728950e \\
                  -o retire.json
    """
    save_call(session, _contract(session), "retire", name.bytes, proposing=proposing)


@identity.command()
@click.argument("name", metavar="UUID|ADDRESS", type=NAME)
@click.option("--pem", is_flag=True, help="Print only the public key, as a PEM file.")
@with_session
def show(session: Session, /, name: UUID | str, *, pem: bool) -> None:
    """Show an identity and its public keys.

    The identity is named by its UUID or by the address of its account. Replaced keys are shown with the blocks in which
    they were valid.

    \b
    Example:  blockota identity show 0f8fad5b-d9cb-469f-a165-70867728950e
    """
    contract = _contract(session)
    found = contract.known_identity(name)
    if pem and not session.as_json:
        click.echo(found.keys.key.pem, nl=False)
        return

    former = contract.generations(found.uuid)[1:]
    fields = found.as_fields() | {"former": [one.as_fields() for one in former]}
    rows = {
        "identity": found.uuid,
        "kind": found.kind,
        "status": found.status_text.upper() if found.status == "banned" else found.status_text,
        "enrolled": show_time(found.since),
        "virtual IP": found.virtual_ip or "none",
        "keys valid": f"from block {found.from_block}",
        **_key_rows(found.keys),
    }

    def show_all() -> None:
        session.fields(rows)
        for one in former:
            session.print("")
            session.fields({"former keys": f"block {one.from_block} to block {one.to_block}", **_key_rows(one.keys)})

    session.result(fields, show_all)


@identity.command("list")
@click.option("--kind", type=KIND, help="Only identities of this kind.")
@click.option("--active", is_flag=True, help="Only identities that are neither banned nor retired.")
@with_session
def list_(session: Session, /, kind: str | None, *, active: bool) -> None:
    """List the identities, from the last enrolled to the first.

    \b
    Example:  blockota identity list --kind gateway
    """
    found = [one for one in _contract(session).identities() if kind in (None, str(one.kind))]
    if active:
        found = [one for one in found if one.is_active]
    columns = ("UUID", "KIND", "STATUS", "KEY", "VIRTUAL IP", "ACCOUNT")
    rows = [
        (one.uuid, one.kind, one.status, one.keys.key, one.virtual_ip or "-", one.keys.account or "-") for one in found
    ]
    empty = "No such identity." if kind or active else "No identity is enrolled."
    fields = {"identities": [one.as_fields() for one in found]}
    session.result(fields, lambda: session.table(columns, rows, empty=empty))


def _key_rows(keys: Keys) -> dict[str, object]:
    fields = keys.as_fields()
    return {
        "account": keys.account or "none",
        f"{keys.key} key": f"SHA-256 {hashlib.sha256(keys.key.spki).hexdigest()} of the SubjectPublicKeyInfo",
        "log key": keys.log_key.hex() if keys.log_key else "none",
        "tunnel key": fields["tunnelKey"] or "none",
    }


def _contract(session: Session) -> IdentitiesContract:
    return session.gateway.open(IdentitiesContract)
