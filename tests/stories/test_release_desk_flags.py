"""A proposal with red flags is signed only after the owner typed the word of each flag on a terminal."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.approval.proposal import Proposal
from blockota.approval.safe_transaction import DELEGATECALL
from blockota.bindings.block_ota import floor_call, publish_call
from blockota.formats.abi import encode_signature_call, interface
from blockota.model.release import Release, Status, Version
from tests.stories.conftest import PRODUCT, Workshop, publish_first
from tests.stories.test_bad_input import REFUSED, refused
from tests.stories.test_release_desk import ok, propose
from tests.stories.test_road import LARGE, NEW, OLD
from tests.stories.test_terminal import answering
from tests.support.terminal import Terminal

MONTHS = 90 * 86400
TYPED = {"Type delegatecall": "delegatecall\n", "Type value": "value\n", "Sign this": "y\n"}


def release(image: Path, version: Version) -> Release:
    """Return a release of an image, without the checks of ``release publish``."""
    data = image.read_bytes()
    return Release(
        product=PRODUCT,
        version=version,
        sha256=hashlib.sha256(data).digest(),
        size=len(data),
        load_address=0x08000000,
        active_from=0,
        chip_id=0x410,
        status=Status.ACTIVE,
        previous=None,
    )


@pytest.fixture
def usual(workshop: Workshop) -> Proposal:
    """Return a proposal of release 1.1.0 without red flags, after 1.0.0 was published."""
    workshop.after(publish_first)
    return Proposal.from_json(propose(workshop, NEW, "1.1.0").read_bytes())


def flagged(workshop: Workshop, usual: Proposal) -> dict[str, Proposal]:
    """Return proposals that each raise one red flag, by the flag's word."""
    mallory, now = workshop.cast.mallory.address, int(time.time())
    older, larger = release(OLD, Version(0, 9, 0)), release(LARGE, Version(1, 2, 0))
    threshold = interface("Safe").encode_call("changeThreshold", 1)
    return {
        "delegatecall": replace(usual, operation=DELEGATECALL),
        "value": replace(usual, value=1),
        "refund": replace(usual, gas_price=1, refund_receiver=mallory),
        "selector": replace(usual, data=encode_signature_call("upgradeTo(address)", mallory)),
        "target": replace(usual, to=mallory),
        "expired": replace(usual, expires=now - 1),
        "far": replace(usual, expires=now + MONTHS),
        "nonce": replace(usual, nonce=usual.nonce + 2),
        "lower": replace(usual, data=publish_call([older])),
        "grown": replace(usual, data=publish_call([larger])),
        "ownership": replace(usual, data=interface("BlockOTA").encode_call("transferOwnership", mallory)),
        "floor": replace(usual, data=floor_call(PRODUCT, Version(9, 0, 0))),
        "threshold": replace(usual, to=usual.safe, data=threshold),
    }


def test_every_red_flag_stops_signing_without_a_terminal(workshop: Workshop, usual: Proposal) -> None:
    """Each red flag is named and prevents signing without a terminal, even with ``--yes``."""
    given = ("--image", str(OLD)), ("--image", str(LARGE))
    options = {"lower": given[0], "grown": given[1]}
    for word, proposal in flagged(workshop, usual).items():
        Path("p.json").write_bytes(proposal.to_json())
        words = ("--key", "dev:1", "--yes", *options.get(word, ()))
        outcome = workshop.run("proposal", "sign", "p.json", *words)
        if word == "expired":  # no typed word makes the execution possible again
            refused(outcome, REFUSED, "the proposal has expired")
        else:
            refused(outcome, REFUSED, "nothing was signed", "red flags (", word)
            assert f"RED FLAG {word}" in outcome.out
        shown = ok(workshop.run("proposal", "show", "p.json"))
        unusual = shown.out[shown.out.index("What is unusual") : shown.out.index("────")]
        assert f"RED FLAG {word}" in unusual
        assert word in {flag["word"] for flag in workshop.run("proposal", "show", "p.json", "--json").json["redFlags"]}
    assert not list(Path().glob("p.*signature*"))
    assert "What is unusual\nnothing\n\n────" in workshop.run("proposal", "show", "1.1.0.json").out


def test_an_old_view_and_a_strange_key_are_red_flags(workshop: Workshop, usual: Proposal) -> None:
    """A chain view of three days ago, and the key of a non-owner, raise red flags before signing."""
    assert usual.nonce == 2
    ok(workshop.run("proposal", "export-view", "1.1.0.json", "-o", "view.json"))
    view = json.loads(Path("view.json").read_text())
    view["block"]["time"] -= 3 * 86400
    Path("view.json").write_text(json.dumps(view))
    words = ("proposal", "sign", "1.1.0.json", "--yes", "--view", "view.json")
    refused(workshop.run(*words, "--key", "dev:1"), REFUSED, "red flags (old)")
    refused(workshop.run(*words, "--key", "dev:6"), REFUSED, "old", "stranger")
    assert not list(Path().glob("1.1.0.*signature*"))


def test_flags_are_passed_by_typing_each_word(workshop: Workshop, usual: Proposal) -> None:
    """On a terminal, a flagged proposal is signed only if each flag's word is typed and the question is confirmed."""
    unusual, terminal = replace(usual, operation=DELEGATECALL, value=1), Terminal(workshop.folder)
    Path("p.json").write_bytes(unusual.to_json())
    words = ("proposal", "sign", "p.json", "--key", "dev:1", "-o", "p.signature.json")
    wrong = terminal.run(*words, "--yes", watch=answering(TYPED | {"Type value": "yes\n"}))
    assert (wrong.status, "the word value was not typed" in wrong.text) == (REFUSED, True)
    doubtful = terminal.run(*words, watch=answering(TYPED | {"Sign this": "n\n"}))
    assert (doubtful.status, "you answered no" in doubtful.text) == (REFUSED, True)
    assert not Path("p.signature.json").exists()

    signed = terminal.run(*words, watch=answering(TYPED))
    assert signed.status == 0, signed.text
    order = ["What is asked", "What changes", "What is unusual", "RED FLAG delegatecall", "────", "safeTxHash"]
    order += ["Type delegatecall", "Sign this", "✓ p.signature.json", "1 of 2 signed. Send p.json"]
    assert sorted(order, key=signed.text.index) == order
    assert Path("p.signature.json").exists()


def test_a_usual_proposal_is_signed_by_saying_yes(workshop: Workshop, usual: Proposal) -> None:
    """On a terminal, an ordinary proposal is shown completely and signed after the question is confirmed."""
    assert not usual.is_rejection
    words, terminal = ("proposal", "sign", "1.1.0.json", "--key", "dev:1"), Terminal(workshop.folder)
    assert terminal.run(*words, watch=answering({"Sign this": "\x04"})).status == 130
    assert not list(Path().glob("1.1.0.*signature*"))
    signed = terminal.run(*words, watch=answering(TYPED))
    assert signed.status == 0, signed.text
    order = ["What is unusual\nnothing", "safeTxHash", "Sign this", "✓ 1.1.0.", "1 of 2 signed. Send 1.1.0.json"]
    assert sorted(order, key=signed.text.index) == order
    # The next step is bright.
    assert "\x1b[1m1 of 2 signed." in signed.raw
    assert list(Path().glob("1.1.0.*signature*"))
