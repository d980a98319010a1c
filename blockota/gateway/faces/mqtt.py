"""The face for devices with IP.

The face uses AWS IoT Jobs, Device Shadow and events, through an MQTT broker. The message with a device's next job is
retained, so that a device that was off line receives it later. The face publishes all notices again after each
connection, in case the broker has lost them. A request is answered on ``…/accepted`` or ``…/rejected`` after the core
has written the request's contents to the disk. A device repeats a request that is not answered.

Every entry of the log is published for management systems, in the order of the log. A broker that is killed may lose
the messages of its last half minute. The face therefore stores the index that it had reached one minute earlier. After
each connection, the face publishes again from this index. A subscriber must ignore an entry whose index it has already
received.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from blockota.errors import BlockOTAError, MessagingError, RefusedError
from blockota.gateway.core import Core, DeviceOffer
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.mqtt_documents import DocumentMaker
from blockota.gateway.faces.mqtt_jobs import JobDesk, RejectedRequestError
from blockota.gateway.faces.mqtt_probe import PROBE, check_access
from blockota.gateway.faces.mqtt_shadows import INVALID, ShadowDesk
from blockota.gateway.faces.mqtt_state import ThingStore
from blockota.gateway.faces.mqtt_things import ThingMessages
from blockota.gateway.limits import RateLimit
from blockota.identity.identity_key import open_identity_key
from blockota.messaging.accounts import BROKER, BrokerAccount
from blockota.messaging.client import (
    BrokerConnection,
    Connect,
    Message,
    connected,
    keep_connected,
    publish_all,
)
from blockota.messaging.documents import RejectCode, client_token
from blockota.messaging.mosquitto import GATEWAY, BrokerFiles
from blockota.messaging.topics import (
    SUBSCRIPTIONS,
    RequestKind,
    RequestTopic,
    ThingEvent,
    event_accepted,
    event_answers,
    event_refused,
    is_held,
    notify_next,
    parse_object,
    shadow_delta,
    site_event,
    site_events,
)
from blockota.settings_table import SettingsTable

STATE_NAME = "mqtt.sqlite"
SAVED_AFTER = 60
"""Seconds after which a broker has written a message to its disk: twice the interval in `blockota.messaging.mosquitto`.
"""
_WINDOW, _MAX_IN_WINDOW = 10, 60
"""The length of the time window in seconds, and a device's maximum number of messages in one window. A device that
exceeds the maximum is not answered until the next window.
"""
_AT_WORK, _FEED_PAUSE = 512, 1.0
_CHANGING = ("nonce", "delta", "order", "notBefore", "deadline")
"""The fields that can change in the document of a job."""
_SHADOW_KINDS = (RequestKind.SHADOW_GET, RequestKind.SHADOW_UPDATE)


def create(table: SettingsTable, context: FaceContext) -> MqttFace:
    """Create the face from its settings.

    Raises:
        UsageError: a setting cannot be used.
        RefusedError: the key of the identity cannot be used.
        StoreError: the face's state cannot be opened.
    """
    table.known("broker", "files", "authority", "password", "images", "devices")
    addresses = _addresses(table)
    files = BrokerFiles(table.path("files") or context.folder / "mqtt")
    authority = table.path("authority") or files.authority
    images = table.required("images", example="https://gateway.example:8443/images/").rstrip("/")
    if not images.startswith("https://"):
        raise table.unusable("images", f"{images!r:.80} does not begin with https://")
    for name in (GATEWAY, PROBE):  # files that are missing are reported at the start
        files.secret(name)
    key = open_identity_key(context.identity_key, environment=os.environ) if context.identity_key else None

    def connect(name: str) -> AbstractAsyncContextManager[BrokerConnection]:
        if name == GATEWAY:  # the next node of a cluster, whenever the connection was lost
            addresses.rotate(-1)
        password = files.secret(name) if name else ""
        return connected(BrokerAccount(*addresses[0], name, password, authority, is_persistent=name == GATEWAY))

    return MqttFace(
        context,
        BrokerAccess(partial(connect, GATEWAY), partial(connect, PROBE), partial(connect, ""), files.forget),
        DocumentMaker(context.identity, key, lambda digest: f"{images}/{digest.hex()}"),
    )


def _addresses(table: SettingsTable) -> deque[tuple[str, int]]:
    """Return the addresses of the broker, or of the nodes of a cluster."""
    if not isinstance(table.values.get("broker"), list):
        return deque([table.address("broker", BROKER)])
    nodes = [SettingsTable(table.name, {"broker": one}, table.folder) for one in table.texts("broker")]
    if not nodes:
        raise table.unusable("broker", "the list is empty")
    return deque(node.address("broker", BROKER) for node in nodes)


@dataclass(frozen=True)
class BrokerAccess:
    """The functions by which the face connects to the broker and manages credentials.

    Attributes:
        as_gateway: connects as the gateway.
        as_probe: connects as the probe of `blockota.gateway.faces.mqtt_probe`.
        as_stranger: connects without a user name.
        forget: removes the broker credentials of a device, if the device has credentials.
    """

    as_gateway: Connect
    as_probe: Connect
    as_stranger: Connect
    forget: Callable[[int], None]


class MqttFace:
    """The face that serves devices through an MQTT broker.

    Args:
        context: the objects that the gateway's service passes to the face.
        broker: the access to the broker.
        documents: creates the documents that describe offers.
    """

    name = "mqtt"

    def __init__(self, context: FaceContext, broker: BrokerAccess, documents: DocumentMaker) -> None:
        self._context, self._broker, self._documents = context, broker, documents
        self._store = ThingStore(context.folder / STATE_NAME)
        self._changed: set[int] = set()
        self._wake = asyncio.Event()
        self._limit = RateLimit(_MAX_IN_WINDOW, seconds=_WINDOW)
        self._published: deque[tuple[int, int]] = deque()

    def offer_changed(self, device: int) -> None:
        """Mark a device for notification."""
        self._changed.add(device)
        self._wake.set()

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> NoReturn:
        """Serve devices until the task is cancelled.

        The face reconnects after each loss of the connection to the broker.

        Raises:
            RefusedError: the broker lets a device read or send another device's messages.
        """
        on_ready()
        await keep_connected(
            self._broker.as_gateway,
            partial(self._serve, core),
            note=lambda error: self._context.log(self.name, "disconnected", why=error.why),
        )

    async def _serve(self, core: Core, connection: BrokerConnection) -> None:
        """Serve one connection.

        Raises:
            MessagingError: the connection was lost.
            RefusedError: the broker lets a device read or send another device's messages.
        """
        connection.hold(is_held)
        for topic in SUBSCRIPTIONS:
            if not await connection.subscribe(topic):
                raise MessagingError(
                    "the message broker is not ready", why=f"the broker refuses the subscription to {topic}"
                )
        early = await check_access(connection, self._broker.as_probe, self._broker.as_stranger)
        self._context.log(self.name, "connected")

        parts = core, self._store, self._documents, self._context.clock
        desks = JobDesk(*parts), ShadowDesk(*parts)
        session = _MqttRequests(core, connection, self._context, desks, self._limit)
        things = ThingMessages(core, connection, self._context)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._notify(session, core))
                tasks.create_task(self._feed(connection))
                tasks.create_task(session.read(early, things, tasks))
                tasks.create_task(things.send_commands())
        except ExceptionGroup as errors:
            # A lost connection ends all tasks, so another error is the cause.
            causes = [error for error in errors.exceptions if not isinstance(error, MessagingError)]
            raise (causes or list(errors.exceptions))[0] from errors

    async def _notify(self, session: _MqttRequests, core: Core) -> NoReturn:
        """Publish the notices for all devices once, and then for each device when its offer changes."""
        self._changed.update(core.numbers())
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            for number in changed:
                device = core.device(number)
                if device and device.is_banned:
                    self._broker.forget(number)

            await publish_all(
                session.connection, [one for number in sorted(changed) for one in session.notices(number)]
            )

    async def _feed(self, connection: BrokerConnection) -> NoReturn:
        """Publish the entries of the log."""
        topic, index = site_events(self._context.identity), self._store.published
        self._published.clear()
        while True:
            entries: Sequence[bytes]
            try:
                entries = await asyncio.to_thread(self._context.entries, index)
            except BlockOTAError as error:  # devices are served all the same
                self._context.log(self.name, "not published", why=error.why or error.what)
                entries = ()

            await publish_all(
                connection, [Message(topic, site_event(index + place, entry)) for place, entry in enumerate(entries)]
            )

            index += len(entries)
            self._keep_published(index)
            if not entries:
                await asyncio.sleep(_FEED_PAUSE)

    def _keep_published(self, index: int) -> None:
        now = self._context.clock()
        if not self._published or self._published[-1][1] != index:
            self._published.append((now, index))
        while self._published and self._published[0][0] <= now - SAVED_AFTER:
            _, saved = self._published.popleft()
            # These messages are on the broker's disk by now, and need not be published again after a restart.
            if saved > self._store.published:
                self._store.put_published(saved)


class _MqttRequests:
    """Answers the requests that arrive on one connection."""

    def __init__(
        self,
        core: Core,
        connection: BrokerConnection,
        context: FaceContext,
        desks: tuple[JobDesk, ShadowDesk],
        limit: RateLimit,
    ) -> None:
        self.connection = connection
        self._core, self._context, self._limit = core, context, limit
        self._jobs, self._shadows = desks
        self._turns: dict[int, asyncio.Task[None]] = {}
        self._told: dict[int, object] = {}

        self._answers: Mapping[RequestKind, Callable[[RequestTopic, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            RequestKind.START_NEXT: lambda topic, fields: self._jobs.start_next(topic.thing, fields),
            RequestKind.GET_PENDING: lambda topic, fields: self._jobs.pending(topic.thing, fields),
            RequestKind.DESCRIBE: lambda topic, fields: self._jobs.describe(topic.thing, topic.job, fields),
            RequestKind.UPDATE: lambda topic, fields: self._jobs.update(topic.thing, topic.job, fields),
            RequestKind.SHADOW_GET: lambda topic, fields: self._shadows.get(topic.thing, fields),
            RequestKind.SHADOW_UPDATE: lambda topic, fields: self._shadows.update(topic.thing, fields),
        }

    def notices(self, number: int) -> list[Message]:
        """Return the notices for a device: its next job if the job has changed, and configurations that it lacks."""
        device = self._core.device(number)
        if device is None:
            return []
        found: list[Message] = []

        offers = [] if device.is_banned else self._core.offers(number)
        execution = self._jobs.next_job(number, offers)
        document = execution["jobDocument"] if execution else {}
        told = (execution["jobId"], *map(document.get, _CHANGING)) if execution else ()

        # The broker keeps the last notice, so an unchanged notice is not published again.
        if self._told.get(number) != told:
            self._told[number] = told
            payload = {"timestamp": self._context.clock()} | ({"execution": execution} if execution else {})
            found.append(Message(notify_next(number), _json(payload), is_retained=True))
        return found if device.is_banned else found + self._delta(number, offers)

    def _delta(self, number: int, offers: list[DeviceOffer] | None = None) -> list[Message]:
        shadow = self._shadows.refresh(number, offers)
        if not shadow.delta:
            return []
        fields = {"version": shadow.version, "timestamp": self._context.clock(), "state": shadow.delta}
        return [Message(shadow_delta(number), _json(fields))]

    async def read(self, early: list[Message], things: ThingMessages, tasks: asyncio.TaskGroup) -> None:
        """Answer requests.

        The requests of one device are answered in order. Requests of several devices are answered concurrently.
        """
        at_work = asyncio.Semaphore(_AT_WORK)

        async def in_turn(before: asyncio.Task[None] | None, topic: RequestTopic, payload: bytes) -> None:
            try:
                if before:
                    await asyncio.wait([before])
                await self._answer(topic, payload)
            finally:
                at_work.release()

        async def take(message: Message) -> None:
            if is_held(message.topic):
                await things.take(message, tasks)
                return

            topic = await self._admitted(message)
            if topic is None:
                return
            if topic.kind is RequestKind.EVENT:  # it waits for the log
                tasks.create_task(self._event(topic.thing, message.payload))
                return

            await at_work.acquire()
            task = tasks.create_task(in_turn(self._turns.get(topic.thing), topic, message.payload))
            self._turns[topic.thing] = task
            task.add_done_callback(partial(self._end_turn, topic.thing))

        for message in early:
            await take(message)
        async for message in self.connection.messages():
            await take(message)

    def _end_turn(self, thing: int, task: asyncio.Task[None]) -> None:
        if self._turns.get(thing) is task:
            del self._turns[thing]

    async def _admitted(self, message: Message) -> RequestTopic | None:
        """Return the topic of a request; None for a message that must not be answered.

        For most of the messages that must not be answered, a warning is logged.
        """
        try:
            topic = RequestTopic.parse(message.topic)
        except ValueError as error:
            await self._core.warn(None, str(error))
            return None

        device = self._core.device(topic.thing)
        if device is None:
            # Before the first reading of the devices, a device does not count as unknown. It repeats its request.
            has_read = next(self._core.numbers(), None) is not None
            if has_read and str(topic.thing) != PROBE:
                await self._core.warn(None, f"a message in the name of device {topic.thing}, which is not of this site")
            return None

        reason = ""
        if device.is_banned:
            reason = "a message of a banned device"
        elif message.is_retained:
            reason = "a retained request, which would be repeated for ever"
        elif not self._limit.take(topic.thing, self._context.clock()):
            reason = f"more than {_MAX_IN_WINDOW} messages in {_WINDOW} seconds"
        if reason:
            await self._core.warn(topic.thing, reason)
            return None
        return topic

    async def _answer(self, topic: RequestTopic, payload: bytes) -> None:
        """Process a request, and publish the answer on the topic for accepted or for rejected requests."""
        token: dict[str, str] = {}
        try:
            fields = parse_object(payload)
            token = client_token(fields)
            answer = await self._answers[topic.kind](topic, fields)
        except RejectedRequestError as error:
            if error.is_warned:
                await self._core.warn(topic.thing, error.why)
            await self._reject(topic, error.code, error.why, {**error.fields, **token})
        except (ValueError, TypeError) as error:
            await self._core.warn(topic.thing, f"a request to {topic.kind} is refused: {error}")
            await self._reject(topic, _code(topic, RejectCode.INVALID_REQUEST), str(error), token)
        except BlockOTAError as error:  # the core has logged it, if it is the device's fault
            code = RejectCode.INVALID_REQUEST if isinstance(error, RefusedError) else RejectCode.INTERNAL
            await self._reject(topic, _code(topic, code), error.why or error.what, token)
        except Exception as error:  # noqa: BLE001 - a defect in the answer to one device must not stop the others
            self._context.log("mqtt", "failed", device=topic.thing, why=f"{type(error).__name__}: {error}")
            await self._reject(topic, _code(topic, RejectCode.INTERNAL), "the gateway failed", token)
        else:
            fields = {"timestamp": self._context.clock(), **token, **answer}
            await self.connection.publish(topic.accepted, _json(fields))
            if topic.kind is RequestKind.SHADOW_UPDATE:
                await publish_all(self.connection, self._delta(topic.thing))

    async def _reject(self, topic: RequestTopic, code: object, why: str, fields: Mapping[str, Any]) -> None:
        answer = {"code": code, "message": why, "timestamp": self._context.clock(), **fields}
        await self.connection.publish(topic.rejected, _json(answer))

    async def _event(self, thing: int, payload: bytes) -> None:
        try:
            event = ThingEvent.decode(payload)
        except ValueError as error:
            await self._core.warn(thing, f"an event is refused: {error}")
            return

        try:
            index = await self._core.event(thing, text=event.text, statement=event.statement, counter=event.seq)
            answer = event_accepted(event.seq, index)
        except RefusedError as error:
            answer = event_refused(event.seq, error.why or error.what)
        except BlockOTAError as error:  # the device repeats an event that is not answered
            self._context.log("mqtt", "failed", device=thing, why=error.why or error.what)
            return

        await self.connection.publish(event_answers(thing), answer)


def _code(topic: RequestTopic, code: RejectCode) -> object:
    """Return the code of a rejection. As in AWS, the code is a word for jobs, and a number for shadows."""
    if topic.kind not in _SHADOW_KINDS:
        return code
    return INVALID if code is not RejectCode.INTERNAL else 500


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
