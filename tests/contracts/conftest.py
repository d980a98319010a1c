"""Fixtures of the contract tests: a local chain (anvil), its accounts, and the contracts, which are called by Ape.

Run the tests with ``.venv/bin/pytest tests/contracts -p no:ape_test`` or ``.venv/bin/ape test tests/contracts``.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ape
import pytest
from ape.api import AccountAPI, TestAccountAPI
from ape.contracts import ContractContainer, ContractInstance
from ape.logging import logger
from eth_account import Account
from ethpm_types import Bytecode, ContractType

from blockota.bindings.identities import enrolment_argument
from blockota.model.identity import IdentityKind
from scripts.compilation import CONTRACTS
from tests.support.identities import UUIDS, enrolment_of
from tests.support.waiting import eventually

CLONE = Path(__file__).resolve().parents[2]
ARTIFACTS = CLONE / "blockota/artifacts"
SAFE_ARTIFACTS = CLONE / "node_modules/@safe-global/safe-smart-account/build/artifacts/contracts"
NO_ADDRESS = "0x0000000000000000000000000000000000000000"
PRODUCT = b"acme-thermo2".ljust(32, b"\0")
OEM = b"ACME".ljust(32, b"\0")
CHIP_ID, FLASH_START, FLASH_SIZE = 0x0410, 0x0800_0000, 0x1_0000

MakeRelease = Callable[..., dict[str, Any]]
Refused = Callable[..., Any]
Contracts = Mapping[str, ContractContainer]
"""The contracts by name, which are deployed by Ape."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """If tests of this folder are selected, start anvil before Ape's plugin searches for a running node."""
    here = Path(__file__).parent
    if "APE_FOUNDRY_HOST" in os.environ or not any(here in item.path.parents for item in session.items):
        return
    binary = next((CLONE / "node_modules/@foundry-rs").glob("anvil-*/bin/anvil"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(binary), "--chain-id", "1337", "--prune-history", "256", "--port", str(port), "--silent"]
    if "BLOCKOTA_MUTANTS" in os.environ:  # mutants are compiled without the optimizer, and can exceed the limit
        command.append("--disable-code-size-limit")
    anvil = subprocess.Popen(command)
    session.config.add_cleanup(anvil.kill)
    eventually(lambda: _is_open(port), what=f"a connection to port {port}")
    os.environ["APE_FOUNDRY_HOST"] = f"http://127.0.0.1:{port}"
    # Otherwise requests searches all environment variables for proxies, in each of some ten thousand requests.
    os.environ["no_proxy"] = "127.0.0.1"


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Safe:
    """A 2-of-3 Safe.

    Attributes:
        contract: the proxy contract of the Safe.
        owners: the accounts that own the Safe.
    """

    contract: ContractInstance
    owners: tuple[TestAccountAPI, ...]

    def execute(self, target: ContractInstance, calldata: bytes, *, sender: AccountAPI, signatures: int = 2) -> Any:
        """Execute a call through the Safe with the signatures of its first owners; return the receipt."""
        call = (target.address, 0, calldata, 0, 0, 0, 0, NO_ADDRESS, NO_ADDRESS)
        digest = self.contract.getTransactionHash(*call, self.contract.call_view_method("nonce"))
        signers = sorted(self.owners[:signatures], key=lambda owner: int(owner.address, 16))
        signed = b"".join(Account.unsafe_sign_hash(digest, owner.private_key).signature for owner in signers)
        return self.contract.execTransaction(*call, signed, sender=sender)


@pytest.fixture(scope="session", autouse=True)
def network() -> Iterator[None]:
    """Connect Ape to the local chain."""
    logger.set_level("ERROR")
    with ape.networks.parse_network_choice("ethereum:local:foundry"):
        yield


@pytest.fixture(scope="session")
def contracts() -> Contracts:
    """The contracts as the package ships them; `test_artifacts.py` compares them with the sources."""
    artifacts = [json.loads((ARTIFACTS / f"{name}.json").read_text()) for name in CONTRACTS]
    return {one["contractName"]: _container(one) for one in artifacts}


@pytest.fixture(scope="session")
def cast() -> list[TestAccountAPI]:
    """The test accounts: three owners of the Safe, a broker, a technician, an attacker and one more account."""
    everybody = [ape.accounts.test_accounts[number] for number in range(7)]
    # Otherwise Ape derives all keys again for each address lookup, which takes half of the time of these tests.
    ape.config.test.number_of_accounts = 0
    return everybody


@pytest.fixture(scope="session")
def owner_a(cast: list[TestAccountAPI]) -> TestAccountAPI:
    """An owner of the vendor's Safe."""
    return cast[0]


@pytest.fixture(scope="session")
def owner_b(cast: list[TestAccountAPI]) -> TestAccountAPI:
    """An owner of the vendor's Safe."""
    return cast[1]


@pytest.fixture(scope="session")
def owner_c(cast: list[TestAccountAPI]) -> TestAccountAPI:
    """An owner of the vendor's Safe."""
    return cast[2]


@pytest.fixture(scope="session")
def broker(cast: list[TestAccountAPI]) -> TestAccountAPI:
    """The account of a broker, a third party that serves copies of images."""
    return cast[3]


@pytest.fixture(scope="session")
def technician(cast: list[TestAccountAPI]) -> TestAccountAPI:
    """The account of a technician, who only reads the contracts."""
    return cast[4]


@pytest.fixture(scope="session")
def mallory(cast: list[TestAccountAPI]) -> TestAccountAPI:
    """An attacker's account."""
    return cast[5]


@pytest.fixture(scope="session")
def safe(owner_a: TestAccountAPI, owner_b: TestAccountAPI, owner_c: TestAccountAPI) -> Safe:
    """The vendor's Safe, deployed from the contract artifacts of the npm package."""
    owners = (owner_a, owner_b, owner_c)
    singleton = _safe_artifact("Safe").deploy(sender=owner_a)
    factory = _safe_artifact("SafeProxyFactory", folder="proxies").deploy(sender=owner_a)
    setup = singleton.setup.encode_input(owners, 2, NO_ADDRESS, b"", NO_ADDRESS, NO_ADDRESS, 0, NO_ADDRESS)
    receipt = factory.createProxyWithNonce(singleton, setup, 0, sender=owner_a)
    (creation,) = receipt.decode_logs(factory.ProxyCreation)
    return Safe(ape.Contract(creation.proxy, contract_type=singleton.contract_type), owners)


@pytest.fixture(scope="session")
def vendor(safe: Safe) -> AccountAPI:
    """The Safe as an impersonated account, whose calls need no signatures, unlike those of `Safe.execute`."""
    safe.contract.provider.set_balance(safe.contract.address, 10**20)
    return ape.accounts.test_accounts.impersonate_account(safe.contract.address)


@pytest.fixture(scope="session")
def deployed(contracts: Contracts, safe: Safe, owner_a: TestAccountAPI) -> ContractInstance:
    """Deploy BlockOTA without a product."""
    return contracts["BlockOTA"].deploy(safe.contract, sender=owner_a)


@pytest.fixture
def empty(deployed: ContractInstance) -> Iterator[ContractInstance]:
    """BlockOTA without a product; after each test, the chain is reset to the state before the test."""
    snapshot = ape.chain.snapshot()
    yield deployed
    ape.chain.restore(snapshot)


@pytest.fixture
def block_ota(empty: ContractInstance, vendor: AccountAPI) -> ContractInstance:
    """BlockOTA with one paired product."""
    _send(vendor, empty, empty.pairOem.encode_input(PRODUCT, OEM, CHIP_ID, FLASH_START, FLASH_SIZE))
    return empty


def _send(sender: AccountAPI, contract: ContractInstance, calldata: bytes) -> None:
    """Send a transaction of an unlocked account, and wait for its block.

    The function needs 2 requests; Ape needs about 15 requests to send a transaction.
    """
    node = contract.provider
    fields = {"from": sender.address, "to": contract.address, "data": f"0x{calldata.hex()}"}
    number = node.make_request("eth_sendTransaction", [fields])
    receipt = eventually(lambda: node.make_request("eth_getTransactionReceipt", [number]), what="the receipt")
    assert int(receipt["status"], 16) == 1


@pytest.fixture(scope="session")
def replication_deployed(contracts: Contracts, deployed: ContractInstance, owner_a: TestAccountAPI) -> ContractInstance:
    """Deploy FirmwareReplication for this BlockOTA."""
    return contracts["FirmwareReplication"].deploy(deployed, sender=owner_a)


@pytest.fixture
def replication(
    replication_deployed: ContractInstance, block_ota: ContractInstance, vendor: AccountAPI, make_release: MakeRelease
) -> ContractInstance:
    """FirmwareReplication without an agreement; releases 1 and 2 are published."""
    _send(vendor, block_ota, block_ota.publish.encode_input([make_release(1), make_release(2)]))
    return replication_deployed


@pytest.fixture(scope="session")
def product() -> bytes:
    """The name of the product that is paired in `block_ota`."""
    return PRODUCT


@pytest.fixture(scope="session")
def oem() -> bytes:
    """The name of the paired product's OEM."""
    return OEM


@pytest.fixture(scope="session")
def make_release() -> MakeRelease:
    """Return a function that makes the argument of `publish` for release n, with version 1.n.0 and its own image."""

    def make(number: int = 1, **changes: Any) -> dict[str, Any]:
        """Return a release of 60,000 bytes at the start of the region, with the given changes."""
        return {
            "product": PRODUCT,
            "version": 1 << 48 | number << 24,
            "sha256": hashlib.sha256(b"image %d" % number).digest(),
            "size": 60_000,
            "loadAddress": FLASH_START,
            "activeFrom": 0,
            "dagRoot": bytes(32),
            "manifest": hashlib.sha256(b"manifest %d" % number).digest(),
        } | changes

    return make


def _safe_artifact(name: str, *, folder: str = "") -> ContractContainer:
    return _container(json.loads((SAFE_ARTIFACTS / folder / f"{name}.sol" / f"{name}.json").read_text()))


def _container(artifact: dict[str, Any]) -> ContractContainer:
    return ContractContainer(
        ContractType(
            contractName=artifact["contractName"],
            abi=artifact["abi"],
            deploymentBytecode=Bytecode(bytecode=artifact["bytecode"]),
        )
    )


@dataclass(frozen=True)
class City:
    """The contracts of a city, with a gateway, an Administrator, an Operator and a second gateway.

    Attributes:
        ledger: UpdateLedger.
        orders: UpdateOrders.
        accounts: the accounts of the gateway, Administrator, Operator and second gateway; their UUIDs are
            `identities.UUIDS`.
    """

    identities: ContractInstance
    devices: ContractInstance
    ledger: ContractInstance
    orders: ContractInstance
    accounts: tuple[TestAccountAPI, ...]


@pytest.fixture(scope="session")
def city_deployed(
    contracts: Contracts, owner_a: TestAccountAPI, vendor: AccountAPI, cast: list[TestAccountAPI]
) -> City:
    """Deploy the contracts of a city; the vendor's Safe owns them.

    Each of the two gateways has two blocks of 256 device numbers. The first gateway has the devices 256 to 767, and the
    second gateway the devices 768 to 1279.
    """
    identities = contracts["IdentityRegistry"].deploy(vendor.address, sender=owner_a)
    devices = contracts["DeviceRegistry"].deploy(vendor.address, identities, sender=owner_a)
    ledger = contracts["UpdateLedger"].deploy(identities, devices, sender=owner_a)
    orders = contracts["UpdateOrders"].deploy(identities, devices, sender=owner_a)
    kinds = (IdentityKind.GATEWAY, IdentityKind.ADMINISTRATOR, IdentityKind.OPERATOR, IdentityKind.GATEWAY)
    enrolments = [
        enrolment_argument(enrolment_of(number, kind, account=cast[3 + number].address))
        for number, kind in enumerate(kinds)
    ]
    _send(vendor, identities, identities.enrolAll.encode_input(enrolments))
    for number in (0, 3):
        _send(vendor, devices, devices.giveBlocks.encode_input(UUIDS[number].bytes, 2))
    return City(identities, devices, ledger, orders, tuple(cast[3:7]))


@pytest.fixture
def city(city_deployed: City) -> Iterator[City]:
    """The contracts of a city; after each test, the chain is reset to the state before the test."""
    snapshot = ape.chain.snapshot()
    yield city_deployed
    ape.chain.restore(snapshot)
