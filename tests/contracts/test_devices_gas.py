"""Upper limits for the gas of registering and banning a device."""

from __future__ import annotations

from dataclasses import replace

from ape.api import AccountAPI, TestAccountAPI

from tests.contracts.test_devices import REASON, THING, Registry, registry
from tests.support.identities import p256_key

__all__ = ["registry"]
REGISTER, WITH_A_KEY, BAN = 240_000, 290_000, 35_000
ALIAS = "acme/thermo2/SN-000001"


def test_a_device_should_cost_at_most_the_limit(
    registry: Registry, vendor: AccountAPI, owner_a: TestAccountAPI
) -> None:
    """Registering a device with an alias of 22 bytes and a nonce of 16 bytes, and banning it, stay below gas limits."""
    plain = replace(THING, nonce=bytes(range(16)), aliases=(ALIAS,))
    keyed = replace(plain, nonce=bytes(range(1, 17)), aliases=(ALIAS[:-1] + "2",), key=p256_key(1))
    assert registry.register(plain, owner_a).gas_used <= REGISTER
    assert registry.register(keyed, owner_a).gas_used <= WITH_A_KEY
    assert registry.contract.ban(256, REASON, sender=vendor).gas_used <= BAN
