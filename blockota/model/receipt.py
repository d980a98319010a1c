"""The entries of a log.

Pure. An entry is one array of exactly 17 items in deterministic CBOR. A gateway, a validator or a bench appends an
entry to its log for each installation and each event. An entry about an installation is called a receipt.

==  ====================  ==================================================================================
0   kind                  one byte, `EntryKind`
1   device                8 bytes: the number in DeviceRegistry; 0 for a board that is not registered
2   release               32 bytes: `ReleaseId.digest` of the items 3 to 6; zeros without a release
3   chain id              number of the release's producer chain; 0 without a release
4   contract              20 bytes: address of the BlockOTA contract; zeros without a release
5   product               text: name of the product; empty without a release
6   version               number: the version, packed as in the contract; 0 without a release
7   image                 32 bytes: SHA-256 of the image; zeros without an image
8   previous              32 bytes: SHA-256 of the image that the device ran before; or null
9   level                 "A", "B" or "C", `EvidenceLevel`; or null
10  counter               number: the device's counter of statements; or null
11  unique id             1 to 32 bytes that the chip reports; or null
12  time                  number: Unix time in seconds, of the log's clock
13  gateway               16 bytes: UUID of the log's identity; zeros for a log without an enrolled identity
14  source                text: the source of the image, or the text of an event, postponement, refusal or warning
15  order                 number of the order that was carried out; or null
16  signature             the device's statement: `blockota.formats.cose`, or `blockota.model.boot_event`; or null
==  ====================  ==================================================================================

The first 45 bytes have fixed positions, so that the contract UpdateLedger can read them without a CBOR decoder. These
bytes are 0x91, the kind, 0x48, the device number, 0x58 0x20, and the release.

A device signs a statement of the type ``application/blockota-runs``, or ``application/blockota-postpones`` for a
postponement. The payload is the array ``[nonce, counter, image]`` in deterministic CBOR. The nonce is 16 random bytes
from the gateway. The counter is a number from the device. The image is a SHA-256. The version is not signed, because
the chain records the version of each image. A statement about an event has the type ``application/blockota-event`` and
the payload of `blockota.model.device_event`.

A board with BlockOTA's agent signs `blockota.model.boot_event` instead. The signed event is the item ``signature`` both
in the entry about the event and in the entry about the running image. In these entries, the item ``counter`` is the
board's number of the event. The event contains the MCUboot digest of the image instead of the SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import Any, NoReturn, Self
from uuid import UUID

from blockota.errors import RefusedError, UsageError, plain
from blockota.ethereum import is_checksum_address, keccak, to_checksum_address
from blockota.formats import cbor
from blockota.formats.cose import SignedStatement
from blockota.model.boot_event import BootEvent, SignedBootEvent, is_boot_event
from blockota.model.device_event import EVENT_TYPE, DeviceEvent
from blockota.model.release import Version, product_key

MAX_ENTRY_SIZE = 8192
"""Maximum size of an entry in bytes."""
MAX_TEXT_SIZE = 4096
"""Maximum size of the item `source` in bytes of UTF-8."""
NONCE_SIZE = 16
"""Size in bytes of the nonce in a device's statement."""
RUNS, POSTPONES = "application/blockota-runs", "application/blockota-postpones"
"""The types of a device's statement."""
_ITEMS, _SOURCE = 17, 14
_HASH_SIZE, _ADDRESS_SIZE, _UUID_SIZE, _NUMBER_SIZE, _MAX_UNIQUE_ID = 32, 20, 16, 8, 32
_NUMBER_BITS, _TIME_BITS = 64, 40
_NO_HASH, _NO_ADDRESS, _NO_UUID = bytes(_HASH_SIZE), bytes(_ADDRESS_SIZE), bytes(_UUID_SIZE)
_RELEASE_FIELDS = ("release", "chainId", "contract", "product", "version")


class EntryKind(IntEnum):
    """The kind of an entry."""

    INSTALL = 0
    REINSTALL = 1
    """The device runs a release that it had already installed before, for example after a repair."""
    EQUIVALENT = 2
    """The device runs the image of a release, but installed this image as another product or version."""
    CLAIMED = 3
    """The device reports that it runs the image, but the report does not count as an installation."""
    CONFIGURATION = 4
    EVENT = 5
    POSTPONEMENT = 6
    REFUSAL = 7
    WARNING = 8

    def __str__(self) -> str:
        """The name of the kind, in lower case."""
        return self.name.lower()

    @property
    def names_running_image(self) -> bool:
        """Whether an entry of this kind states which image the device runs."""
        return self <= EntryKind.CONFIGURATION

    @property
    def statement(self) -> str | None:
        """The type of the device's signed statement in an entry of this kind; None for kinds without a statement."""
        if self is EntryKind.POSTPONEMENT:
            return POSTPONES
        if self is EntryKind.EVENT:
            return EVENT_TYPE
        return RUNS if self.names_running_image and self is not EntryKind.CLAIMED else None


class EvidenceLevel(StrEnum):
    """The level of evidence, which depends on how the running image was determined."""

    A = "A"
    """The device signed the statement about its image."""
    B = "B"
    """The device reported its image without a signature."""
    C = "C"
    """The keeper of the log read the device's flash."""


@dataclass(frozen=True)
class ReleaseId:
    """The name of a release, unique across all chains.

    Attributes:
        chain_id: the id of the producer chain.
        contract: address of the BlockOTA contract, checksummed.
    """

    chain_id: int
    contract: str
    product: str
    version: Version

    @cached_property
    def digest(self) -> bytes:
        """The hash that identifies the release in UpdateLedger: Keccak-256 of the four ABI-encoded values."""
        contract = bytes.fromhex(self.contract[2:]).rjust(_HASH_SIZE, b"\0")
        product = product_key(self.product)
        return keccak(self.chain_id.to_bytes(32) + contract + product + self.version.packed.to_bytes(32))

    def as_fields(self) -> dict[str, Any]:
        """The fields of the release in the JSON object of an entry."""
        return {
            "release": self.digest.hex(),
            "chainId": self.chain_id,
            "contract": self.contract,
            "product": self.product,
            "version": str(self.version),
        }

    def __str__(self) -> str:
        """``acme-thermo2 1.1.0``."""
        return f"{self.product} {self.version}"


@dataclass(frozen=True)
class DeviceStatement:
    """The payload of a device's signed statement about the image that the device runs or postpones.

    Attributes:
        nonce: 16 random bytes of the gateway for this statement.
        counter: the device's counter of statements. The counter rises with each statement, so that a gap in the numbers
            reveals an omitted entry.
        image: SHA-256 of the image, 32 bytes.
    """

    nonce: bytes
    counter: int
    image: bytes

    def encode(self) -> bytes:
        """Return the payload."""
        return cbor.encode([self.nonce, self.counter, self.image])

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Decode the payload.

        Raises:
            ValueError: the bytes are not a payload.
        """
        match cbor.decode(raw):
            case [bytes(nonce), int(counter), bytes(image)] if (
                (len(nonce), len(image)) == (NONCE_SIZE, _HASH_SIZE) and type(counter) is int and _fits(counter)
            ):
                return cls(nonce, counter, image)
        raise ValueError("the statement's payload is not a nonce, a counter and the SHA-256 of an image")


@dataclass(frozen=True)
class LogEntry:
    """An entry of a log. The module's docstring describes the items.

    The constructor refuses wrong values, so that each `LogEntry` has an encoding that `decode` accepts.

    Raises:
        RefusedError: a value is out of range, or the values contradict each other.
    """

    kind: EntryKind
    time: int
    device: int = 0
    release: ReleaseId | None = None
    image: bytes | None = None
    previous: bytes | None = None
    level: EvidenceLevel | None = None
    counter: int | None = None
    unique_id: bytes | None = None
    gateway: UUID | None = None
    source: str | None = None
    order: int | None = None
    signature: bytes | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        try:
            self._check_ranges()
            self._check_kind()
            if self.signature is not None:
                self._check_statement(self.signature)
        except ValueError as error:
            raise RefusedError("the log entry cannot be used", why=str(error)) from error

    def encode(self) -> bytes:
        """Return the entry's bytes, whose hash is a leaf of the log's tree."""
        return cbor.encode(
            [
                int(self.kind),
                self.device.to_bytes(_NUMBER_SIZE),
                *_release_items(self.release),
                self.image or _NO_HASH,
                self.previous,
                self.level and str(self.level),
                self.counter,
                self.unique_id,
                self.time,
                self.gateway.bytes if self.gateway else _NO_UUID,
                self.source,
                self.order,
                self.signature,
            ]
        )

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Decode an entry.

        An entry has exactly one encoding, and any other bytes are refused.

        Raises:
            RefusedError: the bytes are not an entry.
        """
        if len(raw) > MAX_ENTRY_SIZE:
            _refuse(f"it has {len(raw):,} bytes, and at most {MAX_ENTRY_SIZE:,} are allowed")
        try:
            entry = cls(**_values(cbor.decode(raw)))
        except ValueError as error:
            _refuse(str(error), error)
        # The items 2 to 7 repeat each other, so only the encoding of the values shows whether they agree.
        if entry.encode() != raw:
            _refuse("its release is not the hash of chain, contract, product and version")
        return entry

    def as_fields(self) -> dict[str, Any]:
        """The JSON object of an entry, as in ``log verify --json``."""
        release = self.release.as_fields() if self.release else dict.fromkeys(_RELEASE_FIELDS)
        return {
            "kind": str(self.kind),
            "device": self.device,
            **release,
            "image": _hex(self.image),
            "previous": _hex(self.previous),
            "level": self.level and str(self.level),
            "counter": self.counter,
            "uniqueId": _hex(self.unique_id),
            "time": self.time,
            "gateway": str(self.gateway) if self.gateway else None,
            "source": self.source,
            "order": self.order,
            "signature": _hex(self.signature),
        }

    def _check_ranges(self) -> None:
        numbers = {"device number": self.device, "counter": self.counter, "order": self.order}
        for name, number in numbers.items():
            if number is not None and not _fits(number):
                raise ValueError(f"the {name} {number} has more than {_NUMBER_BITS} bits")
        if not _fits(self.time, _TIME_BITS):
            raise ValueError(f"the time {self.time} is not a time in seconds")

        # The items of 32 bytes, and the values that stand for an absent item.
        for name, value in {"image": self.image, "previous": self.previous}.items():
            if value is not None and len(value) != _HASH_SIZE:
                raise ValueError(f"the SHA-256 of the {name} has {len(value)} bytes, not {_HASH_SIZE}")
        if self.image == _NO_HASH or (self.gateway and not self.gateway.int):
            raise ValueError("the image or the gateway consists of zeros, the encoding of an absent item")

        if self.unique_id is not None and not 0 < len(self.unique_id) <= _MAX_UNIQUE_ID:
            raise ValueError(f"the unique id has {len(self.unique_id)} bytes, not 1 to {_MAX_UNIQUE_ID}")
        if self.source is not None:
            _check_text(self.source)
        if self.release:
            _check_release(self.release)

    def _check_kind(self) -> None:
        if self.kind.names_running_image:
            if not self.release or not self.image or not self.level:
                raise ValueError(f"an entry of the kind {self.kind} needs a release, an image and an evidence level")
            if not self.device and not self.unique_id:
                raise ValueError("a board that is not registered needs its unique id")
        elif self.level not in (None, EvidenceLevel.A, EvidenceLevel.B if self.kind is EntryKind.EVENT else None):
            raise ValueError(f"an entry of the kind {self.kind} has no evidence level {self.level}")

        if self.kind is EntryKind.CLAIMED and self.level is not EvidenceLevel.B:
            raise ValueError("an image that is only claimed has the evidence level B")
        if (self.level is EvidenceLevel.A) != (self.signature is not None):
            raise ValueError("an entry must have a device's signature if its evidence level is A, and only then")

    def _check_statement(self, raw: bytes) -> None:
        if not self.device:
            raise ValueError("only a registered device has a key with which it can sign")
        if is_boot_event(raw):
            self._check_boot_event(SignedBootEvent.decode(raw).event)
            return

        signed = SignedStatement.decode(raw)
        if signed.type != self.kind.statement:
            raise ValueError(f"an entry of the kind {self.kind} cannot have a statement of type {signed.type!r:.40}")
        if self.kind is EntryKind.EVENT:
            event = DeviceEvent.of_payload(signed.payload)
            if (event.seq, printable(event.text)) != (self.counter, self.source):
                raise ValueError("the device signed another event")
            return

        statement = DeviceStatement.decode(signed.payload)
        if (statement.counter, statement.image) != (self.counter, self.image):
            raise ValueError("the device signed another counter or another image")

    def _check_boot_event(self, event: BootEvent) -> None:
        if event.number != self.counter or (self.kind is EntryKind.EVENT and event.text != self.source):
            raise ValueError("the device signed another event")
        if self.kind is not EntryKind.EVENT and (self.kind.statement != RUNS or not event.shows_running_image):
            raise ValueError(f"an entry of the kind {self.kind} cannot have this signed event")


def printable(text: str) -> str:
    """Return a text without control characters, cut to the length that an entry allows."""
    shown = plain(text)
    while len(raw := shown.encode("utf-8", "surrogatepass")) > MAX_TEXT_SIZE:
        shown = raw[: MAX_TEXT_SIZE - 3].decode("utf-8", "ignore") + "…"
    return shown


def event_text(raw: bytes) -> str | None:
    """Return the text of an encoded event entry; None for other entries and for events without a text.

    The function checks only the items that it reads, and is therefore ten times as fast as `LogEntry.decode`.
    """
    if raw[1:2] != bytes((EntryKind.EVENT,)):
        return None
    try:
        items = cbor.decode(raw)
    except ValueError:
        return None
    source = items[_SOURCE] if isinstance(items, list) and len(items) == _ITEMS else None
    return source if isinstance(source, str) else None


def _release_items(release: ReleaseId | None) -> list[Any]:
    """Return the items 2 to 6 of an entry."""
    if release is None:
        return [_NO_HASH, 0, _NO_ADDRESS, "", 0]
    contract = bytes.fromhex(release.contract[2:])
    return [release.digest, release.chain_id, contract, release.product, release.version.packed]


def _hex(value: bytes | None) -> str | None:
    return value.hex() if value else None


def _check_text(text: str) -> None:
    if (size := len(text.encode("utf-8", "surrogatepass"))) > MAX_TEXT_SIZE:
        raise ValueError(f"the entry's text has {size:,} bytes, and at most {MAX_TEXT_SIZE:,} are allowed")
    if not text.isprintable():
        raise ValueError("the entry's text has characters that cannot be printed")


def _check_release(release: ReleaseId) -> None:
    if not 0 < release.chain_id < 1 << _NUMBER_BITS:
        raise ValueError(f"{release.chain_id} is not a chain id")
    if not is_checksum_address(release.contract):
        raise ValueError(f"{release.contract!r:.60} is not a checksummed address")
    try:
        product_key(release.product)
    except UsageError as error:
        raise ValueError(error.what) from error


def _values(items: Any) -> dict[str, Any]:
    """Return the arguments of a `LogEntry` from the items of an entry, after checking the types of the items.

    Raises:
        ValueError: an item has a wrong type, or a size or number that is out of range for its field.
    """
    if not isinstance(items, list) or len(items) != _ITEMS:
        raise ValueError(f"the entry is not an array of {_ITEMS} items")
    kinds = (int, bytes, bytes, int, bytes, str, int, bytes, bytes, str, int, bytes, int, bytes, str, int, bytes)
    optional = {8, 9, 10, 11, 14, 15, 16}
    for number, (item, kind) in enumerate(zip(items, kinds, strict=True)):
        # Not isinstance: a bool is an int.
        if type(item) is not kind and not (item is None and number in optional):
            raise ValueError(f"item {number} has the wrong type")
    number, release, chain_id, contract, product, version, image = items[1:8]
    gateway = items[13]
    lengths = tuple(map(len, (number, release, contract, image, gateway)))
    if lengths != (_NUMBER_SIZE, _HASH_SIZE, _ADDRESS_SIZE, _HASH_SIZE, _UUID_SIZE):
        raise ValueError("the entry's device number, release, contract, image or gateway has a wrong length")
    if version >> _NUMBER_BITS:
        raise ValueError(f"the entry's version has more than {_NUMBER_BITS} bits")

    unpacked = Version.unpack(version)
    named = ReleaseId(chain_id, to_checksum_address(contract), product, unpacked) if unpacked else None
    level = None if items[9] is None else EvidenceLevel(items[9])
    gateway_uuid = UUID(bytes=gateway) if any(gateway) else None
    return {
        "kind": EntryKind(items[0]),
        "device": int.from_bytes(number),
        "release": named,
        "image": None if image == _NO_HASH else image,
        "previous": items[8],
        "level": level,
        "counter": items[10],
        "unique_id": items[11],
        "time": items[12],
        "gateway": gateway_uuid,
        "source": items[14],
        "order": items[15],
        "signature": items[16],
    }


def _fits(number: int, bits: int = _NUMBER_BITS) -> bool:
    return 0 <= number < 1 << bits


def _refuse(why: str, cause: Exception | None = None) -> NoReturn:
    raise RefusedError("the bytes are not a log entry", why=why) from cause
