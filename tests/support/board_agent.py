"""A simulated STM32F103 with the committed loader, the agent and a secure element, which tests control over SMP."""

from __future__ import annotations

import gc
import hashlib
import os
import select
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from smp import packet

from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.emulator import SCB_VTOR
from firmware_host.simulator.faults import NO_FAULTS, Faults
from firmware_host.simulator.line import TimeModel
from firmware_host.simulator.secure_element.element import SecureElement
from firmware_host.simulator.secure_element.memory import ElementMemory
from firmware_host.simulator.server import CHUNK, serving_thread
from tests.support.agent_client import DELTA, EVENTS, GROUP_DEVICE, GROUP_IMAGE, HEADER, RESET
from tests.support.board_device import FLASH_SIZE, LOADER, SLOT_0, SLOT_1, SLOT_SIZE, STEP, committed
from tests.support.chip_bus import GATEWAY_KEY, image_key, provisioned

SECTORS, SESSION, OPEN = 3, 4, 5
SLOT_0_ADDRESS, HEADER_SIZE, TICK = 0x0800_1000, 0x200, 1e-4
BOOT_TIMEOUT = 2.0
TIMEOUT = 5.0
"""Seconds of the board's time in which an answer must come: four signatures take less than one."""
MOST_RESETS = 8
"""Resets of a board while it is waited for: a loader without an image to start resets again and again."""
PART = 512
RESTARTS_PER_COLLECTION = 8


class BoardOffError(Exception):
    """The planned power cut has happened."""


class BoardAgent:
    """A board with an agent in slot 0, and with a secure element at I2C1.

    Args:
        image: the image in slot 0.
        loader: the name of the committed loader; only ``loader-chip`` asks the secure element.
        memory: the memory of the secure element; by default the memory of a provisioned chip.
        file: the file that stores the flash; by default the flash is in memory.
        times: the core's speed; by default, the core executes one instruction per clock cycle.
    """

    restarts = 0
    """The number of restarts of all boards."""

    def __init__(
        self,
        image: bytes,
        *,
        loader: str = "loader-chip",
        memory: ElementMemory | None = None,
        file: Path | None = None,
        times: TimeModel | None = None,
    ) -> None:
        contents = bytearray(b"\xff" * FLASH_SIZE)
        for at, program in ((LOADER, committed(loader)), (SLOT_0, image)):
            contents[at : at + len(program)] = program
        self._seconds_before, self._sequence, self._received, self._file = 0.0, 0, b"", file
        if file:
            file.write_bytes(contents)
        self._times = times
        self.board = SimulatedBoard(flash=file or bytes(contents), times=times)
        self.element = SecureElement(memory, clock=self.clock)
        if memory is None:
            provisioned(self.element, image=image_key())
        self.board.boot0 = False
        self.board.attach(self.element)

    def clock(self) -> float:
        """Return the simulated time since the first start, in seconds."""
        return self._seconds_before + self.board.seconds_run

    def restart(self, flash: bytes = b"", faults: Faults = NO_FAULTS) -> None:
        """Switch the power off and on.

        Start the board again, with other flash contents and faults if they are given.
        """
        # The emulator of each boot has megabytes in reference cycles, of which Python's collector knows nothing.
        BoardAgent.restarts += 1
        if BoardAgent.restarts % RESTARTS_PER_COLLECTION == 0:
            gc.collect()
        flash = flash or self.board.flash
        self._seconds_before, self._received = self.clock(), b""
        self.board = SimulatedBoard(flash=flash, faults=faults, times=self._times)
        self.board.boot0 = False
        self.element.power_cycle()
        self.board.attach(self.element)

    def spoil(self, at: int) -> None:
        """Invert a bit of slot 0 while the program runs, as a faulty flash does. The board must have a file."""
        assert self._file
        with self._file.open("r+b") as cells:
            cells.seek(SLOT_0 + at)
            byte = cells.read(1)[0]
            cells.seek(SLOT_0 + at)
            cells.write(bytes((byte ^ 4,)))

    def slot(self, number: int = 0) -> bytes:
        """Return the contents of a slot."""
        start = (SLOT_0, SLOT_1)[number]
        return self.board.flash[start : start + SLOT_SIZE]

    def boot(self, timeout: float = BOOT_TIMEOUT) -> float:
        """Reset the board, and wait until its agent can receive; return the elapsed seconds.

        Raises:
            BoardOffError: the planned power cut happened.
            AssertionError: no agent starts.
        """
        began, self._received = self.clock(), b""
        self.board.reset()
        self._sequence = 0
        self._receive_line(timeout)
        return self.clock() - began

    def seconds_to_image(self) -> float:
        """Reset the board, and return the seconds until the loader sets VTOR to start an image."""
        self.board.reset()
        began = self.clock()
        assert self.board.application
        while self.board.application.peripherals[SCB_VTOR] != SLOT_0_ADDRESS + HEADER_SIZE:
            self.board.run(TICK)
        return self.clock() - began

    def ask(
        self, group: int, command: int, *, body: dict[str, Any] | None = None, write: bool = True
    ) -> dict[str, Any]:
        """Send an SMP request, and return the body of the response.

        A request with a body is a write request if `write` is set.
        """
        self._sequence = (self._sequence + 1) % 256
        content, operation = cbor2.dumps(body or {}), 2 if body is not None and write else 0
        head = HEADER.pack(8 | operation, 0, len(content), group, self._sequence, command)
        for line in packet.encode(head + content):
            self.board.feed(line)
        decoder = packet.decode()
        next(decoder)
        while True:
            line = self._receive_line()
            if line[:1] not in (b"\x06", b"\x04"):
                continue
            try:
                decoder.send(line)
            except StopIteration as end:
                return dict(cbor2.loads(bytes(end.value)[8:]))

    def _receive_line(self, timeout: float = TIMEOUT) -> bytes:
        """Return the next line; later bytes remain for the next call."""
        waited, resets, running = 0.0, 0, self.board.application
        while b"\n" not in self._received:
            assert waited < timeout, "the board does not answer"
            assert resets < MOST_RESETS, "the board does not answer, and resets again and again"
            self._received += self.board.run(STEP)
            waited += STEP
            if self.board.application is not running:
                resets, running = resets + 1, self.board.application
            if not self.board.powered:
                self.restart()
                raise BoardOffError
        line, _, self._received = self._received.partition(b"\n")
        return line + b"\n"

    def reset(self) -> None:
        """Request a reset from the agent, and wait until the next program can receive."""
        assert self.ask(*RESET, body={}) == {}
        for _ in range(3):
            self._receive_line()

    def open(self, digest: bytes, *, key: ec.EllipticCurvePrivateKey = GATEWAY_KEY) -> dict[str, Any]:
        """Begin a session, offer an image by its digest, and return the answer to the offer."""
        identifier = bytes(16)
        begun = self.ask(GROUP_DEVICE, SESSION, body={"nonce": bytes(32), "time": 1, "id": identifier})
        signature = sign(key, b"blockota-offer" + begun["nonce"] + identifier + digest)
        return self.ask(GROUP_DEVICE, OPEN, body={"digest": digest, "signature": signature})

    def upload(self, image: bytes) -> dict[str, Any]:
        """Upload an image; return the last response, or the first response with an error."""
        answer: dict[str, Any] = {"off": 0}
        while answer["off"] < len(image):
            body: dict[str, Any] = {"off": answer["off"], "data": image[answer["off"] : answer["off"] + PART]}
            if not answer["off"]:
                body |= {"len": len(image), "sha": hashlib.sha256(image).digest()}
            answer = self.ask(GROUP_IMAGE, 1, body=body)
            if "rc" in answer:
                break
        return answer

    def send_delta(self, base: bytes, patch: bytes, image: bytes) -> dict[str, Any]:
        """Send a patch in one part; return the response."""
        sha, of_base = hashlib.sha256(image).digest(), hashlib.sha256(base).digest()
        body = {"off": 0, "data": patch, "len": len(patch), "size": len(image), "sha": sha, "base": of_base}
        return self.ask(GROUP_DEVICE, DELTA, body=body)

    def events(self) -> list[dict[str, Any]]:
        """Return the events in one response."""
        return list(self.ask(GROUP_DEVICE, EVENTS)["events"])


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return R and S of the signature of a message, 64 bytes."""
    digest = hashlib.sha256(message).digest()
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(SHA256()))))
    return r.to_bytes(32) + s.to_bytes(32)


@contextmanager
def agent_on_terminal(agent: BoardAgent) -> Iterator[Path]:
    """Start a board, and connect its serial line to a pseudo-terminal; yield the path of the terminal.

    Opening the terminal does not reset the board. While the terminal is open, the board must not be used directly.
    """
    master, terminal = os.openpty()
    tty.setraw(terminal)
    os.set_blocking(master, False)

    def serve(ended: threading.Event) -> None:
        agent.boot()
        while not ended.is_set():
            if select.select([master], [], [], STEP)[0]:
                agent.board.feed(os.read(master, CHUNK))
            if sent := agent.board.run(STEP):
                os.write(master, sent)

    try:
        with serving_thread(serve):
            yield Path(os.ttyname(terminal))
    finally:
        os.close(terminal)
        os.close(master)
