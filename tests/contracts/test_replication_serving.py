"""Tests of announce, withdraw, terminate and the list of replicas on accepted agreements."""

from __future__ import annotations

from collections.abc import Callable

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractInstance

from tests.contracts.agreements import named, release_of, terms

PRODUCT = b"acme-thermo2".ljust(32, b"\0")
YEAR = 365 * 86_400
EXPIRY = 4_000_000_000
FIRST, SECOND = 1 << 48 | 1 << 24, 1 << 48 | 2 << 24
URI = "https://broker.example/acme-thermo2"
HUGE = (1 << 256) - 1
PROPOSED, ACCEPTED, DECLINED, WITHDRAWN, TERMINATED = 1, 2, 3, 4, 5


@pytest.fixture
def accepted(replication: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI) -> ContractInstance:
    """FirmwareReplication with agreement 1 of the broker for release 1, which the vendor accepted."""
    replication.propose(PRODUCT, FIRST, EXPIRY, sender=broker)
    replication.accept(*terms(replication, 1), sender=vendor)
    return replication


@pytest.fixture
def serving(accepted: ContractInstance, broker: TestAccountAPI) -> ContractInstance:
    """FirmwareReplication with agreement 1, for which the broker announced a URL."""
    accepted.announce(*release_of(accepted, 1), URI, sender=broker)
    return accepted


def served(replication: ContractInstance, *page: int) -> list[int]:
    """Return the numbers of the agreements that are listed as replicas of release 1."""
    return [record.id for record in replication.replicas(PRODUCT, FIRST, *(page or (0, 10)))]


def test_when_it_is_announced_it_should_be_recorded_emitted_and_served(
    accepted: ContractInstance, broker: TestAccountAPI
) -> None:
    """An announced agreement is listed as a replica of its release, and of no other release."""
    (event,) = accepted.announce(*release_of(accepted, 1), URI, sender=broker).decode_logs(accepted.ReplicaAnnounced)
    (record,) = accepted.replicas(PRODUCT, FIRST, 0, 10)
    assert (event.id, event.product, event.broker, event.version) == (1, PRODUCT, broker.address, FIRST)
    assert event.uri == record.uri == URI
    assert record == accepted.agreement(1)
    assert (record.id, record.broker, record.version, record.status) == (1, broker.address, FIRST, ACCEPTED)
    assert accepted.replicas(PRODUCT, SECOND, 0, 10) == []


@pytest.mark.parametrize("uri", ["ipfs://x", "https://elsewhere.example/" + "b" * 120], ids=["shorter", "longer"])
def test_when_it_moves_it_should_be_served_from_the_new_place(
    serving: ContractInstance, broker: TestAccountAPI, uri: str
) -> None:
    """A second announcement of an agreement replaces the URL."""
    (event,) = serving.announce(*release_of(serving, 1), uri, sender=broker).decode_logs(serving.ReplicaAnnounced)
    (record,) = serving.replicas(PRODUCT, FIRST, 0, 10)
    assert record.uri == event.uri == uri


@pytest.mark.parametrize("length", [1, 256])
def test_when_the_uri_is_of_an_allowed_length_it_should_be_kept(
    accepted: ContractInstance, broker: TestAccountAPI, length: int
) -> None:
    """An announced URI may have 1 to 256 bytes."""
    accepted.announce(*release_of(accepted, 1), "u" * length, sender=broker)
    assert accepted.agreement(1).uri == "u" * length


@pytest.mark.parametrize("length", [0, 257])
def test_when_the_uri_is_of_another_length_it_should_refuse(
    accepted: ContractInstance, broker: TestAccountAPI, length: int
) -> None:
    """An empty URI, or a URI of more than 256 bytes, cannot be announced."""
    with ape.reverts(accepted.InvalidUriLength, length=length, limit=256):
        accepted.announce(*release_of(accepted, 1), "u" * length, sender=broker)


@pytest.mark.parametrize("who", ["mallory", "owner_a", "vendor"])
def test_when_anyone_but_the_broker_acts_for_it_it_should_refuse(
    accepted: ContractInstance, broker: TestAccountAPI, request: pytest.FixtureRequest, who: str
) -> None:
    """Only the agreement's broker may announce a URL or withdraw; the vendor is refused too."""
    caller = request.getfixturevalue(who)
    values = {"id": 1, "caller": caller.address, "broker": broker.address}
    with ape.reverts(accepted.NotTheBroker, **values):
        accepted.announce(*release_of(accepted, 1), "https://mallory.example", sender=caller)
    with ape.reverts(accepted.NotTheBroker, **values):
        accepted.withdraw(*release_of(accepted, 1), sender=caller)


@pytest.mark.parametrize("verb", ["announce", "withdraw"])
@pytest.mark.parametrize("other", [(PRODUCT, SECOND), (b"another".ljust(32, b"\0"), FIRST)], ids=["version", "product"])
def test_when_the_broker_names_another_release_it_should_refuse(
    accepted: ContractInstance, broker: TestAccountAPI, verb: str, other: tuple[bytes, int]
) -> None:
    """A broker's call that names another release than the recorded agreement is refused."""
    rest = (URI,) if verb == "announce" else ()
    with ape.reverts(accepted.AgreementDiffers, id=1, broker=broker.address, product=PRODUCT, version=FIRST):
        getattr(accepted, verb)(1, *other, *rest, sender=broker)
    getattr(accepted, verb)(*release_of(accepted, 1), *rest, sender=broker)


@pytest.mark.parametrize(
    ("who", "verb", "expected"),
    [
        pytest.param("broker", "withdraw", ("AgreementWithdrawn", WITHDRAWN), id="withdraw"),
        pytest.param("vendor", "terminate", ("AgreementTerminated", TERMINATED), id="terminate"),
    ],
)
def test_when_either_side_ends_it_it_should_be_recorded_emitted_and_served_no_more(
    serving: ContractInstance,
    request: pytest.FixtureRequest,
    *,
    who: str,
    verb: str,
    expected: tuple[str, int],
) -> None:
    """An agreement that the broker withdraws or the vendor terminates is no longer listed as a replica."""
    receipt = getattr(serving, verb)(*named(serving, verb, 1), sender=request.getfixturevalue(who))
    (event,) = receipt.decode_logs(getattr(serving, expected[0]))
    assert (event.id, event.product, event.version) == (1, PRODUCT, FIRST)
    assert event.broker == request.getfixturevalue("broker").address
    assert (serving.agreement(1).status, serving.agreement(1).uri) == (expected[1], URI)
    assert served(serving) == []


def test_when_the_agreement_expires_it_should_serve_no_more_nor_be_announced(
    serving: ContractInstance, broker: TestAccountAPI
) -> None:
    """From the second of its expiry on, an agreement is not listed as a replica and cannot be announced."""
    ape.chain.mine(timestamp=EXPIRY - 1)
    assert served(serving) == [1]
    ape.chain.mine(timestamp=EXPIRY)
    assert served(serving) == []
    with ape.reverts(serving.AgreementExpired, id=1, expiresAt=EXPIRY):
        serving.announce(*release_of(serving, 1), URI, sender=broker)
    assert serving.agreement(1).status == ACCEPTED


@pytest.mark.parametrize("verb", ["withdraw", "terminate"])
def test_when_it_has_expired_it_should_still_be_ended(
    serving: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI, verb: str
) -> None:
    """An expired agreement can still be withdrawn and terminated."""
    ape.chain.mine(timestamp=EXPIRY)
    getattr(serving, verb)(*named(serving, verb, 1), sender=broker if verb == "withdraw" else vendor)
    assert serving.agreement(1).status == (WITHDRAWN if verb == "withdraw" else TERMINATED)


def test_when_the_release_is_revoked_it_should_have_no_replicas(
    serving: ContractInstance, block_ota: ContractInstance, vendor: AccountAPI
) -> None:
    """The list of replicas of a revoked release is empty, although its agreements keep their recorded status."""
    block_ota.revoke(PRODUCT, FIRST, "bricks boards", sender=vendor)
    assert served(serving) == []
    assert serving.agreement(1).status == ACCEPTED


@pytest.fixture
def crowd(replication: ContractInstance, vendor: AccountAPI, cast: list[TestAccountAPI]) -> ContractInstance:
    """FirmwareReplication with accepted agreements of five brokers for release 1, of which four are announced."""
    for number, account in enumerate(cast[:5], start=1):
        replication.propose(PRODUCT, FIRST, EXPIRY + number, sender=account)
        replication.accept(*terms(replication, number), sender=vendor)
        if number != 3:
            replication.announce(*release_of(replication, number), f"{URI}/{number}", sender=account)
    return replication


def test_when_replicas_are_asked_for_it_should_answer_a_page_of_those_that_serve(crowd: ContractInstance) -> None:
    """`replicas` returns pages of the announced agreements; the agreement that was accepted last comes first."""
    assert served(crowd, 0, 10) == [5, 4, 2, 1]
    assert served(crowd, 0, 2) == [5, 4]
    assert served(crowd, 2, 2) == [2, 1]
    assert served(crowd, 3, HUGE) == [1]
    assert served(crowd, 4, 1) == served(crowd, HUGE, HUGE) == []
    assert served(crowd, 1, 0) == []


def test_when_some_end_in_any_place_it_should_keep_the_others(crowd: ContractInstance, vendor: AccountAPI) -> None:
    """After the termination of agreements at any place in the list of replicas, the other replicas remain listed."""
    for ended in ([1], [5, 4], [2, 4], [3, 2], [1, 2, 4, 5]):
        with ape.chain.isolate():
            for number in ended:
                crowd.terminate(*terms(crowd, number), sender=vendor)
            assert served(crowd) == [number for number in (5, 4, 2, 1) if number not in ended]


def test_when_some_expire_it_should_keep_the_others(crowd: ContractInstance) -> None:
    """Expired agreements are not listed as replicas, although no transaction removed them."""
    ape.chain.mine(timestamp=EXPIRY + 2)
    assert served(crowd) == [5, 4]


def test_when_agreements_are_asked_for_it_should_answer_a_page_of_all(crowd: ContractInstance) -> None:
    """`agreements` returns pages of all agreements in the order of their numbers."""
    everything = [crowd.agreement(number) for number in (1, 2, 3, 4, 5)]
    assert crowd.agreements(0, 10) == crowd.agreements(1, 5) == everything
    assert crowd.agreements(1, 2) == everything[:2]
    assert crowd.agreements(3, 2) == everything[2:4]
    assert crowd.agreements(5, HUGE) == everything[4:]
    assert crowd.agreements(6, 1) == crowd.agreements((1 << 64) - 1, HUGE) == crowd.agreements(1, 0) == []


def test_when_something_unknown_is_asked_for_it_should_answer_with_nothing(
    serving: ContractInstance, mallory: TestAccountAPI
) -> None:
    """For unknown agreements, brokers and releases, the getters return empty results instead of reverting."""
    assert [serving.agreement(number).id for number in (0, 2, (1 << 64) - 1)] == [0, 0, 0]
    assert serving.newestOf(PRODUCT, FIRST, mallory).id == 0
    assert serving.replicas(PRODUCT, 7, 0, 10) == serving.replicas(b"\1" * 32, FIRST, 0, 10) == []


def test_it_should_name_the_record_it_serves(accepted: ContractInstance, block_ota: ContractInstance) -> None:
    """`blockOta` returns the address of the BlockOTA contract."""
    assert accepted.blockOta() == block_ota.address


CALLS = ("accept", "decline", "announce", "withdraw", "terminate")
ALLOWED = {PROPOSED: {"accept", "decline", "withdraw"}, ACCEPTED: {"announce", "withdraw", "terminate"}}
WAYS = {
    PROPOSED: (),
    ACCEPTED: ("accept",),
    DECLINED: ("decline",),
    WITHDRAWN: ("withdraw",),
    TERMINATED: ("accept", "terminate"),
}


@pytest.fixture
def perform(replication: ContractInstance, vendor: AccountAPI, broker: TestAccountAPI) -> Callable[..., None]:
    """Propose agreement 1, and return a function that calls the contract from the broker's or the vendor's account."""
    replication.propose(PRODUCT, FIRST, EXPIRY, sender=broker)

    def do(verb: str, number: int = 1) -> None:
        arguments = named(replication, verb, number) + ((URI,) if verb == "announce" else ())
        getattr(replication, verb)(*arguments, sender=broker if verb in {"announce", "withdraw"} else vendor)

    return do


@pytest.mark.parametrize("status", WAYS)
def test_whatever_the_status_it_should_allow_just_the_steps_that_lead_on(
    replication: ContractInstance, perform: Callable[..., None], status: int
) -> None:
    """In each status of an agreement, only the allowed calls succeed; the others revert with the status."""
    for verb in WAYS[status]:
        perform(verb)
    for verb in CALLS:
        if verb in ALLOWED.get(status, ()):
            with ape.chain.isolate():
                perform(verb)
        else:
            with ape.reverts(replication.WrongAgreementStatus, id=1, status=status):
                perform(verb)
    assert replication.agreement(1).status == status


@pytest.mark.parametrize("verb", CALLS)
def test_when_there_is_no_such_agreement_it_should_refuse(
    replication: ContractInstance, perform: Callable[..., None], verb: str
) -> None:
    """Calls on an agreement number that does not exist are refused."""
    for number in (0, 2):
        with ape.reverts(replication.AgreementUnknown, id=number):
            perform(verb, number)
