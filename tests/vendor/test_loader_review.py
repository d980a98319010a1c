"""The review of images for a loader: an owner's machine examines them and compares them with the previous release."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from blockota.approval.flags import Word
from blockota.bindings.block_ota import publish_call
from blockota.model.container import Container
from blockota.model.draft import Draft, draft_manifest, draft_release
from blockota.model.manifest import Manifest
from blockota.model.release import Region, Release, Version
from blockota.stores.local import LocalStore
from blockota.vendor.images import CheckedImage, ImageInputs
from blockota.vendor.review import Review, review_proposal
from blockota.vendor.screen import screen_of
from tests.support.mcuboot import KEY, OTHER_KEY, public_key, sign_image, unsigned_image
from tests.support.samples import NOW, PRODUCT, proposal_with
from tests.vendor.test_review import OWNERS, VIEW

SENSOR = replace(PRODUCT, name="acme-sensor", chip_id=0, region=Region(0, 1 << 20))


@dataclass(frozen=True)
class ImageCatalogue:
    """A store with releases of the sensor, and the file of the sensor's image key."""

    store: LocalStore
    key: Path

    def add(self, minor: int, *counters: int, container: Container = Container.MCUBOOT) -> Release:
        """Put the image and the manifest of release 1.`minor`.0 into the store, and return its record."""
        image = sign_image(unsigned_image(b"%d" % minor, *counters))
        draft = Draft(SENSOR.name, Version(1, minor, 0), image, container=container)
        release = draft_release(draft, SENSOR)
        manifest = draft_manifest(draft, release)
        assert manifest
        for file in (manifest.to_json(), image):
            self.store.put(io.BytesIO(file))
        return release

    def review(
        self, releases: Sequence[Release], newest: Sequence[Release] = (), *, floor: Version | None = None
    ) -> Review:
        """Review a proposal of releases."""
        view = replace(VIEW, products=(replace(SENSOR, minimum_version=floor),), newest=tuple(newest))
        inputs = ImageInputs(lambda: self.store, image_keys={SENSOR.name: self.key})
        proposal = proposal_with(data=publish_call(list(releases)))
        return review_proposal(proposal, view, inputs, is_required=True)


@pytest.fixture
def catalogue(tmp_path: Path) -> ImageCatalogue:
    """An empty store."""
    (tmp_path / "sensor.pem").write_text(public_key(KEY).pem)
    return ImageCatalogue(LocalStore(tmp_path / "store"), tmp_path / "sensor.pem")


def flags(review: Review) -> list[tuple[Word, str]]:
    """Return the red flags of a review."""
    return [(flag.word, flag.what) for flag in review.red_flags(signer=OWNERS[0], now=NOW) or []]


def test_the_first_release_shows_its_counter(catalogue: ImageCatalogue) -> None:
    """The security counter of a first release raises no flag."""
    review = catalogue.review([catalogue.add(0, 7)])
    assert flags(review) == []
    (rows,) = screen_of(review, now=NOW).changes
    assert (rows["security counter"], rows["image signed"]) == (
        7,
        "by the product's image key, which your settings name",
    )
    fields = review.images[0].fields
    assert (fields["securityCounter"], fields["previousSecurityCounter"], fields["signatureFault"]) == (7, None, "")


def test_releases_of_one_proposal_are_compared_with_each_other(catalogue: ImageCatalogue) -> None:
    """If a proposal has two releases, the second is compared with the first, not with the newest on the chain."""
    newest, first, second = catalogue.add(0, 1), catalogue.add(1, 1), catalogue.add(2, 2)
    ((word, what),) = flags(catalogue.review([first, second], [newest]))
    assert word is Word.COUNTER
    assert "acme-sensor 1.2.0 rises from 1 to 2" in what
    assert "could not return to 1.1.0" in what
    assert flags(catalogue.review([second], [newest], floor=Version(1, 1, 0))) == []


def test_a_counter_is_not_compared_with_an_image_that_is_missing(catalogue: ImageCatalogue, tmp_path: Path) -> None:
    """If the image of the newest release is missing, a flag reports that the counters cannot be compared."""
    elsewhere = replace(catalogue, store=LocalStore(tmp_path / "elsewhere"))
    newest, plain, counted = elsewhere.add(0, 1), catalogue.add(1), catalogue.add(2, 1)
    ((word, what),) = flags(catalogue.review([counted], [newest]))
    assert word is Word.COUNTER
    assert "is 1, and that of 1.0.0 is not known, because its image was not found" in what
    assert flags(catalogue.review([plain], [newest])) == []
    (rows,) = screen_of(catalogue.review([counted], [newest]), now=NOW).changes
    assert rows["security counter"] == "1, not known in 1.0.0"


def test_a_newest_release_without_a_counter_counts_as_0(catalogue: ImageCatalogue) -> None:
    """The first image with a counter raises a flag, because devices cannot return from it to one without a counter."""
    ((word, what),) = flags(catalogue.review([catalogue.add(1, 1)], [catalogue.add(0)]))
    assert (word, "rises from 0 to 1" in what) == (Word.COUNTER, True)


def test_another_container_hides_nothing(catalogue: ImageCatalogue) -> None:
    """An owner's machine reads counter and signature of an MCUboot image even if the proposer declares it opaque."""
    catalogue.key.write_text(public_key(OTHER_KEY).pem)
    review = catalogue.review([catalogue.add(1, 2, container=Container.OPAQUE)], [catalogue.add(0, 1)])
    assert [word for word, _ in flags(review)] == [Word.SIGNATURE, Word.COUNTER]


def test_a_false_manifest_is_found(catalogue: ImageCatalogue) -> None:
    """A flag is raised if the manifest's counter is lower than the image's; later releases are compared with it."""
    release = catalogue.add(0, 3)
    manifest = Manifest(
        *(SENSOR.name, release.version, release.sha256, release.size), container=Container.MCUBOOT, security_counter=1
    )
    catalogue.store.put(io.BytesIO(manifest.to_json()))
    ((word, what),) = flags(catalogue.review([replace(release, manifest=manifest.cid.digest)]))
    assert word is Word.COUNTER
    assert what == "the manifest of acme-sensor 1.0.0 states the security counter 1, and its image has 3"


def test_an_image_for_no_loader_has_no_facts(catalogue: ImageCatalogue) -> None:
    """A Linux device's image is read into memory only if the settings contain an image key for the product."""
    draft = Draft(SENSOR.name, Version(1, 0, 0), b"any bytes", container=Container.OPAQUE)
    release, manifest = draft_release(draft, SENSOR), draft_manifest(draft, draft_release(draft, SENSOR))
    assert manifest
    for file in (manifest.to_json(), b"any bytes"):
        catalogue.store.put(io.BytesIO(file))
    ((word, what),) = flags(catalogue.review([release]))
    assert (word, what.endswith("it does not begin with an MCUboot header")) == (Word.SIGNATURE, True)
    inputs = ImageInputs(lambda: catalogue.store)
    view = replace(VIEW, products=(SENSOR,))
    proposal = proposal_with(data=publish_call([release]))
    (image,) = review_proposal(proposal, view, inputs, is_required=True).images
    assert isinstance(image, CheckedImage)
    assert image.loader is None
