"""A simulated board with MCUboot and an SMP server, on a pseudo-terminal.

The simulated board is stricter than real boards. The simulation is written from the specification of SMP, and shares no
code with the gateway's client. The board refuses chunks at wrong offsets, unknown or repeated keys, and uploads while
an image is on trial. An image that was not confirmed is rolled back at the next start.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import select
import socket
import struct
import threading
import tty
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

_FIRST, _NEXT = b"\x06\x09", b"\x04\x14"
_HEADER = struct.Struct(">BBHHBB")
_LINE = 124
_OS, _IMAGE = 0, 1
_ECHO, _RESET, _PARAMETERS = 0, 5, 6
_STATE, _UPLOAD = 0, 1
_READ, _WRITE = 0, 2
UNKNOWN, INVALID, NO_ENTRY, BAD_STATE, TOO_LARGE, NOT_SUPPORTED, BUSY = 1, 3, 5, 6, 7, 8, 10
"""Error codes of SMP, version 1."""


def mcuboot_image(version: str, *, size: int = 3000, seed: bytes = b"", content: bytes = b"") -> bytes:
    """Return a plausible MCUboot image. The image's program and version depend on the arguments."""
    major, minor, revision = map(int, version.split("."))
    content = content or hashlib.shake_256(version.encode() + seed).digest(size)
    program = struct.pack("<II", 0x2000_5000, 0x4101) + content
    head = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, 32, 0, len(program), 0, major, minor, revision, 0, 0)
    digest = hashlib.sha256(head + program).digest()
    return head + program + struct.pack("<HHHH", 0x6907, 40, 0x10, 32) + digest


def digest_of(image: bytes) -> bytes | None:
    """Return the digest of an image as the board's loader computes it, or None if the image is invalid."""
    if len(image) < 32 or image[:4] != bytes.fromhex("3db8f396"):
        return None
    header, protected, size = struct.unpack_from("<HHI", image, 8)
    end = header + size + protected
    found = image[end + 8 : end + 40]
    is_valid = image[end : end + 8] == struct.pack("<HHHH", 0x6907, 40, 0x10, 32)
    return found if is_valid and hashlib.sha256(image[:end]).digest() == found else None


@dataclass
class Faults:
    """Faults of the board and its line.

    Attributes:
        cut_at: the upload offset before which the power fails.
        spoil_at: the upload offset at which a wrong byte is written.
        lost: numbers of the responses that are lost, counted from 1.
        spoiled: numbers of the responses with a wrong checksum, counted from 1.
        noise: bytes that the program prints before each response.
        crashing: digests of images that crash at their start, after which the watchdog resets the board.
        deaf: digests of images that never respond.
        refused: error code of the response to each upload; 0 for none.
        answers: response bodies that replace correct ones, by group and command.
    """

    cut_at: int | None = None
    spoil_at: int | None = None
    lost: set[int] = field(default_factory=set)
    spoiled: set[int] = field(default_factory=set)
    noise: bytes = b""
    crashing: set[bytes] = field(default_factory=set)
    deaf: set[bytes] = field(default_factory=set)
    refused: int = 0
    answers: dict[tuple[int, int], bytes] = field(default_factory=dict)


class SmpDevice:
    """A board at a port.

    The port is a link to a pseudo-terminal.

    Args:
        port: path of the port.
        image: the image that the board runs; the image is confirmed.
        slot_size: size of a slot in bytes.
        buffer: size of the buffer for one request, in bytes.
        keeps_upload: whether a power cut preserves the offset of the upload.

    Attributes:
        slots: the images in the two slots.
        is_pending: whether the next start tries the image in the second slot.
        is_confirmed: whether the running image is confirmed.
        faults: faults to inject.
        starts: the number of starts of the board.
        answers: the number of requests that the board has answered.
        written: the number of uploaded bytes that were written. Bytes that were written repeatedly are counted each
            time.
    """

    has_group_errors = True
    """Whether refusals have the codes of their group (version 2 of SMP), not those of all groups."""

    def __init__(
        self, port: Path, image: bytes, *, slot_size: int = 200_000, buffer: int = 512, keeps_upload: bool = False
    ) -> None:
        self.port, self._slot_size, self._buffer, self._keeps_upload = port, slot_size, buffer, keeps_upload
        self.slots: list[bytes] = [image, b""]
        self.is_pending = self.is_permanent = False
        self.is_confirmed = True
        self.faults = Faults()
        self.starts = self.written = self.answers = 0
        self._upload: tuple[int, bytes] | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._ends: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        """Connect the board, and start it."""
        self.plug()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect the board, and end its thread."""
        self._stop.set()
        self._thread.join()
        self.unplug()

    def plug(self) -> None:
        """Connect the board to the port."""
        with self._lock:
            near, far = os.openpty()
            tty.setraw(far)
            self._ends = near, far
            self.port.symlink_to(os.ttyname(far))

    def unplug(self) -> None:
        """Disconnect the board from the port. It stays powered."""
        with self._lock:
            if self._ends:
                self.port.unlink(missing_ok=True)
                for end in self._ends:
                    os.close(end)
                self._ends = None

    @property
    def running(self) -> bytes | None:
        """The digest of the running image."""
        return digest_of(self.slots[0])

    def start(self) -> None:
        """Start the board, as after a reset or a power cut."""
        self.starts += 1
        if not self._keeps_upload:
            self._upload = None
        is_pending, self.is_pending = self.is_pending, False
        if is_pending and digest_of(self.slots[1]):
            self.slots.reverse()
            self.is_confirmed, self.is_permanent = self.is_permanent, False
        elif not self.is_confirmed:
            self.slots.reverse()
            self.is_confirmed = True
        if self.running in self.faults.crashing and not self.is_confirmed:
            self.start()

    def _serve(self) -> None:
        """Read lines and answer requests until the board is disconnected."""
        line, frame = b"", b""
        while not self._stop.is_set():
            with self._lock:
                if self._ends is None or not select.select([self._ends[0]], [], [], 0)[0]:
                    raw = b""
                else:
                    raw = os.read(self._ends[0], 4096)
            if not raw:
                self._stop.wait(0.002)
            line += raw
            while b"\n" in line:
                one, line = line.split(b"\n", 1)
                frame = self._collect(one, frame)

    def _collect(self, line: bytes, frame: bytes) -> bytes:
        """Add a line to the frame, and answer the frame when it is complete. Returns the incomplete frame."""
        if len(line) > _LINE + 2 or line[:2] not in (_FIRST, _NEXT):
            return b""
        try:
            part = base64.b64decode(line[2:], validate=True)
        except binascii.Error:
            return b""
        frame = part if line[:2] == _FIRST else frame + part
        if len(frame) < 2 or len(frame) > self._buffer:
            return b""
        size = int.from_bytes(frame[:2])
        if len(frame) - 2 < size:
            return frame
        packet, check = frame[2:size], frame[size:]
        if len(frame) - 2 == size and binascii.crc_hqx(packet, 0) == int.from_bytes(check):
            self._answer(packet)
        return b""

    def _answer(self, packet: bytes) -> None:
        if len(packet) < _HEADER.size or self.running in self.faults.deaf:
            return
        first, flags, size, group, sequence, command = _HEADER.unpack_from(packet)
        version, operation = first >> 3 & 3, first & 7
        body = packet[_HEADER.size :]
        if size != len(body) or flags or version > 1 or operation not in (_READ, _WRITE):
            return
        starts = self.starts
        try:
            answer: Mapping[str, Any] | None = self._handle(group, command, operation, decoded(body))
        except ValueError as error:
            code = error.args[0] if error.args and isinstance(error.args[0], int) else INVALID
            has_group = version and group and self.has_group_errors
            answer = {"err": {"group": group, "rc": code}} if has_group else {"rc": code}
        if answer is None:
            return
        self.answers += 1
        if self.answers not in self.faults.lost:
            raw = self.faults.answers.get((group, command), encoded(answer))
            head = _HEADER.pack(version << 3 | operation + 1, 0, len(raw), group, sequence, command)
            self._send(head + raw)
        if (group, command) == (_OS, _RESET) and starts == self.starts:
            self.start()

    def _send(self, packet: bytes) -> None:
        check = binascii.crc_hqx(packet, 0) ^ (self.answers in self.faults.spoiled)
        frame = (len(packet) + 2).to_bytes(2) + packet + check.to_bytes(2)
        text, lines, start = base64.b64encode(frame), b"", _FIRST
        while text:
            lines, text, start = lines + start + text[:_LINE] + b"\n", text[_LINE:], _NEXT
        with self._lock:
            if self._ends:
                os.write(self._ends[0], self.faults.noise + lines)

    def _handle(self, group: int, command: int, operation: int, body: dict[str, Any]) -> dict[str, Any] | None:
        """Process a request. Return the response, or None if the board lost its power.

        Raises:
            ValueError: the request is refused; the argument is the error code.
        """
        match group, command, operation:
            case (0, 0, 2):
                return {"r": only(body, {"d": str})["d"]}
            case (0, 6, 0):
                return {"buf_size": self._buffer, "buf_count": 4}
            case (0, 5, 2):
                return {}
            case (1, 0, 0):
                return self._states()
            case (1, 0, 2):
                return self._mark(only(body, {"hash": bytes, "confirm": bool}, optional=("hash", "confirm")))
            case (1, 1, 2):
                keys = {"off": int, "data": bytes, "len": int, "sha": bytes, "image": int, "upgrade": bool}
                return self._write(only(body, keys, optional=("len", "sha", "image", "upgrade")))
        raise ValueError(NOT_SUPPORTED)

    def _states(self) -> dict[str, Any]:
        images = []
        for number, image in enumerate(self.slots):
            if digest := digest_of(image):
                major, minor, revision = struct.unpack_from("<BBH", image, 20)
                flags = {"bootable": True}
                if number == 0:
                    flags |= {"active": True, "confirmed": self.is_confirmed}
                else:
                    flags |= {"pending": self.is_pending, "permanent": self.is_permanent}
                version = f"{major}.{minor}.{revision}"
                images.append({"image": 0, "slot": number, "version": version, "hash": digest, **flags})
        return {"images": images, "splitStatus": 0}

    def _mark(self, body: dict[str, Any]) -> dict[str, Any]:
        digest, confirm = body.get("hash"), body.get("confirm", False)
        if digest is None and not confirm:
            raise ValueError(INVALID)
        if confirm and digest in (None, self.running):
            self.is_confirmed = True
        elif digest is not None and digest == digest_of(self.slots[1]):
            if not self.is_confirmed:
                raise ValueError(BAD_STATE)
            self.is_pending, self.is_permanent = True, confirm
        else:
            raise ValueError(NO_ENTRY)
        return self._states()

    def _write(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Write a chunk of an upload. The response contains the offset of the chunk that the board expects next."""
        offset, data = body["off"], body["data"]
        if self.faults.refused or not data or body.get("image", 0) != 0:
            raise ValueError(self.faults.refused or INVALID)
        if offset == 0:
            if self._is_resumed(body.get("len", 0), body.get("sha", b"")):
                return {"off": len(self.slots[1])}
        elif {"len", "sha", "image", "upgrade"} & set(body):
            raise ValueError(INVALID)
        if self._upload is None:
            raise ValueError(BAD_STATE)
        if offset != len(self.slots[1]):
            return {"off": len(self.slots[1])}
        if offset + len(data) > self._upload[0]:
            raise ValueError(TOO_LARGE)
        if self.faults.cut_at is not None and offset + len(data) > self.faults.cut_at:
            self.faults.cut_at = None
            self.start()
            return None
        self.slots[1] += self._spoiled(offset, data)
        self.written += len(data)
        if len(self.slots[1]) == self._upload[0]:
            self._upload = None
        return {"off": len(self.slots[1])}

    def _is_resumed(self, size: int, name: bytes) -> bool:
        """Begin an upload, or find the interrupted upload."""
        if not 0 < size <= self._slot_size or len(name) not in (0, 32):
            raise ValueError(TOO_LARGE)
        if self.is_pending or not self.is_confirmed:
            raise ValueError(BUSY)
        if self._upload == (size, name) and name and self.slots[1]:
            return True
        self._upload, self.slots[1] = (size, name), b""
        return False

    def _spoiled(self, offset: int, data: bytes) -> bytes:
        wrong = self.faults.spoil_at
        if wrong is None or not offset <= wrong < offset + len(data):
            return data
        self.faults.spoil_at = None
        return data[: wrong - offset] + bytes((data[wrong - offset] ^ 1,)) + data[wrong - offset + 1 :]


class SmpUdpDevice(SmpDevice):
    """The same board at a UDP port of the loopback interface, with one packet per datagram."""

    _socket: socket.socket | None = None
    _peer: tuple[str, int] | None = None

    def plug(self) -> None:
        """Connect the board to the network, and set `port`."""
        with self._lock:
            self._socket = socket.socket(type=socket.SOCK_DGRAM)
            self._socket.bind(("127.0.0.1", 0))
            self._socket.settimeout(0.02)
            self.port = Path(f"udp:127.0.0.1:{self._socket.getsockname()[1]}")

    def unplug(self) -> None:
        """Disconnect the board from the network."""
        with self._lock:
            if self._socket:
                self._socket.close()
                self._socket = None

    def _serve(self) -> None:
        while not self._stop.is_set() and self._socket:
            with suppress(TimeoutError):
                packet, self._peer = self._socket.recvfrom(4096)
                if len(packet) <= self._buffer:
                    self._answer(packet)

    def _send(self, packet: bytes) -> None:
        if self._socket and self._peer:
            self._socket.sendto(packet, self._peer)


def only(body: dict[str, Any], known: Mapping[str, type], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a request's body after checking that it has only the known keys and types."""
    needed = set(known) - set(optional)
    if not needed <= set(body) <= set(known) or any(type(value) is not known[key] for key, value in body.items()):
        raise ValueError(INVALID)
    return body


def encoded(value: object) -> bytes:
    """Encode a value as CBOR."""
    match value:
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return _head(0, value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case list():
            return _head(4, len(value)) + b"".join(map(encoded, value))
        case dict():
            return _head(5, len(value)) + b"".join(encoded(key) + encoded(one) for key, one in value.items())
    raise TypeError(value)


def decoded(raw: bytes) -> dict[str, Any]:
    """Decode a body, which must be one CBOR map.

    Raises:
        ValueError: the body is not one CBOR map.
    """
    value, rest = _item(raw)
    if rest or not isinstance(value, dict):
        raise ValueError("not one map")
    return value


def _head(major: int, number: int) -> bytes:
    for code, size in ((24, 1), (25, 2), (26, 4)):
        if number < 24:
            return bytes((major << 5 | number,))
        if number < 1 << (8 * size):
            return bytes((major << 5 | code,)) + number.to_bytes(size)
    raise ValueError(number)


def _item(raw: bytes) -> tuple[Any, bytes]:
    if not raw:
        raise ValueError("half an item")
    major, small, rest = raw[0] >> 5, raw[0] & 31, raw[1:]
    if major == 7 and small in (20, 21):
        return small == 21, rest
    size = {24: 1, 25: 2, 26: 4}.get(small, 0)
    if (small > 23 and not size) or len(rest) < size:
        raise ValueError("not a definite item")
    number, rest = (int.from_bytes(rest[:size]), rest[size:]) if size else (small, rest)
    if major == 0:
        return number, rest
    if major in (2, 3):
        if len(rest) < number:
            raise ValueError("half an item")
        content = rest[:number]
        return content if major == 2 else content.decode(), rest[number:]
    if major != 5:
        raise ValueError("another type")
    found: dict[str, Any] = {}
    for _ in range(number):
        key, rest = _item(rest)
        value, rest = _item(rest)
        if not isinstance(key, str) or key in found or not re.fullmatch(r"[a-z]+", key):
            raise ValueError("a wrong key")
        found[key] = value
    return found, rest
