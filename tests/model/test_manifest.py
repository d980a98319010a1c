"""Manifests have one encoding, contain only printable text, and belong to one release."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.errors import RefusedError
from blockota.formats.cid import CID, RAW
from blockota.formats.delta import FORMATS
from blockota.model.container import Container
from blockota.model.manifest import (
    MAX_NOTES_SIZE,
    MAX_SIZE,
    Delta,
    Manifest,
    Requirements,
    metadata_from,
    notes_from,
)
from blockota.model.release import Region, Version
from tests.support.samples import PRODUCT, code, release_of

RELEASE = release_of(code())
MANIFEST = Manifest(PRODUCT.name, RELEASE.version, RELEASE.sha256, RELEASE.size, "Fixes the clock.", (("commit", "1"),))
PATCH = hashlib.sha256(b"patch").digest()
DELTA = Delta(Version(1, 0, 0), bytes(32), CID(RAW, PATCH), PATCH, 40, "crle")
versions = st.builds(Version, st.integers(1, 65535), st.integers(0, 1 << 24 - 1), st.integers(0, 1 << 24 - 1))
printable = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=40)
manifests = st.builds(
    Manifest,
    product=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True),
    version=versions,
    sha256=st.binary(min_size=32, max_size=32),
    size=st.integers(1, (1 << 32) - 1),
    notes=st.lists(printable.filter(str.isprintable)).map("\n".join),
    metadata=st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True), printable.filter(str.isprintable)
    ).map(lambda entries: metadata_from(entries.items())),
    accepts_load_address=st.booleans(),
    filled=st.lists(st.builds(Region, st.integers(0, 1 << 32), st.integers(1, 1 << 32)), max_size=3).map(tuple),
    container=st.sampled_from(Container),
    requires=st.builds(
        Requirements,
        installed=st.none() | versions,
        hardware=st.lists(printable.filter(bool), max_size=3, unique=True).map(tuple),
    ),
)


def changed(**changes: Any) -> bytes:
    """Return the sample manifest's file with changed fields."""
    return json.dumps(json.loads(MANIFEST.to_json()) | changes).encode()


@given(manifests)
def test_a_manifest_comes_back_as_it_was(manifest: Manifest) -> None:
    """A manifest is read back from its file, and its CID is that of the file as one raw block."""
    raw = manifest.to_json()
    assert Manifest.from_json(raw) == manifest
    assert Manifest.from_json(raw).to_json() == raw
    assert (manifest.cid.codec, manifest.cid.digest) == (RAW, hashlib.sha256(raw).digest())


def test_the_file_is_for_people_as_well() -> None:
    """A manifest file is JSON with the documented fields, and non-ASCII letters are not escaped."""
    manifest = replace(MANIFEST, notes="Größer.\nSchöner.")
    assert list(json.loads(manifest.to_json())) == [
        *("format", "product", "version", "sha256", "size", "notes", "metadata")
    ]
    assert "Größer.\\nSchöner." in manifest.to_json().decode()
    accepting = replace(manifest, accepts_load_address=True, filled=(Region(0x0800_0400, 0x800),))
    fields = json.loads(accepting.to_json())
    assert (fields["loadAddressAccepted"], fields["filled"]) == (True, [{"start": 0x0800_0400, "size": 0x800}])


def test_a_manifest_without_new_fields_has_the_bytes_of_before() -> None:
    """Manifests without newer fields have the same CIDs as in earlier versions, because the chain records them."""
    assert str(MANIFEST.cid) == "bafkreihznbwnlosjkbqvo3cz6r4swdvtmjcq5yd2jspxvnhk7pkpdpjnbq"


def test_container_requirements_and_deltas_are_recorded() -> None:
    """The file of a manifest, and the lines that owners read, contain the newer fields.

    The container stm32 is not written, because it is the default.
    """
    requires = Requirements(Version(1, 0, 0), ("rev-b", "rev-c"))
    manifest = replace(MANIFEST, container=Container.SWU, requires=requires, deltas=(DELTA,))
    assert Manifest.from_json(manifest.to_json()) == manifest
    fields = json.loads(manifest.to_json())
    assert fields["container"] == "swu"
    assert fields["requires"] == {"installed": "1.0.0", "hardware": ["rev-b", "rev-c"]}
    assert fields["deltas"] == [
        {
            "from": "1.0.0",
            "base": "00" * 32,
            "cid": str(DELTA.cid),
            "sha256": PATCH.hex(),
            "size": 40,
            "format": "crle",
        }
    ]
    assert manifest.option_lines == {
        "container": ("swu",),
        "requires": ("1.0.0 or newer installed",),
        "hardware": ("rev-b, rev-c",),
        "deltas": ("from 1.0.0: 40 bytes, crle",),
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": "lzma"}, "its format is 'lzma'"),
        ({"size": 64}, "it has 64 bytes, and the image 64"),
        ({"size": 0}, "it has 0 bytes"),
        ({"sha256": bytes(32)}, "its content address is of other bytes"),
        ({"base": RELEASE.sha256}, "a base is the image"),
    ],
)
def test_a_delta_that_no_device_could_use_is_refused(changes: dict[str, Any], why: str) -> None:
    """A delta is refused if its format is unknown, if it is not smaller than the image, or if its base is the image."""
    with pytest.raises(RefusedError, match=why):
        replace(MANIFEST, deltas=(replace(DELTA, **changes),))
    assert replace(MANIFEST, deltas=tuple(replace(DELTA, format=one) for one in FORMATS[:1])).deltas


def test_a_device_could_not_choose_between_two_deltas_from_one_image() -> None:
    """Two deltas with one base are refused."""
    with pytest.raises(RefusedError, match="two have one base"):
        replace(MANIFEST, deltas=(DELTA, replace(DELTA, format="heatshrink")))


@pytest.mark.parametrize(
    ("revisions", "why"),
    [
        (("",), "it has 0 characters"),
        (("r" * 65,), "it has 65 characters"),
        (("rev\x1b",), r"U\+001B"),
        (("rev-b", "rev-b"), "a revision is repeated"),
        (tuple(map(str, range(65))), "65 are listed"),
    ],
)
def test_hardware_revisions_can_be_shown(revisions: tuple[str, ...], why: str) -> None:
    """A revision must be a short printable text, and each revision is listed once."""
    with pytest.raises(RefusedError, match=why):
        Requirements(hardware=revisions)


DELTA_FIELDS = {
    "from": "1.0.0",
    "base": "00" * 32,
    "cid": str(DELTA.cid),
    "sha256": PATCH.hex(),
    "size": 40,
    "format": "crle",
}
UNREADABLE = {
    "container": (changed(container="exe"), "'exe' is not a container, the containers are stm32, mcuboot, swu, opaque"),
    "container-stm32": (changed(container="stm32"), "fields that a manifest cannot have"),
    "container-number": (changed(container=7), "container is 7, which is not a text"),
    "requires": (changed(requires={}), "fields that a manifest cannot have"),
    "requires-more": (changed(requires={"installed": "1.0.0", "ram": 1}), "fields that a manifest cannot have"),
    "requires-version": (changed(requires={"installed": "1.0"}), "is not a version"),
    "hardware": (changed(requires={"hardware": "rev-b"}), "hardware is 'rev-b', which is not a list of texts"),
    "hardware-none": (changed(requires={"hardware": []}), "fields that a manifest cannot have"),
    "deltas": (changed(deltas={}), "which is not a list of JSON objects"),
    "deltas-none": (changed(deltas=[]), "fields that a manifest cannot have"),
    "delta-format": (changed(deltas=[DELTA_FIELDS | {"format": "xz"}]), "its format is 'xz'"),
    "delta-cid": (changed(deltas=[DELTA_FIELDS | {"cid": "no"}]), "'no' is not a CID"),
    "delta-size": (changed(deltas=[DELTA_FIELDS | {"size": True}]), "size is True"),
    "delta-extra": (changed(deltas=[DELTA_FIELDS | {"by": 3}]), "fields that a manifest cannot have"),
    "empty": (b"", "it is empty"),
    "binary": (b"\xff\xfe", "is not valid JSON"),
    "list": (b"[]", "is not a JSON object"),
    "deep": (b"[" * 100_000, "more than 32 levels"),
    "digits": (b'{"size": ' + b"9" * 5000 + b"}", "is not valid JSON"),
    "large": (b" " * (MAX_SIZE + 1), "1048577 bytes"),
    "twice": (MANIFEST.to_json().replace(b'"size"', b'"notes": "a", "size"'), "a key is repeated"),
    "format": (changed(format="blockota-manifest-2"), "not 'blockota-manifest-1'"),
    "extra": (changed(author="mallory"), "fields that a manifest cannot have"),
    "no-notes": (changed().replace(b'"notes"', b'"note"'), "'notes' is missing"),
    "no-text": (changed(notes=7), "notes is 7, which is not a text"),
    "product": (changed(product="a b"), "cannot be a name on the chain"),
    "version": (changed(version="1"), "is not a version"),
    "sha256": (changed(sha256="AB" * 32), "is not hex text"),
    "sha256-short": (changed(sha256="ab" * 31), "sha256 has 31 bytes, a hash has 32"),
    "size-text": (changed(size="64"), "size is not a number of bytes"),
    "size-bool": (changed(size=True), "size is not a number of bytes"),
    "size-zero": (changed(size=0), "size is not a number of bytes"),
    "size-huge": (changed(size=1 << 32), "size is not a number of bytes"),
    "metadata": (changed(metadata=[]), "is not a JSON object"),
    "accepted": (changed(loadAddressAccepted=False), "fields that a manifest cannot have"),
    "accepted-text": (changed(loadAddressAccepted="yes"), "fields that a manifest cannot have"),
    "filled-none": (changed(filled=[]), "fields that a manifest cannot have"),
    "filled-text": (changed(filled="all"), "filled is"),
    "filled-size": (changed(filled=[{"start": 1}]), "'size' is missing"),
    "filled-extra": (changed(filled=[{"start": 1, "size": 2, "by": 3}]), "fields that a manifest cannot have"),
    "value": (changed(metadata={"a": 1}), "a is 1, which is not a text"),
    "escape": (changed(notes="ok\x1b[2J"), r"line 1 of the notes cannot be shown safely, it has U\+001B"),
    "surrogate": (changed(notes="\ud800"), r"U\+D800"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_not_a_manifest_is_refused(name: str) -> None:
    """A file that is not a valid manifest is refused with the reason."""
    raw, why = UNREADABLE[name]
    with pytest.raises(RefusedError, match=rf"the manifest cannot be read: .*{why}.*Do not use the manifest"):
        Manifest.from_json(raw)


@pytest.mark.parametrize("letter", ["\x00", "\x1b", "\x07", "\r", "\t", "\x85", "\u2028", "\u202e", "\u2066", "\u200f"])
def test_text_that_could_deceive_is_refused(letter: str) -> None:
    """Notes and metadata with control, line break or bidirectional characters are refused."""
    number = rf"U\+{ord(letter):04X}"
    with pytest.raises(RefusedError, match=rf"line 2 of the notes cannot be shown safely: it has {number}"):
        replace(MANIFEST, notes=f"fine\nnot {letter} fine")
    with pytest.raises(RefusedError, match=rf"the metadata commit cannot be shown safely: it has {number}"):
        replace(MANIFEST, metadata=(("commit", f"a{letter}b"),))


@pytest.mark.parametrize("key", ["", "a b", "-a", "ä", "a=b", "\x1b", "k" * 65])
def test_a_key_is_a_word(key: str) -> None:
    """Invalid metadata keys are refused, and escaped in the error."""
    with pytest.raises(RefusedError, match="cannot be a key of the metadata") as refused:
        replace(MANIFEST, metadata=((key, "x"),))
    assert str(refused.value).isprintable()


def test_limits_are_enforced() -> None:
    """Notes above 64 KiB, 65 metadata entries, long values and duplicate keys are refused."""
    assert replace(MANIFEST, notes="x" * MAX_NOTES_SIZE).cid
    with pytest.raises(RefusedError, match="65537 bytes, and at most 65536"):
        replace(MANIFEST, notes="x" * (MAX_NOTES_SIZE - 1) + "ä")
    with pytest.raises(RefusedError, match="65 entries, and at most 64 are allowed"):
        replace(MANIFEST, metadata=metadata_from((f"k{number}", "") for number in range(65)))
    with pytest.raises(RefusedError, match="1025 characters, and at most 1024"):
        replace(MANIFEST, metadata=(("k", "x" * 1025),))
    with pytest.raises(RefusedError, match="a key is repeated"):
        replace(MANIFEST, metadata=metadata_from([("k", "1"), ("k", "2")]))
    with pytest.raises(RefusedError, match="257 gaps would be filled, and at most 256"):
        replace(MANIFEST, filled=tuple(Region(number, 1) for number in range(257)))


def test_the_largest_manifest_is_one_block() -> None:
    """The largest manifest fits into one block, even if each character needs four bytes or an escape."""
    entries = metadata_from((f"{number:02}".ljust(64, "k"), "😀" * 1024) for number in range(64))
    assert len(replace(MANIFEST, notes='"' * MAX_NOTES_SIZE, metadata=entries).to_json()) <= MAX_SIZE


def test_a_manifest_is_about_one_release() -> None:
    """A manifest is refused for a release with another product, version or image."""
    MANIFEST.require_about(RELEASE)
    for other in (
        replace(RELEASE, product="acme-thermo3"),
        replace(RELEASE, version=Version(1, 2, 0)),
        replace(RELEASE, sha256=bytes(32)),
        replace(RELEASE, size=65),
    ):
        with pytest.raises(RefusedError, match=r"not about .* the manifest is for acme-thermo2 1\.1\.0, 64 bytes"):
            MANIFEST.require_about(other)


def test_notes_are_read_from_any_editors_file() -> None:
    """Notes with a byte order mark, carriage returns, tabs and surrounding empty lines are accepted."""
    assert notes_from(b"\xef\xbb\xbf\r\n- one  \r\n\t- two\r\n\r\n") == "- one\n    - two"
    assert notes_from(b"") == ""
    with pytest.raises(RefusedError, match=r"the notes cannot be read: byte 3 is not UTF-8"):
        notes_from(b"abc\xff")


def test_the_security_counter_is_recorded() -> None:
    """The manifest of an MCUboot image contains the security counter, even if it is 0. Other containers have none."""
    for counter in (0, 3, (1 << 32) - 1):
        manifest = Manifest(
            "acme", Version(1, 0, 0), bytes(32), 64, container=Container.MCUBOOT, security_counter=counter
        )
        assert Manifest.from_json(manifest.to_json()) == manifest
        assert manifest.options["securityCounter"] == counter
        assert manifest.option_lines["security counter"] == (str(counter),)
    for container, counter in ((Container.SWU, 1), (Container.MCUBOOT, -1), (Container.MCUBOOT, 1 << 32)):
        with pytest.raises(RefusedError, match="the security counter cannot be used"):
            Manifest("acme", Version(1, 0, 0), bytes(32), 64, container=container, security_counter=counter)
