"""An SMP client that sends the agent's own commands (group 64), and frames that no real client would send."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Self

import cbor2
import serial
from smp import packet

from tests.support.qemu import QemuBoard

GROUP_IMAGE, GROUP_DEVICE = 1, 64
IDENTITY, DELTA, EVENTS = 0, 1, 2
RESET = (0, 5)
HEADER = struct.Struct(">BBHHBB")
PART = 512
TIMEOUT = 30.0


class AgentClient:
    """A client at the port of a board, as a context manager."""

    def __init__(self, board: QemuBoard) -> None:
        self._board = board
        self._line = serial.Serial(str(board.port), 115_200, timeout=TIMEOUT)
        self._sequence = 0

    def __enter__(self) -> Self:
        """Open the port."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the port."""
        self._line.close()

    def ask(self, group: int, command: int, *, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send an SMP request, and return the body of the response. A request with a body is a write request."""
        operation = self.start_asking(group, command, body=body)
        answer = self.receive()
        assert HEADER.unpack_from(answer) == (9 | operation, 0, len(answer) - 8, group, self._sequence, command)
        return dict(cbor2.loads(answer[8:]))

    def start_asking(
        self, group: int, command: int, *, body: dict[str, Any] | None = None, is_read: bool = False
    ) -> int:
        """Send an SMP request, and return its operation.

        A request with a body is a write request unless it is marked as a read.
        """
        self._sequence = (self._sequence + 1) % 256
        content = cbor2.dumps(body or {})
        operation = 0 if body is None or is_read else 2
        self.send(HEADER.pack(8 | operation, 0, len(content), group, self._sequence, command) + content)
        return operation

    def send(self, message: bytes) -> None:
        """Send a packet in a frame."""
        for line in packet.encode(message):
            self.send_raw(line)

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._line.write(data)

    def receive(self) -> bytes:
        """Return the next SMP packet, without its frame."""
        decoder = packet.decode()
        next(decoder)
        while True:
            line = self._line.read_until(b"\n")
            assert line.endswith(b"\n"), "the board does not answer"
            if line[:1] not in b"\x06\x04":
                continue
            try:
                decoder.send(line)
            except StopIteration as end:
                return bytes(end.value)

    def reset(self) -> None:
        """Reset the board, and wait until its program can receive."""
        boots = self._board.boots
        assert self.ask(*RESET, body={}) == {}
        self._board.wait_until_ready(boots + 1)

    def identity(self) -> dict[str, Any]:
        """Return the board's answer to the identity command."""
        return self.ask(GROUP_DEVICE, IDENTITY)

    def send_delta(
        self, base: bytes, patch: bytes, image: bytes, *, offset: int = 0, length: int = 0
    ) -> dict[str, Any]:
        """Send a patch in parts, from an offset on.

        Return the last response, or the first response with an error.
        """
        answer: dict[str, Any] = {}
        while offset < len(patch):
            body: dict[str, Any] = {"off": offset, "data": patch[offset : offset + PART]}
            if offset == 0:
                sha, of_base = hashlib.sha256(image).digest(), hashlib.sha256(base).digest()
                body |= {"len": length or len(patch), "size": len(image), "sha": sha, "base": of_base}
            answer = self.ask(GROUP_DEVICE, DELTA, body=body)
            if "rc" in answer:
                return answer
            offset = answer["off"]
        return answer
