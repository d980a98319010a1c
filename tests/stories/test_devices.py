"""A city admits registrants, registrants register devices, and the city's Safe imports things of IOTRegistry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256K1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockota.bindings.contract import create
from blockota.deployment import LOCAL_CHAIN_ID, Deployment
from blockota.formats.iotregistry import (
    RegistrantTransaction,
    SpecTransaction,
    ThingRecord,
    ThingTransaction,
    Transaction,
)
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.formats.tlog import leaf_hash, tree_of
from blockota.keys import dev_account
from blockota.model.identity import IdentityKind
from blockota.vendor.files import read_proposal
from tests.stories.conftest import Workshop, execute_signed
from tests.stories.test_bad_input import REFUSED, USAGE, refused
from tests.support.identities import UUIDS, enrolment_of, p256_key

ADMINISTRATOR, ACME, BOLT = 5, 6, 7
"""The numbers of development accounts."""
GATEWAY, SPARE, ADMIN = str(UUIDS[0]), str(UUIDS[1]), UUIDS[2]
DEVICE = "acme/thermo2/SN-1"
ACME_KEY = ("--key", f"dev:{ACME}")
BOLT_KEY = ("--key", f"dev:{BOLT}")


def public_key(number: int) -> str:
    """Return the compressed public key of a development account, in hexadecimal."""
    key = private_key(number).public_key()
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint).hex()


def private_key(number: int) -> EllipticCurvePrivateKey:
    """Return the key of a development account."""
    return derive_private_key(int.from_bytes(dev_account(number).key, "big"), SECP256K1())


def found_city(workshop: Workshop) -> None:
    """Deploy the registries of a city; enrol two gateways and an Administrator, and admit two registrants."""
    known = Deployment.read(Deployment.path(workshop.folder, LOCAL_CHAIN_ID))
    chain, payer = workshop.chain, workshop.cast.payer
    identities, _ = create(chain, payer, "IdentityRegistry", known.safe)
    devices, _ = create(chain, payer, "DeviceRegistry", known.safe, identities)
    replace(known, registries={"identities": identities, "devices": devices}).write(workshop.folder)
    administrator = dev_account(ADMINISTRATOR).address
    enrolments = [
        enrolment_of(0),
        enrolment_of(1),
        enrolment_of(2, IdentityKind.ADMINISTRATOR, account=administrator),
    ]
    listed = [
        {"uuid": str(one.uuid), "kind": str(one.kind), "virtualIp": str(one.virtual_ip), **one.keys.as_fields()}
        for one in enrolments
    ]
    Path("city.json").write_text(json.dumps({"identities": listed}))
    approve(workshop, "identity", "enrol", "--list", "city.json")
    approve(workshop, "device", "registrant", "admit", "acme", "--public-key", public_key(ACME))
    approve(workshop, "device", "registrant", "admit", "bolt", "--public-key", public_key(BOLT))
    approve(workshop, "device", "site", "give", GATEWAY)
    done(workshop, "device", "spec", "add", "thermo2", *ACME_KEY)
    done(workshop, "device", "register", DEVICE, "acme/hall/7", "--site", GATEWAY, *ACME_KEY)


@pytest.fixture
def city(workshop: Workshop) -> Workshop:
    """Return a workshop with a city that has two registrants, a site, a spec and a device."""
    return workshop.after(found_city)


def approve(workshop: Workshop, *words: str) -> None:
    """Propose by a command.

    The proposal is signed without commands, because ``proposal sign`` would ask for the words of red flags.
    """
    file = f"{len(list(Path().glob('*.json')))}.json"
    outcome = workshop.run(*words, "-o", file)
    assert outcome.status == 0, outcome.err
    execute_signed(read_proposal(Path(file)), workshop.chain, cast=workshop.cast)


def done(workshop: Workshop, *words: str) -> dict[str, Any]:
    """Run a command that must succeed, and return its JSON result."""
    outcome = workshop.run(*words, "--json")
    assert outcome.status == 0, outcome.err
    return outcome.json


def write_key(number: int) -> str:
    """Write the public P-256 key of a device, and return the name of the file."""
    Path(f"device-{number}.pem").write_text(p256_key(number).pem)
    return f"device-{number}.pem"


def test_a_device_is_registered_and_gets_keys(city: Workshop) -> None:
    """The first device of a site gets the first number of the site.

    If the device's key is replaced, the former key remains in the record.
    """
    shown = city.run("device", "show", "256").out
    assert all(word in shown for word in (DEVICE, "acme/hall/7", "thermo2", GATEWAY, "active"))
    done(city, "device", "key", DEVICE, write_key(1), *ACME_KEY)
    fields = done(city, "device", "key", "acme/hall/7", write_key(2), *ACME_KEY)
    assert fields["key"] == p256_key(2).pem
    former = done(city, "device", "show", DEVICE)["former"]
    assert [one["key"] for one in former] == [p256_key(1).pem, None]
    again = city.run("device", "key", DEVICE, write_key(1), *ACME_KEY)
    refused(again, REFUSED, "the key belongs to the device 256")
    assert done(city, "device", "list", "--spec", "thermo2")["devices"][0]["number"] == 256


def test_a_registration_that_the_contract_refuses_is_explained(city: Workshop) -> None:
    """A registration that the contract would refuse causes an error with the reason.

    The cases include a foreign signature, a taken name, a foreign spec, and a gateway without numbers.
    """
    site = ("--site", GATEWAY)
    refused(city.run("device", "register", DEVICE, *site, *ACME_KEY), REFUSED, "belongs to the device 256")
    stranger = city.run("device", "register", "acme/thermo2/2", *site, *BOLT_KEY)
    refused(stranger, REFUSED, "not that of the registrant acme")
    other = city.run("device", "register", "bolt/thermo2/2", *site, *BOLT_KEY)
    refused(other, REFUSED, "the spec belongs to the registrant acme")
    spare = city.run("device", "register", "acme/thermo2/2", "--site", SPARE, *ACME_KEY)
    refused(spare, REFUSED, f"{SPARE} has no device numbers")
    refused(city.run("device", "register", "thermo2/2", *site, *ACME_KEY), USAGE, "REGISTRANT/SPEC/SERIAL")
    unknown = city.run("device", "register", "acme/thermo9/2", *site, *ACME_KEY)
    refused(unknown, REFUSED, "the spec 'thermo9' is not registered")
    Path("ed25519.pem").write_text(PublicKey(KeyKind.ED25519, bytes(32)).pem)
    wrong = city.run("device", "register", "acme/thermo2/2", *site, "--device-key", "ed25519.pem", *ACME_KEY)
    refused(wrong, USAGE, "ed25519.pem: the key is not the key of a device", "Give a P-256 key")
    alias = city.run("device", "register", "acme/thermo2/2", "hall/8", *site, *ACME_KEY)
    refused(alias, USAGE, "Write acme/hall/8")
    paid = done(city, "device", "register", "acme/thermo2/2", *site, *ACME_KEY, "--payer", "dev:0")
    assert paid["number"] == 257


def test_a_batch_is_registered_by_its_root(city: Workshop) -> None:
    """The devices of a file get consecutive numbers. The file of a batch proves which name belongs to which number."""
    batch = ("device", "batch", "fleet.txt", "--site", GATEWAY, *ACME_KEY)
    for text, why in (
        ("", "0 names"),
        ("acme/thermo2/1\nacme/thermo2/1\n", "the name acme/thermo2/1 is repeated"),
        ("acme/thermo2/1\nacme/pump/2\n", "several models: acme/thermo2, acme/pump"),
        ("acme/thermo2/1\n\n", "line 2: '' is not the name of a device"),
    ):
        Path("fleet.txt").write_text(text)
        refused(city.run(*batch), USAGE, "fleet.txt: ", why)
    names = [f"acme/thermo2/{serial}" for serial in range(1000, 1005)]
    Path("fleet.txt").write_text("\n".join(names))
    made = done(city, *batch)
    assert made["count"] == 5
    assert made["root"] == tree_of(leaf_hash(name.encode()) for name in names).root.hex()
    assert done(city, "device", "show", str(made["first"] + 4))["batch"] == made
    assert f"{made['first']}-{made['first'] + 4}" in city.run("device", "list").out
    refused(city.run("device", "show", str(made["first"] + 5)), REFUSED, "is not registered")


def test_a_spec_lists_the_products_that_update_it(city: Workshop) -> None:
    """A registrant adds a product of the settings' contract to a spec's list once, and removes the product again."""
    product = ("--product", "acme-thermo2")
    refused(city.run("device", "spec", "allow", "thermo2", *product, *BOLT_KEY), REFUSED, "belongs to the registrant")
    typo = city.run("device", "spec", "allow", "thermo2", "--product", "acme-thermo9", *ACME_KEY)
    refused(typo, REFUSED, "product acme-thermo9 does not exist", "`blockota product list`")
    done(city, "device", "spec", "allow", "thermo2", *product, *ACME_KEY)
    (spec,) = done(city, "device", "spec", "list")["specs"]
    assert [(one["product"], one["contract"]) for one in spec["updates"]] == [("acme-thermo2", city.contract.address)]
    again = city.run("device", "spec", "allow", "thermo2", *product, *ACME_KEY)
    refused(again, REFUSED, "nothing would change for acme-thermo2", "already")
    done(city, "device", "spec", "disallow", "thermo2", *product, *ACME_KEY)
    assert " - " in city.run("device", "spec", "list").out.replace("\n", " ")
    refused(
        city.run("device", "spec", "allow", "pump", *product, *ACME_KEY), REFUSED, "the spec 'pump' is not registered"
    )
    taken = city.run("device", "spec", "add", "thermo2", *BOLT_KEY)
    refused(taken, REFUSED, "the spec thermo2 is registered already")


def test_a_device_is_banned_and_transferred(city: Workshop) -> None:
    """A registrant or an Administrator can ban a device.

    The Safe can lift the ban, and can transfer the device to another registrant.
    """
    ban = ("device", "ban", DEVICE, "--cause", "stolen")
    refused(city.run(*ban, *BOLT_KEY), REFUSED, "the device has another registrant")
    refused(city.run(*ban), USAGE, "exactly one of --key and -o is needed")
    assert done(city, *ban, *ACME_KEY)["bannedBy"] == "registrant"
    assert done(city, *ban, "--key", f"dev:{ADMINISTRATOR}")["bannedBy"] == "city"
    refused(city.run("device", "unban", DEVICE, *ACME_KEY), REFUSED, "has no ban that may be lifted")
    approve(city, "device", "unban", DEVICE)
    approve(city, "device", "transfer", DEVICE, "--to", "bolt")
    fields = done(city, "device", "show", DEVICE)
    assert (fields["registrant"], fields["bannedAt"]) == ("bolt", None)
    assert done(city, "device", "transfer", DEVICE, "--to", "acme", *BOLT_KEY)["registrant"] == "acme"
    answer = json.loads(city.run("device", "show", DEVICE, "--iotregistry").out)
    record = ThingRecord(tuple(answer["Aliases"]), answer["RegistrantPubkey"], "", answer["SpecName"])
    assert record == ThingRecord((DEVICE, "acme/hall/7"), public_key(ACME), "", "thermo2")


def test_a_suspended_registrant_and_a_former_account_are_refused(city: Workshop) -> None:
    """The Safe suspends a registrant, restores it, and replaces its account."""
    approve(city, "device", "registrant", "suspend", "acme")
    late = ("device", "register", "acme/thermo2/2", "--site", GATEWAY)
    refused(city.run(*late, *ACME_KEY), REFUSED, "the registrant acme is suspended")
    approve(city, "device", "registrant", "restore", "acme")
    approve(city, "device", "registrant", "account", "acme", dev_account(8).address)
    refused(city.run(*late, *ACME_KEY), REFUSED, "not that of the registrant acme")
    done(city, *late, "--key", "dev:8")
    found = done(city, "device", "registrant", "list")["registrants"]
    assert [one["suspended"] for one in found] == [False, False]
    again = city.run("device", "registrant", "admit", "three", "--public-key", public_key(ACME), "-o", "three.json")
    refused(again, REFUSED, "belongs to a registrant already")


def test_a_site_is_replaced(city: Workshop) -> None:
    """A gateway that replaces the gateway of a site gets the site's numbers and devices."""
    approve(city, "device", "site", "replace", GATEWAY, "--by", SPARE)
    assert done(city, "device", "show", DEVICE)["site"] == SPARE
    (site,) = done(city, "device", "site", "list")["sites"]
    assert site == {"uuid": SPARE, "given": 256, "left": 255}
    without_gateway = city.run("device", "site", "give", str(ADMIN), "-o", "blocks.json")
    refused(without_gateway, REFUSED, "is not an active gateway")


def write_transactions(*transactions: Transaction) -> None:
    """Write a file with calls of IOTRegistry that are signed with the key of acme."""
    key = private_key(ACME)
    lines = []
    for one in transactions:
        signed = replace(one, signature=one.signature or key.sign(one.texts()[0].encode(), ECDSA(SHA256())))
        lines.append(json.dumps({"Function": one.FUNCTIONS[0], "Args": [signed.encode().hex()]}))
    Path("things.jsonl").write_text("\n".join(lines))


def test_things_of_iotregistry_are_imported_with_their_signatures(city: Workshop) -> None:
    """The Safe imports a spec and things, and the command names a replayed thing.

    The imported records and the printed answers equal those of IOTRegistry.
    """
    key = public_key(ACME)
    first = ThingTransaction(b"\1", ("Foo", "Bar:1"), key, b"", '{"a": 1}', "test spec 1")
    replayed = ThingTransaction(b"\2", ("Baz",), key, b"", "", "test spec 1")
    write_transactions(
        RegistrantTransaction("Alice", bytes.fromhex(key), "", b""),
        SpecTransaction("test spec 1", key, b"", "{}"),
        first,
        replayed,
        replace(replayed, nonce=b"\3"),
        replace(first, nonce=b"\4", aliases=("Foreign",), signature=b"\x30\x06\2\1\1\2\1\1"),
    )
    words = ("device", "import", "things.jsonl", "--site", GATEWAY)
    other = city.run(*words[:2], "city.json", *words[3:], "-o", "other.json")
    refused(other, USAGE, "city.json: line 1 is not a transaction of IOTRegistry")
    early = city.run(*words, "-o", "things.json")
    refused(early, REFUSED, "these specs are not registered: test spec 1")
    approve(city, "device", "import", "things.jsonl", "--spec", "test spec 1")

    outcome = city.run(*words, "-o", "checked.json", "--json")
    assert outcome.json["things"] == ["Foo"]
    assert outcome.json["ambiguous"] == ["Foo"]
    whys = {one["line"]: one["why"] for one in outcome.json["leftOut"]}
    assert whys == {
        4: "its signature is also valid for a thing with another nonce: 03",
        5: "its signature is also valid for a thing with another nonce: 02",
        6: "its signature is not that of the registrant acme",
    }
    execute_signed(read_proposal(Path("checked.json")), city.chain, cast=city.cast)
    fields = done(city, "device", "show", "Foo")
    assert (fields["imported"], fields["number"], fields["nonce"]) == (True, 257, "01")
    owner, data = f'"RegistrantPubkey":"{key}"', r"{\"a\": 1}"
    answers = {
        "Thing:01": f'{{"Aliases":["Foo","Bar:1"],{owner},"Data":"{data}","SpecName":"test spec 1"}}',
        "Spec:test spec 1": f'{{{owner},"Data":"{{}}"}}',
        f"RegistrantPubkey:{key}": f'{{"RegistrantName":"acme","Pubkey":"{key}"}}',
    }
    for name, answer in answers.items():
        assert city.run("device", "show", name, "--iotregistry").out.strip() == answer
    done_already = city.run(*words, "-o", "again.json")
    refused(done_already, REFUSED, "1 are registered already")
