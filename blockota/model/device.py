"""Devices of a city, and their registrants, specs and sites, as the contract DeviceRegistry records them.

Pure.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from blockota.errors import UsageError, shortened
from blockota.ethereum import keccak, to_checksum_address
from blockota.formats.abi import encode
from blockota.formats.iotregistry import SpecRecord, ThingRecord, uncompressed
from blockota.formats.public_key import KeyKind, PublicKey, read_pem
from blockota.formats.tlog import leaf_hash, tree_of
from blockota.model.release import product_key, show_time

BLOCK = 256
"""The quantity of device numbers in a block."""
REGISTRATION_TYPE = (
    "Registration(bytes32 registrant,bytes nonce,string[] aliases,string data,string spec,bytes16 site,"
    "bytes32 keyX,bytes32 keyY)"
)
"""The EIP-712 type of the data that a registrant signs (``encodeType``)."""
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)


class Ban(enum.Enum):
    """The party that banned a device, with its number in the contract."""

    NONE = 0
    REGISTRANT = 1
    CITY = 2

    def __str__(self) -> str:
        """The name of the party, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Registrant:
    """The record of a registrant.

    Attributes:
        name: name of the registrant, with which the names of its devices begin.
        account: address of the account that signs its registrations.
        suspended: whether the city suspends the registrant.
        since: Unix time of the admission.
        public_key: compressed secp256k1 key, by which IOTRegistry identifies the registrant.
    """

    name: str
    account: str
    suspended: bool
    since: int
    public_key: bytes

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a registrant, as in ``device registrant list --json``."""
        return {
            "name": self.name,
            "account": self.account,
            "suspended": self.suspended,
            "since": self.since,
            "publicKey": self.public_key.hex(),
        }


@dataclass(frozen=True)
class SpecUpdate:
    """An entry in the update list of a spec: a product that may update the spec's devices.

    If `allowed` is false, the product may not update the devices any more.
    """

    chain_id: int
    contract: str
    product: str
    allowed: bool

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a product on a list."""
        return {
            "chainId": self.chain_id,
            "contract": self.contract,
            "product": self.product,
            "allowed": self.allowed,
        }


@dataclass(frozen=True)
class Spec:
    """The record of a spec, which describes a model.

    Attributes:
        name: name of the spec.
        registrant: name of the registrant that registered the spec.
        signature: IOTRegistry's signature of an imported spec; empty if the spec is not imported.
        record: IOTRegistry's record.
    """

    name: str
    registrant: str
    signature: bytes
    record: SpecRecord

    @property
    def hash(self) -> bytes:
        """The hash that identifies the spec in other contracts."""
        return spec_hash(self.name)

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a spec."""
        return {
            "name": self.name,
            "specHash": f"0x{self.hash.hex()}",
            "registrant": self.registrant,
            "imported": bool(self.signature),
            "data": self.record.data,
        }


@dataclass(frozen=True)
class Site:
    """A gateway with blocks of device numbers.

    Attributes:
        uuid: UUID of the gateway.
        given: quantity of device numbers that the city has allocated to the site.
        left: quantity of allocated device numbers that are still unused.
    """

    uuid: UUID
    given: int
    left: int

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a site, as in ``device site list --json``."""
        return {"uuid": str(self.uuid), "given": self.given, "left": self.left}


@dataclass(frozen=True)
class DeviceVersion:
    """A version of a device's record: registrant, key, and the range of blocks in which the version was current.

    Attributes:
        registrant: name of the registrant.
        key: P-256 key of the device.
        from_block: first block.
        to_block: first block of the next version; None for the current version.
    """

    registrant: str
    key: PublicKey | None
    from_block: int
    to_block: int | None

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a version."""
        return {
            "registrant": self.registrant,
            "key": self.key.pem if self.key else None,
            "fromBlock": self.from_block,
            "toBlock": self.to_block,
        }


@dataclass(frozen=True)
class Device:
    """The record of a device.

    Attributes:
        number: number of the device.
        registrant: name of the current registrant.
        spec_hash: hash of the spec.
        site: UUID of the gateway at the device's site.
        ban: who banned the device.
        banned_at: Unix time of the ban; None if the device is not banned.
        since: Unix time of the current version.
        from_block: block of the current version.
        key: P-256 key of the device.
        nonce: IOTRegistry's id of the device; empty if the device was registered in a batch.
        signature: IOTRegistry's signature of an imported device; empty if the device is not imported.
        record: IOTRegistry's record; None if the device was registered in a batch.
    """

    number: int
    registrant: str
    spec_hash: bytes
    site: UUID
    ban: Ban
    banned_at: int | None
    since: int
    from_block: int
    key: PublicKey | None
    nonce: bytes
    signature: bytes
    record: ThingRecord | None

    @property
    def name(self) -> str:
        """The first alias of the device, or the device's number if it was registered in a batch."""
        return self.record.aliases[0] if self.record else str(self.number)

    @property
    def status(self) -> str:
        """Whether the device is banned, by whom, and since when."""
        if self.banned_at is None:
            return "active"
        return f"banned by the {self.ban} on {show_time(self.banned_at)}"

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a device, as in ``device show --json``."""
        # A device that was registered in a batch has no record on the chain.
        record = self.record
        aliases, spec, data = (list(record.aliases), record.spec, record.data) if record else ([], None, None)
        banned_by = None if self.ban is Ban.NONE else str(self.ban)
        key = self.key.pem if self.key else None

        return {
            "number": self.number,
            "aliases": aliases,
            "registrant": self.registrant,
            "spec": spec,
            "specHash": f"0x{self.spec_hash.hex()}",
            "site": str(self.site),
            "imported": bool(self.signature),
            "bannedBy": banned_by,
            "bannedAt": self.banned_at,
            "since": self.since,
            "fromBlock": self.from_block,
            "key": key,
            "nonce": self.nonce.hex(),
            "data": data,
        }


@dataclass(frozen=True)
class Batch:
    """Devices that were registered together.

    The contract does not record the devices' names. It records only the root of their Merkle tree (RFC 6962).

    Attributes:
        first: number of the first device.
        count: quantity of devices, whose numbers are consecutive.
        root: the RFC 6962 root.
        spec_hash: hash of the devices' spec.
        registrant: name of the devices' registrant.
        since: Unix time of the registration.
    """

    first: int
    count: int
    root: bytes
    spec_hash: bytes
    registrant: str
    since: int

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a batch, as in ``device list --json``."""
        return {
            "first": self.first,
            "count": self.count,
            "root": self.root.hex(),
            "specHash": f"0x{self.spec_hash.hex()}",
            "registrant": self.registrant,
            "since": self.since,
        }


MAX_BATCH = 1 << 20
"""The largest quantity of devices in a batch."""


def read_batch(text: str) -> list[str]:
    """Read the file of a batch.

    Each line contains the name of one device, in the order of the devices' numbers. The contract stores the root of a
    Merkle tree (`batch_root`). The leaves of the tree are the lines without their line ends.

    Raises:
        UsageError: a line is not the name of a device, a name is repeated, or the names have several registrants or
            specs.
    """
    names = text.splitlines()
    models = dict[str, None]()
    for number, name in enumerate(names, 1):
        try:
            models["/".join(split_name(name)[:2])] = None
        except UsageError as error:
            raise error.revised(what=f"line {number}: {error.what}") from error

    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    why = ""
    if not names or len(names) > MAX_BATCH:
        why = f"it has {len(names):,} names, and a batch has 1 to {MAX_BATCH:,}"
    elif repeated:
        why = f"the name {repeated} is repeated"
    elif len(models) > 1:
        why = f"its devices are of several models: {shortened(models)}"

    if why:
        raise UsageError(
            "the file is not a batch of devices", why=why, remedy="list the devices of one model, one name on each line"
        )
    return names


def batch_root(names: Sequence[str]) -> bytes:
    """Return the RFC 6962 root of a batch, which the contract records."""
    return tree_of(leaf_hash(name.encode()) for name in names).root


@dataclass(frozen=True)
class Registration:
    """The data that a registrant signs to register a device.

    Attributes:
        registrant: name of the registrant.
        nonce: IOTRegistry's id of the device, 1 to 64 bytes.
        aliases: names of the device. The first alias has the form ``<registrant>/<spec>/<serial>``.
        data: a text that the contract does not interpret.
        spec: name of the spec.
        site: UUID of the gateway at the device's site.
        key: P-256 key of the device.
    """

    registrant: str
    nonce: bytes
    aliases: tuple[str, ...]
    data: str
    spec: str
    site: UUID
    key: PublicKey | None = None

    def as_argument(self) -> dict[str, Any]:
        """Return the registration as an argument of ``register``."""
        key_x, key_y = key_words(self.key)
        return {
            "registrant": product_key(self.registrant),
            "nonce": self.nonce,
            "aliases": list(self.aliases),
            "data": self.data,
            "spec": self.spec,
            "site": self.site.bytes,
            "keyX": key_x,
            "keyY": key_y,
        }

    def struct_hash(self) -> bytes:
        """Return the hash of the fields (``hashStruct`` in EIP-712)."""
        aliases = b"".join(keccak(text=alias) for alias in self.aliases)
        values = [
            keccak(text=REGISTRATION_TYPE),
            product_key(self.registrant),
            keccak(self.nonce),
            keccak(aliases),
            keccak(self.data.encode()),
            keccak(self.spec.encode()),
            self.site.bytes,
            *key_words(self.key),
        ]
        return keccak(encode(["bytes32"] * 6 + ["bytes16"] + ["bytes32"] * 2, values))


def account_of(public_key: bytes) -> str:
    """Return the address of the account of a secp256k1 key.

    Raises:
        UsageError: the bytes are not a point of the curve secp256k1.
    """
    return to_checksum_address(keccak(uncompressed(public_key)[1:])[12:])


def spec_hash(name: str) -> bytes:
    """Return the hash that identifies a spec in other contracts."""
    return keccak(name.encode())


def split_name(alias: str) -> tuple[str, str, str]:
    """Split the first alias of a device into registrant, spec and serial number.

    Raises:
        UsageError: the text is not REGISTRANT/SPEC/SERIAL.
    """
    parts = alias.split("/")
    if len(parts) != 3 or not all(_VISIBLE.fullmatch(part) for part in parts):  # noqa: PLR2004 - the three parts
        raise UsageError(
            f"{alias!r:.140} is not the name of a device",
            why="a device is named REGISTRANT/SPEC/SERIAL, in visible ASCII characters",
            remedy="write a name such as acme/thermo2/SN-000123",
        )
    return parts[0], parts[1], parts[2]


def registration_of(
    aliases: Sequence[str], *, nonce: bytes, data: str, site: UUID, key: PublicKey | None
) -> Registration:
    """Return the registration of a device.

    The first alias must contain the registrant and the spec.

    Raises:
        UsageError: an alias does not have the required form.
    """
    registrant, spec, _ = split_name(aliases[0])
    for alias in aliases[1:]:
        if not (_VISIBLE.fullmatch(alias) and alias.startswith(f"{registrant}/") and alias != f"{registrant}/"):
            raise UsageError(
                f"{alias!r:.140} cannot be an alias of this device",
                why=f"an alias begins with the registrant's name, {registrant}/ and has only visible ASCII characters",
                remedy=f"write {registrant}/{alias.lstrip('/')}" if _VISIBLE.fullmatch(alias) else "",
            )
    return Registration(registrant, nonce, tuple(aliases), data, spec, site, key)


def device_key(pem: str) -> PublicKey:
    """Read the PEM file of a device's key.

    Raises:
        UsageError: the file is not a P-256 key.
    """
    key = read_pem(pem)
    if key.kind is not KeyKind.P256:
        raise UsageError(
            "the key is not the key of a device", why=f"the kind of the key is {key}", remedy="give a P-256 key"
        )
    return key


def key_words(key: PublicKey | None) -> tuple[bytes, bytes]:
    """Return x and y of a key as arguments for the contract; zeros if no key exists."""
    data = key.data if key else bytes(64)
    return data[:32], data[32:]
