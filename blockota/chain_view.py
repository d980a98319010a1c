"""What a signer must know of the chain, as a value and as a file for a machine without a network. Pure.

A view is what a node said at one block. Whoever signs from a file believes the machine that exported it; the block's
hash and time are shown, so that they can be compared with another source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from blockota.agreement import Agreement, AgreementStatus
from blockota.errors import ProposalError, UsageError
from blockota.release import Product, Region, Release, Status, Version, product_key
from blockota.strict_json import address, dump, fault, hexadecimal, integer, load

_FORMAT = "blockota-view-1"


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
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise ProposalError("the file is no chain view", why=fault(error)) from error
        if load(view.to_json(), form=_FORMAT) != fields:
            raise ProposalError("the file is no chain view", why="it has fields that do not belong there")
        return view


def _read_view(fields: Mapping[str, Any]) -> ChainView:
    block, contracts = fields["block"], fields["contracts"]
    return ChainView(
        chain_id=integer(fields, "chainId"),
        block_number=integer(block, "number"),
        block_hash=hexadecimal(block, "hash"),
        block_time=integer(block, "time"),
        contract=address(contracts, "BlockOTA"),
        replication=address(contracts, "FirmwareReplication") if contracts["FirmwareReplication"] else None,
        safe=_read_safe(fields["safe"]),
        products=tuple(map(_read_product, fields["products"])),
        newest=tuple(map(_read_release, fields["newest"])),
        agreements=tuple(map(_read_agreement, fields["agreements"])),
    )


def _read_safe(fields: Mapping[str, Any]) -> SafeState:
    owners = tuple(address({"owner": owner}, "owner") for owner in fields["owners"])
    return SafeState(address(fields, "address"), owners, integer(fields, "threshold"), integer(fields, "nonce"))


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
        minimum_version=_version(fields["minimumVersion"]),
        paired=fields["paired"] is True,
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
        version=Version.parse(fields["version"]),
        sha256=hexadecimal(fields, "sha256"),
        size=integer(fields, "size"),
        load_address=integer(fields, "loadAddress"),
        active_from=integer(fields, "activeFrom"),
        chip_id=integer(fields, "chipId"),
        status=Status[fields["status"].upper()],
        previous=_version(fields["previous"]),
    )
    return replace(release, dag_root=hexadecimal(fields, "dagRoot") if fields["dagRoot"] else None)


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
        version=Version.parse(fields["version"]),
        expires_at=integer(fields, "expiresAt"),
        status=AgreementStatus[fields["status"].upper()],
        uri=str(fields["uri"]),
    )


def _version(text: Any) -> Version | None:
    return None if text is None else Version.parse(text)


def _name(fields: Mapping[str, Any], key: str) -> str:
    name = fields[key]
    product_key(name)
    return str(name)
