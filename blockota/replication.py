"""The FirmwareReplication contract as Python: its calls as calldata or transactions, its answers as values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount

from blockota.abi import artifact, interface
from blockota.agreement import Agreement, AgreementStatus
from blockota.bindings import PAGE, refusals_in_words
from blockota.chain import Chain, Receipt
from blockota.errors import RefusedError, RevertedError
from blockota.release import Version, product_key, product_name

NAME = "FirmwareReplication"


class ReplicationContract:
    """One deployed contract.

    Args:
        chain: where it lies.
        address: where on it.
    """

    def __init__(self, chain: Chain, address: str) -> None:
        """Remember both; nothing is asked yet."""
        self.chain, self.address = chain, address

    @classmethod
    def deploy(cls, chain: Chain, account: LocalAccount, *, block_ota: str) -> ReplicationContract:
        """Put a new contract on the chain, beside the BlockOTA contract whose owner decides."""
        creation = bytes.fromhex(artifact(NAME)["bytecode"].removeprefix("0x"))
        with refusals_in_words():
            receipt = chain.send(account, creation + interface(NAME).encode_constructor(block_ota))
        if receipt.contract is None:
            raise AssertionError("a creation transaction has a contract address")
        return cls(chain, receipt.contract)

    def block_ota(self) -> str:
        """Address of the BlockOTA contract whose releases the agreements are about."""
        return str(self._ask("blockOta"))

    def agreement(self, number: int) -> Agreement | None:
        """One agreement."""
        return _agreement(self._ask("agreement", number))

    def agreements(self) -> Iterator[Agreement]:
        """All agreements, in the order in which they were proposed, page by page."""
        start = 1
        while page := self._ask("agreements", start, PAGE):
            yield from (found for record in page if (found := _agreement(record)))
            start += len(page)

    def replicas(self, product: str, version: Version) -> Iterator[Agreement]:
        """The replicas that serve a release now, page by page."""
        skipped = 0
        while page := self._ask("replicas", product_key(product), version.packed, skipped, PAGE):
            yield from (found for record in page if (found := _agreement(record)))
            skipped += len(page)

    def propose(self, account: LocalAccount, product: str, *, version: Version, expires_at: int) -> tuple[int, Receipt]:
        """Propose to serve a release, as a broker; the first of the two is the agreement's id.

        Raises:
            ContractRefusalError: the release is unknown or revoked, or an agreement is open already.
        """
        receipt = self._send(account, "propose", product_key(product), version.packed, expires_at)
        for log in receipt.logs:
            event = interface(NAME).decode_event(log.topics, log.data)
            if event and event.name == "AgreementProposed":
                return int(event.arguments["id"]), receipt
        raise AssertionError("a proposed agreement is told by an event")

    def announce(self, account: LocalAccount, number: int, *, uri: str) -> Receipt:
        """Tell where the replica of an accepted agreement is, as its broker."""
        return self._send(account, "announce", number, uri)

    def withdraw(self, account: LocalAccount, number: int) -> Receipt:
        """End a proposal or an agreement, as its broker."""
        return self._send(account, "withdraw", number)

    def _send(self, account: LocalAccount, function: str, *arguments: Any) -> Receipt:
        with refusals_in_words():
            return self.chain.send(account, interface(NAME).encode_call(function, *arguments), to=self.address)

    def _ask(self, function: str, *arguments: Any) -> Any:
        question = interface(NAME).encode_call(function, *arguments)
        try:
            return interface(NAME).decode_result(function, self.chain.call(self.address, question))
        except (DecodingError, RevertedError) as error:
            raise RefusedError(
                f"there is no FirmwareReplication contract at {self.address}",
                why=f"what lies there on chain {self.chain.chain_id} does not answer {function}()",
                remedy="correct the setting replication in blockota.toml, or deploy with `ape run deploy`",
            ) from error


def accept_call(number: int) -> bytes:
    """Calldata by which the vendor accepts a proposal."""
    return interface(NAME).encode_call("accept", number)


def decline_call(number: int) -> bytes:
    """Calldata by which the vendor declines a proposal."""
    return interface(NAME).encode_call("decline", number)


def terminate_call(number: int) -> bytes:
    """Calldata by which the vendor ends an agreement."""
    return interface(NAME).encode_call("terminate", number)


def _agreement(record: dict[str, Any]) -> Agreement | None:
    version = Version.unpack(record["version"])
    if not record["id"] or version is None:
        return None
    return Agreement(
        number=record["id"],
        broker=record["broker"],
        product=product_name(record["product"]),
        version=version,
        expires_at=record["expiresAt"],
        status=_status(record["status"]),
        uri=record["uri"],
    )


def _status(number: int) -> AgreementStatus:
    try:
        return AgreementStatus(number)
    except ValueError as error:
        raise RefusedError(
            "the contract's answer cannot be understood",
            why=f"an agreement has the status {number}, which this version does not know",
            remedy="update BlockOTA, or check the setting replication in blockota.toml",
        ) from error
