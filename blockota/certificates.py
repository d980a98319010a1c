"""Server certificates for a site, signed by the site's own certificate authority (X.509, RFC 5280)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEARS = timedelta(days=3650)


def make_certificates(
    title: str, hosts: Sequence[str], *, now: datetime, authority: tuple[bytes, bytes] | None = None
) -> dict[str, bytes]:
    """Make a server's key and certificate, and an authority's key and certificate if `authority` is None.

    Args:
        title: the name of a new authority.
        hosts: names and addresses of the server.
        now: the time from which the certificates are valid.
        authority: the private key and the certificate of the authority, in PEM; None to make a new authority.

    Returns:
        PEM files by name: ``server.key`` and ``server.pem``; for a new authority, ``authority.key`` and
        ``authority.pem`` too. The keys are unencrypted.

    Raises:
        ValueError: the authority's private key is not a P-256 key.
    """
    files = {}
    if authority:
        key = load_pem_private_key(authority[0], password=None)
        issuer = x509.load_pem_x509_certificate(authority[1])
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError("the file does not have a P-256 key")
    else:
        key = generate_private_key(SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
        basics = x509.BasicConstraints(ca=True, path_length=0)
        issuer = _certificate((name, name), key, now).add_extension(basics, critical=True).sign(key, SHA256())
        files = {"authority.key": _pem(key), "authority.pem": issuer.public_bytes(Encoding.PEM)}

    own = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    server = (
        _certificate((name, issuer.subject), own, now)
        .add_extension(x509.SubjectAlternativeName([_host(one) for one in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )

    return files | {"server.key": _pem(own), "server.pem": server.sign(key, SHA256()).public_bytes(Encoding.PEM)}


def _certificate(
    names: tuple[x509.Name, x509.Name], key: EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of devices may be slow
        .not_valid_after(now + _YEARS)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
