"""The states of a broker's agreements, the advice to the broker's operator, and the URLs that can be announced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.broker.agreements import check_uri
from blockota.broker.plan import AgreementFacts, AgreementState, Facts, state_of
from blockota.cli.broker import advice
from blockota.errors import UsageError
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Status, Version
from blockota.model.rights import Claim
from blockota.stores.search import MAX_URL
from blockota.stores.source import base_url
from tests.support.samples import NOW, PRODUCT, code, release_of

URL = "https://broker.example"
AGREEMENT = Agreement(1, "0xb", PRODUCT.name, Version(1, 1, 0), NOW + 60, AgreementStatus.ACCEPTED, URL)
RELEASE = release_of(code())
PROPOSED = replace(AGREEMENT, status=AgreementStatus.PROPOSED, uri="")
SILENT = replace(AGREEMENT, uri="")
EXPIRED = replace(AGREEMENT, expires_at=NOW)
REVOKED = replace(RELEASE, status=Status.REVOKED)
CASES = {
    AgreementState.ANNOUNCED: (AgreementFacts(Claim(RELEASE, None, AGREEMENT), AGREEMENT), ""),
    AgreementState.UNANNOUNCED: (AgreementFacts(Claim(RELEASE, None, SILENT), SILENT), "--announce"),
    AgreementState.PROPOSED: (AgreementFacts(Claim(RELEASE, None, PROPOSED), PROPOSED), "not decided yet"),
    AgreementState.UNCONFIRMED: (AgreementFacts(Claim(RELEASE, None, PROPOSED), AGREEMENT), "12 blocks"),
    AgreementState.EXPIRED: (AgreementFacts(Claim(RELEASE, None, EXPIRED), EXPIRED), ""),
    AgreementState.REVOKED: (AgreementFacts(Claim(REVOKED, None, AGREEMENT), AGREEMENT), ""),
}


def advised(facts: Facts, *, confirmations: int = 12, url: str = "", has_key: bool = True) -> list[str]:
    """Return the advice to the operator about the broker's agreements."""
    return list(advice(facts, broker="0xb", confirmations=confirmations, url=url, has_key=has_key))


@pytest.mark.parametrize("state", AgreementState, ids=str)
def test_every_state_has_its_advice(state: AgreementState) -> None:
    """For each state of an agreement that requires an action or a wait, the advice has one sentence."""
    found, words = CASES[state]
    facts = Facts(NOW, (found,), block=7)
    assert state_of(found, NOW) is state
    sentences = advised(facts)
    assert len(sentences) == bool(words)
    assert all(words in sentence for sentence in sentences)


def test_an_announcement_that_is_due_is_advised_only_without_a_key() -> None:
    """The advice to announce a URL appears only if the broker has no key for announcements."""
    facts = Facts(NOW, (CASES[AgreementState.UNANNOUNCED][0],))
    assert advised(facts, url=URL) == []
    assert f"`blockota replica announce 1 {URL} --key URI`" in advised(facts, url=URL, has_key=False)[0]


def test_a_move_is_advised_only_without_a_key() -> None:
    """If the URL on the chain is old and the broker has no key, the advice is to announce the new URL."""
    facts = Facts(NOW, (CASES[AgreementState.ANNOUNCED][0],))
    moved = "https://moved.example"
    assert (advised(facts, url=moved), advised(facts, url=URL, has_key=False)) == ([], [])
    [sentence] = advised(facts, url=moved, has_key=False)
    assert f"is announced at {URL}: pass --key URI, or run `blockota replica announce 1 {moved}" in sentence


@pytest.mark.parametrize("confirmations", [0, 12])
def test_advice_without_agreements_names_block_and_confirmations(confirmations: int) -> None:
    """If a broker has no agreement, the advice contains its address, the block and any required confirmations."""
    [advice] = advised(Facts(NOW, (), block=7), confirmations=confirmations)
    assert advice.startswith("0xb has no open agreement with this vendor as of block 7")
    assert ("12" in advice) == bool(confirmations)


@pytest.mark.parametrize("end", ["", "/", "/ipfs", "/ipfs/"], ids=repr)
def test_the_base_address_is_what_stands_before_the_path(end: str) -> None:
    """Trailing slashes and a final /ipfs are removed from an announced URL."""
    assert base_url(URL + end) == URL
    assert base_url(f"{URL}/mirror{end}") == f"{URL}/mirror"


@pytest.mark.parametrize(
    "url",
    [
        *("", "broker.example", "ftp://broker.example", "https://", "https://bröker.example", "https://a b.example"),
        *("https://me@broker.example", f"{URL}?a=1", f"{URL}#a", f"{URL}:0", f"{URL}/{'a' * MAX_URL}"),
    ],
    ids=range(11),
)
def test_a_url_that_gateways_cannot_use_is_refused(url: str) -> None:
    """A URL that gateways would ignore is refused before it is announced."""
    with pytest.raises(UsageError, match="cannot be announced"):
        check_uri(url)
