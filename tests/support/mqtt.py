"""An MQTT broker in the process of a test, with the access rules that `blockota.messaging.mosquitto` writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from blockota.errors import MessagingError
from blockota.messaging.client import BrokerConnection, Message
from blockota.messaging.mosquitto import GATEWAY, MANAGEMENT

_DEVICE_WRITES = (
    *("$aws/things/{}/jobs/start-next", "$aws/things/{}/jobs/get", "$aws/things/{}/jobs/+/get"),
    *("$aws/things/{}/jobs/+/update", "$aws/things/{}/shadow/update", "$aws/things/{}/shadow/get"),
    *("blockota/v1/things/{}/events", "blockota/v1/things/{}/readings", "blockota/v1/things/{}/commands/ack"),
)
_DEVICE_READS = (
    *("$aws/things/{}/jobs/#", "$aws/things/{}/shadow/#", "blockota/v1/things/{}/events/ack"),
    *("blockota/v1/things/{}/readings/rejected", "blockota/v1/things/{}/commands"),
)
_RULES = {GATEWAY: ("$aws/things/#", "blockota/v1/#"), MANAGEMENT: ()}


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic matches a subscription (MQTT 3.1.1, section 4.7)."""
    levels, parts = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and levels[0] in ("+", "#"):
        return False
    for level, part in zip(levels, parts, strict=False):
        if level == "#":
            return True
        if level not in ("+", part):
            return False
    return len(levels) == len(parts) or levels[len(parts) :] == ["#"]


@dataclass
class FakeBroker:
    """An MQTT broker in the test process.

    Attributes:
        has_rules: whether the broker enforces access rules for devices.
        admits_strangers: whether the broker accepts clients without a user name.
        retained: the retained messages by topic.
        published: all messages, in order.
        clients: the connected clients by name.
    """

    has_rules: bool = True
    admits_strangers: bool = False
    retained: dict[str, bytes] = field(default_factory=dict)
    published: list[Message] = field(default_factory=list)
    clients: dict[str, FakeConnection] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def connect(self, name: str) -> AsyncIterator[FakeConnection]:
        """Connect a client."""
        if not name and not self.admits_strangers:
            raise MessagingError("the broker refuses the connection", why="the client has no name")
        client = self.clients[name] = FakeConnection(self, name)
        try:
            yield client
        finally:
            self.clients.pop(name, None)

    def allows(self, patterns: tuple[str, ...], name: str, topic: str) -> bool:
        """Whether a client has the right to use a topic."""
        if not self.has_rules:
            return True
        return any(matches(one.format(name), topic) for one in (*patterns, *_RULES.get(name, ())))

    def deliver(self, sender: str, message: Message) -> None:
        """Deliver a message to all clients that may receive it."""
        if "+" in message.topic or "#" in message.topic or not self.allows(_DEVICE_WRITES, sender, message.topic):
            return
        self.published.append(message)
        if message.is_retained:
            self.retained[message.topic] = message.payload
        for client in self.clients.values():
            client.take(Message(message.topic, message.payload))
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition is true. The condition is checked after each message."""
        async with asyncio.timeout(60):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def cut(self, name: str) -> None:
        """Cut the connection of a client."""
        self.clients[name].queue.put_nowait(None)


class FakeConnection:
    """A client of the fake broker.

    Attributes:
        unconfirmed: the messages that the client has not confirmed.
    """

    def __init__(self, broker: FakeBroker, name: str) -> None:
        self.broker, self.name = broker, name
        self.topics: list[str] = []
        self.unconfirmed: list[Message] = []
        self._is_held: Callable[[str], bool] = lambda _: False
        self.queue: asyncio.Queue[Message | None] = asyncio.Queue()

    async def subscribe(self, topic: str) -> bool:
        """Subscribe to a topic. Like mosquitto, the broker grants every subscription."""
        self.topics.append(topic)
        for retained, payload in self.broker.retained.items():
            self.take(Message(retained, payload, is_retained=True))
        return True

    async def publish(self, topic: str, payload: bytes, *, is_retained: bool = False) -> None:
        """Publish a message. Like mosquitto, the broker does not report that it drops a message."""
        await asyncio.sleep(0)
        self.broker.deliver(self.name, Message(topic, payload, is_retained))

    def hold(self, is_held: Callable[[str], bool]) -> None:
        """Confirm messages of some topics only when `release` is called."""
        self._is_held = is_held

    def release(self, message: Message) -> None:
        """Confirm a held message."""
        self.unconfirmed.remove(message)
        self.broker.changed.set()

    async def messages(self) -> AsyncIterator[Message]:
        """Yield messages until the connection is cut."""
        while (message := await self.queue.get()) is not None:
            if self._is_held(message.topic):
                self.unconfirmed.append(message)
                self.broker.changed.set()
            yield message
        raise MessagingError("the broker is out of reach", why="the test cut the connection")

    def take(self, message: Message) -> None:
        """Queue a message if the client may read its topic, and has subscribed to the topic."""
        allowed = self.broker.allows(_DEVICE_READS, self.name, message.topic)
        if allowed and any(matches(topic, message.topic) for topic in self.topics):
            self.queue.put_nowait(message)


class FakeThing:
    """A device that sends a request and waits for the response."""

    def __init__(self, connection: BrokerConnection, number: int) -> None:
        self.connection, self.number = connection, number
        self._messages = connection.messages()
        self._tokens = 0

    async def ask(self, end: str, **fields: Any) -> dict[str, Any]:
        """Send a request, such as ``jobs/start-next``, and return the fields of the response."""
        self._tokens += 1
        token = f"token {self._tokens}"
        return await self.ask_raw(end, json.dumps({"clientToken": token, **fields}).encode())

    async def ask_raw(self, end: str, payload: bytes) -> dict[str, Any]:
        """Send a payload, and return the fields of the response.

        The field ``topic`` contains the end of the response's topic.
        """
        topic = f"$aws/things/{self.number}/{end}"
        await self.connection.publish(topic, payload)
        message = await self.next(lambda one: one.topic.startswith(f"{topic}/"))
        return {**json.loads(message.payload), "topic": message.topic.rpartition("/")[2]}

    async def next(self, is_wanted: Callable[[Message], object]) -> Message:
        """Return the next message that matches the condition. Other messages are dropped."""
        async with asyncio.timeout(60):
            async for message in self._messages:
                if is_wanted(message):
                    return message
        raise AssertionError("the connection ended")


@asynccontextmanager
async def thing(broker: FakeBroker, number: int) -> AsyncIterator[FakeThing]:
    """Connect a device. The device subscribes to all topics that it may receive."""
    async with broker.connect(str(number)) as connection:
        for topic in _DEVICE_READS:
            await connection.subscribe(topic.format(number))
        yield FakeThing(connection, number)


async def while_running(task: Awaitable[object], work: Awaitable[None]) -> None:
    """Run a coroutine while a face runs. An exception of the coroutine or of the face is raised."""
    running, working = asyncio.ensure_future(task), asyncio.ensure_future(work)
    done, rest = await asyncio.wait([running, working], return_when=asyncio.FIRST_COMPLETED)
    for one in rest:
        one.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for one in done:
        one.result()
