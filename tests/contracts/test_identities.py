"""Tests of IdentityRegistry: enrolment, rotation, bans, retirement, reading, and access."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_utils.crypto import keccak

from blockota.bindings.identities import enrolment_argument
from blockota.ethereum import to_checksum_address
from blockota.formats.public_key import KeyKind, PublicKey, read_pem
from blockota.model.identity import IdentityKind
from tests.contracts.conftest import Contracts
from tests.contracts.test_storage import mapped, packed, word
from tests.formats.test_public_key import pem_of, rsa_key
from tests.support.identities import UUIDS, enrolment_of, p256_key

ZERO_ADDRESS = "0x0000000000000000000000000000000000000000"
GATEWAY, ADMIN, OTHER = (uuid.bytes for uuid in UUIDS[:3])
REASON = b"stolen".ljust(32, b"\0")
HOUR = 3600
NEWEST, FACTS, ACCOUNTS, KEYS, EARLIER = 2, 3, 4, 5, 7
LOWEST_96, LOWEST_160 = (1 << 96) - 1, (1 << 160) - 1


def argument(number: int, **changes: Any) -> dict[str, Any]:
    """Return a gateway as the argument of `enrol`, with the given changes."""
    return enrolment_argument(enrolment_of(number)) | changes


def rotation(number: int, **changes: Any) -> tuple[Any, ...]:
    """Return the arguments of `rotate` after the UUID, with the keys of another example identity."""
    keys = argument(number, **changes)
    return tuple(keys[name] for name in ("account", "keyKind", "key", "logKey", "tunnelKey"))


@pytest.fixture(scope="session")
def identities_deployed(contracts: Contracts, owner_a: TestAccountAPI, vendor: AccountAPI) -> ContractInstance:
    """IdentityRegistry without an identity, owned by the Safe."""
    return contracts["IdentityRegistry"].deploy(vendor.address, sender=owner_a)


@pytest.fixture
def identities(identities_deployed: ContractInstance) -> Iterator[ContractInstance]:
    """IdentityRegistry without an identity; after each test, the chain is reset to the state before the test."""
    snapshot = ape.chain.snapshot()
    yield identities_deployed
    ape.chain.restore(snapshot)


@pytest.fixture
def enrolled(identities: ContractInstance, vendor: AccountAPI, technician: TestAccountAPI) -> ContractInstance:
    """IdentityRegistry with a gateway, and an Administrator with the technician's account."""
    admin = argument(1, kind=IdentityKind.ADMINISTRATOR.value, account=technician.address)
    identities.enrolAll([argument(0), admin], sender=vendor)
    return identities


def test_when_an_identity_is_enrolled_it_should_be_recorded_and_emitted(
    identities: ContractInstance, vendor: AccountAPI
) -> None:
    """An enrolment is recorded with all its fields."""
    item = argument(0)
    receipt = identities.enrol(item, sender=vendor)
    (event,) = receipt.decode_logs(identities.IdentityEnrolled)
    assert (event.uuid, event.kind, event.account) == (item["uuid"], item["kind"], item["account"])
    record = identities.identity(GATEWAY)
    for name, value in item.items():
        assert getattr(record, name) == value
    assert (record.banned, record.bannedAt, record.retired) == (False, 0, False)
    assert (record.since, record.fromBlock) == (ape.chain.blocks.head.timestamp, receipt.block_number)
    assert record.previous == bytes(16)
    assert identities.identityOf(item["account"]) == identities.identityByKey(keccak(item["key"])) == record
    assert identities.standing(item["account"]) == (GATEWAY, item["kind"], True)
    assert identities.kindOf(GATEWAY) == (item["kind"], True)
    assert identities.bannedAt(GATEWAY) == 0


def test_when_several_are_enrolled_it_should_list_them_newest_first(
    enrolled: ContractInstance, vendor: AccountAPI
) -> None:
    """A list of identities is enrolled in the order of the list.

    Pages of identities begin with the identity that was enrolled last.
    """
    enrolled.enrol(argument(2), sender=vendor)
    assert enrolled.identityCount() == 3
    first, second = enrolled.identities(bytes(16), 2)
    assert [first.uuid, second.uuid] == [OTHER, ADMIN]
    assert [one.uuid for one in enrolled.identities(second.previous, 2)] == [GATEWAY]
    assert enrolled.identities(b"\1" * 16, 2) == []
    with ape.reverts(enrolled.NothingToEnrol):
        enrolled.enrolAll([], sender=vendor)


def test_when_only_the_key_is_given_it_should_be_enrolled(identities: ContractInstance, vendor: AccountAPI) -> None:
    """An identity may lack account, log key, tunnel key and virtual IP.

    Two identities without these values do not conflict with each other.
    """
    bare = {"account": ZERO_ADDRESS, "logKey": bytes(32), "tunnelKey": bytes(32), "virtualIp": 0}
    for number in range(2):
        identities.enrol(argument(number, **bare), sender=vendor)
    record = identities.identity(GATEWAY)
    assert all(getattr(record, name) == value for name, value in bare.items())
    assert identities.standing(ZERO_ADDRESS) == (bytes(16), 0, False)


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"uuid": bytes(16)}, "UuidMissing"),
    ({"kind": 0}, "KindMissing"),
    ({"uuid": GATEWAY}, "IdentityKnown"),
    ({"key": argument(0)["key"]}, "KeyTaken"),
    ({"logKey": argument(0)["logKey"]}, "KeyTaken"),
    ({"tunnelKey": argument(0)["tunnelKey"]}, "KeyTaken"),
    ({"tunnelKey": argument(0)["logKey"]}, "KeyTaken"),
    ({"account": argument(0)["account"]}, "AccountTaken"),
    ({"virtualIp": argument(0)["virtualIp"]}, "VirtualIpTaken"),
    ({"keyKind": 0}, "KeyInvalid"),
    ({"keyKind": 2}, "KeyInvalid"),
    ({"key": argument(2)["key"][:-1] + b"\0"}, "KeyInvalid"),
)
"""Changes that make an enrolment wrong, and the errors."""


def test_when_a_value_is_wrong_or_taken_it_should_refuse(enrolled: ContractInstance, vendor: AccountAPI) -> None:
    """Invalid values, and values that belong to another identity, are refused, and nothing is recorded."""
    for changes, error in WRONG:
        with ape.reverts(getattr(enrolled, error)):
            enrolled.enrol(argument(2, **changes), sender=vendor)
    assert enrolled.identity(OTHER).kind == 0
    assert enrolled.identityCount() == 2


def test_when_the_last_address_of_a_block_is_taken_it_should_refuse(
    identities: ContractInstance, vendor: AccountAPI
) -> None:
    """One storage word records which of 256 virtual IP addresses are assigned.

    The last virtual IP address of a storage word can be assigned once, like every other address.
    """
    last = 0x0A4000FF
    identities.enrol(argument(0, virtualIp=last), sender=vendor)
    with ape.reverts(identities.VirtualIpTaken):
        identities.enrol(argument(1, virtualIp=last), sender=vendor)


def test_when_an_rsa_key_has_no_kind_it_should_refuse(identities: ContractInstance, vendor: AccountAPI) -> None:
    """The enrolment of a valid RSA key with an unknown key kind is refused."""
    key = read_pem(pem_of(rsa_key(2048)))
    with ape.reverts(identities.KeyInvalid):
        identities.enrol(argument(0, keyKind=0, key=key.data), sender=vendor)


def test_when_an_rsa_key_is_enrolled_it_should_be_readable(identities: ContractInstance, vendor: AccountAPI) -> None:
    """An RSA key of each supported length is read back as it was enrolled."""
    for number, bits in enumerate((2048, 3072, 4096)):
        key = read_pem(pem_of(rsa_key(bits)))
        identities.enrol(argument(number, keyKind=KeyKind.RSA.value, key=key.data), sender=vendor)
        assert PublicKey(KeyKind.RSA, identities.identity(UUIDS[number].bytes).key) == key


def test_when_an_rsa_key_is_weak_it_should_refuse(identities: ContractInstance, vendor: AccountAPI) -> None:
    """An RSA key is refused if it has 1,024 bits, an exponent other than 65,537, or an even or shortened modulus."""
    whole = read_pem(pem_of(rsa_key(2048))).data
    even, shorter = bytearray(whole), bytearray(whole)
    even[-6] &= 0xFE
    shorter[33] &= 0x7F
    for der in (bytes(even), bytes(shorter)):
        with ape.reverts(identities.KeyInvalid, uuid=GATEWAY, keyKind=KeyKind.RSA.value, length=len(der)):
            identities.enrol(argument(0, keyKind=KeyKind.RSA.value, key=der), sender=vendor)
    for key in (rsa_key(1024), rsa_key(2048, exponent=3)):
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with ape.reverts(identities.KeyInvalid, uuid=GATEWAY, keyKind=KeyKind.RSA.value, length=len(der)):
            identities.enrol(argument(0, keyKind=KeyKind.RSA.value, key=der), sender=vendor)


def test_when_keys_are_rotated_it_should_keep_the_former_ones(enrolled: ContractInstance, vendor: AccountAPI) -> None:
    """Rotated keys are valid from the block of the rotation.

    Former keys remain readable with their block range, and belong to the identity for ever.
    """
    before = enrolled.identity(GATEWAY)
    receipt = enrolled.rotate(GATEWAY, *rotation(9), sender=vendor)
    (event,) = receipt.decode_logs(enrolled.KeysRotated)
    assert (event.uuid, event.account) == (GATEWAY, argument(9)["account"])
    after = enrolled.identity(GATEWAY)
    assert (after.key, after.fromBlock) == (p256_key(9).data, receipt.block_number)
    assert (after.kind, after.virtualIp, after.since) == (before.kind, before.virtualIp, before.since)
    newest, former = enrolled.generations(GATEWAY)
    assert (newest.key, newest.fromBlock, newest.toBlock) == (after.key, receipt.block_number, 0)
    assert (former.key, former.fromBlock, former.toBlock) == (before.key, before.fromBlock, receipt.block_number)
    assert former.account == before.account
    assert enrolled.standing(before.account) == (GATEWAY, before.kind, False)
    assert enrolled.standing(after.account) == (GATEWAY, before.kind, True)
    assert enrolled.identityOf(before.account) == after
    with ape.reverts(enrolled.AccountTaken, account=before.account, uuid=GATEWAY):
        enrolled.enrol(argument(2, account=before.account), sender=vendor)
    with ape.reverts(enrolled.KeyTaken, uuid=GATEWAY):
        enrolled.enrol(argument(2, key=before.key), sender=vendor)


def test_when_an_account_stays_it_should_be_active(enrolled: ContractInstance, vendor: AccountAPI) -> None:
    """A rotation may pass the present account again.

    A later rotation can restore a former account.
    """
    account = argument(0)["account"]
    enrolled.rotate(GATEWAY, *rotation(9, account=account), sender=vendor)
    assert enrolled.standing(account)[2]
    enrolled.rotate(GATEWAY, *rotation(10), sender=vendor)
    assert not enrolled.standing(account)[2]
    enrolled.rotate(GATEWAY, *rotation(0), sender=vendor)
    assert enrolled.standing(account)[2]
    assert len(enrolled.generations(GATEWAY)) == 4


def test_when_a_rotation_is_wrong_it_should_refuse(enrolled: ContractInstance, vendor: AccountAPI) -> None:
    """A rotation of an unknown identity, with an invalid key, or with another identity's key is refused."""
    with ape.reverts(enrolled.IdentityUnknown, uuid=OTHER):
        enrolled.rotate(OTHER, *rotation(9), sender=vendor)
    with ape.reverts(enrolled.KeyInvalid, uuid=GATEWAY, keyKind=1, length=3):
        enrolled.rotate(GATEWAY, *rotation(9, key=b"key"), sender=vendor)
    with ape.reverts(enrolled.KeyTaken, uuid=ADMIN):
        enrolled.rotate(GATEWAY, *rotation(9, logKey=argument(1)["logKey"]), sender=vendor)


def test_when_an_administrator_bans_it_should_take_effect_at_once(
    enrolled: ContractInstance, vendor: AccountAPI, technician: TestAccountAPI
) -> None:
    """A ban is recorded with its time, and its event contains the account that banned.

    Only the Safe can lift a ban, and the time of the ban stays recorded.
    """
    (event,) = enrolled.ban(GATEWAY, REASON, sender=technician).decode_logs(enrolled.IdentityBanned)
    assert (event.uuid, event.by, event.reason) == (GATEWAY, ADMIN, REASON)
    time = ape.chain.blocks.head.timestamp
    record = enrolled.identity(GATEWAY)
    assert (record.banned, record.bannedAt) == (True, time)
    assert not enrolled.standing(record.account)[2]
    assert not enrolled.kindOf(GATEWAY)[1]
    with ape.reverts(enrolled.IdentityBannedAlready, uuid=GATEWAY, bannedAt=time):
        enrolled.ban(GATEWAY, REASON, sender=vendor)
    (event,) = enrolled.unban(GATEWAY, sender=vendor).decode_logs(enrolled.IdentityUnbanned)
    assert event.uuid == GATEWAY
    assert enrolled.kindOf(GATEWAY)[1]
    assert (enrolled.identity(GATEWAY).banned, enrolled.bannedAt(GATEWAY)) == (False, time)
    with ape.reverts(enrolled.IdentityNotBanned, uuid=GATEWAY):
        enrolled.unban(GATEWAY, sender=vendor)
    (event,) = enrolled.ban(GATEWAY, REASON, sender=vendor).decode_logs(enrolled.IdentityBanned)
    assert event.by == bytes(16)
    assert enrolled.bannedAt(GATEWAY) == ape.chain.blocks.head.timestamp


def test_when_an_administrator_is_banned_it_should_ban_nothing(
    enrolled: ContractInstance, vendor: AccountAPI, technician: TestAccountAPI, mallory: TestAccountAPI
) -> None:
    """Only the Safe can ban Administrators.

    Gateways, banned Administrators and accounts without an identity cannot ban.
    """
    with ape.reverts(enrolled.AdministratorProtected, uuid=ADMIN):
        enrolled.ban(ADMIN, REASON, sender=technician)
    with ape.reverts(enrolled.BanningNotAllowed, account=mallory.address):
        enrolled.ban(GATEWAY, REASON, sender=mallory)
    enrolled.enrol(argument(2, account=mallory.address), sender=vendor)
    with ape.reverts(enrolled.BanningNotAllowed, account=mallory.address):
        enrolled.ban(GATEWAY, REASON, sender=mallory)
    enrolled.ban(ADMIN, REASON, sender=vendor)
    with ape.reverts(enrolled.BanningNotAllowed, account=technician.address):
        enrolled.ban(GATEWAY, REASON, sender=technician)
    with ape.reverts(enrolled.IdentityUnknown, uuid=b"\1" * 16):
        enrolled.ban(b"\1" * 16, REASON, sender=vendor)


def test_when_an_administrator_bans_eleven_within_an_hour_it_should_refuse(
    enrolled: ContractInstance, vendor: AccountAPI, technician: TestAccountAPI
) -> None:
    """After ten bans by an Administrator, the eleventh is refused until an hour after the first."""
    enrolled.enrolAll([argument(number) for number in range(2, 12)], sender=vendor)
    times = []
    for uuid in (GATEWAY, *(uuid.bytes for uuid in UUIDS[2:11])):
        enrolled.ban(uuid, REASON, sender=technician)
        times.append(ape.chain.blocks.head.timestamp)
    last = UUIDS[11].bytes
    ape.chain.pending_timestamp = times[0] + HOUR - 1
    with ape.reverts(enrolled.TooManyBans, by=ADMIN, time=times[0] + HOUR):
        enrolled.ban(last, REASON, sender=technician)
    ape.chain.pending_timestamp = times[0] + HOUR
    enrolled.ban(last, REASON, sender=technician)
    assert not enrolled.kindOf(last)[1]


def test_when_an_identity_is_retired_it_should_stay_readable_and_never_change(
    enrolled: ContractInstance, vendor: AccountAPI
) -> None:
    """A retirement is final: every later change of the identity is refused, and its record remains."""
    before = enrolled.identity(GATEWAY)
    (event,) = enrolled.retire(GATEWAY, sender=vendor).decode_logs(enrolled.IdentityRetired)
    assert event.uuid == GATEWAY
    after = enrolled.identity(GATEWAY)
    assert (after.retired, after.banned, after.key) == (True, False, before.key)
    assert enrolled.standing(before.account) == (GATEWAY, before.kind, False)
    for function, arguments in (
        (enrolled.retire, ()),
        (enrolled.ban, (REASON,)),
        (enrolled.unban, ()),
        (enrolled.rotate, rotation(9)),
    ):
        with ape.reverts(enrolled.IdentityIsRetired, uuid=GATEWAY):
            function(GATEWAY, *arguments, sender=vendor)
    for function in (enrolled.unban, enrolled.retire):
        with ape.reverts(enrolled.IdentityUnknown, uuid=OTHER):
            function(OTHER, sender=vendor)


def test_when_anyone_but_the_safe_writes_it_should_refuse(
    enrolled: ContractInstance, vendor: AccountAPI, technician: TestAccountAPI, mallory: TestAccountAPI
) -> None:
    """Administrators and strangers cannot call the functions that are reserved for the owner.

    The owner of the registry cannot renounce the ownership.
    """
    for caller in (mallory, technician):
        for name, arguments in {
            "enrol": (argument(2),),
            "enrolAll": ([argument(2)],),
            "rotate": (GATEWAY, *rotation(9)),
            "unban": (GATEWAY,),
            "retire": (GATEWAY,),
            "transferOwnership": (mallory.address,),
            "acceptOwnership": (),
        }.items():
            with ape.reverts(enrolled.OwnableUnauthorizedAccount, account=caller.address):
                getattr(enrolled, name)(*arguments, sender=caller)
    with ape.reverts(enrolled.RenouncingRefused):
        enrolled.renounceOwnership(sender=vendor)
    enrolled.transferOwnership(mallory, sender=vendor)
    enrolled.acceptOwnership(sender=mallory)
    enrolled.retire(GATEWAY, sender=mallory)


def test_when_nothing_is_known_it_should_return_empty_records(identities: ContractInstance) -> None:
    """Getters return empty values for unknown keys instead of reverting."""
    empty = identities.identity(GATEWAY)
    assert (empty.uuid, empty.kind, empty.key) == (bytes(16), 0, b"")
    assert identities.identityOf(ZERO_ADDRESS) == identities.identityByKey(bytes(32)) == empty
    assert identities.generations(GATEWAY) == identities.identities(bytes(16), 9) == []
    assert identities.kindOf(GATEWAY) == (0, False)
    assert (identities.bannedAt(GATEWAY), identities.identityCount()) == (0, 0)
    assert str(UUID(bytes=GATEWAY)) == str(UUIDS[0])


def test_an_identity_should_be_where_documented(
    enrolled: ContractInstance, vendor: AccountAPI, technician: TestAccountAPI
) -> None:
    """The fields, the account, the key and the key record of an identity are in the documented storage slots."""
    first = word(enrolled, mapped(uuid_key(ADMIN), FACTS))
    enrolled.rotate(ADMIN, *rotation(9, account=technician.address), sender=vendor)
    enrolled.ban(ADMIN, REASON, sender=vendor)
    enrolled.retire(ADMIN, sender=vendor)
    record = enrolled.identity(ADMIN)
    facts = word(enrolled, mapped(uuid_key(ADMIN), FACTS))
    place, fields = facts & LOWEST_160, [(record.since, 40), (record.bannedAt, 40), (record.kind, 8), (1, 1), (1, 1)]
    assert facts == packed((place, 160), *fields)
    held = [(place & LOWEST_96, 96), (0, 32), (int.from_bytes(ADMIN, "big"), 128)]
    assert word(enrolled, mapped(int(technician.address, 16), ACCOUNTS)) == packed(*held)
    assert word(enrolled, mapped(keccak(record.key), KEYS)) == int.from_bytes(ADMIN, "big")
    assert word(enrolled, mapped(place, EARLIER)) == first & LOWEST_160
    assert word(enrolled, NEWEST) == packed((int.from_bytes(ADMIN, "big"), 128), (2, 64))
    seat = record.previous + record.virtualIp.to_bytes(4, "big") + record.fromBlock.to_bytes(5, "big")
    keys = bytes.fromhex(record.account[2:]) + record.logKey + record.tunnelKey + bytes([record.keyKind]) + record.key
    assert enrolled.provider.get_code(to_checksum_address(f"0x{place:040x}")) == b"\0" + seat + keys


def uuid_key(uuid: bytes) -> bytes:
    """Return a UUID as the key of a Solidity mapping."""
    return uuid.ljust(32, b"\0")
