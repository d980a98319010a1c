"""A Kubo node as a store: blocks are imported and exported as CAR files over the node's RPC API.

This module builds the DAG itself and imports its blocks (``dag/import``). The node's settings therefore do not change a
CID. One import request contains two CARs: the first has all blocks, and the second has the root, which the node pins.
During the request, the node's pin lock prevents garbage collection. Exported blocks (``dag/export``) are verified one
by one. If the node fails in the middle of a stream, it reports the error only in an HTTP trailer, which Python's HTTP
clients ignore.

The operator runs the node. The node's blocks are verified, but the size and duration of its responses are not limited.

Source: Kubo RPC API v0 (docs.ipfs.tech/reference/kubo/rpc), tested with Kubo 0.43.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import BinaryIO
from urllib.parse import urlencode

import urllib3

from blockota.errors import Action, NotInStoreError, StoreError, UsageError
from blockota.formats.car import join_car, read_car
from blockota.formats.cid import CID, RAW, Block, dag
from blockota.stores.source import split_url
from blockota.url_secrets import PrivateUrl, shown_url

OLDEST_VERSION = (0, 40)
"""The oldest supported Kubo version: the first that accepts 2 MiB blocks and has the profile unixfs-v1-2025."""
AUTHORIZATION_VARIABLE = "BLOCKOTA_KUBO_AUTHORIZATION"
TIMEOUT = 120.0
"""Seconds to wait for a node that searches the network for a block, or pins a large file."""
_CONNECT_SECONDS = 5.0
_CONNECTIONS = 8
PIECE_SIZE = 1 << 20
"""Number of bytes of a response that are read at a time."""
ABSENT = ("could not find", "not found")
"""Parts of Kubo's messages for a block that the node does not have."""
_FULL = ("no space left", "quota exceeded", "storage limit", "file too large")
_NOT_PINNED = "not pinned"
_TOKEN = re.compile(r"[!-~]+")
_FORBIDDEN = (401, 403)
_LARGEST_FILE = 1 << 40
_OFFLINE = {"offline": "true"}
"""The option that restricts a command to the node's own blocks."""


class KuboApi:
    """The RPC API of one Kubo node; the node's version is checked before the first request.

    Args:
        url: URL of the API, such as ``http://127.0.0.1:5001``.
        authorization: ``basic:USER:PASSWORD`` or ``bearer:TOKEN``, as in the node's ``API.Authorizations``.
        timeout: seconds to wait for the node's next byte.

    Raises:
        UsageError: the URL or the authorization is malformed.
    """

    def __init__(self, url: str, *, authorization: str = "", timeout: float = TIMEOUT) -> None:
        self.url, self._base = url, _api_base(url)
        self._private = PrivateUrl(url)
        self.place = self._private.shown
        self._authorization = {"Authorization": _authorization_header(authorization)} if authorization else {}
        # urllib3 ignores the environment's proxies and .netrc, so the authorization goes to this node only. Requests
        # are not repeated, because the node may have executed a failed request. An RPC API does not redirect.
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=timeout),
            retries=False,
            maxsize=_CONNECTIONS,
        )
        self._is_checked = False

    def call(self, command: str, query: Mapping[str, str], *, doing: str) -> bytes:
        """Send a command, and read the whole response.

        Args:
            command: the command, such as ``block/get``.
            query: the options of the command.
            doing: the action for error messages, such as ``store the file``.

        Raises:
            NotInStoreError: the node does not have a block.
            StoreError: the node cannot be reached, is too old, is not a Kubo node, refuses the command, or fails.
        """
        with self._translated(doing):
            return self._send(command, query, doing=doing).data

    def upload(self, files: Iterable[Iterator[bytes]], *, doing: str) -> bytes:
        """Import CARs and pin their roots; raises the errors of `call`."""
        boundary = secrets.token_hex(16)  # random, so that no file can contain it (RFC 2046, section 5.1.1)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        body = _form_data(files, boundary)
        with self._translated(doing):
            return self._send("dag/import", {"pin-roots": "true"}, doing=doing, body=body, headers=headers).data

    def parts(self, command: str, query: Mapping[str, str], *, doing: str) -> Generator[bytes]:
        """Send a command and yield the response in pieces; raises the errors of `call`."""
        with self._translated(doing):
            response = self._send(command, query, doing=doing)
            try:
                yield from response.stream(PIECE_SIZE, decode_content=False)
            finally:
                response.close()

    def _send(
        self,
        command: str,
        query: Mapping[str, str],
        *,
        doing: str,
        body: Iterator[bytes] | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> urllib3.BaseHTTPResponse:
        """Send a command, and read the head of the response. The first call also checks the node's version."""
        if not self._is_checked and command != "version":
            self._check_version(self._send("version", {}, doing=doing).data)
            self._is_checked = True

        response = self._pool.request(
            "POST",
            f"{self._base}/{command}?{urlencode(query)}",
            body=body,
            headers={**self._authorization, **headers},
            preload_content=False,
        )
        if response.status != HTTPStatus.OK:
            raise self._refusal(response.status, response.data, doing=doing)
        return response

    def _check_version(self, answer: bytes) -> None:
        match _json(answer):
            case {"Version": str(version)} if numbers := re.match(r"(\d+)\.(\d+)\b", version[:40], re.ASCII):
                pass
            case _:
                raise self.not_kubo("it does not report a version")

        if tuple(map(int, numbers.groups())) < OLDEST_VERSION:
            raise StoreError(
                f"the Kubo node at {self.place} is too old",
                why=f"the node's version is {version}, but {'.'.join(map(str, OLDEST_VERSION))} or newer is needed",
                remedy="update Kubo",
            )

    def not_kubo(self, why: str) -> StoreError:
        """Return the error for a URL that does not belong to a Kubo RPC API."""
        return StoreError(
            f"{self.place} is not the RPC API of a Kubo node",
            why=why,
            remedy="use the address from `ipfs config Addresses.API` (port 5001), not the gateway's (port 8080)",
        )

    def _refusal(self, status: int, answer: bytes, *, doing: str) -> StoreError:
        """Return the error for a response whose status is not 200."""
        match _json(answer):
            case {"Message": str(text)}:
                message = self._private.hide_in(text)
            case _ if status in _FORBIDDEN:
                return StoreError(
                    f"the Kubo node at {self.place} refuses the request",
                    why=f"status {status}: the authorization is missing, invalid, or does not allow this request",
                    remedy=f"set {AUTHORIZATION_VARIABLE} to an AuthSecret of the node's API.Authorizations "
                    "that allows /api/v0",
                )
            case _:
                return self.not_kubo(f"the status is {status}")

        what = f"the Kubo node at {self.place} could not {doing}"
        if any(words in message.lower() for words in _FULL):
            return StoreError(
                what,
                why=f"the node is full: {message}",
                remedy="free disk space on the node, for example with `ipfs repo gc`, which removes unpinned blocks",
            )
        if any(words in message for words in ABSENT):
            return NotInStoreError(
                what,
                why=f"the node does not have all blocks: {message}",
                remedy="ask the vendor for the image, or name another store",
                action=Action.CHOOSE_STORE,
            )
        return StoreError(what, why=message, remedy="read the node's log")

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Translate exceptions of a connection that is refused, breaks or times out."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # The outer exceptions name only connection pools. The innermost exception has the reason.
            cause: BaseException = error
            while deeper := cause.__cause__ or cause.__context__:
                cause = deeper
            why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            remedy = "check that `ipfs daemon` runs, and that the address is the one from `ipfs config Addresses.API`"
            if isinstance(cause, TimeoutError):
                why = "the node did not respond in time"
                remedy = "check that the node runs; it may be searching the IPFS network for missing blocks"
            raise StoreError(f"the Kubo node at {self.place} could not {doing}", why=why, remedy=remedy) from error


def _authorization_header(text: str) -> str:
    kind, _, secret = text.partition(":")
    if kind == "bearer" and _TOKEN.fullmatch(secret):
        return f"Bearer {secret}"

    if kind == "basic":
        try:
            is_encoded = b":" in base64.b64decode(secret, validate=True)  # Kubo also accepts this form
        except ValueError:
            is_encoded = False
        if is_encoded:
            return f"Basic {secret}"
        if ":" in secret:
            return f"Basic {base64.b64encode(secret.encode()).decode()}"

    raise UsageError(
        f"{AUTHORIZATION_VARIABLE} cannot be used",
        why="the value must be basic:USER:PASSWORD, basic: and USER:PASSWORD in base64, or bearer:TOKEN",
        remedy="copy the AuthSecret from the node's API.Authorizations",
    )


def _api_base(url: str) -> str:
    """Return the base URL of the commands of an RPC API."""
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise UsageError(
            "the URL of a Kubo node must not contain a password",
            why="other users of this computer can read command lines, and settings files are shared",
            remedy=f"put basic:USER:PASSWORD into the environment variable {AUTHORIZATION_VARIABLE}",
        )

    parts = split_url(url)
    if parts is None:
        raise UsageError(
            f"{shown_url(url)!r} is not the URL of a Kubo node",
            why="the URL must be http://HOST:PORT",
            remedy="try http://127.0.0.1:5001",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/api/v0"


def _form_data(files: Iterable[Iterator[bytes]], boundary: str) -> Iterator[bytes]:
    """Encode files as the body of a multipart request (RFC 7578)."""
    for number, pieces in enumerate(files):
        yield f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{number}"\r\n'.encode()
        yield b"Content-Type: application/octet-stream\r\n\r\n"
        yield from filter(None, pieces)  # an empty chunk would end the body
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _json(text: bytes) -> object:
    """Parse the body of a response; None if it is not JSON."""
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


class KuboStore:
    """A content store in a Kubo node, with the arguments of `KuboApi`; the first method call connects.

    Every method raises a `StoreError` if the node cannot be reached, is too old, is not a Kubo node, or fails.
    """

    def __init__(self, url: str, *, authorization: str = "", timeout: float = TIMEOUT) -> None:
        self.url = url
        self._api = KuboApi(url, authorization=authorization, timeout=timeout)

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = lambda _: None) -> CID:
        """Store and pin a file, and return its CID. Corrupt blocks of the file in the node are replaced.

        Args:
            stream: the file, which is read from its current position; a pipe is accepted.
            on_progress: called with the size of each block in bytes.

        Raises:
            StoreError: the node cannot replace a corrupt block of the file, or fails as the class docstring describes.
        """
        start = stream.tell() if stream.seekable() else None
        root, corrupt, answer = self._import(stream, on_progress)
        if corrupt:
            # An import does not replace a block that the node already has, even if that block is corrupt on the disk.
            self._remove(corrupt, root=root)
            if start is None:
                why, remedy = "the node had corrupt blocks of the file, which were removed", "store the file again"
                raise StoreError(f"the file {root} is not stored", why=why, remedy=remedy)
            stream.seek(start)
            root, _, answer = self._import(stream, lambda _: None)
        self._check_import(root, answer)
        return root

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield the bytes of a file that the node itself has, in order; each block is verified first.

        Raises:
            NotInStoreError: the node does not have a block.
            StoreError: the node cannot be reached.
            ContentError: a block is corrupt.
        """
        return self._export(cid, _OFFLINE)

    def search(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes like `open`, but let the node search the IPFS network for missing blocks.

        Raises:
            StoreError: the node does not find a block within the timeout, or cannot be reached.
            ContentError: a block is corrupt.
        """
        return self._export(cid, {})

    def has(self, cid: CID) -> bool:
        """Whether the node itself has the root block. Only `open` shows whether the file is complete."""
        try:
            self._api.call("block/stat", {"arg": str(cid), **_OFFLINE}, doing=f"look for {cid}")
        except NotInStoreError:
            return False
        return True

    def read_block(self, cid: CID) -> bytes:
        """Read a block that the node itself has, without verifying it.

        Raises a `StoreError` if the node lacks the block.
        """
        return self._api.call("block/get", {"arg": str(cid), **_OFFLINE}, doing=f"read the block {cid}")

    def pin(self, cid: CID) -> None:
        """Protect a file from garbage collection.

        Raises a `StoreError` if the node does not have all blocks of the file.
        """
        self._api.call("pin/add", {"arg": str(cid), **_OFFLINE}, doing=f"pin {cid}")

    def unpin(self, cid: CID) -> None:
        """Remove the pin of a file, if the file is pinned.

        The blocks stay until the node collects garbage.
        """
        try:
            self._api.call("pin/rm", {"arg": str(cid)}, doing=f"unpin {cid}")
        except StoreError as error:
            if _NOT_PINNED not in error.why:
                raise

    def _import(self, stream: BinaryIO, on_progress: Callable[[int], object]) -> tuple[CID, list[CID], bytes]:
        """Send a file's blocks to the node.

        Returns:
            ⟨root, blocks that are corrupt in the node, the node's response⟩.
        """
        sent: dict[CID, None] = {}
        corrupt: list[CID] = []

        def new_blocks() -> Iterator[Block]:
            for block in dag(stream):
                on_progress(len(block.data))
                if block.cid not in sent:
                    sent[block.cid] = None
                    if self._is_corrupt(block):
                        corrupt.append(block.cid)
                    yield block

        def root_alone() -> Iterator[bytes]:
            [*_, root] = sent  # a parent comes after its children
            yield from join_car([root], ())

        # The root is known only after all blocks. It follows in a second CAR, and the node pins the root of that CAR.
        answer = self._api.upload((join_car([], new_blocks()), root_alone()), doing="store the file")
        return list(sent)[-1], corrupt, answer

    def _is_corrupt(self, block: Block) -> bool:
        """Whether the node has wrong bytes under the CID of a block."""
        try:
            query = {"arg": str(block.cid), **_OFFLINE}
            return self._api.call("block/get", query, doing="store the file") != block.data
        except NotInStoreError:
            return False

    def _remove(self, cids: Sequence[CID], *, root: CID) -> None:
        """Remove blocks of a file from the node, and the file's pin, which protects the blocks."""
        self.unpin(root)
        for cid in cids:
            answer = self._api.call("block/rm", {"arg": str(cid)}, doing=f"remove the corrupt block {cid}")
            match _json(answer or b"{}"):
                case {"Error": str(failure)} if failure:  # the HTTP status does not report this failure
                    raise StoreError(
                        f"the Kubo node at {self._api.place} cannot replace the corrupt block {cid}",
                        why=failure,
                        remedy=f"unpin the file that contains the block (`ipfs pin ls {cid}`), and run again",
                    )

    def _export(self, cid: CID, options: Mapping[str, str]) -> Iterator[bytes]:
        # The stream has each block once. A repeated block is mostly padding, so a small cache is enough.
        earlier = lru_cache(maxsize=2)(self.read_block)
        with closing(self._api.parts("dag/export", {"arg": str(cid), **options}, doing=f"read {cid}")) as parts:
            for block in read_car(parts, cid, size=_LARGEST_FILE, earlier=earlier):
                if block.cid.codec == RAW:
                    yield block.data

    def _check_import(self, root: CID, answer: bytes) -> None:
        """Check that the node stored and pinned the root.

        A failed pin is reported in the response body, not by the HTTP status.
        """
        match _json(answer):
            case {"Root": {"Cid": {"/": str(found)}, "PinErrorMsg": str(failure)}}:
                pass
            case _:
                raise self._api.not_kubo("its response to an import is not in Kubo's format")

        if found != str(root):
            raise StoreError(
                f"the Kubo node at {self._api.place} stored another file", why=f"its root is {found[:100]}, not {root}"
            )
        if failure:
            raise StoreError(
                f"the Kubo node at {self._api.place} stored {root}, but did not pin it",
                why=failure,
                remedy=f"run `ipfs pin add {root}` on the node before its next garbage collection",
            )
