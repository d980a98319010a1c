"""Red flags of images for a boot loader: changed security counters, and missing or wrong signatures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blockota.approval.flags import Word
from blockota.approval.loader_flags import loader_flags
from blockota.model.container import Container
from blockota.model.loader_facts import LoaderFacts, examine
from blockota.model.manifest import Manifest
from blockota.model.release import Version
from tests.support.mcuboot import KEY, OTHER_KEY, public_key, sign_image, unsigned_image

OLD, NEW = Version(1, 0, 0), Version(1, 1, 0)
IMAGE = sign_image(unsigned_image(b"app", 2))
MANIFEST = Manifest("acme-sensor", NEW, bytes(32), 64, container=Container.MCUBOOT, security_counter=2)
FACTS = examine(IMAGE, key=public_key(KEY), before=2)


def found(
    facts: LoaderFacts,
    manifest: Manifest | None = MANIFEST,
    *,
    since: Version | None = OLD,
    floor: Version | None = None,
) -> list[tuple[Word, str]]:
    """Return the flags of an image of acme-sensor 1.1.0."""
    return [(f.word, f.what) for f in loader_flags("acme-sensor 1.1.0", facts, manifest, since=since, floor=floor)]


def test_an_image_with_the_same_counter_is_usual() -> None:
    """A signed image with the security counter of the previous release raises no flag.

    The image of a first release raises no flag.
    """
    assert found(FACTS) == []
    assert found(replace(FACTS, before=None), since=None) == []
    assert found(FACTS, None) == []


@pytest.mark.parametrize(
    ("before", "floor", "what"),
    [
        (1, None, "rises from 1 to 2: if the release were revoked, devices that ran it could not return to 1.0.0"),
        (0, OLD, "rises from 0 to 2"),
        (1, Version(1, 0, 1), ""),
        (1, NEW, ""),
        (3, None, "falls from 3 to 2, so devices that ran 1.0.0 would refuse the image"),
        (3, NEW, "falls from 3 to 2"),
        (None, None, "is 2, and that of 1.0.0 is not known, because its image was not found"),
    ],
)
def test_a_changed_counter(before: int | None, floor: Version | None, what: str) -> None:
    """A lower counter raises a flag. A higher counter raises a flag unless the floor excludes the previous release."""
    flags = found(replace(FACTS, before=before), floor=floor)
    assert [word for word, _ in flags] == [Word.COUNTER] * bool(what)
    assert all(what in text for _, text in flags)


def test_an_unknown_counter_does_not_matter_to_an_image_without_one() -> None:
    """An image without a security counter raises no flag, even if the counter of the previous release is unknown."""
    image = examine(unsigned_image(b"app"), key=None, before=None)
    assert found(image, replace(MANIFEST, security_counter=0)) == []


def test_the_manifest_states_the_counter_of_the_image() -> None:
    """A flag is raised if the security counter in the manifest differs from the counter in the image."""
    ((word, what),) = found(FACTS, replace(MANIFEST, security_counter=1))
    assert word is Word.COUNTER
    assert what == "the manifest of acme-sensor 1.1.0 states the security counter 1, and its image has 2"
    ((word, what),) = found(FACTS, replace(MANIFEST, security_counter=None))
    assert "states the security counter 0" in what


def test_who_signed_the_image() -> None:
    """An image with a foreign signature or without a signature raises a flag.

    If the settings contain no image key, the signature is not checked.
    """
    for image, why in ((IMAGE, "it is signed with another key"), (unsigned_image(b"app", 2), "it is not signed")):
        ((word, what),) = found(examine(image, key=public_key(OTHER_KEY), before=2))
        assert word is Word.SIGNATURE
        assert f"the image of acme-sensor 1.1.0 is not signed by the product's image key: {why}" in what
        assert found(examine(image, key=None, before=2)) == []


def test_every_changed_byte_is_flagged() -> None:
    """Each changed byte of a signed image raises a flag."""
    image, key = bytearray(IMAGE), public_key(KEY)
    for at in range(len(image)):
        image[at] ^= 0xFF
        assert found(examine(bytes(image), key=key, before=2)), f"byte {at}"
        image[at] ^= 0xFF


def test_other_bytes_are_flagged() -> None:
    """A flag is raised if the manifest declares another file as an MCUboot image, even without an image key."""
    ((word, what),) = found(examine(b"\x7fELF", key=None, before=None))
    assert word is Word.CONTAINER
    assert "its image is not an MCUboot image: it does not begin with an MCUboot header" in what
