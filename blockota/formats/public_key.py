"""Public keys of identities (P-256, Ed25519, X25519 and RSA), as the contract stores them and as PEM files.

Pure. The contract IdentityRegistry stores the coordinates x and y of a P-256 key, the 32 bytes of an Ed25519 or X25519
key, and the DER SubjectPublicKeyInfo of an RSA key. A PEM file contains the SubjectPublicKeyInfo of a key of any kind
(RFC 5280, 5480, 8410, 8017).
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from blockota.errors import UsageError


class KeyKind(enum.Enum):
    """The kind of a key.

    P256, ED25519 and RSA have the numbers that the contract uses. The contract does not number X25519, the kind of
    tunnel keys.
    """

    P256 = 1
    ED25519 = 2
    RSA = 3
    X25519 = -1

    def __str__(self) -> str:
        """The usual name of the kind."""
        return _NAMES[self]


_NAMES = {KeyKind.P256: "P-256", KeyKind.ED25519: "Ed25519", KeyKind.RSA: "RSA", KeyKind.X25519: "X25519"}
_SPKI_PREFIXES: Mapping[KeyKind, bytes] = {
    KeyKind.P256: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    KeyKind.ED25519: bytes.fromhex("302a300506032b6570032100"),
    KeyKind.X25519: bytes.fromhex("302a300506032b656e032100"),
}
"""The DER bytes before the key in a SubjectPublicKeyInfo. For an RSA key, these bytes depend on the key's length."""
_SIZES = {KeyKind.P256: 64, KeyKind.ED25519: 32, KeyKind.X25519: 32}
_RSA_BITS = {294: 2048, 422: 3072, 550: 4096}
"""The size of the RSA modulus in bits, by the size of the SubjectPublicKeyInfo in bytes."""
_RSA_PREFIX, _RSA_EXPONENT = 33, bytes.fromhex("0203010001")
_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")
_PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
_CURVE_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", re.DOTALL)
_EXPORT = "export the public key, for example with `openssl pkey -pubout`"


@dataclass(frozen=True)
class PublicKey:
    """A public key.

    Attributes:
        kind: kind of the key.
        data: the key as the contract stores it.

    Raises:
        UsageError: the key does not have the format of its kind.
    """

    kind: KeyKind
    data: bytes

    def __post_init__(self) -> None:
        """Check the format."""
        if self.kind is KeyKind.RSA:
            _check_rsa(self.data)
        elif len(self.data) != _SIZES[self.kind]:
            why = f"it has {len(self.data)} bytes, and a key of this kind has {_SIZES[self.kind]}"
            raise UsageError(f"this is not a key of the kind {self.kind}", why=why, remedy=_EXPORT)
        elif self.kind is KeyKind.P256:
            _check_point(self.data)

    def __str__(self) -> str:
        """The name of the kind; for an RSA key, also the number of bits."""
        return f"RSA-{_RSA_BITS[len(self.data)]}" if self.kind is KeyKind.RSA else str(self.kind)

    @property
    def spki(self) -> bytes:
        """The key as DER SubjectPublicKeyInfo."""
        return _SPKI_PREFIXES.get(self.kind, b"") + self.data

    @property
    def pem(self) -> str:
        """The key as a PEM file, as OpenSSL writes it."""
        lines = textwrap.wrap(base64.b64encode(self.spki).decode(), 64)
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def read_spki(der: bytes) -> PublicKey:
    """Read a DER SubjectPublicKeyInfo.

    Raises:
        UsageError: the contract does not accept a key of this kind or length.
    """
    for kind, prefix in _SPKI_PREFIXES.items():
        if der.startswith(prefix):
            return PublicKey(kind, der[len(prefix) :])
    if _RSA_ALGORITHM in der[:24]:
        return PublicKey(KeyKind.RSA, der)
    raise UsageError(
        "this kind of key cannot be enrolled",
        why="it is not an uncompressed P-256 key, an Ed25519 key or an RSA key",
        remedy="make a key on the curve P-256 (secp256r1), and export it with an uncompressed point",
    )


def read_pem(text: str) -> PublicKey:
    """Read the public key of a PEM file.

    The file must contain nothing else.

    Raises:
        UsageError: the file has other content, such as a private key.
    """
    blocks = _PEM.findall(text)
    if any("PRIVATE" in label for label, _ in blocks):
        raise UsageError("the file has a private key", why="only the public key is needed", remedy=_EXPORT)

    if [label for label, _ in blocks] != ["PUBLIC KEY"]:
        found = ", ".join(label.lower() for label, _ in blocks) or "no PEM block"
        raise UsageError("the file is not a public key", why=f"it has {found}", remedy=_EXPORT)

    try:
        der = base64.b64decode("".join(blocks[0][1].split()), validate=True)
    except binascii.Error as error:
        raise UsageError("the file is not a public key", why=f"its Base64 is damaged ({error})") from error
    return read_spki(der)


def _check_point(data: bytes) -> None:
    x, y = int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")
    if x >= _PRIME or y >= _PRIME or (y * y - (x * x * x - 3 * x + _CURVE_B)) % _PRIME:
        why = "x and y are not the coordinates of a point on the curve"
        raise UsageError("this is not a P-256 key", why=why, remedy=_EXPORT)


def _check_rsa(der: bytes) -> None:
    """Check the DER bytes before and after the modulus. These bytes depend only on the length of the key.

    The highest and the lowest bit of the modulus must be set. The contract IdentityRegistry makes the same checks.
    """
    length = len(der)
    if length not in _RSA_BITS:
        raise UsageError(
            "this RSA key cannot be enrolled",
            why=f"its modulus does not have 2048, 3072 or 4096 bits (SubjectPublicKeyInfo of {length} bytes)",
            remedy="make a key of 2048 bits or more",
        )

    # The lengths of the DER elements around the modulus: sequence, bit string, inner sequence and integer.
    sizes = [(length - short).to_bytes(2, "big") for short in (4, 23, 28, 37)]
    prefix = b"".join(
        [
            b"\x30\x82",
            sizes[0],
            _RSA_ALGORITHM,
            b"\x03\x82",
            sizes[1],
            b"\0\x30\x82",
            sizes[2],
            b"\x02\x82",
            sizes[3],
            b"\0",
        ]
    )

    modulus = int.from_bytes(der[_RSA_PREFIX : -len(_RSA_EXPONENT)], "big")
    is_whole = modulus.bit_length() == _RSA_BITS[length] and modulus & 1
    if der[:_RSA_PREFIX] != prefix or not der.endswith(_RSA_EXPONENT) or not is_whole:
        raise UsageError(
            "this RSA key cannot be enrolled",
            why="it is not a SubjectPublicKeyInfo with an odd modulus of full length and the exponent 65537",
            remedy="make the key with the exponent 65537",
        )
