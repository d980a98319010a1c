"""Upper limits for the gas of enrolling and banning identities."""

from __future__ import annotations

from ape.api import AccountAPI
from ape.contracts import ContractInstance

from blockota.formats.public_key import KeyKind, read_pem
from tests.contracts.test_identities import GATEWAY, REASON, argument, enrolled, identities, identities_deployed
from tests.formats.test_public_key import pem_of, rsa_key

__all__ = ["enrolled", "identities", "identities_deployed"]
ENROL_P256, ENROL_RSA_2048, BAN = 235_000, 305_000, 35_000


def test_when_identities_are_enrolled_it_should_cost_at_most_the_limit(
    enrolled: ContractInstance,
    vendor: AccountAPI,
) -> None:
    """Enrolling an identity with all keys and the next virtual IP, and banning it, stay below gas limits."""
    assert enrolled.enrol(argument(2), sender=vendor).gas_used <= ENROL_P256
    key = read_pem(pem_of(rsa_key(2048)))
    receipt = enrolled.enrol(argument(3, keyKind=KeyKind.RSA.value, key=key.data), sender=vendor)
    assert receipt.gas_used <= ENROL_RSA_2048
    assert enrolled.ban(GATEWAY, REASON, sender=vendor).gas_used <= BAN
