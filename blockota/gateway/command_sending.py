"""Wait for commands and store the answers of devices, for all faces that send commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from blockota.errors import StoreError
from blockota.gateway.commands import CommandDesk
from blockota.gateway.face import FaceContext
from blockota.model.command import CommandAnswer, DeviceCommand

_LOOK, _PAUSE = 5.0, 1.0
"""Seconds between two passes over the waiting commands, if no new command ends the wait; and seconds before a failed
write is repeated.
"""


async def send_waiting(
    context: FaceContext, face: str, send: Callable[[CommandDesk, DeviceCommand], Awaitable[None]]
) -> None:
    """Pass waiting commands to a face until the task is cancelled.

    Returns immediately if the gateway accepts no commands.

    Args:
        context: the objects that the gateway's service passes to the face.
        face: the name of the face, for the log.
        send: sends a command to a device that listens through this face. A command that was not sent is passed to
            `send` again.
    """
    commands = context.commands
    if commands is None:
        return

    loop, wake = asyncio.get_running_loop(), asyncio.Event()
    end = commands.add_listener(lambda: loop.call_soon_threadsafe(wake.set))
    try:
        while True:
            try:
                for command in await asyncio.to_thread(commands.waiting):
                    await send(commands, command)
            except StoreError as error:
                context.log(face, "failed", why=f"{error.what}: {error.why}")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await wake.wait()
            wake.clear()
    finally:
        end()


async def keep_answer(
    context: FaceContext, face: str, commands: CommandDesk, thing: int, answer: CommandAnswer
) -> None:
    """Store the answer of a device, and repeat a failed write. Returns when the answer is on the disk."""
    while True:
        try:
            await asyncio.to_thread(commands.answered, thing, answer)
        except StoreError as error:
            context.log(face, "failed", device=thing, why=f"{error.what}: {error.why}")
            await asyncio.sleep(_PAUSE)
        else:
            return
