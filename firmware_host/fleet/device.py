"""A simulated Linux device that implements the DDI API of Eclipse hawkBit, without any code of the gateway.

The device polls at the interval that the server sets. The device downloads the image of an action, checks the SHA-256,
restarts after a random time of at most one poll interval, and then reports the outcome. The attribute
``blockota.image`` names the SHA-256 of the running image.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

_ANSWER, _RETRY, _POLL = 20.0, 5.0, 60.0
"""Seconds after which an answer counts as lost, seconds before a failed exchange is repeated, and seconds between two
polls unless the server asks for another time."""
_SLEEP = re.compile(r"([0-9]{2}):([0-5][0-9]):([0-5][0-9])", re.ASCII)
_CLOSED = "closed"


class Conduct(StrEnum):
    """What a device does with an update."""

    STEADY = "steady"
    """Installs it."""
    FLAKY = "flaky"
    """Installs it at the second try."""
    BROKEN = "broken"
    """Fails at each try."""
    REFUSING = "refusing"
    """Rejects it."""
    REVERTING = "reverting"
    """Installs it, and returns to the former image."""
    LYING = "lying"
    """Reports a success without loading the image."""
    POSING = "posing"
    """Also polls once under the number of another device, and installs it."""
    MODIFIED = "modified"
    """Runs an image that no vendor published, and installs the update."""


@dataclass(frozen=True)
class FleetMember:
    """A line of the file.

    Attributes:
        number: the number of the device at the server.
        token: its token.
        image: SHA-256 of the device's first image, in hexadecimal.
        conduct: what the device does with an update.
    """

    number: int
    token: str
    image: str
    conduct: Conduct = Conduct.STEADY

    @classmethod
    def parse(cls, line: str) -> FleetMember:
        """Parse a line of the file.

        Raises:
            ValueError: the line does not describe a device.
        """
        fields = json.loads(line)
        kinds = {"number": int, "token": str, "image": str, "conduct": str}
        found = fields if isinstance(fields, dict) else {}
        if wrong := [name for name, kind in kinds.items() if not isinstance(found.get(name), kind)]:
            raise ValueError(f"the field {wrong[0]!r} is missing, or has another type")
        return cls(fields["number"], fields["token"], fields["image"], Conduct(fields["conduct"]))


class DdiLine:
    """A connection of a device to the server, for one visit.

    Args:
        url: the server, with the tenant.
        number: the number of the device.
        token: its token.
    """

    def __init__(self, url: str, number: int, token: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=_ANSWER)
        self.root = f"{place.path}/controller/v1/{number}"
        self._headers = {"Authorization": f"TargetToken {token}"}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, path: str, method: str = "GET", value: Any = None) -> bytes:
        """Send a request, with `value` as its JSON body if a value is given.

        Returns:
            The body of the answer; empty for a status other than 200.

        Raises:
            OSError: the connection was lost.
            http.client.HTTPException: the answer is not HTTP.
        """
        body = None if value is None else json.dumps(value).encode()
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        found = answer.read()
        return found if answer.status == HTTPStatus.OK else b""

    def document(self, path: str) -> Mapping[str, Any]:
        """Return a JSON object; empty for a status other than 200."""
        found: Mapping[str, Any] = json.loads(self.ask(path) or b"{}")
        return found

    def identify(self, image: str) -> None:
        """Name the running image."""
        self.ask(f"{self.root}/configData", "PUT", {"mode": "merge", "data": {"blockota.image": image}})

    def feedback(self, link: str, execution: str, finished: str, *details: str) -> None:
        """Send feedback about an action."""
        status = {"execution": execution, "result": {"finished": finished}, "details": details}
        self.ask(f"{link}/feedback", "POST", {"id": link.rpartition("/")[2], "status": status})


class SimulatedDevice:
    """One device.

    Args:
        url: the server, with the tenant.
        settings: the device.
    """

    def __init__(self, url: str, settings: FleetMember) -> None:
        self._url, self._settings = url, settings
        self._draw = random.Random(settings.number)  # noqa: S311 - a simulation
        self._image = settings.image
        if settings.conduct is Conduct.MODIFIED:
            self._image = hashlib.sha256(settings.image.encode()).hexdigest()
        self._sleep = _POLL
        self._tries = 0
        self._lied: set[str] = set()
        self._restarting: tuple[str, str] | None = None  # the action, and the SHA-256 of the image that starts

    def visit(self) -> float:
        """Poll the server, or report the outcome of an update; return the number of seconds until the next visit."""
        try:
            with closing(DdiLine(self._url, self._settings.number, self._settings.token)) as line:
                return self._restarted(line) if self._restarting else self._poll(line)
        except (OSError, http.client.HTTPException):
            return _RETRY * (1 + self._draw.random())

    def _poll(self, line: DdiLine) -> float:
        answer = line.document(line.root)
        if match := _SLEEP.fullmatch(answer.get("config", {}).get("polling", {}).get("sleep", "")):
            hours, minutes, seconds = map(int, match.groups())
            self._sleep = float(3600 * hours + 60 * minutes + seconds)

        links = answer.get("_links", {})
        if "configData" in links:
            line.identify(self._image)
        if "cancelAction" in links:
            line.feedback(_path(links["cancelAction"]), _CLOSED, "success")
        if "deploymentBase" in links:
            return self._update(line, _path(links["deploymentBase"]))
        return self._sleep

    def _update(self, line: DdiLine, link: str) -> float:
        """Perform an action, and return the seconds until the device restarts or polls again."""
        conduct = self._settings.conduct
        chunks = line.document(link).get("deployment", {}).get("chunks", [])
        if not chunks or link in self._lied:  # the action is over, or waits for an image that this device never loads
            return self._sleep
        if conduct is Conduct.LYING:
            self._lied.add(link)
            line.feedback(link, _CLOSED, "success")
            return self._sleep
        if conduct is Conduct.REFUSING:
            line.feedback(link, "rejected", "failure", "the battery is at 9 %, and no charger is connected")
            return self._sleep
        if conduct is Conduct.POSING and not self._tries:
            with closing(DdiLine(self._url, self._settings.number + 1, self._settings.token)) as other:
                other.ask(other.root)

        self._tries += 1
        [artifact] = chunks[0]["artifacts"]
        digest = hashlib.sha256(line.ask(_path(artifact["_links"]["download-http"]))).hexdigest()
        if digest != artifact["hashes"]["sha256"]:
            line.feedback(link, _CLOSED, "failure", "the loaded image has another SHA-256")
            return self._sleep
        line.feedback(link, "proceeding", "none", "the image is loaded, and starts next")
        self._restarting = (link, digest)
        return self._sleep * self._draw.uniform(0.1, 1)

    def _restarted(self, line: DdiLine) -> float:
        """Report the outcome of an installation after the restart."""
        link, image = self._restarting or ("", "")
        conduct = self._settings.conduct

        if conduct is Conduct.BROKEN or (conduct is Conduct.FLAKY and self._tries == 1):
            line.feedback(link, _CLOSED, "failure", "the boot loader found a bad block in slot B")
        else:
            if conduct is not Conduct.REVERTING:
                self._image = image
            line.feedback(link, _CLOSED, "success")
            line.identify(self._image)

        self._restarting = None  # after the exchange: it is repeated if the connection was lost
        return self._sleep


def _path(link: Mapping[str, str]) -> str:
    return urlsplit(link["href"]).path
