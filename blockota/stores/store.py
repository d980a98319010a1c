"""The interface of content stores, and the store that a URL names. No store is trusted: every block read is checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, runtime_checkable

from blockota.errors import ContentError, UsageError
from blockota.files import home_path
from blockota.formats.cid import CID
from blockota.stores.gateway import GatewayStore
from blockota.stores.kubo import AUTHORIZATION_VARIABLE, KuboStore
from blockota.stores.local import LocalStore
from blockota.stores.source import NO_CREDENTIALS, Credentials
from blockota.url_secrets import shown_url


class Store(Protocol):
    """What every store can do."""

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = ...) -> CID:
        """Store and pin a file, and return its content address."""

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order; each block is checked before it is yielded."""

    def has(self, cid: CID) -> bool:
        """Whether the store has the root block."""

    def pin(self, cid: CID) -> None:
        """Keep a file when garbage is collected."""

    def unpin(self, cid: CID) -> None:
        """Undo `pin`."""


@runtime_checkable
class SearchingStore(Protocol):
    """A store that can look for a file on a network of its own, from nodes that were not named."""

    url: str

    def search(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes as `Store.open` does; if no node has it, the search may take minutes."""


def read_whole(store: Store, cid: CID, *, size: int) -> bytes:
    """Read a whole file of at most `size` bytes.

    Raises:
        ContentError: a block is corrupt, or the file is larger.
        StoreError: the store does not have the file.
    """
    data = bytearray()
    for part in store.open(cid):
        data += part
        if len(data) > size:
            raise ContentError(f"the file {cid} is too large", why=f"it has more than the {size} bytes expected")
    return bytes(data)


def open_store(url: str, *, credentials: Credentials = NO_CREDENTIALS) -> Store:
    """Open the store that a URL names.

    Args:
        url: ``file:FOLDER``, the RPC API of a Kubo node, ``kubo:http://HOST:PORT``, or a gateway, ``https://HOST``.
        credentials: the tokens of gateways.

    Raises:
        UsageError: the URL has another form, or the gateway's token cannot be read.
    """
    kind, _, rest = url.partition(":")
    if kind == "file" and rest:
        return LocalStore(home_path(rest))
    if kind in {"https", "http"}:
        return GatewayStore(credentials.source(url))
    if kind == "kubo":
        return KuboStore(rest, authorization=os.environ.get(AUTHORIZATION_VARIABLE, ""))
    raise UsageError(
        f"{shown_url(url)!r} is not the URL of a store",
        why="a store is named as file:FOLDER, kubo:http://HOST:PORT or https://HOST",
        remedy="try file:.blockota/store",
    )
