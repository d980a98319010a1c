"""The contract DeviceRegistry: read devices, registrants, specs and sites, and send a registrant's transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from blockota.approval.safe_transaction import signable
from blockota.bindings.contract import OwnedContract, status_of
from blockota.chain import Receipt
from blockota.errors import Action, RefusedError, UsageError
from blockota.ethereum import keccak
from blockota.formats.abi import encode, interface
from blockota.formats.iotregistry import RegistrantRecord, SpecRecord, ThingRecord, ThingTransaction
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.model.device import (
    BLOCK,
    Ban,
    Batch,
    Device,
    DeviceVersion,
    Registrant,
    Registration,
    Site,
    Spec,
    SpecUpdate,
    batch_root,
    key_words,
    spec_hash,
    split_name,
)
from blockota.model.identity import ban_reason
from blockota.model.iot_import import Known
from blockota.model.release import product_key, product_name

if TYPE_CHECKING:
    from eth_account.messages import SignableMessage
    from eth_account.signers.base import BaseAccount

_BLOCKS_ASKED = 16
"""The number of blocks of device numbers in one request. With this number, the answer has at most a few megabytes."""
_DOMAIN_NAME = "BlockOTA DeviceRegistry"
_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_RECORDS: Mapping[str, Callable[[bytes], RegistrantRecord | SpecRecord | ThingRecord]] = {
    "RegistrantPubkey": RegistrantRecord.decode,
    "Spec": SpecRecord.decode,
    "Thing": ThingRecord.decode,
}
"""The functions that read those records of IOTRegistry that have a query, by the first part of the records' keys."""
Value = TypeVar("Value")


class DevicesContract(OwnedContract):
    """The contract with the devices of a city."""

    NAME, SETTING = "DeviceRegistry", "devices"

    def device(self, number: int, *, block: int | None = None) -> Device | None:
        """Return one device; None if no device has the number."""
        return _device(self._ask("device", number, block=block))

    def number_of(self, alias: str, *, block: int | None = None) -> int | None:
        """Return the number of the device with an alias; None if no device has the alias."""
        return self._ask("numberOf", alias, block=block) or None

    def known_device(self, name: int | str) -> Device:
        """Return a device by its number or by one of its aliases.

        Raises:
            RefusedError: the device is not registered.
        """
        number = name if isinstance(name, int) else self.number_of(name)
        found = self.device(number) if number else None
        if found is None:
            raise RefusedError(
                f"device {name} is not registered",
                why=f"the contract {self.address} has no record of it",
                remedy="check the number or the alias",
                action=Action.LIST_DEVICES,
            )
        return found

    def block_count(self, *, block: int | None = None) -> int:
        """Return the number of blocks of 256 device numbers that were allocated to sites. Blocks are counted from 1."""
        return int(self._ask("blockCount", block=block))

    def devices(self, *, block: int | None = None) -> Iterator[Device]:
        """Yield all devices except the devices of batches, in ascending order of their numbers."""
        # A device of a batch has no record of its own, so blocks that belong to one batch are not read.
        batches = [one for site in self.sites(block=block) for one in self.batches(site.uuid, block=block)]
        blocks = range(BLOCK, (self.block_count(block=block) + 1) * BLOCK, BLOCK)
        starts = [start for start in blocks if not any(_fills_block(one, start) for one in batches)]

        for first in range(0, len(starts), _BLOCKS_ASKED):
            questions = [(start, BLOCK) for start in starts[first : first + _BLOCKS_ASKED]]
            for page in self._ask_many("devices", questions, block=block):
                yield from (found for record in page if (found := _device(record)) and found.record)

    def devices_in(self, words: Iterable[int], *, block: int | None = None) -> list[Device]:
        """Return the devices of the given blocks of device numbers, including the devices of batches.

        Block `w` has the numbers from 256 * w to 256 * w + 255.
        """
        pages = self._ask_many("devices", [(word * BLOCK, BLOCK) for word in words], block=block)
        return [found for page in pages for record in page if (found := _device(record))]

    def versions(self, number: int, *, block: int | None = None) -> list[DeviceVersion]:
        """Return all versions of a device, the current version first.

        The list is empty for a device of a batch.
        """
        return [_version(record) for record in self._ask("generations", number, block=block)]

    def record(self, key: str, *, block: int | None = None) -> bytes:
        """Return IOTRegistry's record under a key such as ``Spec:thermo2``; empty if there is no record."""
        return bytes(self._ask("record", key, block=block))

    def query(self, key: str) -> str:
        """Return the record of a registrant, a spec or a thing as JSON, in the form of IOTRegistry's query answers.

        Args:
            key: the key of the record: ``RegistrantPubkey:<hex>``, ``Spec:<name>``, ``Thing:<nonce in hex>`` or
                ``Alias:<alias>``. An alias selects the thing with this alias.

        Raises:
            UsageError: the key does not begin with one of these prefixes.
            RefusedError: no record has this key.
        """
        kind, _, name = key.partition(":")
        if kind not in _RECORDS and kind != "Alias":
            kinds = f"{', '.join(_RECORDS)} or Alias"
            raise UsageError(f"{key!r:.80} is not a key of IOTRegistry", why=f"a key begins with {kinds}, and ':'")

        if kind == "Alias":
            return self.query(f"Thing:{self.known_device(name).nonce.hex()}")

        record = self.record(key)
        if not record:
            why = f"the contract {self.address} has no record of it"
            raise RefusedError(f"{key!r:.160} is not on record", why=why, remedy="check the key")
        return _read(_RECORDS[kind], record).query()

    def batches(self, site: UUID, *, block: int | None = None) -> list[Batch]:
        """Return the batches of a site in the order of their numbers."""
        return self._pages("batches", _batch, site.bytes, block=block)

    def batch_of(self, number: int, *, block: int | None = None) -> Batch | None:
        """Return the batch of a device; None if the device is not part of a batch."""
        record = self._ask("batchOf", number, block=block)
        return _batch(record) if record["count"] else None

    def known_to_import(self, things: Sequence[ThingTransaction]) -> Known:
        """Read all registrants and specs, and the nonces and aliases of an IOTRegistry file that are registered."""
        aliases = list(dict.fromkeys(alias for one in things for alias in one.aliases))
        taken = dict(zip(aliases, self._ask_many("numberOf", [(alias,) for alias in aliases]), strict=True))
        keys = [(f"Thing:{one.nonce.hex()}",) for one in things]
        records = zip(things, self._ask_many("record", keys), strict=True)
        return Known(
            registrants=self.registrants(),
            specs={one.name: one.registrant for one in self.specs()},
            nonces=frozenset(one.nonce for one, record in records if record),
            aliases={alias: number for alias, number in taken.items() if number},
        )

    def registrant(self, name: str, *, block: int | None = None) -> Registrant | None:
        """Return one registrant; None if no registrant has the name."""
        return _registrant(self._ask("registrant", product_key(name), block=block))

    def registrants(self, *, block: int | None = None) -> list[Registrant]:
        """Return all registrants in the order of their admission, including suspended registrants."""
        return self._pages("registrants", _registrant, block=block)

    def spec(self, name: str, *, block: int | None = None) -> Spec | None:
        """Return one spec; None if no spec has the name."""
        return _spec(self._ask("spec", spec_hash(name), block=block))

    def known_spec(self, name: str) -> Spec:
        """Return one spec.

        Raises:
            RefusedError: no spec has the name.
        """
        found = self.spec(name)
        if found is None:
            why = f"the contract {self.address} has no record of it"
            raise RefusedError(
                f"the spec {name!r:.80} is not registered", why=why, remedy="check the name", action=Action.LIST_SPECS
            )
        return found

    def specs_with(self, hashes: Iterable[bytes], *, block: int | None = None) -> list[Spec]:
        """Return the specs with the given hashes, in few requests."""
        return [found for one in self._ask_many("spec", [(h,) for h in hashes], block=block) if (found := _spec(one))]

    def specs(self, *, block: int | None = None) -> list[Spec]:
        """Return all specs in the order of their registration."""
        return self._pages("specs", _spec, block=block)

    def updates(self, spec: Spec, *, block: int | None = None) -> list[SpecUpdate]:
        """Return the products that may update the devices of a spec, including products whose permission has ended."""
        return self._pages("updates", _update, spec.hash, block=block)

    def allows(self, spec: bytes, chain_id: int, contract: str, product: str) -> bool:
        """Whether a product may update the devices of a spec. `spec` is the hash of the spec."""
        return bool(self._ask("allows", spec, chain_id, contract, product_key(product)))

    def site(self, uuid: UUID, *, block: int | None = None) -> Site | None:
        """Return the site of a gateway; None if the gateway has no blocks of device numbers."""
        return _site(self._ask("site", uuid.bytes, block=block))

    def sites(self, *, block: int | None = None) -> list[Site]:
        """Return all sites, sorted by the first block of their device numbers."""
        return self._pages("sites", _site, block=block)

    def register(self, account: BaseAccount, registration: Registration, *, payer: BaseAccount) -> Device:
        """Sign a registration with the registrant's account, and register the device in a transaction of `payer`.

        Raises:
            ContractRefusalError: the contract refuses the registration.
        """
        signed = account.sign_message(self.signable(registration))
        receipt = self._send(payer, "register", registration.as_argument(), bytes(signed.signature))
        number = self.number_of(registration.aliases[0], block=receipt.block_number)
        found = self.device(number, block=receipt.block_number) if number else None
        if found is None:
            raise AssertionError("a registered device has no record")
        return found

    def register_batch(self, account: BaseAccount, names: Sequence[str], *, site: UUID) -> Batch:
        """Register the devices of a batch, as their registrant.

        Returns the batch with the number of its first device.

        Raises:
            ContractRefusalError: the contract refuses the batch.
        """
        spec = spec_hash(split_name(names[0])[1])
        receipt = self._send(account, "registerBatch", spec, site.bytes, len(names), batch_root(names))
        placed = (interface(self.NAME).decode_event(log.topics, log.data) for log in receipt.logs)
        number = next(event.arguments["first"] for event in placed if event and event.name == "BatchRegistered")
        found = self.batch_of(number, block=receipt.block_number)
        if found is None:
            raise AssertionError("a registered batch has no record")
        return found

    def signable(self, registration: Registration) -> SignableMessage:
        """Return a registration in the form that accounts sign (EIP-712)."""
        values = [keccak(text=_DOMAIN_TYPE), keccak(text=_DOMAIN_NAME), keccak(text="1")]
        types = ["bytes32", "bytes32", "bytes32", "uint256", "address"]
        domain = keccak(encode(types, [*values, self.chain.chain_id, self.address]))
        return signable(domain, registration.struct_hash())

    def register_spec(self, account: BaseAccount, name: str, *, data: str) -> Receipt:
        """Register a spec, as a registrant."""
        return self._send(account, "registerSpec", name, data)

    def allow(self, account: BaseAccount, spec: str, update: SpecUpdate) -> Receipt:
        """Add a product to the spec's list of products that may update its devices, as the spec's registrant.

        If `allowed` is false, the product's entry is ended instead.
        """
        function = "allow" if update.allowed else "disallow"
        arguments = (update.chain_id, update.contract, product_key(update.product))
        return self._send(account, function, spec_hash(spec), *arguments)

    def set_key(self, account: BaseAccount, number: int, key: PublicKey) -> Receipt:
        """Give a device a P-256 key, or replace its key, as the device's registrant."""
        return self._send(account, "setKey", number, *key_words(key))

    def change(self, account: BaseAccount, function: str, *arguments: Any) -> Receipt:
        """Send `transfer`, `ban` or `unban`, as a registrant or an Administrator.

        The arguments of the function come from `change_arguments`.
        """
        return self._send(account, function, *arguments)


def change_arguments(number: int, *, to: str = "", reason: str = "") -> tuple[Any, ...]:
    """Return the arguments of ``transfer`` (with `to`), of ``ban`` (with `reason`) or of ``unban`` (with neither).

    Raises:
        UsageError: the registrant's name or the reason is too long, or not printable ASCII.
    """
    if to:
        return number, product_key(to)
    return (number, ban_reason(reason)) if reason else (number,)


def import_call(things: Sequence[tuple[Registration, bytes]]) -> bytes:
    """Return the calldata that imports things of IOTRegistry with their original signatures."""
    arguments = [{"thing": one.as_argument(), "signature": signature} for one, signature in things]
    return interface(DevicesContract.NAME).encode_call("importThings", arguments)


def _registrant(record: Mapping[str, Any]) -> Registrant | None:
    if not any(record["name"]):
        return None
    return Registrant(
        name=product_name(record["name"]),
        account=record["account"],
        suspended=record["suspended"],
        since=record["since"],
        public_key=record["publicKey"],
    )


def _spec(record: Mapping[str, Any]) -> Spec | None:
    if not any(record["specHash"]):
        return None
    with_record = _read(SpecRecord.decode, record["record"])
    return Spec(record["name"], product_name(record["registrant"]), record["signature"], with_record)


def _update(record: Mapping[str, Any]) -> SpecUpdate:
    return SpecUpdate(record["chain"], record["blockOta"], product_name(record["product"]), record["allowed"])


def _site(record: Mapping[str, Any]) -> Site | None:
    return Site(UUID(bytes=record["uuid"]), record["given"], record["left"]) if any(record["uuid"]) else None


def _batch(record: Mapping[str, Any]) -> Batch:
    return Batch(
        first=record["first"],
        count=record["count"],
        root=record["root"],
        spec_hash=record["specHash"],
        registrant=product_name(record["registrant"]),
        since=record["since"],
    )


def _fills_block(batch: Batch, start: int) -> bool:
    """Whether a batch contains the whole block of device numbers that begins at `start`."""
    return batch.first <= start and start + BLOCK <= batch.first + batch.count


def _version(record: Mapping[str, Any]) -> DeviceVersion:
    registrant, key = product_name(record["registrant"]), _key(record["key"])
    return DeviceVersion(registrant, key, record["fromBlock"], record["toBlock"] or None)


def _device(record: Mapping[str, Any]) -> Device | None:
    if not record["number"]:
        return None
    return Device(
        number=record["number"],
        registrant=product_name(record["registrant"]),
        spec_hash=record["specHash"],
        site=UUID(bytes=record["site"]),
        ban=status_of(Ban, record["ban"], of="a device", setting="devices"),
        banned_at=record["bannedAt"] or None,
        since=record["since"],
        from_block=record["fromBlock"],
        key=_key(record["key"]),
        nonce=record["nonce"],
        signature=record["signature"],
        record=_read(ThingRecord.decode, record["record"]) if record["record"] else None,
    )


def _key(data: bytes) -> PublicKey | None:
    return _read(lambda raw: PublicKey(KeyKind.P256, raw), data) if data else None


def _read(read: Callable[[bytes], Value], data: bytes) -> Value:
    """Decode bytes that the contract returned. Invalid bytes mean that the node's answer is wrong."""
    try:
        return read(data)
    except UsageError as error:
        raise RefusedError("the contract's answer is not valid", why=f"{error.what}: {error.why}") from error
