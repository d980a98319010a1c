"""Signed requests are accepted only unchanged, only once, and only by the intended receiver."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.formats.jws import base64url, from_base64url
from blockota.formats.p256 import ORDER
from blockota.formats.request_token import make_token
from blockota.model.identity import Identity, IdentityKind, Keys
from blockota.model.request import (
    MAX_SIZE,
    MAX_STORE_SIZE,
    WINDOW,
    Fault,
    Receiver,
    RegistryReading,
    RequestFaultError,
    RequestVerdict,
    judge,
    read_request,
)
from tests.support.requests import (
    ALGORITHMS,
    METHODS,
    NOW,
    OTHER,
    RECEIVER,
    SENDER,
    VALIDATOR,
    claims,
    identity,
    private_key,
    public_key,
    published_request,
    request,
    request_of,
    token,
)

PADDED = "=" * 2


def verdict(
    raw: bytes,
    record: Identity | None,
    *,
    now: int = NOW,
    seen: frozenset[tuple[UUID, str]] = frozenset(),
    receiver: Receiver = VALIDATOR,
) -> RequestVerdict:
    """Judge a request like a receiver that reads the registry at the newest block."""
    return judge(read_request(raw), RegistryReading(record, now), receiver, now=now, seen=seen)


def refusal(raw: bytes) -> Fault:
    """Return the reason why a request cannot be read, or why the receiver of `VALIDATOR` refuses it."""
    try:
        found = verdict(raw, identity())
    except RequestFaultError as error:
        return error.fault
    assert found.fault, "the request was accepted"
    assert not found.is_proven or found.fault is Fault.NO_SUCH_METHOD
    return found.fault


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_request_of_a_foreign_library_is_accepted_once(algorithm: str) -> None:
    """A token made by joserfc is accepted, with each algorithm. The same token is refused the second time."""
    raw = request(algorithm)
    assert verdict(raw, identity(algorithm)) == RequestVerdict()
    read = read_request(raw)
    assert (read.sender, read.name, read.method, read.receiver, read.raw) == (SENDER, "n-1", "submit", RECEIVER, raw)
    again = verdict(raw, identity(algorithm), seen=frozenset({(SENDER, "n-1")}))
    assert (again.fault, again.is_proven) == (Fault.SEEN, False)


def test_our_own_tokens_are_accepted() -> None:
    """A token of `make_token`, which receives only a function that signs, is accepted."""
    key = private_key("Ed25519").raw_value
    signed = make_token(claims(), algorithm="Ed25519", key_id=str(SENDER), sign=key.sign)  # type: ignore[union-attr,arg-type]
    assert verdict(request_of(signed), identity("Ed25519")) == RequestVerdict()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("other", ALGORITHMS)
def test_only_an_algorithm_of_the_registered_key_is_accepted(algorithm: str, other: str) -> None:
    """A token that another key signed is refused, whatever its header states."""
    expected = None if algorithm == other else Fault.WRONG_KEY
    assert verdict(request(algorithm), identity(other)).fault is expected


def with_signature(change: Callable[[bytes], bytes]) -> bytes:
    """Return a valid request with a changed signature."""
    head, body, signature = token(claims()).split(".")
    return request_of(f"{head}.{body}.{base64url(change(from_base64url(signature)))}")


def forged(header: Mapping[str, object], sign: Callable[[bytes], bytes]) -> bytes:
    """Return a request with the given header and signature."""
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims()))
    return request_of(f"{signed}.{base64url(sign(signed.encode()))}")


def by_password(message: bytes) -> bytes:
    """Sign with the public key as an HMAC secret, which some libraries accept for HS256."""
    return hmac.digest(public_key("ES256").pem.encode(), message, sha256)


GOOD = {"alg": "ES256", "kid": str(SENDER)}
ATTACKS: dict[str, tuple[bytes, Fault]] = {
    "alg none": (forged(GOOD | {"alg": "none"}, lambda _: b""), Fault.WRONG_KEY),
    "HS256 with the PEM": (forged(GOOD | {"alg": "HS256"}, by_password), Fault.WRONG_KEY),
    "alg in lower case": (forged(GOOD | {"alg": "es256"}, lambda _: bytes(64)), Fault.WRONG_KEY),
    "zero signature": (with_signature(lambda old: bytes(len(old))), Fault.WRONG_KEY),
    "empty signature": (with_signature(lambda _: b""), Fault.WRONG_KEY),
    "longer signature": (with_signature(lambda old: old + b"\x00"), Fault.WRONG_KEY),
    "jwk": (request_of(token(claims(), jwk=private_key("ES256").as_dict(private=False))), Fault.WRONG_PARAMETERS),
    "crit": (forged(GOOD | {"crit": ["exp"], "exp": NOW}, lambda _: bytes(64)), Fault.WRONG_PARAMETERS),
    "typ": (request_of(token(claims(), typ="JWT")), Fault.WRONG_PARAMETERS),
    "kid is a path": (request_of(token(claims(), kid="../../key")), Fault.WRONG_PARAMETERS),
    "kid in upper case": (request_of(token(claims(), kid=str(SENDER).upper())), Fault.WRONG_PARAMETERS),
    "a claim twice": (
        request_of(token(b'{"iat":1,' + json.dumps(claims()).encode()[1:])),
        Fault.WRONG_PARAMETERS,
    ),
    "further claim": (request(exp=NOW + 9), Fault.WRONG_PARAMETERS),
    "padding": (request_of(token(claims()) + PADDED), Fault.WRONG_PARAMETERS),
    "four parts": (request_of(token(claims()) + ".AA"), Fault.WRONG_PARAMETERS),
    "line break": (request_of(token(claims()) + "\n"), Fault.WRONG_PARAMETERS),
    "method of another token": (request_of(token(claims()), method="command"), Fault.WRONG_PARAMETERS),
    "another receiver": (request(aud=str(OTHER)), Fault.NOT_FRESH),
    "too old": (request(iat=NOW - WINDOW - 1), Fault.NOT_FRESH),
    "in the future": (request(iat=NOW + WINDOW + 1), Fault.NOT_FRESH),
    "time as text": (request(iat=str(NOW)), Fault.WRONG_PARAMETERS),
    "time is true": (request(iat=True), Fault.WRONG_PARAMETERS),
    "time with fraction": (request(iat=NOW + 0.5), Fault.WRONG_PARAMETERS),
    "empty name": (request(jti=""), Fault.WRONG_PARAMETERS),
    "long name": (request(jti="n" * 65), Fault.WRONG_PARAMETERS),
    "data is a list": (request(data=[1]), Fault.WRONG_PARAMETERS),
    "unknown method": (request(method="shutdown"), Fault.NO_SUCH_METHOD),
    "batch": (b"[" + request() + b"]", Fault.NOT_A_REQUEST),
    "member twice": (request()[:-1] + b', "id": 2}', Fault.NOT_JSON),
    "depth": (b'{"params":' + b"[" * 5_000 + b"]" * 5_000 + b"}", Fault.NOT_JSON),
    "not a number": (request_of(token(claims()), id=float("nan")), Fault.NOT_JSON),
    "version 1": (request_of(token(claims()), jsonrpc="1.0"), Fault.NOT_A_REQUEST),
    "without id": (request_of(token(claims()), id=None), Fault.NOT_A_REQUEST),
    "further member": (request_of(token(claims()), kid=str(SENDER)), Fault.NOT_A_REQUEST),
    "params as list": (request_of("", params=[token(claims())]), Fault.WRONG_PARAMETERS),
    "one byte too many": (request() + b" " * (MAX_SIZE + 1 - len(request())), Fault.NOT_A_REQUEST),
    "text": (b"hello", Fault.NOT_JSON),
    "nothing": (b"", Fault.NOT_JSON),
    "published form without time": (published_request(fresh=False), Fault.WRONG_KEY),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused(name: str) -> None:
    """Each attack is refused with its code. The attack does not count against the identity in the request."""
    raw, fault = ATTACKS[name]
    assert refusal(raw) is fault


def test_the_second_form_of_a_signature_is_the_same_request() -> None:
    """Every ECDSA signature (r, s) has a second valid form (r, N - s).

    A request in the second form is still recognised as already seen.
    """
    raw = with_signature(lambda old: old[:32] + (ORDER - int.from_bytes(old[32:])).to_bytes(32))
    assert verdict(raw, identity()) == RequestVerdict()
    assert verdict(raw, identity(), seen=frozenset({(SENDER, "n-1")})).fault is Fault.SEEN


def test_the_largest_request_is_read() -> None:
    """A request of exactly 64 KiB is accepted."""
    raw = request()
    assert verdict(raw + b" " * (MAX_SIZE - len(raw)), identity()) == RequestVerdict()


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_is_accepted_with_another_meaning(place: int, change: int) -> None:
    """A request with one changed byte is refused, or its signed content is unchanged. A refusal is never evidence."""
    good = request()
    raw = bytearray(good)
    raw[place % len(raw)] ^= change
    try:
        read = read_request(bytes(raw))
    except RequestFaultError:
        return
    found = judge(read, RegistryReading(identity(), NOW), VALIDATOR, now=NOW, seen=frozenset())
    if found.fault is None:
        original = read_request(good)
        assert (read.form, read.data, read.method, read.name) == (
            original.form,
            original.data,
            original.method,
            original.name,
        )
    else:
        assert not found.is_proven


@pytest.mark.parametrize(
    ("record", "fault", "proven"),
    [
        (None, Fault.UNKNOWN_IDENTITY, False),
        (identity(retired=True), Fault.UNKNOWN_IDENTITY, False),
        (identity(keys=Keys(public_key("ES256", 1))), Fault.WRONG_KEY, False),
        (identity(banned=True), Fault.BANNED, True),
        (identity(banned=True, keys=Keys(public_key("ES256", 1))), Fault.WRONG_KEY, False),
        (identity(kind=IdentityKind.VALIDATOR), Fault.NOT_ALLOWED, True),
    ],
)
def test_the_record_of_the_sender_decides(*, record: Identity | None, fault: Fault, proven: bool) -> None:
    """The receiver checks first the sender's key, then the ban, and last the sender's kind."""
    found = verdict(request(), record)
    assert (found.fault, found.is_proven) == (fault, proven)


def test_a_gateway_cannot_command() -> None:
    """Each method may be called only by certain kinds of identities.

    For example, a gateway may not command another gateway.
    """
    found = verdict(request(method="command"), identity())
    assert (found.fault, found.is_proven) == (Fault.NOT_ALLOWED, True)
    assert verdict(request(method="command"), identity(kind=IdentityKind.VALIDATOR)) == RequestVerdict()


def test_a_recorded_request_of_a_banned_identity_proves_nothing() -> None:
    """A request that was recorded before a ban and is sent again after the ban is refused.

    The replayed request does not count against the identity.
    """
    found = verdict(request(iat=NOW - 10 * WINDOW), identity(banned=True))
    assert (found.fault, found.is_proven) == (Fault.BANNED, False)


def test_an_old_registry_refuses_everything() -> None:
    """All requests are refused if the last reading of the registry is over 60 s old, because of possible new bans."""
    read = read_request(request())
    found = judge(read, RegistryReading(identity(), NOW - 61), VALIDATOR, now=NOW, seen=frozenset())
    assert (found.fault, found.is_proven) == (Fault.REGISTRY_STALE, False)
    assert judge(read, RegistryReading(identity(), NOW - 60), VALIDATOR, now=NOW, seen=frozenset()) == RequestVerdict()


def test_an_address_of_another_identity_is_refused() -> None:
    """A request from another identity's tunnel address is refused, but does not count against its signer."""
    reading = RegistryReading(identity(), NOW, address_owner=OTHER)
    found = judge(read_request(request()), reading, VALIDATOR, now=NOW, seen=frozenset())
    assert (found.fault, found.is_proven) == (Fault.WRONG_ADDRESS, False)
    own = RegistryReading(identity(), NOW, address_owner=SENDER)
    assert judge(read_request(request()), own, VALIDATOR, now=NOW, seen=frozenset()) == RequestVerdict()


def test_the_published_form_is_accepted_with_its_time() -> None:
    """A request in SF2C-BC's published form is judged like a token if it contains time, nonce and receiver."""
    record = identity("RS256")
    assert verdict(published_request(), record) == RequestVerdict()
    assert verdict(published_request(), record, now=NOW + WINDOW + 1).fault is Fault.NOT_FRESH
    assert verdict(published_request(), record, seen=frozenset({(SENDER, "n-1")})).fault is Fault.SEEN
    assert verdict(published_request(), identity()).fault is Fault.WRONG_KEY


def test_the_published_form_without_time_needs_the_consent_of_the_operator() -> None:
    """A request in the published form that lacks time and nonce is refused by default, because it can be replayed.

    A refusal of a request that can be replayed does not count against the sender.
    """
    raw, record = published_request(fresh=False), identity("RS256")
    assert verdict(raw, record).fault is Fault.NOT_FRESH
    legacy = Receiver(RECEIVER, METHODS, accepts_replayable=True)
    assert verdict(raw, record, receiver=legacy).fault is None
    banned = verdict(raw, identity("RS256", banned=True), receiver=legacy)
    assert (banned.fault, banned.is_proven) == (Fault.BANNED, False)


@pytest.mark.parametrize(
    "raw",
    [
        published_request(data={"value": 1}),
        published_request(time=NOW + 1),
        published_request(digest="00" * 32),
        published_request(digest=1),
        published_request(signature="!"),
        published_request(signature=7),
        published_request(more=1),
        published_request(fresh=False, time=NOW),
        published_request(method="command"),
    ],
    ids=[f"change {number}" for number in range(9)],
)
def test_a_changed_published_form_is_refused(raw: bytes) -> None:
    """In the published form, the digest covers all other members. Only one method is accepted."""
    with pytest.raises(RequestFaultError) as caught:
        read_request(raw)
    assert caught.value.fault is Fault.WRONG_PARAMETERS


def test_a_foreign_signature_of_the_published_form_is_refused() -> None:
    """A request in the published form whose signature covers other bytes is refused with the code for a wrong key."""
    raw = published_request(signature=base64.b64encode(bytes(256)).decode())
    assert verdict(raw, identity("RS256")).fault is Fault.WRONG_KEY


def test_reasons_name_the_kind() -> None:
    """The reasons in warnings have the words of SF2C-BC."""
    assert Fault.WRONG_KEY.reason() == "Public key verification failed"
    assert Fault.BANNED.reason(IdentityKind.GATEWAY) == "Gateway is banned"
    assert Fault.BANNED.code == -32002


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_signature_of_a_large_request_is_checked(algorithm: str) -> None:
    """The signature of a `store` request of the largest size is valid for its sender's key, and for no other key."""
    data = {"requests": ["x" * (MAX_STORE_SIZE * 3 // 4 - 1000)]}
    raw = request(algorithm, method="store", data=data)
    assert MAX_STORE_SIZE - 2000 < len(raw) <= MAX_STORE_SIZE
    found = read_request(raw, max_size=MAX_STORE_SIZE)
    assert found.is_signed_by(public_key(algorithm))
    assert not found.is_signed_by(public_key(algorithm, 1))
