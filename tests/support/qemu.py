"""A BBC micro:bit in QEMU with a power supply that can fail at any instant.

QEMU's model of the nRF51 has a flash controller. QEMU does not save the flash to a file, and a reset restores the
initial content of the flash. Every boot of the board is therefore a new QEMU process. At a reset, and when the power is
cut, the process is stopped, its flash is saved, and the process is killed. The next process starts with the saved
flash.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import socket
import subprocess
import threading
import tty
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

FLASH_SIZE, PAGE_SIZE = 256 * 1024, 1024
TIMEOUT = 60.0
"""Seconds for an answer of QEMU."""
MAX_RESETS = 20
"""Resets after which a board counts as one that starts no program."""


class Machine:
    """One process of QEMU, from one reset to the next.

    Args:
        folder: a folder for the flash file.
        flash: the initial content of the flash.
        debugger: QEMU's debugger connection, by which the test starts the program; None starts it immediately.

    Attributes:
        line: the test's end of the serial line.
        monitor: the connection to QEMU's monitor. The connection is readable when an event has arrived.
        has_reset: whether the program requested a reset. QEMU has then stopped.
        is_up: whether the program has sent bytes, and can therefore receive.
    """

    def __init__(self, folder: Path, flash: bytes, debugger: socket.socket | None = None) -> None:
        self._file = folder / "flash.bin"
        self._file.write_bytes(flash)
        self.line, line = socket.socketpair()
        self.monitor, monitor = socket.socketpair()
        self.monitor.settimeout(TIMEOUT)
        self._received = b""
        self.has_reset = self.is_up = False
        command = [
            *("qemu-system-arm", "-M", "microbit", "-nodefaults", "-display", "none", "-S"),
            *("-chardev", f"socket,id=line,fd={line.fileno()}", "-serial", "chardev:line"),
            *("-chardev", f"socket,id=monitor,fd={monitor.fileno()}", "-mon", "chardev=monitor,mode=control"),
            *("-action", "reboot=shutdown,shutdown=pause"),
            *("-device", f"loader,file={self._file},addr=0,force-raw=on"),
        ]
        passed = [line.fileno(), monitor.fileno()]
        if debugger:
            passed.append(debugger.fileno())
            command += ["-chardev", f"socket,id=debugger,fd={debugger.fileno()}", "-gdb", "chardev:debugger"]
        with line, monitor:
            self._process = subprocess.Popen(command, pass_fds=passed)
        self._read_message()  # the greeting
        self._ask("qmp_capabilities")
        if not debugger:
            self._ask("cont")

    def read_line(self) -> bytes:
        """Return the bytes that the program has sent."""
        if not self.is_up:
            # QEMU looks at the line again, which it left out while the receiver was off, when another source is ready.
            self._ask("query-status")
            self.is_up = True
        return self.line.recv(4096)

    @property
    def has_event(self) -> bool:
        """Whether an event arrived together with a response. The monitor connection is not readable in this case."""
        return b"\n" in self._received

    def read_event(self) -> None:
        """Read the event that arrived at the monitor connection."""
        self._note(self._read_message())

    def end(self) -> bytes:
        """Stop the processor, kill the process, and return the content of the flash at this instant."""
        self._ask("stop")
        self._ask("memsave", val=0, size=FLASH_SIZE, filename=str(self._file))
        self.kill()
        return self._file.read_bytes()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for end in (self.line, self.monitor):
            end.close()

    def _ask(self, command: str, **arguments: Any) -> None:
        self.monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while "return" not in (answer := self._read_message()):
            self._note(answer)

    def _read_message(self) -> dict[str, Any]:
        while not self.has_event:
            data = self.monitor.recv(1 << 16)
            if not data:
                raise RuntimeError("QEMU has ended")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        if "error" in message:
            raise RuntimeError(f"QEMU refuses: {message['error']}")
        self.has_reset |= message.get("event") == "SHUTDOWN"


class QemuBoard:
    """A micro:bit at a port, as a context manager.

    The port is a link to a pseudo-terminal.

    Args:
        folder: an empty folder.
        flash: the initial content of the flash.

    Attributes:
        port: path of the port. Like the port of a USB interface chip, the port remains when the board resets.
        boots: the number of starts of the board.
        ready: the number of the latest start after which the program could receive.
        sent: the number of bytes that the board has received from the port.
    """

    def __init__(self, folder: Path, flash: bytes) -> None:
        self.port = folder / "port"
        self.boots = self.ready = self.sent = 0
        self._readiness = threading.Condition()
        self._folder, self._flash = folder, flash.ljust(FLASH_SIZE, b"\xff")
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        self.port.symlink_to(os.ttyname(self._far))
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._waker = socket.socketpair()
        self._is_ending = False
        self._machine = self._start()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        """Supply the port."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut the power permanently."""
        self._is_ending = True
        self._waker.send(b"!")
        self._thread.join()
        self._machine.kill()
        self.port.unlink()
        for end in (self._near, self._far):
            os.close(end)
        self._wake.close()
        self._waker.close()

    def cut(self, damage: Callable[[bytes], bytes] = bytes) -> bytes:
        """Cut the power, and switch it on again.

        Args:
            damage: a function that maps the content of the flash at the cut to the content after the cut.

        Returns:
            The content of the flash at the cut.
        """
        done: Future[bytes] = Future()

        def order() -> None:
            flash = self._machine.end()
            self._flash = damage(flash)
            self._machine = self._start()
            done.set_result(flash)

        self._orders.put(order)
        self._waker.send(b"!")
        return done.result(TIMEOUT)

    def wait_until_ready(self, boots: int) -> None:
        """Wait until the board has started the given number of times, and its program can receive.

        Raises:
            TimeoutError: it does not.
        """
        with self._readiness:
            self._readiness.wait_for(lambda: self.ready >= boots or self.boots > boots + MAX_RESETS, TIMEOUT)
            if self.ready < boots:
                raise TimeoutError(f"the program does not send anything after start {boots}")

    def _start(self) -> Machine:
        self.boots += 1
        return Machine(self._folder, self._flash)

    def _serve(self) -> None:
        """Relay the serial line, and start the board again after each reset."""
        while not self._is_ending:
            line, monitor = self._machine.line, self._machine.monitor
            sources: list[socket.socket | int] = [line, monitor, self._wake]
            if self._machine.is_up:
                sources.append(self._near)
            ready, _, _ = select.select(sources, [], [], 0 if self._machine.has_event else None)
            if self._near in ready:
                self._relay(os.read(self._near, 4096))
            if line in ready:
                data = self._machine.read_line()
                with self._readiness:
                    self.ready = self.boots
                    self._readiness.notify_all()
                with contextlib.suppress(BlockingIOError):  # nobody reads the port
                    os.write(self._near, data)
            if monitor in ready or self._machine.has_event:
                self._machine.read_event()
                if self._machine.has_reset:
                    self._flash = self._machine.end()
                    self._machine = self._start()
                    with self._readiness:
                        self._readiness.notify_all()
            if self._wake in ready:
                self._wake.recv(1)
                while not self._orders.empty():
                    self._orders.get()()

    def _relay(self, data: bytes) -> None:
        self.sent += len(data)
        self._machine.line.sendall(data)
