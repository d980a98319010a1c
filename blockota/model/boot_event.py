"""The events that BlockOTA's agent records about the images of its board (docs/device.md, "Commands"). Pure.

A board with a secure element signs its events. The signed bytes are ``blockota-event`` in ASCII, the number (4 bytes,
big endian), kind and detail (1 byte each), and the digest of the running image (32 bytes). Each part has a fixed width,
so that a contract can check the bytes. The signature covers the SHA-256 of the bytes. The number comes from a counter
in the secure element.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Self

from blockota.formats.p256 import is_p256_signature, require_low_s

DIGEST_SIZE = 32
_NUMBER_BITS, _BYTE = 32, 255
_PREFIX = b"blockota-event"
_FIELDS = struct.Struct(">IBB32s")
_SIGNED_SIZE = len(_PREFIX) + _FIELDS.size


class BootEventKind(IntEnum):
    """The kind of an event, with the numbers of `event_kind` in device/agent/events.h."""

    STARTED = 1
    REFUSED = 2
    CONFIRMED = 3


class BootFlags(IntFlag):
    """The flags in the detail of a `STARTED` event, as in `boot_flags` of device/loader/boot_report.h."""

    TRIAL = 1
    ROLLED_BACK = 2
    REQUEST_REFUSED = 4
    CHIP_PRESENT = 8
    SIGNATURE_CHECKED = 16


_FLAGS = {
    BootFlags.TRIAL: "on trial",
    BootFlags.ROLLED_BACK: "after a rollback",
    BootFlags.REQUEST_REFUSED: "after a refused image",
    BootFlags.CHIP_PRESENT: "with a secure element",
    BootFlags.SIGNATURE_CHECKED: "its signature checked",
}
_REFUSALS = {
    1: "it is incomplete",
    2: "its digest is not the requested one",
    3: "it is damaged",
    4: "it is for another board",
    5: "its security counter is too low",
    6: "its signature is not accepted",
}
"""The detail of `REFUSED`, `refusal` of device/loader/boot_report.h."""


@dataclass(frozen=True)
class BootEvent:
    """An event about the images of a board.

    Attributes:
        number: the board's number of the event, from 1 on. Each event has a greater number than all earlier events.
        kind: the type of the event: a `BootEventKind`, or an unknown number from a newer agent.
        detail: a byte, whose meaning depends on the kind.
        digest: the digest of the running image, as `blockota.formats.mcuboot.image_digest` computes it, 32 bytes.
    """

    number: int
    kind: int
    detail: int
    digest: bytes

    @classmethod
    def of_items(cls, items: object) -> Self:
        """Decode an event from the items of the board's answer.

        Raises:
            ValueError: the items do not form an event.
        """
        match items:
            case {
                "number": int(number),
                "kind": int(kind),
                "detail": int(detail),
                "digest": bytes(digest),
            } if (
                0 < number < 1 << _NUMBER_BITS
                and 0 <= kind <= _BYTE
                and 0 <= detail <= _BYTE
                and len(digest) == DIGEST_SIZE
            ):
                return cls(number, kind, detail, digest)
        raise ValueError("the items are not the number, kind, detail and digest of an event")

    @property
    def signed_bytes(self) -> bytes:
        """The bytes whose SHA-256 the board signs."""
        return _PREFIX + _FIELDS.pack(self.number, self.kind, self.detail, self.digest)

    @property
    def shows_running_image(self) -> bool:
        """Whether the event shows that the board runs its image permanently, not on trial."""
        is_started = self.kind == BootEventKind.STARTED and not self.detail & BootFlags.TRIAL
        return is_started or self.kind == BootEventKind.CONFIRMED

    @property
    def text(self) -> str:
        """The event as the log has it."""
        return f"{self._what()}; the running image has the digest {self.digest.hex()}"

    def _what(self) -> str:
        match self.kind:
            case BootEventKind.STARTED:
                known = [text for flag, text in _FLAGS.items() if self.detail & flag]
                return ", ".join(["the board started", *known])
            case BootEventKind.REFUSED:
                return f"the loader refused the new image: {_REFUSALS.get(self.detail, f'reason {self.detail}')}"
            case BootEventKind.CONFIRMED:
                return "the running image was confirmed"
        return f"event of the kind {self.kind} with the detail {self.detail}"


@dataclass(frozen=True)
class SignedBootEvent:
    """An event with the signature of the board. The encoding is the signed bytes, followed by the signature.

    Attributes:
        event: the event.
        signature: r and s, 64 bytes, with a low s.
    """

    event: BootEvent
    signature: bytes

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Decode an event with its signature.

        Raises:
            ValueError: the bytes are not a signed event.
        """
        if not is_boot_event(raw) or len(raw) < _SIGNED_SIZE:
            raise ValueError("the bytes are not a signed event of a board")
        number, kind, detail, digest = _FIELDS.unpack_from(raw, len(_PREFIX))
        require_low_s(raw[_SIGNED_SIZE:])
        event = BootEvent.of_items({"number": number, "kind": kind, "detail": detail, "digest": digest})
        return cls(event, raw[_SIGNED_SIZE:])

    def encode(self) -> bytes:
        """Return the signed bytes and the signature."""
        return self.event.signed_bytes + self.signature

    def is_signed_by(self, key: bytes) -> bool:
        """Whether the signature was made with the private key of a public key.

        Args:
            key: the P-256 key: x and y, 64 bytes.

        Raises:
            ValueError: the key is not a point of P-256.
        """
        return is_p256_signature(key, self.event.signed_bytes, self.signature)


def is_boot_event(raw: bytes) -> bool:
    """Whether the bytes of a device's statement are a signed event of a board, and not a COSE structure."""
    return raw.startswith(_PREFIX)
