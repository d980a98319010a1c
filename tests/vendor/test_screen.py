"""The signing screen: the request, the changes, and the addresses and hashes below the dividing line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.approval.chain_view import ChainView
from blockota.approval.proposal import Proposal
from blockota.bindings.block_ota import publish_call
from blockota.formats.abi import interface
from blockota.keys import dev_account
from blockota.model.manifest import Description
from blockota.vendor.images import UncheckedImage
from blockota.vendor.review import Review
from blockota.vendor.screen import Screen, screen_of
from tests.support.samples import NOW, SAFE, code, proposal_with, release_of
from tests.vendor.test_review import OWNERS, VIEW

DORA = dev_account(8).address
UNCHECKED = UncheckedImage("the store was not asked", Description())


def screen(proposal: Proposal, view: ChainView | None = VIEW) -> Screen:
    """Return the screen of a proposal whose images were not checked."""
    images = tuple(UNCHECKED for _ in proposal.releases)
    return screen_of(Review(proposal, view, images), now=NOW)


def test_hashes_and_addresses_are_below_the_rule() -> None:
    """The signing screen first shows what a release changes.

    The hashes and the Safe's addresses follow below, as evidence.
    """
    shown = screen(proposal_with())
    asked, terms = shown.asked
    assert list(asked) == ["action", "product", "version", "active from"]
    assert list(terms) == ["reason", "proposer", "expires", "nonce"]
    (change,) = shown.changes
    assert list(change) == ["addresses", "image", "today"]
    assert [next(iter(group)) for group in shown.evidence] == ["SHA-256", "calls", "domain hash"]


def test_each_of_several_releases_is_named_in_each_part() -> None:
    """The screen of several releases begins with their number. The titles of changes and hashes name the release."""
    call = publish_call([release_of(code()), replace(release_of(code(65)), product="acme-thermo3")])
    shown = screen(proposal_with(data=call))
    assert shown.asked[0] == {"asks for": "2 actions, each shown below"}
    names = ["acme-thermo2 1.1.0", "acme-thermo3 1.1.0"]
    assert [group["for"] for group in shown.changes] == names
    assert [group.get("for") for group in shown.evidence] == [*names, None, None]


@pytest.mark.parametrize(
    ("call", "afterwards"),
    [
        (("addOwnerWithThreshold", DORA, 3), (*OWNERS, DORA, "3 of these 4 must sign")),
        (("removeOwner", OWNERS[0], OWNERS[1], 1), (OWNERS[0], OWNERS[2], "1 of these 2 must sign")),
        (("swapOwner", OWNERS[0], OWNERS[1], DORA), (OWNERS[0], DORA, OWNERS[2], "2 of these 3 must sign")),
        (("changeThreshold", 3), (*OWNERS, "3 of these 3 must sign")),
    ],
    ids=["add", "remove", "replace", "threshold"],
)
def test_a_change_of_owners_is_shown_with_its_result(call: tuple[object, ...], afterwards: tuple[str, ...]) -> None:
    """The owners and the threshold are shown before and after the change."""
    name, *arguments = call
    shown = screen(proposal_with(to=SAFE, data=interface("Safe").encode_call(str(name), *arguments)))
    assert shown.changes == [{"today": (*OWNERS, "2 of these 3 must sign"), "afterwards": afterwards}]
    assert all("prev owner" not in group for group in shown.asked)


@pytest.mark.parametrize(
    ("nonce", "view", "place"),
    [
        (7, VIEW, "7, the Safe's next"),
        (8, replace(VIEW, queued={7: "first.json"}), "8, after first.json; the Safe's next nonce is 7"),
        (9, VIEW, "9, the Safe's next nonce is 7"),
        (6, VIEW, "6, used; the Safe's next nonce is 7"),
        (7, replace(VIEW, rivals=("a.json", "b.json")), "7, the Safe's next; competes with a.json, b.json"),
        (7, None, "7"),
    ],
)
def test_the_place_in_the_queue_is_shown(nonce: int, view: ChainView | None, place: str) -> None:
    """The nonce is shown with the proposal that precedes it, and with the competing proposals."""
    assert screen(proposal_with(nonce=nonce), view).asked[-1]["nonce"] == place


@pytest.mark.parametrize(
    ("left", "words"),
    [(3 * 86400, "in 3 days"), (86400, "in 24 hours"), (1800, "in 30 minutes"), (59, "in 0 minutes"), (0, "EXPIRED")],
)
def test_the_time_until_the_expiry_is_in_units_that_are_read_at_once(left: int, words: str) -> None:
    """The time until the expiry is shown in days, hours or minutes: 3 days, 24 hours, 30 minutes."""
    (_, terms) = screen(proposal_with(expires=NOW + left)).asked
    assert words in str(terms["expires"])
