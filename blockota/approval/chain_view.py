"""What a signer must know of the chain: a value, and a file for a machine without a network. Pure.

A view is the state at one block, as reported by one node. Signing from a file trusts the machine that exported it;
the block's hash and time are shown so that they can be compared with another source.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from blockota.errors import Action, ProposalError, shortened
from blockota.model.agreement import Agreement
from blockota.model.release import Product, Release
from blockota.strict_json import address, digest, dump, fault, integer, load, mapping, mappings, text

FORMAT = "blockota-view-2"
_SAFE_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}(?:\+[0-9A-Za-z.-]{1,20})?", re.ASCII)
_OLDEST_SAFE = (1, 3)


@dataclass(frozen=True)
class SafeState:
    """The state of a Safe.

    Attributes:
        address: checksummed.
        owners: checksummed addresses.
        threshold: number of owners that must sign.
        nonce: nonce of the next transaction.
        version: version of its contract, such as 1.4.1 or 1.3.0+L2.
    """

    address: str
    owners: tuple[str, ...]
    threshold: int
    nonce: int
    version: str

    def __post_init__(self) -> None:
        """Refuse a text that is not a version: any contract can answer with it, and it is shown."""
        if not _SAFE_VERSION.fullmatch(self.version):
            raise ValueError(f"version is {self.version!r:.40}, which is not the version of a Safe")

    def obstacle(self, contract_owners: Collection[str]) -> str:
        """Why proposals cannot be signed and executed here for this Safe; empty if they can.

        Args:
            contract_owners: owners that are contracts, and so have no key.
        """
        if tuple(map(int, self.version.split(".")[:2])) < _OLDEST_SAFE:
            # Older ones have no chain id in their EIP-712 domain.
            return f"it has version {self.version}, which hashes its transactions in another way than 1.3 and newer"
        with_key = len(set(self.owners) - set(contract_owners))
        if with_key < self.threshold:
            return (
                f"{self.threshold} owners must sign, and only {with_key} of {len(self.owners)} have a key: "
                f"{shortened(contract_owners)} are contracts, whose signatures are not supported"
            )
        return ""

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a Safe's state, as in ``contract show --json`` and in chain views."""
        return {
            "address": self.address,
            "owners": list(self.owners),
            "threshold": self.threshold,
            "nonce": self.nonce,
            "version": self.version,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> SafeState:
        """Read the JSON object of a Safe's state.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or has a wrong value; `strict_json.fault` describes it.
        """
        return cls(
            address=address(fields, "address"),
            owners=tuple(address({"owner": owner}, "owner") for owner in _list(fields, "owners")),
            threshold=integer(fields, "threshold"),
            nonce=integer(fields, "nonce"),
            version=text(fields, "version"),
        )


@dataclass(frozen=True)
class ChainView:
    """The state of the chain at one block, as far as a signer needs it.

    Attributes:
        chain_id: EIP-155 chain id.
        block_hash: hash of the block, 32 bytes.
        block_time: Unix time of the block, in seconds.
        contract: checksummed address of BlockOTA.
        replication: checksummed address of FirmwareReplication; None if there is none.
        newest: for each product, the release with the greatest version that is not revoked.
        agreements: the agreements that the proposals are about.
        shallow: numbers of those that are not as deep as the settings require; a reorganisation can replace them.
        contract_owners: owners of the Safe that are contracts.
        source: name of the file that the view was read from; empty if a node was asked.
        configured_safe: address of the Safe that the signer's settings name; empty if they name none.
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
    shallow: tuple[int, ...] = ()
    contract_owners: tuple[str, ...] = ()
    source: str = field(default="", compare=False)
    configured_safe: str = field(default="", compare=False)

    def product(self, name: str) -> Product | None:
        """The product with a name."""
        return next((product for product in self.products if product.name == name), None)

    def newest_of(self, name: str) -> Release | None:
        """The newest release of a product."""
        return next((release for release in self.newest if release.product == name), None)

    def agreement(self, number: int) -> Agreement | None:
        """The agreement with a number."""
        return next((agreement for agreement in self.agreements if agreement.number == number), None)

    def to_json(self) -> bytes:
        """The bytes of the file; equal views give equal bytes."""
        return dump(
            {
                "format": FORMAT,
                "chainId": self.chain_id,
                "block": {
                    "number": self.block_number,
                    "hash": "0x" + self.block_hash.hex(),
                    "time": self.block_time,
                },
                "contracts": {"BlockOTA": self.contract, "FirmwareReplication": self.replication},
                "safe": self.safe.as_fields(),
                "products": [product.as_fields() for product in self.products],
                "newest": [release.as_fields() for release in self.newest],
                "agreements": [agreement.as_fields() for agreement in self.agreements],
                "shallow": list(self.shallow),
                "contractOwners": list(self.contract_owners),
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> ChainView:
        """Read a file.

        Raises:
            ProposalError: the file is not a chain view.
        """
        fields = load(raw, form=FORMAT, remedy="export the view again", action=Action.EXPORT_VIEW)
        try:
            block, contracts = mapping(fields, "block"), mapping(fields, "contracts")
            has_replication = contracts["FirmwareReplication"] is not None
            view = cls(
                chain_id=integer(fields, "chainId"),
                block_number=integer(block, "number"),
                block_hash=digest(block, "hash"),
                block_time=integer(block, "time"),
                contract=address(contracts, "BlockOTA"),
                replication=address(contracts, "FirmwareReplication") if has_replication else None,
                safe=SafeState.from_fields(mapping(fields, "safe")),
                products=tuple(map(Product.from_fields, _unique(fields, "products", key="product"))),
                newest=tuple(map(Release.from_fields, _unique(fields, "newest", key="product"))),
                agreements=tuple(map(Agreement.from_fields, _unique(fields, "agreements", key="number"))),
                shallow=tuple(integer({"shallow": number}, "shallow") for number in _list(fields, "shallow")),
                contract_owners=tuple(
                    address({"contractOwners": owner}, "contractOwners") for owner in _list(fields, "contractOwners")
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProposalError("the file is not a chain view", why=fault(error)) from error
        # The readers ignore fields that they do not know; writing the view again shows whether there are any.
        if load(view.to_json(), form=FORMAT) != fields:
            raise ProposalError("the file is not a chain view", why="it has fields that do not belong there")
        return view


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(fields[name], list):
        raise TypeError(f"{name} is {fields[name]!r:.40}, which is not a list")
    return list(fields[name])


def _unique(fields: Mapping[str, Any], name: str, *, key: str) -> list[dict[str, Any]]:
    """A list of objects with unique keys. If two had the same key, a signer could see either of them."""
    found = mappings(fields, name)
    keys = [str(one[key]) for one in found]
    if len(set(keys)) != len(keys):
        raise ValueError(f"{name} has two entries with the same {key}")
    return found
