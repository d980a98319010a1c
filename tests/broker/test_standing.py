"""How a broker's agreements stand, what is said of them, and which URLs can be announced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.broker.agreements import check_uri
from blockota.broker.plan import Facts, Promise, base_url
from blockota.broker.standing import State, advice, standings
from blockota.errors import UsageError
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Status, Version
from blockota.stores.search import MAX_URL
from tests.support.samples import NOW, PRODUCT, code, release_of

URL = "https://broker.example"
AGREEMENT = Agreement(1, "0xb", PRODUCT.name, Version(1, 1, 0), NOW + 60, AgreementStatus.ACCEPTED, URL)
PROMISE = Promise(AGREEMENT, AGREEMENT, release_of(code()))
PROPOSED = replace(AGREEMENT, status=AgreementStatus.PROPOSED, uri="")
CASES = {
    State.ANNOUNCED: (PROMISE, ""),
    State.UNANNOUNCED: (replace(PROMISE, newest=replace(AGREEMENT, uri="")), "--announce"),
    State.PROPOSED: (replace(PROMISE, agreement=PROPOSED, newest=PROPOSED), "not decided yet"),
    State.UNCONFIRMED: (replace(PROMISE, agreement=PROPOSED), "12 blocks"),
    State.EXPIRED: (replace(PROMISE, agreement=replace(AGREEMENT, expires_at=NOW)), ""),
    State.REVOKED: (replace(PROMISE, release=replace(PROMISE.release, status=Status.REVOKED)), ""),
}


@pytest.mark.parametrize("state", State, ids=str)
def test_an_agreement_stands_somehow(state: State) -> None:
    """And where a person can do or wait for something, a sentence says what."""
    promise, words = CASES[state]
    facts = Facts(NOW, (promise,), block=7)
    assert [one.state for one in standings(facts)] == [state]
    told = list(advice(facts, broker="0xb", confirmations=12))
    assert len(told) == bool(words)
    assert all(words in sentence for sentence in told)
    silent = state in {State.UNANNOUNCED, State.ANNOUNCED, State.EXPIRED, State.REVOKED}
    assert bool(list(advice(facts, broker="0xb", confirmations=12, url=URL))) != silent


@pytest.mark.parametrize("confirmations", [0, 12])
def test_a_broker_without_agreements_is_told_so(confirmations: int) -> None:
    """With its address, the block, and how deep that lies: one of the three is often the mistake."""
    [told] = advice(Facts(NOW, (), block=7), broker="0xb", confirmations=confirmations)
    assert told.startswith("0xb has no open agreement with this vendor as of block 7")
    assert ("12" in told) == bool(confirmations)


@pytest.mark.parametrize("end", ["", "/", "/ipfs", "/ipfs/"], ids=repr)
def test_the_base_address_is_what_stands_before_the_path(end: str) -> None:
    """However people write it."""
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
def test_a_url_that_nobody_would_ask_is_not_announced(url: str) -> None:
    """It would cost a fee, and gateways would pass it over."""
    with pytest.raises(UsageError, match="cannot be announced"):
        check_uri(url)
