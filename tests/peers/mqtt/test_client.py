"""The MQTT client with mosquitto: messages whose acknowledgement is delayed, and the end of a connection."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blockota.errors import MessagingError
from blockota.messaging.client import BrokerConnection, Message
from blockota.messaging.mosquitto import GATEWAY
from tests.peers.mqtt.site import mosquitto

TOPIC = "blockota/v1/things/256/events"


async def taken(connection: BrokerConnection, count: int) -> list[Message]:
    """Return the next messages."""
    found: list[Message] = []
    async with asyncio.timeout(60):
        async for message in connection.messages():
            found.append(message)
            if len(found) == count:
                break
    return found


def test_a_held_message_is_delivered_again(tmp_path: Path) -> None:
    """After a reconnection, a client receives again only the messages that it has not acknowledged."""

    async def main() -> None:
        async with mosquitto(tmp_path, 256) as broker, broker.connect(256) as device:
            async with broker.connect(GATEWAY, is_persistent=True) as first:
                assert await first.subscribe(TOPIC)
                first.hold(lambda topic: topic == TOPIC)
                for text in (b"1", b"2", b"3", b"4"):
                    await device.publish(TOPIC, text)
                messages = await taken(first, 4)
                first.release(messages[1])  # confirmed after the first one
                first.release(messages[0])
                first.release(messages[3])  # waits for the third one
                await first.publish(TOPIC, b"5")  # the broker has read the confirmations before its own
            async with broker.connect(GATEWAY, is_persistent=True) as second:
                assert [one.payload for one in await taken(second, 3)] == [b"3", b"4", b"5"]
            async with broker.connect(GATEWAY, is_persistent=True) as third:
                await third.publish(TOPIC, b"6")
                assert [one.payload for one in await taken(third, 1)] == [b"6"]

    asyncio.run(main())


def test_calls_end_when_the_broker_is_killed(tmp_path: Path) -> None:
    """After the broker is killed, reading and publishing raise an error, and the next connection is refused."""

    async def main() -> None:
        async with mosquitto(tmp_path, 256) as broker, broker.connect(256) as device:
            reading = asyncio.create_task(taken(device, 1))
            await asyncio.sleep(0)
            broker.kill()
            async with asyncio.timeout(60):
                with pytest.raises(MessagingError):
                    await reading
                with pytest.raises(MessagingError):
                    await device.publish(TOPIC, b"")
            with pytest.raises(MessagingError, match="out of reach"):
                async with broker.connect(256):
                    pass

    asyncio.run(main())
