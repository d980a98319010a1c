"""``blockota gateway run``: the threads and tasks of a gateway, and how they start and end.

=========  ======================================================================================
thread     what it does
=========  ======================================================================================
loop       runs the core and the faces in one asyncio loop; no other thread changes the gateway's state
follower   reads the chains after each block, and passes the facts to the loop
finder     finds images and manifests
appender   appends entries from the outbox to the log
publisher  publishes checkpoints and anchors the log
couriers   send the readings, one thread for each validator
commands   reports the outcome *no answer* for commands whose deadlines have passed
waiters    wait for new blocks, one thread for each chain
=========  ======================================================================================

Each thread is a loop that continues after every error. The process may be killed at any instant. Data that must not be
lost are therefore written to the state or the log before their use.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from blockota.chain.wake import BlockSignal
from blockota.errors import UnreachableError, UsageError
from blockota.gateway.access import ENTRIES, WARNINGS, GatewayAccess, LimitedOutbox
from blockota.gateway.assembly import Assembly
from blockota.gateway.core import Clock, Core, Face
from blockota.gateway.facts import SiteFacts
from blockota.gateway.following import FileFinder, Following
from blockota.gateway.monitoring import DevicePlan, GatewaySite, GatewayStatus
from blockota.gateway.settings import GatewaySettings
from blockota.gateway.state import GatewayState
from blockota.ledger.recording import LogParts, LogRecorder
from blockota.line_log import LineLog, sentence
from blockota.repository.server import Listening, serve_until
from blockota.service_threads import ServiceThreads, described
from blockota.shutdown import Stop

_TICK, _FACE_PAUSE, _OUTBOX_PAUSE, _PUBLISH_PAUSE = 1.0, 10.0, 0.1, 2.0
"""Four pauses in seconds: between two ticks of the core, before a failed face is started again, between two looks into
the outbox, and between two looks at the log."""
_FACES_END, _THREADS_END = 2.0, 1.0
"""Seconds in which the faces must end, and then seconds in which the threads must end."""


@dataclass(frozen=True)
class GatewayParts:
    """The parts of a gateway.

    Attributes:
        settings: the settings of the gateway.
        following: reads the chains.
        finder: finds files.
        log: the log of the gateway.
        faces: the faces of the gateway.
        signals: the objects that wait for new blocks of the chains.
        clock: returns Unix time.
        access: the exchange of readings and commands with validators; None if the settings have no
            ``[gateway.access]``.
    """

    settings: GatewaySettings
    following: Following
    finder: FileFinder
    log: LogParts
    faces: Sequence[Face] = ()
    signals: Sequence[BlockSignal] = ()
    clock: Clock = lambda: int(time.time())
    access: GatewayAccess | None = None


class GatewayService:
    """Runs a gateway.

    Args:
        parts: the gateway.
        state: its state.
        lines: the line log, to which events, failures and recoveries are written.
        stop: ends the gateway.
    """

    def __init__(self, parts: GatewayParts, state: GatewayState, lines: LineLog, stop: Stop) -> None:
        self._parts, self._state, self._lines, self._stop = parts, state, lines, stop
        self._threads = ServiceThreads(lines, stop)
        self._facts = SiteFacts()
        self._assembly: Assembly | None = None
        self._changed, self._wanted = threading.Event(), threading.Event()
        self._recorder = LogRecorder(
            parts.log, lines, clock=parts.clock, owns=lambda number: number in self._facts.devices
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, *, on_ready: Callable[[str], None]) -> None:
        """Run until `stop` is requested.

        Args:
            on_ready: called when the gateway has started, with the URL of its status; the URL is empty if the status is
                not served.

        Raises:
            UsageError: an address or another setting of a face cannot be used.
        """
        asyncio.run(self._serve(on_ready))

    async def _serve(self, on_ready: Callable[[str], None]) -> None:
        parts = self._parts
        self._loop = asyncio.get_running_loop()
        core = Core(parts.settings.identity, self._state, clock=parts.clock)
        for face in parts.faces:
            core.add_face(face)

        # Devices that an earlier run has read are known from the start. If the gateway answered that it does not know a
        # device, the device would stop trying.
        if assembly := await asyncio.to_thread(parts.following.assemble):
            await self._take(core, assembly)

        access = parts.access
        starts = [asyncio.Event() for _ in (*parts.faces, *((access,) if access else ()))]
        stopped = asyncio.create_task(asyncio.to_thread(self._stop.wait_until_asked))
        tasks = [
            asyncio.create_task(self._run_face(face, core, start))
            for face, start in zip(parts.faces, starts, strict=False)
        ]
        if access:
            tasks.append(asyncio.create_task(self._serve_commands(access, starts[-1])))

        try:
            # The gateway is ready when all its faces and its command port are.
            if not await _ended_before(starts, [stopped, *tasks]):
                self._start_threads(core)
                tasks += [asyncio.create_task(self._tick(core)), asyncio.create_task(self._show_state(core, on_ready))]
                await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # an address that cannot be used ends the gateway
        finally:
            # The threads wait for these events, and end when they notice the stop.
            self._stop.ask()
            self._changed.set()
            self._wanted.set()
            if access:
                access.wake()

            for task in tasks:
                task.cancel()
            await asyncio.wait([stopped, *tasks], timeout=_FACES_END)
            await asyncio.to_thread(self._threads.join, _THREADS_END)
            parts.following.save(is_last=True)

    async def _serve_commands(self, access: GatewayAccess, started: asyncio.Event) -> None:
        """Receive commands, if the settings have an address for them.

        Raises:
            UsageError: the gateway cannot listen on the address.
        """
        await access.serve(started.set)
        await asyncio.Event().wait()

    async def _show_state(self, core: Core, on_ready: Callable[[str], None]) -> None:
        """Serve the state and the log, if the settings have an address for them.

        Raises:
            UsageError: the gateway cannot listen on the address.
        """
        parts = self._parts
        if parts.settings.listen is None:
            on_ready("")
            await asyncio.Event().wait()
            return
        host, port = parts.settings.listen
        site = GatewaySite(parts.log.log, lambda: self._status(core), lambda: self._plans(core), host=host)
        listening = Listening(host, port, stop_seconds=1)
        await serve_until(self._stop, site, listening, log=lambda _: None, on_ready=on_ready)

    def _start_threads(self, core: Core) -> None:
        bodies: dict[str, Callable[[], None]] = {
            "follower": lambda: self._follow(core),
            "finder": self._find,
            "appender": lambda: self._append(core),
            "publisher": self._publish,
        }
        for number, signal in enumerate(self._parts.signals):
            bodies[f"waiter {number}"] = lambda signal=signal: self._await_blocks(signal)  # type: ignore[misc]
        if access := self._parts.access:
            bodies |= access.threads(self._stop)

        for name, body in bodies.items():
            self._threads.start(name, body)

    def _await_blocks(self, signal: BlockSignal) -> None:
        signal.wait(self._stop)
        self._changed.set()

    def _follow(self, core: Core) -> None:
        """Read the chains once, then wait for a block or a file."""
        self._changed.clear()
        self._parts.following.read()
        if assembly := self._parts.following.assemble():
            self._call(self._take(core, assembly))
            self._wanted.set()
        self._changed.wait()

    async def _take(self, core: Core, assembly: Assembly) -> None:
        """Plan with new facts."""
        self._assembly, self._facts = assembly, assembly.facts
        if self._parts.access and (commands := self._parts.access.commands):
            commands.learn(assembly.facts)
        policies = {group.name: group.policy for group in self._parts.settings.groups}
        await core.update(assembly.facts, policies)

    def _find(self) -> None:
        """Search for the next missing file, and request a new assembly of the facts. If no search is due, wait."""
        self._wanted.clear()
        if self._assembly and self._parts.finder.find_next(self._assembly.wanted):
            self._parts.following.note_new_file()
            self._changed.set()
            return
        self._wanted.wait(self._parts.finder.pause())

    def _append(self, core: Core) -> None:
        found = self._recorder.append(LimitedOutbox(self._state, ENTRIES))
        if found:

            async def note() -> None:
                core.appended(found)

            self._call(note())

        warnings = self._parts.access.warnings if self._parts.access else None
        added = self._recorder.append(LimitedOutbox(warnings, WARNINGS)) if warnings else []
        if not found and not added:
            self._stop.wait(_OUTBOX_PAUSE)

    def _publish(self) -> None:
        self._recorder.publish()
        self._recorder.anchor()
        self._parts.following.save()
        self._stop.wait(_PUBLISH_PAUSE)

    async def _tick(self, core: Core) -> None:
        while True:
            try:
                await core.tick()
            except UnreachableError as error:  # a full disk
                self._lines.state("state", sentence(error))
            else:
                self._lines.state("state", "")
            await asyncio.sleep(_TICK)

    async def _run_face(self, face: Face, core: Core, started: asyncio.Event) -> None:
        """Run a face, and start it again after a failure.

        Args:
            face: the face.
            core: the core.
            started: an event that is set when the face listens, or after its first failure. A wrong setting raises an
                error instead.

        Raises:
            UsageError: a setting of the face cannot be used. After the first start, this error is logged instead, and
                the face is started again.
        """
        while True:
            running = asyncio.create_task(face.run(core, on_ready=started.set))
            try:
                # A face that runs for a while works again.
                if not (await asyncio.wait([running], timeout=_FACE_PAUSE))[0]:
                    self._lines.state(face.name, "")
                await running
            except asyncio.CancelledError:
                running.cancel()
                await asyncio.wait([running])
                raise
            except Exception as error:
                if not started.is_set() and isinstance(error, UsageError):
                    raise
                self._lines.state(face.name, described(error))
            started.set()
            await asyncio.sleep(_FACE_PAUSE)

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in the loop, and wait for its end."""
        if self._loop is None or self._stop.is_asked:
            coroutine.close()
            return
        with suppress(CancelledError):
            asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _status(self, core: Core) -> GatewayStatus:
        facts, access = self._facts, self._parts.access
        block_age = max(self._parts.clock() - facts.time, 0) if facts.time else 0
        return GatewayStatus(
            devices=len(facts.devices),
            stages={str(stage): count for stage, count in core.stages().items()},
            block=facts.block,
            block_age=block_age,
            waiting=self._state.waiting(),
            log=self._recorder.status(),
            troubles=self._lines.troubles,
            access=access.status() if access else None,
        )

    def _plans(self, core: Core) -> Iterator[DevicePlan]:
        """Yield the core's plan for each device."""
        last = self._parts.access.readings.last if self._parts.access else {}
        for number in sorted(core.numbers()):
            if device := core.device(number):
                why = core.why(number)
                yield DevicePlan(number, device.name, device.group, device.is_banned, why, last.get(number))


async def _ended_before(events: Sequence[asyncio.Event], tasks: Sequence[asyncio.Task[None]]) -> bool:
    """Wait until all events are set, or until a task ends. Returns whether a task has ended."""
    awaited: asyncio.Future[Any] = asyncio.gather(*(event.wait() for event in events))
    await asyncio.wait([awaited, *tasks], return_when=asyncio.FIRST_COMPLETED)
    awaited.cancel()
    return any(task.done() for task in tasks)
