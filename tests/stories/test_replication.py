"""A broker offers to serve a release, the vendor's owners decide, and the broker announces its URL."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from blockota.bindings.block_ota import revoke_call
from blockota.keys import dev_account
from blockota.model.release import Version
from tests.conftest import ROOT
from tests.stories.conftest import PRODUCT, Outcome, Workshop, publish_first
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.support import forks
from tests.support.networks import rpc

RELEASE = ("--product", PRODUCT, "--version", "1.0.0")
BROKER, OTHER = ("--key", "dev:4"), ("--key", "dev:5")
URI = "https://broker.example/ipfs"


@pytest.fixture
def released(workshop: Workshop) -> Workshop:
    """Return a test workshop with the published release 1.0.0."""
    return workshop.after(publish_first)


def propose(workshop: Workshop) -> Outcome:
    """Offer to serve release 1.0.0 as the broker."""
    return workshop.run("replica", "propose", *RELEASE, *BROKER, "--json")


def decide(workshop: Workshop, verb: str, number: int) -> None:
    """Have two owners decide on an agreement by a proposal that they sign in another folder."""
    file = f"{verb}.json"
    assert workshop.run("replica", verb, str(number), "-o", file).status == 0
    elsewhere = workshop.folder / f"of-owner-{verb}"
    elsewhere.mkdir()
    (elsewhere / file).write_bytes(Path(file).read_bytes())
    for owner in ("dev:1", "dev:3"):
        words = ("proposal", "sign", str(elsewhere / file), "--key", owner, "--yes")
        assert workshop.run(*words).status == 0
    signatures = [word for path in elsewhere.glob("*.signature.json") for word in ("--signature", str(path))]
    outcome = workshop.run("proposal", "execute", file, "--key", "dev:0", *signatures)
    assert outcome.status == 0, outcome.err


def listed(workshop: Workshop, *options: str) -> list[tuple[int, str, str]]:
    """Return the number, status and URI of each listed agreement."""
    found = workshop.run("replica", "list", *options, "--json").json["agreements"]
    return [(agreement["number"], agreement["status"], agreement["uri"]) for agreement in found]


def opened(workshop: Workshop, *options: str) -> list[tuple[int, str]]:
    """Return the number and status of each open agreement whose broker does not serve the release yet."""
    found = workshop.run("replica", "list", *options, "--json").json["open"]
    return [(agreement["number"], agreement["status"]) for agreement in found]


def test_a_replica_is_agreed_announced_moved_and_ended(released: Workshop) -> None:
    """A replica is listed from its announcement until the agreement ends."""
    assert propose(released).json["number"] == 1
    assert listed(released) == []
    assert listed(released, "--all") == [(1, "proposed", "")]
    assert opened(released) == [(1, "proposed")]
    assert "accepts offers with `blockota replica accept" in released.run("replica", "list").err
    decide(released, "accept", 1)
    assert listed(released) == []
    assert opened(released, *RELEASE) == [(1, "accepted")]
    for uri in (URI, "https://new.broker.example/ipfs"):
        assert released.run("replica", "announce", "1", uri, *BROKER).status == 0
        assert listed(released, *RELEASE) == listed(released) == [(1, "accepted", uri)]
    decide(released, "terminate", 1)
    assert listed(released, *RELEASE) == []


def test_a_signer_sees_what_the_decision_is_about(released: Workshop) -> None:
    """An owner who signs a decision is shown the broker, the release, and the agreement's status on the chain."""
    propose(released)
    assert released.run("replica", "accept", "1", "-o", "accept.json").status == 0
    shown = released.run("proposal", "sign", "accept.json", "--key", "dev:1", "--yes").out
    assert shown.count(PRODUCT) == shown.count(released.cast.broker.address) == 1
    assert "1, proposed, with these terms" in shown


def sign_acceptance(workshop: Workshop) -> list[str]:
    """Propose to accept agreement 1, sign as two owners, and return the second owner's red flags."""
    assert workshop.run("replica", "accept", "1", "-o", "accept.json").status == 0
    for owner in ("dev:1", "dev:3"):
        outcome = workshop.run("proposal", "sign", "accept.json", "--key", owner, "--yes", "--json")
        assert outcome.status == 0, outcome.err
    return [flag["word"] for flag in outcome.json["redFlags"]]


def test_a_number_that_became_another_brokers_is_not_accepted(released: Workshop) -> None:
    """If a reorganisation gives an agreement's number to another broker, the signed acceptance is refused."""
    propose(released)
    assert sign_acceptance(released) == []
    rpc(released.chain, "anvil_reorg", 1, [])
    assert released.run("replica", "propose", *RELEASE, *OTHER).status == 0
    shown = released.run("proposal", "show", "accept.json").out
    assert dev_account(5).address in shown
    assert "with these terms" not in shown
    outcome = released.run("proposal", "execute", "accept.json", "--key", "dev:0")
    refused(outcome, REFUSED, "agreement 1 is not the agreement of the decision", "reorganisation")
    assert listed(released, "--all") == [(1, "proposed", "")]


def test_an_agreement_in_a_new_block_is_not_decided_on(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agreement cannot be accepted before it has the required confirmations."""
    rpc(workshop.chain, "anvil_mine", 2)  # anvil has no state of blocks before the newest one that it loaded
    publish_first(workshop)
    propose(workshop)
    monkeypatch.setenv("BLOCKOTA_CONFIRMATIONS", "2")
    refused(workshop.run("replica", "accept", "1", "-o", "accept.json"), REFUSED, "not confirmed yet", "2 blocks")
    assert not Path("accept.json").exists()
    rpc(workshop.chain, "anvil_mine", 2)
    assert workshop.run("replica", "accept", "1", "-o", "accept.json").status == 0
    monkeypatch.setenv("BLOCKOTA_CONFIRMATIONS", "5")
    shown = workshop.run("proposal", "show", "accept.json", "--json").json
    assert [flag["word"] for flag in shown["redFlags"]] == ["shallow"]


def test_several_offers_are_accepted_in_one_transaction(released: Workshop) -> None:
    """One proposal can accept several offers. The owners see the terms of each offer."""
    propose(released)
    assert released.run("replica", "propose", *RELEASE, *OTHER).status == 0
    refused(released.run("replica", "accept", "1", "2", "7", "-o", "all.json"), REFUSED, "agreement 7 does not exist")
    assert released.run("replica", "accept", "1", "2", "2", "-o", "all.json").status == 0
    shown = released.run("proposal", "show", "all.json").out
    assert ("1, proposed, with these terms" in shown, "2, proposed, with these terms" in shown) == (True, True)
    for owner in ("dev:1", "dev:3"):
        assert released.run("proposal", "sign", "all.json", "--key", owner, "--yes").status == 0
    assert released.run("proposal", "execute", "all.json", "--key", "dev:0").status == 0
    assert opened(released) == [(1, "accepted"), (2, "accepted")]


def test_a_declined_offer_serves_nothing(released: Workshop) -> None:
    """A broker whose offer was declined cannot announce a URL."""
    propose(released)
    decide(released, "decline", 1)
    refused(released.run("replica", "announce", "1", URI, *BROKER), REFUSED, "agreement 1", "declined", "new offer")


def test_a_broker_withdraws(released: Workshop) -> None:
    """A broker can withdraw an offer, and then make a new offer."""
    propose(released)
    assert released.run("replica", "withdraw", "1", *BROKER).status == 0
    assert propose(released).json["number"] == 2
    assert listed(released, "--all") == [(1, "withdrawn", ""), (2, "proposed", "")]


def test_a_revoked_release_has_no_replicas(released: Workshop) -> None:
    """Replicas of a revoked release are no longer listed."""
    propose(released)
    decide(released, "accept", 1)
    assert released.run("replica", "announce", "1", URI, *BROKER).status == 0
    released.decide(revoke_call(PRODUCT, Version(1, 0, 0), reason="recalled"))
    assert (listed(released, *RELEASE), opened(released)) == ([], [])
    refused(released.run("replica", "propose", *RELEASE, *OTHER), REFUSED, "revoked")


def test_strangers_and_mistakes_are_refused(released: Workshop) -> None:
    """Each mistake in a ``replica`` command has its own error and exit status."""
    run = released.run
    refused(run("replica", "propose", "--product", PRODUCT, "--version", "9.9.9", *BROKER), REFUSED, "9.9.9")
    propose(released)
    refused(propose(released), REFUSED, "agreement 1")
    refused(run("replica", "accept", "7", "-o", "seven.json"), REFUSED, "agreement 7 does not exist")
    refused(run("replica", "announce", "1", URI, *BROKER), REFUSED, "proposed")
    refused(run("replica", "withdraw", "1", *OTHER), REFUSED, "another broker")
    refused(run("replica", "announce", "1", "ftp://broker.example", *BROKER), USAGE, "http")
    refused(run("replica", "list", "--product", PRODUCT), USAGE, "--version")
    for word in ("1,2", "#1", "0", "http://x"):
        refused(
            run("replica", "accept", word, "-o", "seven.json"), USAGE, f"'{word}' is not the number of an agreement"
        )
    refused(run("replica", "announce", "1", f"https://broker.example/{'x' * 300}", *BROKER), REFUSED, "agreement 1")
    assert not Path("seven.json").exists()


def test_an_expired_agreement_serves_nothing(released: Workshop) -> None:
    """An agreement expires without a transaction, by the time of the chain's blocks."""
    words = ("replica", "propose", *RELEASE, *BROKER, "--expires-in", "30m", "--json")
    assert released.run(*words).json["expiresAt"] <= time.time() + 3600
    decide(released, "accept", 1)
    assert released.run("replica", "announce", "1", URI, *BROKER).status == 0
    rpc(released.chain, "evm_increaseTime", 1801)
    rpc(released.chain, "evm_mine")
    assert listed(released, *RELEASE) == []
    refused(released.run("replica", "announce", "1", URI, *BROKER), REFUSED, "expired")
    assert "1.0.0  expired  " in released.run("replica", "list", "--all").out


def test_the_broker_proposes_by_ape(released: Workshop) -> None:
    """``ape run propose_replication`` makes the same offer as ``replica propose``."""
    command = [forks.APE, "run", "propose_replication"]
    command += ["--network", f"ethereum:local:{released.chain.url}", *RELEASE, *BROKER]
    deployed = json.loads(Path("deployments/1337.json").read_text())["replication"]
    done = forks.run([*command, "--contract", deployed], folder=ROOT)
    assert done.returncode == 0, done.stderr
    assert listed(released, "--all") == [(1, "proposed", "")]
