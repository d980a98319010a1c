"""Update boards with MCUboot over SMP, on serial ports or through a tunnel.

A visit to a board (`SmpVisit`) has the following steps. After every failure of the link, a new visit begins:

1. Read the board's images, and finish a test that was begun. An image that is marked for a test is started by a reset.
2. If an image is on trial, is the one to be installed, and its program works for a while, confirm it.
3. Log the events of BlockOTA's agent, and let the board forget those that are in the log.
4. Report the running image. The board reports a digest of the MCUboot format, so the digest is looked up among the
   digests of the proven files (`ProvenDigests`).
5. If there is an offer, upload its image, compare the digest of the second slot, mark the image for a test, and reset
   the board.

Nothing is remembered between two visits. The board's answers decide on the next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blockota.errors import (
    AccessRefusedError,
    BlockOTAError,
    BoardError,
    ImageError,
    LimitReachedError,
    LinkError,
    RefusedError,
    UnreachableError,
    UsageError,
)
from blockota.formats.mcuboot import image_digest
from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.smp.agent import BoardAgent, find_agent
from blockota.gateway.faces.smp.board import BoardSlots, SmpBoard, SmpLine, open_board, udp_address
from blockota.model.boot_event import BootEvent
from blockota.model.delivery import Stage
from blockota.settings_table import SettingsTable

_KNOWN = ("devices", "poll", "trial", "retry", "speed")
_SHA256_SIZE = 32
_NAME = re.compile("[0-9a-f]{64}")
_REPORTED_BYTES = 16 * 1024
"""The number of bytes of an upload between two reports of its progress."""
_BOOT_PAUSE = 0.2
"""Seconds between two attempts to reach a board that starts."""
_LOGGED = 10.0
"""Seconds until an event must be in the log. If the log cannot be written, the board is still updated."""


@dataclass(frozen=True)
class SmpSettings:
    """The table ``[gateway.smp]``.

    Attributes:
        lines: the connection to each board, by the number of the device.
        poll: seconds between two visits to a board without an offer.
        trial: seconds for which a program must work before it is confirmed.
        retry: seconds until the next visit to a board after a failure of its link.
    """

    lines: Mapping[int, SmpLine]
    poll: float = 60.0
    trial: float = 10.0
    retry: float = 5.0

    @classmethod
    def read(cls, table: SettingsTable) -> SmpSettings:
        """Read the table.

        Raises:
            UsageError: a setting is not valid, or two devices have one port.
        """
        table.known(*_KNOWN)
        devices, speed = table.table("devices"), table.number("speed", 115_200, least=1200)
        ports: dict[int, str] = {}
        for name in devices.values if devices else ():
            if devices is None or not (name.isascii() and name.isdigit() and name == str(int(name))):
                raise table.unusable("devices", f"{name!r:.40} is not the number of a device")
            port = devices.text(name) or ""
            if port in ports.values():
                raise table.unusable("devices", f"two devices have the port {port:.60}")
            if port.startswith("udp:"):
                udp_address(port)
            ports[int(name)] = port
        if not ports:
            raise UsageError(
                "[gateway.smp] has no devices",
                why="the face serves the boards that the table [gateway.smp.devices] names",
                remedy='add the table [gateway.smp.devices] with lines such as 300 = "/dev/ttyACM0"',
            )
        return cls(
            {number: SmpLine(port, speed) for number, port in ports.items()},
            poll=table.seconds("poll", 60),
            trial=table.seconds("trial", 10),
            retry=table.seconds("retry", 5),
        )


class ProvenDigests:
    """The SHA-256 of proven files, by the digest that MCUboot computes for them.

    Args:
        folder: the folder with the proven files, each named by its SHA-256.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self._files: dict[bytes, bytes] = {}

    def file_of(self, digest: bytes) -> bytes | None:
        """Return the SHA-256 of the file with a digest; None if no proven file has this digest.

        The method reads files.
        """
        if digest not in self._files:
            self._learn()
        return self._files.get(digest)

    def _learn(self) -> None:
        try:
            paths = [
                path for path in self._folder.iterdir() if _NAME.fullmatch(path.name) and path.name not in self._seen
            ]
        except FileNotFoundError:
            return
        for path in filter(lambda one: _NAME.fullmatch(one.name), paths):
            with contextlib.suppress(ImageError, OSError):
                self._files[image_digest(path.read_bytes())] = bytes.fromhex(path.name)
            self._seen.add(path.name)


class SmpFace:
    """Serves boards that speak SMP.

    Args:
        settings: the settings.
        context: the gateway around the face.
    """

    name = "smp"

    def __init__(self, settings: SmpSettings, context: FaceContext) -> None:
        self.settings, self._context = settings, context
        self._changed = {number: asyncio.Event() for number in settings.lines}
        self._digests = ProvenDigests(context.folder / "images")

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve the boards until the task is cancelled."""
        on_ready()
        async with asyncio.TaskGroup() as group:
            for number, line in self.settings.lines.items():
                group.create_task(self._serve(core, number, line))

    def offer_changed(self, device: int) -> None:
        """Visit a board whose offer changed."""
        if device in self._changed:
            self._changed[device].set()

    async def _serve(self, core: Core, number: int, line: SmpLine) -> None:
        """Visit a board repeatedly. A repeated failure is logged only once."""
        failure = ""
        while True:
            self._changed[number].clear()
            pause = self.settings.retry
            try:
                if (device := core.device(number)) and not device.is_banned:
                    async with open_board(line) as board:
                        visit = SmpVisit(core, number, board, self._digests, self.settings.trial)
                        pause = _BOOT_PAUSE if await visit.run() else self.settings.poll
                failure = ""
            except (BoardError, UnreachableError) as error:
                failure = self._note(number, error, failure)
            except BlockOTAError as error:  # the core refused the report, and logged why
                failure, pause = self._note(number, error, failure), self.settings.poll
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed[number].wait()

    def _note(self, number: int, error: BlockOTAError, before: str) -> str:
        """Log an error if it differs from the previous error. Returns its text."""
        now = f"{error.what}: {error.why}"
        if now != before:
            self._context.log(self.name, "failed", device=number, why=now)
        return now


@dataclass(frozen=True)
class SmpVisit:
    """One visit to a board.

    Attributes:
        core: the gateway's core.
        number: the number of the device.
        board: the board.
        digests: the digests of the proven files.
        trial: seconds for which a program must work before it is confirmed.
    """

    core: Core
    number: int
    board: SmpBoard
    digests: ProvenDigests
    trial: float

    async def run(self) -> bool:
        """Take the next step for the board.

        Returns whether the board was reset; another visit must then follow.

        Raises:
            BoardError: the link failed, or the board refuses.
            RefusedError: the core refuses the report.
        """
        slots = await self.board.slots()
        delivery = self.core.state(self.number)
        wanted = delivery.target.image if delivery.target else None

        # (1) The board was to be reset, and the link failed before it.
        is_ours = delivery.stage in (Stage.TRANSFER, Stage.TRIAL) and not delivery.is_withheld
        if slots.other and slots.other.is_pending and is_ours and await self._file_of(slots.other.digest) == wanted:
            return await self._reset(delivery.job)

        running = await self._file_of(slots.active.digest)
        if not slots.active.is_confirmed and running == wanted and wanted is not None:  # (2)
            await self._report(slots)
            if self.core.state(self.number).stage is not Stage.TRIAL:
                return False
            slots = await self._confirmed(slots)
        if agent := await find_agent(self.board):
            await self._log_events(agent)  # (3)
        await self._report(slots)  # (4)
        await self._refuse_configurations()

        offer = self.core.offer(self.number)
        if offer is None or not slots.active.is_confirmed:
            return False
        return await self._install(offer, slots)  # (5)

    async def _refuse_configurations(self) -> None:
        """Refuse configurations, for which SMP has no place: otherwise their orders would wait until they end."""
        for offer in self.core.offers(self.number):
            if offer.is_configuration:
                reason = "the face smp installs firmware only"
                await self.core.outcome(self.number, offer.job, succeeded=False, reason=reason, is_refusal=True)

    async def _log_events(self, agent: BoardAgent) -> None:
        """Log the events of the board. An event is acknowledged once its entry is in the log.

        After a failure in between, the event comes again with its number, by which the core recognises it.
        """
        kept = 0
        try:
            while events := await agent.events(after=kept):
                before, kept = kept, await self._kept(events, kept)
                if kept > before:
                    await agent.acknowledge(kept)
                if kept < events[-1].number:
                    return
        except LinkError:
            raise
        except BoardError as error:  # without its events, the board can still be updated
            await self.core.warn(self.number, f"{error.what}: {error.why}")

    async def _kept(self, events: Sequence[BootEvent], kept: int) -> int:
        """Log events until one cannot be logged now. Returns the number of the last one that was kept."""
        for event in events:
            try:
                async with asyncio.timeout(_LOGGED):
                    await self.core.event(self.number, text=event.text, counter=event.number)
            except (LimitReachedError, TimeoutError):
                break
            except AccessRefusedError:
                raise
            except RefusedError:
                # The log has the reason. The board would send the event for ever, and the events behind it would wait.
                await self.core.warn(self.number, f"the event {event.number} was not accepted: {event.text}")
            kept = event.number
        return kept

    async def _file_of(self, digest: bytes) -> bytes | None:
        return await asyncio.to_thread(self.digests.file_of, digest)

    async def _report(self, slots: BoardSlots) -> None:
        """Report the running image.

        For an unknown image, the start of the board's digest is reported, which no file has.
        """
        active = slots.active
        image = await self._file_of(active.digest) or active.digest[:_SHA256_SIZE]
        await self.core.reported(self.number, Report(image=image or None, is_confirmed=active.is_confirmed))

    async def _confirmed(self, before: BoardSlots) -> BoardSlots:
        """Confirm the program on trial after its self-test: it must answer for a while without a reset.

        Returns:
            The images of the board after the confirmation, as the board reports them.
        """
        await asyncio.sleep(self.trial)
        if not await self.board.echo(f"blockota {self.core.nonce(self.number).hex()}"):
            raise BoardError(
                "the program on trial is not confirmed", why="the program does not return the text of an echo"
            )
        slots = await self.board.slots()
        if slots.active.digest != before.active.digest:
            return slots
        await self.board.confirm(slots.active.digest)
        return await self.board.slots()

    async def _install(self, offer: DeviceOffer, slots: BoardSlots) -> bool:
        """Upload an image, compare it, mark it and reset the board. Returns whether the board was reset."""
        image = await asyncio.to_thread(offer.path.read_bytes)
        digest = image_digest(image)
        await self.core.offered(self.number, offer.job)
        try:
            if slots.other is None or slots.other.digest != digest:
                await self._upload(offer, image)
                slots = await self.board.slots()
            if not self._is_offered(offer):
                return False
            is_stored = slots.other is not None and slots.other.digest == digest
            if is_stored:
                await self.core.progress(self.number, offer.job, offer.size)
                await self.board.mark(digest)
        except LinkError:
            raise  # the next visit goes on
        except BoardError as error:
            await self.core.outcome(self.number, offer.job, succeeded=False, reason=f"{error.what}: {error.why}")
            raise
        if is_stored:
            return await self._reset(offer.job)
        reason = "the second slot of the board has another digest than the release"
        await self.core.outcome(self.number, offer.job, succeeded=False, reason=reason)
        return False

    async def _upload(self, offer: DeviceOffer, image: bytes) -> None:
        """Upload an image as long as it stays offered, and report the progress."""
        reported = 0
        async with contextlib.aclosing(self.board.upload(image)) as offsets:
            async for offset in offsets:
                if not self._is_offered(offer):
                    return
                if offset >= reported + _REPORTED_BYTES:
                    reported = offset
                    await self.core.progress(self.number, offer.job, offset)

    def _is_offered(self, offer: DeviceOffer) -> bool:
        now = self.core.offer(self.number)
        return now is not None and now.job == offer.job

    async def _reset(self, job: int) -> bool:
        """Start the marked image. The trial is recorded before the start, because the board may roll back at once."""
        await self.core.outcome(self.number, job, succeeded=True)
        await self.board.reset()
        return True


def create(table: SettingsTable, context: FaceContext) -> SmpFace:
    """Make the face.

    Raises:
        UsageError: a setting is not valid.
    """
    return SmpFace(SmpSettings.read(table), context)
