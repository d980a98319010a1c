"""Proposals for a real contract, and the check of images before signing."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from blockota.bindings.block_ota import pair_call, publish_call
from blockota.bindings.replication import ReplicationContract
from blockota.bindings.safe import read_safe
from blockota.chain import Chain
from blockota.errors import Action, ContractRefusalError, ProposalError, RefusedError, UsageError
from blockota.formats.cid import CHUNK_SIZE, cid_of
from blockota.model.draft import Draft, draft_release
from blockota.model.release import Product, Region, Release, Version
from blockota.stores.local import LocalStore
from blockota.vendor.deploy import deploy
from blockota.vendor.images import check_image
from blockota.vendor.propose import Reason, propose
from blockota.vendor.publish import propose_releases
from blockota.vendor.view import Desk, read_view
from tests.conftest import REASON, Cast, Vendor
from tests.support.networks import rpc
from tests.support.samples import FLASH, NOW, PRODUCT, code, proposal_with, release_of

# Importing safe-eth-py would take half a second, in each worker that collects the tests.
ABIS = Path(str(distribution("safe-eth-py").locate_file("safe_eth/eth/contracts/abis")))
LARGE = code(CHUNK_SIZE + 1)
LARGE_ROOT = cid_of(io.BytesIO(LARGE)).digest
VERSION = Version(1, 1, 0)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


def test_a_draft_becomes_a_record() -> None:
    """A release record contains SHA-256 and size of the image, and address and chip of the product."""
    assert draft_release(Draft(PRODUCT.name, VERSION, code()), PRODUCT) == release_of(code())
    elsewhere = Draft(PRODUCT.name, VERSION, code(), load_address=FLASH.start + 1024, active_from=NOW)
    assert draft_release(elsewhere, PRODUCT) == release_of(code(), load_address=FLASH.start + 1024, active_from=NOW)


@pytest.mark.parametrize(("size", "root"), [(CHUNK_SIZE, None), (CHUNK_SIZE + 1, LARGE_ROOT)])
def test_only_a_large_image_names_its_tree(size: int, root: bytes | None) -> None:
    """Only the record of an image above 1 MiB has a DAG root."""
    release = draft_release(Draft(PRODUCT.name, VERSION, code(size)), PRODUCT)
    assert (release.dag_root, release.cid) == (root, cid_of(io.BytesIO(code(size))))


def test_an_empty_image_is_refused() -> None:
    """An empty image is refused when a release is drafted."""
    with pytest.raises(RefusedError, match=r"the image is empty: it has 0 bytes\. Publish the built image"):
        draft_release(Draft(PRODUCT.name, VERSION, b""), PRODUCT)


def test_a_release_is_proposed_and_stored(vendor: Vendor, product: Product, store: LocalStore) -> None:
    """The proposal of a release has the Safe's next nonce and an expiry, and the image is in the store."""
    draft = Draft(product.name, VERSION, code(70))
    (release,), proposal = propose_releases(vendor.contract, [draft], store=store, reason=REASON)
    state = read_safe(vendor.chain, vendor.safe)
    assert (proposal.nonce, proposal.safe, proposal.chain_id) == (state.nonce, vendor.safe, 1337)
    assert (proposal.created, proposal.expires, proposal.reason) == (NOW, NOW + REASON.lifetime, REASON.text)
    assert proposal.data == publish_call([release])
    assert b"".join(store.open(release.cid)) == code(70)


def test_a_nonce_may_be_chosen(vendor: Vendor, product: Product) -> None:
    """The nonce of a proposal can be chosen, so that several proposals can be prepared in advance."""
    reason = Reason("later", NOW, 60, nonce=99)
    assert propose(vendor.contract, pair_call(product), reason=reason).nonce == 99


def test_a_proposal_is_queued_behind_those_that_wait(vendor: Vendor, product: Product) -> None:
    """By default, a proposal's nonce is the next after the Safe's waiting, unexpired proposals."""
    call = pair_call(product)
    first = propose(vendor.contract, call, reason=REASON)
    others = {
        "ahead.json": replace(first, nonce=first.nonce + 2),
        "foreign.json": replace(first, nonce=99, chain_id=1),
        "expired.json": replace(first, nonce=99, expires=NOW),
        "executed.json": replace(first, nonce=0),
    }
    queued = replace(REASON, queued={"first.json": first, **others})
    assert propose(vendor.contract, call, reason=queued).nonce == first.nonce + 3
    assert propose(vendor.contract, call, reason=replace(queued, nonce=first.nonce)).nonce == first.nonce


def test_a_release_that_the_contract_refuses_is_not_stored(vendor: Vendor, product: Product, store: LocalStore) -> None:
    """An image is not stored if the contract would refuse its release."""
    draft = Draft(product.name, VERSION, code(), load_address=FLASH.end)
    with pytest.raises(ContractRefusalError, match="does not fit the region"):
        propose_releases(vendor.contract, [draft], store=store, reason=REASON)
    assert not store.folder.exists()


def test_an_unpaired_product_is_refused_with_a_list_of_products(
    vendor: Vendor, product: Product, store: LocalStore
) -> None:
    """The error for an unpaired product lists the paired products."""
    with pytest.raises(RefusedError, match=r"acme-thermo3 is not paired .*products are: \S") as refused:
        propose_releases(vendor.contract, [Draft("acme-thermo3", VERSION, code())], store=store, reason=REASON)
    assert refused.value.action is Action.PAIR_PRODUCT
    assert vendor.contract.paired_product(product.name) == product


@pytest.mark.parametrize("changes", [{"chip_id": 1 << 16}, {"region": Region(FLASH.start, 1 << 32)}])
def test_an_invalid_pairing_is_refused(changes: dict[str, Any]) -> None:
    """A chip id above 16 bits, or a region size above 32 bits, is refused with exit status 2."""
    with pytest.raises(UsageError, match="the arguments of pairOem cannot be encoded"):
        pair_call(replace(PRODUCT, **changes))


def check(release: Release, image: bytes, *, on_progress: Callable[[int], None] = lambda _: None) -> None:
    """Check an image against the calldata of a proposal that publishes the release."""
    (argument,) = proposal_with(data=publish_call([release])).releases
    check_image(argument, io.BytesIO(image), on_progress=on_progress)


@pytest.mark.parametrize("image", [code(), LARGE], ids=["small", "large"])
def test_an_owner_checks_the_image(image: bytes) -> None:
    """The image of a proposal passes the owner's check, which reports every byte as progress."""
    progress: list[int] = []
    root = cid_of(io.BytesIO(image)).digest if len(image) > CHUNK_SIZE else None
    check(release_of(image, dag_root=root), image, on_progress=progress.append)
    assert progress[-1] == len(image)


@pytest.mark.parametrize("image", [b"", code(63), code(65), code()[:-1] + b"\0"])
def test_an_owner_does_not_sign_for_another_image(image: bytes) -> None:
    """An image that differs from the proposed image is refused with the sizes and SHA-256 digests of both images."""
    with pytest.raises(ProposalError, match="not the one in the proposal") as refused:
        check(release_of(code()), image)
    digest = hashlib.sha256(image).hexdigest()
    assert refused.value.why.startswith(f"the image has {len(image):,} bytes with SHA-256 {digest}")
    assert release_of(code()).sha256.hex() in refused.value.why


@pytest.mark.parametrize(
    ("release", "image", "message"),
    [
        (release_of(code(), size=65), code(), r"has 64 bytes .* the proposal has 65 bytes"),
        (release_of(LARGE, dag_root=bytes(31) + b"\1"), LARGE, r"wrong content address: .* Do not sign"),
        (release_of(LARGE, dag_root=LARGE_ROOT[:-1] + b"\0"), LARGE, r"wrong content address: .* Do not sign"),
    ],
    ids=["size", "tree", "last byte of the tree"],
)
def test_an_owner_does_not_sign_for_a_wrong_record(release: Release, image: bytes, message: str) -> None:
    """A proposal whose size or DAG root does not match the image is refused."""
    with pytest.raises(ProposalError, match=message):
        check(release, image)


def test_a_contract_is_deployed_for_a_safe_only(anvil: Chain, vendor: Vendor, cast: Cast) -> None:
    """The contracts are deployed for a Safe, and an account in place of the Safe is refused."""
    deployment = deploy(anvil, cast.payer, safe=vendor.safe)
    state = read_safe(anvil, vendor.safe)
    assert (deployment.safe, deployment.threshold, tuple(deployment.owners)) == (vendor.safe, 2, state.owners)
    assert anvil.has_code(deployment.contract)
    assert ReplicationContract(anvil, deployment.replication).block_ota() == deployment.contract
    before = anvil.head().number
    assert deployment.block_number == before - 1
    with pytest.raises(RefusedError, match="no Safe at"):
        deploy(anvil, cast.payer, safe=cast.mallory.address)
    assert anvil.head().number == before


@pytest.fixture
def restored(vendor: Vendor) -> Iterator[Chain]:
    """Yield the vendor's chain, and restore its state after the test."""
    snapshot = rpc(vendor.chain, "evm_snapshot")
    yield vendor.chain
    rpc(vendor.chain, "evm_revert", snapshot)


def test_a_safe_of_an_old_version_is_refused(restored: Chain, vendor: Vendor, cast: Cast) -> None:
    """A Safe older than 1.3.0 is refused as owner of the contracts, because its EIP-712 domain has no chain id."""
    for version in ("V1_1_1", "V1_3_0"):
        abi = json.loads((ABIS / f"GnosisSafe_{version}.json").read_text())
        singleton = restored.send(cast.payer, bytes.fromhex(abi["bytecode"][2:])).contract
        assert singleton is not None
        rpc(restored, "anvil_setStorageAt", vendor.safe, f"0x{0:064x}", f"0x{int(singleton, 16):064x}")
        if version == "V1_1_1":
            with pytest.raises(RefusedError, match=r"cannot own the contracts: its version is 1\.1\.1"):
                deploy(restored, cast.payer, safe=vendor.safe)
    assert deploy(restored, cast.payer, safe=vendor.safe).safe == vendor.safe


def test_a_safe_with_too_few_keys_is_refused(restored: Chain, vendor: Vendor, cast: Cast) -> None:
    """A Safe is refused as owner of the contracts if fewer of its owners than the threshold have a key."""
    delegation = "0xef0100" + vendor.safe[2:]
    for owner, found in ((cast.owner_a, "0x00"), (cast.owner_b, delegation)):
        rpc(restored, "anvil_setCode", owner.address, found)
    assert read_view(Desk(vendor.contract.chain, contract=vendor.contract)).contract_owners == (cast.owner_a.address,)
    deploy(restored, cast.payer, safe=vendor.safe)
    rpc(restored, "anvil_setCode", cast.owner_b.address, "0x00")
    with pytest.raises(RefusedError, match="2 owners must sign, and only 1 of 3 have a key"):
        deploy(restored, cast.payer, safe=vendor.safe)
