"""An operator orders updates and configurations.

A log with two installations of one release on a device is suspended, and an Administrator decides on the log.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blockota.bindings.block_ota import BlockOTAContract, floor_call, revoke_call
from blockota.bindings.contract import registry_at
from blockota.bindings.update_ledger import TreeGrowth, UpdateLedgerContract
from blockota.deployment import LOCAL_CHAIN_ID, Deployment
from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.keys import dev_account
from blockota.ledger.log import TileLog
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry, ReleaseId
from blockota.model.release import Product, Region, Version, product_key
from blockota.vendor.example import IDENTITIES, set_up
from blockota.vendor.files import read_proposal
from blockota.vendor.propose import Reason, propose_call
from blockota.vendor.publish import propose_pairing
from tests.conftest import IMAGES
from tests.stories.conftest import PRODUCT, Workshop, execute_signed
from tests.stories.test_bad_input import REFUSED, USAGE, refused

KINDS = {one.kind: one for one in IDENTITIES}
GATEWAY, OPERATOR = KINDS["gateway"], KINDS["operator"]
KEY = ("--key", f"dev:{OPERATOR.account}")
ADMINISTRATOR_KEY = ("--key", f"dev:{KINDS['administrator'].account}")
GATEWAY_KEY = ("--key", f"dev:{GATEWAY.account}")
CONFIGURATION = Product("acme-thermo2-cfg", "acme", 0x410, Region(0x0800_F000, 4096), minimum_version=None, paired=True)
UPDATE = ("order", "update", "--group", "berlin", "--product", PRODUCT, "--version")


def found_example(workshop: Workshop) -> None:
    """Set up the example of ``dev up``, publish a release, pair a product for configurations, and define a group."""
    deployment, _ = set_up(workshop.chain, workshop.chain, workshop.cast.payer)
    deployment.write(workshop.folder)
    workshop.publish("1.0.0", IMAGES / "bluepill-1.0.0.bin")
    city = BlockOTAContract(workshop.chain, deployment.registries["configurations"])
    execute_signed(propose_pairing(city, CONFIGURATION, reason=reason(workshop)), workshop.chain, cast=workshop.cast)
    outcome = workshop.run("order", "group", "berlin", "--site", str(GATEWAY.uuid), *KEY)
    assert outcome.status == 0, outcome.err


def reason(workshop: Workshop) -> Reason:
    """Return a reason for a proposal, made at the time of the chain's newest block."""
    return Reason("a story", workshop.chain.head().time, 3600)


@pytest.fixture
def city(workshop: Workshop) -> Workshop:
    """Return a workshop with the contracts of a consortium and a city, a release, and a group of devices."""
    return workshop.after(found_example)


def deployed(workshop: Workshop) -> Deployment:
    """Return the addresses of the contracts."""
    return Deployment.read(Deployment.path(workshop.folder, LOCAL_CHAIN_ID))


def decide(workshop: Workshop, setting: str, function: str, *arguments: object) -> None:
    """Execute a call of the Safe that owns a contract."""
    contract = registry_at(workshop.chain, setting, deployed(workshop).registries[setting])
    execute_signed(
        propose_call(contract, function, *arguments, reason=reason(workshop)), workshop.chain, cast=workshop.cast
    )


def test_an_operator_orders_an_update_and_cancels_it(city: Workshop) -> None:
    """An order is listed and shown with its group until it is cancelled.

    For each product, a group has at most one open order.
    """
    placed = city.run(*UPDATE, "1.0.0", *KEY, "--json").json
    assert (placed["number"], placed["group"], placed["version"], placed["status"]) == (1, "berlin", "1.0.0", "open")
    assert placed["operator"] == str(OPERATOR.uuid)
    assert placed["contract"] == city.contract.address
    [listed] = city.run("order", "list", "--json").json["orders"]
    shown = city.run("order", "show", "1", "--json").json
    assert listed == placed == {name: shown[name] for name in placed}
    assert (shown["groupRecord"]["kind"], shown["groupRecord"]["site"]) == ("site", str(GATEWAY.uuid))
    assert f"of the site {GATEWAY.uuid}" in city.run("order", "show", "1").out
    refused(city.run(*UPDATE, "1.0.0", *KEY), REFUSED, "order 1 of", "`blockota order list --all`")

    refused(city.run("order", "cancel", "1", *GATEWAY_KEY), REFUSED, "may not cancel order 1")
    assert city.run("order", "cancel", "1", *ADMINISTRATOR_KEY).status == 0
    assert city.run("order", "list", "--json").json == {"orders": []}
    city.run(*UPDATE, "1.0.0", "--not-before", "+1h", "--deadline", "+2d", *KEY)
    later = city.run("order", "list", "--all", "--json").json["orders"]
    assert [(one["number"], one["status"]) for one in later] == [(1, "cancelled"), (2, "open")]
    assert later[1]["deadline"] - later[1]["notBefore"] == 47 * 3600
    refused(city.run("order", "show", "3"), REFUSED, "order 3 does not exist")


def test_an_order_that_no_gateway_would_carry_out_is_refused(city: Workshop) -> None:
    """``order update`` refuses a release that gateways would not install.

    The cases include a missing release, a revoked release, and a suspended producer.
    """
    refused(city.run(*UPDATE, "9.0.0", *KEY), REFUSED, "does not exist")
    refused(city.run(*UPDATE, "1.0.0", *GATEWAY_KEY), REFUSED, "may not order")
    nowhere = ("order", "update", "--group", "nowhere", "--product", PRODUCT, "--version", "1.0.0")
    refused(city.run(*nowhere, *KEY), REFUSED, "the group 'nowhere' is not defined")
    refused(city.run(*UPDATE, "1.0.0", "--producer", "bolt", *KEY), REFUSED, "is not a producer")
    assert city.run(*UPDATE, "1.0.0", "--producer", "acme", "--deadline", "+1h", *KEY).status == 0

    decide(city, "producers", "suspend", product_key("acme"))
    refused(city.run(*UPDATE, "1.0.0", *KEY), REFUSED, "the producer acme is suspended")
    decide(city, "producers", "restore", product_key("acme"))
    city.decide(floor_call(PRODUCT, Version(2, 0, 0)))
    refused(city.run(*UPDATE, "1.0.0", *KEY), REFUSED, "is below the floor")
    city.decide(revoke_call(PRODUCT, Version(1, 0, 0), reason="bricks boards"))
    refused(city.run(*UPDATE, "1.0.0", *KEY), REFUSED, "is revoked")


def test_a_named_producer_needs_no_contract_in_the_settings(city: Workshop) -> None:
    """With --producer, the contract comes from the consortium's record.

    The settings of a city need not name the contract.
    """
    known = deployed(city)
    replace(known, contract="").write(city.folder)
    placed = city.run(*UPDATE, "1.0.0", "--producer", "acme", *KEY, "--json").json
    assert placed["contract"] == known.contract


def test_a_contract_that_is_not_admitted_is_refused(city: Workshop) -> None:
    """An order is refused if the release's contract does not belong to a producer that the consortium admitted."""
    known = deployed(city)
    other = BlockOTAContract.deploy(city.chain, city.cast.payer, owner=known.safe)[0]
    replace(known, contract=other.address).write(city.folder)
    refused(
        city.run(*UPDATE, "1.0.0", *KEY),
        REFUSED,
        f"the contract {other.address} does not belong to a producer",
        "`blockota producer list`",
    )


def test_a_configuration_is_published_by_the_city_and_then_ordered(city: Workshop) -> None:
    """The first run of ``order configure`` writes the proposal for the city's Safe.

    After the proposal is executed, the same ``order configure`` command sends the order.
    """
    Path("berlin.bin").write_bytes(b"interval = 60\n".ljust(64, b"\xff"))
    words = ["order", "configure", "berlin.bin", "--group", "berlin", "--product", CONFIGURATION.name]
    words += ["--version", "1.0.0", *KEY]
    refused(city.run(*words), USAGE, f"{CONFIGURATION.name} 1.0.0 is not published", "-o FILE")

    words += ["-o", "cfg.json"]
    refused(city.run(*words, "--group", "berlm"), REFUSED, "the group 'berlm' is not defined")
    refused(city.run(*words, "--key", "dev:5"), REFUSED, "may not order", "`blockota identity list`")
    assert not Path("cfg.json").exists()
    outcome = city.run(*words)
    assert outcome.status == 0, outcome.err
    assert "repeat this command" in outcome.err
    proposal = read_proposal(Path("cfg.json"))
    assert proposal.to.lower() == deployed(city).registries["configurations"].lower()
    refused(city.run(*words), REFUSED, "was not executed")
    execute_signed(proposal, city.chain, cast=city.cast)

    placed = city.run(*words, "--json").json
    assert (placed["product"], placed["status"]) == (CONFIGURATION.name, "open")
    assert placed["contract"] == deployed(city).registries["configurations"]
    Path("berlin.bin").write_bytes(b"interval = 10\n".ljust(64, b"\xff"))
    refused(city.run(*words), REFUSED, "is another configuration")


def test_groups_are_defined_once_and_name_their_devices(city: Workshop) -> None:
    """A group is defined by a list of device numbers, by a site with a gateway, or by a model with a registered Spec.

    Only one way may be given.
    """
    group = ("order", "group", "two")
    Path("list.txt").write_text("# two pumps\n300\n256\n\n")
    made = city.run(*group, "--list", "list.txt", *KEY, "--json").json
    assert (made["kind"], made["operator"]) == ("list", str(OPERATOR.uuid))
    assert city.run(*group, "--json").json == made
    refused(city.run(*group, "--list", "list.txt", *KEY), REFUSED, "never changes")
    other = ("order", "group", "other")
    Path("bad.txt").write_text("acme/thermo2/1\n")
    refused(city.run(*other, "--list", "bad.txt", *KEY), USAGE, "is not the number of a device")
    Path("bad.txt").write_text("17\n")
    refused(city.run(*other, "--list", "bad.txt", *KEY), USAGE, "17 is not the number of a registered device")
    refused(city.run(*other, "--site", str(OPERATOR.uuid), *KEY), REFUSED, "is not a gateway")
    refused(city.run(*other, "--model", "thermo9", *KEY), REFUSED, "the spec 'thermo9' is not registered")
    public_key = city.run("key", "public", "dev:0").out.strip()
    decide(
        city, "devices", "admitRegistrant", b"acme".ljust(32, b"\0"), bytes.fromhex(public_key), dev_account(0).address
    )
    assert city.run("device", "spec", "add", "thermo2", "--key", "dev:0").status == 0
    assert "of the model thermo2" in city.run("order", "group", "pumps", "--model", "thermo2", *KEY).out
    Path("pumps.bin").write_bytes(bytes(64))
    configure = ["order", "configure", "pumps.bin", "--group", "pumps", "--product", CONFIGURATION.name]
    configure += ["--version", "1.0.0", "-o", "cfg.json", *KEY]
    refused(city.run(*configure), REFUSED, f"{CONFIGURATION.name} may not update the devices of pumps")
    assert not Path("cfg.json").exists()
    place = ("--contract", deployed(city).registries["configurations"])
    allow = ("device", "spec", "allow", "thermo2", "--product", CONFIGURATION.name, *place, "--key", "dev:0")
    assert city.run(*allow).status == 0
    assert city.run(*configure).status == 0
    both = ("--model", "thermo2", "--list", "list.txt")
    refused(city.run(*other, *both, *KEY), USAGE, "several definitions of the group")
    refused(city.run(*other, "--list", "list.txt"), USAGE, "Name the operator's key (--key URI)")
    refused(city.run(*other), REFUSED, "the group 'other' is not defined")


def test_a_log_with_two_installations_is_suspended_and_decided_on(city: Workshop) -> None:
    """A log with two installations of the same release on one device is suspended.

    An entry of a reinstallation does not suspend the log.
    After an Administrator's decision, earlier log entries do not suspend the log again.
    """
    known = deployed(city)
    decide(city, "devices", "giveBlocks", GATEWAY.uuid.bytes, 1)
    release = ReleaseId(known.chain_id, known.contract, PRODUCT, Version(1, 0, 0))
    ledger = UpdateLedgerContract(city.chain, known.registries["ledger"])
    log, keeper = TileLog(Path("gateway-log")), str(GATEWAY.uuid)
    assert city.run("ledger", "show", "--json").json == {"logs": []}
    refused(city.run("ledger", "show", keeper), REFUSED, "has not anchored a log")

    entries = [(EntryKind.INSTALL, 256), (EntryKind.REINSTALL, 256), (EntryKind.INSTALL, 257), (EntryKind.INSTALL, 257)]
    log.append([entry_of(*entry, release=release, time=time) for time, entry in enumerate(entries, 1)])
    anchor(ledger, log, release=release, devices=[256, 257])
    shown = city.run("ledger", "show", keeper, "--json").json
    assert (shown["size"], shown["state"], shown["identity"], shown["suspicion"]) == (4, "growing", "active", None)
    installed = ("ledger", "installed", "--product", PRODUCT, "--version", "1.0.0")
    assert city.run(*installed, "--json").json["installed"] == [256, 257]
    refused(city.run(*installed, "--version", "9.0.0"), REFUSED, f"release {PRODUCT} 9.0.0 does not exist")

    suspect = ("ledger", "suspect", keeper, "--log", "gateway-log", "--key", "dev:0")
    refused(city.run(*suspect, "0", "1"), REFUSED, "entry 1 is not evidence")
    refused(city.run(*suspect, "0", "9"), REFUSED, "entry 9 is not anchored")
    refused(city.run(*suspect, "0"), USAGE, "evidence needs two entries")
    suspended = city.run(*suspect, "--json").json
    assert (suspended["state"], suspended["suspicion"]["device"]) == ("suspended", 257)

    verdict = ("ledger", "decide", keeper, "--device")
    refused(city.run(*verdict, "256", "--resume", *ADMINISTRATOR_KEY), REFUSED, "not suspended because of device 256")
    refused(city.run(*verdict, "257", *ADMINISTRATOR_KEY), USAGE, "--resume or --retire")
    refused(city.run(*verdict, "257", "--resume", *GATEWAY_KEY), REFUSED, "may not decide on a log")
    assert city.run(*verdict, "257", "--resume", *ADMINISTRATOR_KEY).status == 0
    refused(city.run(*suspect), REFUSED, "has no evidence")

    log.append([entry_of(EntryKind.INSTALL, 256, release=release, time=9)])
    anchor(ledger, log)
    assert city.run(*suspect, "--json").json["suspicion"]["device"] == 256
    assert city.run(*verdict, "256", "--retire", *ADMINISTRATOR_KEY).status == 0
    [retired] = city.run("ledger", "show", "--json").json["logs"]
    assert (retired["uuid"], retired["size"], retired["state"]) == (keeper, 5, "retired")
    assert "RETIRED" in city.run("ledger", "show").out


def entry_of(kind: EntryKind, device: int, *, release: ReleaseId, time: int) -> bytes:
    """Return an entry of the gateway for a device."""
    image, level = bytes([1]) * 32, EvidenceLevel.B
    entry = LogEntry(kind, time, device=device, release=release, image=image, level=level, gateway=GATEWAY.uuid)
    return entry.encode()


def anchor(
    ledger: UpdateLedgerContract, log: TileLog, *, release: ReleaseId | None = None, devices: list[int] | None = None
) -> None:
    """Publish and anchor the gateway's log; if a release is given, record its installations on the devices."""
    account = dev_account(GATEWAY.account or 0)
    anchored = ledger.log(GATEWAY.uuid)
    key = VerifierKey("gateway.example", NoteAlgorithm.ED25519, GATEWAY.log_key.public_key().public_bytes_raw())
    log.publish(NoteSigner(key, GATEWAY.log_key.sign))
    head = log.published.head()
    proof = tuple(log.published.prove_consistency(anchored.size, head.size)) if anchored else ()
    growth = TreeGrowth(head.size, head.root, proof)
    if release:
        ledger.anchor_installs(account, growth, release, devices or [])
    else:
        ledger.anchor(account, growth)
