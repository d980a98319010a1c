"""MQTT topics, and payloads of events."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockota.formats import cbor
from blockota.formats.cose import SignedStatement
from blockota.messaging.topics import (
    MAX_PAYLOAD,
    SUBSCRIPTIONS,
    RequestKind,
    RequestTopic,
    ThingEvent,
    is_held,
    notify_next,
    parse_object,
    site_event,
    site_events,
)
from blockota.model.device_event import DeviceEvent

EVENT = ThingEvent(4, "tamper", 1, 1_700_000_000, "the lid is open", bytes(32), bytes(31) + b"\1" + bytes(31) + b"\1")


def test_topics_of_requests_are_those_of_aws() -> None:
    """A subscription of the gateway has one topic level for the device, and does not match the gateway's responses."""
    assert SUBSCRIPTIONS == (
        "$aws/things/+/jobs/start-next",
        "$aws/things/+/jobs/get",
        "$aws/things/+/jobs/+/get",
        "$aws/things/+/jobs/+/update",
        "$aws/things/+/shadow/update",
        "$aws/things/+/shadow/get",
        "blockota/v1/things/+/events",
        "blockota/v1/things/+/readings",
        "blockota/v1/things/+/commands/ack",
    )
    assert notify_next(256) == "$aws/things/256/jobs/notify-next"
    assert site_events(UUID(int=7)).startswith("blockota/v1/cms/00000000-")


def test_messages_that_a_device_does_not_repeat_are_held() -> None:
    """The gateway confirms readings and answers to commands after writing them, and other messages on arrival."""
    held = [topic for topic in SUBSCRIPTIONS if is_held(topic)]
    assert held == ["blockota/v1/things/+/readings", "blockota/v1/things/+/commands/ack"]


@pytest.mark.parametrize("kind", RequestKind)
def test_a_topic_is_parsed_and_written(kind: RequestKind) -> None:
    """The topic of a request is parsed into its parts.

    The topics of the responses to a request begin with the request's topic.
    """
    topic = SUBSCRIPTIONS[list(RequestKind).index(kind)].replace("+", "256", 1).replace("+", "77")
    found = RequestTopic.parse(topic)
    assert (found.thing, found.kind, found.job) == (256, kind, "77" if "+" in kind else "")
    assert (str(found), found.accepted, found.rejected) == (topic, f"{topic}/accepted", f"{topic}/rejected")


@pytest.mark.parametrize(
    "topic",
    [
        *SUBSCRIPTIONS,
        "$aws/things/256/jobs/#",
        "$aws/things/0256/jobs/get",
        "$aws/things/٢٥٦/jobs/get",
        "$aws/things/-1/jobs/get",
        "$aws/things/18446744073709551616/jobs/get",
        "$aws/things/256/jobs/get/accepted",
        "$aws/things/256/jobs/7/update/",
        "$aws/things/256/jobs//update",
        "$aws/things/256/shadow/delete",
        "$aws/things/256/events",
        "blockota/v1/things/256/events/ack",
        "blockota/v1/things/256/events\n",
        "",
    ],
)
def test_other_topics_are_refused(topic: str) -> None:
    """A request topic is refused if it has wildcards or a non-canonical device number, or is a topic of responses."""
    with pytest.raises(ValueError, match="is not the topic of a request"):
        RequestTopic.parse(topic)


def test_objects_are_parsed_strictly() -> None:
    """A repeated key, JSON other than an object, and a too large payload are refused. Fractions are allowed."""
    assert parse_object(b'{"a": 21.5}') == {"a": 21.5}
    assert parse_object(b"") == {}
    cases = {
        b'{"a": 1, "a": 2}': "repeated",
        b'{"a": NaN}': "not a whole number",
        b"[1]": "not a JSON object",
        b'{"a":': "not valid JSON",
        b"\xff": "not text",
        b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}": "nested",
        b'{"a": "' + b"x" * MAX_PAYLOAD + b'"}': "at most 8,192",
    }
    for payload, words in cases.items():
        with pytest.raises(ValueError, match=words):
            parse_object(payload)


def test_an_event_is_encoded_and_read() -> None:
    """An event survives encoding and decoding, and its text describes what happened."""
    assert ThingEvent.decode(EVENT.encode()) == EVENT
    assert EVENT.text == "tamper: the lid is open (severity 1, time of the device 1700000000)"
    assert cbor.decode(site_event(3, b"entry")) == [3, b"entry"]
    assert EVENT.statement
    assert DeviceEvent.of_payload(SignedStatement.decode(EVENT.statement).payload).text == EVENT.text


@pytest.mark.parametrize(
    "items",
    [
        [True, None, "tamper", 1, None, "", None],
        [-1, None, "tamper", 1, None, "", None],
        [1 << 64, None, "tamper", 1, None, "", None],
        [1, b"short", "tamper", 1, None, "", None],
        [1, None, "", 1, None, "", None],
        [1, None, "x" * 65, 1, None, "", None],
        [1, None, "tamper", 8, None, "", None],
        [1, None, "tamper", 1, -5, "", None],
        [1, None, "tamper", 1, None, "x" * 2049, None],
        [1, None, "tamper", 1, None, "", bytes(63)],
        [1, None, "tamper", 1, None, "", "x" * 64],
        [1, None, "tamper", 1, None, "\u00e4" * 2048, bytes(64)],
        [1, None, "tamper", 1, None, ""],
        {"seq": 1},
    ],
)
def test_other_values_are_not_events(items: object) -> None:
    """An event with a value of another type, range or size is refused."""
    with pytest.raises(ValueError, match=r"items|not CBOR of the supported types|does not have 64 bytes|at most 3,072"):
        ThingEvent.decode(cbor.encode(items))


@given(st.binary(max_size=200), st.integers(0, 60))
def test_bytes_that_are_not_an_event_are_refused(noise: bytes, cut: int) -> None:
    """Random bytes, and a truncated event, are refused with a ValueError."""
    for payload in (noise, EVENT.encode()[:cut], bytes(1 << 20)):
        with pytest.raises(ValueError, match=r"."):
            ThingEvent.decode(payload)
