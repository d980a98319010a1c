"""Bodies of requests that arrive in blocks (RFC 7959, section 2.5). Pure.

Each client may have one incomplete body of at most `LARGEST_BODY` bytes, which limits the memory for a client.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from aiocoap import Message
from aiocoap.numbers.codes import BAD_REQUEST, REQUEST_ENTITY_INCOMPLETE, REQUEST_ENTITY_TOO_LARGE, Code

LARGEST_BODY = 4096
"""The maximum size of a body in bytes."""
_MOST_CLIENTS = 1024
"""The maximum number of incomplete bodies. Beyond this number, the oldest body is dropped, and its client must begin
again.
"""
_RESERVED = 7


class WrongBlockError(ValueError):
    """A block is refused.

    Args:
        why: the reason.
        code: the code of the answer.
    """

    def __init__(self, why: str, code: Code) -> None:
        super().__init__(why)
        self.code = code


class BlockBodies:
    """The incomplete bodies, by client."""

    def __init__(self) -> None:
        self._parts: OrderedDict[Hashable, tuple[object, bytes]] = OrderedDict()

    def take(self, request: Message) -> bytes | None:
        """Take the block of a request.

        Returns:
            The whole body if the block was the last block; None if more blocks must follow.

        Raises:
            WrongBlockError: the block is not the next block of the body, is malformed, or makes the body too long. The
                body is dropped.
        """
        block, payload = request.opt.block1, bytes(request.payload)
        resource, body = self._parts.pop(request.remote, (None, b""))
        start = block.start if block else 0
        if start + len(payload) > LARGEST_BODY:
            raise WrongBlockError(f"a body of more than {LARGEST_BODY:,} bytes", REQUEST_ENTITY_TOO_LARGE)
        if block is None:
            return payload

        if block.size_exponent == _RESERVED:
            raise WrongBlockError("the block's size exponent 7 is reserved", BAD_REQUEST)
        # Only the last block may be shorter than its size.
        if len(payload) > block.size or (block.more and len(payload) != block.size):
            raise WrongBlockError(f"a block of {block.size} bytes has {len(payload)}", BAD_REQUEST)

        named = request.code, request.opt.uri_path, request.opt.uri_query
        if start == 0:
            resource, body = named, b""
        if (resource, len(body)) != (named, start):
            why = f"the block {block.block_number} does not follow the blocks before it"
            raise WrongBlockError(why, REQUEST_ENTITY_INCOMPLETE)

        body += payload
        if not block.more:
            return body
        self._parts[request.remote] = resource, body
        if len(self._parts) > _MOST_CLIENTS:
            self._parts.popitem(last=False)
        return None
