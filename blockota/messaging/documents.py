"""The parts of the documents of AWS IoT Jobs and AWS Device Shadow that a gateway uses.

Pure. The sources are the developer guide of AWS IoT ("Jobs MQTT API operations" and "Shadow service documents"), and
the messages that `awsiotsdk` sends and reads (`tests/peers/mqtt`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from blockota.formats.jws import from_base64url

MAX_DETAILS, MAX_DETAIL, MAX_TOKEN = 10, 1024, 64
"""Limits of AWS: the number of details in an update, the characters in a detail, and the characters in a client token.
"""
MAX_SHADOW = 8192
"""The maximum size of a device's reported state in bytes (AWS)."""
_HASH_HEX, _MAX_TEXT = 64, 64
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class JobStatus(StrEnum):
    """The status of a job's execution.

    A device sends only ``IN_PROGRESS``, ``SUCCEEDED``, ``FAILED`` and ``REJECTED``.
    """

    QUEUED = "QUEUED"
    CANCELED = "CANCELED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"

    @property
    def is_end(self) -> bool:
        """Whether the status is final."""
        return self not in (JobStatus.QUEUED, JobStatus.IN_PROGRESS)


class RejectCode(StrEnum):
    """The reason codes of rejected requests about jobs."""

    INVALID_REQUEST = "InvalidRequest"
    INVALID_TRANSITION = "InvalidStateTransition"
    NOT_FOUND = "ResourceNotFound"
    VERSION_MISMATCH = "VersionMismatch"
    INTERNAL = "InternalError"


@dataclass(frozen=True)
class JobExecution:
    """The execution of a job by a device.

    Attributes:
        thing: number of the device.
        job: number of the job.
        status: status of the execution.
        details: the details that the device sent with the status.
        version: the version of the execution, incremented by each update.
        queued_at: Unix time at which the job was created.
        started_at: Unix time at which the device began the job; None before the beginning.
        updated_at: Unix time of the last update.
    """

    thing: int
    job: int
    status: JobStatus = JobStatus.QUEUED
    details: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    queued_at: int = 0
    started_at: int | None = None
    updated_at: int = 0

    def as_fields(self, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the field ``execution`` of an answer, with the job's document."""
        fields: dict[str, Any] = {"thingName": str(self.thing), **self.summary(), **self.state()}
        return fields | ({} if document is None else {"jobDocument": document})

    def summary(self) -> dict[str, Any]:
        """Return the item of a list of jobs."""
        times = {"queuedAt": self.queued_at, "startedAt": self.started_at, "lastUpdatedAt": self.updated_at}
        found = {name: time for name, time in times.items() if time is not None}
        return {"jobId": str(self.job), **found, "versionNumber": self.version, "executionNumber": 1}

    def state(self) -> dict[str, Any]:
        """Return the field ``executionState`` of an answer."""
        return {"status": str(self.status), "statusDetails": dict(self.details), "versionNumber": self.version}


@dataclass(frozen=True)
class JobUpdate:
    """A device's request to update the status of a job.

    Attributes:
        status: the new status.
        details: the ``statusDetails``. The gateway reads ``receipt``, ``sha256``, ``version``, ``received``,
            ``postponedUntil`` and ``reason``.
        expected_version: the version of the execution that the device expects; None if the device does not check the
            version.
        wants_state: whether the answer must contain the state of the execution.
        wants_document: whether the answer must contain the job's document.
    """

    status: JobStatus
    details: Mapping[str, str] = field(default_factory=dict)
    expected_version: int | None = None
    wants_state: bool = False
    wants_document: bool = False

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """Parse the fields of a request.

        Raises:
            ValueError: a field is not valid.
        """
        status = fields.get("status")
        if status not in (JobStatus.IN_PROGRESS, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.REJECTED):
            raise ValueError(f"status is {status!r:.40}, which a device does not send")

        details = fields.get("statusDetails") or {}
        if not isinstance(details, dict) or len(details) > MAX_DETAILS:
            raise ValueError(f"statusDetails is not an object of at most {MAX_DETAILS} texts")
        if not all(
            isinstance(value, str) and max(len(name), len(value)) <= MAX_DETAIL for name, value in details.items()
        ):
            raise ValueError(f"statusDetails has a value that is not a text of at most {MAX_DETAIL} characters")

        version = fields.get("expectedVersion")
        if version is not None and not _NUMBER.fullmatch(str(version)):
            raise ValueError(f"expectedVersion is {version!r:.40}, which is not a whole number")

        return cls(
            JobStatus(status),
            details,
            None if version is None else int(version),
            fields.get("includeJobExecutionState") is True,
            fields.get("includeJobDocument") is True,
        )

    @property
    def receipt(self) -> bytes | None:
        """The device's signed statement.

        Raises:
            ValueError: the text is not base64url.
        """
        text = self.details.get("receipt")
        return None if text is None else from_base64url(text)

    def number(self, name: str) -> int | None:
        """Return a detail that is a decimal number; None if the detail is missing.

        Raises:
            ValueError: the text is not a decimal number.
        """
        text = self.details.get(name)
        if text is None:
            return None
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{name} is {text!r:.40}, which is not a decimal number")
        return int(text)


def client_token(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the field ``clientToken``, by which a device recognises the answer to its request.

    Raises:
        ValueError: the token is not a text of at most 64 characters.
    """
    token = fields.get("clientToken")
    if token is None:
        return {}
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN:
        raise ValueError(f"clientToken is not a text of 1 to {MAX_TOKEN} characters")
    return {"clientToken": token}


@dataclass(frozen=True)
class RunningImage:
    """A device's report about one product, as part of its shadow.

    Attributes:
        product: the product.
        sha256: SHA-256 of the image.
        version: the version that the device states; None if the device states no version.
        is_confirmed: whether the device has confirmed the image.
        statement: the device's signed statement; None if the report is not signed.
        refused: SHA-256 of an image that the device refuses; None if the device refuses no image.
        reason: why the device refuses the image.
    """

    product: str
    sha256: bytes | None
    version: str | None = None
    is_confirmed: bool = True
    statement: bytes | None = None
    refused: bytes | None = None
    reason: str = ""

    @classmethod
    def parse(cls, product: str, fields: object) -> Self:
        """Parse the object of a product.

        Raises:
            TypeError, ValueError: a field is not valid.
        """
        if not isinstance(fields, dict) or len(product) > _MAX_TEXT:
            raise ValueError(f"the report about {product!r:.40} is not a JSON object")

        confirmed = fields.get("confirmed", True)
        if not isinstance(confirmed, bool):
            raise TypeError(f"confirmed of {product} is neither true nor false")
        receipt = _text(fields, "receipt")
        return cls(
            product,
            _digest(fields, "sha256"),
            _text(fields, "version"),
            confirmed,
            None if receipt is None else from_base64url(receipt),
            _digest(fields, "refused"),
            _text(fields, "reason") or "",
        )


@dataclass(frozen=True)
class ReportedState:
    """The part of a device's reported state that the gateway reads.

    Attributes:
        images: the reports about firmware and configurations.
        hardware: hardware revision of the device; None if the revision was not reported.
        unique_id: unique id of the chip; None if the id was not reported.
    """

    images: tuple[RunningImage, ...] = ()
    hardware: str | None = None
    unique_id: bytes | None = None

    @classmethod
    def parse(cls, reported: Mapping[str, Any]) -> Self:
        """Parse ``state.reported`` of a request.

        Raises:
            TypeError, ValueError: a field is not valid.
        """
        found: list[RunningImage] = []
        for group in ("firmware", "configuration"):
            products = reported.get(group) or {}
            if not isinstance(products, dict):
                raise TypeError(f"{group} is not a JSON object")
            # A product with the value null is removed from the shadow (AWS), and is not a report.
            found += [RunningImage.parse(product, one) for product, one in products.items() if one is not None]
        unique_id = _text(reported, "uniqueId")
        return cls(tuple(found), _text(reported, "hardware"), None if unique_id is None else bytes.fromhex(unique_id))


@dataclass(frozen=True)
class Shadow:
    """The shadow of a device.

    Attributes:
        version: the version of the shadow, incremented by each change.
        desired: the state that the device must reach.
        reported: the state that the device reported, merged from all reports.
    """

    version: int = 0
    desired: Mapping[str, Any] = field(default_factory=dict)
    reported: Mapping[str, Any] = field(default_factory=dict)

    @property
    def delta(self) -> dict[str, Any]:
        """The desired configurations that the device does not have.

        Only the SHA-256 of a configuration is compared, because a device that reports the hash has the configuration.
        The difference contains the whole document of each missing configuration.
        """
        wanted = self.desired.get("configuration", {})
        rest = {product: one for product, one in wanted.items() if self.configuration(product) != one.get("sha256")}
        return {"configuration": rest} if rest else {}

    def configuration(self, product: str) -> object:
        """Return the hash of a configuration that the device reported; None if the device reported no hash."""
        products = self.reported.get("configuration")
        found = products.get(product) if isinstance(products, dict) else None
        return found.get("sha256") if isinstance(found, dict) else None

    def as_state(self) -> dict[str, Any]:
        """Return the field ``state`` of the answer to a request for the shadow."""
        parts = {"desired": self.desired, "reported": self.reported, "delta": self.delta}
        return {name: part for name, part in parts.items() if part}


def merge(state: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a change into a state, and return the new state.

    As in AWS, nested objects are merged, and the value null removes a key.

    Raises:
        ValueError: the new state is too large.
    """
    merged = _merged(state, change)
    if len(json.dumps(merged)) > MAX_SHADOW:
        raise ValueError(f"the reported state would have more than {MAX_SHADOW:,} bytes")
    return merged


def _merged(state: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(state)
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            before = merged.get(name)
            merged[name] = _merged(before if isinstance(before, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or (isinstance(value, str) and len(value) <= MAX_DETAIL):
        return value
    raise ValueError(f"{name} is {value!r:.40}, which is not a text of at most {MAX_DETAIL} characters")


def _digest(fields: Mapping[str, Any], name: str) -> bytes | None:
    text = _text(fields, name)
    if text is None:
        return None
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    # `fromhex` ignores spaces, so the length of the text is checked as well.
    if len(text) != _HASH_HEX or len(digest) != _HASH_HEX // 2:
        raise ValueError(f"{name} is {text!r:.80}, which is not a SHA-256 in hexadecimal")
    return digest
