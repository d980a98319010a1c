"""The packaged ERC-7730 descriptors make wallets display every call that an owner or a broker signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.deployment import Deployment
from blockota.errors import UsageError
from blockota.formats.abi import artifact, interface
from blockota.model.release import Version, product_key
from blockota.vendor.clear_signing import CONTRACTS, descriptor, descriptor_for, file_name, write_descriptors
from tests.conftest import ROOT
from tests.support.samples import CONTRACT, SAFE
from tests.support.wallet import CannotShowError, Shown, abi_entry, show, text

DEPLOYMENT = Deployment(
    chain_id=100,
    contract=CONTRACT,
    replication=SAFE,
    safe=SAFE,
    owners=(SAFE,),
    threshold=1,
    block_number=5,
    registries={"devices": CONTRACT, "ledger": SAFE},
)
BOUND = {"BlockOTA": CONTRACT, "FirmwareReplication": SAFE, "DeviceRegistry": CONTRACT}
"""The contracts of the deployment that have a descriptor, with their addresses."""
THERMO, ACME, DIGEST = product_key("acme-thermo2"), product_key("acme"), bytes(range(32))
VERSION = Version(2, 10, 300)
PACKED = str(VERSION.packed)
PRODUCT_LINE = ("Product (ASCII hex)", "0x61636d652d746865726d6f32" + "00" * 20)
VERSION_LINES = [
    ("Version: major", "2"),
    ("Version: minor", "10"),
    ("Version: patch", "300"),
    ("Version (packed)", PACKED),
]
FLOOR_LINES = [(label.replace("Version", "Floor"), value) for label, value in VERSION_LINES]
RELEASE = {
    "product": THERMO,
    "version": VERSION.packed,
    "sha256": DIGEST,
    "size": 65_536,
    "loadAddress": 0x0800_0000,
    "activeFrom": 1_800_000_000,
    "dagRoot": bytes(32),
    "manifest": DIGEST[::-1],
}
RELEASE_LINES = [
    PRODUCT_LINE,
    *VERSION_LINES,
    ("Image's SHA-256", "0x" + DIGEST.hex()),
    ("Size in bytes", "65536"),
    ("Load address", "134217728"),
    ("Active from", "2027-01-15T08:00:00+00:00"),
    ("DAG root (or 0)", "0x" + "00" * 32),
    ("Manifest (or 0)", "0x" + DIGEST[::-1].hex()),
]
TERMS = (7, SAFE, THERMO, VERSION.packed, 1_800_000_000)
OWN_LINES = [("Agreement number", "7"), PRODUCT_LINE, *VERSION_LINES]
EXPIRY_LINE = ("Expires at", "2027-01-15T08:00:00+00:00")
TERMS_LINES = [OWN_LINES[0], ("Broker", SAFE), *OWN_LINES[1:], EXPIRY_LINE]
SCREENS: dict[str, tuple[tuple[Any, ...], Shown]] = {
    "BlockOTA.publish": (([RELEASE],), Shown("Publish firmware releases", RELEASE_LINES)),
    "BlockOTA.revoke": (
        (THERMO, VERSION.packed, "bricks boards"),
        Shown("Revoke a release for good", [PRODUCT_LINE, *VERSION_LINES, ("Reason", "bricks boards")]),
    ),
    "BlockOTA.setMinimumVersion": (
        (THERMO, VERSION.packed),
        Shown("Raise a product's floor", [PRODUCT_LINE, *FLOOR_LINES]),
    ),
    "BlockOTA.pairOem": (
        (THERMO, ACME, 0x410, 0x0800_0000, 0x1_0000),
        Shown(
            "Pair a product with its OEM",
            [
                PRODUCT_LINE,
                ("OEM (ASCII hex)", "0x61636d65" + "00" * 28),
                ("Chip id", "1040"),
                ("Region's start", "134217728"),
                ("Region's bytes", "65536"),
            ],
        ),
    ),
    "BlockOTA.unpairOem": ((THERMO,), Shown("Dissolve a product's pairing", [PRODUCT_LINE])),
    "BlockOTA.pause": ((), Shown("Stop publishing, installing", [])),
    "BlockOTA.resume": ((), Shown("Allow publishing, installing", [])),
    "BlockOTA.transferOwnership": ((SAFE,), Shown("Offer ownership of BlockOTA", [("New owner", SAFE)])),
    "BlockOTA.acceptOwnership": ((), Shown("Accept ownership of BlockOTA", [])),
    "FirmwareReplication.propose": (
        (THERMO, VERSION.packed, 1_800_000_000),
        Shown("Propose to serve a release", [PRODUCT_LINE, *VERSION_LINES, EXPIRY_LINE]),
    ),
    "FirmwareReplication.accept": (TERMS, Shown("Accept a broker's proposal", TERMS_LINES)),
    "FirmwareReplication.acceptAll": (([TERMS],), Shown("Accept brokers' proposals", TERMS_LINES)),
    "FirmwareReplication.decline": (TERMS, Shown("Decline a broker's proposal", TERMS_LINES)),
    "FirmwareReplication.announce": (
        (7, THERMO, VERSION.packed, "https://broker.example/acme"),
        Shown("Announce where a replica is", [*OWN_LINES, ("Replica's address", "https://broker.example/acme")]),
    ),
    "FirmwareReplication.withdraw": ((7, THERMO, VERSION.packed), Shown("Withdraw own agreement", OWN_LINES)),
    "FirmwareReplication.terminate": (TERMS, Shown("Terminate an agreement", TERMS_LINES)),
}
"""Each function with the arguments of a call and the screen that a wallet shows for the call."""
ENROLMENT = (DIGEST[:16], 3, SAFE, 1, DIGEST, DIGEST, bytes(32), 167_772_161)
ENROLMENT_LINES = [
    ("UUID", "0x" + DIGEST[:16].hex()),
    ("Kind", "Administrator"),
    ("Account (or 0)", SAFE),
    ("Kind of key", "P-256"),
    ("Public key", "0x" + DIGEST.hex()),
    ("Log key (or 0)", "0x" + DIGEST.hex()),
    ("Tunnel key (or 0)", "0x" + "00" * 32),
    ("Virtual IP (number)", "167772161"),
]
THING = ((ACME, b"\x0a", ["acme/a", "acme/b"], "text", "acme/m", DIGEST[:16], bytes(32), bytes(32)), b"\x30")
REGISTRY_SCREENS: dict[str, tuple[tuple[Any, ...], Shown]] = {
    "Producers.admit": (
        (ACME, CONTRACT, SAFE),
        Shown(
            "Admit a producer",
            [
                ("Name (ASCII hex)", "0x" + ACME.hex()),
                ("Contract BlockOTA", CONTRACT),
                ("Replication (or 0)", SAFE),
            ],
        ),
    ),
    "IdentityRegistry.enrol": ((ENROLMENT,), Shown("Enrol an identity", ENROLMENT_LINES)),
    "IdentityRegistry.enrolAll": (([ENROLMENT] * 2,), Shown("Enrol identities", ENROLMENT_LINES * 2)),
    "DeviceRegistry.giveBlocks": (
        (DIGEST[:16], 3),
        Shown("Give a site device numbers", [("Site (UUID)", "0x" + DIGEST[:16].hex()), ("Blocks of 256", "3")]),
    ),
    "DeviceRegistry.importThings": (
        ([THING],),
        Shown(
            "Import IOTRegistry things",
            [
                ("Registrant (hex)", "0x" + ACME.hex()),
                ("Nonce of the thing", "0x0a"),
                ("Alias", "acme/a"),
                ("Alias", "acme/b"),
                ("Data", "text"),
                ("Spec (model)", "acme/m"),
                ("Site (UUID)", "0x" + DIGEST[:16].hex()),
                ("Key, x (or 0)", "0x" + "00" * 32),
                ("Key, y (or 0)", "0x" + "00" * 32),
                ("Signature", "0x30"),
            ],
        ),
    ),
}
SCREENS |= REGISTRY_SCREENS


def signable(contract: str) -> list[dict[str, Any]]:
    """Return the state-changing functions of a contract, from its artifact."""
    entries = (entry for entry in artifact(contract)["abi"] if entry["type"] == "function")
    return [entry for entry in entries if entry["stateMutability"] not in {"view", "pure"}]


FUNCTIONS = {f"{contract}.{entry['name']}": entry for contract in CONTRACTS for entry in signable(contract)}


def test_every_function_that_is_signed_has_a_screen_here() -> None:
    """Every state-changing function of a vendor's contracts has an expected wallet screen in this file."""
    vendors = {name for name in FUNCTIONS if name.startswith(("BlockOTA.", "FirmwareReplication."))}
    assert SCREENS.keys() - REGISTRY_SCREENS.keys() == vendors


@pytest.mark.parametrize("function", SCREENS)
def test_a_call_is_shown_in_words(function: str) -> None:
    """The wallet screen of a call shows each label with its value from the calldata."""
    contract, _, name = function.partition(".")
    arguments, expected = SCREENS[function]
    assert show(descriptor(contract), interface(contract).encode_call(name, *arguments)) == expected


def test_several_releases_are_shown_one_after_the_other() -> None:
    """The wallet screen of a call that publishes several releases groups the fields of each release."""
    other = RELEASE | {"sha256": DIGEST[::-1]}
    shown = show(descriptor("BlockOTA"), interface("BlockOTA").encode_call("publish", [RELEASE, other]))
    assert shown.lines[: len(RELEASE_LINES)] == RELEASE_LINES
    assert shown.lines[len(RELEASE_LINES) :] == [
        (label, "0x" + DIGEST[::-1].hex() if label == "Image's SHA-256" else value) for label, value in RELEASE_LINES
    ]


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_descriptor_matches_the_contract(contract: str) -> None:
    """The functions in a descriptor equal those in the contract's artifact, in names, types and order."""
    described = {entry["name"]: entry for entry in map(abi_entry, descriptor(contract)["display"]["formats"])}
    assert described == {
        entry["name"]: {
            "type": entry["type"],
            "name": entry["name"],
            "inputs": [plain_parameter(parameter) for parameter in entry["inputs"]],
        }
        for entry in signable(contract)
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_argument_has_exactly_one_field(function: str) -> None:
    """Each value in the arguments of a call has exactly one field; all labels of a call are different."""
    contract, _, name = function.partition(".")
    fields = list(leaf_fields(display_of(contract, name)["fields"]))
    whole = [path for path, _ in fields if "[-" not in path]
    assert sorted(whole) == sorted(leaf_paths(FUNCTIONS[function]["inputs"]))
    labels = labels_of(display_of(contract, name))
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("function", FUNCTIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_shown_leaves_nothing_open(function: str, data: st.DataObject) -> None:
    """The calldata can be rebuilt from the wallet screen, which therefore shows all values exactly."""
    contract, _, name = function.partition(".")
    entry = FUNCTIONS[function]
    arguments = [data.draw(values_of(parameter)) for parameter in entry["inputs"]]
    calldata = interface(contract).encode_call(name, *arguments)
    shown = show(descriptor(contract), calldata)
    assert interface(contract).encode_call(name, *read_back(contract, name, shown)) == calldata


@settings(max_examples=50, deadline=None)
@given(st.builds(Version, st.integers(0, 2**16 - 1), st.integers(0, 2**24 - 1), st.integers(1, 2**24 - 1)))
def test_a_version_is_shown_in_its_three_parts(version: Version) -> None:
    """A packed version is displayed as its major, minor and patch number."""
    calldata = interface("BlockOTA").encode_call("setMinimumVersion", THERMO, version.packed)
    shown = dict(show(descriptor("BlockOTA"), calldata).lines)
    assert f"{shown['Floor: major']}.{shown['Floor: minor']}.{shown['Floor: patch']}" == str(version)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_no_field_is_hidden_or_summarised(contract: str) -> None:
    """Every field of a descriptor is always visible, and no summary replaces the fields."""
    for display in descriptor(contract)["display"]["formats"].values():
        assert display.keys() == {"intent", "fields"}
    text = json.dumps(descriptor(contract))
    assert text.count('"visible": "always"') == text.count('"format": ')


def test_the_page_lists_what_wallets_show() -> None:
    """The table in docs/vendor.md contains the intent and the labels of every function."""
    page = (ROOT / "docs" / "vendor.md").read_text("utf-8")
    rows = [
        f"| `{contract}.{key.partition('(')[0]}` | {display['intent']} | "
        f"{' · '.join(labels_of(display)) or 'nothing more'} |"
        for contract in CONTRACTS
        for key, display in descriptor(contract)["display"]["formats"].items()
    ]
    table = "\n".join(["| function | intent | fields |", "| --- | --- | --- |", *rows])
    assert f"<!-- screens -->\n{table}\n<!-- /screens -->" in page, table


def test_an_owner_binds_its_contracts_to_their_deployment(tmp_path: Path) -> None:
    """The descriptors of a deployment differ from the packaged descriptors only in contract address and owner."""
    paths = write_descriptors(tmp_path, DEPLOYMENT, vendor="Acme Climate")
    assert [path.name for path in paths] == [file_name(contract) for contract in BOUND]
    for (contract, address), path in zip(BOUND.items(), paths, strict=True):
        written = json.loads(path.read_text())
        assert written["context"]["contract"]["deployments"] == [{"chainId": 100, "address": address}]
        assert written["metadata"]["owner"] == "Acme Climate"
        assert written["display"] == descriptor(contract)["display"]
        assert descriptor(contract)["context"]["contract"]["deployments"] == []


@pytest.mark.parametrize("vendor", ["", " ", "A" * 23, "Acme\n", "Ácme", "\x1b[31m"], ids=ascii)
def test_a_vendor_that_cannot_be_shown_is_refused(vendor: str) -> None:
    """A vendor name that wallets would truncate or alter is refused."""
    with pytest.raises(UsageError, match="cannot be shown by a wallet"):
        descriptor_for("BlockOTA", DEPLOYMENT, vendor=vendor)


@pytest.mark.parametrize(
    ("calldata", "why"),
    [
        pytest.param(bytes.fromhex("deadbeef"), "no display", id="unknown"),
        pytest.param(interface("BlockOTA").encode_call("unpairOem", THERMO) + b"\0", "no display", id="longer"),
    ],
)
def test_unknown_calldata_is_not_shown(calldata: bytes, why: str) -> None:
    """Calldata with an unknown selector or with trailing bytes is not displayed."""
    with pytest.raises(CannotShowError, match=why):
        show(descriptor("BlockOTA"), calldata)


@pytest.mark.parametrize(
    "change",
    [{"visible": "never"}, {"format": "amount"}, {"path": "products"}, {"encryption": {}}, {"params": {}}],
    ids=lambda change: next(iter(change)),
)
def test_our_wallet_refuses_what_it_does_not_know(change: dict[str, Any]) -> None:
    """The wallet simulator of these tests refuses a descriptor with an unknown format."""
    spoiled = descriptor("BlockOTA")
    display_in(spoiled, "unpairOem")["fields"][0] |= change
    with pytest.raises(CannotShowError):
        show(spoiled, interface("BlockOTA").encode_call("unpairOem", THERMO))


def display_of(contract: str, function: str) -> dict[str, Any]:
    """Return the display section of a contract's function."""
    return display_in(descriptor(contract), function)


def display_in(described: dict[str, Any], function: str) -> dict[str, Any]:
    """Return the display section of a function in the given descriptor."""
    formats: dict[str, dict[str, Any]] = described["display"]["formats"]
    return next(display for key, display in formats.items() if key.startswith(f"{function}("))


def labels_of(display: dict[str, Any]) -> list[str]:
    """Return the labels of all fields in a display section."""
    return [label for _, label in leaf_fields(display["fields"])]


def plain_parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return an ABI parameter with only the parts that a descriptor's key contains."""
    plain = {"name": parameter["name"], "type": parameter["type"]}
    if "components" in parameter:
        plain["components"] = [plain_parameter(component) for component in parameter["components"]]
    return plain


def leaf_paths(inputs: list[dict[str, Any]], scope: str = "") -> Iterator[str]:
    """Return the paths of all values except structs and lists of structs."""
    for parameter in inputs:
        place = scope + parameter["name"] + ".[]" * parameter["type"].endswith("[]")
        if "components" in parameter:
            yield from leaf_paths(parameter["components"], f"{place}.")
        else:
            yield place


def leaf_fields(fields: list[dict[str, Any]], scope: str = "") -> Iterator[tuple[str, str]]:
    """Return the full path and the label of each field."""
    for field in fields:
        if "fields" in field:
            yield from leaf_fields(field["fields"], f"{scope}{field['path']}.")
        else:
            yield f"{scope}{field['path']}", field["label"]


def values_of(parameter: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for values of a parameter; times stay within the range of `datetime`."""
    kind = parameter["type"]
    if kind.startswith("tuple"):
        parts = st.fixed_dictionaries({c["name"]: values_of(c) for c in parameter["components"]})
        return parts if kind == "tuple" else st.lists(parts, min_size=1, max_size=3)
    if kind == "string[]":
        return st.lists(st.text(max_size=40), min_size=1, max_size=3)
    if kind == "uint40":
        return st.integers(0, 200_000_000_000)
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind.removeprefix("uint")) - 1)
    if kind.startswith("bytes"):
        size = int(kind.removeprefix("bytes") or 0)
        return st.binary(min_size=size, max_size=size or 80)
    addresses = st.binary(min_size=20, max_size=20).map(lambda raw: text("addressName", raw))
    return st.text(max_size=40) if kind == "string" else addresses


def read_back(contract: str, function: str, shown: Shown) -> list[Any]:
    """Parse the arguments of a call from its wallet screen, by the labels of the fields."""
    labels = {path: label for path, label in leaf_fields(display_of(contract, function)["fields"]) if "[-" not in path}
    left = [line for line in shown.lines if line[0] in labels.values()]
    enums = descriptor(contract)["metadata"].get("enums", {})

    def read(parameter: dict[str, Any], scope: str) -> Any:
        """Read one parameter from the screen lines that were not read yet."""
        kind, place = parameter["type"], scope + parameter["name"]
        if kind == "tuple[]":
            elements = []
            while left:
                elements.append([read(part, f"{place}.[].") for part in parameter["components"]])
            return elements
        if kind == "tuple":
            return [read(part, f"{place}.") for part in parameter["components"]]
        if kind == "string[]":
            texts = []
            while left and left[0][0] == labels[f"{place}.[]"]:
                texts.append(left.pop(0)[1])
            return texts
        label, value = left.pop(0)
        assert label == labels[place]
        numbers = {word: number for number, word in enums.get(parameter["name"], {}).items()}
        return value_in(kind, numbers.get(value, value))

    inputs = next(entry for entry in signable(contract) if entry["name"] == function)["inputs"]
    return [read(parameter, "") for parameter in inputs]


def value_in(kind: str, shown: str) -> Any:
    """Parse a displayed value."""
    if kind == "uint40":
        return int(datetime.fromisoformat(shown).timestamp())
    if kind.startswith("uint"):
        return int(shown)
    return bytes.fromhex(shown.removeprefix("0x")) if kind.startswith("bytes") else shown
