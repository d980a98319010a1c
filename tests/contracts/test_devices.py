"""DeviceRegistry on a real chain: registrants, specs, sites, devices, imports, batches, bans, reading and storage.

Tests of each function and each event, and of the refusal of callers without the right to call a function.
The Solidity tests in `Devices.t.sol` contain the remaining refusals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import ape
import pytest
from ape.api import AccountAPI, ReceiptAPI, TestAccountAPI
from ape.contracts import ContractInstance
from eth_account import Account
from eth_keys.datatypes import PrivateKey
from eth_utils.crypto import keccak

from blockota.bindings.identities import enrolment_argument
from blockota.ethereum import to_checksum_address
from blockota.formats.abi import encode
from blockota.formats.public_key import PublicKey
from blockota.model.device import Registration, key_words, spec_hash
from blockota.model.release import product_key
from tests.contracts.conftest import City
from tests.contracts.test_storage import mapped, packed, word
from tests.contracts.trees import ADMINISTRATOR, GATEWAY, OPERATOR, OTHER_GATEWAY
from tests.support.identities import UUIDS, enrolment_of, p256_key
from tests.support.samples import SAFE

ACME, BOLT = product_key("acme"), product_key("bolt")
SPEC, PRODUCT = spec_hash("thermo2"), product_key("acme-thermo2")
REASON, ROOT = b"stolen".ljust(32, b"\0"), b"\7" * 32
DER = bytes.fromhex("30060201010201ff")
NONE, BY_REGISTRANT, BY_CITY = 0, 1, 2
THING = Registration("acme", b"nonce 1", ("acme/thermo2/1", "acme/hall"), "", "thermo2", GATEWAY)


@dataclass(frozen=True)
class Registry:
    """DeviceRegistry with the registrants acme and bolt, and the spec thermo2 of acme.

    Attributes:
        contract: DeviceRegistry.
        acme: the account and key of acme.
        bolt: the account and key of bolt.
    """

    contract: ContractInstance
    acme: TestAccountAPI
    bolt: TestAccountAPI

    def sign(self, registration: Registration) -> bytes:
        """Sign a registration as acme, by EIP-712."""
        texts = (
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
            "BlockOTA DeviceRegistry",
            "1",
        )
        types = ["bytes32", "bytes32", "bytes32", "uint256", "address"]
        names = [keccak(text=text) for text in texts]
        domain = keccak(encode(types, [*names, ape.chain.chain_id, self.contract.address]))
        digest = keccak(b"\x19\x01" + domain + registration.struct_hash())
        return bytes(Account.unsafe_sign_hash(digest, self.acme.private_key).signature)

    def register(self, registration: Registration, sender: TestAccountAPI) -> ReceiptAPI:
        """Register a device of acme in a transaction of any account."""
        return self.contract.register(registration.as_argument(), self.sign(registration), sender=sender)


def public_key(account: TestAccountAPI) -> bytes:
    """Return the compressed secp256k1 key of an account."""
    return PrivateKey(bytes.fromhex(account.private_key.removeprefix("0x"))).public_key.to_compressed_bytes()


@pytest.fixture
def registry(city: City, vendor: AccountAPI, owner_b: TestAccountAPI, owner_c: TestAccountAPI) -> Registry:
    """The city's device registry with two registrants and a spec."""
    for name, account in ((ACME, owner_b), (BOLT, owner_c)):
        city.devices.admitRegistrant(name, public_key(account), account.address, sender=vendor)
    city.devices.registerSpec("thermo2", "{}", sender=owner_b)
    return Registry(city.devices, owner_b, owner_c)


@pytest.fixture
def devices(registry: Registry, owner_a: TestAccountAPI) -> ContractInstance:
    """The device registry with one device, whose number is 256."""
    registry.register(THING, owner_a)
    return registry.contract


def test_when_a_registrant_is_admitted_it_should_be_recorded_and_emitted(
    city: City, vendor: AccountAPI, owner_b: TestAccountAPI
) -> None:
    """Admitting a registrant records its name, account and key, and a record with the key in IOTRegistry's format."""
    key = public_key(owner_b)
    receipt = city.devices.admitRegistrant(ACME, key, owner_b.address, sender=vendor)
    (event,) = receipt.decode_logs(city.devices.RegistrantAdmitted)
    record = city.devices.registrant(ACME)
    for found in (event, record):
        assert (found.name, found.account, found.publicKey) == (ACME, owner_b.address, key)
    assert (record.suspended, record.since) == (False, ape.chain.blocks.head.timestamp)
    assert city.devices.registrantOf(owner_b) == record
    assert city.devices.registrants(0, 9) == [record]
    assert city.devices.record(f"RegistrantPubkey:{key.hex()}") == b"\x0a\4acme\x1a\x21" + key
    with ape.reverts(city.devices.RegistrantKnown, name=ACME):
        city.devices.admitRegistrant(ACME, key, owner_b.address, sender=vendor)


def test_when_a_registrant_is_suspended_or_replaced_it_should_write_nothing(
    registry: Registry, vendor: AccountAPI, mallory: TestAccountAPI, owner_a: TestAccountAPI
) -> None:
    """Calls by a suspended registrant, or by the former account of a registrant, are refused.

    A registration signed by a suspended registrant is refused.
    """
    contract = registry.contract
    (event,) = contract.suspendRegistrant(ACME, sender=vendor).decode_logs(contract.RegistrantSuspended)
    assert event.name == ACME
    with ape.reverts(contract.RegistrantIsSuspended, name=ACME):
        contract.registerSpec("pump", "", sender=registry.acme)
    with ape.reverts(contract.RegistrantIsSuspended, name=ACME):
        registry.register(THING, owner_a)
    (event,) = contract.restoreRegistrant(ACME, sender=vendor).decode_logs(contract.RegistrantRestored)
    assert event.name == ACME
    receipt = contract.setRegistrantAccount(ACME, mallory.address, sender=vendor)
    (event,) = receipt.decode_logs(contract.RegistrantAccountChanged)
    assert (event.name, event.account) == (ACME, mallory.address)
    with ape.reverts(contract.NotARegistrant, caller=registry.acme.address):
        contract.registerSpec("pump", "", sender=registry.acme)
    contract.registerSpec("pump", "", sender=mallory)


def test_when_a_spec_is_registered_or_imported_it_should_be_recorded_and_emitted(
    registry: Registry, vendor: AccountAPI
) -> None:
    """A spec is recorded in IOTRegistry's format, and is marked as imported if the Safe imported it."""
    contract, name = registry.contract, public_key(registry.acme).hex().encode()
    receipt = contract.importSpec(ACME, "pump", "data", DER, sender=vendor)
    (event,) = receipt.decode_logs(contract.SpecRegistered)
    assert (event.specHash, event.registrant, event.name, event.imported) == (spec_hash("pump"), ACME, "pump", True)
    native, imported = contract.specs(0, 9)
    assert (native.name, native.registrant, native.imported, native.signature) == ("thermo2", ACME, False, b"")
    assert (imported.name, imported.registrant, imported.imported, imported.signature) == ("pump", ACME, True, DER)
    assert contract.spec(spec_hash("pump")) == imported
    assert contract.record("Spec:pump") == imported.record == b"\x0a\4data\x12\x42" + name
    contract.registerSpec("long", "d" * 300, sender=registry.acme)
    assert contract.record("Spec:long") == b"\x0a\xac\x02" + b"d" * 300 + b"\x12\x42" + name
    with ape.reverts(contract.SpecKnown, specName="pump"):
        contract.registerSpec("pump", "", sender=registry.bolt)


def test_when_a_registrant_lists_a_product_it_should_be_allowed_until_it_is_ended(registry: Registry) -> None:
    """`allow` and `disallow` change the list of products of a spec; entries are never removed.

    Only the registrant of the spec may call `allow` and `disallow`.
    """
    contract, update = registry.contract, (1, SAFE, PRODUCT)
    for function, told, answer in (
        (contract.allow, contract.UpdateAllowed, True),
        (contract.disallow, contract.UpdateDisallowed, False),
    ):
        with ape.reverts(contract.SpecOfAnotherRegistrant, specHash=SPEC, registrant=ACME):
            function(SPEC, *update, sender=registry.bolt)
        (event,) = function(SPEC, *update, sender=registry.acme).decode_logs(told)
        (entry,) = contract.updates(SPEC, 0, 9)
        for found in (event, entry):
            assert (found.chain, found.blockOta, found.product) == update
        assert (event.specHash, entry.allowed, contract.allows(SPEC, *update)) == (SPEC, answer, answer)
        with ape.reverts(contract.UpdateUnchanged, specHash=SPEC, allowed=answer):
            function(SPEC, *update, sender=registry.acme)


def test_when_blocks_are_given_they_should_be_those_of_the_site(city: City, vendor: AccountAPI) -> None:
    """A site has the blocks of device numbers that the Safe assigned to its gateway.

    A gateway that replaces another gateway receives all blocks of the replaced gateway.
    """
    receipt = city.devices.giveBlocks(GATEWAY.bytes, 3, sender=vendor)
    (event,) = receipt.decode_logs(city.devices.BlocksGiven)
    assert (event.site, event.first, event.count) == (GATEWAY.bytes, 5, 3)
    assert city.devices.blockCount() == 7
    assert city.devices.siteOf(1280) == GATEWAY.bytes
    first, second = city.devices.sites(0, 9)
    assert (first.uuid, first.given, first.left) == (GATEWAY.bytes, 5 * 256, 5 * 256)
    assert (second.uuid, second.given) == (OTHER_GATEWAY.bytes, 2 * 256)
    assert city.devices.site(GATEWAY.bytes) == first
    assert city.devices.ownsBlocks(GATEWAY.bytes, [1, 2, 5, 7])
    assert not city.devices.ownsBlocks(GATEWAY.bytes, [1, 3])
    with ape.reverts(city.devices.NotAGateway, site=OPERATOR.bytes):
        city.devices.giveBlocks(OPERATOR.bytes, 1, sender=vendor)
    with ape.reverts(city.devices.SiteKnown, site=GATEWAY.bytes):
        city.devices.replaceSite(OTHER_GATEWAY.bytes, GATEWAY.bytes, sender=vendor)


def test_when_a_site_is_replaced_it_should_keep_its_devices(
    city: City, devices: ContractInstance, vendor: AccountAPI
) -> None:
    """If one gateway succeeds another, it receives all blocks and devices of the other gateway."""
    heir = UUIDS[9].bytes
    city.identities.enrol(enrolment_argument(enrolment_of(9)), sender=vendor)
    receipt = devices.replaceSite(GATEWAY.bytes, heir, sender=vendor)
    (event,) = receipt.decode_logs(devices.SiteReplaced)
    assert (getattr(event, "from"), event.to) == (GATEWAY.bytes, heir)
    assert devices.siteOf(256) == devices.device(256).site == heir
    assert devices.ownsBlocks(heir, [1, 2])
    with ape.reverts(devices.SiteUnknown, site=GATEWAY.bytes):
        devices.replaceSite(GATEWAY.bytes, heir, sender=vendor)


def test_when_a_device_is_registered_it_should_be_recorded_and_emitted(
    registry: Registry, owner_a: TestAccountAPI
) -> None:
    """Any account can submit a registration that the registrant signed.

    A registered device gets the next number of its site.
    """
    contract, key = registry.contract, p256_key(1)
    receipt = registry.register(replace(THING, key=key), owner_a)
    (event,) = receipt.decode_logs(contract.DeviceRegistered)
    assert (event.number, event.site, event.specHash) == (256, GATEWAY.bytes, SPEC)
    assert (event.registrant, event.firstAlias, event.imported) == (ACME, THING.aliases[0], False)
    (event,) = receipt.decode_logs(contract.DeviceKeySet)
    assert (event.number, event.keyX, event.keyY) == (256, *key_words(key))
    found = contract.device(256)
    assert (found.number, found.registrant, found.specHash, found.site) == (256, ACME, SPEC, GATEWAY.bytes)
    assert (found.imported, found.ban, found.bannedAt) == (False, NONE, 0)
    assert (found.since, found.fromBlock) == (ape.chain.blocks.head.timestamp, receipt.block_number)
    assert (found.key, found.nonce, found.signature) == (key.data, THING.nonce, b"")
    assert contract.record(f"Thing:{THING.nonce.hex()}") == found.record
    assert contract.record(f"Alias:{THING.aliases[1]}") == b"\x0a\7" + THING.nonce
    assert {contract.numberOf(alias) for alias in THING.aliases} == {256}
    assert contract.numberOfKey(*key_words(key)) == 256
    assert contract.devices(0, 600) == [found]


def test_when_a_registration_is_changed_or_repeated_it_should_refuse(
    registry: Registry, devices: ContractInstance, owner_a: TestAccountAPI
) -> None:
    """A signature is valid only for the registration that was signed. Each nonce and each alias can be used once."""
    signature = registry.sign(THING)
    with ape.reverts(devices.SignatureOfAnother, registrant=ACME):
        devices.register(replace(THING, site=OTHER_GATEWAY).as_argument(), signature, sender=owner_a)
    with ape.reverts(devices.NonceTaken, nonce=THING.nonce, number=256):
        devices.register(THING.as_argument(), signature, sender=owner_a)
    with ape.reverts(devices.AliasTaken, aliasText=THING.aliases[0], number=256):
        registry.register(replace(THING, nonce=b"nonce 2"), owner_a)


def test_when_things_are_imported_they_should_keep_their_signature(registry: Registry, vendor: AccountAPI) -> None:
    """Things that the Safe imports from IOTRegistry are marked as imported permanently.

    The aliases of imported things need not have the form that `register` requires.
    """
    things = [
        {
            "thing": replace(THING, nonce=bytes([n]), aliases=(f"Foo {n}", "acme/" + "x" * (n - 1))).as_argument(),
            "signature": DER,
        }
        for n in (1, 2)
    ]
    receipt = registry.contract.importThings(things, sender=vendor)
    assert [event.number for event in receipt.decode_logs(registry.contract.DeviceRegistered)] == [256, 257]
    found = registry.contract.devices(256, 2)
    assert [(one.imported, one.signature, one.nonce) for one in found] == [(True, DER, b"\1"), (True, DER, b"\2")]


def test_when_a_batch_is_registered_its_devices_should_exist(registry: Registry, owner_a: TestAccountAPI) -> None:
    """The devices of a batch get consecutive numbers of the site. They do not get separate records."""
    contract = registry.contract
    receipt = contract.registerBatch(SPEC, GATEWAY.bytes, 300, ROOT, sender=registry.acme)
    (event,) = receipt.decode_logs(contract.BatchRegistered)
    (batch,) = contract.batches(GATEWAY.bytes, 0, 9)
    for found in (event, batch):
        assert (found.first, found.count, found.root) == (256, 300, ROOT)
        assert (found.specHash, found.registrant) == (SPEC, ACME)
    assert (event.site, contract.batchOf(555), contract.batchOf(556).count) == (GATEWAY.bytes, batch, 0)
    assert (contract.device(555).number, contract.device(555).record) == (555, b"")
    registry.register(THING, owner_a)
    assert contract.numberOf(THING.aliases[0]) == 556
    with ape.reverts(contract.SpecOfAnotherRegistrant, specHash=SPEC, registrant=ACME):
        contract.registerBatch(SPEC, GATEWAY.bytes, 1, ROOT, sender=registry.bolt)


def test_when_a_key_is_set_the_former_version_should_stay(
    registry: Registry, devices: ContractInstance, mallory: TestAccountAPI
) -> None:
    """Each key change makes a new version of the device.

    A key that a device has ever used cannot be set again for any device.
    """
    keys: list[PublicKey] = [p256_key(1), p256_key(2)]
    blocks = [devices.device(256).fromBlock]
    for key in keys:
        receipt = devices.setKey(256, *key_words(key), sender=registry.acme)
        blocks.append(receipt.block_number)
    versions = devices.generations(256)
    assert [one.key for one in versions] == [keys[1].data, keys[0].data, b""]
    assert [one.fromBlock for one in versions] == blocks[::-1]
    assert [one.toBlock for one in versions] == [0, *blocks[:0:-1]]
    with ape.reverts(devices.DeviceKeyTaken, number=256):
        devices.setKey(256, *key_words(keys[0]), sender=registry.acme)
    with ape.reverts(devices.DeviceOfAnother, number=256, caller=registry.bolt.address):
        devices.setKey(256, *key_words(p256_key(3)), sender=registry.bolt)
    with ape.reverts(devices.NotARegistrant, caller=mallory.address):
        devices.setKey(256, *key_words(p256_key(3)), sender=mallory)


def test_when_a_device_is_transferred_its_registrant_should_change(
    registry: Registry, devices: ContractInstance, vendor: AccountAPI
) -> None:
    """The registrant and the Safe can transfer a device.

    After a transfer, the device's record contains the new registrant's key.
    """
    with ape.reverts(devices.DeviceOfAnother, number=256, caller=registry.bolt.address):
        devices.transfer(256, BOLT, sender=registry.bolt)
    (event,) = devices.transfer(256, BOLT, sender=registry.acme).decode_logs(devices.DeviceTransferred)
    assert (event.number, getattr(event, "from"), event.to) == (256, ACME, BOLT)
    found = devices.device(256)
    assert found.registrant == BOLT
    assert public_key(registry.bolt).hex().encode() in found.record
    devices.transfer(256, ACME, sender=vendor)
    assert [one.registrant for one in devices.generations(256)] == [ACME, BOLT, ACME]


def test_when_a_device_is_banned_it_should_be_lifted_by_the_same_party_or_the_city(
    registry: Registry, city: City, devices: ContractInstance, vendor: AccountAPI
) -> None:
    """A ban by the city replaces a ban by the registrant. The registrant cannot lift the city's ban."""
    (event,) = devices.ban(256, REASON, sender=registry.acme).decode_logs(devices.DeviceBanned)
    assert (event.number, event.party, event.administrator, event.reason) == (256, BY_REGISTRANT, bytes(16), REASON)
    (event,) = devices.ban(256, REASON, sender=city.accounts[1]).decode_logs(devices.DeviceBanned)
    assert (event.party, event.administrator) == (BY_CITY, ADMINISTRATOR.bytes)
    assert (devices.device(256).ban, devices.device(256).bannedAt) == (BY_CITY, ape.chain.blocks.head.timestamp)
    with ape.reverts(devices.DeviceNotBanned, number=256, party=BY_CITY):
        devices.unban(256, sender=registry.acme)
    with ape.reverts(devices.DeviceAlreadyBanned, number=256, party=BY_CITY):
        devices.ban(256, REASON, sender=vendor)
    (event,) = devices.unban(256, sender=vendor).decode_logs(devices.DeviceUnbanned)
    assert (event.number, event.party, event.administrator) == (256, BY_CITY, bytes(16))
    assert (devices.device(256).ban, devices.device(256).bannedAt) == (NONE, 0)
    with ape.reverts(devices.DeviceOfAnother, number=256, caller=registry.bolt.address):
        devices.ban(256, REASON, sender=registry.bolt)


def test_when_anyone_but_the_safe_rules_it_should_refuse(
    devices: ContractInstance, mallory: TestAccountAPI, vendor: AccountAPI
) -> None:
    """The functions of the Safe refuse other accounts, and the Safe cannot renounce the ownership."""
    for name, arguments in {
        "admitRegistrant": (product_key("other"), b"\2" + ROOT, mallory.address),
        "suspendRegistrant": (ACME,),
        "restoreRegistrant": (ACME,),
        "setRegistrantAccount": (ACME, mallory.address),
        "importSpec": (ACME, "pump", "", DER),
        "importThings": ([{"thing": replace(THING, nonce=b"2").as_argument(), "signature": DER}],),
        "giveBlocks": (GATEWAY.bytes, 1),
        "replaceSite": (GATEWAY.bytes, OTHER_GATEWAY.bytes),
        "transferOwnership": (mallory.address,),
        "acceptOwnership": (),
    }.items():
        with ape.reverts(devices.OwnableUnauthorizedAccount, account=mallory.address):
            getattr(devices, name)(*arguments, sender=mallory)
    with ape.reverts(devices.RenouncingRefused):
        devices.renounceOwnership(sender=vendor)
    devices.transferOwnership(mallory, sender=vendor)
    devices.acceptOwnership(sender=mallory)
    assert devices.owner() == mallory.address


def test_a_device_should_be_where_documented(
    registry: Registry, devices: ContractInstance, owner_a: TestAccountAPI
) -> None:
    """The storage words of a device are in the slots that docs/contracts.md documents.

    A device's version is stored as contract code.
    """
    key = p256_key(1)
    registry.register(replace(THING, nonce=b"2", aliases=("acme/thermo2/2",), key=key), owner_a)
    devices.ban(257, REASON, sender=registry.acme)
    found = devices.device(257)
    place = word(devices, mapped(257, 13))
    version = place & ((1 << 160) - 1)
    assert place == packed((version, 160), (found.bannedAt, 40), (BY_REGISTRANT, 8))
    assert word(devices, mapped(keccak(key.data), 14)) == 257
    assert word(devices, mapped(keccak(text="Thing:32"), 2)) == 3 << 248 | 257
    assert word(devices, mapped(keccak(text="Alias:acme/thermo2/2"), 2)) == 4 << 248 | 257
    assert word(devices, mapped(0, 12)) == packed((0, 32), (1, 32), (1, 32), (2, 32), (2, 32))
    code = bytes(ape.chain.provider.get_code(to_checksum_address(f"0x{version:040x}")))
    head = bytes(21) + found.fromBlock.to_bytes(5) + found.since.to_bytes(5)
    assert code.startswith(head)
    assert code.endswith(bytes([64, 1, 0]) + key.data + b"2" + found.record)
    assert devices.identities() != devices.address
