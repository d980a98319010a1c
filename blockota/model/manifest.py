"""The manifest of a release: a JSON file with notes, metadata and the publisher's exceptions from checks. Pure.

The contract's event ``ReleasePublished`` contains the manifest's SHA-256. A manifest is a single block, so its SHA-256
is also the digest in its CID. A manifest contains the SHA-256 of its image, and is refused for any other image.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from blockota.errors import BlockOTAError, RefusedError
from blockota.formats.cid import CHUNK_SIZE, CID, RAW
from blockota.formats.delta import FORMATS
from blockota.model.container import Container
from blockota.model.release import Region, Release, Version, product_key, read_version
from blockota.strict_json import digest, integer, load, mapping, mappings, text, texts

MAX_SIZE = CHUNK_SIZE
"""Maximum size of a manifest in bytes, so that a manifest is a single block."""
MAX_NOTES_SIZE = 1 << 16
"""Maximum size of the notes in bytes of UTF-8."""
MAX_ENTRIES, MAX_VALUE_LENGTH = 64, 1024
"""Maximum number of metadata entries, and of characters in a value."""
MAX_FILLED = 256
"""Maximum number of filled gaps."""
MAX_HARDWARE, MAX_HARDWARE_LENGTH = 64, 64
"""Maximum number of hardware revisions, and maximum number of characters of a revision."""
MAX_DELTAS = 16
"""Maximum number of deltas."""
MAX_SECURITY_COUNTER = (1 << 32) - 1
"""The greatest security counter of an MCUboot image."""
_FORMAT = "blockota-manifest-1"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_TAB_WIDTH = 4


@dataclass(frozen=True)
class Requirements:
    """The requirements of a release on a device.

    Attributes:
        installed: the lowest version of the product from which a device can be updated; None if every version is
            allowed.
        hardware: the hardware revisions that the release is for; empty for all revisions.

    Examples:
        >>> draft = Draft("acme-hub", Version(1, 1, 0), requires=Requirements(hardware=("rev-b",)))
        >>> draft.requires.installed is None
        True
    """

    installed: Version | None = None
    hardware: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the hardware revisions are printable and not repeated.

        Raises:
            RefusedError: a hardware revision is not printable, is too long or is repeated.
        """
        if len(self.hardware) > MAX_HARDWARE:
            why = f"{len(self.hardware)} are listed, and at most {MAX_HARDWARE} are allowed"
            raise _unusable("the release names too many hardware revisions", why)
        for revision in self.hardware:
            if not 0 < len(revision) <= MAX_HARDWARE_LENGTH:
                why = f"it has {len(revision)} characters, and 1 to {MAX_HARDWARE_LENGTH} are allowed"
                raise _unusable("a hardware revision is empty or too long", why)
            _require_printable("a hardware revision", revision)
        if len(set(self.hardware)) < len(self.hardware):
            raise _unusable("the hardware revisions are ambiguous", "a revision is repeated")

    def as_fields(self) -> dict[str, Any]:
        """The requirements as fields of the manifest; empty if there are none."""
        installed = {"installed": str(self.installed)} if self.installed else {}
        return installed | ({"hardware": list(self.hardware)} if self.hardware else {})

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Read the requirements from the manifest's JSON object.

        Raises:
            KeyError, TypeError, ValueError: a field has a wrong value; `strict_json.fault` describes it.
        """
        installed = read_version(fields, "installed") if "installed" in fields else None
        return cls(installed, tuple(texts(fields, "hardware")) if "hardware" in fields else ())


NO_REQUIREMENTS = Requirements()
"""The empty requirements: the release is for every device of its product."""


@dataclass(frozen=True)
class Delta:
    """A patch that produces the image of this release from the image of an older release.

    The content of the patch is not checked, because the SHA-256 of the produced image is checked.

    Attributes:
        base_version: version of the older release.
        base: SHA-256 of the older image.
        cid: content address of the patch.
        sha256: SHA-256 of the patch.
        size: size of the patch in bytes.
        format: one of `formats.delta.FORMATS`.
    """

    base_version: Version
    base: bytes
    cid: CID
    sha256: bytes
    size: int
    format: str

    def as_fields(self) -> dict[str, Any]:
        """The delta as a JSON object of the manifest."""
        return {
            "from": str(self.base_version),
            "base": self.base.hex(),
            "cid": str(self.cid),
            "sha256": self.sha256.hex(),
            "size": self.size,
            "format": self.format,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Delta:
        """Read the JSON object of a delta.

        Raises:
            BlockOTAError, KeyError, TypeError, ValueError: a field is missing or has a wrong value.
        """
        return cls(
            base_version=read_version(fields, "from"),
            base=digest(fields, "base", prefix=""),
            cid=CID.parse(text(fields, "cid")),
            sha256=digest(fields, "sha256", prefix=""),
            size=integer(fields, "size"),
            format=text(fields, "format"),
        )


@dataclass(frozen=True)
class Manifest:
    """Notes and metadata of a release.

    Attributes:
        sha256: SHA-256 of the image, 32 bytes.
        size: size of the image in bytes.
        notes: release notes, lines of printable text.
        metadata: ⟨key, value⟩ pairs in ascending order of the keys; a value is one line.
        accepts_load_address: whether the publisher accepted a load address that the image was not linked for.
        filled: gaps in the image file that were filled with 0xFF, by ascending address. Each of these gaps has at least
            the size of an erase unit.
        container: the container of the image.
        requires: the requirements of the release on a device.
        deltas: patches from older images to this image, at most one for each older image.
        security_counter: the security counter of an MCUboot image. The attribute is 0 for an image without a counter,
            and None for other containers.
    """

    product: str
    version: Version
    sha256: bytes
    size: int
    notes: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    accepts_load_address: bool = False
    filled: tuple[Region, ...] = ()
    container: Container = Container.STM32
    requires: Requirements = NO_REQUIREMENTS
    deltas: tuple[Delta, ...] = ()
    security_counter: int | None = None

    def __post_init__(self) -> None:
        """Check that notes and metadata contain only printable text, and do not exceed the size limits.

        Raises:
            RefusedError: notes or metadata cannot be published.
        """
        # A lone surrogate is only counted here. It is refused below, with the number of its line.
        if (size := len(self.notes.encode("utf-8", "surrogatepass"))) > MAX_NOTES_SIZE:
            raise _unusable(
                "the notes are too long", f"they have {size} bytes, and at most {MAX_NOTES_SIZE} are allowed"
            )
        for number, line in enumerate(self.notes.split("\n"), 1):
            _require_printable(f"line {number} of the notes", line)
        if len(self.metadata) > MAX_ENTRIES:
            why = f"it has {len(self.metadata)} entries, and at most {MAX_ENTRIES} are allowed"
            raise _unusable("the metadata is too long", why)
        for key, value in self.metadata:
            if not _KEY.fullmatch(key):
                why = "a key has 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or digit"
                raise _unusable(f"{key[:80]!a} cannot be a key of the metadata", why)
            if not isinstance(value, str):  # from a program without types
                raise _unusable(f"the metadata {key} is not text", "a manifest contains texts only")
            if len(value) > MAX_VALUE_LENGTH:
                why = f"it has {len(value)} characters, and at most {MAX_VALUE_LENGTH} are allowed"
                raise _unusable(f"the metadata {key} is too long", why)
            _require_printable(f"the metadata {key}", value)
        # The order is fixed, so that equal manifests have one content address.
        keys = [key for key, _ in self.metadata]
        if keys != sorted(set(keys)):
            raise _unusable("the metadata is ambiguous", "a key is repeated, or the keys are not in order")
        if len(self.filled) > MAX_FILLED:
            raise RefusedError(
                "the image has too many gaps",
                why=f"{len(self.filled)} gaps would be filled, and at most {MAX_FILLED} are allowed",
                remedy="build an image without gaps",
            )
        self._check_counter()
        self._check_deltas()

    def _check_counter(self) -> None:
        counter = self.security_counter
        if counter is None:
            return
        if self.container is not Container.MCUBOOT:
            raise _unusable("the security counter cannot be used", f"the container is {self.container}")
        if not 0 <= counter <= MAX_SECURITY_COUNTER:
            raise _unusable("the security counter cannot be used", f"{counter} is not a number of 32 bits")

    def _check_deltas(self) -> None:
        """Check that each delta is smaller than the image, and that no two deltas are for the same older image."""
        for delta in self.deltas:
            name = f"the delta from {delta.base_version}"
            if delta.format not in FORMATS:
                raise _unusable(f"{name} cannot be used", f"its format is {delta.format!a}")
            if not 0 < delta.size < self.size:
                raise _unusable(f"{name} is useless", f"it has {delta.size:,} bytes, and the image {self.size:,}")
            if delta.cid.codec == RAW and delta.cid.digest != delta.sha256:
                raise _unusable(f"{name} is ambiguous", "its content address is of other bytes than its SHA-256")

        bases = [delta.base for delta in self.deltas]
        if len(bases) > MAX_DELTAS or len(set(bases)) < len(bases) or self.sha256 in bases:
            raise _unusable("the deltas are ambiguous", "two have one base, a base is the image, or they are too many")

    @property
    def cid(self) -> CID:
        """The content address of the manifest, whose digest is in the contract's event."""
        return CID(RAW, hashlib.sha256(self.to_json()).digest())

    def to_json(self) -> bytes:
        """Encode the manifest as a JSON file. Equal manifests have equal encodings."""
        fields = {
            "format": _FORMAT,
            "product": self.product,
            "version": str(self.version),
            "sha256": self.sha256.hex(),
            "size": self.size,
            "notes": self.notes,
            "metadata": dict(self.metadata),
        } | self.options
        return (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()

    @property
    def options(self) -> dict[str, Any]:
        """The optional fields of the file; fields with default values are omitted.

        Older versions of BlockOTA refuse a file with an unknown field, so each omitted field helps them to read the
        file.
        """
        optional = {
            "loadAddressAccepted": self.accepts_load_address,
            "filled": [{"start": gap.start, "size": gap.size} for gap in self.filled],
            "container": "" if self.container is Container.STM32 else str(self.container),
            "requires": self.requires.as_fields(),
            "deltas": [delta.as_fields() for delta in self.deltas],
        }
        counter = {} if self.security_counter is None else {"securityCounter": self.security_counter}
        return {name: value for name, value in optional.items() if value} | counter

    @property
    def option_lines(self) -> dict[str, tuple[str, ...]]:
        """The optional fields, as pairs of a label and lines of text for display."""
        lines: dict[str, tuple[str, ...]] = {}
        if self.container is not Container.STM32:
            lines["container"] = (str(self.container),)
        if self.security_counter is not None:
            lines["security counter"] = (str(self.security_counter),)
        if self.requires.installed:
            lines["requires"] = (f"{self.requires.installed} or newer installed",)
        if self.requires.hardware:
            lines["hardware"] = (", ".join(self.requires.hardware),)

        if self.deltas:
            lines["deltas"] = tuple(f"from {one.base_version}: {one.size:,} bytes, {one.format}" for one in self.deltas)
        if self.accepts_load_address:
            lines["load address"] = ("accepted by the publisher: the image seems to be linked for another address",)
        if self.filled:
            lines["filled"] = (*map(str, self.filled), "with 0xFF: gaps in the file, erased on every board")

        return lines

    @classmethod
    def from_json(cls, raw: bytes) -> Manifest:
        """Read a manifest file.

        Raises:
            RefusedError: the file is too large, not a manifest, or cannot be shown safely.
        """
        if len(raw) > MAX_SIZE:
            raise _unreadable(f"it has {len(raw)} bytes, and at most {MAX_SIZE} are allowed")
        try:
            fields = load(raw, form=_FORMAT)
            manifest = _from_fields(fields)
        except BlockOTAError as error:
            raise _unreadable(f"{error.what}, {error.why}" if error.why else error.what) from error
        except KeyError as error:
            raise _unreadable(f"its field {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise _unreadable(f"it is not a manifest ({error})") from error
        # Encoding the manifest again must give the same fields. This refuses unknown fields, which would not be shown.
        if json.loads(manifest.to_json()) != fields:
            raise _unreadable("it has fields that a manifest cannot have")
        return manifest

    def require_about(self, release: Release) -> None:
        """Check that the manifest describes the given release.

        Raises:
            RefusedError: the manifest describes another product, version or image.
        """
        about = (self.product, self.version, self.sha256, self.size)
        if about != (release.product, release.version, release.sha256, release.size):
            raise RefusedError(
                f"the manifest is not about {release.product} {release.version}",
                why=f"the manifest is for {self.product} {self.version}, {self.size} bytes with "
                f"SHA-256 {self.sha256.hex()}",
                remedy="do not rely on the manifest's notes; report the manifest to the vendor",
            )


@dataclass(frozen=True)
class Description:
    """The manifest of a release, or the reason why it cannot be shown.

    Attributes:
        address: content address of the manifest; None if the release has no manifest, or if the address is unknown.
        manifest: the manifest; None if the release has no manifest, or if the manifest cannot be shown.
        trouble: a sentence with the reason why the manifest cannot be shown; empty without such a reason.
    """

    address: CID | None = None
    manifest: Manifest | None = None
    trouble: str = ""

    @property
    def container(self) -> Container:
        """The container that the manifest names.

        Without a manifest, the container is stm32.
        """
        return self.manifest.container if self.manifest else Container.STM32

    @property
    def fields(self) -> dict[str, Any] | None:
        """The description as a JSON object; None if the release has no manifest."""
        if self.address is None and not self.trouble:
            return None
        described: dict[str, Any] = {"notes": None, "metadata": None}
        if self.manifest:
            described = {
                "notes": self.manifest.notes,
                "metadata": dict(self.manifest.metadata),
                **self.manifest.options,
            }
        trouble = {"trouble": self.trouble} if self.trouble else {}
        return {"cid": str(self.address) if self.address else None} | described | trouble


NO_DESCRIPTION = Description()
"""The description of a release without a manifest."""


def notes_from(raw: bytes) -> str:
    """Decode release notes from a text file.

    Line ends become line feeds, and tabs become spaces.

    Raises:
        RefusedError: the file is not UTF-8.
    """
    try:
        # Some editors begin a text file with a byte order mark.
        notes = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unusable("the notes cannot be read", f"byte {error.start} is not UTF-8") from error
    lines = notes.replace("\r\n", "\n").split("\n")
    return "\n".join(line.expandtabs(_TAB_WIDTH).rstrip(" ") for line in lines).strip("\n")


def metadata_from(entries: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Sort metadata by key, as `Manifest` requires. Repeated keys are kept, so that `Manifest` refuses them."""
    return tuple(sorted(entries.items() if isinstance(entries, Mapping) else entries))


def _from_fields(fields: dict[str, Any]) -> Manifest:
    size, metadata = fields["size"], mapping(fields, "metadata")
    # Not isinstance: a bool is an int.
    if type(size) is not int or not 0 < size < 1 << 32:
        raise ValueError("size is not a number of bytes")
    product_key(text(fields, "product"))

    # The optional fields.
    gaps = mappings(fields, "filled") if "filled" in fields else ()
    container = Container.parse(text(fields, "container")) if "container" in fields else Container.STM32
    requires = mapping(fields, "requires") if "requires" in fields else {}
    deltas = mappings(fields, "deltas") if "deltas" in fields else ()
    counter = integer(fields, "securityCounter") if "securityCounter" in fields else None

    return Manifest(
        product=text(fields, "product"),
        version=Version.parse(text(fields, "version")),
        sha256=digest(fields, "sha256", prefix=""),
        size=size,
        notes=text(fields, "notes"),
        metadata=metadata_from((key, text(metadata, key)) for key in metadata),
        accepts_load_address=fields.get("loadAddressAccepted") is True,
        filled=tuple(Region(integer(gap, "start"), integer(gap, "size")) for gap in gaps),
        container=container,
        requires=Requirements.from_fields(requires),
        deltas=tuple(map(Delta.from_fields, deltas)),
        security_counter=counter,
    )


def _require_printable(where: str, line: str) -> None:
    odd = next((letter for letter in line if not letter.isprintable()), None)
    if odd is not None:
        name = unicodedata.name(odd, "a control character")
        raise _unusable(f"{where} cannot be shown safely", f"it has U+{ord(odd):04X} ({name})")


def _unusable(what: str, why: str) -> RefusedError:
    return RefusedError(what, why=why, remedy="correct the notes or metadata, then publish again")


def _unreadable(why: str) -> RefusedError:
    remedy = "do not use the manifest; report it to the vendor"
    return RefusedError("the manifest cannot be read", why=why, remedy=remedy)
