"""Public keys in PEM files of other programs are read; keys that the contract refuses are refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from blockota.errors import UsageError
from blockota.formats.public_key import KeyKind, PublicKey, read_pem, read_spki

PublicKeyOfPeer = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | x25519.X25519PublicKey | rsa.RSAPublicKey


def rsa_key(bits: int, *, exponent: int = 65537) -> rsa.RSAPublicKey:
    """Return an RSA key with an arbitrary modulus; readers of keys do not check that it is a product of primes."""
    return rsa.RSAPublicNumbers(exponent, (1 << (bits - 1)) + 0x1F5).public_key()


PRIVATE = ec.derive_private_key(7, ec.SECP256R1())
KEYS: dict[KeyKind, PublicKeyOfPeer] = {
    KeyKind.P256: PRIVATE.public_key(),
    KeyKind.ED25519: ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key(),
    KeyKind.X25519: x25519.X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key(),
    KeyKind.RSA: rsa_key(2048),
}


def pem_of(key: PublicKeyOfPeer) -> str:
    """Return a key in the PEM format that `cryptography` writes."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, kind).decode()


def refusal(pem: str) -> str:
    """Read a PEM file that is refused, and return the text of the error."""
    with pytest.raises(UsageError) as caught:
        read_pem(pem)
    return f"{caught.value.what}: {caught.value.why}. {caught.value.remedy}"


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_is_read_and_written_as_by_another_program(kind: KeyKind) -> None:
    """The PEM file that is written equals the file that was read."""
    key = read_pem(pem_of(KEYS[kind]))
    assert key.kind is kind
    assert key.pem == pem_of(KEYS[kind])
    assert read_spki(key.spki) == key


@pytest.mark.parametrize(("bits", "name"), [(2048, "RSA-2048"), (3072, "RSA-3072"), (4096, "RSA-4096")])
def test_the_name_of_an_rsa_key_has_its_length(bits: int, name: str) -> None:
    """RSA keys of the three lengths that the contract accepts are read."""
    assert str(read_pem(pem_of(rsa_key(bits)))) == name


@pytest.mark.parametrize("key", [rsa_key(1024), rsa_key(2047), rsa_key(2560), rsa_key(2048, exponent=3)])
def test_a_weak_or_unusual_rsa_key_is_refused(key: rsa.RSAPublicKey) -> None:
    """RSA keys with another length of the modulus or another exponent are refused."""
    assert "RSA key cannot be enrolled" in refusal(pem_of(key))


def test_every_changed_byte_around_an_rsa_modulus_is_refused() -> None:
    """A key with a changed byte in its DER frame, or a modulus without its highest or lowest bit, is refused."""
    der = read_pem(pem_of(rsa_key(2048))).spki
    for place in [*range(34), *range(len(der) - 6, len(der))]:
        changed = bytearray(der)
        changed[place] ^= 0x81
        with pytest.raises(UsageError):
            PublicKey(KeyKind.RSA, bytes(changed))


def test_a_point_off_the_curve_is_refused() -> None:
    """Each changed bit of a coordinate, swapped coordinates, and coordinates above the prime are refused."""
    data = read_pem(pem_of(KEYS[KeyKind.P256])).data
    wrong = [bytes(64), b"\xff" * 64, data[32:] + data[:32], data[:-1]]
    wrong += [bytes(a ^ ((bit == i) << 2) for i, a in enumerate(data)) for bit in range(64)]
    for one in wrong:
        with pytest.raises(UsageError, match="P-256"):
            PublicKey(KeyKind.P256, one)


def test_a_coordinate_is_below_the_prime() -> None:
    """The P-256 points with x = 0 and with y = 5 are read, but not if the prime is added to a coordinate."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    y = 0x66485C780E2F83D72433BD5D84A06BB6541C2AF31DAE871728BF856A174F93F4
    x = 0xD7325D7646CD60D80A92738CEB345F844CFFAF35841022CAB176F692DE8DE1D7
    for one, two in ((0, y), (x, 5)):
        PublicKey(KeyKind.P256, one.to_bytes(32, "big") + two.to_bytes(32, "big"))
    for one, two in ((prime, y), (x, prime + 5)):
        with pytest.raises(UsageError, match="P-256"):
            PublicKey(KeyKind.P256, one.to_bytes(32, "big") + two.to_bytes(32, "big"))


def test_a_private_key_is_refused_and_not_shown() -> None:
    """The error for a private key does not contain the key."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = PRIVATE.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    words = refusal(secret)
    assert "the file has a private key" in words
    assert secret.splitlines()[1] not in words


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "MFkwEwYH",
        pem_of(KEYS[KeyKind.P256]) * 2,
        pem_of(KEYS[KeyKind.P256]).replace("M", "!", 1),
        pem_of(ec.derive_private_key(7, ec.SECP256K1()).public_key()),
        pem_of(KEYS[KeyKind.P256]).replace("PUBLIC KEY", "CERTIFICATE"),
    ],
)
def test_another_file_is_refused(pem: str) -> None:
    """Two keys in one file, damaged Base64, another curve and a certificate are refused."""
    assert refusal(pem)
