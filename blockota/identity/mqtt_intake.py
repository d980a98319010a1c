"""Receive the requests for one identity from a message broker, and publish the responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from blockota.errors import MessagingError
from blockota.identity.intake import BusyError, RequestIntake
from blockota.identity.receiving import MQTT
from blockota.messaging.client import BrokerConnection, Connect, Message, keep_connected
from blockota.messaging.request_topics import answer_topic, request_topic
from blockota.model.request import RequestFaultError, read_request

_MOST_AT_ONCE = 1024
"""The largest number of requests that are received at the same time. Further messages wait in the broker."""


class MqttIntake:
    """Takes requests from a broker.

    Args:
        receiver: UUID of the identity that receives the requests.
        intake: takes the requests.
        connect: opens a connection to the broker.
        report: called with the reason when the connection is lost, and with an empty text when the connection works.
    """

    def __init__(self, receiver: UUID, intake: RequestIntake, connect: Connect, report: Callable[[str], None]) -> None:
        self._receiver, self._intake, self._connect, self._report = receiver, intake, connect, report

    async def run(self) -> None:
        """Receive requests until the task is cancelled."""
        await keep_connected(self._connect, self._serve, note=lambda error: self._report(f"{error.what}: {error.why}"))

    async def _serve(self, connection: BrokerConnection) -> None:
        if not await connection.subscribe(request_topic(self._receiver)):
            raise MessagingError(
                "the message broker refuses the subscription",
                why=f"the account may not read {request_topic(self._receiver)}",
                remedy="correct the rules of the message broker",
            )
        self._report("")

        room, tasks = asyncio.Semaphore(_MOST_AT_ONCE), set[asyncio.Task[None]]()
        async for message in connection.messages():
            await room.acquire()
            task = asyncio.create_task(self._answer(connection, message, room))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answer(self, connection: BrokerConnection, message: Message, room: asyncio.Semaphore) -> None:
        try:
            received = await self._intake.receive(message.payload, address=MQTT)
            sender = read_request(message.payload).sender
            await connection.publish(answer_topic(self._receiver, sender), received.answer)
        except (BusyError, RequestFaultError, MessagingError):
            return  # without an answer, the sender repeats the request
        finally:
            room.release()
