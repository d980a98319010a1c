"""Send JSON-RPC requests over HTTP, and decode the values in the responses.

Sources: JSON-RPC 2.0; Ethereum JSON-RPC specification (execution-apis), "hex value encoding". web3 is not used: its
import takes longer than most commands.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions

from blockota.errors import ChainError, UsageError
from blockota.strict_json import check_depth, whole
from blockota.url_secrets import PrivateUrl

Result = TypeVar("Result")
Question = tuple[str, Sequence[Any]]
"""A JSON-RPC method and its parameters."""
_TIMEOUT = 10.0
"""Seconds of silence after which a request ends."""
_WHOLE_TIMEOUT = 60.0
"""Seconds after which a response that is still arriving ends."""
_LATE = "no answer in time"
_MAX_RESPONSE = 1 << 28
_PART = 1 << 16
_REDIRECTS = 3
_CONNECTIONS = 4
"""The number of connections that are kept: threads of a service share one endpoint."""
_LONGEST_SHOWN = 60
PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each repetition of a request that failed temporarily."""
_BATCH = 50
"""The maximum number of calls in one request. Hosted nodes allow 100 or more, and count each call."""
_LIMIT_EXCEEDED = -32005
"""The error code of a node that limits requests (EIP-1474)."""
_TOO_LARGE = re.compile(r"results|block range|blocks|response size", re.IGNORECASE)
_LAGGING = re.compile(r"header not found|unknown block|block not found|beyond current head", re.IGNORECASE)
"""Error texts of geth, Erigon and anvil for a block that a node behind a load balancer does not have yet."""
_WIDEST_NUMBER = 256
_HOST_REMEDY = "correct the network's url in blockota.toml"
_QUANTITY = re.compile(r"0x[0-9a-f]+", re.IGNORECASE)
_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.NameResolutionError, "the host name cannot be resolved"),
    (exceptions.NewConnectionError, "the connection was refused or lost"),
    (exceptions.TimeoutError, f"no answer within {_TIMEOUT:.0f} s"),
    (exceptions.ProtocolError, "the connection was refused or lost"),
    (exceptions.IncompleteRead, "the connection was refused or lost"),
    (exceptions.SSLError, "the TLS handshake failed, or the certificate is not trusted"),
    (exceptions.ProxyError, "the proxy of the environment cannot be reached"),
    (exceptions.LocationValueError, "the address is not valid"),
    (exceptions.DecodeError, "the answer's compression is damaged"),
    (exceptions.ResponseError, "the server redirects too often"),
    (exceptions.HTTPError, "the request failed"),
    (ValueError, "the address is not valid"),
)
"""Descriptions of the HTTP client's errors. The first matching description counts. The client's own texts are not
shown, because they contain the URL's path."""


_END: ContextVar[float] = ContextVar("end", default=math.inf)
"""When the requests of this thread must have ended, in monotonic seconds."""


@contextlib.contextmanager
def answered_within(seconds: float) -> Iterator[None]:
    """Limit the time of this thread's requests in the ``with`` block. A request that takes longer raises a ChainError.

    The connection attempt and the wait for the response each have the remaining time as their timeout. The resolution
    of a host name has no timeout.

    Args:
        seconds: the maximum time for all requests in the ``with`` block together.
    """
    token = _END.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _END.reset(token)


class RpcError(Exception):
    """The node answered with a JSON-RPC error or with an HTTP error status.

    Attributes:
        code: the JSON-RPC error code; None if the response has no code.
        data: the revert data; empty if the response has none.
        status: the HTTP status of the response; 200 for a JSON-RPC error.
    """

    def __init__(self, code: int | None, message: str, *, data: bytes = b"", status: int = 200) -> None:
        super().__init__(message)
        self.code, self.message, self.data, self.status = code, message, data, status

    @property
    def is_temporary(self) -> bool:
        """Whether the same request can succeed later, because the node limits requests or lags behind the chain."""
        is_limit = self.status == HTTPStatus.TOO_MANY_REQUESTS or self.code == _LIMIT_EXCEEDED
        # A search over too many blocks is refused with the same code as a request limit, but never succeeds later.
        is_too_large = bool(_TOO_LARGE.search(self.message))
        return (is_limit and not is_too_large) or bool(_LAGGING.search(self.message))


class RpcEndpoint:
    """A JSON-RPC endpoint with persistent connections. Several threads may share one endpoint.

    Args:
        url: an ``http://`` or ``https://`` URL; its user name and password are sent as basic authentication.

    Attributes:
        place: the URL's scheme, host and port, for errors; on hosted nodes the path is the API key.

    Raises:
        UsageError: the URL is neither ``http://`` nor ``https://``.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            # The URL is not shown: its scheme may be mistyped, and the rest may contain a secret.
            raise UsageError("the node's address is not valid", why="the address must begin with http:// or https://")
        self._url, self._private = url, PrivateUrl(url)
        self.place = self._private.place
        self._takes_batches = True
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}

    def request(self, method: str, *parameters: Any) -> Any:
        """Call a JSON-RPC method.

        Returns:
            The method's result; None if the node has no result, for example for an unknown block.

        Raises:
            RpcError: the node refused the call.
            ChainError: the node is out of reach, or the server is not an Ethereum node.
        """
        return required(self._with_retries(lambda: self._ask(method, parameters)))

    def request_block(self, number: int | None, *, with_transactions: bool) -> Any:
        """Request a block; None means the newest block. While the node does not have the block yet, repeat the request.

        Raises:
            RpcError: the node refused the request, or does not have the block.
            ChainError: the node is out of reach, or the server is not an Ethereum node.
        """
        name, tag = ("a block", "latest") if number is None else (f"block {number}", hex(number))

        def ask() -> Any:
            block = required(self._ask("eth_getBlockByNumber", (tag, with_transactions)))
            if block is None:
                raise RpcError(None, f"block not found: the node does not have {name} yet")
            return block

        return self._with_retries(ask)

    def request_many(self, questions: Sequence[Question]) -> list[Any]:
        """Call several methods, in batches (JSON-RPC 2.0, section 6) if the node supports them.

        Returns:
            The results, in the order of the calls.

        Raises:
            RpcError: the node refused one of the calls.
            ChainError: the node is out of reach, or the server is not an Ethereum node.
        """
        return [required(answer) for answer in self.request_each(questions)]

    def request_each(self, questions: Sequence[Question]) -> Iterator[Any]:
        """Call several methods like `request_many`, but return the refusal of a call instead of raising it.

        Yields:
            The results, in the order of the calls. The result of a refused call is an `RpcError`.
        """
        for start in range(0, len(questions), _BATCH):
            part = questions[start : start + _BATCH]
            answers = self._with_retries(functools.partial(self._batch, part)) if self._takes_batches else None
            if answers is None:
                self._takes_batches = False
                yield from (self._with_retries(functools.partial(self._ask, *one)) for one in part)
            else:
                yield from answers

    def _ask(self, method: str, parameters: Sequence[Any]) -> Any:
        """Call a method, and return its result or the RpcError of a permanent refusal.

        Raises the RpcError of a temporary refusal, so that the caller repeats the request.
        """
        return _attempt(lambda: _result(self._post(_request(1, method, parameters)), self._private))

    def _batch(self, questions: Sequence[Question]) -> list[Any] | None:
        """Call several methods in one batch. Returns None if the node does not support batches."""
        if len(questions) == 1:
            return [self._ask(*questions[0])]
        try:
            answers = self._post([_request(number, *one) for number, one in enumerate(questions)])
        except RpcError as error:
            if error.is_temporary:
                raise
            return None

        if not isinstance(answers, list):
            return None  # a single error: batches are not supported, or this batch is too large
        by_number = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        if by_number.keys() != set(range(len(questions))):
            raise self.unreadable("the responses of a batch do not match its requests")

        ordered = [by_number[number] for number in range(len(questions))]
        return [_attempt(functools.partial(_result, answer, self._private)) for answer in ordered]

    def _with_retries(self, ask: Callable[[], Result]) -> Result:
        """Make a request, and after each temporary failure wait a little longer and repeat the request."""
        for pause in PAUSES:
            try:
                return ask()
            except RpcError as error:
                if not error.is_temporary or time.monotonic() + pause > _END.get():
                    raise
            time.sleep(pause)
        return ask()

    def _post(self, document: object) -> Any:
        """Send a JSON document, and return the JSON document of the response."""
        left = _END.get() - time.monotonic()
        if left <= 0:
            raise self.unreachable(_LATE)
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=json.dumps(document).encode(),
                headers=self._headers,
                timeout=min(_TIMEOUT, left),
                preload_content=False,
            )
            content = self._content(response)
        except (exceptions.HTTPError, ValueError) as error:
            # The HTTP client wraps the cause if it has counted attempts. Both messages may contain the URL.
            cause = error.reason if isinstance(error, exceptions.MaxRetryError) and error.reason else error
            why = next(words for kind, words in _FAILURES if isinstance(cause, kind))
            if isinstance(cause, exceptions.TimeoutError) and left < _TIMEOUT:
                why = _LATE
            raise self.unreachable(why) from cause
        if response.status != HTTPStatus.OK:
            # Some nodes refuse a range of blocks by an HTTP status.
            status = response.status
            reason = f" ({HTTPStatus(status).phrase})" if status in set(HTTPStatus) else ""
            raise RpcError(None, f"the response has the HTTP status {status}{reason}", status=status)
        try:
            text = content.decode()
            check_depth(text)
            return json.loads(text, parse_int=whole)
        except ValueError as error:
            raise self.unreadable(error) from error

    def _content(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """Read the body of a response. urllib3 limits neither size nor total time, so this function limits both."""
        content, end = bytearray(), min(time.monotonic() + _WHOLE_TIMEOUT, _END.get())
        while part := response.read1(_PART):
            content += part
            if len(content) > _MAX_RESPONSE or time.monotonic() > end:
                response.close()
                limit = f"within {_WHOLE_TIMEOUT:.0f} s" if end < _END.get() else "in time"
                limit = limit if len(content) <= _MAX_RESPONSE else f"within {_MAX_RESPONSE:,} bytes"
                raise self.unreachable(f"the response did not end {limit}")
        response.release_conn()
        return bytes(content)

    def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        self._pool.clear()

    def unreachable(self, why: str) -> ChainError:
        """Return the error for an endpoint that does not answer."""
        return ChainError(
            f"the node at {self.place} does not answer",
            why=why,
            remedy="check the connection to this host, and the network's url in blockota.toml",
        )

    def unreadable(self, why: object) -> ChainError:
        """Return the error for a response that an Ethereum node would not send."""
        return ChainError(
            f"the server at {self.place} is not a node",
            why=f"the response cannot be read ({self._private.hide_in(str(why))})",
            remedy=_HOST_REMEDY,
        )

    @functools.cached_property
    def _pool(self) -> urllib3.PoolManager:
        """The connections to the node, through the proxy of the environment if one is set."""
        parts = urlsplit(self._url)
        if parts.username is not None:
            auth = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers |= urllib3.make_headers(basic_auth=auth)
        retries = urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=_REDIRECTS)
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy and parts.hostname and not proxy_bypass(parts.hostname):
            return urllib3.ProxyManager(proxy, retries=retries, maxsize=_CONNECTIONS)
        return urllib3.PoolManager(retries=retries, maxsize=_CONNECTIONS)


def required(answer: Any) -> Any:
    """Return one result of `RpcEndpoint.request_each`, or raise the result if it is an `RpcError`."""
    if isinstance(answer, RpcError):
        raise answer
    return answer


def _request(number: int, method: str, parameters: Sequence[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}


def quantity(value: Any, *, bits: int = _WIDEST_NUMBER) -> int:
    """Decode a number from hexadecimal text.

    Args:
        value: the text, with 0x.
        bits: the maximum size of the number, in bits.

    Raises:
        ValueError: the text is not a number, or the number has more bits.
    """
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise ValueError(f"{_shown(value)} is not a number")
    number = int(value, 16)
    if number.bit_length() > bits:
        raise ValueError(f"a number of {number.bit_length()} bits is given where at most {bits} are expected")
    return number


def data(value: Any, *, size: int | None = None) -> bytes:
    """Decode bytes from hexadecimal text.

    Args:
        value: the text, with 0x.
        size: the required number of bytes; None accepts any number.

    Raises:
        ValueError: the value is not hexadecimal text, or has another number of bytes.
    """
    try:
        found = bytes.fromhex(value[2:])
        is_hex = value[:2] in {"0x", "0X"} and 2 + 2 * len(found) == len(value)  # fromhex() accepts spaces
    except (TypeError, ValueError, LookupError):
        is_hex = False
    if not is_hex:
        raise ValueError(f"{_shown(value)} is not hexadecimal text")
    if size is not None and len(found) != size:
        raise ValueError(f"{len(found)} bytes are given where {size} are expected")
    return found


def fields(value: Any) -> Mapping[str, Any]:
    """Check that a value is a JSON object, and return it.

    Raises:
        TypeError: the value is not a JSON object.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{_shown(value)} is not an object")
    return value


def items(value: Any) -> list[Any]:
    """Check that a value is a JSON list, and return it.

    Raises:
        TypeError: the value is not a JSON list.
    """
    if not isinstance(value, list):
        raise TypeError(f"{_shown(value)} is not a list")
    return value


def _result(answer: Any, private: PrivateUrl) -> Any:
    """Return the result of a JSON-RPC response.

    Raises:
        ValueError: the value is not a JSON-RPC response.
        RpcError: the response is an error.
    """
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        raise ValueError("it is not a JSON-RPC response")
    if answer.get("error") is None:
        return answer.get("result")
    detail = answer["error"]
    if not isinstance(detail, dict):
        raise RpcError(None, private.hide_in(str(detail)))
    code, message = detail.get("code"), str(detail.get("message") or "the node gives no reason")

    # Revert data is hexadecimal text (geth, anvil), such text after "Reverted" (OpenEthereum) or an object (ganache).
    found, revert_data = detail.get("data"), b""
    if isinstance(found, dict):
        found = found.get("result") or found.get("data")
    if isinstance(found, str):
        with contextlib.suppress(ValueError):
            revert_data = data(found.removeprefix("Reverted "))
    raise RpcError(code if isinstance(code, int) else None, private.hide_in(message), data=revert_data)


def _attempt(ask: Callable[[], Any]) -> Any:
    """Return a call's result, or the RpcError of a permanent refusal. Raises a temporary refusal."""
    try:
        return ask()
    except RpcError as error:
        if error.is_temporary:
            raise
        return error


def _shown(value: Any) -> str:
    """Format a value for an error; a long value is replaced by its length.

    A truncated value could contain a part of a secret, which `PrivateUrl.hide_in` would not find.
    """
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"an answer of {len(text)} characters"
