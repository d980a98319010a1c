"""Wait for the next block of a chain.

A notification of a new block only ends the wait early. Nodes do not announce every reorganisation, and a notification
can be lost. After each wait, the follower therefore reads the chain.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from blockota.shutdown import Stop

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_TIMEOUT = 5.0
"""Seconds within which the node must accept the connection and the subscription."""
_SLICE = 1.0
"""Seconds after which a waiting thread checks whether a stop was requested."""
_WAITS_BETWEEN_TRIES = 10
"""The number of waits after which a connection that failed is tried again."""
_SUBSCRIBE = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})


class BlockSignal:
    """Waits until the node announces a block over a WebSocket, or until a pause is over.

    If the library websockets is not installed, or the node offers no WebSocket, every wait lasts for the whole pause.

    Args:
        url: the node's URL. For an ``http://`` or ``https://`` URL, a WebSocket is opened at the same host, port and
            path.
        pause: the longest wait, in seconds.
    """

    def __init__(self, url: str, *, pause: float) -> None:
        # "http" becomes "ws", and "https" becomes "wss".
        self._url = f"ws{url.removeprefix('http')}" if url.startswith("http") else url
        self._pause = pause
        self._connection: ClientConnection | None = None
        self._waits_until_try = 0

    def wait(self, stop: Stop) -> bool:
        """Wait for the next block, for the end of the pause, or for a request to stop.

        Returns:
            Whether the node announced a block.
        """
        end = time.monotonic() + self._pause
        if self._connection is None:
            self._waits_until_try -= 1
        if self._waits_until_try < 0:
            self._connection, self._waits_until_try = _subscribe(self._url), _WAITS_BETWEEN_TRIES

        while not stop.is_asked and (left := end - time.monotonic()) > 0:
            if self._connection is None:
                stop.wait(left)
                continue
            try:
                if _is_announced(self._connection, min(left, _SLICE)):
                    return True
            except ConnectionError:
                self.close()
        return False

    def close(self) -> None:
        """Close the connection; a later wait opens a new one."""
        if self._connection:
            self._connection.close()
        self._connection = None


def _subscribe(url: str) -> ClientConnection | None:
    """Subscribe to the node's new blocks. Returns None if the subscription is not possible."""
    try:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect
    except ImportError:
        return None

    try:
        connection = connect(url, open_timeout=_TIMEOUT)
        connection.send(_SUBSCRIBE)
        if "error" not in json.loads(connection.recv(timeout=_TIMEOUT)):
            return connection
    except (WebSocketException, OSError, EOFError, ValueError, TypeError):
        return None

    connection.close()
    return None


def _is_announced(connection: ClientConnection, seconds: float) -> bool:
    """Whether the node announced a block within `seconds` seconds.

    Raises:
        ConnectionError: the connection was lost.
    """
    from websockets.exceptions import WebSocketException

    is_announced = False
    try:
        while True:  # one reading suffices for all blocks that were announced so far
            connection.recv(timeout=0 if is_announced else seconds)
            is_announced = True
    except TimeoutError:
        return is_announced
    except (WebSocketException, EOFError) as error:
        raise ConnectionError from error
