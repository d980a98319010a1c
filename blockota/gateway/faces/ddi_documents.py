"""The documents of hawkBit's direct device integration (DDI), version 1. Pure.

The documents follow the DDI API of Eclipse hawkBit, and contain the fields that SWUpdate 2022.12 reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blockota.errors import ProposalError
from blockota.gateway.core import DeviceOffer
from blockota.strict_json import load_object, mapping, text

IMAGE, VERSION, HARDWARE = "blockota.image", "blockota.version", "blockota.hardware"
"""The attributes by which a device reports its image, its version and its hardware revision."""
_EXECUTIONS = {"closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "downloaded", "download"}
_FINISHED = {"success", "failure", "none"}
_RANGE = re.compile(r"bytes=(\d{0,12})-(\d{0,12})", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_DETAILS = 1000


@dataclass(frozen=True)
class Feedback:
    """The state of an action, as the device reports it.

    Attributes:
        execution: the state in DDI's terms, such as ``proceeding`` or ``closed``.
        finished: ``success``, ``failure`` or ``none``.
        details: the device's messages, joined into one line.
    """

    execution: str
    finished: str
    details: str

    @property
    def is_success(self) -> bool:
        """Whether the device states that it installed the image."""
        return self.execution == "closed" and self.finished == "success"

    @property
    def is_over(self) -> bool:
        """Whether the device ended the action without installing the image."""
        return not self.is_success and self.execution in {"closed", "rejected", "canceled"}


@dataclass(frozen=True)
class Attributes:
    """The attributes that a device reports about itself; None for an attribute that was not reported."""

    image: bytes | None = None
    version: str | None = None
    hardware: str | None = None


@dataclass(frozen=True)
class FileHashes:
    """The hashes of a proven file in hexadecimal, as a DDI document contains them.

    A client checks one or more of these hashes; SWUpdate checks the SHA-1.
    """

    sha1: str
    md5: str
    sha256: str


def read_feedback(raw: bytes) -> Feedback:
    """Read the feedback about an action.

    Raises:
        ValueError: the bytes are not a feedback document of DDI.
    """
    try:
        status = mapping(load_object(raw), "status")
        execution, result = text(status, "execution"), mapping(status, "result")
        details = status.get("details", [])
    except (ProposalError, KeyError, TypeError) as error:
        raise ValueError(f"the feedback is not valid: {_reason(error)}") from error

    finished = result.get("finished", "none")
    if execution not in _EXECUTIONS or finished not in _FINISHED:
        raise ValueError(f"the feedback has an unknown status: {execution!r:.40} with the result {finished!r:.40}")

    lines = details if isinstance(details, list) else [details]
    words = " ".join(" ".join(line.split()) for line in lines if isinstance(line, str))
    return Feedback(execution, finished, words[:_MAX_DETAILS])


def read_attributes(raw: bytes) -> Attributes:
    """Read the attributes that a device sends as ``configData``. Other attributes are ignored.

    Raises:
        ValueError: the bytes are not an attribute document of DDI, or an attribute that BlockOTA defines is malformed.
    """
    try:
        data = mapping(load_object(raw), "data")
        image, version, hardware = (text(data, name) if name in data else None for name in (IMAGE, VERSION, HARDWARE))
    except (ProposalError, KeyError, TypeError) as error:
        raise ValueError(f"the attributes are not valid: {_reason(error)}") from error
    if image is not None and not _DIGEST.fullmatch(image):
        raise ValueError(f"the attribute {IMAGE} is not a SHA-256 in lower-case hexadecimal")
    return Attributes(bytes.fromhex(image) if image else None, version, hardware)


def read_range(header: str, size: int) -> tuple[int, int] | None:
    """Read the header ``Range`` (RFC 9110, section 14.2) for a file of a given size.

    Returns:
        The offset of the first byte, and the offset after the last byte; None if the header must be ignored.

    Raises:
        ValueError: the range lies outside of the file.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None

    if first:
        start, stop = int(first), int(last) + 1 if last else size
    else:  # the last bytes of the file
        start, stop = max(size - int(last), 0), size
    if start >= size:
        raise ValueError("the range lies outside of the file")
    return start, min(stop, size)


def polling(base: str, *, pause: str, job: int | None, canceled: int | None, asks_attributes: bool) -> dict[str, Any]:
    """Return the answer to a poll.

    While an update must wait, the answer contains no link to the update. DDI could also announce a waiting update with
    a closed maintenance window and ``update: skip``, but SWUpdate would report this update as installed.

    Args:
        base: URL of the device's resource.
        pause: time between two polls, in the form ``HH:MM:SS``.
        job: number of the offer; None if no offer exists.
        canceled: number of an action that the device must cancel; None if no such action exists.
        asks_attributes: whether the device must send its attributes.
    """
    links: dict[str, Any] = {}
    if asks_attributes:
        links["configData"] = {"href": f"{base}/configData"}
    if canceled is not None:
        links["cancelAction"] = {"href": f"{base}/cancelAction/{canceled}"}
    elif job is not None:
        links["deploymentBase"] = {"href": f"{base}/deploymentBase/{job}"}
    return {"config": {"polling": {"sleep": pause}}, "_links": links}


def deployment(base: str, offer: DeviceOffer, hashes: FileHashes) -> dict[str, Any]:
    """Return the deployment document of an offer, with one artifact."""
    name = file_name(offer)
    link = {"href": f"{base}/softwaremodules/{offer.job}/artifacts/{name}"}
    artifact = {
        "filename": name,
        "hashes": {"sha1": hashes.sha1, "md5": hashes.md5, "sha256": hashes.sha256},
        "size": offer.size,
        "_links": {"download": link, "download-http": link},
    }

    chunk = {
        "part": "os",
        "version": str(offer.release.version),
        "name": offer.release.product,
        "artifacts": [artifact],
    }
    modes = {"download": "forced", "update": "forced"}
    return {"id": str(offer.job), "deployment": {**modes, "chunks": [chunk]}}


def cancellation(action: int) -> Mapping[str, Any]:
    """Return the document that requests a device to cancel an action."""
    return {"id": str(action), "cancelAction": {"stopId": str(action)}}


def file_name(offer: DeviceOffer) -> str:
    """Return the name of the artifact of an offer."""
    ending = {"swu": "swu", "stm32": "bin", "mcuboot": "bin"}.get(offer.container, "img")
    return f"firmware-{offer.release.version}.{ending}"


def _reason(error: Exception) -> str:
    if isinstance(error, ProposalError):
        return error.why or error.what
    return f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
