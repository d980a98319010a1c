"""A Kubo node as a store: blocks go in and out as CAR files over its RPC API.

The DAG is built here and only its blocks are pushed (``dag/import``), so no setting of the node changes an address. One
request has two CARs, the blocks and then their root, so that the node's pin lock keeps garbage collection out until
the root is pinned. What is read (``dag/export``) is checked block by block: a node reports an error in the middle of a
stream only in an HTTP trailer, which Python clients do not read.

The node is the operator's own: its blocks are not trusted, but its responses have no limits of time and memory.

Source: Kubo RPC API v0 (docs.ipfs.tech/reference/kubo/rpc), tested with Kubo 0.43.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from ipaddress import ip_address
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from blockota.errors import Action, NotInStoreError, StoreError, UsageError
from blockota.formats.car import join_car, read_car
from blockota.formats.cid import CID, RAW, Block, dag

# Read once, by the import: its patched copy of requests warns on every request, and its httpx backend is broken.
os.environ["PY_IPFS_HTTP_CLIENT_PATCH_REQUESTS"] = "no"
os.environ["PY_IPFS_HTTP_CLIENT_PREFER_HTTPX"] = "no"
import ipfshttpclient
from ipfshttpclient.exceptions import (
    AddressError,
    DecodingError,
    Error,
    ErrorResponse,
    StatusError,
)

OLDEST_VERSION = (0, 40)
"""The oldest supported node: the first that accepts blocks of 2 MiB and has the profile unixfs-v1-2025."""
AUTHORIZATION_VARIABLE = "BLOCKOTA_KUBO_AUTHORIZATION"
TIMEOUT = 120.0
"""Seconds to wait for a node that looks for a block on the network, or pins a large file."""
_CONNECT_SECONDS = 5.0
PIECE_SIZE = 1 << 20
"""Bytes that are sent at a time in a request."""
_PORTS = {"http": 80, "https": 443}
ABSENT = ("could not find", "not found")
"""Parts of its messages for a block that it does not have."""
_FULL = ("no space left", "quota exceeded", "storage limit", "file too large")
_TOKEN = re.compile(r"[!-~]+")
_FORBIDDEN = (401, 403)


class KuboApi:
    """The RPC API of one node; the first use connects.

    Args:
        url: where it listens, such as ``http://127.0.0.1:5001``.
        authorization: ``basic:USER:PASSWORD`` or ``bearer:TOKEN``, as in the node's ``API.Authorizations``.
        timeout: seconds to wait for the node's next byte.

    Raises:
        UsageError: the URL or the authorization is malformed.
    """

    def __init__(self, url: str, *, authorization: str = "", timeout: float = TIMEOUT) -> None:
        self.url, self._timeout = url, timeout
        self._address, self._base = _api_address(url)
        self._authorization = _Authorization.parse(authorization) if authorization else None

    @cached_property
    def client(self) -> Any:
        """A client of the node, whose version was checked."""
        # Not `ipfshttpclient.connect`: it refuses every node that is newer than the library.
        client = ipfshttpclient.Client(
            self._address,
            self._base,
            auth=self._authorization,
            chunk_size=PIECE_SIZE,
            session=True,
            timeout=(_CONNECT_SECONDS, self._timeout),
        )
        session = client._client._session  # noqa: SLF001 - the library has no option for these two
        session.trust_env = False  # no proxies, no .netrc
        session.max_redirects = 0  # an RPC API does not redirect
        self._check_version(client.version().as_json())
        return client

    def not_kubo(self, why: str) -> StoreError:
        """The error if the URL is that of another service."""
        return StoreError(
            f"{self.url} is not the RPC API of a Kubo node",
            why=why,
            remedy="give the address of `ipfs config Addresses.API` (port 5001), not the gateway's (port 8080)",
        )

    def _check_version(self, answer: object) -> None:
        match answer:
            case {"Version": str(version)} if numbers := re.match(r"(\d+)\.(\d+)\b", version[:40], re.ASCII):
                pass
            case _:
                raise self.not_kubo("it does not report a version")
        if tuple(map(int, numbers.groups())) < OLDEST_VERSION:
            raise StoreError(
                f"the Kubo node at {self.url} is too old",
                why=f"it is version {version}, and {'.'.join(map(str, OLDEST_VERSION))} or newer is needed",
                remedy="update Kubo",
            )

    def succeeds(self, request: Callable[[], object], doing: str, *, unless: tuple[str, ...]) -> bool:
        """Send a request to which the node may answer no, by an error message.

        Args:
            request: sends the request.
            doing: as for `translated`.
            unless: parts of error messages that mean no.

        Returns:
            False if the node answered no.

        Raises:
            StoreError: as `translated`.
        """
        with self.translated(doing):
            try:
                request()
            except ErrorResponse as error:
                if not any(words in str(error) for words in unless):
                    raise
                return False
        return True

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Translate the exceptions of ipfshttpclient.

        Args:
            doing: the operation, a clause in the infinitive.

        Raises:
            StoreError: the node cannot be reached, is not a Kubo node, refuses, or fails.
        """
        try:
            yield
        except ErrorResponse as error:
            raise self._failed(doing, str(error)) from error
        except StatusError as error:
            raise self._answered(error.original.response.status_code) from error
        except (AssertionError, DecodingError) as error:
            raise self.not_kubo("its response is not one of Kubo's") from error
        except (Error, OSError) as error:
            raise self._unreachable(doing, _innermost(error)) from error

    def _unreachable(self, doing: str, error: BaseException) -> StoreError:
        """The error for a connection that was refused, broke or timed out."""
        what = f"the Kubo node at {self.url} could not {doing}"
        if isinstance(error, TimeoutError):
            return StoreError(
                what,
                why="it did not respond in time",
                remedy="check that it runs; it may be looking on the network for blocks that no node has",
            )
        return StoreError(
            what,
            why=getattr(error, "strerror", None) or str(error) or type(error).__name__,
            remedy="check that `ipfs daemon` runs, and that the address is that of `ipfs config Addresses.API`",
        )

    def _failed(self, doing: str, message: str) -> StoreError:
        """The error for a message of the node."""
        what = f"the Kubo node at {self.url} could not {doing}"
        if any(words in message.lower() for words in _FULL):
            return StoreError(
                what,
                why=f"it is full: {message}",
                remedy="free disk space there, for example by `ipfs repo gc`, which removes unpinned blocks",
            )
        if any(words in message for words in ABSENT):
            return NotInStoreError(
                what,
                why=f"it does not have all blocks: {message}",
                remedy="ask the vendor for the image, or name another store",
                action=Action.CHOOSE_STORE,
            )
        return StoreError(what, why=message, remedy="read the node's log")

    def _answered(self, status: int) -> StoreError:
        """The error for an HTTP status without a message of the node."""
        if status in _FORBIDDEN:
            return StoreError(
                f"the Kubo node at {self.url} refuses the request",
                why=f"it answers {status}: the authorization is missing, invalid, or does not allow this request",
                remedy=f"set {AUTHORIZATION_VARIABLE} to an AuthSecret of its API.Authorizations, with /api/v0 allowed",
            )
        return self.not_kubo(f"it answers {status}")


@dataclass(frozen=True)
class _Authorization:
    """Sets the Authorization header of a request; ipfshttpclient calls it."""

    header: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> _Authorization:
        kind, _, secret = text.partition(":")
        if kind == "bearer" and _TOKEN.fullmatch(secret):
            return cls(f"Bearer {secret}")
        if kind == "basic" and _encoded(secret):
            return cls(f"Basic {secret}")
        if kind == "basic" and ":" in secret:
            return cls(f"Basic {base64.b64encode(secret.encode()).decode()}")
        raise UsageError(
            f"{AUTHORIZATION_VARIABLE} cannot be used",
            why="it must be basic:USER:PASSWORD, the same in base64, or bearer:TOKEN",
            remedy="copy the AuthSecret from the node's API.Authorizations",
        )

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = self.header
        return request


def _api_address(url: str) -> tuple[str, str]:
    """The multiaddress and the path of an RPC API, which ipfshttpclient takes."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        address = f"/{_host_kind(host)}/{host}/tcp/{port}/{parts.scheme}"
        ipfshttpclient.http_common.multiaddr_to_url_data(address, "/")
    except (AddressError, LookupError, ValueError) as error:
        raise UsageError(
            f"{url!r} is not the URL of a Kubo node",
            why="it is written http://HOST:PORT",
            remedy="try http://127.0.0.1:5001",
        ) from error
    if parts.username or parts.password:
        raise UsageError(
            "the URL of a Kubo node must not contain a password",
            why="others can read a command line, and settings are shared",
            remedy=f"put basic:USER:PASSWORD into the environment variable {AUTHORIZATION_VARIABLE}",
        )
    return address, f"{parts.path.rstrip('/')}/api/v0"


def _encoded(secret: str) -> bool:
    """Whether USER:PASSWORD is base64-encoded already, which Kubo accepts as well."""
    try:
        return b":" in base64.b64decode(secret, validate=True)
    except ValueError:
        return False


def _host_kind(host: str) -> str:
    try:
        return f"ip{ip_address(host).version}"
    except ValueError:
        return "dns"


def _innermost(error: BaseException) -> BaseException:
    """The first of nested exceptions: the outer ones only name connection pools."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return error


_NOT_PINNED = ("not pinned",)
_LARGEST_FILE = 1 << 40


class KuboStore:
    """A content store in a Kubo node; the first use connects.

    Args:
        url: the node's RPC API, such as ``http://127.0.0.1:5001``.
        authorization: ``basic:USER:PASSWORD`` or ``bearer:TOKEN``, as in the node's ``API.Authorizations``.
        timeout: seconds to wait for the node's next byte.

    Raises:
        UsageError: the URL or the authorization is malformed.
    """

    def __init__(self, url: str, *, authorization: str = "", timeout: float = TIMEOUT) -> None:
        self.url = url
        self._api = KuboApi(url, authorization=authorization, timeout=timeout)

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Store and pin a file.

        Args:
            stream: the file's bytes, read once.
            on_progress: takes the size in bytes of each block of the file.

        Returns:
            The content address of the file.

        Raises:
            StoreError: the node cannot be reached, refuses, or cannot store or pin the file.
        """
        upload = _Upload(stream, on_progress=on_progress)
        # The root is known only after all blocks, so it follows in a second CAR, whose roots are pinned as well.
        files = [_Pieces(upload.blocks()), _Pieces(upload.root_alone())]
        with self._api.translated("store the file"):
            self._check_import(upload, self._api.client.dag.imprt(files, opts={"pin-roots": "true"}).as_json())
        return upload.root

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield the bytes of a file that the node itself has, in order; each block is checked before it is yielded.

        Raises:
            NotInStoreError: the node does not have a block.
            StoreError: it cannot be reached.
            ContentError: a block is corrupt.
        """
        return self._export(cid, offline=True)

    def search(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes as `open`; a node that is online looks for missing blocks on the IPFS network.

        Raises:
            StoreError: it finds no block within the timeout, or cannot be reached.
            ContentError: a block is corrupt.
        """
        return self._export(cid, offline=False)

    def has(self, cid: CID) -> bool:
        """Whether the node itself has the root block; only `open` shows whether the file is whole.

        Raises:
            StoreError: the node cannot be reached.
        """
        return self._api.succeeds(
            lambda: self._api.client.block.stat(str(cid), offline=True), f"look for {cid}", unless=ABSENT
        )

    def read_block(self, cid: CID) -> bytes:
        """Read a block that the node itself has, without checking it.

        Raises:
            StoreError: it does not have the block, or cannot be reached.
        """
        with self._api.translated(f"read the block {cid}"):
            data: bytes = self._api.client.block.get(str(cid), offline=True)
        return data

    def pin(self, cid: CID) -> None:
        """Keep a file when garbage is collected; the node must have all of its blocks.

        Raises:
            StoreError: it does not have them, or cannot be reached.
        """
        with self._api.translated(f"pin {cid}"):
            self._api.client.pin.add(str(cid), offline=True)

    def unpin(self, cid: CID) -> None:
        """Undo `pin`, if the file is pinned; the blocks stay until the node collects garbage.

        Raises:
            StoreError: the node cannot be reached.
        """
        self._api.succeeds(lambda: self._api.client.pin.rm(str(cid)), f"unpin {cid}", unless=_NOT_PINNED)

    def _export(self, cid: CID, *, offline: bool) -> Iterator[bytes]:
        # The stream has each block once, and files repeat mostly one, that of padding: a small cache answers for it.
        earlier = lru_cache(maxsize=2)(self.read_block)
        with (
            self._api.translated(f"read {cid}"),
            self._api.client.dag.export(str(cid), stream=True, offline=offline) as parts,
        ):
            for block in read_car(parts, cid, size=_LARGEST_FILE, earlier=earlier):
                if block.cid.codec == RAW:
                    yield block.data

    def _check_import(self, upload: _Upload, answer: object) -> None:
        root = upload.root
        match answer:
            case {"Root": {"Cid": {"/": str(found)}, "PinErrorMsg": str(failure)}}:
                pass
            case _:
                raise self._api.not_kubo("its response to an import is not one of Kubo's")
        if found != str(root):
            raise StoreError(
                f"the Kubo node at {self.url} stored another file", why=f"it names {found[:100]}, not {root}"
            )
        if failure:
            raise StoreError(
                f"the Kubo node at {self.url} stored {root}, but did not pin it",
                why=failure,
                remedy=f"try `ipfs pin add {root}` there before its next garbage collection",
            )


class _Upload:
    """The blocks of a file as they are built, in one CAR, and then its root in another."""

    root: CID

    def __init__(self, stream: BinaryIO, *, on_progress: Callable[[int], object]) -> None:
        self._stream, self._on_progress = stream, on_progress

    def blocks(self) -> Iterator[bytes]:
        """A CAR without roots; a repeated block is in it once."""
        yield from join_car(None, self._new_blocks())

    def root_alone(self) -> Iterator[bytes]:
        """A CAR with the root and no blocks."""
        yield from join_car(self.root, ())

    def _new_blocks(self) -> Iterator[Block]:
        sent: set[CID] = set()
        for block in dag(self._stream):
            self.root = block.cid
            self._on_progress(len(block.data))
            if block.cid not in sent:
                sent.add(block.cid)
                yield block


class _Pieces:
    """Pieces as a file to upload; it has no name, because the client would send its path."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = filter(None, pieces)

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")
