"""What the chain says of a broker's agreements, at one block that is deep enough; and whether it was rewritten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blockota.bindings.block_ota import BlockOTAContract
from blockota.bindings.replication import ReplicationContract
from blockota.broker.plan import Facts, Promise
from blockota.broker.state import BrokerState
from blockota.chain import BlockHead
from blockota.errors import ChainError, RefusedError
from blockota.formats.cid import CID
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Release
from blockota.stores.search import announced
from blockota.stores.source import Source

_OVER = frozenset({AgreementStatus.DECLINED, AgreementStatus.WITHDRAWN, AgreementStatus.TERMINATED})


@dataclass(frozen=True)
class Depth:
    """How the chain is read.

    Attributes:
        confirmations: blocks that must lie above the block of the facts.
        first_block: a block before which nothing was published.
    """

    confirmations: int
    first_block: int = 0


class FactReader:
    """Whoever asks the chain for a broker.

    Args:
        contract: the vendor's.
        replication: where the agreements are kept.
        state: remembers the blocks that were decided upon, and the manifests' addresses.
        depth: how deep to read.
    """

    def __init__(
        self, contract: BlockOTAContract, replication: ReplicationContract, *, state: BrokerState, depth: Depth
    ) -> None:
        """Remember; nothing is asked yet."""
        self._contract, self._replication = contract, replication
        self._state, self._depth = state, depth

    def confirmed_head(self) -> tuple[BlockHead, bool]:
        """The newest block that is deep enough, and whether the chain was rewritten since the last time.

        Raises:
            ChainError: the node is out of reach, or behind what was seen before.
        """
        chain = self._contract.chain
        head = chain.head(max(chain.head().number - self._depth.confirmations, 0))
        seen = self._state.heads()
        known = next((one for one in seen if one.number <= head.number), None)
        is_rewritten = known is not None and chain.head(known.number).hash != known.hash
        if is_rewritten:
            self._state.forget_chain()
        elif seen and seen[0].number > head.number:
            raise ChainError(
                "the node is behind",
                why=f"block {seen[0].number} was seen before, and it confirms {head.number} only",
                remedy="wait until it has caught up, or ask another node: nothing is dropped until then",
            )
        return head, is_rewritten

    def read(self, head: BlockHead, *, broker: str, url: str) -> Facts:
        """All that the plan has to know, at one block.

        Args:
            head: the block.
            broker: whose agreements.
            url: where the broker serves, or empty.

        Raises:
            ChainError: the node is out of reach, or the block was replaced meanwhile.
            RefusedError: an answer cannot be understood.
        """
        promises = tuple(self._promises(head.number, broker.lower(), url=url))
        if self._contract.chain.head(head.number).hash != head.hash:
            raise ChainError("the chain was rewritten while it was asked", remedy="try again")
        self._state.saw(self._contract.chain.head(0))
        self._state.saw(head)
        return Facts(head.time, promises, head.number)

    def _promises(self, block: int, broker: str, *, url: str) -> Iterator[Promise]:
        for found in self._replication.agreements(block=block):
            if found.broker.lower() != broker or found.status in _OVER:
                continue
            release = self._contract.release(found.product, found.version, block=block)
            if release is None:
                continue
            yield Promise(
                found,
                self._replication.agreement(found.number) or found,
                release,
                self._manifest(release),
                self._replicas(found, block=block),
                is_under_way=bool(url) and self._replication.is_announcing(found.broker, found.number, uri=url),
            )

    def _replicas(self, own: Agreement, *, block: int) -> tuple[str, ...]:
        """Where others serve the release; who that leads to is seen when it is asked."""
        replicas = self._replication.replicas(own.product, own.version, block=block)
        others = (one for one in replicas if one.broker.lower() != own.broker.lower())
        return tuple(one.url for one in announced(others, is_local_chain=False) if isinstance(one, Source))

    def _manifest(self, release: Release) -> CID | None:
        """The manifest's address, which only an event tells; read once, since nodes forget events."""
        name = f"{release.product} {release.version} {release.sha256.hex()}"
        known = self._state.manifest(name)
        if known is None:
            try:
                found = self._contract.manifest_address(release, from_block=self._depth.first_block)
            except (ChainError, RefusedError):
                return None
            known = str(found or "")
            self._state.put_manifest(name, known)
        return CID.parse(known) if known else None
