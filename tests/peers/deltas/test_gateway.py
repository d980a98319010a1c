"""A gateway applies each delta before offering the delta. Without a valid delta, devices get the whole image."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from blockota.formats.delta import make_patch
from blockota.gateway.facts import ProvenImage
from blockota.model.draft import Patch
from blockota.model.manifest import Manifest
from blockota.model.release import Release, Version
from blockota.stores.local import LocalStore
from blockota.vendor.example import PRODUCT
from tests.gateway.conftest import city
from tests.gateway.test_reading import Reader, component
from tests.support.city import City
from tests.support.samples import code

__all__ = ["city"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Return the store that all tests share, because they share one chain."""
    return LocalStore(tmp_path_factory.mktemp("store"))


@pytest.fixture
def reader(city: City, store: LocalStore, tmp_path: Path) -> Reader:
    """Return a new reader of the chain's releases."""
    return Reader(city, tmp_path, store)


def publish(city: City, store: LocalStore, version: str, image: bytes, *patches: Patch) -> Release:
    """Publish a release whose manifest lists deltas, and store its files."""
    facts = (PRODUCT.name, Version.parse(version), hashlib.sha256(image).digest(), len(image))
    manifest = Manifest(*facts, notes="notes", deltas=tuple(patch.delta for patch in patches))
    for file in (manifest.to_json(), *(patch.data for patch in patches)):
        store.put(io.BytesIO(file))
    return city.publish(version, image, store, manifest=manifest.cid.digest)


def newest(reader: Reader) -> ProvenImage | None:
    """Run the reader's steps three times, and return the image of the newest release."""
    for _ in range(3):
        reader.read()
        reader.find()
    return reader.read().components[component(reader.city)].releases[0].image


def test_a_delta_is_offered_after_it_made_the_image(city: City, store: LocalStore, reader: Reader) -> None:
    """The gateway finds the delta and its base, applies the delta, and passes the delta's file to the core."""
    city.register("SN-1")
    old, new = code(4000), code(4000, reset=0x0800_0011)
    base = publish(city, store, "1.0.0", old)
    compression, data = make_patch(old, new)
    publish(city, store, "1.1.0", new, Patch.of(base, data, compression=compression))
    image = newest(reader)
    assert image
    (delta,) = image.deltas
    assert (delta.base, delta.base_version, delta.format) == (base.sha256, base.version, "crle")
    assert delta.path.read_bytes() == data
    reader.catalogue.keep(reader.assembly.kept)
    assert delta.path.exists()

    # A delta that was spoiled on the disk is found again at the next start.
    delta.path.write_bytes(bytes(len(data)))
    again = Reader(city, reader.folder, store)
    assert not again.read().components[component(city)].releases[0].image.deltas  # type: ignore[union-attr]
    assert "is not the delta of the manifest" in " ".join(again.assembly.faults.values())
    found = newest(again)
    assert found
    assert found.deltas


def test_without_a_good_delta_the_whole_image_is_offered(city: City, store: LocalStore, reader: Reader) -> None:
    """A delta for another base, a delta that makes a wrong image, and bytes that are not a delta are not offered."""
    old, new = code(5000), code(5000, reset=0x0800_0021)
    base = publish(city, store, "2.0.0", old)
    compression, data = make_patch(code(5000, reset=0x0800_0031), new)
    publish(city, store, "2.1.0", new, Patch.of(base, data, compression=compression))
    image = newest(reader)
    assert image
    assert (image.path.read_bytes(), image.deltas) == (new, ())
    assert [why for name, why in reader.assembly.faults.items() if "delta" in name]

    third = code(5000, reset=0x0800_0041)
    publish(city, store, "2.2.0", third, Patch.of(base, b"\x02 not a patch", compression="crle"))
    image = newest(reader)
    assert image
    assert (image.path.read_bytes(), image.deltas) == (third, ())
