"""Owners and payers without coin get warnings before they need coin, and errors when they need it."""

from __future__ import annotations

import json

import pytest
from eth_account import Account

from tests.conftest import IMAGES
from tests.stories.conftest import PRODUCT, Workshop
from tests.support.networks import post, rpc, stand_in


def set_balance(workshop: Workshop, address: str, wei: int) -> None:
    """Set the balance of an account."""
    rpc(workshop.chain, "anvil_setBalance", address, hex(wei))


def test_an_owner_without_coin_is_warned_before_the_emergency(workshop: Workshop) -> None:
    """``contract show`` names the owners who could not pay for a pause.

    A pause by one of these owners is refused for the same reason.
    """
    poor = workshop.cast.owner_c.address
    rich = workshop.run("contract", "show", "--json")
    assert (rich.json["ownersUnableToPause"], rich.err) == ([], "")

    set_balance(workshop, poor, 0)
    shown = workshop.run("contract", "show", "--json")
    assert shown.json["ownersUnableToPause"] == [poor]
    assert f"the owner {poor} has 0 of the chain's coin" in shown.err

    refused = workshop.run("contract", "pause", "--key", "dev:3")
    assert refused.status == 3
    assert f"the account {poor} cannot pay for the transaction; nothing was sent" in refused.err
    assert "(--key URI)" in refused.err
    assert workshop.run("contract", "pause", "--key", "dev:2").status == 0
    assert workshop.run("contract", "show", "--json").json["ownersUnableToPause"] == []  # the contract is paused


def test_a_node_that_estimates_nothing_still_shows_the_contract(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the node cannot estimate gas, ``contract show`` warns that it cannot check who can pay for a pause."""
    refusal = {"code": -32601, "message": "eth_estimateGas is not available"}

    def refuse(body: bytes) -> tuple[int, bytes]:
        answers = json.loads(post(workshop.chain.url, body))
        if b"eth_estimateGas" in body:
            answers = [{"jsonrpc": "2.0", "id": answer["id"], "error": refusal} for answer in answers]
        return 200, json.dumps(answers).encode()

    with stand_in(refuse) as url:
        monkeypatch.setenv("BLOCKOTA_URL", url)
        shown = workshop.run("contract", "show", "--json")
    assert (shown.status, shown.json["ownersUnableToPause"]) == (0, None)
    assert "it is unknown which owners could pay for a pause" in shown.err


def test_a_payer_without_coin_executes_nothing(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """``proposal execute`` with an empty account is refused. The command succeeds as soon as the account has coin."""
    payer = Account.create()
    monkeypatch.setenv("PAYER_KEY", payer.key.hex())
    words = ("--product", PRODUCT, "--version", "1.0.0", "-o", "1.0.0.json")
    assert workshop.run("release", "publish", str(IMAGES / "bluepill-1.0.0.bin"), *words).status == 0
    for owner in ("dev:1", "dev:2"):
        assert workshop.run("proposal", "sign", "1.0.0.json", "--key", owner, "--yes").status == 0
    execute = ("proposal", "execute", "1.0.0.json", "--key", "env:PAYER_KEY")
    refused = workshop.run(*execute)
    assert refused.status == 3
    assert f"the account {payer.address} cannot pay for the transaction; nothing was sent" in refused.err
    assert workshop.run("transaction", "list", "--json").json["transactions"] == []
    set_balance(workshop, payer.address, 10**18)
    assert workshop.run(*execute).status == 0
