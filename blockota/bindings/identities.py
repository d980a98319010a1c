"""The contract IdentityRegistry: read and ban identities, and encode the arguments of enrolments and rotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any
from uuid import UUID

from blockota.bindings.contract import PAGE, OwnedContract, status_of
from blockota.chain import Receipt
from blockota.errors import Action, RefusedError, UsageError
from blockota.ethereum import ZERO_ADDRESS
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.model.identity import Enrolment, Generation, Identity, IdentityKind, Keys, ban_reason

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount


class IdentitiesContract(OwnedContract):
    """The contract with the identities of a city."""

    NAME, SETTING = "IdentityRegistry", "identities"

    def identity(self, uuid: UUID, *, block: int | None = None) -> Identity | None:
        """Return one identity with its newest keys, by one ``eth_call``; None if the identity is not enrolled."""
        return _identity(self._ask("identity", uuid.bytes, block=block))

    def identity_of(self, account: str, *, block: int | None = None) -> Identity | None:
        """Return the identity that uses an account now or used it before; None if no identity ever used the account."""
        return _identity(self._ask("identityOf", account, block=block))

    def known_identity(self, name: UUID | str) -> Identity:
        """Return an identity by its UUID, or by the address of one of its accounts.

        Raises:
            RefusedError: the identity is not enrolled.
        """
        found = self.identity(name) if isinstance(name, UUID) else self.identity_of(name)
        if found is None:
            raise RefusedError(
                f"{name} is not enrolled",
                why=f"the contract {self.address} has no record of it",
                remedy="check the UUID or the address",
                action=Action.LIST_IDENTITIES,
            )
        return found

    def generations(self, uuid: UUID, *, block: int | None = None) -> list[Generation]:
        """Return all generations of an identity's keys, the newest generation first."""
        return [
            Generation(_keys(record), record["fromBlock"], record["toBlock"] or None)
            for record in self._ask("generations", uuid.bytes, block=block)
        ]

    def identities(self, *, block: int | None = None) -> Iterator[Identity]:
        """Yield all identities, including retired identities, the most recently enrolled first."""
        place = bytes(16)
        # A dishonest node can return a list that never ends, so reading stops at an identity that was seen.
        seen: set[UUID] = set()
        while page := [
            one for record in self._ask("identities", place, PAGE, block=block) if (one := _identity(record))
        ]:
            for one in page:
                if one.uuid in seen:
                    return
                seen.add(one.uuid)
                yield one
            if page[-1].previous is None:
                return
            place = page[-1].previous.bytes

    def count(self, *, block: int | None = None) -> int:
        """Return the number of identities, including retired identities."""
        return int(self._ask("identityCount", block=block))

    def ban(self, account: BaseAccount, uuid: UUID, *, reason: str) -> Receipt:
        """Ban an identity immediately, as an Administrator or as the contract's owner.

        Raises:
            UsageError: the reason is empty, too long, or not printable ASCII.
            ContractRefusalError: the account may not ban the identity, or the identity is banned already.
        """
        return self._send(account, "ban", uuid.bytes, ban_reason(reason))


def enrolment_argument(enrolment: Enrolment) -> dict[str, Any]:
    """Return an enrolment as the argument of ``enrol``, or as an element of the argument of ``enrolAll``."""
    account, key_kind, key, log_key, tunnel_key = key_arguments(enrolment.keys)
    return {
        "uuid": enrolment.uuid.bytes,
        "kind": enrolment.kind.value,
        "account": account,
        "keyKind": key_kind,
        "key": key,
        "logKey": log_key,
        "tunnelKey": tunnel_key,
        "virtualIp": int(enrolment.virtual_ip or 0),
    }


def key_arguments(keys: Keys) -> tuple[str, int, bytes, bytes, bytes]:
    """Return account, kind of the key, key, log key and tunnel key as the arguments of ``rotate``."""
    account, key = keys.account or ZERO_ADDRESS, keys.key
    return account, key.kind.value, key.data, keys.log_key or bytes(32), keys.tunnel_key or bytes(32)


def _keys(record: Mapping[str, Any]) -> Keys:
    kind = status_of(KeyKind, record["keyKind"], of="a key", setting="identities")
    try:
        key = PublicKey(kind, record["key"])
    except UsageError as error:  # the contract checks keys, so the node's answer is wrong
        raise RefusedError("the contract's answer is not valid", why=f"{error.what}: {error.why}") from error

    # The contract stores zeros for a key or an account that the identity does not have.
    account = None if record["account"] == ZERO_ADDRESS else record["account"]
    log_key = record["logKey"] if any(record["logKey"]) else None
    tunnel_key = record["tunnelKey"] if any(record["tunnelKey"]) else None
    return Keys(key, account, log_key, tunnel_key)


def _identity(record: Mapping[str, Any]) -> Identity | None:
    if not any(record["uuid"]):
        return None

    virtual_ip = IPv4Address(record["virtualIp"]) if record["virtualIp"] else None
    previous = UUID(bytes=record["previous"]) if any(record["previous"]) else None
    return Identity(
        uuid=UUID(bytes=record["uuid"]),
        kind=status_of(IdentityKind, record["kind"], of="an identity", setting="identities"),
        keys=_keys(record),
        virtual_ip=virtual_ip,
        banned=record["banned"],
        banned_at=record["bannedAt"] or None,
        retired=record["retired"],
        since=record["since"],
        from_block=record["fromBlock"],
        previous=previous,
    )
