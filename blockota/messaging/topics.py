"""The topics between a gateway and its devices, and the payloads of events. Pure.

Updates and configurations use the topics of AWS IoT Jobs and Device Shadow. The module `blockota.messaging.documents`
has the documents of these topics. AWS has no topics for events, so BlockOTA defines its own::

    blockota/v1/things/{thing}/events      an event of a device: [seq, previous, kind, severity, time, body, signature]
    blockota/v1/things/{thing}/events/ack  the gateway's answer: [seq, index], or [seq, null, reason] for a refused one
    blockota/v1/cms/{gateway}/events       an entry of the gateway's log: [index, entry]

The following three payloads are deterministic CBOR (`blockota.formats.cbor`):

=========  =======================================================================
seq        number: the device's counter of events; a missing number shows a gap
previous   SHA-256 of the payload of the event before; null in the first one
kind       text: what happened, such as ``tamper``; at most 64 characters
severity   number from 0, an emergency, to 7, for debugging (RFC 5424)
time       number: Unix time in seconds of the device's clock; null without one
body       text: details; at most 2,048 characters
signature  the device's signature, a byte string; or null
index      number of the entry in the gateway's log
entry      the bytes of the entry, `blockota.model.receipt`
=========  =======================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from blockota.errors import ProposalError
from blockota.formats import cbor
from blockota.strict_json import load_object

MAX_PAYLOAD = 8192
"""The maximum size of a device's message in bytes."""
NEXT_JOB = "$next"
"""The name of the next job in a request (AWS)."""
_THING = r"(?P<thing>0|[1-9][0-9]{0,19})"
_MAX_KIND, _MAX_BODY, _MAX_SIGNATURE, _MAX_SEVERITY, _HASH_SIZE = 64, 2048, 1024, 7, 32
_NUMBER_BITS = 64


class RequestKind(StrEnum):
    """The kinds of requests of a device.

    The value of a kind is the end of its topic.
    """

    START_NEXT = "jobs/start-next"
    GET_PENDING = "jobs/get"
    DESCRIBE = "jobs/+/get"
    UPDATE = "jobs/+/update"
    SHADOW_UPDATE = "shadow/update"
    SHADOW_GET = "shadow/get"
    EVENT = "events"


def _prefix(kind: RequestKind) -> str:
    return "blockota/v1/things/" if kind is RequestKind.EVENT else "$aws/things/"


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
        job: the job in the topic; empty if the topic names no job.
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
        """The topic of the answer that refuses the request."""
        return f"{self}/rejected"


def notify_next(thing: int | str) -> str:
    """Return the topic of a device's next job.

    The message on this topic is retained.
    """
    return f"$aws/things/{thing}/jobs/notify-next"


def shadow_delta(thing: int) -> str:
    """Return the topic of the difference between the wanted and the reported configuration."""
    return f"$aws/things/{thing}/shadow/update/delta"


def event_answers(thing: int) -> str:
    """Return the topic of the answers to the events of a device."""
    return f"blockota/v1/things/{thing}/events/ack"


def site_events(gateway: UUID) -> str:
    """Return the topic on which management systems receive the entries of a gateway's log."""
    return f"blockota/v1/cms/{gateway}/events"


def parse_object(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in a payload. An empty payload is an empty object.

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
        raise ValueError(f"it has {len(payload):,} bytes, but a message has at most {MAX_PAYLOAD:,}")


@dataclass(frozen=True)
class ThingEvent:
    """An event of a device. The table in this module's docstring explains the attributes."""

    seq: int
    kind: str
    severity: int
    time: int | None = None
    body: str = ""
    previous: bytes | None = None
    signature: bytes | None = None

    def encode(self) -> bytes:
        """Return the payload."""
        return cbor.encode([self.seq, self.previous, self.kind, self.severity, self.time, self.body, self.signature])

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Decode a payload.

        Raises:
            ValueError: the payload is not an event.
        """
        _check_size(payload)
        match cbor.decode(payload):
            case [
                int(seq),
                None | bytes() as previous,
                str(kind),
                int(severity),
                None | int() as time,
                str(body),
                None | bytes() as signature,
            ] if (
                all(type(one) is int and not one >> _NUMBER_BITS for one in (seq, severity, time or 0))
                and (previous is None or len(previous) == _HASH_SIZE)
                and 0 < len(kind) <= _MAX_KIND
                and severity <= _MAX_SEVERITY
                and len(body) <= _MAX_BODY
                and len(signature or b"") <= _MAX_SIGNATURE
            ):
                return cls(seq, kind, severity, time, body, previous, signature)
        raise ValueError("it is not an array of the seven items of an event")

    @property
    def text(self) -> str:
        """The text of the event in the log."""
        when = "" if self.time is None else f", time of the device {self.time}"
        return f"{self.kind}: {self.body} (severity {self.severity}{when})"


def event_accepted(seq: int, index: int) -> bytes:
    """Return the payload of the answer to a logged event."""
    return cbor.encode([seq, index])


def event_refused(seq: int, why: str) -> bytes:
    """Return the payload of the answer to a refused event."""
    return cbor.encode([seq, None, why])


def site_event(index: int, entry: bytes) -> bytes:
    """Return the payload with an entry of the log."""
    return cbor.encode([index, entry])
