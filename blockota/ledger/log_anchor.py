"""Anchor the log of a service, and record on the chain which devices run which release.

Once in every period, the log is anchored at a multiple of 256 entries. If an unanchored entry is older than two
periods, all entries are anchored. A transaction anchors a size of the log, and records the installations of only one
release. For several releases, the log is therefore anchored several times, each time at a larger size. If the contract
refuses to record the installations, the log is anchored without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blockota.bindings.identities import IdentitiesContract
from blockota.bindings.update_ledger import TreeGrowth, UpdateLedgerContract
from blockota.errors import ContractRefusalError, RefusedError
from blockota.files import write_durable
from blockota.ledger.anchoring import EVERY, plan_anchor
from blockota.ledger.reader import LogReader
from blockota.model.device import BLOCK
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry, ReleaseId

if TYPE_CHECKING:
    from eth_account.signers.base import BaseAccount

_COUNTED = (EvidenceLevel.A, EvidenceLevel.C)


def due_multiple(*, now: int, period: int, tried_at: int, waiting_since: int | None) -> int | None:
    """Decide whether the log must be anchored now, and which tree sizes may be anchored.

    Args:
        now: Unix time.
        period: seconds between two anchors.
        tried_at: Unix time of the last attempt to anchor.
        waiting_since: Unix time of the oldest entry that is not anchored; None if all entries are anchored.

    Returns:
        `EVERY` to anchor at a multiple of `EVERY` entries, 1 to anchor all entries, or None if no anchor is due.
    """
    if waiting_since is None or now - tried_at < period:
        return None
    return 1 if now - waiting_since >= 2 * period else EVERY


def oldest_unanchored(log: LogReader, anchored: int) -> int | None:
    """Return the time of the oldest published entry that is not anchored; None if all entries are anchored.

    Args:
        log: the published log.
        anchored: the number of anchored entries.

    Raises:
        ContentError: the log is damaged.
        StoreError: the log cannot be read.
    """
    if anchored >= log.head().size:
        return None
    return LogEntry.decode(next(log.entries(anchored, anchored + 1))).time


class LogAnchor:
    """Anchors one log, with the account of its keeper.

    Args:
        reader: the published log.
        account: the account.
        ledger: the contract.
        identities: the registry of the keepers of logs.
        folder: the folder of the service. Its file ``recorded`` has the number of entries whose installations are
            recorded on the chain.
    """

    def __init__(
        self,
        reader: LogReader,
        account: BaseAccount,
        ledger: UpdateLedgerContract,
        identities: IdentitiesContract,
        *,
        folder: Path,
    ) -> None:
        self._reader, self._account = reader, account
        self._ledger, self._identities = ledger, identities
        self._file = folder / "recorded"

    def size(self) -> int:
        """Return the anchored size of the log.

        Raises:
            RefusedError: the account belongs to no identity.
            ChainError: the node is out of reach.
        """
        record = self._ledger.log(self._identities.known_identity(self._account.address).uuid)
        return record.size if record else 0

    def waiting_since(self, anchored: int) -> int | None:
        """Return the time of the oldest published entry that is not anchored; None if all entries are anchored."""
        return oldest_unanchored(self._reader, anchored)

    def anchor(self, every: int, *, owns: Callable[[int], bool], report: Callable[[str], object]) -> int:
        """Anchor the published log at a multiple of `every` entries, and record the installations of these entries.

        Args:
            every: the anchored size is a multiple of this number.
            owns: whether a device belongs to the site.
            report: called with the reason why installations were not recorded.

        Returns:
            The anchored size.

        Raises:
            RefusedError: the log cannot be anchored.
            ChainError: the node is out of reach, or the transaction is not confirmed.
        """
        # (1) Settle what an earlier process sent, because a size that is on its way must not be sent again.
        for sent in self._ledger.chain.unsettled():
            if sent.sender == self._account.address:
                with suppress(RefusedError):
                    self._ledger.chain.resume(sent.hash, account=self._account)

        # (2) The growth, which is checked against the contract's record.
        planned = plan_anchor(self._reader, self._account.address, self._ledger, self._identities, every=every)
        if planned.growth is None:
            return planned.anchored.size
        anchored, size = planned.anchored.size, planned.growth.size

        # (3) One transaction for each release. The last one has the whole size.
        unrecorded = self._unrecorded(size, owns)
        groups: Sequence[tuple[ReleaseId | None, frozenset[int]]] = [*unrecorded.items()][: size - anchored]
        steps = [*range(size - len(groups) + 1, size), size]
        for step, (release, devices) in zip(steps, groups or [(None, frozenset())], strict=True):
            proof = self._reader.prove_consistency(anchored, step)
            growth = TreeGrowth(step, self._reader.head_at(step).root, tuple(proof))
            try:
                if release:
                    self._ledger.anchor_installs(self._account, growth, release, sorted(devices))
                else:
                    self._ledger.anchor(self._account, growth)
            except ContractRefusalError as error:
                if release is None:
                    raise
                report(f"{release} of {len(devices)} devices is not recorded: {error.what}: {error.why}")
                self._ledger.anchor(self._account, growth)
            anchored = step
        if len(unrecorded) == len(groups):  # else the next anchor records the others
            with suppress(OSError):
                write_durable(self._file, b"%d\n" % size, mode=0o644)
        return anchored

    def _unrecorded(self, size: int, owns: Callable[[int], bool]) -> dict[ReleaseId, frozenset[int]]:
        """Return, by release, the devices on which the release is installed without a record on the chain.

        Only installations with the evidence level A or C count.
        """
        found: dict[ReleaseId, set[int]] = {}
        for raw in self._reader.entries(self._recorded_size(), size):
            if raw[1:2] == bytes((EntryKind.INSTALL,)):
                entry = LogEntry.decode(raw)
                if entry.release and entry.level in _COUNTED and entry.device >= BLOCK and owns(entry.device):
                    found.setdefault(entry.release, set()).add(entry.device)

        unrecorded = {}
        for release, devices in found.items():
            known = self._ledger.installed(release, sorted(devices))
            if left := frozenset(number for number in devices if not known[number]):
                unrecorded[release] = left
        return unrecorded

    def _recorded_size(self) -> int:
        """Return the size of the log up to which all installations are recorded, as the file states it."""
        try:
            return int(self._file.read_text())
        except (OSError, ValueError):  # without the file, the contract is asked about all installations
            return 0
