"""The interface of content stores, and `open_store`. Stores are untrusted: every block that is read is verified."""

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
    """The interface of every content store.

    Examples:
        >>> [release] = [release for release in network.releases("acme-thermo2") if str(release.version) == "1.0.0"]
        >>> sum(len(part) for part in network.store.open(release.cid))
        584
    """

    def put(self, stream: BinaryIO, *, on_progress: Callable[[int], object] = ...) -> CID:
        """Store and pin a file, and return its CID."""

    def open(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes in order. Each block is verified before it is yielded."""

    def has(self, cid: CID) -> bool:
        """Whether the store has the root block of a file."""

    def pin(self, cid: CID) -> None:
        """Protect a file from garbage collection."""

    def unpin(self, cid: CID) -> None:
        """Remove the pin of a file."""


@runtime_checkable
class SearchingStore(Protocol):
    """A store that can search a network for a file, such as a Kubo node, which searches the IPFS network."""

    url: str

    def search(self, cid: CID) -> Iterator[bytes]:
        """Yield a file's bytes like `Store.open`. If no node has the file, the search may take minutes."""


@runtime_checkable
class NamedStore(Protocol):
    """A store that has a name for messages to the operator, such as the file name of a pack."""

    name: str


def read_whole(store: Store, cid: CID, *, size: int) -> bytes:
    """Read a whole file of at most `size` bytes.

    Raises:
        ContentError: a block is corrupt, or the file is larger than `size`.
        StoreError: the store does not have the file.
    """
    data = bytearray()
    for part in store.open(cid):
        data += part
        if len(data) > size:
            raise ContentError(f"the file {cid} is too large", why=f"the file has more than {size} bytes")
    return bytes(data)


def open_store(url: str, *, credentials: Credentials = NO_CREDENTIALS) -> Store:
    """Open the store for a URL.

    Args:
        url: ``file:FOLDER``, ``kubo:http://HOST:PORT`` for a Kubo node's RPC API, or ``https://HOST`` for a gateway.
        credentials: the bearer tokens of gateways. This function does not read the tokens in the settings file;
            `Network.store` does.

    Raises:
        UsageError: the URL has another form, or the gateway's token cannot be read.

    Examples:
        >>> store = open_store("file:images")
        >>> with open("app-1.0.0.bin", "rb") as image:
        ...     str(store.put(image))
        'bafkreiacaaur7a3srol7rnqdeeebzsuh5hkdxp4wt7ot4acde6km3isq3m'
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
        why="the URL of a store is file:FOLDER, kubo:http://HOST:PORT or https://HOST",
        remedy="try file:.blockota/store",
    )
