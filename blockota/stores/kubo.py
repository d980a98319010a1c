"""A Kubo node as a store: blocks go in and out as CAR files over its RPC API.

The DAG is built here and only its blocks are pushed (``dag/import``), so no setting of the node changes an address. One
request carries two CARs, the blocks and then their root, under the lock that keeps the node's garbage collection out.
What is read (``dag/export``) is checked block by block, for a node tells of an error in the midst of a stream only in
an HTTP trailer that no Python client reads.

The node is somebody's own: it is not believed, but it may take the time and the memory of its answers.

Source: Kubo RPC API v0 (docs.ipfs.tech/reference/kubo/rpc), read and tried with Kubo 0.43.
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

# Read once, by the import: its own copy of requests warns with every request, and its other backend is broken.
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
"""The oldest node that is spoken to: the first that takes blocks of 2 MiB and knows the profile of our DAGs."""
AUTHORIZATION_VARIABLE = "BLOCKOTA_KUBO_AUTHORIZATION"
TIMEOUT = 120.0
"""Seconds to wait for a node that looks for a block on the network, or pins a large file."""
_CONNECT_SECONDS = 5.0
PIECE_SIZE = 1 << 20
"""Bytes that are sent at a time."""
_PORTS = {"http": 80, "https": 443}
ABSENT = ("could not find", "not found")
"""What its messages say of a block that it does not hold."""
_FULL = ("no space left", "quota exceeded", "storage limit", "file too large")
_TOKEN = re.compile(r"[!-~]+")
_FORBIDDEN = (401, 403)


class KuboApi:
    """The RPC API of one node; nothing is asked before the first use.

    Args:
        url: where it listens, such as ``http://127.0.0.1:5001``.
        authorization: ``basic:USER:PASSWORD`` or ``bearer:TOKEN``, as in the node's ``API.Authorizations``.
        timeout: seconds to wait for the node's next byte.

    Raises:
        UsageError: one of them cannot be used.
    """

    def __init__(self, url: str, *, authorization: str = "", timeout: float = TIMEOUT) -> None:
        """Remember where the node is."""
        self.url, self._timeout = url, timeout
        self._address, self._base = _api_address(url)
        self._authorization = _Authorization.parse(authorization) if authorization else None

    @cached_property
    def client(self) -> Any:
        """A client of a node that was asked for its version."""
        # Not `connect`: it refuses every node that is newer than itself.
        client = ipfshttpclient.Client(
            self._address,
            self._base,
            auth=self._authorization,
            chunk_size=PIECE_SIZE,
            session=True,
            timeout=(_CONNECT_SECONDS, self._timeout),
        )
        session = client._client._session  # noqa: SLF001 - there is no other way to these two
        session.trust_env = False  # neither proxies nor .netrc: an API on loopback is not theirs
        session.max_redirects = 0  # nor is it somewhere else
        self._check_version(client.version().as_json())
        return client

    def not_kubo(self, why: str) -> StoreError:
        """The error for something else that listens there."""
        return StoreError(
            f"what listens at {self.url} is no RPC API of Kubo",
            why=why,
            remedy="give the address of `ipfs config Addresses.API` (port 5001), not the gateway's (port 8080)",
        )

    def _check_version(self, answer: object) -> None:
        match answer:
            case {"Version": str(version)} if numbers := re.match(r"(\d+)\.(\d+)\b", version[:40], re.ASCII):
                pass
            case _:
                raise self.not_kubo("it does not say its version")
        if tuple(map(int, numbers.groups())) < OLDEST_VERSION:
            raise StoreError(
                f"the Kubo node at {self.url} is too old",
                why=f"it is version {version}, and {'.'.join(map(str, OLDEST_VERSION))} or newer is needed",
                remedy="update Kubo",
            )

    def succeeds(self, request: Callable[[], object], doing: str, *, unless: tuple[str, ...]) -> bool:
        """Send a request.

        Args:
            request: sends it.
            doing: as for `translated`.
            unless: words of the node's message that are an answer, not an error.

        Returns:
            False when the node's message has one of the words.

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
        """Translate what goes wrong.

        Args:
            doing: what is done, a clause in the infinitive.

        Raises:
            StoreError: the node is out of reach, is none, refuses, or cannot do it.
        """
        try:
            yield
        except ErrorResponse as error:
            raise self._failed(doing, str(error)) from error
        except StatusError as error:
            raise self._answered(error.original.response.status_code) from error
        except (AssertionError, DecodingError) as error:
            raise self.not_kubo("its answer is not one of Kubo's") from error
        except (Error, OSError) as error:
            raise self._unreachable(doing, _innermost(error)) from error

    def _unreachable(self, doing: str, error: BaseException) -> StoreError:
        """The error for a connection that was not made, broke or stalled."""
        what = f"the Kubo node at {self.url} could not {doing}"
        if isinstance(error, TimeoutError):
            return StoreError(
                what,
                why="it said nothing for long",
                remedy="check that it runs; what it does not hold itself it may look for in vain",
            )
        return StoreError(
            what,
            why=getattr(error, "strerror", None) or str(error) or type(error).__name__,
            remedy="check that `ipfs daemon` runs, and that the address is that of `ipfs config Addresses.API`",
        )

    def _failed(self, doing: str, message: str) -> StoreError:
        """The error for what the node says it could not do."""
        what = f"the Kubo node at {self.url} could not {doing}"
        if any(words in message.lower() for words in _FULL):
            return StoreError(
                what,
                why=f"it is full: {message}",
                remedy="free disk space there, with `ipfs repo gc` for what is unpinned",
            )
        if any(words in message for words in ABSENT):
            return NotInStoreError(
                what,
                why=f"it does not hold all of it: {message}",
                remedy="ask the vendor for the image, or name another store",
                action=Action.CHOOSE_STORE,
            )
        return StoreError(what, why=message, remedy="look into the node's log")

    def _answered(self, status: int) -> StoreError:
        """The error for an HTTP status without a message of Kubo's."""
        if status in _FORBIDDEN:
            return StoreError(
                f"the Kubo node at {self.url} refuses us",
                why=f"it answers {status}: it wants another authorization, or allows this one less",
                remedy=f"set {AUTHORIZATION_VARIABLE} to an AuthSecret of its API.Authorizations, with /api/v0 allowed",
            )
        return self.not_kubo(f"it answers {status}")


@dataclass(frozen=True)
class _Authorization:
    """Sets a request's header; called by the HTTP client."""

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
    """The multiaddress and the path of an RPC API, as the client wants them."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        address = f"/{_host_kind(host)}/{host}/tcp/{port}/{parts.scheme}"
        ipfshttpclient.http_common.multiaddr_to_url_data(address, "/")
    except (AddressError, LookupError, ValueError) as error:
        raise UsageError(
            f"{url!r} is no address of a Kubo node",
            why="it is written http://HOST:PORT",
            remedy="try http://127.0.0.1:5001",
        ) from error
    if parts.username or parts.password:
        raise UsageError(
            "the URL of a Kubo node must not hold a secret",
            why="others can read a command line, and settings are shared",
            remedy=f"put basic:USER:PASSWORD into the environment variable {AUTHORIZATION_VARIABLE}",
        )
    return address, f"{parts.path.rstrip('/')}/api/v0"


def _encoded(secret: str) -> bool:
    """Whether USER:PASSWORD is in base64 already, as Kubo takes it too."""
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
    """The first of nested exceptions: the outer ones speak of connection pools."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return error


_NOT_PINNED = ("not pinned",)
_LARGEST_FILE = 1 << 40


class KuboStore:
    """A content store in a Kubo node; nothing is asked before the first use.

    Args:
        url: the node's RPC API, such as ``http://127.0.0.1:5001``.
        authorization: ``basic:USER:PASSWORD`` or ``bearer:TOKEN``, as in the node's ``API.Authorizations``.
        timeout: seconds to wait for the node's next byte.

    Raises:
        UsageError: one of them cannot be used.
    """

    def __init__(self, url: str, *, authorization: str = "", timeout: float = TIMEOUT) -> None:
        """Remember where the node is."""
        self.url = url
        self._api = KuboApi(url, authorization=authorization, timeout=timeout)

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Store a file and pin it.

        Args:
            stream: the file's bytes, read once.
            on_progress: is told the bytes of each block of the file.

        Returns:
            The content address of the file.

        Raises:
            StoreError: the node is out of reach, refuses, or cannot store or pin it.
        """
        upload = _Upload(stream, on_progress=on_progress)
        # The root is known when the blocks are sent, so it follows in a second CAR, whose roots are pinned as well.
        files = [_Pieces(upload.blocks()), _Pieces(upload.root_alone())]
        with self._api.translated("store the file"):
            self._check_import(upload, self._api.client.dag.imprt(files, opts={"pin-roots": "true"}).as_json())
        return upload.root

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield the bytes of a file that the node itself holds, in order; every block is checked before it is yielded.

        Raises:
            NotInStoreError: the node does not hold a block.
            StoreError: it is out of reach.
            ContentError: a block is corrupt.
        """
        return self._export(cid, offline=True)

    def search(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes as `open`; what it does not hold, a node that is online looks for on the IPFS network.

        Raises:
            StoreError: it finds nobody who has a block, for as long as it is waited for, or is out of reach.
            ContentError: a block is corrupt.
        """
        return self._export(cid, offline=False)

    def has(self, cid: CID) -> bool:
        """Whether the node itself holds the root block (`open` tells whether the file is whole).

        Raises:
            StoreError: the node is out of reach.
        """
        return self._api.succeeds(
            lambda: self._api.client.block.stat(str(cid), offline=True), f"look for {cid}", unless=ABSENT
        )

    def read_block(self, cid: CID) -> bytes:
        """What the node itself holds under a block's address, unchecked.

        Raises:
            StoreError: it does not hold the block, or is out of reach.
        """
        with self._api.translated(f"read the block {cid}"):
            data: bytes = self._api.client.block.get(str(cid), offline=True)
        return data

    def pin(self, cid: CID) -> None:
        """Mark a root as one to keep with all that it names; the node must hold all of it.

        Raises:
            StoreError: it does not, or is out of reach.
        """
        with self._api.translated(f"pin {cid}"):
            self._api.client.pin.add(str(cid), offline=True)

    def unpin(self, cid: CID) -> None:
        """Take the mark away, if there is one; the blocks stay until the node collects garbage.

        Raises:
            StoreError: the node is out of reach.
        """
        self._api.succeeds(lambda: self._api.client.pin.rm(str(cid)), f"unpin {cid}", unless=_NOT_PINNED)

    def _export(self, cid: CID, *, offline: bool) -> Iterator[bytes]:
        # The stream has each block once; padding repeats some, and mostly the same one.
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
                raise self._api.not_kubo("its answer to an import is not Kubo's")
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
    """The blocks of a file as they are built, and then its root, each in a CAR."""

    root: CID

    def __init__(self, stream: BinaryIO, *, on_progress: Callable[[int], object]) -> None:
        self._stream, self._on_progress = stream, on_progress

    def blocks(self) -> Iterator[bytes]:
        """A CAR without a root; a block that the file repeats is in it once."""
        yield from join_car(None, self._new_blocks())

    def root_alone(self) -> Iterator[bytes]:
        """A CAR with the root and no block."""
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
    """Pieces as a file to upload; without a name, which the client would send along with its folder."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = filter(None, pieces)

    def read(self, _size: int) -> bytes:
        return next(self._pieces, b"")
