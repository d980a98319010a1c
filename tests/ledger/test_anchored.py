"""The anchor that a receipt names is compared with the gateway chain.

The check also reports bans, suspicions and forks.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.bindings.contract import create
from blockota.bindings.identities import IdentitiesContract, enrolment_argument, key_arguments
from blockota.bindings.update_ledger import ProvenEntry, TreeGrowth, UpdateLedgerContract
from blockota.chain import Chain
from blockota.errors import RefusedError
from blockota.formats.abi import interface
from blockota.formats.notes import Checkpoint
from blockota.ledger.anchored import CheckedAnchor, check_anchor, check_device_key, find_anchor
from blockota.ledger.verify import verify_proof
from blockota.model.device import DeviceVersion
from blockota.model.proof_file import Anchor, ProofFile
from tests.conftest import Cast
from tests.support.identities import enrolment_of, keys_of, p256_key
from tests.support.logs import note_signer
from tests.support.receipts import DEVICE, GATEWAY, MemoryLog, install

ENTRIES = [install(device=DEVICE, time=number).encode() for number in range(5)]
SHORT, LONG = MemoryLog(ENTRIES[:3]), MemoryLog(ENTRIES)
OTHER = MemoryLog([*ENTRIES[:2], b"another entry"])


class City:
    """An identity registry with one gateway, and an UpdateLedger in which this gateway anchored three entries."""

    def __init__(self, chain: Chain, cast: Cast) -> None:
        self.chain, self.owner, self.gateway = chain, cast.payer, cast.technician
        registry = create(chain, cast.payer, "IdentityRegistry", cast.payer.address)[0]
        self.identities = IdentitiesContract(chain, registry)
        self.keys = replace(keys_of(0, account=self.gateway.address), log_key=SHORT.signer.key.key)
        self.decide("enrol", enrolment_argument(replace(enrolment_of(0), uuid=GATEWAY, keys=self.keys)))
        # Without installations, the ledger never asks the registry of devices.
        ledger = create(chain, cast.payer, "UpdateLedger", registry, registry)[0]
        self.ledger = UpdateLedgerContract(chain, ledger)
        self.block = self.anchor(SHORT, ())

    def decide(self, function: str, *arguments: object) -> None:
        """Call a function of the registry as its owner."""
        call = interface("IdentityRegistry").encode_call(function, *arguments)
        self.chain.send(self.owner, call, to=self.identities.address)

    def anchor(self, log: MemoryLog, proof: tuple[bytes, ...]) -> int:
        """Anchor a log as the gateway, and return the block."""
        head = log.reader.head()
        return self.ledger.anchor(self.gateway, TreeGrowth(head.size, head.root, proof)).block_number

    def check(self, file: ProofFile, *, confirmations: int = 0, log: MemoryLog = SHORT) -> CheckedAnchor:
        """Verify a proof file, and check its anchor."""
        found = verify_proof(file, log.keys())
        return check_anchor(found, file.anchor, self.ledger, self.identities, confirmations=confirmations)


@pytest.fixture(scope="module")
def city(anvil: Chain, cast: Cast) -> City:
    """Return a city; all tests in this file except one leave its state unchanged."""
    return City(anvil, cast)


def test_an_anchor_of_the_checkpoint_is_confirmed(city: City) -> None:
    """An anchor with the size and root of the checkpoint is confirmed, with block, time and keeper."""
    checked = city.check(SHORT.prove(2, Anchor(city.chain.chain_id, city.block, 3)))
    assert (checked.block, checked.size, checked.keeper.uuid) == (city.block, 3, GATEWAY)
    assert checked.time == city.chain.head(city.block).time
    assert [*checked.remarks] == []
    assert checked.as_fields()["log"]["state"] == "growing"


def test_an_anchor_of_another_size_is_confirmed_by_a_consistency_proof(city: City) -> None:
    """The check of an entry finds the first anchor that covers it.

    The anchor is confirmed by a consistency proof, although the checkpoint is later than the anchor.
    """
    proof = LONG.reader.prove_inclusion(1)
    anchor = find_anchor(LONG.reader, proof, GATEWAY, city.ledger)
    assert anchor == Anchor(city.chain.chain_id, city.block, 3, tuple(LONG.reader.prove_consistency(3, 5)))
    assert city.check(LONG.prove(1, anchor)).size == 3
    assert find_anchor(LONG.reader, LONG.reader.prove_inclusion(3), GATEWAY, city.ledger) is None


def test_what_is_not_anchored_is_refused(city: City) -> None:
    """An entry counts as not anchored if its proof lacks an anchor, or has a wrong chain, block, size or index."""
    good = Anchor(city.chain.chain_id, city.block, 3)
    extended = replace(good, proof=tuple(LONG.reader.prove_consistency(3, 5)))
    for file, why in (
        (SHORT.prove(0), "names no anchor"),
        (SHORT.prove(0, replace(good, chain_id=5)), "names chain 5"),
        (SHORT.prove(0, replace(good, block=city.block - 1)), "no anchor of size 3 in that block"),
        (SHORT.prove(0, replace(good, block=city.block + 10_000)), "is not confirmed"),
        (SHORT.prove(0, replace(good, size=2)), "no anchor of size 2"),
        (LONG.prove(3, extended), "the anchor has the size 3, and the index of the entry is 3"),
    ):
        with pytest.raises(RefusedError, match=why):
            city.check(file)
    with pytest.raises(RefusedError, match="is not confirmed"):
        city.check(SHORT.prove(0, good), confirmations=10_000)


def test_a_fork_is_refused(city: City) -> None:
    """A log whose root differs from the anchored root is refused, although its keeper signed it."""
    anchor = Anchor(city.chain.chain_id, city.block, 3)
    for file in (OTHER.prove(0, anchor), LONG.prove(0, anchor)):
        with pytest.raises(RefusedError, match="contradicts its anchor"):
            city.check(file)
    with pytest.raises(RefusedError, match="contradicts its anchor"):
        find_anchor(OTHER.reader, OTHER.reader.prove_inclusion(0), GATEWAY, city.ledger)


def test_the_log_must_have_the_key_in_the_registry(city: City) -> None:
    """Even if the reader trusts a log's key, the log is refused if this key is not the gateway's key."""
    signer = note_signer(SHORT.signer.key.name, seed=77)
    note = Checkpoint.parse(SHORT.note.text).signed(signer)
    file = SHORT.prove(0, Anchor(city.chain.chain_id, city.block, 3))
    found = verify_proof(
        replace(file, checkpoint=note.encode().decode()),
        replace(SHORT.keys(), logs=(signer.key,), witnesses=(), quorum=0),
    )
    with pytest.raises(RefusedError, match="for a log of this identity"):
        check_anchor(found, file.anchor, city.ledger, city.identities, confirmations=0)


def test_rotations_suspicions_and_bans_are_shown(anvil: Chain, cast: Cast) -> None:
    """After a rotation, a suspicion and a ban, a receipt is still proven, and the check reports all three events."""
    city = City(anvil, cast)
    file = SHORT.prove(0, Anchor(anvil.chain_id, city.block, 3))
    rotated = replace(keys_of(1), account=city.gateway.address, log_key=note_signer("new", seed=9).key.key)
    city.decide("rotate", GATEWAY.bytes, *key_arguments(rotated))
    assert [*city.check(file).remarks] == []

    first, second = (SHORT.reader.prove_inclusion(index) for index in (0, 1))
    evidence = [ProvenEntry(one.entry, one.index, one.path) for one in (first, second)]
    city.ledger.suspect(cast.mallory, GATEWAY, *evidence)
    [remark] = city.check(file).remarks
    assert remark == f"the log is suspended: device {DEVICE} has two installs of one release"

    city.identities.ban(city.owner, GATEWAY, reason="stolen")
    banned = next(iter(city.check(file).remarks))
    assert banned.startswith(f"the gateway {GATEWAY} was banned on ")
    assert banned.endswith("UTC, after this anchor")
    city.decide("unban", GATEWAY.bytes)
    assert next(iter(city.check(file).remarks)).endswith("after this anchor; the ban was lifted")
    city.decide("retire", GATEWAY.bytes)
    assert f"the gateway {GATEWAY} is retired" in city.check(file).remarks


def test_the_trusted_key_of_a_device_is_compared_with_the_registry() -> None:
    """A trusted key that the device has never had is refused.

    A trusted key that the device had earlier causes a remark.
    """
    old, new, strange = map(p256_key, (1, 2, 3))
    versions = [DeviceVersion("acme", new, 90, None), DeviceVersion("acme", old, 10, 90)]
    assert check_device_key(DEVICE, new.data, versions) == ""
    assert check_device_key(DEVICE, old.data, versions) == f"device {DEVICE} has another key since block 90"
    for known in (versions, [DeviceVersion("acme", None, 10, None)], []):
        with pytest.raises(RefusedError, match=f"the trusted key does not belong to device {DEVICE}"):
            check_device_key(DEVICE, strange.data, known)
