"""Records of a city's identities and of a consortium's producers: the fields that the contracts store, and JSON.

Pure.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any
from uuid import UUID

from blockota.errors import UsageError
from blockota.formats.public_key import KeyKind, PublicKey, read_pem
from blockota.model.release import show_time
from blockota.strict_json import address, text

BAN_REASON_SIZE = TUNNEL_KEY_SIZE = 32


class IdentityKind(enum.Enum):
    """The kind of an identity, with its number in the contract."""

    VALIDATOR = 1
    GATEWAY = 2
    ADMINISTRATOR = 3
    FOG = 4
    CLOUD = 5
    OPERATOR = 6
    TECHNICIAN = 7

    def __str__(self) -> str:
        """The name of the kind, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Keys:
    """The account and the public keys of an identity.

    Attributes:
        key: the P-256, Ed25519 or RSA key with which the identity signs requests.
        account: address of the account that sends the identity's transactions.
        log_key: Ed25519 key that signs the identity's log.
        tunnel_key: X25519 key of the identity's tunnel.
    """

    key: PublicKey
    account: str | None = None
    log_key: bytes | None = None
    tunnel_key: bytes | None = None

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of the keys."""
        log_key = PublicKey(KeyKind.ED25519, self.log_key).pem if self.log_key else None
        tunnel_key = base64.b64encode(self.tunnel_key).decode() if self.tunnel_key else None
        return {
            "account": self.account,
            "keyKind": str(self.key),
            "key": self.key.pem,
            "logKey": log_key,
            "tunnelKey": tunnel_key,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Keys:
        """Read the JSON object of the keys.

        The field ``keyKind`` is not read, because it follows from the key.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or has a wrong value; `strict_json.fault` describes it.
            UsageError: a key does not have the right format.
        """
        key = identity_key(text(fields, "key"))
        account = address(fields, "account") if fields.get("account") is not None else None
        log_key = log_key_of(text(fields, "logKey")) if fields.get("logKey") is not None else None
        tunnel_key = tunnel_key_of(text(fields, "tunnelKey")) if fields.get("tunnelKey") is not None else None
        return cls(key, account, log_key, tunnel_key)


@dataclass(frozen=True)
class Enrolment:
    """An identity to be enrolled.

    The docstring of `Identity` describes the attributes.
    """

    uuid: UUID
    kind: IdentityKind
    keys: Keys
    virtual_ip: IPv4Address | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Enrolment:
        """Read the JSON object of an identity. Fields that only the contract sets, such as ``since``, are not read.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or has a wrong value; `strict_json.fault` describes it.
            UsageError: a key does not have the right format.
        """
        has_ip = fields.get("virtualIp") is not None
        return cls(
            uuid=UUID(text(fields, "uuid")),
            kind=identity_kind(text(fields, "kind")),
            keys=Keys.from_fields(fields),
            virtual_ip=virtual_ip_of(text(fields, "virtualIp")) if has_ip else None,
        )


@dataclass(frozen=True)
class Generation:
    """One generation of an identity's keys, and the blocks in which these keys were the newest.

    Attributes:
        keys: account and keys.
        from_block: first block.
        to_block: block of the rotation that ended the generation; None for the newest generation.
    """

    keys: Keys
    from_block: int
    to_block: int | None

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a generation."""
        return {**self.keys.as_fields(), "fromBlock": self.from_block, "toBlock": self.to_block}


@dataclass(frozen=True)
class Identity:
    """The record of an identity.

    Attributes:
        uuid: the UUID, which names the identity permanently.
        kind: what the identity is.
        keys: the newest account and keys.
        virtual_ip: IPv4 address of the identity inside the WireGuard tunnels.
        banned: whether the identity is banned now.
        banned_at: Unix time of the newest ban, even if the ban was lifted; None if the identity was never banned.
        retired: whether the identity is permanently retired.
        since: Unix time of the enrolment.
        from_block: block from which the newest keys are valid.
        previous: UUID of the identity that was enrolled immediately before this identity.
    """

    uuid: UUID
    kind: IdentityKind
    keys: Keys
    virtual_ip: IPv4Address | None
    banned: bool
    banned_at: int | None
    retired: bool
    since: int
    from_block: int
    previous: UUID | None

    @property
    def is_active(self) -> bool:
        """Whether the identity is neither banned nor retired."""
        return not self.banned and not self.retired

    @property
    def status(self) -> str:
        """Whether the identity is active, banned or retired."""
        if self.retired:
            return "retired"
        return "banned" if self.banned else "active"

    @property
    def status_text(self) -> str:
        """The status with the time of a ban."""
        if self.banned_at is None:
            return self.status
        ban = f"banned on {show_time(self.banned_at)}"
        return ban if self.status == "banned" else f"{self.status}, {'was ' * (not self.banned)}{ban}"

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of an identity, as in ``identity show --json``."""
        return {
            "uuid": str(self.uuid),
            "kind": str(self.kind),
            "status": self.status,
            **self.keys.as_fields(),
            "virtualIp": str(self.virtual_ip) if self.virtual_ip else None,
            "bannedAt": self.banned_at,
            "since": self.since,
            "fromBlock": self.from_block,
        }


def obstacle_of(own: Identity | None, kind: IdentityKind) -> str:
    """Return why a service cannot use its own identity; empty if the service can use its identity.

    Args:
        own: the record of the service's identity; None if the identity is not enrolled.
        kind: the kind of identity that the service needs.
    """
    if own is None or own.retired:
        return "the registry has retired it" if own else "it is not enrolled"
    if own.kind is not kind:
        return f"it is enrolled as {own.kind}, and this service needs a {kind}"
    return "it is banned" if own.banned else ""


@dataclass(frozen=True)
class Producer:
    """The record of a producer.

    Attributes:
        name: name of the producer.
        block_ota: address of the producer's contract BlockOTA.
        replication: address of the producer's contract FirmwareReplication; None if the producer has no such contract.
        suspended: whether the consortium has suspended the producer.
        since: Unix time of the admission.
    """

    name: str
    block_ota: str
    replication: str | None
    suspended: bool
    since: int

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a producer, as in ``producer list --json``."""
        return {
            "name": self.name,
            "contract": self.block_ota,
            "replication": self.replication,
            "suspended": self.suspended,
            "since": self.since,
        }


def identity_key(pem: str) -> PublicKey:
    """Read the PEM file of an identity's key.

    Raises:
        UsageError: the file is not a P-256, Ed25519 or RSA key.
    """
    key = read_pem(pem)
    if key.kind is KeyKind.X25519:
        raise UsageError(
            "an X25519 key cannot be the key of an identity",
            why="it cannot sign",
            remedy="give a P-256, Ed25519 or RSA key; an X25519 key is for the tunnel only",
        )
    return key


def log_key_of(pem: str) -> bytes:
    """Read the PEM file of the Ed25519 key that signs a log.

    Raises:
        UsageError: the file is not an Ed25519 key.
    """
    key = read_pem(pem)
    if key.kind is not KeyKind.ED25519:
        raise UsageError(
            "the key is not the key of a log", why=f"the kind of the key is {key}", remedy="give an Ed25519 key"
        )
    return key.data


def tunnel_key_of(words: str) -> bytes:
    """Read an X25519 key in Base64, the text form of WireGuard.

    Raises:
        UsageError: the text is not an X25519 key.
    """
    try:
        key = base64.b64decode(words.strip(), validate=True)
    except ValueError:
        key = b""

    if len(key) != TUNNEL_KEY_SIZE or not any(key):
        raise UsageError(
            f"{words!r:.60} is not a tunnel's key",
            why=f"it is not {TUNNEL_KEY_SIZE} bytes in Base64",
            remedy="give the output of `wg pubkey`",
        )
    return key


def identity_kind(name: str) -> IdentityKind:
    """Parse the name of a kind, such as ``gateway``.

    Raises:
        UsageError: no kind has this name.
    """
    if name.upper() not in IdentityKind.__members__:
        kinds = ", ".join(map(str, IdentityKind))
        raise UsageError(f"{name!r:.60} is not a kind of identity", why=f"the kinds are: {kinds}")
    return IdentityKind[name.upper()]


def virtual_ip_of(address: str) -> IPv4Address:
    """Read an IPv4 address inside the tunnel.

    Raises:
        UsageError: the text is not the IPv4 address of a host.
    """
    try:
        found = IPv4Address(address)
    except AddressValueError:
        found = IPv4Address(0)
    # An address belongs to its identity for ever, so an error cannot be corrected after the enrolment.
    is_special = found.is_loopback or found.is_multicast or found.is_link_local or found.is_reserved
    if is_special or not int(found):
        why = "it is not the IPv4 address of a host, such as 10.64.0.7"
        raise UsageError(f"{address!r:.60} is not a virtual IP", why=why)
    return found


def ban_reason(words: str) -> bytes:
    """Encode the reason of a ban as the contract's bytes32.

    Raises:
        UsageError: the reason is empty, too long, or not printable ASCII.
    """
    if not 0 < len(words) <= BAN_REASON_SIZE or not (words.isascii() and words.isprintable()):
        raise UsageError(
            "a ban needs a short reason",
            why=f"the contract records 1 to {BAN_REASON_SIZE} printable ASCII characters, not {words!r:.60}",
            remedy="give a reason such as 'stolen'",
        )
    return words.encode().ljust(BAN_REASON_SIZE, b"\0")
