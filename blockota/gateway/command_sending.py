"""Wait for commands and keep the answers of devices, for all faces that send commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from blockota.errors import StoreError
from blockota.gateway.commands import CommandDesk
from blockota.gateway.face import FaceContext
from blockota.model.command import CommandAnswer, DeviceCommand

_LOOK, _PAUSE = 5.0, 1.0
"""Seconds between two looks for commands that nothing announced, such as to a device that sleeps; and before a failed
write is tried again."""


async def send_waiting(
    context: FaceContext, face: str, send: Callable[[CommandDesk, DeviceCommand], Awaitable[None]]
) -> None:
    """Pass waiting commands to a face until the task is cancelled. Returns at once if the gateway takes no commands.

    Args:
        context: the objects that the face got from the service.
        face: the name of the face, for the log.
        send: sends a command if it is for a device of the face that listens. It is called again for a command that
            still waits.
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
    """Keep the answer of a device. Returns when it is on the disk; a failed write is repeated."""
    while True:
        try:
            await asyncio.to_thread(commands.answered, thing, answer)
        except StoreError as error:
            context.log(face, "failed", device=thing, why=f"{error.what}: {error.why}")
            await asyncio.sleep(_PAUSE)
        else:
            return
