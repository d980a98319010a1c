"""A chain view is the state of the chain that a signer needs.

A chain view can be saved as a file for machines that are offline. Pure. A chain view is the state at one block, as
reported by one node. A signer who uses a chain view file trusts the machine that exported it. The block's hash and time
are shown, so that a signer can compare the block with another source.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from blockota.approval.intent import OWNED_REGISTRIES, SAFE
from blockota.errors import Action, ProposalError, shortened
from blockota.model.agreement import Agreement
from blockota.model.release import Product, Release
from blockota.strict_json import address, digest, dump, fault, hexadecimal, integer, load, mapping, mappings, text

FORMAT = "blockota-view-2"
_SAFE_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}(?:\+[0-9A-Za-z.-]{1,20})?", re.ASCII)
_OLDEST_SAFE = (1, 3)


@dataclass(frozen=True)
class SafeState:
    """The state of a Safe.

    Attributes:
        address: address of the Safe, checksummed.
        owners: addresses of the owners, checksummed.
        threshold: number of owners that must sign.
        nonce: nonce of the Safe's next transaction.
        version: version of the Safe's contract, such as 1.4.1 or 1.3.0+L2.
    """

    address: str
    owners: tuple[str, ...]
    threshold: int
    nonce: int
    version: str

    def __post_init__(self) -> None:
        """Refuse a malformed `version`: it is displayed, and any contract can return any text as its version."""
        if not _SAFE_VERSION.fullmatch(self.version):
            raise ValueError(f"version is {self.version!r:.40}, which is not the version of a Safe")

    @property
    def quorum(self) -> tuple[str, ...]:
        """The owners and the number of required signatures, as lines to print."""
        return (*self.owners, f"{self.threshold} of these {len(self.owners)} must sign")

    def obstacle(self, contract_owners: Collection[str]) -> str:
        """Return why this program does not support the Safe; empty if the program supports the Safe.

        Args:
            contract_owners: addresses of the owners that are contracts. A contract has no key.
        """
        if tuple(map(int, self.version.split(".")[:2])) < _OLDEST_SAFE:
            # Older versions have no chain id in their EIP-712 domain.
            return f"its version is {self.version}, and only 1.3 and newer are supported"
        with_key = len(set(self.owners) - set(contract_owners))
        if with_key < self.threshold:
            return (
                f"{self.threshold} owners must sign, and only {with_key} of {len(self.owners)} have a key: "
                f"{shortened(contract_owners)} are contracts, whose signatures are not supported"
            )
        return ""

    def missing_before(self, nonce: int, queued: Collection[int]) -> int | None:
        """Return the lowest unused nonce below `nonce` without a proposal in `queued`; None without such a gap."""
        return next((earlier for earlier in range(self.nonce, nonce) if earlier not in queued), None)

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON object of the Safe's state, as in ``contract show --json`` and in chain views."""
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
            KeyError, TypeError, ValueError: a field is missing or wrong; `strict_json.fault` describes the error.
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
    """The part of the chain's state that a signer needs, at one block.

    Attributes:
        chain_id: chain id (EIP-155).
        block_hash: hash of the block, 32 bytes.
        block_time: time of the block, in Unix seconds.
        contract: address of the Safe's contract BlockOTA, checksummed; None if the Safe does not own a BlockOTA.
        replication: address of the contract FirmwareReplication, checksummed; None without a configured address.
        newest: one release for each product: the newest release that was not revoked.
        agreements: the agreements with brokers that the reviewed proposals accept, decline or terminate.
        shallow: numbers of the agreements in unconfirmed blocks. A reorganisation can still replace these agreements.
        contract_owners: addresses of the Safe's owners that are contracts.
        registries: a dict from name to checksummed address, for the other contracts that the Safe owns.
        answers: a dict from ⟨address, calldata⟩ to the result of a getter that the red flags need. The result of a
            failed call is None.
        source: name of the chain view file; empty if the view was read from a node.
        is_pinned: whether the addresses of the Safe's contracts come from a node or from the signer's settings. If
            False, they come only from the chain view file.
        configured_safe: address of the Safe in the signer's settings; empty if the settings do not name a Safe.
        queued: a dict from nonce to file name. It lists the proposals in the same folder that must be executed before
            the reviewed proposal.
        rivals: names of other proposal files in the folder. These proposals use the nonce of the reviewed proposal.
    """

    chain_id: int
    block_number: int
    block_hash: bytes
    block_time: int
    contract: str | None
    replication: str | None
    safe: SafeState
    products: tuple[Product, ...] = ()
    newest: tuple[Release, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    shallow: tuple[int, ...] = ()
    contract_owners: tuple[str, ...] = ()
    registries: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[tuple[str, bytes], bytes | None] = field(default_factory=dict)
    source: str = field(default="", compare=False)
    is_pinned: bool = field(default=True, compare=False)
    configured_safe: str = field(default="", compare=False)
    queued: Mapping[int, str] = field(default_factory=dict, compare=False)
    rivals: tuple[str, ...] = field(default=(), compare=False)

    @property
    def contracts(self) -> dict[str, str]:
        """A dict from name to address, for the Safe and for each other contract that the Safe may call."""
        known = {"BlockOTA": self.contract, "FirmwareReplication": self.replication, SAFE: self.safe.address}
        return {name: place for name, place in (known | dict(self.registries)).items() if place}

    def name_of(self, place: str) -> str:
        """Return the name of the contract at an address; empty if the Safe does not own the contract."""
        return next((name for name, known in self.contracts.items() if known == place), "")

    def product(self, name: str) -> Product | None:
        """Return the product with a name; None if the view does not contain it."""
        return next((product for product in self.products if product.name == name), None)

    def newest_of(self, name: str) -> Release | None:
        """Return the newest release of a product; None if the view does not contain a release of the product."""
        return next((release for release in self.newest if release.product == name), None)

    def agreement(self, number: int) -> Agreement | None:
        """Return the agreement with a number; None if the view does not contain it."""
        return next((agreement for agreement in self.agreements if agreement.number == number), None)

    def first_before(self, nonce: int) -> str:
        """Return the name of the proposal with the Safe's next nonce; empty if `nonce` is not above the next nonce."""
        following = self.safe.nonce
        return self.queued.get(following, f"the proposal with nonce {following}") if following < nonce else ""

    def to_json(self) -> bytes:
        """Return the bytes of the chain view file. Equal views give equal bytes."""
        registries = {name: self.registries[name] for name in OWNED_REGISTRIES if name in self.registries}
        fields = {
            "format": FORMAT,
            "chainId": self.chain_id,
            "block": {
                "number": self.block_number,
                "hash": "0x" + self.block_hash.hex(),
                "time": self.block_time,
            },
            "contracts": {"BlockOTA": self.contract, "FirmwareReplication": self.replication, **registries},
            "safe": self.safe.as_fields(),
            "products": [product.as_fields() for product in self.products],
            "newest": [release.as_fields() for release in self.newest],
            "agreements": [agreement.as_fields() for agreement in self.agreements],
            "shallow": list(self.shallow),
            "contractOwners": list(self.contract_owners),
        }
        # A view of a vendor's contracts has no answers; its file has the same fields as before there were others.
        if self.answers:
            fields["answers"] = [
                {"to": to, "call": f"0x{call.hex()}", "result": None if result is None else f"0x{result.hex()}"}
                for (to, call), result in self.answers.items()
            ]
        return dump(fields)

    @classmethod
    def from_json(cls, raw: bytes) -> ChainView:
        """Read a chain view file.

        Raises:
            ProposalError: the file is not a chain view.
        """
        fields = load(raw, form=FORMAT, remedy="export the view again", action=Action.EXPORT_VIEW)
        try:
            block, contracts = mapping(fields, "block"), mapping(fields, "contracts")
            names = ["BlockOTA", "FirmwareReplication", *(name for name in OWNED_REGISTRIES if name in contracts)]
            named = {name: address(contracts, name) for name in names if contracts[name] is not None}
            view = cls(
                chain_id=integer(fields, "chainId"),
                block_number=integer(block, "number"),
                block_hash=digest(block, "hash"),
                block_time=integer(block, "time"),
                contract=named.pop("BlockOTA", None),
                replication=named.pop("FirmwareReplication", None),
                safe=SafeState.from_fields(mapping(fields, "safe")),
                products=tuple(map(Product.from_fields, _unique(fields, "products", key="product"))),
                newest=tuple(map(Release.from_fields, _unique(fields, "newest", key="product"))),
                agreements=tuple(map(Agreement.from_fields, _unique(fields, "agreements", key="number"))),
                shallow=tuple(integer({"shallow": number}, "shallow") for number in _list(fields, "shallow")),
                contract_owners=tuple(
                    address({"contractOwners": owner}, "contractOwners") for owner in _list(fields, "contractOwners")
                ),
                registries=named,
                answers=dict(map(_answer, mappings(fields, "answers"))) if "answers" in fields else {},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProposalError("the file is not a chain view", why=fault(error)) from error
        # The readers ignore unknown fields. Writing the view again detects them.
        if load(view.to_json(), form=FORMAT) != fields:
            raise ProposalError("the file is not a chain view", why="the file has fields that a chain view cannot have")
        return view


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(fields[name], list):
        raise TypeError(f"{name} is {fields[name]!r:.40}, which is not a list")
    return list(fields[name])


def _answer(fields: Mapping[str, Any]) -> tuple[tuple[str, bytes], bytes | None]:
    result = None if fields["result"] is None else hexadecimal(fields, "result")
    return (address(fields, "to"), hexadecimal(fields, "call")), result


def _unique(fields: Mapping[str, Any], name: str, *, key: str) -> list[dict[str, Any]]:
    """Return a list of JSON objects.

    Two objects with the same value of `key` are refused, because only one would be shown.
    """
    found = mappings(fields, name)
    keys = [str(one[key]) for one in found]
    if len(set(keys)) != len(keys):
        raise ValueError(f"{name} has two entries with the same {key}")
    return found
