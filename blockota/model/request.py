"""Signed requests between identities: which requests a receiver accepts, and why it refuses others. Pure.

A request is a JSON-RPC 2.0 object of at most 64 KiB. The parameters of the request are ``{"signed": TOKEN}``. The token
is a compact JWS. Its header names the sender's UUID (``kid``), and its claims are exactly:

==========  ================================================================================
``iat``     Unix time of the signature, in seconds
``jti``     the id of the request, at most 64 printable characters, unique among the requests of the sender
``aud``     the UUID of the receiver, so that no other receiver accepts a recorded request
``method``  the method, the same as in the JSON-RPC object
``data``    a JSON object with the submitted readings or the command
==========  ================================================================================

Clients of the published system SF2C-BC sign another form:
``{"data", "identity", "time", "nonce", "to", "digest", "signature"}``. The digest is the hexadecimal SHA-256 of the
other members, encoded as compact JSON with sorted names. The signature is the RSA signature (PKCS #1 v1.5) of this
digest in base64. The *published form* is accepted only for ``submit``, because its signature does not cover the method.
In an older form, ``time``, ``nonce`` and ``to`` are missing, so a recorded request can be replayed. A receiver accepts
the older form only if its operator allows replayable requests (`Receiver.accepts_replayable`).

`judge` checks in this order:

1. The request has the right size and form (`read_request`, before the record of the sender is read).
2. The registry's newest block is not too old.
3. The sender is enrolled and not retired.
4. The signature is valid, and a request through a tunnel comes from the virtual IP of its sender.
5. The sender is not banned. The ban is checked after the signature, so that forged requests cause no warnings about
   banned identities.
6. The request is for this receiver, its time is within the window, and it was not received before.
7. The receiver has the method, and identities of the sender's kind may call it.

A refused request is *proven* to come from an identity only if steps 4 and 6 hold: the signature is valid, and the
request is new and for this receiver. A request without this proof may be a recording that another party sent again.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from blockota.errors import BlockOTAError, RefusedError
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.formats.request_token import RequestToken, is_signed_by, read_token
from blockota.model.identity import Identity, IdentityKind
from blockota.strict_json import load_object

MAX_SIZE = 64 * 1024
"""The size of the largest request, in bytes."""
MAX_STORE_SIZE = 6 * MAX_SIZE
"""The size of the largest request of the method ``store``, whose data has requests as texts."""
WINDOW = 60
"""The number of seconds by which a request's time may differ from the receiver's time."""
_NAME_SIZE = 64
_CLAIMS = {"iat", "jti", "aud", "method", "data"}
_PUBLISHED = {"data", "identity", "digest", "signature"}
_FRESHNESS = {"time", "nonce", "to"}


class Fault(enum.Enum):
    """The reason for refusing a request, with its JSON-RPC error code and the text for the warning."""

    NOT_JSON = -32700, "The request is not JSON"
    NOT_A_REQUEST = -32600, "The request is not a JSON-RPC 2.0 request"
    NO_SUCH_METHOD = -32601, "Unknown method"
    WRONG_PARAMETERS = -32602, "The parameters are not a signed request"
    REGISTRY_STALE = -32603, "The registry of identities is out of reach"
    WRONG_KEY = -32001, "Public key verification failed"
    BANNED = -32002, "{kind} is banned"
    NOT_FRESH = -32003, "The request is too old, or is for another receiver"
    SEEN = -32003, "The request was seen before"
    UNKNOWN_IDENTITY = -32004, "Unknown identity"
    WRONG_ADDRESS = -32004, "The address of the sender belongs to another identity"
    NOT_ALLOWED = -32005, "{kind} may not call this method"
    NOT_POSSIBLE = -32000, "The request cannot be carried out"
    FAILED = -32603, "The request was not carried out because of a failure of the receiver"

    @property
    def code(self) -> int:
        """The code of the JSON-RPC error."""
        return int(self.value[0])

    @property
    def is_own(self) -> bool:
        """Whether the receiver caused the fault.

        After a fault of the receiver, the sender repeats the request, and the receiver does not log a warning.
        """
        return self in {Fault.REGISTRY_STALE, Fault.FAILED}

    def reason(self, kind: IdentityKind | None = None) -> str:
        """The reason as text, with the kind of the identity that sent the request."""
        return str(self.value[1]).format(kind=str(kind or "identity").capitalize())


_UNPROVEN = {
    *(Fault.REGISTRY_STALE, Fault.UNKNOWN_IDENTITY, Fault.WRONG_KEY, Fault.WRONG_ADDRESS),
    *(Fault.NOT_FRESH, Fault.SEEN),
}


class RequestFaultError(RefusedError):
    """A request that cannot be read.

    Attributes:
        fault: why the receiver refuses the request.
    """

    def __init__(self, fault: Fault, why: str) -> None:
        super().__init__("the request is refused", why=why)
        self.fault = fault


@dataclass(frozen=True)
class PublishedForm:
    """The digest and the signature of a request in the published form."""

    digest: bytes
    signature: bytes


@dataclass(frozen=True)
class SignedRequest:
    """A request that has been read, and whose signature has not been checked.

    Attributes:
        raw: the bytes of the request, as they were received. They are kept as evidence.
        id: the id of the JSON-RPC request.
        method: the method.
        sender: the identity that the request claims to come from.
        data: the submitted readings or the command.
        time: Unix time of the signature; None only in the published form.
        name: the id of the request, unique among the sender's requests; empty only in the published form.
        receiver: the UUID of the receiver; None only in the published form.
        form: the signature.
    """

    raw: bytes = field(repr=False)
    id: str | int
    method: str
    sender: UUID
    data: Mapping[str, Any]
    time: int | None
    name: str
    receiver: UUID | None
    form: RequestToken | PublishedForm = field(repr=False)

    @property
    def is_replayable(self) -> bool:
        """Whether the request can be replayed: its signature does not cover a time, an id and a receiver."""
        return self.time is None

    def is_signed_by(self, key: PublicKey) -> bool:
        """Return whether the request was signed with the private key of a public key."""
        if isinstance(self.form, RequestToken):
            return is_signed_by(self.form, key)
        public = load_der_public_key(key.spki) if key.kind is KeyKind.RSA else None
        if not isinstance(public, RSAPublicKey):
            return False
        try:
            public.verify(self.form.signature, self.form.digest, PKCS1v15(), Prehashed(SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class RegistryReading:
    """The registry's data about the sender of a request.

    Attributes:
        identity: the record of the sender; None if the sender is not enrolled.
        block_time: Unix time of the block at which the record was read.
        address_owner: the identity that owns the virtual IP from which the request came; None for a request outside the
            tunnels.
    """

    identity: Identity | None
    block_time: int
    address_owner: UUID | None = None


@dataclass(frozen=True)
class Receiver:
    """The service that judges a request.

    Attributes:
        uuid: its identity.
        methods: a dict from the name of each method to the kinds of identities that may call the method.
        max_age: the maximum age, in seconds, of the block at which the sender's record was read.
        accepts_replayable: whether the receiver accepts the older published form, which lacks time, nonce and receiver.
        max_size: the size of the largest request, in bytes.
    """

    uuid: UUID
    methods: Mapping[str, frozenset[IdentityKind]]
    max_age: int = 60
    accepts_replayable: bool = False
    max_size: int = MAX_SIZE


@dataclass(frozen=True)
class RequestVerdict:
    """The result of `judge`.

    Attributes:
        fault: why the request is refused; None if it is accepted.
        detail: the details of the fault; empty if the request is accepted.
        is_proven: whether the request is proven to come from its sender.
    """

    fault: Fault | None = None
    detail: str = ""
    is_proven: bool = True


def read_request(raw: bytes, *, max_size: int = MAX_SIZE) -> SignedRequest:
    """Parse a request, without checking its signature.

    Args:
        raw: the bytes, as they were received.
        max_size: the size of the largest request, in bytes.

    Raises:
        RequestFaultError: the bytes are not a signed request.
    """
    if len(raw) > max_size:
        raise RequestFaultError(Fault.NOT_A_REQUEST, f"the request has more than {max_size:,} bytes")
    if raw.lstrip().startswith(b"["):
        raise RequestFaultError(Fault.NOT_A_REQUEST, "the request is a batch; send each request separately")

    try:
        fields = load_object(raw, has_fractions=True)
    except BlockOTAError as error:
        raise RequestFaultError(Fault.NOT_JSON, error.why) from error

    has_members = set(fields) == {"jsonrpc", "id", "method", "params"} and fields["jsonrpc"] == "2.0"
    if not has_members or not _is_id(fields["id"]) or not _is_name(fields["method"]):
        why = 'its members are not "jsonrpc": "2.0", an id of at most 64 printable characters, a method, and params'
        raise RequestFaultError(Fault.NOT_A_REQUEST, why)

    params = fields["params"]
    try:
        if isinstance(params, dict) and set(params) == {"signed"} and isinstance(params["signed"], str):
            return _read_token_form(raw, fields, read_token(params["signed"]))
        if isinstance(params, dict) and set(params) >= _PUBLISHED:
            return _read_published_form(raw, fields, params)
    except BlockOTAError as error:
        raise RequestFaultError(Fault.WRONG_PARAMETERS, error.why) from error
    except ValueError as error:
        raise RequestFaultError(Fault.WRONG_PARAMETERS, str(error)) from error
    raise RequestFaultError(Fault.WRONG_PARAMETERS, 'the parameters are not {"signed": TOKEN}')


def judge(
    request: SignedRequest,
    reading: RegistryReading,
    receiver: Receiver,
    *,
    now: int,
    seen: Container[tuple[UUID, str]],
) -> RequestVerdict:
    """Decide whether a receiver accepts a request. The caller must store the sender and the id of an accepted request.

    Args:
        request: the request.
        reading: the registry's record of the sender.
        receiver: the service that received the request.
        now: Unix time.
        seen: senders and ids of the requests received in the last 2 * `WINDOW` seconds, including requests received
            before a restart.
    """
    stale = _freshness_fault(request, receiver, now=now, seen=seen)
    fault, detail = next(_faults(request, reading, receiver, now=now, stale=stale), (None, ""))
    is_proven = fault not in _UNPROVEN and stale is None and not request.is_replayable
    return RequestVerdict(fault, detail, is_proven=is_proven)


def _faults(
    request: SignedRequest,
    reading: RegistryReading,
    receiver: Receiver,
    *,
    now: int,
    stale: tuple[Fault, str] | None,
) -> Iterator[tuple[Fault, str]]:
    """Yield the faults of a request, in the order of the numbered steps in the module's docstring."""
    identity, sender = reading.identity, request.sender
    # (2) the age of the registry
    if (age := now - reading.block_time) > receiver.max_age:
        yield Fault.REGISTRY_STALE, f"its newest block is {age} seconds old"
    # (3) the record
    if identity is None or identity.retired:
        yield Fault.UNKNOWN_IDENTITY, f"the identity {sender} is {'retired' if identity else 'not enrolled'}"
        return
    # (4) signature and address
    if not request.is_signed_by(identity.keys.key):
        yield Fault.WRONG_KEY, f"it is not signed by the key of {sender}"
    if reading.address_owner not in {None, sender}:
        yield Fault.WRONG_ADDRESS, f"it came from the virtual IP of {reading.address_owner}"
    # (5) the ban
    if identity.banned:
        yield Fault.BANNED, f"the identity {sender} is banned"
    # (6) receiver, time and replay
    if stale:
        yield stale
    # (7) the method
    kinds = receiver.methods.get(request.method)
    if kinds is None:
        yield Fault.NO_SUCH_METHOD, f"this receiver has no method {request.method!r:.40}"
    elif identity.kind not in kinds:
        callers = " or ".join(sorted(map(str, kinds)))
        yield Fault.NOT_ALLOWED, f"{request.method} is called by {callers}, and not by {identity.kind}"


def _freshness_fault(
    request: SignedRequest, receiver: Receiver, *, now: int, seen: Container[tuple[UUID, str]]
) -> tuple[Fault, str] | None:
    """Return why a request is not a new request for this receiver; None if it is new."""
    if request.time is None:
        why = "its signature covers no time, nonce and receiver"
        return None if receiver.accepts_replayable else (Fault.NOT_FRESH, why)

    if request.receiver != receiver.uuid:
        return Fault.NOT_FRESH, f"it is for the receiver {request.receiver}"

    difference = now - request.time
    if abs(difference) > WINDOW:
        when = "ago" if difference > 0 else "in the future"
        return Fault.NOT_FRESH, f"it was signed {abs(difference)} seconds {when}"

    if (request.sender, request.name) in seen:
        return Fault.SEEN, f"the request {request.name!r} was received before"
    return None


def _read_token_form(raw: bytes, fields: Mapping[str, Any], token: RequestToken) -> SignedRequest:
    claims = token.claims
    if set(claims) != _CLAIMS:
        raise ValueError(f"the claims of the token are not exactly {', '.join(sorted(_CLAIMS))}")
    if claims["method"] != fields["method"]:
        raise ValueError("the token was signed for another method")

    time, name, data = claims["iat"], claims["jti"], claims["data"]
    if type(time) is not int or not _is_name(name) or not isinstance(data, dict):
        raise ValueError(
            "iat is not a whole number, jti not a text of 1 to 64 printable characters, or data not an object"
        )

    sender, receiver = _uuid(token.key_id), _uuid(claims["aud"])
    return SignedRequest(raw, fields["id"], fields["method"], sender, data, time, name, receiver, token)


def _read_published_form(raw: bytes, fields: Mapping[str, Any], params: Mapping[str, Any]) -> SignedRequest:
    added = set(params) - _PUBLISHED
    if added not in (set(), _FRESHNESS):
        raise ValueError("the published form must contain all of time, nonce and to, or none of them")
    if fields["method"] != "submit":
        raise ValueError("the published form does not sign the method, and is accepted only for submit")

    # The digest covers the canonical JSON of all other members.
    covered = {name: value for name, value in params.items() if name not in {"digest", "signature"}}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest, signature = params["digest"], params["signature"]
    if digest != sha256(text.encode()).hexdigest():
        raise ValueError("the digest is not the digest of the other members")

    try:
        signed = PublishedForm(bytes.fromhex(digest), base64.b64decode(signature, validate=True))
    except (binascii.Error, TypeError) as error:
        raise ValueError("the signature is not base64") from error

    data, time, name = params["data"], params.get("time"), params.get("nonce", "")
    if not isinstance(data, dict) or (added and (type(time) is not int or not _is_name(name))):
        raise ValueError(
            "data is not an object, time not a whole number, or nonce not a text of 1 to 64 printable characters"
        )

    receiver = _uuid(params["to"]) if added else None
    return SignedRequest(raw, fields["id"], "submit", _uuid(params["identity"]), data, time, name, receiver, signed)


def _is_name(value: object) -> bool:
    # Half of a surrogate pair is not printable: it is legal in JSON, and no file can keep it.
    return isinstance(value, str) and 0 < len(value) <= _NAME_SIZE and value.isprintable()


def _is_id(value: object) -> bool:
    return type(value) is int or _is_name(value)


def _uuid(value: object) -> UUID:
    """Read a UUID in its usual form: lower case, with hyphens.

    Raises:
        ValueError: the value is not a UUID in this form.
    """
    try:
        found = UUID(str(value))
    except ValueError as error:
        raise ValueError(f"{value!r:.50} is not a UUID") from error
    if value != str(found):
        raise ValueError(f"{value!r:.50} is not a UUID in lower case with hyphens")
    return found
