"""A consortium admits producers.

A city enrols identities, an Administrator bans an identity, and the city's Safe decides about the ban.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.deployment import LOCAL_CHAIN_ID, Deployment
from blockota.formats.notes import NoteAlgorithm, VerifierKey
from blockota.keys import dev_account
from blockota.model.identity import IdentityKind
from blockota.vendor.deploy import deploy_registries
from blockota.vendor.example import set_up
from blockota.vendor.files import read_proposal
from tests.conftest import ROOT
from tests.stories.conftest import Outcome, Workshop, execute_signed
from tests.stories.pages import commands, exit_status, missing
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.support.identities import UUIDS, enrolment_of, p256_key

ADMINISTRATOR, STRANGER = 5, 6
GATEWAY, OPERATOR, ADMIN = UUIDS[0], UUIDS[1], UUIDS[2]


def found_registries(workshop: Workshop) -> None:
    """Deploy Producers and IdentityRegistry, owned by the vendor's Safe, and enrol three identities from a list."""
    known = Deployment.read(Deployment.path(workshop.folder, LOCAL_CHAIN_ID))
    contracts = {"producers": ("safe",), "identities": ("safe",)}
    registries = deploy_registries(workshop.chain, workshop.cast.payer, contracts, safe=known.safe)
    replace(known, registries=registries).write(workshop.folder)
    enrolments = [
        enrolment_of(0),
        enrolment_of(1, IdentityKind.OPERATOR),
        enrolment_of(2, IdentityKind.ADMINISTRATOR, account=dev_account(ADMINISTRATOR).address),
    ]
    ip = [str(one.virtual_ip) for one in enrolments]
    listed = [
        {"uuid": str(one.uuid), "kind": str(one.kind), "virtualIp": address, **one.keys.as_fields()}
        for one, address in zip(enrolments, ip, strict=True)
    ]
    Path("city.json").write_text(json.dumps({"identities": listed}))
    approve(workshop, "identity", "enrol", "--list", "city.json")


@pytest.fixture
def city(workshop: Workshop) -> Workshop:
    """Return a workshop in which the Safe owns Producers and IdentityRegistry, with three identities."""
    return workshop.after(found_registries)


def approve(workshop: Workshop, *words: str) -> None:
    """Propose by a command.

    The proposal is signed without commands, because ``proposal sign`` would ask for the words of red flags.
    """
    file = f"{'-'.join(words[:2])}-{len(list(Path().glob('*.json')))}.json"
    outcome = workshop.run(*words, "-o", file)
    assert outcome.status == 0, outcome.err
    execute_signed(read_proposal(Path(file)), workshop.chain, cast=workshop.cast)


def ban(workshop: Workshop, uuid: object, *, number: int = ADMINISTRATOR) -> Outcome:
    """Ban an identity with the key of an account."""
    return workshop.run("identity", "ban", str(uuid), "--cause", "stolen", "--key", f"dev:{number}")


def statuses(workshop: Workshop, *options: str) -> list[tuple[str, str]]:
    """Return the kind and the status of each listed identity."""
    found = workshop.run("identity", "list", "--json", *options).json["identities"]
    return [(one["kind"], one["status"]) for one in found]


def found_example(workshop: Workshop) -> None:
    """Set up the example of ``dev up``. The example's UUIDs and keys are the same in every run."""
    deployment, _ = set_up(workshop.chain, workshop.chain, workshop.cast.payer)
    deployment.write(workshop.folder)


def test_the_page_shows_what_the_commands_print(workshop: Workshop) -> None:
    """The commands with output in docs/city.md print what the page shows."""
    workshop.after(found_example)
    ran = 0
    for command, lines in commands(ROOT / "docs" / "city.md"):
        outcome = workshop.run(*shlex.split(command)[1:])
        assert outcome.status == exit_status(lines), f"$ {command}\n{outcome.err}"
        assert not missing(lines, outcome.out + "\n" + outcome.err), f"$ {command}\n{outcome.out}\n{outcome.err}"
        ran += 1
    assert ran == 5


def test_a_producer_is_admitted_suspended_and_restored(city: Workshop) -> None:
    """The consortium's owner decides on a producer, and the list shows the producer's status."""
    contract = city.contract.address
    assert "No producer is admitted" in city.run("producer", "list").out
    outcome = city.run("producer", "admit", "bolt", "--contract", city.contract.owner(), "-o", "bolt.json")
    assert "the contract of bolt, is not a BlockOTA: it lists no products (red flag producer)" in outcome.err
    Path("bolt.json").unlink()
    approve(city, "producer", "admit", "acme", "--contract", contract)
    assert [one["contract"] for one in city.run("producer", "list", "--json").json["producers"]] == [contract]
    approve(city, "producer", "suspend", "acme")
    assert "SUSPENDED" in city.run("producer", "list").out
    again = city.run("producer", "admit", "acme2", "--contract", contract, "-o", "again.json")
    refused(again, REFUSED, "belongs to the producer acme")
    approve(city, "producer", "restore", "acme")
    assert "admitted" in city.run("producer", "list").out
    refused(
        city.run("producer", "suspend", "acm", "-o", "no.json"), REFUSED, "the producer acm is not admitted", "list"
    )


def test_an_administrator_bans_and_the_safe_lifts_the_ban(city: Workshop) -> None:
    """The Administrator's ban takes effect immediately. New keys are valid after the Safe's decision."""
    assert statuses(city) == [("administrator", "active"), ("operator", "active"), ("gateway", "active")]
    outcome = ban(city, GATEWAY)
    assert outcome.status == 0, outcome.err
    assert statuses(city, "--active") == [("administrator", "active"), ("operator", "active")]
    assert "BANNED ON" in city.run("identity", "show", str(GATEWAY)).out

    Path("new.pem").write_text(p256_key(99).pem)
    log_key = VerifierKey("gateway.example/7", NoteAlgorithm.ED25519, bytes(range(32)))
    Path("log.pub").write_text(f"{log_key}\n")
    approve(city, "identity", "rotate", str(GATEWAY), "--public-key", "new.pem", "--log-key", "log.pub")
    approve(city, "identity", "unban", str(GATEWAY))
    shown = city.run("identity", "show", str(GATEWAY), "--json").json
    assert (shown["status"], shown["key"]) == ("active", p256_key(99).pem)
    assert [one["key"] for one in shown["former"]] == [p256_key(0).pem]
    assert shown["account"] == shown["former"][0]["account"]
    assert city.run("identity", "show", shown["account"], "--pem").out == p256_key(99).pem
    words = city.run("identity", "show", shown["account"]).out
    assert "active, was banned on" in words
    assert f"to block {shown['fromBlock']}" in words

    approve(city, "identity", "retire", str(OPERATOR))
    assert statuses(city, "--kind", "operator") == [("operator", "retired")]


def test_a_gateway_is_enrolled_by_its_public_key(city: Workshop) -> None:
    """An identity without a given UUID gets a random UUID. The contract shows the enrolled values."""
    Path("gateway.pem").write_text(p256_key(50).pem)
    words = ("--kind", "gateway", "--public-key", "gateway.pem", "--virtual-ip", "10.64.1.9")
    outcome = city.run("identity", "enrol", *words, "-o", "enrol.json", "--json")
    assert "has no account" in outcome.err
    proposed = outcome.json
    for step in (
        ("sign", "--key", "dev:1", "--yes"),
        ("sign", "--key", "dev:3", "--yes"),
        ("execute", "--key", "dev:0"),
    ):
        assert city.run("proposal", step[0], "enrol.json", *step[1:]).status == 0
    shown = city.run("identity", "show", *proposed["identities"], "--json").json
    assert (shown["virtualIp"], shown["key"], shown["account"]) == ("10.64.1.9", p256_key(50).pem, None)


def test_mistakes_are_refused_in_words(city: Workshop) -> None:
    """A wrong file, a taken key, a foreign account and a missing option each cause an error with an explanation."""
    refused(ban(city, GATEWAY, number=STRANGER), REFUSED, "may not ban identities", "Administrator")
    refused(ban(city, ADMIN), REFUSED, "only the city's Safe bans Administrators")
    refused(ban(city, UUIDS[9]), REFUSED, f"{UUIDS[9]} is not enrolled", "identity list")
    refused(city.run("identity", "ban", str(GATEWAY), "--cause", "x"), USAGE, "exactly one of --key and -o is needed")
    refused(city.run("identity", "show", "7"), USAGE, "is not a UUID")
    refused(city.run("identity", "show", "0x" + "11" * 20), REFUSED, "is not enrolled")
    refused(
        city.run("identity", "rotate", str(GATEWAY), "-o", "no.json"),
        USAGE,
        "nothing would change",
        "Name a new key or account",
    )

    taken = ("identity", "enrol", "--kind", "fog", "-o", "no.json", "--public-key")
    Path("taken.pem").write_text(p256_key(0).pem)
    refused(city.run(*taken, "taken.pem"), REFUSED, f"the key belongs to the identity {GATEWAY}", "Make a new key")
    Path("cut.pem").write_text(p256_key(1).pem.replace("END", "ENDE"))
    refused(city.run(*taken, "cut.pem"), USAGE, "cut.pem: the file is not a public key")
    Path("list.json").write_text('{"identities": [{"uuid": "7"}]}')
    listed = (*taken[:2], "-o", "no.json", "--list")
    refused(city.run(*listed, "list.json"), USAGE, "list.json: the file is not a list of identities: identity 1 of")
    refused(city.run(*listed, "taken.pem"), USAGE, "taken.pem: the file is not a list of identities: it is not valid")
    refused(city.run(*taken, "taken.pem", "--list", "list.json"), USAGE, "--list cannot be combined")
    assert not Path("no.json").exists()
