"""A device that uses AWS's MQTT topics, verifies the gateway's signature and the image, and signs its reports.

The device repeats each request until it gets an answer, and reconnects whenever its session is lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.fleet_diary import DeviceFault, DeviceStart, FleetDevice, FleetRelease
from benchmarks.fleet_http import FleetConnection
from blockota.errors import MessagingError
from blockota.formats import cbor
from blockota.formats.jws import base64url, from_base64url
from blockota.gateway.faces.mqtt_documents import DOCUMENT_KIND
from blockota.messaging.accounts import BrokerAccount
from blockota.messaging.client import BrokerConnection, Message, connected
from blockota.messaging.topics import ThingEvent, event_answers
from blockota.model.receipt import POSTPONES, EntryKind, EvidenceLevel
from blockota.vendor.example import PRODUCT
from tests.support.receipts import SigningDevice
from tests.support.tokens import verify_token

_ANSWER, _NOTICE, _FLOOD = 10, 3, 5
_TOPICS = ("$aws/things/{}/jobs/#", "$aws/things/{}/shadow/#", "blockota/v1/things/{}/events/ack")
_SPOILED = (
    b'{"state": {"reported": {"firm',
    b'{"state": {}, "state": {}}',
    b"\xff\x00\x83",
    b"[]",
    b'{"clientToken": 7}',
)


@dataclass(frozen=True)
class BrokerPlace:
    """The address of the message broker, and the facts about the gateway that a device needs.

    Attributes:
        port: the port of the broker, or of the device's relay.
        password: the device's password.
        authority: the CA certificate of the broker.
        images: the gateway's HTTPS port for images.
        key: the gateway's public key.
        reset: a function that resets the connections of the device.
    """

    port: int
    password: str
    authority: Path
    images: int
    key: bytes
    reset: Callable[[], None] = lambda: None


class MqttDevice(FleetDevice):
    """The device.

    Args:
        start: the initial state of the device.
        place: the broker.
    """

    face = "mqtt"
    FAULTS: tuple[DeviceFault, ...] = (
        *(
            DeviceFault.RESET_TRANSFER,
            DeviceFault.RESET_SESSION,
            DeviceFault.LOST_ANSWER,
            DeviceFault.SPOILED_MESSAGE,
            DeviceFault.DUPLICATE,
        ),
        *(
            DeviceFault.SPOILED_IMAGE,
            DeviceFault.REFUSAL,
            DeviceFault.POSTPONEMENT,
            DeviceFault.ROLLBACK,
            DeviceFault.BARE_CLAIM,
            DeviceFault.FALSE_CLAIM,
        ),
        *(
            DeviceFault.WRONG_VERSION,
            DeviceFault.REPLAY,
            DeviceFault.FORGERY,
            DeviceFault.OTHER_DEVICE,
            DeviceFault.OTHER_JOB,
        ),
        *(DeviceFault.DOUBLED_EVENT, DeviceFault.CHANGED_EVENT),
    )

    def __init__(self, start: DeviceStart, place: BrokerPlace) -> None:
        super().__init__(start)
        self._place, self._http = place, FleetConnection(place.images)
        self._connection: BrokerConnection | None = None
        self.online, self._notified = asyncio.Event(), asyncio.Event()
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._acks: defaultdict[int, asyncio.Queue[list[Any]]] = defaultdict(asyncio.Queue)
        self._tokens = self._events = 0
        self._statements: list[tuple[bytes, bytes]] = []
        self._injections: Mapping[DeviceFault, Callable[[FleetRelease], Awaitable[None]]] = {
            DeviceFault.RESET_SESSION: self._reset_session,
            DeviceFault.SPOILED_MESSAGE: self._send_spoiled,
            DeviceFault.WRONG_VERSION: self._state_wrong_version,
            DeviceFault.REPLAY: self._replay,
            DeviceFault.FORGERY: self._forge,
            DeviceFault.OTHER_DEVICE: self._pose,
            DeviceFault.OTHER_JOB: self._answer_other_job,
            DeviceFault.DOUBLED_EVENT: self._send_event_twice,
            DeviceFault.CHANGED_EVENT: self._change_event,
        }

    async def live(self) -> NoReturn:
        """Stay connected."""
        place = self._place
        account = BrokerAccount("localhost", place.port, str(self.number), place.password, place.authority)
        while True:
            with suppress(MessagingError):
                async with connected(account) as connection:
                    for topic in _TOPICS:
                        await connection.subscribe(topic.format(self.number))
                    self._connection = connection
                    self.online.set()
                    async for message in connection.messages():
                        self._take(message)
            self.online.clear()
            await asyncio.sleep(0.2)

    async def start(self) -> None:
        """Report the image that the device runs before its first update."""
        await self.report()

    async def inject(self, fault: DeviceFault, release: FleetRelease) -> bool:
        """Inject the fault if it is independent of an update; return whether the fault was injected."""
        if fault not in self._injections:
            return False
        await self._injections[fault](release)
        return True

    async def report(self) -> None:
        """Report the running image with a signed statement."""
        nonce = await self._nonce()
        release = self.runs
        while True:
            _, raw = self.signer.state(release.sha256, nonce=nonce)
            answer = await self._report(release.sha256, version=release.version, receipt=base64url(raw))
            if answer["accepted"]:
                break
            nonce = await self._nonce()
        self._statements.append((release.sha256, raw))
        self.note_report(release.sha256, EvidenceLevel.A)

    async def attempt(self, release: FleetRelease, fault: DeviceFault | None, *, is_last: bool) -> bool:
        """Take the job once. All tries except the last fail."""
        job, document = await self._next_job(release)
        if fault in (DeviceFault.REFUSAL, DeviceFault.POSTPONEMENT):
            await (self._refuse if fault is DeviceFault.REFUSAL else self._postpone)(job, document)
        elif fault in (DeviceFault.BARE_CLAIM, DeviceFault.FALSE_CLAIM, DeviceFault.ROLLBACK):
            await self._claim(job, release, fault)
        else:
            image = await self._fetch(document, is_cut=fault is DeviceFault.RESET_TRANSFER)
            if fault is DeviceFault.SPOILED_IMAGE:
                image = self.spoiled(image)
            if is_last and hashlib.sha256(image).digest() == release.sha256:
                await self._succeed(job, document, image, fault)
                return True
            if fault is not DeviceFault.SPOILED_IMAGE and hashlib.sha256(image).digest() != release.sha256:
                self.diary.unverified += 1  # the gateway served other bytes
            await self._fail(job, fault)
        return True

    async def _next_job(self, release: FleetRelease) -> tuple[str, dict[str, Any]]:
        """Wait for the job of a release, start it, and check the gateway's signature on the job document."""
        while True:
            self._notified.clear()
            answer = await self.ask("jobs/start-next")
            execution = answer.get("execution") or {}
            document: dict[str, Any] = execution.get("jobDocument", {})
            if document.get("version") == release.version:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(_NOTICE):
                    await self._notified.wait()
        signed = verify_token(document["jws"], kind=DOCUMENT_KIND, key=self._place.key)
        own = {name: value for name, value in document.items() if name != "jws"}
        if not own.items() <= signed.items() or signed["thing"] != str(self.number):
            raise AssertionError(f"the gateway signed another document for {self.number}")
        return execution["jobId"], document

    async def _fetch(self, document: Mapping[str, Any], *, is_cut: bool) -> bytes:
        path, size = "/images/" + document["sha256"], document["size"]
        found = b""
        while len(found) < size:
            headers = {"Range": f"bytes={len(found)}-"} if found else {}
            with suppress(OSError):
                answer = await self._http.ask(path, headers=headers, cut_after=size // 2 if is_cut else None)
                if answer.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                    found += answer.body
            is_cut = False
            await asyncio.sleep(0.1 if len(found) < size else 0)
        return found

    async def _succeed(self, job: str, document: Mapping[str, Any], image: bytes, fault: DeviceFault | None) -> None:
        """Install the image, and report it with a signed statement."""
        self.install(document["version"], image)
        sha256 = self.runs.sha256
        _, raw = self.signer.state(sha256, nonce=from_base64url(document["nonce"]))
        details = {"sha256": sha256.hex(), "version": self.runs.version, "receipt": base64url(raw)}
        answer = await self._update(job, "SUCCEEDED", details, is_lost=fault is DeviceFault.LOST_ANSWER)
        if fault is DeviceFault.DUPLICATE:
            await self._update(job, "SUCCEEDED", details)
        if answer["accepted"]:
            self._statements.append((sha256, raw))
            self.note_report(sha256, EvidenceLevel.A)
        else:  # the nonce is older than two statements
            await self.report()

    async def _fail(self, job: str, fault: DeviceFault | None) -> None:
        text = self.text(fault or "failed")
        answer = await self._update(job, "FAILED", {"reason": text}, is_lost=fault is DeviceFault.LOST_ANSWER)
        if fault is DeviceFault.DUPLICATE:
            await self._update(job, "FAILED", {"reason": text})
        if answer["accepted"]:
            self.note_text(EntryKind.EVENT, text)

    async def _refuse(self, job: str, document: Mapping[str, Any]) -> None:
        text = self.text(DeviceFault.REFUSAL)
        if (await self._update(job, "REJECTED", {"reason": text}))["accepted"]:
            self.note_text(EntryKind.REFUSAL, text)
            self.diary.given_up.add(bytes.fromhex(document["sha256"]))

    async def _postpone(self, job: str, document: Mapping[str, Any]) -> None:
        text, details = self.text(DeviceFault.POSTPONEMENT), {"postponedUntil": str(int(time.time()) + 2)}
        if self.draw.random() < 1 / 2:
            nonce, image = from_base64url(document["nonce"]), bytes.fromhex(document["sha256"])
            details["receipt"] = base64url(self.signer.state(image, nonce=nonce, kind=POSTPONES)[1])
        if (await self._update(job, "IN_PROGRESS", {**details, "reason": text}))["accepted"]:
            self.note_text(EntryKind.POSTPONEMENT, text)

    async def _claim(self, job: str, release: FleetRelease, fault: DeviceFault) -> None:
        """Report a false success, and then report the old image with a signed statement."""
        if fault is DeviceFault.BARE_CLAIM:
            await self._update(job, "SUCCEEDED", {})
        elif fault is DeviceFault.ROLLBACK:
            _, raw = self.signer.state(release.sha256, nonce=await self._nonce())
            await self._report(release.sha256, confirmed=False, receipt=base64url(raw))
        elif (await self._report(release.sha256, version=release.version))["accepted"]:
            self.note_report(release.sha256, EvidenceLevel.B)
        await self.report()

    async def _reset_session(self, _: FleetRelease) -> None:
        self._place.reset()

    async def _send_spoiled(self, _: FleetRelease) -> None:
        for end in ("shadow/update", "jobs/start-next"):
            await self._publish(f"$aws/things/{self.number}/{end}", self.draw.choice(_SPOILED))
        await self._publish(f"blockota/v1/things/{self.number}/events", self.draw.randbytes(20))

    async def _state_wrong_version(self, release: FleetRelease) -> None:
        await self._report(self.runs.sha256, version=release.version)

    async def _replay(self, _: FleetRelease) -> None:
        if self._statements:
            image, raw = self.draw.choice(self._statements)
            await self._report(image, receipt=base64url(raw))

    async def _forge(self, release: FleetRelease) -> None:
        _, raw = SigningDevice(self.number).state(release.sha256, nonce=await self._nonce())
        await self._report(release.sha256, version=release.version, receipt=base64url(raw))

    async def _pose(self, release: FleetRelease) -> None:
        reported = {"firmware": {PRODUCT.name: {"sha256": release.sha256.hex()}}}
        payload = json.dumps({"state": {"reported": reported}}).encode()
        await self._publish(f"$aws/things/{self.number + 1}/shadow/update", payload)

    async def _answer_other_job(self, release: FleetRelease) -> None:
        await self._update(str(self.draw.randrange(1, 1 << 31)), "SUCCEEDED", {"sha256": release.sha256.hex()})

    async def _send_event_twice(self, _: FleetRelease) -> None:
        await self._event(self.text("alarm"), count=2)

    async def _change_event(self, _: FleetRelease) -> None:
        index = await self._event(self.text("alarm"), count=1)
        changed = ThingEvent(self._events, "alarm", 3, body=self.text("changed"))
        while (answer := await self._send_event(changed, 1))[1] is not None:
            if answer[1] != index:  # an equal index is a late answer to the first event
                raise AssertionError("the gateway accepted two different events with the same number")

    async def _event(self, text: str, *, count: int) -> int | None:
        self._events += 1
        event = ThingEvent(self._events, "alarm", 3, body=text)
        index: int | None = (await self._send_event(event, count))[1]
        if index is not None:
            self.note_text(EntryKind.EVENT, event.text, index)
        return index

    async def _send_event(self, event: ThingEvent, count: int) -> list[Any]:
        while True:
            for _ in range(count):
                await self._publish(f"blockota/v1/things/{self.number}/events", event.encode())
            with suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER):
                    answer = await self._acks[event.seq].get()
                    if answer[1] is None and "too many" in answer[2]:
                        await asyncio.sleep(_FLOOD)
                        continue
                    return answer

    async def _nonce(self) -> bytes:
        return from_base64url((await self.ask("shadow/get"))["state"]["desired"]["nonce"])

    async def _report(self, sha256: bytes, **fields: Any) -> dict[str, Any]:
        reported = {"firmware": {PRODUCT.name: {"sha256": sha256.hex(), **fields}}}
        return await self.ask("shadow/update", state={"reported": reported})

    async def _update(
        self, job: str, status: str, details: Mapping[str, str], *, is_lost: bool = False
    ) -> dict[str, Any]:
        fields = {"status": status, "statusDetails": dict(details)}
        return await self.ask(f"jobs/{job}/update", is_lost=is_lost, **fields)

    async def ask(self, end: str, *, is_lost: bool = False, **fields: Any) -> dict[str, Any]:
        """Send a request until it is answered; the returned answer has an additional field ``accepted``.

        Args:
            end: end of the topic.
            is_lost: whether the first answer is lost.
            fields: the request.
        """
        self._tokens += 1
        token = f"t{self._tokens}"
        payload = json.dumps({"clientToken": token, **fields}).encode()
        while True:
            answer = self._answers[token] = asyncio.get_running_loop().create_future()
            await self._publish(f"$aws/things/{self.number}/{end}", payload)
            if is_lost:
                is_lost = False
                self._place.reset()
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER):
                    found: dict[str, Any] = await answer
                    if not found["accepted"] and "too many entries" in found.get("message", ""):
                        await asyncio.sleep(_FLOOD)
                        continue
                    del self._answers[token]
                    return found

    async def _publish(self, topic: str, payload: bytes) -> None:
        """Publish a message, and repeat it if the connection was lost."""
        while True:
            await self.online.wait()
            with suppress(MessagingError):
                if self._connection:
                    await self._connection.publish(topic, payload)
                    return
            await asyncio.sleep(0.1)

    def _take(self, message: Message) -> None:
        if message.topic.endswith("/notify-next"):
            self._notified.set()
            return
        if message.topic == event_answers(self.number):
            match cbor.decode(message.payload):
                case [int(number), *_] as answer:
                    self._acks[number].put_nowait(answer)
            return
        end = message.topic.rpartition("/")[2]
        if end in ("accepted", "rejected"):
            fields = json.loads(message.payload)
            future = self._answers.get(fields.get("clientToken", ""))
            if future and not future.done():
                future.set_result({**fields, "accepted": end == "accepted"})
