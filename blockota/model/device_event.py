"""The event of a device, such as an alarm, and the statement that the device signs about it. Pure.

A device that has a key signs the payload ``[seq, previous, kind, severity, time, body]`` in deterministic CBOR, as a
statement of the type `EVENT_TYPE` (`blockota.formats.cose`). `blockota.messaging.topics` describes the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from blockota.formats import cbor

EVENT_TYPE = "application/blockota-event"
"""The type of the statement about an event."""
MAX_SIGNED_EVENT = 3072
"""Maximum size in bytes of the payload of a signed event, with which it fits into an entry of a log."""
_MAX_KIND, _MAX_BODY, _MAX_SEVERITY, _HASH_SIZE, _NUMBER_BITS = 64, 2048, 7, 32, 64


@dataclass(frozen=True)
class DeviceEvent:
    """An event of a device.

    Attributes:
        seq: the number that the device gave to the event.
        kind: type of the event, such as ``tamper``.
        severity: from 0 for an emergency to 7 for debugging (RFC 5424).
        time: Unix time in seconds by the device's clock; None if the device has no clock.
        body: details.
        previous: SHA-256 of the payload of the previous event; None for the first event.
    """

    seq: int
    kind: str
    severity: int
    time: int | None = None
    body: str = ""
    previous: bytes | None = None

    def payload(self) -> bytes:
        """Return the bytes that the device signs."""
        return cbor.encode([self.seq, self.previous, self.kind, self.severity, self.time, self.body])

    @classmethod
    def of_payload(cls, raw: bytes) -> Self:
        """Decode the payload of a signed event.

        Raises:
            ValueError: the bytes are not the payload of an event.
        """
        return cls.of_items(cbor.decode(raw))

    @classmethod
    def of_items(cls, items: object) -> Self:
        """Create an event from the items of a payload.

        Raises:
            ValueError: the items do not form an event.
        """
        match items:
            case [
                int(seq),
                None | bytes() as previous,
                str(kind),
                int(severity),
                None | int() as time,
                str(body),
            ] if (
                all(type(one) is int and not one >> _NUMBER_BITS for one in (seq, severity, time or 0))
                and (previous is None or len(previous) == _HASH_SIZE)
                and 0 < len(kind) <= _MAX_KIND
                and severity <= _MAX_SEVERITY
                and len(body) <= _MAX_BODY
            ):
                return cls(seq, kind, severity, time, body, previous)
        raise ValueError("the items are not number, previous event, kind, severity, time and text of an event")

    @property
    def text(self) -> str:
        """The event as the log has it."""
        when = "" if self.time is None else f", time of the device {self.time}"
        return f"{self.kind}: {self.body} (severity {self.severity}{when})"
