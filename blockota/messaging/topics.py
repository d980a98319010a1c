"""The topics between a gateway and its devices, and the payloads of events. Pure.

Updates and configurations use the topics of AWS IoT Jobs and Device Shadow. The module `blockota.messaging.documents`
defines the documents on these topics. AWS has no topics for events, so BlockOTA defines its own::

    blockota/v1/things/{thing}/events      an event of a device: [seq, previous, kind, severity, time, body, signature]
    blockota/v1/things/{thing}/events/ack  the gateway's answer: [seq, index], or [seq, null, reason] for a refused one
    blockota/v1/cms/{gateway}/events       an entry of the gateway's log: [index, entry]
    blockota/v1/things/{thing}/readings            a reading of a device (`blockota.messaging.readings`), in JSON
    blockota/v1/things/{thing}/readings/rejected   why the gateway refused a reading: {"message": …}
    blockota/v1/things/{thing}/commands            a command for a device (`blockota.model.command`), in JSON
    blockota/v1/things/{thing}/commands/ack        the device's answer to a command, in JSON

The first three payloads are deterministic CBOR (`blockota.formats.cbor`):

=========  =======================================================================
seq        number: the device's counter of events; a missing number reveals a missing event
previous   SHA-256 of the payload of the previous event; null in the first event
kind       text: the type of the event, such as ``tamper``; at most 64 characters
severity   number from 0 for an emergency to 7 for debugging (RFC 5424)
time       number: Unix time in seconds by the device's clock; null if the device has no clock
body       text: details; at most 2,048 characters
signature  the device's signature, 64 bytes; or null
index      number of the entry in the gateway's log
entry      the bytes of the entry, `blockota.model.receipt`
=========  =======================================================================

The signature is the signature of a COSE_Sign1 structure, whose payload is the array of the items ``seq`` to ``body``
(`blockota.model.device_event`). A device that has a key signs its events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from blockota.errors import ProposalError
from blockota.formats import cbor
from blockota.formats.cose import SignedStatement
from blockota.model.device_event import EVENT_TYPE, MAX_SIGNED_EVENT, DeviceEvent
from blockota.strict_json import load_object

MAX_PAYLOAD = 8192
"""The maximum size of a device's message in bytes."""
NEXT_JOB = "$next"
"""The name of the next job in a request (AWS)."""
_THING = r"(?P<thing>0|[1-9][0-9]{0,19})"
_EVENT_ITEMS, _SIGNATURE_SIZE = 7, 64
_NUMBER_BITS = 64


class RequestKind(StrEnum):
    """The kinds of requests of a device.

    The value of a kind is the last part of the request's topic.
    """

    START_NEXT = "jobs/start-next"
    GET_PENDING = "jobs/get"
    DESCRIBE = "jobs/+/get"
    UPDATE = "jobs/+/update"
    SHADOW_UPDATE = "shadow/update"
    SHADOW_GET = "shadow/get"
    EVENT = "events"
    READING = "readings"
    COMMAND_ANSWER = "commands/ack"


_OWN = (RequestKind.EVENT, RequestKind.READING, RequestKind.COMMAND_ANSWER)
_HELD = tuple(f"/{kind}" for kind in (RequestKind.READING, RequestKind.COMMAND_ANSWER))


def _prefix(kind: RequestKind) -> str:
    return "blockota/v1/things/" if kind in _OWN else "$aws/things/"


SUBSCRIPTIONS = tuple(f"{_prefix(kind)}+/{kind}" for kind in RequestKind)
"""The topics that a gateway subscribes to. ``#`` would not match topics that begin with ``$``."""
_PATTERNS = {
    kind: re.compile(re.escape(_prefix(kind)) + _THING + "/" + re.escape(kind).replace(r"\+", r"(?P<job>[^/+#]{1,64})"))
    for kind in RequestKind
}


@dataclass(frozen=True)
class RequestTopic:
    """The topic of a device's request.

    Attributes:
        thing: number of the device.
        kind: the kind of the request.
        job: the number of the job in the topic as text; empty if the topic names no job.
    """

    thing: int
    kind: RequestKind
    job: str = ""

    @classmethod
    def parse(cls, topic: str) -> Self:
        """Parse a topic.

        Raises:
            ValueError: the topic is not the topic of a request.
        """
        for kind, pattern in _PATTERNS.items():
            # A number of 20 digits can have more than 64 bits.
            if (match := pattern.fullmatch(topic)) and not int(match["thing"]) >> _NUMBER_BITS:
                return cls(int(match["thing"]), kind, match.groupdict().get("job") or "")
        raise ValueError(f"the topic {topic!r:.80} is not the topic of a request")

    def __str__(self) -> str:
        """The topic."""
        return f"{_prefix(self.kind)}{self.thing}/{self.kind}".replace("+", self.job)

    @property
    def accepted(self) -> str:
        """The topic of the answer."""
        return f"{self}/accepted"

    @property
    def rejected(self) -> str:
        """The topic for the answer to a rejected request."""
        return f"{self}/rejected"


def is_held(topic: str) -> bool:
    """Whether the gateway must store the content of a topic's messages before it confirms them to the broker.

    If the result is True, a device repeats a message only until the broker confirms it. On all other topics, a device
    repeats a request until the gateway answers.
    """
    return topic.endswith(_HELD)


def notify_next(thing: int | str) -> str:
    """Return the topic of a device's next job, on which messages are retained."""
    return f"$aws/things/{thing}/jobs/notify-next"


def shadow_delta(thing: int) -> str:
    """Return the topic of the difference between the desired and the reported configuration."""
    return f"$aws/things/{thing}/shadow/update/delta"


def event_answers(thing: int) -> str:
    """Return the topic of the answers to a device's events."""
    return f"blockota/v1/things/{thing}/events/ack"


def reading_rejections(thing: int) -> str:
    """Return the topic on which a device receives the reasons for refused readings."""
    return f"blockota/v1/things/{thing}/readings/rejected"


def device_commands(thing: int) -> str:
    """Return the topic of the commands for a device."""
    return f"blockota/v1/things/{thing}/commands"


def site_events(gateway: UUID) -> str:
    """Return the topic on which management systems receive the entries of a gateway's log."""
    return f"blockota/v1/cms/{gateway}/events"


def parse_object(payload: bytes) -> dict[str, Any]:
    """Decode the JSON object in a payload. An empty payload means an empty object.

    Raises:
        ValueError: the payload is too large, is not a JSON object, or repeats a key.
    """
    _check_size(payload)
    if not payload:
        return {}
    try:
        return load_object(payload, has_fractions=True)
    except ProposalError as error:
        raise ValueError(error.why) from error


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"the message has {len(payload):,} bytes, but at most {MAX_PAYLOAD:,} are allowed")


@dataclass(frozen=True)
class ThingEvent(DeviceEvent):
    """A device's message with an event. The table in this module's docstring describes the attributes."""

    signature: bytes | None = None

    def encode(self) -> bytes:
        """Return the payload of the message."""
        return cbor.encode([self.seq, self.previous, self.kind, self.severity, self.time, self.body, self.signature])

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Decode the payload of a message.

        Raises:
            ValueError: the payload is not an event.
        """
        _check_size(payload)
        items = cbor.decode(payload)
        if not isinstance(items, list) or len(items) != _EVENT_ITEMS:
            raise ValueError(f"the message is not an array of the {_EVENT_ITEMS} items of an event")
        event, signature = cls.of_items(items[:-1]), items[-1]

        if signature is None:
            return event
        if not isinstance(signature, bytes) or len(signature) != _SIGNATURE_SIZE:
            raise ValueError(f"the event's signature does not have {_SIGNATURE_SIZE} bytes")
        if len(event.payload()) > MAX_SIGNED_EVENT:
            raise ValueError(f"a signed event has at most {MAX_SIGNED_EVENT:,} bytes")
        return replace(event, signature=signature)

    @property
    def statement(self) -> bytes | None:
        """The device's signed statement about the event; None if the event is not signed."""
        return self.signature and SignedStatement(EVENT_TYPE, self.payload(), self.signature).encode()


def event_accepted(seq: int, index: int) -> bytes:
    """Return the payload of the answer to a logged event."""
    return cbor.encode([seq, index])


def event_refused(seq: int, why: str) -> bytes:
    """Return the payload of the answer to a refused event."""
    return cbor.encode([seq, None, why])


def site_event(index: int, entry: bytes) -> bytes:
    """Return the payload with an entry of the log."""
    return cbor.encode([index, entry])
