"""Attacks on a validator over HTTPS: each request is refused with its code, and no data are accepted.

The tokens are made directly with `cryptography`, so that the validator's library is not tested against itself.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from http import HTTPStatus
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from blockota.bindings.identities import enrolment_argument
from blockota.formats.public_key import read_pem
from blockota.model.identity import Enrolment, IdentityKind, Keys
from blockota.model.request import MAX_SIZE, WINDOW
from tests.support.city import City
from tests.support.foreign_requests import ALGORITHMS, ORDER, ForeignSender, claims, data, encode, envelope
from tests.support.validators import SENDER, VALIDATOR, ValidatorRun, running_validator, write_validator

SENDERS = {algorithm: ForeignSender(algorithm) for algorithm in ALGORITHMS}
BANNED, RETIRED = ForeignSender("ES256", number=1), ForeignSender("ES256", number=2)
ROTATED, OLD_KEY = ForeignSender("ES256", number=3), 4
COMMANDER = ForeignSender("ES256", number=5)


@pytest.fixture(scope="module")
def run(city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValidatorRun]:
    """Enrol the senders, and run a validator."""
    for sender in (*SENDERS.values(), BANNED, RETIRED):
        enrol(city, sender)
    enrol(city, COMMANDER, kind=IdentityKind.VALIDATOR)
    enrol(city, ForeignSender("ES256", ROTATED.uuid, OLD_KEY))
    key = read_pem(ROTATED.pem.decode())
    empty = "0x" + "00" * 20
    city.decide("identities", "rotate", ROTATED.uuid.bytes, empty, key.kind.value, key.data, bytes(32), bytes(32))
    city.decide("identities", "ban", BANNED.uuid.bytes, b"test".ljust(32, b"\0"))
    city.decide("identities", "retire", RETIRED.uuid.bytes)
    config = write_validator(city, tmp_path_factory.mktemp("validator"))
    with running_validator(city, config) as found:
        yield found


def enrol(
    city: City, sender: ForeignSender, *, kind: IdentityKind = IdentityKind.GATEWAY, address: IPv4Address | None = None
) -> None:
    """Enrol a sender."""
    enrolment = Enrolment(sender.uuid, kind, Keys(read_pem(sender.pem.decode())), address)
    city.decide("identities", "enrol", enrolment_argument(enrolment))


@pytest.fixture(params=ALGORITHMS)
def sender(request: pytest.FixtureRequest) -> ForeignSender:
    """A sender of each algorithm."""
    return SENDERS[request.param]


Attack = Callable[[ForeignSender], bytes]


def good(**changed: Any) -> bytes:
    """Return the claims of a valid request as JSON."""
    return json.dumps(claims(**changed)).encode()


def with_header(**changed: Any) -> Attack:
    """Return an attack with the given members of the JWS header; the signature is valid for this header."""
    return lambda sender: envelope(sender.token(good(), sender.header(**changed)))


def hmac_with_pem(sender: ForeignSender) -> bytes:
    """Return a request with a MAC whose secret is the public key (RFC 8725, section 2.1)."""
    header = sender.header(alg="HS256")
    return envelope(sender.token(good(), header, lambda raw: hmac.digest(sender.pem, raw, "sha256")))


def other_algorithm(sender: ForeignSender) -> bytes:
    """Return a request whose header names an algorithm of another kind of key."""
    other = "Ed25519" if sender.algorithm != "Ed25519" else "ES256"
    return envelope(sender.token(good(), sender.header(alg=other)))


def zero_signature(sender: ForeignSender) -> bytes:
    """Return a request whose signature is zeros (CVE-2022-21449)."""
    return envelope(sender.token(good(), sign=lambda raw: bytes(len(sender.sign(raw)))))


def padded(sender: ForeignSender) -> bytes:
    """Return a request whose token has padding, which RFC 7515 leaves out."""
    head, body, signature = sender.token(good()).split(".")
    return envelope(f"{head}.{body}.{signature}" + "=" * (-len(signature) % 4 or 4))


def deep(sender: ForeignSender) -> bytes:
    """Return a request whose data are nested more deeply than allowed."""
    document = good().replace(b'"data": ', b'"data": ' + b'{"a": ' * 500, 1)[:-1] + b"}" * 501
    return envelope(sender.token(document))


ATTACKS: Mapping[str, tuple[Attack, int]] = {
    "alg none": (lambda s: envelope(s.token(good(), s.header(alg="none"), lambda _: b"")), -32001),
    "alg none, signed": (with_header(alg="none"), -32001),
    "HS256 with the PEM as secret": (hmac_with_pem, -32001),
    "another algorithm": (other_algorithm, -32001),
    "a zero signature": (zero_signature, -32001),
    "no signature": (lambda s: envelope(s.token(good(), sign=lambda _: b"")), -32001),
    "jwk": (with_header(jwk={"kty": "oct", "k": "AA"}), -32602),
    "jku": (with_header(jku="https://evil.example/jwks"), -32602),
    "x5c": (with_header(x5c=["AA"]), -32602),
    "crit": (with_header(crit=["exp"], exp=1), -32602),
    "b64 false": (with_header(b64=False, crit=["b64"]), -32602),
    "typ": (with_header(typ="JWT"), -32602),
    "kid twice": (
        lambda s: envelope(s.token(good(), s.header()[:-1] + b', "kid": "%s"}' % str(s.uuid).encode())),
        -32602,
    ),
    "a claim twice": (lambda s: envelope(s.token(good()[:-1] + b', "aud": "%s"}' % str(VALIDATOR).encode())), -32602),
    "a member of the request twice": (lambda s: s.request()[:-1] + b', "method": "submit"}', -32700),
    "an unknown claim": (lambda s: s.request(exp=1 << 40), -32602),
    "a claim is missing": (lambda s: envelope(s.token(good().replace(b'"iat"', b'"nbf"'))), -32602),
    "another method than signed": (lambda s: envelope(s.token(good()), "command"), -32602),
    "padding": (padded, -32602),
    "base64 instead of base64url": (lambda s: envelope(s.token(good()) + "+/"), -32602),
    "four parts": (lambda s: envelope(s.token(good()) + ".AAAA"), -32602),
    "deep nesting": (deep, -32602),
    "deep nesting of the request": (lambda _: b'{"a":' * 500 + b"1" + b"}" * 500, -32700),
    "a name that no file can keep": (lambda s: s.request(jti="\ud800"), -32602),
    "a name with a line break": (lambda s: s.request(jti="a\nb"), -32602),
    "an id that no file can keep": (lambda s: s.request().replace(b'"id": 7', b'"id": "\\udfff"'), -32600),
    "a batch": (lambda s: b"[" + s.request() + b"]", -32600),
    "a batch of none": (lambda _: b"[]", -32600),
    "no JSON": (lambda _: b"\xff\xfe{}", -32700),
    "an empty body": (lambda _: b"", -32700),
    "a notification": (lambda s: s.request().replace(b'"id": 7, ', b""), -32600),
    "JSON-RPC 1.0": (lambda s: envelope(s.token(good()), jsonrpc="1.0"), -32600),
    "another validator's aud": (lambda s: s.request(aud=str(uuid4())), -32003),
    "aud as a list": (lambda s: s.request(aud=[str(VALIDATOR)]), -32602),
    "an old iat": (lambda s: s.request(iat=int(time.time()) - WINDOW - 30), -32003),
    "a future iat": (lambda s: s.request(iat=int(time.time()) + WINDOW + 30), -32003),
    "iat as a text": (lambda s: s.request(iat=str(int(time.time()))), -32602),
    "an endless iat": (lambda s: envelope(s.token(good().replace(b'"iat": ', b'"iat": 1e999, "x": '))), -32602),
    "64 KiB and one byte": (lambda s: s.request().ljust(MAX_SIZE + 1), -32600),
    "a megabyte": (lambda s: s.request().ljust(1 << 20), -32600),
    "a stranger's UUID": (lambda s: ForeignSender(s.algorithm, uuid4()).request(), -32004),
    "a UUID in upper case": (
        lambda s: envelope(s.token(good(), s.header(kid=str(s.uuid).upper()))),
        -32602,
    ),
    "the name of another": (lambda s: ForeignSender(s.algorithm, SENDER, s.number).request(), -32001),
    "a banned gateway's name": (lambda s: ForeignSender(s.algorithm, BANNED.uuid, s.number).request(), -32001),
    "a retired identity": (lambda _: RETIRED.request(), -32004),
    "a retired key": (lambda _: ForeignSender("ES256", ROTATED.uuid, OLD_KEY).request(), -32001),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_with_its_code(run: ValidatorRun, sender: ForeignSender, name: str) -> None:
    """The error contains the code and the id of the warning that is logged.

    The warning is not proven against any identity.
    """
    attack, code = ATTACKS[name]
    before = accepted(run)
    answer = post(run, attack(sender))
    assert answer["error"]["code"] == code
    warning = answer["error"]["data"]["warning"]
    assert answer.get("result") is None
    assert accepted(run) == before
    assert run.await_warning(warning).is_proven is False


def test_a_reading_from_the_far_future_is_refused(run: ValidatorRun, sender: ForeignSender) -> None:
    """A reading 700 seconds in the future is refused.

    Otherwise the reading would remain the newest reading of its device.
    A reading 400 seconds in the future is accepted, because the device's clock may be fast.
    """
    refused = post(run, sender.request(data=data(7, at=time.time() + 700)))["error"]
    assert (refused["code"], "seconds in the future" in refused["data"]["detail"]) == (-32000, True)
    assert post(run, sender.request(data=data(7, at=time.time() + 400)))["result"] == {"readings": 1}


def test_a_limit_without_end_is_ignored(run: ValidatorRun) -> None:
    """A query with a limit of 5,000 digits is answered, although Python refuses to parse numbers of this length."""
    client = run.client()
    try:
        assert client.get(f"/readings/256?limit={'9' * 5000}")[0] == HTTPStatus.OK
    finally:
        client.close()


def test_both_forms_of_an_ecdsa_signature_are_one_request(run: ValidatorRun) -> None:
    """Anyone can turn s into N - s.

    If s in a request's ECDSA signature is replaced by N - s, the request is refused as SEEN.
    The name of the changed request is the same.
    """
    sender = SENDERS["ES256"]
    document = good()
    assert "result" in post(run, envelope(sender.token(document)))
    changed = inverted_form(sender, document)
    assert post(run, changed)["error"]["code"] == -32003


def inverted_form(sender: ForeignSender, document: bytes) -> bytes:
    """Return a request with the given claims, and with s of the signature replaced by N - s."""

    def sign(raw: bytes) -> bytes:
        found = sender.sign(raw)
        return found[:32] + (ORDER - int.from_bytes(found[32:], "big")).to_bytes(32, "big")

    return envelope(sender.token(document, sign=sign))


def test_a_changed_bit_of_a_token_is_refused(run: ValidatorRun, sender: ForeignSender) -> None:
    """A request is refused if any of its claims was changed."""
    head, body, signature = sender.token(good()).split(".")
    for old, new in ((b"256", b"257"), (b"Cel", b"Far"), (b"submit", b"submiT"), (b"temperature", b"temperaturf")):
        changed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).replace(old, new)
        answer = post(run, envelope(f"{head}.{encode(changed)}.{signature}"))
        assert answer["error"]["code"] in {-32001, -32602}


def test_a_valid_request_is_accepted_once(run: ValidatorRun, sender: ForeignSender) -> None:
    """For each algorithm, a request that another implementation signed is accepted.

    The same bytes are refused when they are sent again.
    """
    raw = sender.request()
    assert post(run, raw) == {"jsonrpc": "2.0", "id": 7, "result": {"readings": 1}}
    error = post(run, raw)["error"]
    assert (error["code"], error["data"]["fault"]) == (-32003, "SEEN")
    assert run.await_warning(error["data"]["warning"]).is_proven is False


def test_a_ban_is_proven_only_by_the_banned_key(run: ValidatorRun) -> None:
    """A warning about a banned gateway is proven only if the gateway's key signed the request.

    The warning is not proven if the request is a replay, is too old, or is addressed to another validator.
    """
    raw = BANNED.request()
    error = post(run, raw)["error"]
    warning = run.await_warning(error["data"]["warning"])
    assert (error["code"], error["message"]) == (-32002, "Gateway is banned")
    assert (warning.node, warning.is_proven) == (BANNED.uuid, True)
    error = post(run, raw.replace(b'"id": 7', b'"id": 8'))["error"]
    assert (error["code"], run.await_warning(error["data"]["warning"]).is_proven) == (-32002, False)
    for recorded in (BANNED.request(iat=int(time.time()) - WINDOW - 30), BANNED.request(aud=str(uuid4()))):
        error = post(run, recorded)["error"]
        assert error["code"] == -32002
        assert run.await_warning(error["data"]["warning"]).is_proven is False


def test_each_kind_calls_its_own_methods(run: ValidatorRun) -> None:
    """A `submit` request of a validator and a `command` request of a gateway are refused.

    The warning about the refusal is proven, because the sender signed the request.
    """
    cases = ((COMMANDER.request(), -32005), (SENDERS["ES256"].request(method="command"), -32601))
    for raw, code in cases:
        error = post(run, raw)["error"]
        assert error["code"] == code
        assert run.await_warning(error["data"]["warning"]).is_proven is True


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"readings": []},
        {"readings": [{}]},
        {"readings": "none"},
        {"readings": [{"thing": "256", "time": 1, "name": "temperature", "value": None}]},
        {"readings": [{"thing": "256", "time": -1, "name": "temperature", "value": 1}]},
        {"readings": [{"thing": "256", "time": 1, "name": "x" * 65, "value": 1}]},
    ],
    ids=["empty", "no reading", "empty reading", "a text", "null", "before 1970", "long name"],
)
def test_signed_nonsense_is_no_data(run: ValidatorRun, sender: ForeignSender, data: Mapping[str, Any]) -> None:
    """A request with a valid signature but unusable data is refused, and the warning is proven against the sender."""
    before = accepted(run)
    error = post(run, sender.request(data=data))["error"]
    assert error["code"] == -32000
    assert run.await_warning(error["data"]["warning"]).is_proven is True
    assert accepted(run) == before


def test_the_published_form_needs_time_nonce_and_receiver(run: ValidatorRun) -> None:
    """A request in the form that clients of SF2C-BC sign is accepted once if it has time, nonce and receiver.

    Without time, nonce and receiver, a request in the form of SF2C-BC is refused.
    """
    sender = SENDERS["RS256"]
    fresh = {"time": int(time.time()), "nonce": secrets.token_hex(8), "to": str(VALIDATOR)}
    covered = {"data": claims()["data"], "identity": str(sender.uuid)}
    raw = published(sender, covered | fresh)
    assert post(run, raw)["result"] == {"readings": 1}
    assert post(run, raw)["error"]["code"] == -32003
    assert post(run, published(sender, covered))["error"]["code"] == -32003
    changed = json.loads(published(sender, covered | fresh | {"nonce": "other"}))
    changed["params"]["data"] = {"readings": []}
    assert post(run, json.dumps(changed).encode())["error"]["code"] == -32602


def published(sender: ForeignSender, covered: Mapping[str, Any]) -> bytes:
    """Return a request in the form of SF2C-BC's clients, signed by hand."""
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signature = base64.b64encode(sender.sign(text)).decode()
    params = {**covered, "digest": sha256(text).hexdigest(), "signature": signature}
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "submit", "params": params}).encode()


def test_a_virtual_ip_stands_for_its_identity(city: City, tmp_path: Path) -> None:
    """A request from the virtual IP of another identity is refused, even with a valid signature."""
    owner, other = ForeignSender("ES256", number=8), ForeignSender("ES256", number=9)
    enrol(city, owner, address=IPv4Address("127.0.0.1"))
    enrol(city, other)
    with running_validator(city, write_validator(city, tmp_path)) as run:
        assert "result" in post(run, owner.request())
        error = post(run, other.request())["error"]
        assert (error["code"], error["data"]["fault"]) == (-32004, "WRONG_ADDRESS")
        warning = run.await_warning(error["data"]["warning"])
        assert (warning.is_proven, warning.address) == (False, "127.0.0.1")


def post(run: ValidatorRun, raw: bytes) -> dict[str, Any]:
    """Send a request."""
    return run.kept_client.post(raw)


def accepted(run: ValidatorRun) -> int:
    """Return the number of readings that the validator has stored."""
    return len(run.kept_client.get("/readings/256?limit=1000")[1]["readings"])
