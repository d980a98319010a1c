"""Boards that follow a script, byte for byte, over a real connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from firmware_host.bootloader.chips import Chip, find_chip
from firmware_host.bootloader.client import Bootloader
from firmware_host.line.link import open_link

Step = tuple[str, str]
"""Bytes that the board waits for, and what it answers, both in hexadecimal."""

KIB = 1024
ACK, NACK = "79", "1f"
SYNC: Step = ("7f", ACK)
GET: Step = ("00 ff", "79 0b 22 00 01 02 11 21 31 43 63 73 82 92 79")
GET_EXTENDED: Step = ("00 ff", "79 0b 31 00 01 02 11 21 31 44 63 73 82 92 79")
READ, WRITE, GO, ERASE, EXTENDED_ERASE = ("11 ee", ACK), ("31 ce", ACK), ("21 de", ACK), ("43 bc", ACK), ("44 bb", ACK)
PAGE_1: Step = ("08 00 04 00 0c", ACK)


class ScriptedBoard(threading.Thread):
    """A board that expects exactly the script's bytes, and falls silent when it ends."""

    greeting = b""
    last_answer_after = 0.0

    def __init__(self, server: socket.socket, script: Sequence[Step]) -> None:
        """Wait on a listening socket."""
        super().__init__()
        self._server, self._script = server, script
        self.unexpected = b""
        self.missed = 0

    def run(self) -> None:
        """Serve one connection until the host closes it."""
        connection, _ = self._server.accept()
        with connection:
            connection.sendall(self.greeting)
            for done, (expected, answer) in enumerate(self._script):
                received = _receive(connection, len(bytes.fromhex(expected)))
                if received != bytes.fromhex(expected):
                    self.unexpected, self.missed = received, len(self._script) - done
                    break
                time.sleep(self.last_answer_after if done == len(self._script) - 1 else 0)
                connection.sendall(bytes.fromhex(answer))
            while rest := connection.recv(1024):
                self.unexpected += rest


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := connection.recv(count - len(data))):
        data += part
    return data


@contextmanager
def board(
    *script: Step, greeting: bytes = b"", last_answer_after: float = 0, silent_at_end: bool = False
) -> Iterator[Bootloader]:
    """A bootloader client on a board with this script; the script must be used up, and nothing else be sent.

    Args:
        script: what the board expects and answers, in order.
        greeting: what it sends unasked when the line is opened.
        last_answer_after: seconds that its last answer takes.
        silent_at_end: whether more is sent after the script, to which it does not answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        scripted = ScriptedBoard(server, script)
        scripted.greeting, scripted.last_answer_after = greeting, last_answer_after
        scripted.start()
        link = open_link(f"socket://127.0.0.1:{server.getsockname()[1]}")
        try:
            yield Bootloader(link)
        finally:
            link.close()
            scripted.join()
    assert scripted.missed == 0, f"the host sent {scripted.unexpected.hex(' ')}"
    assert bool(scripted.unexpected) is silent_at_end


def chip(product_id: int = 0x410) -> Chip:
    """The table's row, which must be there."""
    found = find_chip(product_id)
    assert found is not None
    return found


@contextmanager
def blue_pill(*script: Step, silent_at_end: bool = False) -> Iterator[Bootloader]:
    """A client that is connected to an STM32F103 with 64 KiB, and knows it."""
    with board(SYNC, GET, *script, silent_at_end=silent_at_end) as bootloader:
        bootloader.connect()
        bootloader.target(chip(), flash_size=64 * KIB)
        yield bootloader
