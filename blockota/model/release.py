"""Products, versions and releases, as in the contract's records, with their JSON.

Pure.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from blockota.errors import BlockOTAError, UsageError
from blockota.formats.cid import CHUNK_SIZE, CID, DAG_PB, RAW
from blockota.strict_json import boolean, digest, integer, mapping, text

_Member = TypeVar("_Member", bound=enum.Enum)
_PRODUCT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", re.ASCII)
# The number of digits is limited, because int() raises an error of its own for thousands of digits.
_NUMBER = r"(0|[1-9]\d{0,99})"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}", re.ASCII)
MAX_MAJOR, _MAX_MINOR = (1 << 16) - 1, (1 << 24) - 1
_LONGEST_REASON = 200
"""The maximum number of characters that are shown of a revocation's reason."""
SINGLE_BLOCK_SIZE = CHUNK_SIZE
"""Largest size in bytes of an image that is one block. The SHA-256 of such an image is also the digest in its CID."""


@dataclass(frozen=True, order=True)
class Version:
    """A version: major (16 bits), minor and patch (24 bits each). Versions are ordered as in the contract.

    Examples:
        >>> Version.parse("1.10.0") > Version(1, 9, 2)
        True
        >>> str(Version(1, 10, 0))
        '1.10.0'
    """

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read ``MAJOR.MINOR.PATCH`` (semver.org, without pre-release or build parts).

        Raises:
            UsageError: the text is not a version, a number is too large, or the version is 0.0.0.
        """
        match = _VERSION.fullmatch(text)
        if not match:
            raise _no_version(text, "a version is three numbers, such as 1.4.0")
        version = cls(*(int(part) for part in match.groups()))
        if version.major > MAX_MAJOR or max(version.minor, version.patch) > _MAX_MINOR:
            raise _no_version(text, f"the largest version is {MAX_MAJOR}.{_MAX_MINOR}.{_MAX_MINOR}")
        if not version.packed:
            raise _no_version(text, "0.0.0 means 'no version' in the contract")
        return version

    @classmethod
    def unpack(cls, packed: int) -> Version | None:
        """Decode a version from the contract's uint64; None for 0."""
        return cls(packed >> 48, packed >> 24 & _MAX_MINOR, packed & _MAX_MINOR) if packed else None

    @property
    def packed(self) -> int:
        """The version as the contract's uint64."""
        return self.major << 48 | self.minor << 24 | self.patch

    def __str__(self) -> str:
        """``MAJOR.MINOR.PATCH``."""
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class Region:
    """A range of flash addresses.

    Attributes:
        start: the first address.
        size: the size in bytes.
    """

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first address after the region."""
        return self.start + self.size

    def contains(self, other: Region) -> bool:
        """Whether `other` lies entirely inside this region."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: Region) -> bool:
        """Whether `other` and this region have an address in common."""
        return self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        """``0x08000000-0x0800ffff (65,536 bytes)``."""
        return f"0x{self.start:08x}-0x{self.end - 1:08x} ({self.size:,} bytes)"


def is_stack_top(address: int, ram: Iterable[Region]) -> bool:
    """Whether a stack that grows down from `address` is in one of the ranges of RAM (ARMv7-M, B1.5.3)."""
    return address % 4 == 0 and any(part.start < address <= part.end for part in ram)


def show_ranges(regions: Iterable[Region]) -> str:
    """The ranges as ``0x20000000-0x20004fff or 0x10000000-0x1000ffff``."""
    return " or ".join(f"0x{region.start:08x}-0x{region.end - 1:08x}" for region in regions)


@dataclass(frozen=True)
class Product:
    """The record of a product: one component of one device model.

    Attributes:
        name: at most 31 ASCII characters.
        oem: name of the original equipment manufacturer that the product is paired with.
        chip_id: product id reported by the chip's bootloader (AN3155, Get ID).
        region: range of flash for the product's images.
        minimum_version: the floor. Lower versions must not be installed. None without a floor.
        paired: whether releases can be published and installed.

    Examples:
        >>> [product] = network.products()
        >>> product.oem, str(product.region), product.minimum_version
        ('acme', '0x08000000-0x0800ffff (65,536 bytes)', None)
    """

    name: str
    oem: str
    chip_id: int
    region: Region
    minimum_version: Version | None
    paired: bool

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a product, as in ``product list --json`` and in exported chain views."""
        return {
            "product": self.name,
            "oem": self.oem,
            "chipId": self.chip_id,
            "region": {"start": self.region.start, "size": self.region.size},
            "minimumVersion": str(self.minimum_version) if self.minimum_version else None,
            "paired": self.paired,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Product:
        """Read the JSON object of a product.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or has a wrong value; `strict_json.fault` describes it.
        """
        region = mapping(fields, "region")
        return cls(
            name=read_name(fields, "product"),
            oem=read_name(fields, "oem"),
            chip_id=integer(fields, "chipId"),
            region=Region(integer(region, "start"), integer(region, "size")),
            minimum_version=_read_optional_version(fields, "minimumVersion"),
            paired=boolean(fields, "paired"),
        )


class Status(enum.Enum):
    """The status of a release."""

    ACTIVE = 1
    REVOKED = 2

    def __str__(self) -> str:
        """The name of the status, in lower case."""
        return self.name.lower()


@dataclass(frozen=True)
class Revocation:
    """The withdrawal of a release.

    Attributes:
        reason: the vendor's reason.
        time: Unix time of the block with the revocation, in seconds.
        block_number: number of the block with the revocation.
    """

    reason: str
    time: int
    block_number: int

    def __str__(self) -> str:
        """``on 2026-11-28 13:20:58 UTC with the reason 'reboots'``."""
        reason = self.reason if len(self.reason) <= _LONGEST_REASON else f"{self.reason[:_LONGEST_REASON]}…"
        return f"on {show_time(self.time)} with the reason {reason!r}"

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a revocation, as in ``release show --json``."""
        return {"reason": self.reason, "time": self.time, "block": self.block_number}


@dataclass(frozen=True)
class Release:
    """The record of a release.

    Attributes:
        sha256: SHA-256 of the image, 32 bytes.
        size: size of the image in bytes.
        load_address: flash address of the first byte of the image.
        active_from: Unix time, in seconds, before which the release must not be installed.
        chip_id: product id of the chip that the release was published for.
        previous: the version published before this release; None for the first release.
        dag_root: SHA-256 of the root block of the DAG; None for an image of at most `SINGLE_BLOCK_SIZE` bytes.
        manifest: SHA-256 of the manifest, only for a release before its publication. In a record of the contract, the
            value is None, because the contract writes the SHA-256 only to an event.

    Examples:
        >>> release = network.releases("acme-thermo2")[-1]
        >>> str(release.version), release.size, str(release.status), str(release.cid)[:12]
        ('1.0.0', 584, 'active', 'bafkreiacaau')
    """

    product: str
    version: Version
    sha256: bytes
    size: int
    load_address: int
    active_from: int
    chip_id: int
    status: Status
    previous: Version | None = None
    dag_root: bytes | None = None
    manifest: bytes | None = None

    @property
    def cid(self) -> CID:
        """The content address of the image."""
        return CID(DAG_PB, self.dag_root) if self.dag_root else CID(RAW, self.sha256)

    @property
    def region(self) -> Region:
        """The range of flash addresses of the image."""
        return Region(self.load_address, self.size)

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of a release record, as in ``release list --json`` and in exported chain views."""
        return {
            "product": self.product,
            "version": str(self.version),
            "status": str(self.status),
            "sha256": self.sha256.hex(),
            "cid": str(self.cid),
            "size": self.size,
            "loadAddress": self.load_address,
            "chipId": self.chip_id,
            "activeFrom": self.active_from,
            "previous": str(self.previous) if self.previous else None,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Release:
        """Read the JSON object of a release record.

        Raises:
            KeyError, TypeError, ValueError: a field is missing or has a wrong value; `strict_json.fault` describes it.
        """
        sha256 = digest(fields, "sha256", prefix="")
        try:
            cid = CID.parse(text(fields, "cid"))
        except BlockOTAError as error:
            raise ValueError(f"cid is {fields['cid']!r:.60}, which is not a content address") from error
        # The CID of a raw block contains the image's SHA-256. The root of a DAG can be verified only with the image.
        if cid.codec == RAW and cid.digest != sha256:
            raise ValueError("cid is not the content address of sha256")
        return cls(
            product=read_name(fields, "product"),
            version=read_version(fields, "version"),
            sha256=sha256,
            size=integer(fields, "size"),
            load_address=integer(fields, "loadAddress"),
            active_from=integer(fields, "activeFrom"),
            chip_id=integer(fields, "chipId"),
            status=read_status(Status, fields),
            previous=_read_optional_version(fields, "previous"),
            dag_root=cid.digest if cid.codec == DAG_PB else None,
        )


def product_key(name: str) -> bytes:
    """Encode the name of a product or OEM as the contract's bytes32.

    Raises:
        UsageError: the name is empty, longer than 31 characters, or has characters that are not allowed.
    """
    if not _PRODUCT.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a name on the chain",
            why="a name has 1 to 31 letters, digits, '.', '_' or '-', and begins with a letter or digit",
        )
    return name.encode().ljust(32, b"\0")


def product_name(key: bytes) -> str:
    """Decode a name from the contract's bytes32. Bytes that are not printable ASCII are escaped."""
    name = key.rstrip(b"\0").decode("ascii", "backslashreplace")
    return name if name.isprintable() else repr(name)[1:-1]


def show_chip(chip_id: int) -> str:
    """Format a chip id as ``0x410``.

    The chip id 0 is for devices that are not an STM32.
    """
    return f"0x{chip_id:03x}" if chip_id else "0 (not an STM32)"


def show_time(seconds: int) -> str:
    """Format a Unix time in seconds as UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # the contract stores 64 bits, datetime ends with the year 9999
        return f"{seconds} s after 1970, beyond the calendar"


def read_version(fields: Mapping[str, Any], name: str) -> Version:
    """Read a version from a field of a JSON object.

    Raises:
        ValueError: the field is not a version.
    """
    try:
        return Version.parse(text(fields, name))
    except UsageError as error:
        raise ValueError(f"{name} is {fields[name]!r:.60}, which is not a version") from error


def read_name(fields: Mapping[str, Any], name: str) -> str:
    """Read the name of a product or OEM from a field of a JSON object.

    Raises:
        ValueError: the field is not a name that the contract accepts.
    """
    try:
        product_key(text(fields, name))
    except UsageError as error:
        raise ValueError(f"{name} is {fields[name]!r:.60}, which is not a name on the chain") from error
    return text(fields, name)


def read_status(kind: type[_Member], fields: Mapping[str, Any]) -> _Member:
    """Read the field ``status`` of a JSON object as a member of an enumeration.

    Raises:
        ValueError: the field is not the name of a member.
    """
    word = text(fields, "status")
    found = next((member for member in kind if str(member) == word), None)
    if found is None:
        raise ValueError(f"status is {word!r:.40}, which is not one of {', '.join(map(str, kind))}")
    return found


def _read_optional_version(fields: Mapping[str, Any], name: str) -> Version | None:
    return None if fields[name] is None else read_version(fields, name)


def _no_version(text: str, why: str) -> UsageError:
    return UsageError(f"{text!r} is not a version", why=why)
