"""Readings of devices and commands to devices, over CoAP. The JSON payloads are the same as in the MQTT face.

``POST /readings`` is answered with 2.04 when the reading is on the disk. A command is sent as ``POST /commands`` to a
registered device that listens. The code of the device's answer determines the outcome of the command: 2.xx means
*done*, 4.xx *refused*, and 5.xx *failed*. The text in a 4.xx or 5.xx answer is the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiocoap import CHANGED, Message
from aiocoap.numbers.codes import BAD_REQUEST, SERVICE_UNAVAILABLE, TOO_MANY_REQUESTS, Code

from blockota.errors import LimitReachedError, NoAnswerError, RefusedError
from blockota.gateway.command_sending import keep_answer, send_waiting
from blockota.gateway.commands import CommandDesk
from blockota.gateway.core import Core
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.lwm2m.client import DeviceClient
from blockota.model.command import MAX_REASON, CommandAnswer, CommandState, DeviceCommand

NAME = "lwm2m"
_CLIENT_ERROR = 4


async def take_reading(core: Core, context: FaceContext, number: int, payload: bytes) -> Message:
    """Store a reading of an accepted device, and return the answer to the device."""
    if context.readings is None:
        await core.warn(number, "reading refused: the gateway's settings name no validator")
        return Message(code=SERVICE_UNAVAILABLE, payload=b"the gateway's settings name no validator")
    try:
        await context.readings.receive(number, payload)
    except RefusedError as error:
        await core.warn(number, f"{error.what}: {error.why}")
        code = TOO_MANY_REQUESTS if isinstance(error, LimitReachedError) else BAD_REQUEST
        return Message(code=code, payload=error.why.encode())
    return Message(code=CHANGED)


class CommandSender:
    """Sends commands to registered devices.

    Args:
        context: the objects that the gateway's service passes to the face.
        listening: returns the client for a device that listens now; None for any other device.
    """

    def __init__(self, context: FaceContext, listening: Callable[[int], DeviceClient | None]) -> None:
        self._context, self._listening = context, listening
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send commands until the task is cancelled. Returns immediately if the gateway accepts no commands."""
        try:
            await send_waiting(self._context, NAME, self._start)
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def _start(self, commands: CommandDesk, command: DeviceCommand) -> None:
        client = self._listening(command.thing)
        if client is None or not await asyncio.to_thread(commands.claim, command):
            return
        task = asyncio.create_task(self._send(commands, command, client))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, commands: CommandDesk, command: DeviceCommand, client: DeviceClient) -> None:
        self._context.log(NAME, "command sent", device=command.thing, command=command.name, id=command.id)
        try:
            code, payload = await client.post(("commands",), command.message())
        except NoAnswerError as error:
            self._context.log(NAME, "no answer", device=command.thing, id=command.id, why=error.why)
            return

        text = payload.decode(errors="replace")[:MAX_REASON]
        reason = text if text and text.isprintable() else code.dotted
        answer = CommandAnswer(command.id, _state(code), "" if code.is_successful() else reason)
        await keep_answer(self._context, NAME, commands, command.thing, answer)


def _state(code: Code) -> CommandState:
    if code.is_successful():
        return CommandState.DONE
    return CommandState.REFUSED if code.class_ == _CLIENT_ERROR else CommandState.FAILED
