"""A fixture with Microchip's library, which runs in its own process.

The library's bus is connected to BlockOTA's model of the chip.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from firmware_host.simulator.secure_element import ElementMemory, SecureElement
from scripts.peers import ORACLE

TRANSFER_TIME = 0.05
"""Seconds of the model's time that pass in each transfer. With this value, the library polls a few times for each
answer."""


@dataclass
class Library:
    """The library, and the chip model at the other end of its bus.

    Attributes:
        element: the model.
        commands: the opcodes of the packets that the library sent.
    """

    process: subprocess.Popen[str]
    now: float = 0.0
    element: SecureElement = field(init=False)
    commands: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the chip model with this clock."""
        self.element = SecureElement(ElementMemory(bytes.fromhex("a1a2a3a4a5a6")), clock=lambda: self.now)

    def call(self, function: str, *arguments: int | bytes | list[int]) -> tuple[int, list[bytes]]:
        """Call a function.

        Returns the function's status and outputs.

        Args:
            function: a function of the library.
            arguments: numbers, input bytes, and ``[n]`` for n output bytes.
        """
        self._write({"function": function, "arguments": [a.hex() if isinstance(a, bytes) else a for a in arguments]})
        while "status" not in (request := self._read()):
            self.now += TRANSFER_TIME
            self._write(self._transfer(request))
        return request["status"], [bytes.fromhex(output) for output in request["out"]]

    def get(self, function: str, *arguments: int | bytes | list[int]) -> bytes:
        """Call a function that must succeed. Returns the function's only output, or empty bytes."""
        status, outputs = self.call(function, *arguments)
        assert status == 0, f"{function}: {status}"
        return outputs[0] if outputs else b""

    def get_checksum(self, data: bytes) -> bytes:
        """Return the library's checksum of some bytes."""
        return self.call("atCRC", len(data), data, [2])[1][0]

    def _transfer(self, request: dict[str, Any]) -> Any:
        """Do one transfer on the model's bus."""
        if request["bus"] == "wake":
            self.element.wake()
            return True
        if request["bus"] == "read":
            found = self.element.read(request["length"])
            return None if found is None else found.hex()
        data = bytes.fromhex(request["data"])
        if request["word_address"] == 3:
            self.commands.append(data[1])
        return self.element.write(request["word_address"], data)

    def _write(self, value: Any) -> None:
        """Send a line to the library's process."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        """Return the next line of the library's process.

        If the process has ended, its traceback is on stderr.
        """
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the library's process ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@pytest.fixture
def library() -> Iterator[Library]:
    """Return the library, initialised with a new chip."""
    command = [str(ORACLE), str(Path(__file__).with_name("library_process.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        found = Library(process)
        assert found.get("atcab_init") == b""
        yield found
        assert process.stdin
        process.stdin.close()
