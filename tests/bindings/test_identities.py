"""Producers and identities are read in few calls, and invalid answers of a node are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account.signers.local import LocalAccount

from blockota.bindings.contract import create
from blockota.bindings.identities import IdentitiesContract, enrolment_argument, key_arguments
from blockota.bindings.producers import ProducersContract
from blockota.chain import Chain
from blockota.errors import ContractRefusalError, RefusedError
from blockota.formats.abi import interface
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.model.identity import Enrolment, IdentityKind, Keys
from blockota.model.release import product_key
from tests.conftest import Cast
from tests.support.identities import UUIDS, enrolment_of, keys_of

NO_ADDRESS = "0x" + "00" * 20


def send(contract: IdentitiesContract | ProducersContract, owner: LocalAccount, function: str, *words: object) -> None:
    """Send a call as the owner of a contract."""
    call = interface(contract.NAME).encode_call(function, *words)
    contract.chain.send(owner, call, to=contract.address)


@pytest.fixture(scope="module")
def identities(anvil: Chain, cast: Cast) -> IdentitiesContract:
    """Return a registry of 64 identities; the last is an Administrator, and the first has rotated its keys."""
    contract = IdentitiesContract(anvil, create(anvil, cast.payer, "IdentityRegistry", cast.payer.address)[0])
    enrolments = [enrolment_of(number) for number in range(len(UUIDS))]
    enrolments[-1] = replace(enrolments[-1], kind=IdentityKind.ADMINISTRATOR, keys=Keys(enrolments[-1].keys.key))
    send(contract, cast.payer, "enrolAll", [enrolment_argument(one) for one in enrolments])
    send(contract, cast.payer, "rotate", UUIDS[0].bytes, *key_arguments(keys_of(100)))
    return contract


def test_an_identity_is_read_as_it_was_enrolled(identities: IdentitiesContract) -> None:
    """An identity is found by its UUID and by each account that it has ever had."""
    found = identities.identity(UUIDS[1])
    assert found
    assert Enrolment(found.uuid, found.kind, found.keys, found.virtual_ip) == enrolment_of(1)
    assert (found.status, found.previous) == ("active", UUIDS[0])
    last = identities.known_identity(UUIDS[-1])
    assert (last.kind, last.keys.account, last.keys.log_key) == (IdentityKind.ADMINISTRATOR, None, None)
    for account in (keys_of(0).account, keys_of(100).account):
        assert identities.known_identity(account or "").uuid == UUIDS[0]
    assert identities.identity_of(identities.address) is None


def test_all_identities_and_their_former_keys_are_read(identities: IdentitiesContract) -> None:
    """The list contains every identity once. The key history of an identity contains the blocks of a rotation."""
    assert [one.uuid for one in identities.identities()] == list(reversed(UUIDS))
    newest, former = identities.generations(UUIDS[0])
    assert (newest.keys, former.keys) == (keys_of(100), keys_of(0))
    assert (former.to_block, newest.to_block) == (newest.from_block, None)
    assert identities.generations(UUIDS[0], block=former.from_block) == [replace(former, to_block=None)]


def test_an_identity_is_read_by_one_call(identities: IdentitiesContract, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an identity with all of its keys needs one `eth_call` and no transaction."""
    asked: list[int] = []
    call_many = identities.chain.call_many

    def counted(questions: list[tuple[str, bytes]], *, block: int | None = None) -> list[bytes]:
        asked.append(len(questions))
        return call_many(questions, block=block)

    monkeypatch.setattr(identities.chain, "call_many", counted)
    assert identities.identity(UUIDS[3])
    assert asked == [1]


def test_an_unknown_identity_and_a_stranger_are_refused(identities: IdentitiesContract, cast: Cast) -> None:
    """The errors for an unknown identity contain the UUID or the account."""
    unknown = UUIDS[0].__class__(int=7)
    with pytest.raises(RefusedError, match="is not enrolled"):
        identities.known_identity(unknown)
    with pytest.raises(ContractRefusalError, match="may not ban identities"):
        identities.ban(cast.mallory, UUIDS[2], reason="stolen")


def test_a_key_that_the_contract_would_refuse_is_refused(
    identities: IdentitiesContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public key that is not a point of its curve is refused, because only a dishonest node can return such a key."""
    key = PublicKey(KeyKind.P256, enrolment_of(1).keys.key.data).data
    call_many = identities.chain.call_many
    monkeypatch.setattr(
        identities.chain,
        "call_many",
        lambda questions, *, block=None: [one.replace(key, bytes(64)) for one in call_many(questions, block=block)],
    )
    with pytest.raises(RefusedError, match="answer is not valid"):
        identities.identity(UUIDS[1])


def test_producers_are_read(anvil: Chain, identities: IdentitiesContract, cast: Cast) -> None:
    """A producer is found by its name and by its contract.

    A producer without a FirmwareReplication contract is read as well.
    """
    contract = ProducersContract(anvil, create(anvil, cast.payer, "Producers", cast.payer.address)[0])
    send(contract, cast.payer, "admit", product_key("acme"), identities.address, NO_ADDRESS)
    (found,) = contract.producers()
    assert (found.name, found.block_ota, found.replication, found.suspended) == (
        "acme",
        identities.address,
        None,
        False,
    )
    assert contract.producer("acme") == contract.producer_of(identities.address) == found
    assert contract.producer("globex") is contract.producer_of(contract.address) is None
    assert contract.known_producer("acme") == found
    with pytest.raises(RefusedError, match="'globex' is not a producer"):
        contract.known_producer("globex")


@pytest.mark.parametrize(("binding", "publisher"), [(IdentitiesContract, "city"), (ProducersContract, "consortium")])
def test_an_address_without_the_contract_is_compared_with_the_settings_of_its_publisher(
    anvil: Chain, cast: Cast, binding: type[IdentitiesContract | ProducersContract], publisher: str
) -> None:
    """The error for a wrong contract address names the party that publishes the right address."""
    with pytest.raises(RefusedError) as error:
        binding(anvil, cast.payer.address).owner()
    assert f"with the {publisher}'s settings" in error.value.remedy
