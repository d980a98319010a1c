"""The queue of the proposals in a folder: states, order, and proposals that can no longer be executed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blockota.approval.flags import Word
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import red_flags
from blockota.bindings.block_ota import publish_call
from blockota.errors import ProposalError
from blockota.model.release import Version
from blockota.vendor.files import ProposalFolder
from blockota.vendor.queue import (
    ProposalState,
    check_next,
    check_pending,
    find_place,
    list_proposals,
    read_queue,
    settle_past,
    with_queue,
)
from tests.support.samples import NOW, SAFE, code, proposal_with, release_of
from tests.vendor.test_review import OTHER_CHAIN, VIEW

LATER = proposal_with(nonce=9)


def test_proposals_of_a_folder_are_listed_by_state_and_nonce(tmp_path: Path) -> None:
    """Proposals in a folder are listed by state and nonce; proposals with the same nonce compete."""
    proposals = {
        "past": proposal_with(nonce=6),
        "replaced": proposal_with(nonce=5),
        "later": proposal_with(nonce=8),
        "next": proposal_with(),
        "rival": proposal_with(data=publish_call([release_of(code(65))])),
        "expired": proposal_with(expires=NOW, data=publish_call([release_of(code(67))])),
        "foreign": OTHER_CHAIN,
    }
    folder = ProposalFolder({tmp_path / f"{name}.json": one for name, one in proposals.items()}, {})
    listed = list_proposals(folder, [VIEW], now=NOW)
    assert [(one.file.stem, one.state.name) for one in listed] == [
        ("next", "NEXT"),
        ("rival", "NEXT"),
        ("later", "LATER"),
        ("expired", "EXPIRED"),
        ("replaced", "PAST"),
        ("past", "PAST"),
        ("foreign", "FOREIGN"),
    ]
    assert [one.competes_with for one in listed[:4]] == [("rival.json",), ("next.json",), (), ()]
    settled = {one.file.stem: one.state for one in settle_past(listed, {proposals["past"].safe_tx_hash})}
    assert (settled["past"], settled["replaced"]) == (ProposalState.EXECUTED, ProposalState.REPLACED)


def test_a_listed_rejection_competes_with_an_expired_proposal(tmp_path: Path) -> None:
    """For a rejection, the list names all competing proposals, even expired ones, like the signing screen."""
    proposals = {"expired": proposal_with(expires=NOW), "no": proposal_with(to=SAFE, data=b"")}
    folder = ProposalFolder({tmp_path / f"{name}.json": one for name, one in proposals.items()}, {})
    rivals = {one.file.stem: one.competes_with for one in list_proposals(folder, [VIEW], now=NOW)}
    assert rivals == {"expired": (), "no": ("expired.json",)}


def test_the_nonce_of_a_queued_proposal_is_not_a_red_flag() -> None:
    """A nonce after the Safe's next nonce raises a red flag if the folder lacks a proposal for a nonce before it."""
    filled = replace(VIEW, queued={7: "a.json", 8: "b.json"})
    assert red_flags(LATER, filled, signer=None, now=NOW) == []
    (flag,) = red_flags(LATER, replace(VIEW, queued={7: "a.json"}), signer=None, now=NOW)
    assert (flag.word, flag.what.endswith("no proposal here has nonce 8")) == (Word.NONCE, True)
    (flag,) = red_flags(proposal_with(nonce=6), filled, signer=None, now=NOW)
    assert flag.what.endswith("this or another proposal was executed already")


def test_proposals_that_come_first_or_compete_are_named() -> None:
    """Unexpired proposals with a lower unused nonce precede a proposal.

    Proposals with an equal nonce compete with it.
    """
    other = publish_call([release_of(code(65))])
    queue = {
        "used.json": proposal_with(nonce=6),
        "a.json": proposal_with(),
        "b.json": proposal_with(data=other),
        "expired.json": proposal_with(nonce=8, expires=NOW),
        "foreign.json": OTHER_CHAIN,
        "itself.json": LATER,
        "late-rival.json": proposal_with(nonce=9, data=other),
        "expired-rival.json": proposal_with(nonce=9, data=other, expires=NOW),
        "z.json": proposal_with(nonce=10),
    }
    view = with_queue(VIEW, LATER, queue, now=NOW)
    assert (view.queued, view.rivals) == ({7: "a.json or b.json"}, ("late-rival.json",))
    assert view.safe.missing_before(LATER.nonce, view.queued) == 8
    with pytest.raises(ProposalError, match="other proposals come first"):
        check_next(LATER, view)
    check_next(proposal_with(), view)
    # The Safe would execute an expired proposal.
    rejection = proposal_with(nonce=9, to=SAFE, data=b"")
    rivals = with_queue(VIEW, rejection, queue, now=NOW).rivals
    assert rivals == ("itself.json", "late-rival.json", "expired-rival.json")


def test_a_proposal_of_the_same_or_a_newer_version_is_named() -> None:
    """A preceding proposal is named if it publishes the same or a newer version of the same product."""
    other = publish_call([release_of(code(65))])
    same, newer = LATER, proposal_with(nonce=9, data=publish_call([release_of(code(66), version=Version(99, 0, 0))]))
    queue = {
        "first.json": proposal_with(nonce=7, data=other),
        "itself.json": LATER,
        "elsewhere.json": proposal_with(nonce=8, data=other, to=SAFE),
        "rejection.json": proposal_with(nonce=8, to=SAFE, data=b""),
    }
    for proposal, expected in ((same, ("first.json",)), (newer, ())):
        place = find_place(proposal, queue, nonce=7, now=NOW)
        assert (place.newer, place.equal) == (expected, ())


def test_a_folder_is_read_as_a_queue(tmp_path: Path) -> None:
    """The queue contains the readable proposals of the folder, without the proposal that is open already."""
    assert read_queue(tmp_path / "missing") == {}
    rival = proposal_with(data=publish_call([release_of(code(65))]))
    for name, one in (("a", proposal_with()), ("rival", rival)):
        (tmp_path / f"{name}.json").write_bytes(one.to_json())
    (tmp_path / "broken.json").write_text('{"format": "blockota-proposal-1"}')
    assert read_queue(tmp_path) == {"a.json": proposal_with(), "rival.json": rival}
    assert read_queue(tmp_path, without=tmp_path / "a.json") == {"rival.json": rival}


@pytest.mark.parametrize(
    ("proposal", "executed", "what"),
    [
        (proposal_with(nonce=6), [proposal_with(nonce=6).safe_tx_hash], "was executed already"),
        (
            proposal_with(nonce=6),
            [LATER.safe_tx_hash],
            "was replaced: the Safe executed another transaction at nonce 6",
        ),
        (proposal_with(nonce=6), None, "was executed or replaced already"),
        (proposal_with(expires=NOW), [], "has expired"),
    ],
)
def test_a_proposal_that_cannot_be_executed_is_refused(
    proposal: Proposal, executed: list[bytes] | None, what: str
) -> None:
    """An executed, replaced or expired proposal is refused with an error that states what happened to it."""
    with pytest.raises(ProposalError, match=what):
        check_pending(proposal, VIEW, now=NOW, read_executed=None if executed is None else lambda: executed)


def test_the_chain_is_searched_only_for_a_used_nonce() -> None:
    """For a proposal with an unused nonce, no events are read from the chain."""

    def read_executed() -> list[bytes]:
        raise AssertionError("the events were read")

    check_pending(LATER, VIEW, now=NOW, read_executed=read_executed)
