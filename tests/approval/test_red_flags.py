"""Red flags, the warnings before signing: each has its own condition, and an ordinary proposal raises none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.approval.chain_view import ChainView, SafeState
from blockota.approval.flags import RedFlag, Word
from blockota.approval.intent import SAFE as SAFE_INTERFACE
from blockota.approval.lookalikes import find_lookalike
from blockota.approval.proposal import Proposal
from blockota.approval.red_flags import (
    FAR_EXPIRY,
    FAR_POSTPONED,
    MUCH_LARGER,
    OLD_VIEW,
    SLOW_CLOCK,
    red_flags,
)
from blockota.approval.safe_transaction import CALL, DELEGATECALL
from blockota.bindings.block_ota import pair_call, publish_call, revoke_call
from blockota.bindings.replication import decision_call
from blockota.errors import ProposalError
from blockota.formats.abi import encode_signature_call, interface
from blockota.keys import dev_account
from blockota.model.agreement import Agreement, AgreementStatus
from blockota.model.release import Release, Version, product_key
from tests.conftest import ROOT
from tests.support.samples import CONTRACT, FLASH, NOW, PRODUCT, SAFE, code, proposal_with, release_of

OWNERS = tuple(dev_account(number).address for number in range(1, 4))
MALLORY, REPLICATION = dev_account(6).address, dev_account(13).address
SIZE = 100
NEWEST = release_of(code(SIZE), version=Version(1, 0, 0))


def agreement(number: int, status: AgreementStatus) -> Agreement:
    """Return an agreement in the given status."""
    return Agreement(number, MALLORY, PRODUCT.name, NEWEST.version, NOW + 86400, status, "")


VIEW = ChainView(
    chain_id=1337,
    block_number=100,
    block_hash=bytes(32),
    block_time=NOW,
    contract=CONTRACT,
    replication=REPLICATION,
    safe=SafeState(SAFE, OWNERS, 2, 7, "1.5.0"),
    products=(PRODUCT, replace(PRODUCT, name="other")),
    newest=(NEWEST,),
    agreements=(agreement(1, AgreementStatus.PROPOSED), agreement(2, AgreementStatus.ACCEPTED)),
)


def flags(proposal: Proposal, view: ChainView = VIEW, *, signer: str | None = OWNERS[0], now: int = NOW) -> list[str]:
    """Return the words of the red flags that a proposal raises."""
    return [flag.word for flag in red_flags(proposal, view, signer=signer, now=now)]


def publishing(*releases: Release) -> Proposal:
    """Return a proposal that publishes the given releases."""
    return proposal_with(data=publish_call(releases))


def image(version: Version, *, size: int = SIZE, product: str = PRODUCT.name) -> Release:
    """Return a release with an image of the given size."""
    return release_of(code(size), version=version, product=product)


def pairing(name: str, *, oem: str = PRODUCT.oem) -> Proposal:
    """Return a proposal that pairs a new product."""
    return proposal_with(data=pair_call(replace(PRODUCT, name=name, oem=oem)))


def vendor_call(function: str, *arguments: Any) -> bytes:
    """Return the calldata of a call to the BlockOTA contract."""
    return interface("BlockOTA").encode_call(function, *arguments)


def safe_call(function: str, *arguments: Any) -> Proposal:
    """Return a proposal for a call of the Safe to itself."""
    return proposal_with(to=SAFE, data=interface(SAFE_INTERFACE).encode_call(function, *arguments))


def decision(verb: str, number: int, **changes: Any) -> Proposal:
    """Return a proposal to accept, decline or terminate an agreement, optionally with changed terms."""
    shown = replace(agreement(number, AgreementStatus.PROPOSED), **changes)
    return proposal_with(to=REPLICATION, data=decision_call(verb, shown))


def accepting(*numbers: int) -> Proposal:
    """Return one proposal to accept several agreements."""
    shown = [agreement(number, AgreementStatus.PROPOSED) for number in numbers]
    return proposal_with(to=REPLICATION, data=decision_call("accept", *shown))


NEW_OWNER = dev_account(9).address
SENTINEL = "0x" + "00" * 19 + "01"
GOOD: Mapping[str, Proposal] = {
    "publish": proposal_with(),
    "the first of a product": publishing(image(Version(1, 0, 0), product="other", size=10 * SIZE)),
    "several": publishing(*(image(Version(1, 1, n), size=SIZE + n) for n in range(3))),
    "several products": publishing(image(Version(1, 1, 0)), image(Version(1, 0, 0), product="other")),
    "revoke": proposal_with(data=revoke_call(PRODUCT.name, Version(1, 0, 0), reason="bricks")),
    "pair": proposal_with(data=pair_call(replace(PRODUCT, name="other"))),
    "pair again": proposal_with(data=pair_call(PRODUCT)),
    "floor": proposal_with(data=vendor_call("setMinimumVersion", product_key(PRODUCT.name), NEWEST.version.packed)),
    "pause": proposal_with(data=vendor_call("pause")),
    "resume": proposal_with(data=vendor_call("resume")),
    "take over": proposal_with(data=vendor_call("acceptOwnership")),
    "accept": decision("accept", 1),
    "decline": decision("decline", 1),
    "terminate": decision("terminate", 2),
    "reject": proposal_with(to=SAFE, data=b""),
    "expires in 30 days": proposal_with(expires=NOW + FAR_EXPIRY),
    "grows by half": publishing(image(Version(1, 1, 0), size=int(SIZE * MUCH_LARGER))),
    "shrinks": publishing(image(Version(1, 1, 0), size=1)),
}


@pytest.mark.parametrize("proposal", GOOD.values(), ids=GOOD)
def test_what_is_in_good_order_has_no_flag(proposal: Proposal) -> None:
    """An ordinary proposal raises no red flag."""
    assert flags(proposal) == []


def test_several_offers_are_accepted_at_once() -> None:
    """A proposal that accepts several offers raises no flag, and its intent names each of them."""
    offered = tuple(agreement(number, AgreementStatus.PROPOSED) for number in (1, 3))
    proposal = accepting(1, 3)
    assert flags(proposal, replace(VIEW, agreements=offered)) == []
    assert [(one["action"], one["id"]) for one in proposal.intent] == [
        ("accept an agreement with a broker", "1"),
        ("accept an agreement with a broker", "3"),
    ]
    empty = interface("FirmwareReplication").encode_call("acceptAll", [])
    assert not proposal_with(to=REPLICATION, data=empty).is_known


OTHER_PLACE = to_checksum_address("0x" + "ab" * 20)
TRANSFER = encode_signature_call("transfer(address,uint256)", MALLORY, 5)
ONE_CHANGE: Mapping[str, tuple[Proposal, list[str]]] = {
    "delegatecall": (proposal_with(operation=DELEGATECALL), ["delegatecall"]),
    "a value": (proposal_with(value=1), ["value"]),
    "safeTxGas": (proposal_with(safe_tx_gas=1), ["refund"]),
    "baseGas": (proposal_with(base_gas=1), ["refund"]),
    "gasPrice": (proposal_with(gas_price=1), ["refund"]),
    "gasToken": (proposal_with(gas_token=MALLORY), ["refund"]),
    "refundReceiver": (proposal_with(refund_receiver=MALLORY), ["refund"]),
    "gas of a rejection": (proposal_with(to=SAFE, data=b"", safe_tx_gas=1), ["refund", "selector"]),
    "a look-alike contract": (proposal_with(to=OTHER_PLACE), ["target"]),
    "a call of the other contract": (proposal_with(to=REPLICATION), ["target"]),
    "an agreement at the contract": (replace(decision("accept", 1), to=CONTRACT), ["target"]),
    "a foreign function": (proposal_with(data=TRANSFER), ["selector"]),
    "trailing bytes": (proposal_with(data=proposal_with().data + b"\0"), ["selector"]),
    "no calldata": (proposal_with(data=b""), ["selector"]),
    "a token": (proposal_with(to=OTHER_PLACE, data=TRANSFER), ["selector", "target"]),
    "ether to another account": (proposal_with(to=MALLORY, data=b"", value=1), ["value", "selector", "target"]),
    "a publication by the Safe to itself": (proposal_with(to=SAFE), ["selector"]),
    "ether to itself": (proposal_with(to=SAFE, data=b"", value=1), ["value", "selector"]),
    "a delegatecall in place of a rejection": (
        proposal_with(to=SAFE, data=b"", operation=DELEGATECALL),
        ["delegatecall", "selector"],
    ),
    "the nonce before": (proposal_with(nonce=6), ["nonce"]),
    "a nonce ahead": (proposal_with(nonce=8), ["nonce"]),
    "expires now": (proposal_with(expires=NOW), ["expired"]),
    "expires after 30 days": (proposal_with(expires=NOW + FAR_EXPIRY + 1), ["far"]),
    "expires beyond the calendar": (proposal_with(expires=(1 << 64) - 1), ["far"]),
    "the same version": (publishing(image(NEWEST.version)), ["lower"]),
    "a lower version": (publishing(image(Version(0, 9, 9))), ["lower"]),
    "more than half larger": (publishing(image(Version(1, 1, 0), size=int(SIZE * MUCH_LARGER) + 1)), ["grown"]),
    "another owner": (proposal_with(data=vendor_call("transferOwnership", MALLORY)), ["ownership"]),
    "no owner": (proposal_with(data=vendor_call("renounceOwnership")), ["ownership"]),
    "a floor above the newest": (
        proposal_with(data=vendor_call("setMinimumVersion", product_key(PRODUCT.name), Version(1, 0, 1).packed)),
        ["floor"],
    ),
    "a floor for nothing": (
        proposal_with(data=vendor_call("setMinimumVersion", product_key("other"), Version(0, 0, 1).packed)),
        ["floor"],
    ),
    "the greatest major version": (
        publishing(image(Version(2, 0, 0)), image(Version(65535, 0, 0))),
        ["room"],
    ),
    "two major versions more": (publishing(image(Version(3, 0, 0))), ["jump"]),
    "an image outside the region": (
        publishing(release_of(code(SIZE), version=Version(1, 1, 0), load_address=FLASH.end - SIZE + 1)),
        ["region"],
    ),
    "more releases than fit a screen": (publishing(*(image(Version(1, minor, 0)) for minor in range(1, 6))), ["many"]),
    "no pairing": (proposal_with(data=vendor_call("unpairOem", product_key(PRODUCT.name))), ["unpairing"]),
    "a product like another": (pairing("acrne-thermo2"), ["lookalike"]),
    "an OEM like another": (pairing("fan", oem="acne"), ["lookalike"]),
    "an owner less": (safe_call("removeOwner", SENTINEL, OWNERS[0], 2), ["removal", "all"]),
    "every owner": (safe_call("changeThreshold", 3), ["all"]),
    "another chip": (proposal_with(data=pair_call(replace(PRODUCT, chip_id=0x414))), ["pairing"]),
    "another OEM": (proposal_with(data=pair_call(replace(PRODUCT, oem="mallory"))), ["pairing"]),
    "another region": (
        proposal_with(data=pair_call(replace(PRODUCT, region=replace(FLASH, size=FLASH.size + 1)))),
        ["pairing"],
    ),
    "threshold 1": (safe_call("changeThreshold", 1), ["threshold"]),
    "another owner of the Safe": (safe_call("addOwnerWithThreshold", NEW_OWNER, 2), ["owner"]),
    "threshold 1 with a new owner": (safe_call("addOwnerWithThreshold", NEW_OWNER, 1), ["owner", "threshold"]),
    "an agreement of another broker": (decision("accept", 1, broker=OWNERS[0]), ["agreement"]),
    "an agreement on another product": (decision("decline", 1, product="other"), ["agreement"]),
    "an agreement on another release": (decision("terminate", 2, version=Version(1, 2, 0)), ["agreement"]),
    "an agreement of another duration": (decision("accept", 1, expires_at=NOW + 1), ["agreement"]),
    "an agreement that does not exist": (decision("accept", 3), ["agreement"]),
    "accepting twice": (decision("accept", 2), ["agreement"]),
    "accepting the same one twice at once": (accepting(1, 1), ["agreement"]),
    "accepting several, one of them again": (accepting(1, 2), ["agreement"]),
    "terminating what was not accepted": (decision("terminate", 1), ["agreement"]),
    "a getter": (proposal_with(data=vendor_call("paused")), ["selector"]),
    "nothing to publish": (proposal_with(data=publish_call([])), ["selector"]),
    "a product that was never paired": (publishing(image(Version(1, 0, 0), product="third")), ["unpaired"]),
    "a release in a year": (
        publishing(replace(image(Version(1, 1, 0)), active_from=NOW + FAR_POSTPONED + 1)),
        ["postponed"],
    ),
    "a release beyond the calendar": (
        publishing(replace(image(Version(1, 1, 0)), active_from=(1 << 40) - 1)),
        ["postponed"],
    ),
    "threshold 1 with an owner less": (safe_call("removeOwner", SENTINEL, OWNERS[0], 1), ["threshold"]),
    "another one's vote": (safe_call("swapOwner", SENTINEL, OWNERS[0], MALLORY), ["swap"]),
    "an owner change at the contract": (replace(safe_call("changeThreshold", 2), to=CONTRACT), ["selector"]),
}


@pytest.mark.parametrize(("proposal", "expected"), ONE_CHANGE.values(), ids=ONE_CHANGE)
def test_one_change_makes_its_own_flag(proposal: Proposal, expected: list[str]) -> None:
    """A proposal with one anomaly raises exactly the red flags of that anomaly."""
    assert flags(proposal) == expected


UNSUPPORTED_SAFES = {
    "an old version": replace(VIEW, safe=replace(VIEW.safe, version="1.2.0")),
    "a version without chain ids": replace(VIEW, safe=replace(VIEW.safe, version="0.1.0")),
    "too few keys": replace(VIEW, contract_owners=OWNERS[1:]),
}


@pytest.mark.parametrize("view", UNSUPPORTED_SAFES.values(), ids=UNSUPPORTED_SAFES)
def test_a_safe_that_cannot_be_operated_is_flagged(view: ChainView) -> None:
    """A red flag is raised if the Safe's version is too old, or if too many owners are contracts, which cannot sign."""
    assert flags(proposal_with(), view) == ["safe"]
    assert flags(proposal_with(), replace(VIEW, contract_owners=OWNERS[2:])) == []


def test_removing_an_owner_with_the_threshold_kept_is_flagged() -> None:
    """The removal of an owner raises a red flag, and a second flag if all remaining owners must sign afterwards."""
    four = replace(VIEW, safe=replace(VIEW.safe, owners=(*OWNERS, NEW_OWNER)))
    assert flags(safe_call("removeOwner", SENTINEL, OWNERS[0], 2), four) == ["removal"]
    assert flags(safe_call("removeOwner", SENTINEL, OWNERS[0], 3), four) == ["removal", "all"]


def test_another_safe_than_the_settings_name_is_flagged() -> None:
    """A red flag is raised if the settings name another Safe; addresses that differ only in letter case are equal."""
    assert flags(proposal_with(), replace(VIEW, configured_safe=MALLORY)) == ["moved"]
    assert flags(proposal_with(), replace(VIEW, configured_safe=SAFE.lower())) == []


LOOKALIKES = {
    "acme-thermo2": [
        "acme-therm02",
        "acme-thermoz",
        "acrne-thermo2",
        "Acme-thermo2",
        "acme-therm2",
        "acme_thermo2",
        "acme-thermoo7",
    ],
    "fan-l": ["fan-1", "fan-I", "fan-|"],
}
UNLIKE = {
    "acme-thermo2": ["acme-thermo3", "acme-thermo", "acme-thermo20", "acme-2thermo", "acme-vent2", "acme-thermo2-b"],
    "fan-1": ["fan-2", "fan-11"],
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_name_that_resembles_another_is_found(name: str) -> None:
    """Names that differ in one letter or in confusable characters are reported as lookalikes."""
    for other in LOOKALIKES[name]:
        assert find_lookalike(other, ["unlike", name]) == name
        assert find_lookalike(name, [other]) == other


@pytest.mark.parametrize("name", UNLIKE)
def test_digits_that_differ_do_not_make_a_lookalike(name: str) -> None:
    """Names that differ in a digit, such as the models of a series, are not reported as lookalikes."""
    assert not find_lookalike(name, [name, *UNLIKE[name]])


def test_a_lower_threshold_is_flagged() -> None:
    """Lowering the Safe's threshold from three to two raises a red flag."""
    view = replace(VIEW, safe=replace(VIEW.safe, threshold=3))
    assert flags(safe_call("changeThreshold", 2), view) == ["threshold"]


BEHIND_THE_SAFE = {
    "setGuard(address)": (MALLORY,),
    "setModuleGuard(address)": (MALLORY,),
    "enableModule(address)": (MALLORY,),
    "disableModule(address,address)": (SENTINEL, MALLORY),
    "setFallbackHandler(address)": (MALLORY,),
    "setup(address[],uint256,address,bytes,address,address,uint256,address)": None,
    "execTransactionFromModule(address,uint256,bytes,uint8)": (MALLORY, 0, b"", 1),
    "approveHash(bytes32)": (bytes(32),),
    "simulateAndRevert(address,bytes)": (MALLORY, b""),
}


@pytest.mark.parametrize("signature", BEHIND_THE_SAFE)
def test_modules_guards_and_handlers_are_unknown(signature: str) -> None:
    """A call that changes the Safe's modules, guard or fallback handler raises the flag of an unknown call."""
    arguments = BEHIND_THE_SAFE[signature]
    call = bytes.fromhex("b63e800d") + bytes(256) if arguments is None else encode_signature_call(signature, *arguments)
    proposal = proposal_with(to=SAFE, data=call)
    assert flags(proposal) == ["selector"]
    assert not proposal.is_known


@pytest.mark.parametrize("operation", [CALL, DELEGATECALL])
def test_a_multisend_is_flagged(operation: int) -> None:
    """A MultiSend batch of transactions raises red flags, as a call and as a delegatecall."""
    inner = bytes(1) + bytes.fromhex(CONTRACT[2:]) + bytes(32) + len(proposal_with().data).to_bytes(32, "big")
    call = encode_signature_call("multiSend(bytes)", inner + proposal_with().data)
    expected = ["delegatecall"] * operation + ["selector", "target"]
    assert flags(proposal_with(to=OTHER_PLACE, data=call, operation=operation)) == expected


def test_an_agreement_that_a_reorganisation_can_replace_is_flagged() -> None:
    """A decision on an agreement raises a red flag if that agreement is not confirmed yet."""
    assert flags(decision("accept", 1), replace(VIEW, shallow=(1,))) == ["shallow"]
    assert flags(decision("accept", 1), replace(VIEW, shallow=(2,))) == []


def test_agreements_need_a_replication_contract() -> None:
    """A decision on an agreement raises a red flag if the chain view names no replication contract."""
    assert flags(decision("accept", 1), replace(VIEW, replication=None)) == ["target"]


def test_a_floor_that_only_a_postponed_release_meets_is_flagged() -> None:
    """A red flag is raised for a floor (minimum version) that only a postponed release meets."""
    later = replace(NEWEST, version=Version(2, 0, 0), active_from=NOW + 60, previous=Version(1, 0, 0))
    floor = proposal_with(data=vendor_call("setMinimumVersion", product_key(PRODUCT.name), later.version.packed))
    assert flags(floor, replace(VIEW, newest=(later,))) == ["floor"]
    assert flags(floor, replace(VIEW, newest=(replace(later, active_from=NOW),))) == []


def test_a_contract_that_is_not_in_the_settings_is_flagged() -> None:
    """A red flag is raised if the signer's settings do not name the contract that the chain view names."""
    found = red_flags(proposal_with(), replace(VIEW, source="view.json", is_pinned=False), signer=None, now=NOW)
    only = "your settings do not name the contract, so view.json cannot be checked"
    assert found == [RedFlag(Word.UNCONFIGURED, f"{only}: copy the vendor's blockota.toml to this folder")]


def test_a_signer_who_is_not_an_owner_is_flagged() -> None:
    """A red flag is raised if the signer is not an owner of the Safe, but not if no signer is given."""
    assert flags(proposal_with(), signer=MALLORY) == ["stranger"]
    assert flags(proposal_with(), signer=None) == []


@pytest.mark.parametrize(
    ("seconds", "expected"), [(OLD_VIEW, []), (OLD_VIEW + 1, ["old"]), (-SLOW_CLOCK, []), (-SLOW_CLOCK - 1, ["clock"])]
)
def test_a_view_and_a_clock_far_apart_are_flagged(seconds: int, expected: list[str]) -> None:
    """A chain view raises a red flag if its time is over a day ago, or over an hour in the future."""
    proposal = proposal_with(expires=NOW + 2 * OLD_VIEW)
    assert flags(proposal, now=NOW + seconds) == expected


SEVERAL: Mapping[str, tuple[list[Release], list[str]]] = {
    "falling": ([image(Version(1, 2, 0)), image(Version(1, 1, 0))], ["lower"]),
    "twice the same": ([image(Version(1, 1, 0)), image(Version(1, 1, 0))], ["lower"]),
    "both too low": ([image(Version(0, 1, 0)), image(Version(0, 0, 1))], ["lower", "lower"]),
    "from too low to newer": ([image(Version(0, 1, 0)), image(Version(1, 1, 0))], ["lower"]),
    "growing in steps": ([image(Version(1, 1, 0), size=150), image(Version(1, 2, 0), size=225)], ["grown"]),
    "growing at the second": ([image(Version(1, 1, 0), size=50), image(Version(1, 2, 0), size=76)], ["grown"]),
    "falling in a new product": (
        [image(Version(2, 0, 0), product="other"), image(Version(1, 0, 0), product="other")],
        ["lower"],
    ),
    "two products between each other": (
        [image(Version(1, 1, 0)), image(Version(9, 0, 0), product="other"), image(Version(1, 2, 0))],
        [],
    ),
}


@pytest.mark.parametrize(("releases", "expected"), SEVERAL.values(), ids=SEVERAL)
def test_releases_of_one_proposal_are_compared_with_each_other(releases: list[Release], expected: list[str]) -> None:
    """Each release in a proposal is compared with the previous release of the same product in that proposal."""
    assert flags(publishing(*releases)) == expected


def test_version_0_is_flagged() -> None:
    """A release with version 0, which means no version, raises a red flag."""
    empty = image(Version(0, 0, 0), product="other")
    (flag,) = red_flags(publishing(empty), VIEW, signer=None, now=NOW)
    assert flag == RedFlag(Word.LOWER, "other no version is not newer than no version")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"chain_id": 1}, "has chain id 1, but the chain view has chain id 1337"),
        ({"safe": MALLORY}, f"is for {MALLORY}"),
    ],
)
def test_another_chain_or_safe_is_refused(changes: dict[str, Any], why: str) -> None:
    """A proposal for another chain or Safe than that of the chain view is refused instead of flagged."""
    with pytest.raises(ProposalError, match=why):
        red_flags(proposal_with(**changes), VIEW, signer=None, now=NOW)


@settings(max_examples=60, deadline=None)
@given(name=st.binary(max_size=32), version=st.integers(0, (1 << 64) - 1), data=st.binary(max_size=40))
def test_nothing_in_a_flag_acts_on_a_terminal(name: bytes, version: int, data: bytes) -> None:
    """The text of a red flag is printable, whatever names and bytes the calldata contains."""
    floor = vendor_call("setMinimumVersion", name.ljust(32, b"\0"), version)
    for call in (floor, data):
        for flag in red_flags(proposal_with(data=call), VIEW, signer=None, now=NOW):
            assert flag.what.isprintable()
            assert flag.word.isalpha()


def test_the_guide_lists_every_word() -> None:
    """The table in docs/vendor.md lists exactly the words of all red flags."""
    guide = (ROOT / "docs" / "vendor.md").read_text("utf-8")
    table = guide.partition("| word | condition |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(Word)


def test_a_view_that_is_older_than_the_proposal_is_outdated_and_nothing_worse() -> None:
    """If a chain view is older than a proposal and lacks its product or nonce, the only red flag is ``old``.

    A proposal whose nonce is already used raises the flag ``nonce``, even if the chain view is older than the proposal.
    """
    older = replace(VIEW, source="view.json", block_time=NOW - 60)
    later = {
        "a later nonce": (proposal_with(nonce=9, data=publish_call([image(Version(1, 1, 0))])), "has nonce 7"),
        "a new product": (publishing(image(Version(1, 0, 0), product="new-one")), "new-one is not paired"),
    }
    for proposal, what in later.values():
        (flag,) = red_flags(proposal, older, signer=OWNERS[0], now=NOW)
        assert flag.word is Word.OLD
        assert "the chain view is outdated" in flag.what
        assert what in flag.what
        # A view from the node is not outdated. A file is not outdated either if the proposal's time is in the future.
        for view, now in ((replace(older, source=""), NOW), (older, NOW - 30)):
            assert Word.OLD not in [flag.word for flag in red_flags(proposal, view, signer=OWNERS[0], now=now)]
    assert flags(proposal_with(nonce=6, data=publish_call([image(Version(1, 1, 0))])), older) == ["nonce"]
    assert flags(publishing(image(Version(1, 1, 0))), older) == []
