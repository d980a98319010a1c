"""UpdateLedger with the real registries: anchors, installations, evidence, decisions, bans and rotations."""

from __future__ import annotations

import ape
import pytest
from ape.api import AccountAPI
from eth_utils.crypto import keccak

from blockota.model.receipt import EntryKind, ReleaseId
from blockota.model.release import Version, product_key
from tests.contracts.conftest import City
from tests.contracts.test_storage import mapped, packed, word
from tests.contracts.trees import ADMINISTRATOR, GATEWAY, OTHER_GATEWAY, MemoryLog, device_entry
from tests.support.identities import enrolment_of
from tests.support.samples import SAFE

RELEASE = ReleaseId(1, SAFE, "acme-thermo2", Version(1, 4, 0))
LOG = MemoryLog([b"entry %d" % number for number in range(8)])
GROWING, SUSPENDED, RETIRED = 1, 2, 3
RESUME, RETIRE = True, False
FIRST_DEVICE, OTHERS_DEVICE = 256, 768


def installs(*devices: int, release: ReleaseId = RELEASE) -> dict[str, object]:
    """Return the argument of `anchorInstalls` for devices whose bits are in the same 256-bit word."""
    return {
        "chain": release.chain_id,
        "blockOta": release.contract,
        "product": product_key(release.product),
        "version": release.version.packed,
        "words": [devices[0] // 256],
        "bits": [sum(1 << device % 256 for device in devices)],
    }


def evidence(kinds: tuple[EntryKind, EntryKind] = (EntryKind.INSTALL, EntryKind.INSTALL)) -> MemoryLog:
    """Return a log whose second and third entries are for the same device and release."""
    pair = [device_entry(kind, FIRST_DEVICE, RELEASE, time=time) for time, kind in enumerate(kinds)]
    return MemoryLog([b"another entry", *pair])


def test_when_a_gateway_anchors_it_should_be_recorded_and_emitted(city: City) -> None:
    """A first anchor and its continuation are recorded with size, root and time. Other logs stay empty."""
    gateway = city.accounts[0]
    city.ledger.anchor(*LOG.growth(0, 3), sender=gateway)
    receipt = city.ledger.anchor(*LOG.growth(3, 8), sender=gateway)
    (event,) = receipt.decode_logs(city.ledger.Anchored)
    assert (event.uuid, event.size, event.root) == (GATEWAY.bytes, 8, LOG.head().root)
    record = city.ledger.root(GATEWAY.bytes)
    assert (record.size, record.root, record.state) == (8, LOG.head().root, GROWING)
    assert record.anchoredAt == ape.chain.blocks.head.timestamp
    assert (record.number, record.release) == (0, bytes(32))
    assert city.ledger.root(OTHER_GATEWAY.bytes).size == 0
    assert (city.ledger.identities(), city.ledger.devices()) == (city.identities.address, city.devices.address)


def test_when_the_log_does_not_continue_it_should_refuse(city: City) -> None:
    """An anchor is refused if it has another history, a proof of a wrong length, or a size that is not greater."""
    gateway = city.accounts[0]
    city.ledger.anchor(*LOG.growth(0, 3), sender=gateway)
    size, root, proof = LOG.growth(3, 8)
    other = MemoryLog([b"another history", *LOG.entries[1:]])
    for wrong in (other.growth(3, 8), (size, root, proof[:-1]), (size, root, [*proof, root])):
        with ape.reverts(city.ledger.LogNotConsistent, uuid=GATEWAY.bytes, anchoredSize=3, size=8):
            city.ledger.anchor(*wrong, sender=gateway)
    for smaller in (2, 3):
        with ape.reverts(city.ledger.SizeNotGreater, uuid=GATEWAY.bytes, size=smaller, anchoredSize=3):
            city.ledger.anchor(*LOG.growth(0, smaller), sender=gateway)


def test_when_the_caller_keeps_no_log_it_should_refuse(city: City, owner_a: AccountAPI) -> None:
    """Operators, Administrators and accounts without an identity cannot anchor."""
    for account, kind in ((owner_a, 0), (city.accounts[2], 6), (city.accounts[1], 3)):
        with ape.reverts(city.ledger.NotALogKeeper, caller=account.address, kind=kind, active=kind != 0):
            city.ledger.anchor(*LOG.growth(0, 3), sender=account)


def test_when_the_gateway_is_banned_it_should_refuse_until_the_ban_is_lifted(city: City, vendor: AccountAPI) -> None:
    """A banned identity cannot anchor, and its anchored log does not change.

    After the ban is lifted, the identity's log continues.
    """
    gateway = city.accounts[0]
    city.ledger.anchor(*LOG.growth(0, 3), sender=gateway)
    before = city.ledger.root(GATEWAY.bytes)
    city.identities.ban(GATEWAY.bytes, b"stolen".ljust(32, b"\0"), sender=city.accounts[1])
    with ape.reverts(city.ledger.NotALogKeeper, caller=gateway.address, kind=2, active=False):
        city.ledger.anchor(*LOG.growth(3, 8), sender=gateway)
    assert city.ledger.root(GATEWAY.bytes) == before
    city.identities.unban(GATEWAY.bytes, sender=vendor)
    city.ledger.anchor(*LOG.growth(3, 8), sender=gateway)
    city.identities.retire(GATEWAY.bytes, sender=vendor)
    with ape.reverts(city.ledger.NotALogKeeper):
        city.ledger.anchor(*MemoryLog([*LOG.entries, b"more"]).growth(8), sender=gateway)


def test_when_keys_are_rotated_it_should_continue_the_log(city: City, vendor: AccountAPI, owner_b: AccountAPI) -> None:
    """After a key rotation, the new account continues the log of the UUID, and the old account is refused."""
    gateway = city.accounts[0]
    city.ledger.anchor(*LOG.growth(0, 3), sender=gateway)
    keys = enrolment_of(5, account=owner_b.address).keys
    named = (keys.account, keys.key.kind.value, keys.key.data, keys.log_key, keys.tunnel_key)
    city.identities.rotate(GATEWAY.bytes, *named, sender=vendor)
    with ape.reverts(city.ledger.NotALogKeeper, caller=gateway.address, kind=2, active=False):
        city.ledger.anchor(*LOG.growth(3, 8), sender=gateway)
    city.ledger.anchor(*LOG.growth(3, 8), sender=owner_b)
    assert city.ledger.root(GATEWAY.bytes).size == 8


def test_when_devices_are_installed_it_should_record_each_once(city: City) -> None:
    """Installed devices are recorded, and an event is emitted.

    A call that records a device again reverts completely; `anchor` without devices still succeeds.
    """
    gateway = city.accounts[0]
    receipt = city.ledger.anchorInstalls(*LOG.growth(0, 3), installs(256, 300), sender=gateway)
    (event,) = receipt.decode_logs(city.ledger.Installed)
    assert (event.release, event.uuid) == (RELEASE.digest, GATEWAY.bytes)
    assert [city.ledger.installed(RELEASE.digest, device) for device in (256, 257, 300, 44)] == [
        True,
        False,
        True,
        False,
    ]
    assert city.ledger.installedBits(RELEASE.digest, 0, 3) == [0, 1 | 1 << 44, 0]
    with ape.reverts(city.ledger.AlreadyInstalled, release=RELEASE.digest, number=300):
        city.ledger.anchorInstalls(*LOG.growth(3, 8), installs(301, 300), sender=gateway)
    assert city.ledger.root(GATEWAY.bytes).size == 3
    assert not city.ledger.installed(RELEASE.digest, 301)
    city.ledger.anchor(*LOG.growth(3, 8), sender=gateway)


def test_when_the_devices_are_of_another_site_it_should_refuse(city: City) -> None:
    """A gateway can record only devices of its own blocks. The lists of words and bits must have the same length."""
    gateway, other = city.accounts[0], city.accounts[3]
    with ape.reverts(city.ledger.DevicesNotOfSite, uuid=GATEWAY.bytes):
        city.ledger.anchorInstalls(*LOG.growth(), installs(OTHERS_DEVICE), sender=gateway)
    with ape.reverts(city.ledger.DevicesNotOfSite, uuid=GATEWAY.bytes):
        city.ledger.anchorInstalls(*LOG.growth(), installs(0), sender=gateway)
    with ape.reverts(city.ledger.WordsAndBitsDiffer, words=1, bits=0):
        city.ledger.anchorInstalls(*LOG.growth(), installs(FIRST_DEVICE) | {"bits": []}, sender=gateway)
    city.ledger.anchorInstalls(*LOG.growth(), installs(OTHERS_DEVICE), sender=other)


def test_when_a_device_is_installed_twice_it_should_suspend_the_log(city: City, owner_b: AccountAPI) -> None:
    """Any account can suspend a log by proving that it has two install entries for one device and release.

    An Administrator resumes it. After this decision, the same entries cannot suspend the log again.
    """
    gateway, administrator = city.accounts[0], city.accounts[1]
    log = evidence()
    city.ledger.anchor(*log.growth(), sender=gateway)
    receipt = city.ledger.suspect(GATEWAY.bytes, log.proven(1), log.proven(2), sender=owner_b)
    (event,) = receipt.decode_logs(city.ledger.LogSuspended)
    assert (event.uuid, event.number, event.release) == (GATEWAY.bytes, FIRST_DEVICE, RELEASE.digest)
    assert (event.firstIndex, event.secondIndex, event.by) == (1, 2, owner_b.address)
    record = city.ledger.root(GATEWAY.bytes)
    assert (record.state, record.number, record.release) == (SUSPENDED, FIRST_DEVICE, RELEASE.digest)
    assert city.ledger.suspectedSize(GATEWAY.bytes, FIRST_DEVICE, RELEASE.digest) == 3

    longer = MemoryLog([*log.entries, device_entry(EntryKind.INSTALL, FIRST_DEVICE, RELEASE, time=9)])
    with ape.reverts(city.ledger.WrongLogState, uuid=GATEWAY.bytes, state=SUSPENDED):
        city.ledger.anchor(*longer.growth(3), sender=gateway)
    suspicion = (GATEWAY.bytes, FIRST_DEVICE, RELEASE.digest)
    with ape.reverts(city.ledger.NotAnAdministrator, caller=gateway.address, kind=2, active=True):
        city.ledger.decide(*suspicion, RESUME, sender=gateway)
    with ape.reverts(city.ledger.SuspicionDiffers, number=FIRST_DEVICE, release=RELEASE.digest):
        city.ledger.decide(GATEWAY.bytes, 257, RELEASE.digest, RESUME, sender=administrator)
    (event,) = city.ledger.decide(*suspicion, RESUME, sender=administrator).decode_logs(city.ledger.LogResumed)
    assert (event.uuid, event.number, event.by) == (GATEWAY.bytes, FIRST_DEVICE, ADMINISTRATOR.bytes)

    with ape.reverts(city.ledger.AlreadyDecided, number=FIRST_DEVICE, size=3):
        city.ledger.suspect(GATEWAY.bytes, log.proven(1), log.proven(2), sender=owner_b)
    city.ledger.anchor(*longer.growth(3), sender=gateway)
    city.ledger.suspect(GATEWAY.bytes, longer.proven(1), longer.proven(3), sender=owner_b)
    (event,) = city.ledger.decide(*suspicion, RETIRE, sender=administrator).decode_logs(city.ledger.LogRetired)
    assert (event.uuid, event.by) == (GATEWAY.bytes, ADMINISTRATOR.bytes)
    assert city.ledger.root(GATEWAY.bytes).state == RETIRED
    with ape.reverts(city.ledger.WrongLogState, uuid=GATEWAY.bytes, state=RETIRED):
        city.ledger.anchor(*MemoryLog([*longer.entries, b"more"]).growth(4), sender=gateway)


@pytest.mark.parametrize(
    "kinds",
    [(EntryKind.INSTALL, EntryKind.REINSTALL), (EntryKind.REINSTALL, EntryKind.INSTALL)],
    ids=["a repair", "before an installation"],
)
def test_when_a_device_is_repaired_it_should_not_be_evidence(city: City, kinds: tuple[EntryKind, EntryKind]) -> None:
    """An installation and a reinstallation of one release on one device are not evidence against the gateway's log."""
    log = evidence(kinds)
    city.ledger.anchor(*log.growth(), sender=city.accounts[0])
    with ape.reverts(city.ledger.NotAnInstall, index=1 + kinds.index(EntryKind.REINSTALL)):
        city.ledger.suspect(GATEWAY.bytes, log.proven(1), log.proven(2), sender=city.accounts[1])


def test_when_the_evidence_is_not_in_the_log_it_should_refuse(city: City) -> None:
    """Entries of another log, one entry twice, a truncated path, and entries for two devices are not evidence."""
    log, anyone = evidence(), city.accounts[2]
    with ape.reverts(city.ledger.WrongLogState, uuid=GATEWAY.bytes, state=0):
        city.ledger.suspect(GATEWAY.bytes, log.proven(1), log.proven(2), sender=anyone)
    other = device_entry(EntryKind.INSTALL, 257, RELEASE, time=1)
    anchored = MemoryLog([*log.entries, other])
    city.ledger.anchor(*anchored.growth(), sender=city.accounts[0])
    first, second = anchored.proven(1), anchored.proven(2)
    with ape.reverts(city.ledger.EntryNotInLog, uuid=GATEWAY.bytes, index=1, anchoredSize=4):
        city.ledger.suspect(GATEWAY.bytes, log.proven(1), second, sender=anyone)
    with ape.reverts(city.ledger.EntryNotInLog, uuid=GATEWAY.bytes, index=2, anchoredSize=4):
        city.ledger.suspect(GATEWAY.bytes, first, second | {"path": []}, sender=anyone)
    with ape.reverts(city.ledger.EntriesNotInOrder, firstIndex=2, secondIndex=1):
        city.ledger.suspect(GATEWAY.bytes, second, first, sender=anyone)
    with ape.reverts(city.ledger.EntriesDiffer, firstIndex=1, secondIndex=3):
        city.ledger.suspect(GATEWAY.bytes, first, anchored.proven(3), sender=anyone)


def test_a_log_and_installations_should_be_stored_as_documented(city: City) -> None:
    """A suspended log, its installed devices and the suspicion are stored in the documented slots."""
    log = evidence()
    city.ledger.anchorInstalls(*log.growth(), installs(256, 300), sender=city.accounts[0])
    anchored = ape.chain.blocks.head.timestamp
    city.ledger.suspect(GATEWAY.bytes, log.proven(1), log.proven(2), sender=city.accounts[0])
    place = mapped(GATEWAY.bytes.ljust(32, b"\0"), 0)
    assert word(city.ledger, place) == int.from_bytes(log.head().root)
    assert word(city.ledger, place + 1) == packed((3, 64), (anchored, 40), (SUSPENDED, 8), (FIRST_DEVICE, 64))
    assert word(city.ledger, place + 2) == int.from_bytes(RELEASE.digest)
    assert word(city.ledger, mapped(1, mapped(RELEASE.digest, 1))) == 1 | 1 << 44
    named = GATEWAY.bytes.ljust(32, b"\0") + FIRST_DEVICE.to_bytes(32) + RELEASE.digest
    assert word(city.ledger, mapped(keccak(named), 2)) == 3


def test_a_release_should_be_named_by_the_hash_of_its_encoding(city: City) -> None:
    """The argument of `installed` is the Keccak-256 hash of the ABI-encoded chain id, contract, product and version."""
    city.ledger.anchorInstalls(*LOG.growth(), installs(FIRST_DEVICE), sender=city.accounts[0])
    words = [RELEASE.chain_id.to_bytes(32), bytes.fromhex(SAFE[2:]).rjust(32, b"\0")]
    words += [product_key(RELEASE.product), RELEASE.version.packed.to_bytes(32)]
    assert city.ledger.installed(keccak(b"".join(words)), FIRST_DEVICE)
