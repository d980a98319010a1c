"""The FirmwareReplication contract: read agreements as values, and encode or send calls of its functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from blockota.bindings.contract import PAGE, Contract, status_of
from blockota.chain import Chain, Receipt
from blockota.formats.abi import interface
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Version, product_key, product_name

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount


_PAGES_AT_ONCE = 50


class ReplicationContract(Contract):
    """The contract with the agreements between a vendor and brokers."""

    NAME, SETTING = "FirmwareReplication", "replication"

    @classmethod
    def deploy(cls, chain: Chain, account: BaseAccount, *, block_ota: str) -> Self:
        """Deploy a contract for a BlockOTA contract's releases. The owner of BlockOTA decides on the agreements."""
        return cls._create(chain, account, block_ota)[0]

    def block_ota(self) -> str:
        """Return the address of the BlockOTA contract with the releases."""
        return str(self._ask("blockOta"))

    def agreement(self, number: int, *, block: int | None = None) -> Agreement | None:
        """Return one agreement; None if the agreement does not exist."""
        return _agreement(self._ask("agreement", number, block=block))

    def agreements_of(self, numbers: Iterable[int], *, block: int | None = None) -> dict[int, Agreement]:
        """Return the agreements with the given numbers. The result omits agreements that do not exist."""
        wanted = list(dict.fromkeys(numbers))
        records = self._ask_many("agreement", [(number,) for number in wanted], block=block)
        return {found.number: found for record in records if (found := _agreement(record))}

    def shallow(self, agreements: Iterable[Agreement], *, block: int) -> list[int]:
        """Return the numbers of agreements that are new, or whose terms changed, since an earlier block."""
        wanted = list(agreements)
        before = self.agreements_of((one.number for one in wanted), block=block)
        return [one.number for one in wanted if one.number not in before or not one.has_terms_of(before[one.number])]

    def agreements(self, *, block: int | None = None) -> Iterator[Agreement]:
        """Yield all agreements in the order of their proposals, at a given block or at the newest block."""
        starts = iter(range(1, int(self._ask("agreementCount", block=block)) + 1, PAGE))
        while group := [(start, PAGE) for start in islice(starts, _PAGES_AT_ONCE)]:
            pages = self._ask_many("agreements", group, block=block)
            yield from (found for page in pages for record in page if (found := _agreement(record)))
            # A dishonest node can return any count, so reading stops at the first group that ends with an empty page.
            if not pages[-1]:
                return

    def replicas(self, product: str, version: Version, *, block: int | None = None) -> Iterator[Agreement]:
        """Yield the agreements under which a release is served, at a given block or at the newest block."""
        skipped = 0
        while page := self._ask("replicas", product_key(product), version.packed, skipped, PAGE, block=block):
            yield from (found for record in page if (found := _agreement(record)))
            skipped += len(page)

    def propose(self, account: BaseAccount, product: str, *, version: Version, expires_at: int) -> tuple[int, Receipt]:
        """Propose to serve a release, as a broker.

        Returns:
            The agreement's id, and the receipt of the transaction.

        Raises:
            ContractRefusalError: the release is unknown or revoked, or an agreement is open already.
        """
        receipt = self._send(account, "propose", product_key(product), version.packed, expires_at)
        for log in receipt.logs:
            event = interface(self.NAME).decode_event(log.topics, log.data)
            if event and event.name == "AgreementProposed":
                return int(event.arguments["id"]), receipt
        raise AssertionError("the receipt of a proposal has no AgreementProposed event")

    def announce(self, account: BaseAccount, agreement: Agreement, *, uri: str) -> Receipt:
        """Announce the URL of a replica under an accepted agreement, as the agreement's broker."""
        return self._send(account, "announce", *_release_named(agreement), uri)

    def is_announcing(self, agreement: Agreement, *, uri: str) -> bool:
        """Whether an announcement of the URL is pending in the journal; `announce` then continues the announcement."""
        data = interface(self.NAME).encode_call("announce", *_release_named(agreement), uri)
        return self.chain.is_sending(agreement.broker, data, to=self.address)

    def withdraw(self, account: BaseAccount, agreement: Agreement) -> Receipt:
        """Withdraw a proposed or accepted agreement, as the agreement's broker."""
        return self._send(account, "withdraw", *_release_named(agreement))


def decision_call(decision: str, *agreements: Agreement) -> bytes:
    """Return the calldata of the vendor's decision on one agreement, or of the acceptance of several agreements.

    The calldata contains the number and the terms of each agreement, because a reorganisation can give the number to
    another broker's proposal. The contract refuses the call if the terms of the numbered agreement differ.

    Args:
        decision: accept, decline or terminate; only accept allows several agreements.
        agreements: the agreements, as they are shown to the owners.
    """
    terms = [
        (one.number, one.broker, product_key(one.product), one.version.packed, one.expires_at) for one in agreements
    ]
    if len(terms) > 1:
        return interface(ReplicationContract.NAME).encode_call(f"{decision}All", terms)
    return interface(ReplicationContract.NAME).encode_call(decision, *terms[0])


def _release_named(agreement: Agreement) -> tuple[int, bytes, int]:
    """Return the arguments that identify a broker's agreement."""
    return agreement.number, product_key(agreement.product), agreement.version.packed


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
        status=status_of(AgreementStatus, record["status"], of="an agreement", setting="replication"),
        uri=record["uri"],
    )
