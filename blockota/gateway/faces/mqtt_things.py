"""Readings of devices, commands to devices, and the devices' answers, over MQTT.

The broker acknowledges a message to the device. The gateway acknowledges the message to the broker after the content is
on the disk. A refused reading is also acknowledged, and the reason is published on ``…/readings/rejected``.
"""

from __future__ import annotations

import asyncio
import json

from blockota.errors import AccessRefusedError, LimitReachedError, MessagingError, RefusedError
from blockota.gateway.command_sending import keep_answer, send_waiting
from blockota.gateway.commands import CommandDesk
from blockota.gateway.core import Core
from blockota.gateway.face import FaceContext
from blockota.gateway.limits import RateLimit
from blockota.messaging.client import BrokerConnection, Message
from blockota.messaging.topics import RequestKind, RequestTopic, device_commands, parse_object, reading_rejections
from blockota.model.command import CommandAnswer, DeviceCommand

NAME = "mqtt"
ANSWERS_PER_MINUTE = 60
"""The largest number of answers to commands from one device in a minute."""
_AT_ONCE = 4096
"""The largest number of messages that wait for the disk. Further messages stay in the broker."""
_PAUSE = 1.0
"""Seconds before a failed write is tried again."""


class ThingMessages:
    """Processes the messages that must not be lost: the readings and the answers to commands on one connection.

    Args:
        core: the gateway's core.
        connection: the connection.
        context: the objects that the gateway's service passes to the face.
    """

    def __init__(self, core: Core, connection: BrokerConnection, context: FaceContext) -> None:
        self._core, self._connection, self._context = core, connection, context
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._answers = RateLimit(ANSWERS_PER_MINUTE)

    async def take(self, message: Message, tasks: asyncio.TaskGroup) -> None:
        """Process a message in a task. Waits while too many messages are being processed."""
        await self._room.acquire()
        task = tasks.create_task(self._handle(message))
        task.add_done_callback(lambda _: self._room.release())

    async def _handle(self, message: Message) -> None:
        try:
            topic = RequestTopic.parse(message.topic)
            thing = topic.thing
            # A message is not confirmed before the gateway has read its devices from the chain, so that no message is
            # lost.
            while self._core.device(thing) is None and next(self._core.numbers(), None) is None:  # noqa: ASYNC110
                await asyncio.sleep(_PAUSE)
            await self._admit(thing, message)
            if topic.kind is RequestKind.READING:
                await self._reading(thing, message.payload)
            else:
                await self._answer(thing, message.payload)
        except ValueError as error:
            await self._core.warn(None, str(error))
        except RefusedError as error:
            known = self._core.device(thing)
            what = f"{error.what}: {error.why}"
            await self._core.warn(thing if known else None, what)
            # A flood is not answered, because the answers would double it, and neither is a device that is not served.
            is_answered = not isinstance(error, LimitReachedError | AccessRefusedError)
            if topic.kind is RequestKind.READING and is_answered:
                payload = json.dumps({"message": error.why}).encode()
                await self._connection.publish(reading_rejections(thing), payload)
        except MessagingError:  # the broker delivers the message again
            raise
        except Exception as error:  # noqa: BLE001 - a message that meets a defect must not come again and again
            self._context.log(NAME, "failed", topic=message.topic, why=f"{type(error).__name__}: {error}")
        self._connection.release(message)

    async def _admit(self, thing: int, message: Message) -> None:
        """Check that a device may send a message.

        Raises:
            AccessRefusedError: the device is banned or not of this site, or the message is retained.
        """
        device = self._core.device(thing)
        if device is None:
            raise AccessRefusedError("a message is refused", why=f"device {thing} is not of this site")
        if device.is_banned:
            raise AccessRefusedError("a message is refused", why="the device is banned")
        if message.is_retained:
            raise AccessRefusedError(
                "a message is refused", why="it is retained, so the broker would repeat it for ever"
            )

    async def _reading(self, thing: int, payload: bytes) -> None:
        if self._context.readings is None:
            raise RefusedError("the reading is refused", why="the gateway's settings name no validator")
        await self._context.readings.receive(thing, payload)

    async def _answer(self, thing: int, payload: bytes) -> None:
        if self._context.commands is None:
            raise RefusedError("the answer is refused", why="the gateway's settings allow no commands")
        if not self._answers.take(thing, self._context.clock()):
            why = f"more than {ANSWERS_PER_MINUTE} answers in a minute"
            raise LimitReachedError("the answer is refused", why=why)
        try:
            answer = CommandAnswer.of_fields(parse_object(payload))
        except ValueError as error:
            raise RefusedError("the answer is refused", why=str(error)) from error
        await keep_answer(self._context, NAME, self._context.commands, thing, answer)

    async def send_commands(self) -> None:
        """Send commands to devices until the connection is lost.

        Returns immediately if the gateway accepts no commands.
        """
        await send_waiting(self._context, NAME, self._send)

    async def _send(self, commands: CommandDesk, command: DeviceCommand) -> None:
        device = self._core.device(command.thing)
        if device is None or device.face not in {"", NAME} or commands.face_of(command.thing) not in {None, NAME}:
            return
        if await asyncio.to_thread(commands.claim, command):
            await self._connection.publish(device_commands(command.thing), command.message())
            self._context.log(NAME, "command sent", device=command.thing, command=command.name, id=command.id)
