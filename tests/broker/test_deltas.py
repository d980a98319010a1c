"""As soon as a broker has the manifest of a release, the broker stores the deltas in the manifest's list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from blockota.bindings.replication import ReplicationContract
from blockota.broker.copies import Copies
from blockota.broker.plan import Facts
from blockota.broker.state import BrokerState
from blockota.broker.sync import BrokerSync
from blockota.formats.cid import CID
from blockota.model.draft import Patch
from blockota.model.manifest import Manifest
from blockota.model.release import Status, Version
from blockota.stores.local import LocalStore
from tests.broker.test_full_disk import FixedReader, agreed
from tests.support.hostile_gateway import serving
from tests.support.samples import NOW, code, release_of

IMAGE, OLD = code(640), release_of(code(600), version=Version(1, 0, 0))
RELEASE = release_of(IMAGE, version=Version(1, 1, 0))
PATCH = Patch.of(OLD, b"a patch", compression="crle")
MANIFEST = Manifest(*(RELEASE.product, RELEASE.version, RELEASE.sha256, RELEASE.size), deltas=(PATCH.delta,))
FOREIGN = replace(MANIFEST, version=Version(9, 0, 0))
"""A manifest of another release, which lists the same delta."""


class WithManifest(FixedReader):
    """A reader that returns one agreement about a release with a manifest."""

    def __init__(self, manifest: Manifest, *, status: Status = Status.ACTIVE) -> None:
        one = agreed(1, IMAGE)
        release = replace(one.claim.release, status=status)
        self._fixed = Facts(NOW, (replace(one, claim=replace(one.claim, release=release, manifest=manifest.cid)),))


def files(manifest: Manifest) -> dict[CID, bytes]:
    """Return the files of the release, as a vendor serves them."""
    return {RELEASE.cid: IMAGE, manifest.cid: manifest.to_json(), PATCH.delta.cid: PATCH.data}


def rounds(folder: Path, *readers: FixedReader, served: dict[CID, bytes]) -> tuple[list[list[str]], set[CID]]:
    """Run sync rounds of a broker; return the steps of each round, and the files stored at the end."""
    store, found = LocalStore(folder / "store"), []
    with serving(served) as vendor:
        for reader in readers:
            with BrokerState(folder / "state", {}) as state:
                broker = BrokerSync(
                    reader,
                    Copies(store, folder / "arrivals"),
                    state,
                    ReplicationContract.__new__(ReplicationContract),
                    sources=(vendor.url,),
                    allow_private=True,
                )
                found.append([f"{done.verb} {done.subject}" for done in broker.round(NOW)])
    return found, set(store.pins())


def test_deltas_are_fetched_with_their_manifest(tmp_path: Path) -> None:
    """The first sync round fetches image, manifest and delta, and the next round has no steps.

    When a release is dropped, all of its files are dropped.
    """
    gone = WithManifest(MANIFEST, status=Status.REVOKED)
    reader = WithManifest(MANIFEST)
    (first, second), kept = rounds(tmp_path, reader, reader, served=files(MANIFEST))
    delta = "delta of acme-thermo2 1.1.0 from 1.0.0"
    assert [step for step in first if delta in step] == [f"fetched {delta}", f"pinned {delta}"]
    assert (len(first), second) == (6, [])
    assert kept == {RELEASE.cid, MANIFEST.cid, PATCH.delta.cid}
    (last,), kept = rounds(tmp_path, gone, served={})
    assert f"dropped {delta}" in last
    assert (len(last), kept) == (3, set())


def test_a_foreign_manifest_names_nothing(tmp_path: Path) -> None:
    """If a manifest belongs to another release, its deltas are not stored."""
    (steps,), kept = rounds(tmp_path, WithManifest(FOREIGN), served=files(FOREIGN))
    assert len(steps) == 4
    assert PATCH.delta.cid not in kept


def test_a_missing_delta_does_not_hinder_the_image(tmp_path: Path) -> None:
    """If a delta has no source, the step of the delta fails, but the image and the manifest are stored."""
    served = {cid: data for cid, data in files(MANIFEST).items() if cid != PATCH.delta.cid}
    (steps,), kept = rounds(tmp_path, WithManifest(MANIFEST), served=served)
    assert steps[-1] == "fetch delta of acme-thermo2 1.1.0 from 1.0.0"
    assert kept == {RELEASE.cid, MANIFEST.cid}
