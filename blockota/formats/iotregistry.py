"""Messages of Trusted-IoT-Alliance/IOTRegistry: its transactions, the records of its state, and its query answers.

IOTRegistry is a registry of devices (*things*) for Hyperledger Fabric, last changed in 2018. A transaction names a
function of the chaincode and has one argument, a protobuf message in hexadecimal. All fields of a message have the wire
type "length-delimited" (protobuf encoding, "Message Structure"). The writer produces the same bytes as Go's protobuf
package: it sorts fields by number, and omits empty fields. The reader accepts only this encoding.

A signature is an ECDSA signature over secp256k1 in DER. The signed text joins the fields with ":", and the signature
covers the SHA-256 of this text. IOTRegistry's own check of the signature has two faults. First, the text for a thing
omits the thing's nonce, so the signature is valid for every nonce. Second, different fields can produce the same text:
for example, the alias ``a:b``, and the two aliases ``a`` and ``b``.

Sources: IOTRegistry.go, IOTRegistryTX and IOTRegistryStore in github.com/Trusted-IoT-Alliance/IOTRegistry.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256K1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blockota.errors import UsageError

_LENGTH_DELIMITED = 2
_CONTINUES, _SEVEN_BITS = 0x80, 0x7F
_MAX_LENGTH_SIZE = 4
_GO_ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}
"""The characters that Go's encoding/json escapes, although Python's json does not."""
_LONG_ESCAPES = {"b": "\\u0008", "f": "\\u000c"}

_Fields = dict[int, list[bytes]]


@dataclass(frozen=True)
class RegistrantTransaction:
    """CreateRegistrantTX announces a registrant.

    Older versions of IOTRegistry call the message RegisterOwnerTX.

    Attributes:
        name: name of the registrant.
        public_key: the secp256k1 key of the registrant, compressed or uncompressed.
        data: a text that IOTRegistry does not store.
        signature: the registrant's signature.
    """

    FUNCTIONS: ClassVar = ("createRegistrant", "registerOwner")

    name: str
    public_key: bytes
    data: str
    signature: bytes

    def encode(self) -> bytes:
        """Return the protobuf message."""
        return _message({1: self.name, 2: self.public_key, 3: self.data, 4: self.signature})

    def texts(self) -> tuple[str, ...]:
        """Return three texts, of which the registrant signs one.

        The first text contains the key as given, the second the compressed key, and the third no key.
        """
        keys = (self.public_key.hex(), compressed(self.public_key).hex())
        return (*(f"{self.name}:{key}:{self.data}" for key in keys), f"{self.name}:{self.data}")


@dataclass(frozen=True)
class ThingTransaction:
    """RegisterThingTX: registers a thing.

    Attributes:
        nonce: id of the thing.
        aliases: names of the thing.
        registrant: the registrant's key as lower-case hexadecimal text; in older versions of IOTRegistry, the
            registrant's name.
        signature: the registrant's signature.
        data: a text, usually JSON that satisfies the spec.
        spec: name of the spec.
    """

    FUNCTIONS: ClassVar = ("registerThing",)

    nonce: bytes
    aliases: tuple[str, ...]
    registrant: str
    signature: bytes
    data: str
    spec: str

    def encode(self) -> bytes:
        """Return the protobuf message."""
        return _message(
            {1: self.nonce, 2: self.aliases, 3: self.registrant, 4: self.signature, 5: self.data, 6: self.spec}
        )

    @property
    def is_ambiguous(self) -> bool:
        """Whether an alias or the spec contains ":". The signature is then also valid for other aliases."""
        return any(":" in text for text in (*self.aliases, self.spec))

    def texts(self) -> tuple[str, ...]:
        """Return the signed text, which does not contain the nonce."""
        return (":".join((self.registrant, *self.aliases, self.data, self.spec)),)


@dataclass(frozen=True)
class SpecTransaction:
    """RegisterSpecTX: registers a spec.

    Attributes:
        name: name of the spec.
        registrant: the registrant's key as lower-case hexadecimal text; in older versions of IOTRegistry, the
            registrant's name.
        signature: the registrant's signature.
        data: a text, usually a JSON schema.
    """

    FUNCTIONS: ClassVar = ("registerSpec",)

    name: str
    registrant: str
    signature: bytes
    data: str

    def encode(self) -> bytes:
        """Return the protobuf message."""
        return _message({1: self.name, 2: self.registrant, 3: self.signature, 4: self.data})

    def texts(self) -> tuple[str, ...]:
        """Return the signed text."""
        return (f"{self.name}:{self.registrant}:{self.data}",)


Transaction = RegistrantTransaction | ThingTransaction | SpecTransaction


@dataclass(frozen=True)
class ThingRecord:
    """The record of a thing under the key ``Thing:<nonce in hexadecimal>``.

    Attributes:
        aliases: names of the thing.
        registrant: the registrant's key as lower-case hexadecimal text.
        data: text of the thing.
        spec: name of the spec.
    """

    aliases: tuple[str, ...]
    registrant: str
    data: str
    spec: str

    @classmethod
    def decode(cls, raw: bytes) -> ThingRecord:
        """Read a record.

        Raises:
            UsageError: the bytes are not a record of this kind.
        """
        fields = _read(raw, repeated=1, known=range(1, 5))
        aliases = tuple(_text(one) for one in fields.get(1, []))
        return cls(aliases, *(_text(_only(fields, number)) for number in (2, 3, 4)))

    def query(self) -> str:
        """Return IOTRegistry's answer to the query ``thing``."""
        fields = {
            "Aliases": self.aliases,
            "RegistrantPubkey": self.registrant,
            "Data": self.data,
            "SpecName": self.spec,
        }
        return _go_json({name: value for name, value in fields.items() if value})


@dataclass(frozen=True)
class SpecRecord:
    """The record of a spec under the key ``Spec:<name>``.

    Attributes:
        data: text of the spec.
        registrant: the registrant's key as lower-case hexadecimal text.
    """

    data: str
    registrant: str

    @classmethod
    def decode(cls, raw: bytes) -> SpecRecord:
        """Read a record.

        Raises:
            UsageError: the bytes are not a record of this kind.
        """
        fields = _read(raw, known=range(1, 3))
        return cls(_text(_only(fields, 1)), _text(_only(fields, 2)))

    def query(self) -> str:
        """Return IOTRegistry's answer to the query ``spec``."""
        fields = {"RegistrantPubkey": self.registrant, "Data": self.data}
        return _go_json({name: value for name, value in fields.items() if value})


@dataclass(frozen=True)
class RegistrantRecord:
    """The record of a registrant under the key ``RegistrantPubkey:<key in hexadecimal>``.

    Attributes:
        name: name of the registrant.
        public_key: the secp256k1 key of the registrant, compressed.
    """

    name: str
    public_key: bytes

    @classmethod
    def decode(cls, raw: bytes) -> RegistrantRecord:
        """Read a record.

        Raises:
            UsageError: the bytes are not a record of this kind.
        """
        fields = _read(raw, known=(1, 3))
        return cls(_text(_only(fields, 1)), _only(fields, 3))

    def query(self) -> str:
        """Return IOTRegistry's answer to the query ``owner``."""
        return _go_json({"RegistrantName": self.name, "Pubkey": self.public_key.hex()})


def read_transaction(function: str, raw: bytes) -> Transaction:
    """Read the argument of a transaction.

    Args:
        function: the chaincode's function.
        raw: the protobuf message.

    Raises:
        UsageError: IOTRegistry lacks the function, would refuse the message, or would encode the message differently.
    """
    if function in RegistrantTransaction.FUNCTIONS:
        fields = _read(raw, known=range(1, 5))
        name, key, data, signature = (_only(fields, number) for number in range(1, 5))
        found: Transaction = RegistrantTransaction(_text(name), key, _text(data), signature)
        needed = {"name": name, "key": key, "signature": signature}
    elif function in ThingTransaction.FUNCTIONS:
        fields = _read(raw, repeated=2, known=range(1, 7))
        aliases = tuple(_text(one) for one in fields.pop(2, []))
        nonce, registrant, signature, data, spec = (_only(fields, number) for number in (1, 3, 4, 5, 6))
        found = ThingTransaction(nonce, aliases, _text(registrant), signature, _text(data), _text(spec))
        needed = {"nonce": nonce, "registrant": registrant, "signature": signature}
    elif function in SpecTransaction.FUNCTIONS:
        fields = _read(raw, known=range(1, 5))
        name, registrant, signature, data = (_only(fields, number) for number in range(1, 5))
        found = SpecTransaction(_text(name), _text(registrant), signature, _text(data))
        needed = {"name": name, "registrant": registrant, "signature": signature}
    else:
        raise _refused(f"IOTRegistry has no function {function!r:.60}")

    if missing := [name for name, value in needed.items() if not value]:
        raise _refused(f"its {' and '.join(missing)} is empty; IOTRegistry refuses it too")
    if found.encode() != raw:
        raise _refused("its fields are not in the order in which Go's protobuf package writes them")
    return found


def is_signed(transaction: Transaction, public_key: bytes) -> bool:
    """Whether a transaction's signature is valid under a registrant's key."""
    try:
        key = EllipticCurvePublicKey.from_encoded_point(SECP256K1(), public_key)
    except ValueError:
        return False

    for text in transaction.texts():
        try:
            key.verify(transaction.signature, text.encode(), ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return True
    return False


def compressed(public_key: bytes) -> bytes:
    """Return the 33-byte form of a secp256k1 key.

    Raises:
        UsageError: the bytes are not a point of the curve.
    """
    return _key(public_key).public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def uncompressed(public_key: bytes) -> bytes:
    """Return the 65-byte form of a secp256k1 key.

    Raises:
        UsageError: the bytes are not a point of the curve.
    """
    return _key(public_key).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def replays(things: Iterable[ThingTransaction]) -> dict[bytes, str]:
    """Find things that share one signed text. The registrant may have signed only one of these things.

    Returns:
        A dict from the nonce of each found thing to the reason why the thing's signature is not unique.
    """
    by_text: Mapping[str, list[ThingTransaction]] = defaultdict(list)
    for thing in things:
        by_text[thing.texts()[0]].append(thing)

    found = {}
    for same in by_text.values():
        nonces = {thing.nonce for thing in same}
        what = "other fields" if len({(one.aliases, one.data, one.spec) for one in same}) > 1 else "another nonce"
        for nonce in nonces if len(nonces) > 1 else ():
            others = ", ".join(sorted(one.hex() for one in nonces - {nonce}))
            found[nonce] = f"its signature is also valid for a thing with {what}: {others}"
    return found


def _key(public_key: bytes) -> EllipticCurvePublicKey:
    try:
        return EllipticCurvePublicKey.from_encoded_point(SECP256K1(), public_key)
    except ValueError as error:
        raise _refused(f"{public_key.hex()!r:.140} is not a point of the curve secp256k1") from error


def _message(fields: Mapping[int, str | bytes | tuple[str, ...]]) -> bytes:
    """Encode fields in the order of their numbers.

    Empty fields are omitted. Empty items of a list are encoded.
    """
    parts: list[bytes] = []
    for number, value in fields.items():
        if not value:
            continue
        items: Iterable[str | bytes] = value if isinstance(value, tuple) else (value,)
        contents = (item.encode() if isinstance(item, str) else item for item in items)
        tag = bytes([number << 3 | _LENGTH_DELIMITED])
        parts += chain.from_iterable((tag, _varint(len(content)), content) for content in contents)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    groups = [number & _SEVEN_BITS]
    while number := number >> 7:
        groups.append(number & _SEVEN_BITS)
    return bytes([*(group | _CONTINUES for group in groups[:-1]), groups[-1]])


def _read(raw: bytes, *, known: Iterable[int], repeated: int = 0) -> _Fields:
    """Split a message into the contents of its fields.

    Only the field `repeated` may occur more than once.
    """
    fields: _Fields = {}
    numbers = set(known)
    position = 0

    # A field begins with its tag, the number and the wire type in one byte, and then has its length.
    while position < len(raw):
        number, kind = raw[position] >> 3, raw[position] & 7
        if kind != _LENGTH_DELIMITED or number not in numbers:
            raise _refused(f"byte {position} does not begin a field of this message")
        length, position = _read_length(raw, position + 1)
        if position + length > len(raw):
            raise _refused(f"it ends inside field {number}")

        contents = fields.setdefault(number, [])
        contents.append(raw[position : position + length])
        if len(contents) > 1 and number != repeated:
            raise _refused(f"it has field {number} twice")
        position += length
    return fields


def _read_length(raw: bytes, position: int) -> tuple[int, int]:
    """Read the length of a field.

    Returns the length, and the position after it.
    """
    length = 0
    for place, byte in enumerate(raw[position : position + _MAX_LENGTH_SIZE]):
        length |= (byte & _SEVEN_BITS) << (7 * place)
        if byte < _CONTINUES:
            return length, position + place + 1
    raise _refused(f"the length at byte {position} is cut off or too large")


def _only(fields: _Fields, number: int) -> bytes:
    return fields.get(number, [b""])[0]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _refused("a text is not UTF-8") from error


def _go_json(fields: Mapping[str, object]) -> str:
    """Write JSON as Go's encoding/json did in 2018.

    The JSON has no spaces, and only some control characters have short escapes.
    """
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES)
    return re.sub(r"\\(.)", lambda escape: _LONG_ESCAPES.get(escape[1], escape[0]), text)


def _refused(why: str) -> UsageError:
    return UsageError("the bytes are not a message of IOTRegistry", why=why)
