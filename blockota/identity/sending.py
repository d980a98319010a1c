"""Sign requests with the key of one identity, and send them to other identities over HTTP.

::

    signer = open_signer(uuid, "file:identity.pem", environment=os.environ)
    line = RequestLine("https://10.64.0.1:8470", authority=Path("city.pem"))
    reply = line.send(signer.request(Parcel("command", data, name), receiver=validator, now=now))

A request that must not be lost goes through `blockota.identity.request_outbox`.
"""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from blockota.errors import BlockOTAError, UnreachableError, UsageError
from blockota.formats.request_token import Sign, make_token
from blockota.identity.identity_key import open_identity_key
from blockota.model.request import Fault
from blockota.strict_json import load_object

PATH = "/requests"
"""The path at which a receiver takes requests, if its URL has none."""
_TIMEOUT = 10.0
_MAX_REPLY = 1 << 18
_NAME_SIZE = 16


@dataclass(frozen=True)
class Parcel:
    """A request before it is signed.

    Attributes:
        method: the method.
        data: the submitted readings or the command.
        name: the id of the request, unique among the sender's requests. A repeated request has the same id.
    """

    method: str
    data: Mapping[str, Any]
    name: str = field(default_factory=lambda: secrets.token_hex(_NAME_SIZE))


@dataclass(frozen=True)
class RequestSigner:
    """Signs requests with the key of an identity.

    Attributes:
        identity: its UUID.
        algorithm: the algorithm of `sign`, such as ``ES256``.
        sign: signs bytes.
    """

    identity: UUID
    algorithm: str
    sign: Sign = field(repr=False)

    def request(self, parcel: Parcel, *, receiver: UUID, now: int) -> bytes:
        """Return the JSON-RPC request of a parcel.

        Args:
            parcel: the request.
            receiver: UUID of the receiving identity.
            now: Unix time.
        """
        claims = {
            "iat": now,
            "jti": parcel.name,
            "aud": str(receiver),
            "method": parcel.method,
            "data": parcel.data,
        }
        token = make_token(claims, algorithm=self.algorithm, key_id=str(self.identity), sign=self.sign)
        document = {"jsonrpc": "2.0", "id": parcel.name, "method": parcel.method, "params": {"signed": token}}
        return json.dumps(document, separators=(",", ":")).encode()


def open_signer(identity: UUID, uri: str, *, environment: Mapping[str, str]) -> RequestSigner:
    """Open the P-256 key of an identity for requests.

    Args:
        identity: the UUID.
        uri: the URI of the key; `blockota.identity.identity_key` lists the forms.
        environment: the environment variables for ``env:NAME``.

    Raises:
        UsageError: the URI is not valid, or the key cannot be read.
        RefusedError: other users can read the key's file, or the token refuses access.
    """
    key = open_identity_key(uri, environment=environment)
    return RequestSigner(identity, "ES256", lambda message: key.sign_digest(sha256(message).digest()))


@dataclass(frozen=True)
class RequestReply:
    """The answer to a request.

    Attributes:
        result: the result; None if the request was refused.
        code: the code of the JSON-RPC error; 0 if the request was accepted.
        reason: why the request was refused.
        detail: the reason in detail.
        fault: the name of the `Fault`; empty if the receiver names none.
        warning: the id of the receiver's warning about the request; empty if no warning exists.
    """

    result: Mapping[str, Any] | None = None
    code: int = 0
    reason: str = ""
    detail: str = ""
    fault: str = ""
    warning: str = ""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has executed the request, now or at an earlier try."""
        return self.result is not None or self.fault == Fault.SEEN.name

    @property
    def is_final(self) -> bool:
        """Whether the refusal is permanent, and cannot end with a change in the registry."""
        return not self.is_delivered and self.code in _FINAL

    @property
    def sentence(self) -> str:
        """Why the request was refused, as one sentence."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


_FINAL = {
    Fault.NOT_JSON.code,
    Fault.NOT_A_REQUEST.code,
    Fault.NO_SUCH_METHOD.code,
    Fault.WRONG_PARAMETERS.code,
    Fault.NOT_ALLOWED.code,
    Fault.NOT_POSSIBLE.code,
}
"""The codes of refusals that a repetition of the request cannot change. A ban, in contrast, can be lifted."""


def read_reply(raw: bytes, *, status: int = HTTPStatus.OK) -> RequestReply:
    """Read a JSON-RPC response.

    Args:
        raw: the bytes.
        status: the HTTP status of the response.

    Raises:
        ValueError: the bytes are not a JSON-RPC response, or the HTTP status is not 200.
    """
    if status != HTTPStatus.OK:
        raise ValueError(f"the response has the HTTP status {status}")

    try:
        fields = load_object(raw, has_fractions=True)
    except BlockOTAError as error:
        raise ValueError(error.why) from error

    result, error_fields = fields.get("result"), fields.get("error")
    if isinstance(result, dict) and error_fields is None:
        return RequestReply(result)
    if not isinstance(error_fields, dict) or type(error_fields.get("code")) is not int:
        raise ValueError("the response has neither a result nor an error")

    data = error_fields.get("data")
    texts = {name: str(data.get(name, "")) for name in ("detail", "fault", "warning")} if isinstance(data, dict) else {}
    return RequestReply(None, error_fields["code"], str(error_fields.get("message", "")), **texts)


class RequestLine:
    """A connection to a receiver, which is reopened after each loss. One thread uses it.

    Args:
        url: ``https://HOST:PORT``, or ``http://HOST:PORT`` inside a tunnel, with an optional path.
        authority: PEM file with the receiver's certificate authority; None for the system's certificate authorities.
        timeout: seconds to wait for the receiver.

    Raises:
        UsageError: the URL or the certificate authority cannot be used.
    """

    def __init__(self, url: str, *, authority: Path | None = None, timeout: float = _TIMEOUT) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            parts, self._host, self._port = urlsplit(""), "", None
        if parts.scheme not in {"http", "https"} or not self._host:
            raise UsageError(
                f"{url!r:.80} is not the address of a receiver",
                why="the URL does not have the form https://HOST:PORT",
                remedy="correct the address",
            )

        # The place is shown in messages, so it does not contain a password from the URL.
        self.place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._path, self._timeout = parts.path.rstrip("/") or PATH, timeout
        self._tls = _tls(authority) if parts.scheme == "https" else None
        self._connection: HTTPConnection | None = None

    def send(self, raw: bytes) -> RequestReply:
        """Send a request, and wait for the reply.

        Raises:
            UnreachableError: the receiver does not answer, or the answer is not a JSON-RPC response. It may have the
                request.
        """
        is_kept = self._connection is not None

        try:
            return self._send(raw)
        except UnreachableError:
            if not is_kept:
                raise
        return self._send(raw)  # a connection that was kept may have ended meanwhile

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _send(self, raw: bytes) -> RequestReply:
        try:
            if self._connection is None and self._tls:
                self._connection = HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
            elif self._connection is None:
                self._connection = HTTPConnection(self._host, self._port, timeout=self._timeout)

            self._connection.request("POST", self._path, raw, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            return read_reply(response.read(_MAX_REPLY), status=response.status)
        except (OSError, HTTPException, ValueError) as error:
            self.close()
            why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            raise UnreachableError(
                f"the receiver at {self.place} does not answer",
                why=why,
                remedy="check the address and the tunnel",
            ) from error


def _tls(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority) if authority else None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the certificate {authority} cannot be used",
            why=getattr(error, "strerror", None) or str(error),
            remedy="give the PEM file of the receiver's certificate authority",
        ) from error
