"""What the chain says of what may be served: a vendor's releases, or a broker's agreements.

Everything is asked at one block, above which lie as many others as the settings want, so that a right begins when the
chain will hardly take it back. Where it does all the same, the right is gone with the next reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from eth_abi.exceptions import DecodingError

from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.replication import ReplicationContract
from blockota.chain.chain import Log
from blockota.chain.confirmed import Confirmed, Span
from blockota.errors import ChainError
from blockota.formats.abi import interface
from blockota.formats.cid import CID, RAW
from blockota.model.release import Release, product_key
from blockota.model.rights import Claim, agreed_claim

_REORGANISED = 256
"""Newest blocks whose events are read again each time, since the chain may have replaced them."""


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        time: the newest block's time, in Unix seconds, by which agreements expire.
        claims: the releases, and why each might be served.
        manifests_known: whether the node keeps the events that name manifests.
        block: the block that was asked about.
    """

    time: int
    claims: tuple[Claim, ...]
    manifests_known: bool = True
    block: int = 0


class Reader(Protocol):
    """Whoever knows what may be served."""

    def read(self) -> Reading:
        """Ask the chain.

        Raises:
            ChainError: it is out of reach.
            RefusedError: its answer cannot be understood.
        """


class VendorReader:
    """All that the contract records.

    Args:
        contract: the vendor's.
        span: which blocks count.
    """

    def __init__(self, contract: BlockOTAContract, span: Span) -> None:
        """Remember; nothing is asked yet."""
        self._contract, self._view = contract, _View(contract, span)

    def read(self) -> Reading:
        """Ask the chain for every release of every product."""
        return self._view.read(self._claims)

    def _claims(self, block: int) -> Iterator[Claim]:
        for product in self._contract.products(block=block):
            for release in self._contract.history(product.name, block=block):
                yield Claim(release, self._view.manifest(release))


class BrokerReader:
    """What a broker holds agreements for.

    Args:
        contract: the vendor's.
        replication: where the agreements are kept.
        broker: the broker's address.
        span: which blocks count.
    """

    def __init__(
        self, contract: BlockOTAContract, replication: ReplicationContract, *, broker: str, span: Span
    ) -> None:
        """Remember; nothing is asked yet."""
        self._contract, self._replication, self._broker = contract, replication, broker.lower()
        self._view = _View(contract, span)

    def read(self) -> Reading:
        """Ask the chain for the broker's agreements, and for the releases that they name."""
        return self._view.read(self._claims)

    def _claims(self, block: int) -> Iterator[Claim]:
        for agreement in self._replication.agreements(block=block):
            if agreement.broker.lower() != self._broker:
                continue
            release = self._contract.release(agreement.product, agreement.version, block=block)
            if release and (claim := agreed_claim(agreement, release, manifest=self._view.manifest(release))):
                yield claim


class _View:
    """The contract at a block that is deep enough, with what its events tell beside it."""

    def __init__(self, contract: BlockOTAContract, span: Span) -> None:
        self._confirmed = Confirmed(contract.chain, span)
        self._manifests = _Manifests(contract, span.first_block)

    def read(self, claims: Callable[[int], Iterable[Claim]]) -> Reading:
        """What may be served, by the claims at a block."""
        head = self._confirmed.head()
        if head.is_rewritten:
            self._manifests.forget()
        known = self._manifests.update(head.number)
        found = tuple(claims(head.number))
        self._confirmed.check(head)
        return Reading(head.newest_time, found, known, head.number)

    def manifest(self, release: Release) -> CID | None:
        """The manifest that a release was published with, where its event is known."""
        return self._manifests.of(release)


class _Manifests:
    """The manifests that releases were published with; events are read once, and the newest ones again."""

    def __init__(self, contract: BlockOTAContract, first_block: int) -> None:
        self._contract, self._first = contract, first_block
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._next = self._first
        self._digests: dict[tuple[bytes, int, bytes], bytes] = {}

    def update(self, newest: int) -> bool:
        """Read what came since; whether the node keeps the events."""
        try:
            logs = self._contract.chain.logs(self._contract.address, [], from_block=self._next)
        except ChainError:
            return False
        self._digests |= dict(_published(logs))
        self._next = max(newest - _REORGANISED, self._first)
        return True

    def of(self, release: Release) -> CID | None:
        digest = self._digests.get((product_key(release.product), release.version.packed, release.sha256))
        return CID(RAW, digest) if digest and any(digest) else None


def _published(logs: Iterable[Log]) -> Iterator[tuple[tuple[bytes, int, bytes], bytes]]:
    for log in logs:
        try:
            event = interface("BlockOTA").decode_event(log.topics, log.data)
        except DecodingError:
            event = None
        if event and event.name == "ReleasePublished":
            told = event.arguments
            yield (told["product"], told["version"], told["sha256"]), told["manifest"]
