"""The contract UpdateLedger: read anchored logs as values, anchor a log, and send evidence and decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from blockota.bindings.contract import Contract, status_of
from blockota.chain import Receipt
from blockota.ethereum import keccak
from blockota.formats.abi import interface
from blockota.formats.tlog import TreeHead
from blockota.model.anchored_log import AnchoredLog, LogState, Suspicion, device_words, devices_in
from blockota.model.receipt import ReleaseId
from blockota.model.release import product_key

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount


_ANCHORED = keccak(text="Anchored(bytes16,uint64,bytes32)")
_TOPIC_SIZE = 32
_WORDS_AT_ONCE = 256
"""The number of words of device numbers that one call requests."""


@dataclass(frozen=True)
class TreeGrowth:
    """A new anchor of a log.

    Attributes:
        size: number of entries.
        root: root of the Merkle tree of the first `size` entries, 32 bytes.
        proof: consistency proof from the anchored tree (RFC 9162, 2.1.4); empty for the first anchor.
    """

    size: int
    root: bytes
    proof: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class AnchorEvent:
    """An earlier anchor of a log.

    Attributes:
        block: number of the block.
        head: size and root of the log at this anchor.
    """

    block: int
    head: TreeHead


@dataclass(frozen=True)
class ProvenEntry:
    """An entry of a log with its inclusion proof.

    Attributes:
        data: the bytes of the entry.
        index: the position of the entry in the log, from 0.
        path: inclusion proof to the anchored root (RFC 9162, 2.1.3).
    """

    data: bytes
    index: int
    path: tuple[bytes, ...]

    def as_argument(self) -> dict[str, Any]:
        """The entry as an argument of the contract."""
        return {"data": self.data, "index": self.index, "path": list(self.path)}


class UpdateLedgerContract(Contract):
    """The contract with the anchored logs of a city."""

    NAME, SETTING = "UpdateLedger", "ledger"

    def log(self, keeper: UUID, *, block: int | None = None) -> AnchoredLog | None:
        """Return the newest anchor of an identity's log; None if the identity never anchored a log."""
        record = self._ask("root", keeper.bytes, block=block)
        if not record["size"]:
            return None

        return AnchoredLog(
            keeper=keeper,
            root=record["root"],
            size=record["size"],
            anchored_at=record["anchoredAt"],
            state=status_of(LogState, record["state"], of="a log", setting=self.SETTING),
            suspicion=Suspicion(record["number"], record["release"]) if record["number"] else None,
        )

    def anchors(self, keeper: UUID, *, from_block: int | None = None, to_block: int | None = None) -> list[AnchorEvent]:
        """Return the anchors of an identity's log in a range of blocks, by default in all blocks, oldest first.

        Raises:
            ChainError: the node is out of reach, or no longer has the events of these blocks.
        """
        first = self.first_block if from_block is None else from_block
        topics = [_ANCHORED, keeper.bytes.ljust(_TOPIC_SIZE, b"\0")]
        found = []
        for log in self.chain.logs(self.address, topics, from_block=first, to_block=to_block):
            if event := interface(self.NAME).decode_event(log.topics, log.data):
                head = TreeHead(event.arguments["size"], event.arguments["root"])
                found.append(AnchorEvent(log.block_number, head))
        return found

    def suspected_size(self, keeper: UUID, device: int, release: bytes) -> int:
        """Return the size that a log had at its newest suspicion about a device and a release; 0 without a suspicion.

        If the log is not suspended now, an Administrator has already decided on all entries with an index below this
        size.
        """
        return int(self._ask("suspectedSize", keeper.bytes, device, release))

    def installed(self, release: ReleaseId, devices: Sequence[int], *, block: int | None = None) -> dict[int, bool]:
        """Return, for each device number, whether a gateway recorded that the device runs the release."""
        answers = self._ask_many("installed", [(release.digest, number) for number in devices], block=block)
        return dict(zip(devices, answers, strict=True))

    def installed_devices(self, release: ReleaseId, *, blocks: int, block: int | None = None) -> list[int]:
        """Return the numbers of all devices with a recorded installation of a release, in ascending order.

        Args:
            release: the release.
            blocks: the number of allocated blocks of device numbers (`DevicesContract.block_count`).
            block: the chain's block at which the contract is read; None means the newest block.
        """
        starts = range(1, blocks + 1, _WORDS_AT_ONCE)
        pages = [(release.digest, start, min(_WORDS_AT_ONCE, blocks + 1 - start)) for start in starts]
        answers = self._ask_many("installedBits", pages, block=block)

        found = []
        for start, bits in zip(starts, answers, strict=True):
            for word, devices in enumerate(bits, start):
                found += devices_in(word, devices)
        return found

    def anchor(self, account: BaseAccount, growth: TreeGrowth) -> Receipt:
        """Anchor the log of the account's identity.

        Raises:
            ContractRefusalError: the identity may not anchor, or the log does not continue the anchored log.
        """
        return self._send(account, "anchor", growth.size, growth.root, list(growth.proof))

    def anchor_installs(
        self, account: BaseAccount, growth: TreeGrowth, release: ReleaseId, devices: Iterable[int]
    ) -> Receipt:
        """Anchor the log of the account's gateway, and record that devices of its blocks run a release.

        Raises:
            ContractRefusalError: the log cannot be anchored (see `anchor`), or a device belongs to another site or
                already has the release. If the call is refused, nothing is anchored.
        """
        words, bits = device_words(devices)
        installs = {
            "chain": release.chain_id,
            "blockOta": release.contract,
            "product": product_key(release.product),
            "version": release.version.packed,
            "words": words,
            "bits": bits,
        }
        return self._send(account, "anchorInstalls", growth.size, growth.root, list(growth.proof), installs)

    def suspect(self, account: BaseAccount, keeper: UUID, first: ProvenEntry, second: ProvenEntry) -> Receipt:
        """Suspend a log. The evidence is two install entries of the log for the same device and release.

        Any account may do this.

        Raises:
            ContractRefusalError: the entries are not evidence, or the log is already suspended or retired.
        """
        return self._send(account, "suspect", keeper.bytes, first.as_argument(), second.as_argument())

    def decide(self, account: BaseAccount, keeper: UUID, suspicion: Suspicion, *, resume: bool) -> Receipt:
        """Let a suspended log grow again, or retire it permanently, as an Administrator.

        Raises:
            ContractRefusalError: the account may not decide, or the log is not suspended because of `suspicion`.
        """
        return self._send(account, "decide", keeper.bytes, suspicion.device, suspicion.release, resume)
