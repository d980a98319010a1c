"""Identities survive writing and reading as JSON, and invalid values are refused with a reason."""

from __future__ import annotations

from ipaddress import IPv4Address
from uuid import UUID

import pytest

from blockota.errors import UsageError
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.model.identity import (
    Enrolment,
    Identity,
    IdentityKind,
    Keys,
    ban_reason,
    identity_key,
    tunnel_key_of,
    virtual_ip_of,
)
from tests.support.identities import ACCOUNT, KEYS, UUIDS

IDENTITY = Identity(
    uuid=UUIDS[0],
    kind=IdentityKind.GATEWAY,
    keys=KEYS[0],
    virtual_ip=IPv4Address("10.64.0.7"),
    banned=False,
    banned_at=None,
    retired=False,
    since=1_700_000_000,
    from_block=7,
    previous=None,
)


def test_an_enrolment_is_read_from_the_json_of_an_identity() -> None:
    """The JSON object that `identity show` prints can be read as an enrolment."""
    assert Enrolment.from_fields(IDENTITY.as_fields()) == Enrolment(
        IDENTITY.uuid, IDENTITY.kind, IDENTITY.keys, IDENTITY.virtual_ip
    )
    bare = {"uuid": str(UUIDS[1]), "kind": "technician", "key": KEYS[1].key.pem}
    assert Enrolment.from_fields(bare) == Enrolment(UUIDS[1], IdentityKind.TECHNICIAN, Keys(KEYS[1].key))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uuid", "7"),
        ("uuid", 7),
        ("kind", "gate"),
        ("key", "none"),
        ("account", ACCOUNT.lower()),
        ("logKey", KEYS[0].key.pem),
        ("tunnelKey", "AAAA"),
        ("virtualIp", "10.64.0"),
        ("virtualIp", "0.0.0.0"),  # noqa: S104
    ],
)
def test_a_wrong_field_is_refused(field: str, value: object) -> None:
    """Each invalid field of an enrolment is refused."""
    with pytest.raises((TypeError, ValueError, UsageError)):
        Enrolment.from_fields({**IDENTITY.as_fields(), field: value})


def test_a_tunnels_key_cannot_sign() -> None:
    """An X25519 key is refused as the key of an identity. A tunnel key that is not 32 bytes is refused."""
    with pytest.raises(UsageError, match="X25519"):
        identity_key(PublicKey(KeyKind.X25519, bytes(range(32))).pem)
    for words in ("", "AAAA", "A" * 43 + "=", KEYS[0].key.pem):
        with pytest.raises(UsageError):
            tunnel_key_of(words)


@pytest.mark.parametrize("words", ["", "x" * 33, "gestohlen, früh", "two\nlines"])
def test_the_reason_of_a_ban_is_short_ascii(words: str) -> None:
    """The reason of a ban is 1 to 32 printable ASCII characters."""
    with pytest.raises(UsageError):
        ban_reason(words)
    assert ban_reason("stolen") == b"stolen".ljust(32, b"\0")


@pytest.mark.parametrize(
    ("banned", "retired", "status"), [(False, False, "active"), (True, False, "banned"), (True, True, "retired")]
)
def test_the_status_follows_from_ban_and_retirement(banned: bool, retired: bool, status: str) -> None:  # noqa: FBT001
    """The status of a banned and retired identity is "retired", because retirement is final."""
    one = Identity(**{**IDENTITY.__dict__, "banned": banned, "retired": retired})
    assert one.status == status
    assert one.is_active is (status == "active")
    assert str(UUID(one.as_fields()["uuid"])) == str(IDENTITY.uuid)


@pytest.mark.parametrize("address", ["10.64.0.7", "100.64.0.1", "172.16.0.9", "203.0.113.5"])
def test_a_virtual_ip_is_the_address_of_a_host(address: str) -> None:
    """A virtual IP of any network is accepted."""
    assert str(virtual_ip_of(address)) == address


@pytest.mark.parametrize(
    "address",
    [
        *("", "10.64.0", "10.64.0.256", "010.64.0.7", "10.64.0.7/32", "fe80::1"),
        *("0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255"),  # noqa: S104
    ],
)
def test_other_addresses_are_no_virtual_ips(address: str) -> None:
    """An address that a host cannot have is refused as virtual IP, because a virtual IP cannot be changed later."""
    with pytest.raises(UsageError, match="is not a virtual IP"):
        virtual_ip_of(address)
