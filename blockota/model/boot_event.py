"""The events that BlockOTA's agent records about the images of its board (docs/device.md, "Commands"). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Self

DIGEST_SIZE = 32
_NUMBER_BITS, _BYTE = 32, 255


class BootEventKind(IntEnum):
    """The kind of an event, `event_kind` of device/agent/events.h."""

    STARTED = 1
    REFUSED = 2
    CONFIRMED = 3


class BootFlags(IntFlag):
    """The detail of `STARTED`, `boot_flags` of device/loader/boot_report.h."""

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
        number: the board's number of the event, from 1 on. Each event has a greater number than the event before.
        kind: what happened, a `BootEventKind`; another number for an event of a newer agent.
        detail: a byte, whose meaning depends on the kind.
        digest: the digest of the running image, as `blockota.formats.mcuboot.image_digest` returns it, 32 bytes.
    """

    number: int
    kind: int
    detail: int
    digest: bytes

    @classmethod
    def of_items(cls, items: object) -> Self:
        """Return the event with the items of the board's answer.

        Raises:
            ValueError: the items are not the items of an event.
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
        raise ValueError("its items are not number, kind, detail and digest of an event")

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
