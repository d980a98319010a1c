"""What a signer must know of the chain, as a value and as a file for a machine without a network. Pure.

A view is what a node said at one block. Whoever signs from a file believes the machine that exported it; the block's
hash and time are shown, so that they can be compared with another source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from blockota.errors import ProposalError, UsageError
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Product, Region, Release, Status, Version, product_key
from blockota.strict_json import address, boolean, digest, dump, fault, integer, load, mapping, mappings, text

_FORMAT = "blockota-view-1"
_Status = TypeVar("_Status", Status, AgreementStatus)


@dataclass(frozen=True)
class SafeState:
    """What a Safe says of itself.

    Attributes:
        address: checksummed.
        owners: checksummed addresses.
        threshold: how many owners must sign.
        nonce: of the next transaction.
    """

    address: str
    owners: tuple[str, ...]
    threshold: int
    nonce: int


@dataclass(frozen=True)
class ChainView:
    """The chain as a signer sees it.

    Attributes:
        chain_id: which chain (EIP-155).
        block_number: the block of the view.
        block_hash: its hash, 32 bytes.
        block_time: its time, in Unix seconds.
        contract: checksummed address of BlockOTA.
        replication: checksummed address of FirmwareReplication, if there is one.
        safe: the vendor's Safe.
        products: every product.
        newest: the greatest release of each product that is not revoked.
        agreements: those that proposals at hand are about.
        source: name of the file that it was read from; empty where the chain was asked.
    """

    chain_id: int
    block_number: int
    block_hash: bytes
    block_time: int
    contract: str
    replication: str | None
    safe: SafeState
    products: tuple[Product, ...] = ()
    newest: tuple[Release, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    source: str = field(default="", compare=False)

    def product(self, name: str) -> Product | None:
        """A product by its name."""
        return next((product for product in self.products if product.name == name), None)

    def newest_of(self, name: str) -> Release | None:
        """The newest release of a product."""
        return next((release for release in self.newest if release.product == name), None)

    def agreement(self, number: int) -> Agreement | None:
        """An agreement by its number."""
        return next((agreement for agreement in self.agreements if agreement.number == number), None)

    def to_json(self) -> bytes:
        """The file's bytes, the same for equal views."""
        return dump(
            {
                "format": _FORMAT,
                "chainId": self.chain_id,
                "block": {
                    "number": self.block_number,
                    "hash": "0x" + self.block_hash.hex(),
                    "time": self.block_time,
                },
                "contracts": {"BlockOTA": self.contract, "FirmwareReplication": self.replication},
                "safe": {
                    "address": self.safe.address,
                    "owners": list(self.safe.owners),
                    "threshold": self.safe.threshold,
                    "nonce": self.safe.nonce,
                },
                "products": [_product_fields(product) for product in self.products],
                "newest": [_release_fields(release) for release in self.newest],
                "agreements": [_agreement_fields(agreement) for agreement in self.agreements],
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> ChainView:
        """Read a file.

        Raises:
            ProposalError: it is no view of ours.
        """
        fields = load(raw, form=_FORMAT, remedy="make one with `blockota proposal export-view`")
        try:
            view = _read_view(fields)
        except (KeyError, TypeError, ValueError) as error:
            raise ProposalError("the file is no chain view", why=fault(error)) from error
        if load(view.to_json(), form=_FORMAT) != fields:
            raise ProposalError("the file is no chain view", why="it has fields that do not belong there")
        return view


def _read_view(fields: Mapping[str, Any]) -> ChainView:
    block, contracts = mapping(fields, "block"), mapping(fields, "contracts")
    return ChainView(
        chain_id=integer(fields, "chainId"),
        block_number=integer(block, "number"),
        block_hash=digest(block, "hash"),
        block_time=integer(block, "time"),
        contract=address(contracts, "BlockOTA"),
        replication=None if contracts["FirmwareReplication"] is None else address(contracts, "FirmwareReplication"),
        safe=_read_safe(mapping(fields, "safe")),
        products=tuple(map(_read_product, _each_once(fields, "products", key="product"))),
        newest=tuple(map(_read_release, _each_once(fields, "newest", key="product"))),
        agreements=tuple(map(_read_agreement, _each_once(fields, "agreements", key="number"))),
    )


def _each_once(fields: Mapping[str, Any], name: str, *, key: str) -> list[dict[str, Any]]:
    """Entries of which no two are about the same thing: nobody could say which of them is shown."""
    found = mappings(fields, name)
    keys = [str(one[key]) for one in found]
    if len(set(keys)) != len(keys):
        raise ValueError(f"{name} has two entries with the same {key}")
    return found


def _read_safe(fields: Mapping[str, Any]) -> SafeState:
    owners = fields["owners"]
    if not isinstance(owners, list):
        raise TypeError(f"owners is {owners!r:.40}, no list of addresses")
    read = tuple(address({"owner": owner}, "owner") for owner in owners)
    return SafeState(address(fields, "address"), read, integer(fields, "threshold"), integer(fields, "nonce"))


def _product_fields(product: Product) -> dict[str, Any]:
    return {
        "product": product.name,
        "oem": product.oem,
        "chipId": product.chip_id,
        "flashStart": product.region.start,
        "flashSize": product.region.size,
        "minimumVersion": str(product.minimum_version) if product.minimum_version else None,
        "paired": product.paired,
    }


def _read_product(fields: Mapping[str, Any]) -> Product:
    return Product(
        name=_name(fields, "product"),
        oem=_name(fields, "oem"),
        chip_id=integer(fields, "chipId"),
        region=Region(integer(fields, "flashStart"), integer(fields, "flashSize")),
        minimum_version=_version_or_none(fields, "minimumVersion"),
        paired=boolean(fields, "paired"),
    )


def _release_fields(release: Release) -> dict[str, Any]:
    return {
        "product": release.product,
        "version": str(release.version),
        "sha256": "0x" + release.sha256.hex(),
        "size": release.size,
        "loadAddress": release.load_address,
        "activeFrom": release.active_from,
        "chipId": release.chip_id,
        "status": str(release.status),
        "previous": str(release.previous) if release.previous else None,
        "dagRoot": "0x" + release.dag_root.hex() if release.dag_root else None,
    }


def _read_release(fields: Mapping[str, Any]) -> Release:
    release = Release(
        product=_name(fields, "product"),
        version=_version(fields, "version"),
        sha256=digest(fields, "sha256"),
        size=integer(fields, "size"),
        load_address=integer(fields, "loadAddress"),
        active_from=integer(fields, "activeFrom"),
        chip_id=integer(fields, "chipId"),
        status=_member(Status, fields),
        previous=_version_or_none(fields, "previous"),
    )
    return release if fields["dagRoot"] is None else replace(release, dag_root=digest(fields, "dagRoot"))


def _agreement_fields(agreement: Agreement) -> dict[str, Any]:
    return {
        "number": agreement.number,
        "broker": agreement.broker,
        "product": agreement.product,
        "version": str(agreement.version),
        "expiresAt": agreement.expires_at,
        "status": str(agreement.status),
        "uri": agreement.uri,
    }


def _read_agreement(fields: Mapping[str, Any]) -> Agreement:
    return Agreement(
        number=integer(fields, "number"),
        broker=address(fields, "broker"),
        product=_name(fields, "product"),
        version=_version(fields, "version"),
        expires_at=integer(fields, "expiresAt"),
        status=_member(AgreementStatus, fields),
        uri=text(fields, "uri"),
    )


def _version_or_none(fields: Mapping[str, Any], name: str) -> Version | None:
    return None if fields[name] is None else _version(fields, name)


def _version(fields: Mapping[str, Any], name: str) -> Version:
    try:
        return Version.parse(text(fields, name))
    except UsageError as error:
        raise ValueError(f"{name} is {fields[name]!r:.60}, no version") from error


def _member(kind: type[_Status], fields: Mapping[str, Any]) -> _Status:
    word = text(fields, "status")
    found = next((member for member in kind if str(member) == word), None)
    if found is None:
        raise ValueError(f"status is {word!r:.40}, none of {', '.join(map(str, kind))}")
    return found


def _name(fields: Mapping[str, Any], key: str) -> str:
    name = text(fields, key)
    try:
        product_key(name)
    except UsageError as error:
        raise ValueError(f"{key} is {name!r:.60}, no name on the chain") from error
    return name
