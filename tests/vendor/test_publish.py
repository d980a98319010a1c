"""Publishing releases and manifests, raising floors, and revoking releases, on a real contract."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockota.bindings.block_ota import argument_release, floor_call, publish_call, revoke_call
from blockota.errors import Action, ContentError, ContractRefusalError, RefusedError, StoreError, UsageError
from blockota.formats.abi import interface
from blockota.model.draft import GRACE, Draft, draft_manifest
from blockota.model.release import Product, Version
from blockota.stores.local import LocalStore
from blockota.vendor.description import read_manifest
from blockota.vendor.publish import find_floor, propose_floor, propose_releases, propose_revocation
from tests.conftest import REASON, Vendor
from tests.support.samples import FLASH, NOW, code, release_of

VERSION = Version(1, 1, 0)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


def test_several_releases_are_one_proposal(vendor: Vendor, product: Product, store: LocalStore) -> None:
    """One proposal can publish several releases, and all of their images are in the store."""
    drafts = [Draft(product.name, Version(1, minor, 0), code(64 + minor)) for minor in (1, 2, 3)]
    releases, proposal = propose_releases(vendor.contract, drafts, store=store, reason=REASON)
    assert proposal.data == publish_call(releases)
    assert [release.version for release in releases] == [draft.version for draft in drafts]
    assert [b"".join(store.open(release.cid)) for release in releases] == [draft.image for draft in drafts]


UNPUBLISHABLE: dict[str, tuple[dict[str, Any], str]] = {
    "older": ({"version": Version(1, 0, 9)}, "is not newer"),
    "same-image": ({"image": code()}, "already published"),
    "outside": ({"load_address": FLASH.end}, "does not fit the region"),
    "empty": ({"image": b""}, "is empty"),
    "unpaired": ({"product": "acme-thermo3"}, "is not paired"),
    "past": ({"active_from": NOW - GRACE - 1}, "activation time of"),
    "data": ({"image": bytes(64)}, "no plausible vector table"),
    "notes": ({"notes": "\x1b"}, "cannot be shown safely"),
}


@pytest.mark.parametrize("name", UNPUBLISHABLE)
def test_where_one_release_is_refused_none_is_stored(
    vendor: Vendor, product: Product, store: LocalStore, name: str
) -> None:
    """If one of several releases is refused, no image is stored."""
    changes, sentence = UNPUBLISHABLE[name]
    good = Draft(product.name, VERSION, code(), notes="good")
    bad = replace(Draft(product.name, Version(1, 2, 0), code(65)), **changes)
    with pytest.raises(RefusedError, match=sentence):
        propose_releases(vendor.contract, [good, bad], store=store, reason=REASON)
    assert not store.folder.exists()


def test_a_manifest_is_stored_beside_the_image(vendor: Vendor, product: Product, store: LocalStore) -> None:
    """A release's manifest is found through the contract's event and verified when it is read."""
    draft = Draft(product.name, VERSION, code(), notes="Fixes the clock.", metadata=(("commit", "4f2a"),))
    (release,), proposal = propose_releases(vendor.contract, [draft], store=store, reason=REASON)
    vendor.decide(proposal.data)
    found = vendor.contract.release(product.name, VERSION)
    assert found is not None
    address = vendor.contract.manifest_address(found)
    assert address is not None
    manifest = read_manifest(store, address, release=found)
    assert manifest == draft_manifest(draft, release)
    with pytest.raises(RefusedError, match=f"not about {product.name} 1.2.0"):
        read_manifest(store, address, release=replace(found, version=Version(1, 2, 0)))
    with pytest.raises(StoreError, match="does not have"):
        read_manifest(LocalStore(store.folder / "other"), address, release=found)
    next(store.folder.glob(f"blocks/*/{address}")).write_bytes(b"{}")
    with pytest.raises(ContentError, match="corrupt"):
        read_manifest(store, address, release=found)


@pytest.mark.parametrize("manifest", [None, bytes(31) + b"\1"], ids=["without", "with"])
def test_an_argument_is_read_as_it_was_written(manifest: bytes | None) -> None:
    """All fields of a release except the chip id are read back from the calldata that publishes it."""
    release = release_of(code(), active_from=NOW, manifest=manifest)
    decoded = interface("BlockOTA").decode_call(publish_call([release]))
    assert decoded is not None
    (argument,) = decoded.arguments["releases"]
    assert argument_release(argument) == replace(release, chip_id=0)
    assert argument_release(argument | {"version": 0}) is None


def test_a_release_without_notes_has_no_manifest(vendor: Vendor, product: Product) -> None:
    """A release without notes has no manifest. If the publication event is missing, an error is raised."""
    release = release_of(code(), product=product.name)
    with pytest.raises(RefusedError, match=r"the event that published .* 1\.1\.0 cannot be found"):
        vendor.contract.manifest_address(release)
    vendor.decide(publish_call([release]))
    assert vendor.contract.manifest_address(release) is None


def test_a_floor_lists_what_it_excludes(vendor: Vendor, product: Product) -> None:
    """The proposal of a new floor (minimum version) lists the excluded releases; excluding all needs consent."""
    versions = [Version(1, minor, 0) for minor in (1, 2, 3)]
    images = [release_of(code(64 + v.minor), product=product.name, version=v) for v in versions]
    vendor.decide(publish_call(images))
    vendor.decide(revoke_call(product.name, versions[0], reason="x"))
    floor = find_floor(vendor.contract, product.name, version=versions[2])
    assert ([r.version for r in floor.excluded], [r.version for r in floor.allowed]) == ([versions[1]], [versions[2]])
    vendor.decide(propose_floor(vendor.contract, floor, reason=REASON).data)
    high = find_floor(vendor.contract, product.name, version=Version(2, 0, 0))
    assert [r.version for r in high.excluded] == [versions[2]]
    with pytest.raises(RefusedError, match=r"exclude every release .* newest release is 1\.3\.0") as refused:
        propose_floor(vendor.contract, high, reason=REASON)
    assert refused.value.action is Action.PUBLISH_BELOW_NEWEST
    meant = propose_floor(vendor.contract, high, reason=REASON, above_newest=True)
    assert meant.data == floor_call(product.name, high.version)
    with pytest.raises(ContractRefusalError, match=r"the floor is 1\.3\.0, and can only be raised"):
        propose_floor(vendor.contract, floor, reason=REASON, above_newest=True)


def test_a_revocation_has_a_reason(vendor: Vendor, product: Product) -> None:
    """A revocation without a reason is refused, and the transaction records the reason."""
    vendor.decide(publish_call([release_of(code(), product=product.name)]))
    for text in ("", " "):
        with pytest.raises(UsageError, match="cannot be revoked without a reason"):
            propose_revocation(vendor.contract, product.name, version=VERSION, reason=replace(REASON, text=text))
    reason = replace(REASON, text="reboots")
    proposal = propose_revocation(vendor.contract, product.name, version=VERSION, reason=reason)
    assert proposal.data == revoke_call(product.name, VERSION, reason="reboots")
