"""The JSON documents of AWS IoT Jobs and of the Device Shadow."""

from __future__ import annotations

from typing import Any

import pytest

from blockota.messaging.documents import (
    JobExecution,
    JobStatus,
    JobUpdate,
    ReportedState,
    RunningImage,
    Shadow,
    client_token,
    merge,
)

HASH, OTHER = "ab" * 32, "cd" * 32


def test_an_execution_has_the_fields_of_aws() -> None:
    """A job execution is written in the JSON form that AWS's clients read."""
    execution = JobExecution(256, 7, JobStatus.IN_PROGRESS, {"reason": "x"}, 3, 10, 11, 12)
    assert execution.as_fields({"version": "1.0.0"}) == {
        "thingName": "256",
        "jobId": "7",
        "queuedAt": 10,
        "startedAt": 11,
        "lastUpdatedAt": 12,
        "versionNumber": 3,
        "executionNumber": 1,
        "status": "IN_PROGRESS",
        "statusDetails": {"reason": "x"},
        "jobDocument": {"version": "1.0.0"},
    }


def test_an_update_is_parsed() -> None:
    """The fields of a job update are read.

    A job update is accepted with its version as a number or as a text, because AWS's clients write both forms.
    """
    for version in (3, "3"):
        fields = {"status": "SUCCEEDED", "statusDetails": {"receipt": "_-8"}, "expectedVersion": version}
        update = JobUpdate.parse(fields)
        assert (update.status, update.expected_version, update.receipt) == (JobStatus.SUCCEEDED, 3, b"\xff\xef")
    assert JobUpdate.parse({"status": "FAILED", "statusDetails": None}).number("received") is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"status": "QUEUED"},
        {"status": ["SUCCEEDED"]},
        {"status": "FAILED", "statusDetails": {"a": 1}},
        {"status": "FAILED", "statusDetails": {"a": "x" * 1025}},
        {"status": "FAILED", "statusDetails": {str(n): "" for n in range(11)}},
        {"status": "FAILED", "statusDetails": [1]},
        {"status": "FAILED", "expectedVersion": -1},
        {"status": "FAILED", "expectedVersion": True},
        {"status": "FAILED", "expectedVersion": "9" * 5000},
    ],
)
def test_other_updates_are_refused(fields: dict[str, Any]) -> None:
    """A job update is refused if a device may not send its status, or if a value has a wrong type or size."""
    with pytest.raises(ValueError, match="is"):
        JobUpdate.parse(fields)


def test_details_with_other_texts_are_refused() -> None:
    """A malformed number or receipt in a job update is refused."""
    update = JobUpdate(JobStatus.IN_PROGRESS, {"received": "-1", "postponedUntil": "1" * 5000, "receipt": "a="})
    for name in ("received", "postponedUntil"):
        with pytest.raises(ValueError, match=name):
            update.number(name)
    with pytest.raises(ValueError, match="base64url"):
        _ = update.receipt


def test_a_client_token_is_returned() -> None:
    """The client token of a request is returned. A long token is refused."""
    assert client_token({"clientToken": "a"}) == {"clientToken": "a"}
    assert client_token({}) == {}
    for token in ("", "x" * 65, 5):
        with pytest.raises(ValueError, match="clientToken"):
            client_token({"clientToken": token})


def test_reported_images_are_parsed() -> None:
    """The firmware and the configurations in a shadow are read; a product with the value null is removed."""
    state = ReportedState.parse(
        {
            "firmware": {"acme-thermo2": {"sha256": HASH, "version": "1.0.0", "confirmed": False}},
            "configuration": {"acme-thermo2-cfg": {"refused": OTHER, "reason": "range"}, "old-cfg": None},
            "hardware": "rev-b",
            "uniqueId": "0102",
            "temperature": 21.5,
        }
    )
    assert state.images == (
        RunningImage("acme-thermo2", bytes.fromhex(HASH), "1.0.0", is_confirmed=False),
        RunningImage("acme-thermo2-cfg", None, refused=bytes.fromhex(OTHER), reason="range"),
    )
    assert (state.hardware, state.unique_id) == ("rev-b", b"\1\2")


@pytest.mark.parametrize(
    "reported",
    [
        {"firmware": [1]},
        {"firmware": {"a": 1}},
        {"firmware": {"a": {"sha256": "ab"}}},
        {"firmware": {"a": {"sha256": HASH[:-1] + "g"}}},
        {"firmware": {"a": {"sha256": " " + HASH[1:]}}},
        {"firmware": {"a": {"sha256": HASH, "confirmed": "yes"}}},
        {"firmware": {"a": {"receipt": "a="}}},
        {"firmware": {"a" * 65: {}}},
        {"hardware": 5},
        {"uniqueId": "xyz"},
    ],
)
def test_other_reports_are_refused(reported: dict[str, Any]) -> None:
    """A shadow with values of other types is refused."""
    with pytest.raises((TypeError, ValueError)):
        ReportedState.parse(reported)


def test_the_difference_is_what_the_device_does_not_have() -> None:
    """The shadow's delta contains a configuration until the device reports the configuration's hash."""
    desired = {"configuration": {"a-cfg": {"sha256": HASH, "version": "2.0.0"}}}
    shadow = Shadow(3, desired, {"configuration": {"a-cfg": {"sha256": OTHER}}})
    assert shadow.delta == desired
    assert Shadow(3, desired, {"configuration": 5}).delta == desired
    assert Shadow(4, desired, {"configuration": {"a-cfg": {"sha256": HASH}}}).as_state().keys() == {
        "desired",
        "reported",
    }


def test_a_change_is_merged() -> None:
    """A shadow update merges objects, null removes a key, and the size of a shadow is limited."""
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None, "e": 4}, "d": None}) == {"a": {"c": 2, "e": 4}}
    assert merge({"a": 1}, {"a": {"b": None}}) == {"a": {}}
    state: dict[str, Any] = {str(number): "x" * 1000 for number in range(8)}
    with pytest.raises(ValueError, match="8,192"):
        merge(state, {"more": "x" * 200})
