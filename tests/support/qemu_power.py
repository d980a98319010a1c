"""Cut the power of the micro:bit in QEMU: at random instants, and in every flash operation of the loader.

A cut in a chosen flash operation uses QEMU's debugger interface. For a cut, the processor stops just before the loader
erases or programs a page. The flash is then saved, with the page in a state that an interrupted operation can leave.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from subprocess import check_output
from tempfile import TemporaryDirectory

from blockota.formats.delta import make_patch
from scripts.build_device import PROGRAMS, compile_program
from tests.support.agent_client import GROUP_DEVICE, GROUP_IMAGE, AgentClient
from tests.support.qemu import TIMEOUT, Machine, QemuBoard
from tests.support.qemu_images import NEW, OLD, SLOT_0, SLOT_1, SLOT_SIZE, digest_of, flash_with

PAGE_SIZE, UNIT = 1024, 4
FAULTY = "FAULT_DIGEST_DURING_SWAP"
BOOTS = 6
"""Boots after which no trial is in progress; a trial takes three."""
LONGEST = 0.06
"""Seconds in which QEMU exchanges the slots and starts the image, on an idle computer."""
TRIAL = 1


class Torn(Enum):
    """The state in which an interrupted flash operation leaves its cells."""

    NOTHING_DONE = 0
    HALF = 1
    """Half of the page is erased, or half of the words are programmed."""
    ANY_BITS = 2
    """Any of the bits that the operation changes have changed."""


@dataclass(frozen=True)
class Operation:
    """A flash operation that is about to begin.

    Attributes:
        address: where it works.
        data: the bytes to program; None if the operation erases a page.
    """

    address: int
    data: bytes | None

    def interrupted(self, flash: bytes, torn: Torn, draw: random.Random) -> bytes:
        """Return the flash after the interrupted operation."""
        size = PAGE_SIZE if self.data is None else len(self.data)
        before = flash[self.address : self.address + size]
        after = b"\xff" * size if self.data is None else bytes(a & b for a, b in zip(before, self.data, strict=True))
        half = size // 2 // UNIT * UNIT
        found = {
            Torn.NOTHING_DONE: before,
            Torn.HALF: after[:half] + before[half:],
            Torn.ANY_BITS: bytes(a ^ (a ^ b) & draw.randrange(256) for a, b in zip(before, after, strict=True)),
        }[torn]
        return flash[: self.address] + found + flash[self.address + size :]


class Loader:
    """The loader, and the addresses of its flash operations.

    Args:
        folder: an empty folder.
        macros: definitions for the compiler; without definitions, the committed loader is used.
    """

    def __init__(self, folder: Path, *macros: str) -> None:
        raw = folder / "loader.bin"
        compile_program(replace(PROGRAMS["microbit-loader"], macros=macros), raw)
        self.code = raw.read_bytes()
        lines = check_output(["arm-none-eabi-nm", str(raw.with_suffix(".elf"))], text=True).splitlines()
        found = {name: int(address, 16) for address, _, name in map(str.split, lines)}
        self.erase, self.program = found["port_erase"] & ~1, found["port_program"] & ~1


class DebuggedMachine:
    """A machine that stops before each flash operation of its loader."""

    def __init__(self, folder: Path, flash: bytes, loader: Loader) -> None:
        self._socket, other = socket.socketpair()
        self._socket.settimeout(TIMEOUT)
        self._loader, self._rest, self._at = loader, b"", 0
        with other:
            self.machine = Machine(folder, loader.code + flash[len(loader.code) :], other)
        for address in (loader.erase, loader.program):
            assert self._ask(f"Z1,{address:x},2") == "OK"

    def next_operation(self) -> Operation | None:
        """Run to the next flash operation; return None if an image has started."""
        if self._at:  # QEMU would stop at the breakpoint at once
            for step in (f"z1,{self._at:x},2", "s", f"Z1,{self._at:x},2"):
                self._ask(step)
        self._send("c")
        while b"#" not in self._rest:
            sources = [self._socket, self.machine.line, self.machine.monitor]
            has_event = self.machine.has_event
            ready, _, _ = select.select(sources, [], [], 0 if has_event else TIMEOUT)
            if self._socket in ready:
                self._rest += self._socket.recv(4096)
            elif has_event or self.machine.monitor in ready:
                self.machine.read_event()
            if not (ready or has_event) or self.machine.line in ready or self.machine.has_reset:
                return None
        self._receive()
        registers = self._ask("g")
        first, second, third, *_ = (
            int.from_bytes(bytes.fromhex(registers[at : at + 8]), "little") for at in (0, 8, 16)
        )
        self._at = int.from_bytes(bytes.fromhex(registers[120:128]), "little")
        data = None if self._at == self._loader.erase else bytes.fromhex(self._ask(f"m{second:x},{third:x}"))
        return Operation(first, data)

    def close(self) -> bytes:
        """Cut the power, and return the flash."""
        try:
            return self.machine.end()
        finally:
            self._socket.close()

    def _send(self, text: str) -> None:
        self._socket.sendall(f"${text}#{sum(text.encode()) % 256:02x}".encode())

    def _receive(self) -> str:
        while b"#" not in self._rest or len(self._rest) < self._rest.index(b"#") + 3:
            self._rest += self._socket.recv(4096)
        content, _, rest = self._rest.partition(b"#")
        self._rest = rest[2:]
        self._socket.sendall(b"+")
        return content.lstrip(b"+").removeprefix(b"$").decode()

    def _ask(self, text: str) -> str:
        self._send(text)
        return self._receive()


def stage_flashes(folder: Path) -> dict[str, bytes]:
    """Return the flash at each reset of an update, by the name of the loader's next action."""
    flashes = {}
    with fresh_board(folder, flash_with(OLD)) as (board, client):
        assert client.send_delta(OLD, make_patch(OLD, NEW)[1], NEW)["match"]
        client.ask(GROUP_IMAGE, 0, body={"hash": digest_of(NEW)})
        flashes["exchange"] = cut_ready(board)
        flashes["second trial"] = cut_ready(board)
        cut_ready(board)
        flashes["exchange back"] = cut_ready(board)
    with fresh_board(folder, flashes["second trial"]) as (board, client):
        client.ask(GROUP_IMAGE, 0, body={"confirm": True})
        flashes["end of the cycle"] = cut_ready(board)
    return flashes


@contextmanager
def fresh_board(folder: Path, flash: bytes) -> Iterator[tuple[QemuBoard, AgentClient]]:
    """Start a board and a client, and wait until its program can receive."""
    with TemporaryDirectory(dir=folder) as own, QemuBoard(Path(own), flash) as board:
        board.wait_until_ready(1)
        with AgentClient(board) as client:
            yield board, client


def cut_ready(board: QemuBoard) -> bytes:
    """Cut the power while the program waits, and wait until the restarted program can receive."""
    boots = board.boots
    flash = board.cut()
    board.wait_until_ready(boots + 1)
    return flash


def count_operations(folder: Path, flash: bytes, loader: Loader) -> int:
    """Return the number of flash operations that the loader performs before an image starts."""
    debugged, count = DebuggedMachine(folder, flash, loader), 0
    while debugged.next_operation():
        count += 1
    debugged.close()
    return count


def cut_at_operation(folder: Path, flash: bytes, loader: Loader, number: int, draw: random.Random) -> bytes:
    """Cut the power in the flash operation with the given number, counted from 1; return the resulting flash."""
    debugged = DebuggedMachine(folder, flash, loader)
    operation = None
    for _ in range(number):
        operation = debugged.next_operation()
    saved = debugged.close()
    return operation.interrupted(saved, draw.choice(list(Torn)), draw) if operation else saved


def cut_at_random(folder: Path, flash: bytes, draw: random.Random) -> bytes:
    """Cut the power at a random instant of a boot, and return the flash."""
    machine = Machine(folder, flash)
    time.sleep(draw.uniform(0, LONGEST))
    return machine.end()


def cut_in_delta(folder: Path, image: bytes, patch: bytes, draw: random.Random) -> bytes:
    """Cut the power while the agent applies a delta, and tear a page of slot 1; return the flash."""
    with fresh_board(folder, flash_with(OLD)) as (board, client):
        size = draw.randrange(len(patch))
        client.send_delta(OLD, patch[:size], image, length=len(patch))
        if draw.random() < 0.5:
            client.start_asking(GROUP_DEVICE, 1, body={"off": size, "data": patch[size : size + 512]})
            time.sleep(draw.uniform(0, 0.01))
        flash = board.cut()
    page = SLOT_1 + PAGE_SIZE * draw.randrange(SLOT_SIZE // PAGE_SIZE)
    torn = Operation(page, draw.choice([None, draw.randbytes(PAGE_SIZE)]))
    return torn.interrupted(flash, draw.choice(list(Torn)), draw)


def find_fault(folder: Path, flash: bytes) -> str:
    """Boot a board after a cut; return the fault, or an empty text if a release runs and can be updated."""
    images = {digest_of(image): image for image in (OLD, NEW)}
    try:
        with fresh_board(folder, flash) as (board, client):
            for _ in range(BOOTS):
                identity = client.identity()
                if identity["digest"] not in images:
                    return "it runs an image that is not published"
                if not identity["flags"] & TRIAL:
                    break
                client.reset()
            running = images[identity["digest"]]
            if not cut_ready(board)[SLOT_0:].startswith(running):
                return "slot 0 differs from the release"
            other = OLD if running == NEW else NEW
            if not client.send_delta(running, make_patch(running, other)[1], other).get("match"):
                return "it refuses a delta"
            client.ask(GROUP_IMAGE, 0, body={"hash": digest_of(other)})
            client.reset()
            confirmed = client.ask(GROUP_IMAGE, 0, body={"confirm": True})
            return "" if "rc" not in confirmed and client.identity()["digest"] == digest_of(other) else "no update"
    except (TimeoutError, AssertionError) as error:
        return f"it runs nothing: {error}"
