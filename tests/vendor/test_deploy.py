"""The contracts of the consortium and of a city are deployed for a Safe, and refer to each other."""

from __future__ import annotations

import pytest

from blockota.bindings.contract import registry_at
from blockota.deployment import Deployment
from blockota.errors import RefusedError
from blockota.formats.abi import interface
from blockota.vendor.deploy import PARTS, deploy_part
from tests.conftest import Vendor
from tests.support.samples import CONTRACT, SAFE


def address_of(vendor: Vendor, contract: str, getter: str, *, at: str) -> str:
    """Return the address that a getter of a contract returns."""
    known = interface(contract)
    return str(known.decode_result(getter, vendor.chain.call(at, known.encode_call(getter))))


def test_the_contracts_of_a_city_belong_together(vendor: Vendor) -> None:
    """The Safe owns the registries, and the other contracts of the city refer to these registries."""
    made = deploy_part(vendor.chain, vendor.cast.payer, "city", safe=vendor.safe)
    found = made.registries
    assert set(found) == set(PARTS["city"])
    for setting in ("identities", "devices"):
        assert registry_at(vendor.chain, setting, found[setting]).owner() == vendor.safe
    for contract, setting in (("DeviceRegistry", "devices"), ("UpdateLedger", "ledger"), ("UpdateOrders", "orders")):
        assert address_of(vendor, contract, "identities", at=found[setting]) == found["identities"]
    assert (made.contract, made.address("contract"), made.safe) == ("", None, vendor.safe)
    assert made.safes == {"city": vendor.safe}


def test_a_deployment_grows_by_a_part(vendor: Vendor) -> None:
    """The consortium's contracts are added to a vendor's deployment, and the vendor's contracts remain the same."""
    known = Deployment(vendor.chain.chain_id, CONTRACT, SAFE, SAFE, [SAFE], 1, 5, registries={"configurations": SAFE})
    made = deploy_part(vendor.chain, vendor.cast.payer, "consortium", safe=vendor.safe, known=known)
    assert (made.contract, made.safe, made.block_number) == (CONTRACT, SAFE, 5)
    assert made.address("configurations") == SAFE
    assert registry_at(vendor.chain, "producers", made.registries["producers"]).owner() == vendor.safe


def test_an_account_cannot_own_the_contracts(vendor: Vendor) -> None:
    """Contracts are not deployed for an account in place of a Safe."""
    block = vendor.chain.head().number
    with pytest.raises(RefusedError, match="no Safe at"):
        deploy_part(vendor.chain, vendor.cast.payer, "city", safe=vendor.cast.mallory.address)
    assert vendor.chain.head().number == block
