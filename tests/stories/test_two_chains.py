"""The contracts of a vendor and a consortium are on one chain, and those of a city are on another chain.

Each Safe decides about its own contracts.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.chain.journal import Journal, SentTransaction
from blockota.chain.local import LocalChain
from blockota.chain.transaction import Fees, SignedTransaction
from blockota.cli.main import run
from blockota.deployment import LOCAL_CHAIN_ID, LOCAL_GATEWAY_CHAIN_ID, Deployment
from blockota.keys import dev_account
from blockota.vendor.example import IDENTITIES
from blockota.vendor.files import read_proposal
from tests.stories.conftest import Outcome
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.support.networks import free_port_pair
from tests.support.samples import CONTRACT, SAFE

UUIDS = {identity.kind: str(identity.uuid) for identity in IDENTITIES}


class Desk:
    """Runs ``blockota`` commands in the working folder."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture

    def run(self, *words: str) -> Outcome:
        """Run a command, and return its status and output."""
        self.capture.readouterr()
        status = run(list(words))
        printed = self.capture.readouterr()
        return Outcome(status, printed.out, printed.err)

    def done(self, *words: str) -> Outcome:
        """Run a command that must succeed."""
        outcome = self.run(*words)
        assert outcome.status == 0, outcome.err
        return outcome

    def decide(self, file: str) -> None:
        """Sign a proposal as two owners, and execute it."""
        for key in ("dev:1", "dev:2"):
            self.done("proposal", "sign", file, "--key", key, "--yes")
        self.done("proposal", "execute", file, "--key", "dev:0")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    """Start two local chains in an empty working folder, and stop them after the test."""
    monkeypatch.chdir(tmp_path)
    port = free_port_pair()
    desk = Desk(capsys)
    try:
        shown = desk.done("dev", "up", "--two-chains", "--port", str(port), "--json").json
        assert (shown["chainId"], shown["gatewayChainId"]) == (LOCAL_CHAIN_ID, LOCAL_GATEWAY_CHAIN_ID)
        yield desk
    finally:
        for folder in (Path(".blockota"), Path(".blockota/gateway")):
            LocalChain(folder, port).stop()


def test_each_safe_decides_on_its_chain(desk: Desk) -> None:
    """Proposals of the consortium and of the city wait in one folder, and are signed and executed on two chains."""
    # (1) Every kind of identity is enrolled on the gateway chain, with its keys in a file.
    listed = desk.done("identity", "list", "--json").json["identities"]
    assert {one["kind"] for one in listed} == set(UUIDS)
    pem = Path(".blockota/identities/gateway.pem")
    assert pem.stat().st_mode & 0o077 == 0
    assert [one["name"] for one in desk.done("producer", "list", "--json").json["producers"]] == ["acme", "city"]

    # (2) One folder has proposals of both Safes, whose addresses are the same on both chains or not.
    desk.done("producer", "suspend", "acme", "-o", "suspend.json")
    desk.done("identity", "ban", UUIDS["fog"], "--cause", "stolen", "-o", "ban.json")
    desk.done("identity", "retire", UUIDS["cloud"], "-o", "retire.json", "--sign", "dev:1")
    rows = {one["file"]: one for one in desk.done("proposal", "list", "--json").json["proposals"]}
    city = Deployment.read(Deployment.path(Path(), LOCAL_GATEWAY_CHAIN_ID)).safe
    assert {file: (one["safe"] == city, one["state"]) for file, one in rows.items()} == {
        "suspend.json": (False, "next"),
        "ban.json": (True, "next"),
        "retire.json": (True, "waits for those before it"),
    }
    assert rows["retire.json"]["signed"] == "1 of 2"
    assert "on chain 1338" in desk.done("proposal", "list").out
    shown = desk.done("proposal", "show", "ban.json").out
    assert "today" in shown
    assert "fog, active, account none" in shown

    refused(
        desk.run("proposal", "export-view", "ban.json", "suspend.json", "-o", "view.json"), REFUSED, "of several Safes"
    )

    # (3) A proposal of one chain is refused on the other; the right chain is found without an option.
    for wrong in (("ban.json", "local"), ("suspend.json", "local-gateway")):
        refused(
            desk.run("proposal", "sign", wrong[0], "--network", wrong[1], "--key", "dev:1", "--yes"), REFUSED, "another"
        )
    desk.decide("ban.json")
    desk.decide("suspend.json")
    assert "BANNED" in desk.done("identity", "show", UUIDS["fog"]).out
    assert "SUSPENDED" in desk.done("producer", "list").out

    # A proposal of a Safe that owns none of the configured contracts is refused, and listed as foreign.
    foreign = replace(read_proposal(Path("suspend.json")), safe=dev_account(13).address)
    Path("foreign.json").write_bytes(foreign.to_json())
    refused(
        desk.run("proposal", "sign", "foreign.json", "--key", "dev:1", "--yes"),
        REFUSED,
        "the proposal is for another Safe",
        "the configured contracts are owned by",
    )
    states = {one["file"]: one["state"] for one in desk.done("proposal", "list", "--json").json["proposals"]}
    assert states["foreign.json"] == "for another chain or Safe"

    # (4) A lifted ban is flagged, so it is not signed without a person; the Safe is found for a rejection too.
    desk.done("identity", "unban", UUIDS["fog"], "-o", "unban.json")
    refused(desk.run("proposal", "sign", "unban.json", "--key", "dev:1", "--yes"), REFUSED, "(unban)")
    desk.done("proposal", "reject", "retire.json", "--reason", "not lost")
    desk.decide("reject-retire.json")
    states = {one["file"]: one["state"] for one in desk.done("proposal", "list", "--json").json["proposals"]}
    assert (states["retire.json"], states["ban.json"], states["unban.json"]) == ("replaced", "executed", "next")

    list_without_the_gateway_chain(desk)  # (5)


def list_without_the_gateway_chain(desk: Desk) -> None:
    """Require that the proposals of one chain are listed even if the node of the other chain is unreachable."""
    settings, gateway = Path("blockota.toml").read_text(), desk.done("dev", "status", "--json").json["gatewayUrl"]
    Path("blockota.toml").write_text(settings.replace(gateway, "http://127.0.0.1:9"))
    listed = desk.done("proposal", "list", "--json")
    assert "suspend.json" in {one["file"] for one in listed.json["proposals"]}
    left = {one["file"]: one["why"] for one in listed.json["leftAside"]}
    assert left.keys() == {"ban.json", "retire.json", "reject-retire.json", "unban.json"}
    assert "unban.json: the node at http://127.0.0.1:9" in left["unban.json"]
    assert "Skipped: unban.json" in listed.err
    Path("blockota.toml").write_text(settings)


def test_the_vendors_contract_is_found_without_a_proposal(desk: Desk) -> None:
    """``proposal reject`` and ``export-view`` find the vendor's contracts among contracts of other Safes."""
    region = ("--oem", "acme", "--chip", "0x410", "--region", "0x08000000:64K")
    desk.done("product", "pair", "acme-fan", *region, "-o", "pair.json")
    desk.done("proposal", "reject", "pair.json", "--reason", "wrong region")
    desk.decide("reject-pair.json")
    desk.done("proposal", "export-view", "-o", "view.json")
    view, known = json.loads(Path("view.json").read_bytes()), Deployment.read(Deployment.path(Path(), LOCAL_CHAIN_ID))
    assert view["contracts"] == {"BlockOTA": known.contract, "FirmwareReplication": known.replication}


def test_an_owner_of_the_city_signs_off_line(desk: Desk) -> None:
    """A pack has the registry records that the review needs. Without a network, the owner sees these records."""
    desk.done("safe", "threshold", "3", "--of", "identities", "-o", "threshold.json")
    assert desk.done("safe", "owners", "--of", "producers", "--json").json["threshold"] == 2
    desk.done("identity", "ban", UUIDS["fog"], "--cause", "stolen", "--nonce", "1", "-o", "ban.json")
    desk.done("proposal", "pack", "ban.json")
    desk.done("dev", "down")
    shown = desk.done("proposal", "show", "ban.pack")
    assert "fog, active, account none" in shown.out
    assert desk.done("proposal", "sign", "ban.pack", "--key", "dev:2", "--yes", "--json").json["redFlags"] == []
    refused(desk.run("proposal", "sign", "ban.json", "--key", "dev:1", "--yes"), 5, "does not answer")
    again = desk.run("dev", "up", "--two-chains")
    assert again.status == 0, again.err
    assert desk.done("dev", "status", "--json").json["gatewayUrl"].startswith("http://127.0.0.1:")


def test_a_transaction_of_the_gateway_chain_is_continued(desk: Desk) -> None:
    """A transaction that was signed but not sent is listed with its chain.

    `transaction resume` sends the transaction on the listed chain.
    """
    fees = Fees(10**11, tip=10**9)
    made = SignedTransaction(b"", LOCAL_GATEWAY_CHAIN_ID, 0, gas=50_000, fees=fees, to=SAFE, data=b"")
    entry = SentTransaction((made.signed_by(dev_account(3)),), "blockota identity ban", 5)
    Journal(Path(".blockota/transactions"), LOCAL_GATEWAY_CHAIN_ID).write(entry)
    (listed,) = desk.done("transaction", "list", "--json").json["transactions"]
    assert (listed["transaction"], listed["chainId"]) == (entry.hash, LOCAL_GATEWAY_CHAIN_ID)
    assert "CHAIN" in desk.done("transaction", "list").out
    assert desk.done("transaction", "resume", entry.hash, "--json").json["transaction"] == entry.hash
    assert desk.done("transaction", "list", "--json").json["transactions"] == []


def test_one_chain_does_not_become_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a folder has one local chain already, ``dev up --two-chains`` is refused."""
    monkeypatch.chdir(tmp_path)
    Deployment(LOCAL_CHAIN_ID, CONTRACT, SAFE, SAFE, [SAFE], 1, 5).write(tmp_path)
    refused(Desk(capsys).run("dev", "up", "--two-chains"), REFUSED, "this folder has one local chain already")
    assert Desk(capsys).run("dev", "up", "--port", "65535").status == USAGE
    assert not Path(".blockota").exists()


def test_a_chain_does_not_start_without_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the gateway chain's port is in use, the producer chain is stopped too, and another port can be chosen."""
    monkeypatch.chdir(tmp_path)
    port = free_port_pair()
    with socket.create_server(("127.0.0.1", port + 1)):
        words = ("dev", "up", "--two-chains", "--port", str(port))
        refused(Desk(capsys).run(*words), 5, f"port {port + 1} is in use: another program")
    assert Desk(capsys).done("dev", "status", "--json").json == {"running": False}
    assert not Deployment.path(Path(), LOCAL_CHAIN_ID).exists()
