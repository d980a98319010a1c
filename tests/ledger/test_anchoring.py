"""Anchoring a log on the gateway chain: accepted sizes and proofs, and refused logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blockota.bindings.contract import create
from blockota.bindings.identities import IdentitiesContract, enrolment_argument
from blockota.bindings.update_ledger import TreeGrowth, UpdateLedgerContract
from blockota.chain import Chain
from blockota.errors import ContractRefusalError, RefusedError
from blockota.formats.abi import interface
from blockota.formats.tlog import EMPTY_TREE
from blockota.ledger.anchoring import PlannedAnchor, plan_anchor
from blockota.ledger.evidence import find_evidence
from blockota.ledger.log import TileLog
from tests.conftest import Cast
from tests.support.identities import enrolment_of
from tests.support.logs import entries_of, note_signer
from tests.support.receipts import install

KEY = note_signer()


class Site:
    """A gateway with its log, and the contracts of its city."""

    def __init__(self, chain: Chain, cast: Cast, folder: Path) -> None:
        self.account, self.log = cast.technician, TileLog(folder)
        registry = create(chain, cast.payer, "IdentityRegistry", cast.payer.address)[0]
        self.identities = IdentitiesContract(chain, registry)
        ledger = create(chain, cast.payer, "UpdateLedger", registry, registry)[0]
        self.ledger = UpdateLedgerContract(chain, ledger)
        enrolment = enrolment_of(1, account=self.account.address)
        self.keeper = enrolment.uuid
        enrolment = replace(enrolment, keys=replace(enrolment.keys, log_key=KEY.key.key))
        call = interface("IdentityRegistry").encode_call("enrol", enrolment_argument(enrolment))
        chain.send(cast.payer, call, to=registry)

    def grow(self, size: int) -> None:
        """Append entries to the log, and publish it."""
        self.log.append(entries_of(len(self.log), size))
        self.log.publish(KEY)

    def plan(self, log: TileLog | None = None, *, every: int = 256) -> PlannedAnchor:
        """Plan the next anchor."""
        reader = (log or self.log).published
        return plan_anchor(reader, self.account.address, self.ledger, self.identities, every=every)

    def anchored_size(self) -> int:
        """Anchor the log if enough entries were added, and return the size that the contract records."""
        if growth := self.plan().growth:
            self.ledger.anchor(self.account, growth)
        record = self.ledger.log(self.keeper)
        return record.size if record else 0


@pytest.fixture
def site(anvil: Chain, cast: Cast, tmp_path: Path) -> Site:
    """Return a gateway that has not anchored yet."""
    return Site(anvil, cast, tmp_path / "log")


def test_a_log_is_anchored_at_full_tiles(site: Site) -> None:
    """A growing log is anchored at the greatest multiple of 256, with proofs that the contract accepts."""
    sizes = []
    for size in (100, 255, 256, 300, 1000, 1030):
        site.grow(size)
        sizes.append(site.anchored_size())
    assert sizes == [0, 0, 256, 256, 768, 1024]
    record = site.ledger.log(site.keeper)
    assert record
    assert record.root == site.log.published.head_at(1024).root
    # On request, all published entries are anchored.
    growth = site.plan(every=1).growth
    assert growth
    site.ledger.anchor(site.account, growth)
    assert site.plan(every=1).growth is None
    assert site.plan(every=1).anchored == site.log.published.head()


def test_another_history_is_refused_here_and_by_the_contract(site: Site, tmp_path: Path) -> None:
    """Anchoring a forked log, or a copy that is older than the anchor, fails before a transaction is sent.

    The contract also refuses the forked log.
    """
    site.grow(300)
    assert site.anchored_size() == 256
    fork, old = TileLog(tmp_path / "fork"), TileLog(tmp_path / "old")
    fork.append([b"other", *entries_of(1, 600)])
    fork.publish(KEY)
    old.append(entries_of(0, 200))
    old.publish(KEY)
    for log, why in ((fork, "another root"), (old, "its size is only 200")):
        with pytest.raises(RefusedError, match=f"does not continue the anchored log: .* at size 256, .*{why}"):
            site.plan(log)
    head = fork.published.head_at(512)
    growth = TreeGrowth(512, head.root, tuple(fork.published.prove_consistency(256, 512)))
    with pytest.raises(ContractRefusalError):
        site.ledger.anchor(site.account, growth)


def test_a_log_that_is_not_that_of_the_identity_is_not_anchored(site: Site) -> None:
    """A log is not anchored if it lacks a checkpoint, or if the registry does not contain the key that signed it."""
    with pytest.raises(RefusedError, match="has not published"):
        site.plan()
    site.log.append(entries_of(0, 300))
    site.log.publish(note_signer(seed=5))
    with pytest.raises(RefusedError, match="does not belong to"):
        site.plan()


def test_a_suspended_log_is_not_anchored(site: Site, cast: Cast) -> None:
    """A suspended log is refused before a transaction is sent."""
    site.log.append(install(time=time, gateway=site.keeper).encode() for time in (1, 2))
    site.log.publish(KEY)
    growth = site.plan(every=1).growth
    assert growth
    site.ledger.anchor(site.account, growth)
    pair = find_evidence(site.log.published, site.log.published.head(), decided=lambda *_: 0)
    assert pair
    site.ledger.suspect(cast.mallory, site.keeper, *pair)
    site.grow(300)
    with pytest.raises(RefusedError, match="cannot be anchored: the status of the log in the contract is suspended"):
        site.plan()


def test_a_stranger_has_no_log(site: Site, cast: Cast) -> None:
    """An account that belongs to no identity cannot anchor."""
    site.grow(300)
    with pytest.raises(RefusedError, match="is not enrolled"):
        plan_anchor(site.log.published, cast.payer.address, site.ledger, site.identities)
    assert site.plan().anchored == EMPTY_TREE
