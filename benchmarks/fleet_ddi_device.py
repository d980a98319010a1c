"""A Linux device with a DDI client over HTTPS: it polls, downloads its image in one or more parts, and sends feedback.

The device reports the SHA-256 of its running image in the attribute ``blockota.image``. If a feedback reports success
without this attribute, it does not count as a report of the running image.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from benchmarks.fleet_diary import DeviceFault, DeviceStart, FleetDevice, FleetRelease
from benchmarks.fleet_http import FleetAnswer, FleetConnection
from blockota.model.receipt import EntryKind, EvidenceLevel

_POLL, _FLOOD, _AWAY = 0.7, 5, 0.3
_SPOILED = (b'{"id": "1", "status": {"exec', b'{"status": {}, "status": {}}', b"\xff\x00", b"[]", b"{}")


class SimulatedDdiDevice(FleetDevice):
    """The device.

    Args:
        start: the initial state of the device.
        token: the device's DDI token.
        port: the port of the face.
    """

    face = "ddi"
    FAULTS: tuple[DeviceFault, ...] = (
        *(
            DeviceFault.RESET_TRANSFER,
            DeviceFault.LOST_ANSWER,
            DeviceFault.SPOILED_MESSAGE,
            DeviceFault.DUPLICATE,
            DeviceFault.SPOILED_IMAGE,
        ),
        *(
            DeviceFault.REFUSAL,
            DeviceFault.BARE_CLAIM,
            DeviceFault.NOT_FETCHED,
            DeviceFault.WRONG_VERSION,
            DeviceFault.OTHER_DEVICE,
            DeviceFault.OTHER_JOB,
        ),
    )

    def __init__(self, start: DeviceStart, token: str, port: int) -> None:
        super().__init__(start)
        self._root = f"/default/controller/v1/{self.number}"
        self._http = FleetConnection(port, {"Authorization": f"TargetToken {token}"})
        self._injections: Mapping[DeviceFault, Callable[[FleetRelease], Awaitable[None]]] = {
            DeviceFault.SPOILED_MESSAGE: self._send_spoiled,
            DeviceFault.WRONG_VERSION: self._state_wrong_version,
            DeviceFault.OTHER_DEVICE: self._pose,
            DeviceFault.OTHER_JOB: self._answer_other_job,
        }

    async def start(self) -> None:
        """Report the image that the device runs before its first update."""
        await self._report()

    async def inject(self, fault: DeviceFault, release: FleetRelease) -> bool:
        """Inject the fault if it is independent of an update; return whether the fault was injected."""
        if fault not in self._injections:
            return False
        await self._injections[fault](release)
        return True

    async def attempt(self, release: FleetRelease, fault: DeviceFault | None, *, is_last: bool) -> bool:
        """Take the action once. All tries except the last fail."""
        link, artifact = await self._action(release)
        if fault is DeviceFault.REFUSAL:
            text = self.text(fault)
            if await self._feedback(link, "rejected", "failure", text):
                self.note_text(EntryKind.REFUSAL, text)
                self.diary.given_up.add(release.sha256)
                return True
            return False
        if fault is DeviceFault.NOT_FETCHED:
            await self._feedback(link, "closed", "success")
        image = await self._fetch(artifact, is_cut=fault is DeviceFault.RESET_TRANSFER)
        if not image:
            return False
        if fault is DeviceFault.SPOILED_IMAGE:
            image = self.spoiled(image)
        is_whole = hashlib.sha256(image).digest() == release.sha256
        if fault is not DeviceFault.SPOILED_IMAGE and not is_whole:
            self.diary.unverified += 1  # the gateway served other bytes
        if fault is DeviceFault.BARE_CLAIM:
            await self._feedback(link, "closed", "success")
            await self._report()
        elif is_last and is_whole:
            await self._feedback(link, "proceeding", "none")
            self.install(release.version, image)
            await self._feedback(link, "closed", "success", fault=fault)
            await self._report()
        else:
            text = self.text(fault or "failed")
            if await self._feedback(link, "closed", "failure", text, fault=fault):
                self.note_text(EntryKind.EVENT, text)
        return True

    async def _action(self, release: FleetRelease) -> tuple[str, dict[str, Any]]:
        """Poll until a release is offered, and request its action."""
        while True:
            links = (await self._document(self._root)).get("_links", {})
            if "configData" in links:
                await self._report()
            if "cancelAction" in links:
                await self._feedback(_path(links["cancelAction"]["href"]), "closed", "success")
            if "deploymentBase" in links:
                link = _path(links["deploymentBase"]["href"])
                chunks = (await self._document(link)).get("deployment", {}).get("chunks", [])
                if chunks and chunks[0]["version"] == release.version:
                    [artifact] = chunks[0]["artifacts"]
                    return link, artifact
            await asyncio.sleep(_POLL * (1 + self.draw.random()))

    async def _document(self, path: str) -> dict[str, Any]:
        answer = await self._ask(path)
        found: dict[str, Any] = json.loads(answer.body) if answer.status == HTTPStatus.OK else {}
        return found

    async def _fetch(self, artifact: Mapping[str, Any], *, is_cut: bool) -> bytes:
        path, size, found = _path(artifact["_links"]["download-http"]["href"]), artifact["size"], b""
        while len(found) < size:
            headers = {"Range": f"bytes={len(found)}-"} if found else {}
            answer = await self._ask(path, headers=headers, cut_after=size // 2 if is_cut else None)
            is_cut = False
            if answer.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                return b""  # the action is over
            found += answer.body
        return found

    async def _report(self) -> None:
        """Send attributes that name the running image."""
        release = self.runs
        await self._send_attributes(release.sha256, release.version)
        self.note_report(release.sha256, EvidenceLevel.B)

    async def _send_attributes(self, image: bytes, version: str) -> int:
        data = {"blockota.image": image.hex(), "blockota.version": version}
        body = json.dumps({"mode": "merge", "data": data}).encode()
        return (await self._ask(f"{self._root}/configData", "PUT", body)).status

    async def _feedback(
        self, link: str, execution: str, finished: str, *details: str, fault: DeviceFault | None = None
    ) -> bool:
        """Send feedback, and return whether the gateway accepted it."""
        status = {"execution": execution, "result": {"finished": finished}, "details": details}
        body = json.dumps({"id": "1", "status": status}).encode()
        if fault is DeviceFault.LOST_ANSWER:
            await self._ask(f"{link}/feedback", "POST", body, cut_after=-1)
        answer = await self._ask(f"{link}/feedback", "POST", body)
        if fault is DeviceFault.DUPLICATE:
            await self._ask(f"{link}/feedback", "POST", body)
        return answer.status == HTTPStatus.OK

    async def _ask(self, path: str, method: str = "GET", body: bytes | None = None, **options: Any) -> FleetAnswer:
        """Send a request again and again until it is answered."""
        while True:
            with suppress(OSError, TimeoutError):
                answer = await self._http.ask(path, method, body, **options)
                is_flood = answer.status == HTTPStatus.TOO_MANY_REQUESTS and b"too many entries" in answer.body
                if answer.status != HTTPStatus.SERVICE_UNAVAILABLE and not is_flood:
                    return answer
                await asyncio.sleep(_FLOOD)
            await asyncio.sleep(_AWAY)

    async def _send_spoiled(self, _: FleetRelease) -> None:
        await self._ask(f"{self._root}/configData", "PUT", self.draw.choice(_SPOILED))
        await self._ask(f"{self._root}/deploymentBase/1/feedback", "POST", self.draw.choice(_SPOILED))

    async def _state_wrong_version(self, release: FleetRelease) -> None:
        if await self._send_attributes(self.runs.sha256, release.version) == HTTPStatus.OK:
            raise AssertionError("the gateway accepted a version that differs from the image's version")

    async def _pose(self, release: FleetRelease) -> None:
        root = self._root.replace(str(self.number), str(self.number + 1))
        body = json.dumps({"data": {"blockota.image": release.sha256.hex()}}).encode()
        if (await self._ask(f"{root}/configData", "PUT", body)).status != HTTPStatus.UNAUTHORIZED:
            raise AssertionError("the gateway accepted a message in the name of another device")

    async def _answer_other_job(self, _: FleetRelease) -> None:
        await self._feedback(f"{self._root}/deploymentBase/{self.draw.randrange(1, 1 << 31)}", "closed", "success")


def _path(url: str) -> str:
    return urlsplit(url).path
