"""One visit of the gateway to a board. A new visit begins after each failure of the connection.

A visit has the following steps:

1. Read the board's images. If the second slot contains an image that is marked for a test, reset the board to start the
    test.
2. If the running image is the target and on trial, confirm the image after it has worked for the trial time.
3. Check pages of the running image when a check is due (`blockota.gateway.faces.smp.sectors`). Log the events of
   BlockOTA's agent, and acknowledge the logged events, so that the board deletes them.
4. Report the running image. The board reports the MCUboot digest of the image instead of its SHA-256. `ProvenDigests`
   finds the proven file with this digest.
5. If there is an offer and the board has a secure element, run the mutual authentication
   (`blockota.gateway.faces.smp.session`). Send a patch to BlockOTA's agent if possible, or otherwise upload the image.
   Check that the second slot has the digest of the image, mark the image for a test, and reset the board.

The board's answers determine the next step. Between two visits, the face remembers only refused patches and the last
page check (`BoardNotes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from blockota.errors import (
    AccessRefusedError,
    BoardError,
    ImageError,
    LimitReachedError,
    LinkError,
    RefusedError,
)
from blockota.formats.mcuboot import image_digest
from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.faces.smp.agent import BoardAgent, PatchedFile, ReportedEvent, find_agent
from blockota.gateway.faces.smp.board import BoardSlots, SmpBoard
from blockota.gateway.faces.smp.sectors import draw_pages, fault_of_pages
from blockota.gateway.faces.smp.session import open_session
from blockota.gateway.facts import DeltaOffer
from blockota.identity.identity_key import IdentityKey
from blockota.model.delivery import Stage

_SHA256_SIZE = 32
_NAME = re.compile("[0-9a-f]{64}")
_REPORTED_BYTES = 16 * 1024
"""The number of bytes of an upload between two reports of its progress."""
_LOGGED = 10.0
"""Seconds until an event must be in the log. If the log cannot be written, the board is still updated."""


class EventState(Enum):
    """The result of logging an event of a board."""

    LOGGED = auto()
    REFUSED = auto()
    WAITS = auto()


@dataclass
class BoardNotes:
    """The facts that the face remembers about a board between two visits.

    Attributes:
        log: writes a line of JSON about the board: ``log("patch refused", why="…")``.
        refused_patches: SHA-256 of the patches that failed on the board.
        checked: digest of the image whose pages were checked last, and the Unix time of the check.
        wrong_pages: the pages of the last check if the check failed; empty otherwise.
    """

    log: Callable[..., None]
    refused_patches: set[bytes] = field(default_factory=set)
    checked: tuple[bytes, int] | None = None
    wrong_pages: tuple[int, ...] = ()


@dataclass(frozen=True)
class VisitRules:
    """The settings for a board.

    Attributes:
        trial: seconds for which a new program must work before it is confirmed.
        check: seconds between two checks of the board's flash pages.
        identity_key: the key of the gateway's identity; None if the settings name no key.
        mac_key: the MAC key of the board's secure element; None if the key is not known.
    """

    trial: float
    check: float
    identity_key: IdentityKey | None = None
    mac_key: bytes | None = None


class ProvenDigests:
    """Finds proven files by their MCUboot digests.

    Args:
        folder: the folder with the proven files, each named by its SHA-256.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self._files: dict[bytes, bytes] = {}

    def image_of(self, digest: bytes) -> bytes | None:
        """Return the content of the proven file with an MCUboot digest; None if no file has this digest."""
        name = self.file_of(digest)
        try:
            return (self._folder / name.hex()).read_bytes() if name else None
        except OSError:
            return None

    def file_of(self, digest: bytes) -> bytes | None:
        """Return the SHA-256 of the proven file with an MCUboot digest; None if no file has this digest.

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


@dataclass(frozen=True)
class SmpVisit:
    """One visit to a board.

    Attributes:
        core: the gateway's core.
        number: the number of the device.
        board: the board.
        digests: finds proven files by their MCUboot digests.
        notes: the facts that the face remembers about the board.
        rules: the settings for the board.
    """

    core: Core
    number: int
    board: SmpBoard
    digests: ProvenDigests
    notes: BoardNotes
    rules: VisitRules

    async def run(self) -> bool:
        """Visit the board, and take the next step of its update.

        Returns whether the board was reset. Another visit must follow a reset.

        Raises:
            BoardError: the connection failed, or the board refuses a request.
            RefusedError: the core refuses the report.
        """
        slots = await self.board.slots()
        delivery = self.core.state(self.number)
        wanted = delivery.target.image if delivery.target else None

        # (1) The image is marked, but the connection failed before the reset.
        is_ours = delivery.stage in (Stage.TRANSFER, Stage.TRIAL) and not delivery.is_withheld
        if slots.other and slots.other.is_pending and is_ours and await self._file_of(slots.other.digest) == wanted:
            return await self._reset(delivery.job)

        if not slots.active.is_confirmed:  # the slots were exchanged after the last check
            self.notes.checked, self.notes.wrong_pages = None, ()
        running = await self._file_of(slots.active.digest)
        if not slots.active.is_confirmed and running == wanted and wanted is not None:  # (2)
            await self._report(slots)
            if self.core.state(self.number).stage is not Stage.TRIAL:
                return False
            slots = await self._confirmed(slots)
        if agent := await find_agent(self.board):
            await self._check_pages(agent, slots)
            await self._log_events(agent, slots)  # (3)
        await self._report(slots)  # (4)
        await self._refuse_configurations()

        offer = self.core.offer(self.number)
        if offer is None or not slots.active.is_confirmed:
            return False
        return await self._install(offer, slots, agent)  # (5)

    async def _refuse_configurations(self) -> None:
        """Refuse offers of configurations, because this face installs only firmware.

        Without the refusal, the order of a configuration would wait until its deadline.
        """
        for offer in self.core.offers(self.number):
            if offer.is_configuration:
                reason = "the face smp installs firmware only"
                await self.core.outcome(self.number, offer.job, succeeded=False, reason=reason, is_refusal=True)

    async def _check_pages(self, agent: BoardAgent, slots: BoardSlots) -> None:
        """Check pages of the running image if a check is due, or if the last check failed.

        After a failed check, the same pages are checked at every visit, until they have the content of the image.
        """
        notes, digest, now = self.notes, slots.active.digest, self.core.time()
        is_same = notes.checked is not None and notes.checked[0] == digest
        is_due = notes.checked is None or not is_same or now - notes.checked[1] >= self.rules.check
        if not (is_due or notes.wrong_pages) or not slots.active.is_confirmed:
            return

        image = await asyncio.to_thread(self.digests.image_of, digest)
        if image is None:
            return

        pages = notes.wrong_pages if is_same and notes.wrong_pages else draw_pages(len(image))
        try:
            fault = await self._fault_of_pages(agent, image, pages)
        except LinkError:
            raise
        except BoardError as error:  # a board without this command
            fault = ""
            if not is_same:
                notes.log("pages not checked", why=f"{error.what}: {error.why}")

        if fault and not notes.wrong_pages:
            await self.core.warn(self.number, f"the board does not count as running the release: {fault}")
        notes.checked, notes.wrong_pages = (digest, now), pages if fault else ()

    async def _fault_of_pages(self, agent: BoardAgent, image: bytes, pages: Sequence[int]) -> str:
        mac_key, serial = self.rules.mac_key, b""
        if mac_key is not None:
            try:
                serial = (await open_session(agent, self._key, time=self.core.time())).serial
            except LinkError:
                raise
            except (BoardError, RefusedError) as error:
                return f"{error.what}: {error.why}"
        return await fault_of_pages(agent, image, pages, mac_key=mac_key, serial=serial)

    async def _log_events(self, agent: BoardAgent, slots: BoardSlots) -> None:
        """Log the events of the board, and acknowledge each event after its entry is in the log.

        If the visit fails before the acknowledgement, the board sends the event again, and the core recognises the
        event's number. If the board signed its running image in an event, the core receives a report with this event
        before the acknowledgement.
        """
        kept = 0
        try:
            while events := await agent.events(after=kept):
                accepted: list[ReportedEvent] = []
                before = kept
                for one in events:
                    state = await self._log_event(one)
                    if state is EventState.WAITS:
                        break
                    kept = one.event.number
                    accepted += [one] if state is EventState.LOGGED else []

                await self._report_signed(accepted, slots)
                if kept > before:
                    await agent.acknowledge(kept)
                if kept < events[-1].event.number:
                    return
        except LinkError:
            raise
        except BoardError as error:  # without its events, the board can still be updated
            await self.core.warn(self.number, f"{error.what}: {error.why}")

    async def _log_event(self, one: ReportedEvent) -> EventState:
        event, statement = one.event, one.statement if self._key else None
        try:
            async with asyncio.timeout(_LOGGED):
                await self.core.event(self.number, text=event.text, counter=event.number, statement=statement)
        except (LimitReachedError, TimeoutError):
            return EventState.WAITS
        except AccessRefusedError:
            raise
        except RefusedError:
            # The core has logged the reason. Without an acknowledgement, the board would send the event for ever and
            # block later events.
            await self.core.warn(self.number, f"the event {event.number} was not accepted: {event.text}")
            return EventState.REFUSED
        return EventState.LOGGED

    async def _report_signed(self, events: Sequence[ReportedEvent], slots: BoardSlots) -> None:
        """Report the running image with the newest event in which the board signed this image."""
        active = slots.active
        for one in reversed(events):
            if one.statement and one.event.shows_running_image and one.event.digest == active.digest:
                if self._key and active.is_confirmed and not self.notes.wrong_pages:
                    with contextlib.suppress(RefusedError):  # the log has the reason
                        await self._report(slots, one.statement)
                return

    @property
    def _key(self) -> bytes | None:
        """The device's key in DeviceRegistry, as x and y; None if the device has no key."""
        device = self.core.device(self.number)
        return device.key.data if device and device.key else None

    async def _file_of(self, digest: bytes) -> bytes | None:
        return await asyncio.to_thread(self.digests.file_of, digest)

    async def _report(self, slots: BoardSlots, statement: bytes | None = None) -> None:
        """Report the running image; `statement` is a signed event about this image.

        If the image is unknown or its pages failed the check, the first 32 bytes of the board's digest are reported as
        the image. The core then recognises no release, because no file has these bytes as its SHA-256.
        """
        active = slots.active
        known = None if self.notes.wrong_pages else await self._file_of(active.digest)
        image = known or active.digest[:_SHA256_SIZE]
        report = Report(image or None, is_confirmed=active.is_confirmed, statement=statement, digest=active.digest)
        await self.core.reported(self.number, report)

    async def _confirmed(self, before: BoardSlots) -> BoardSlots:
        """Wait for the trial time, and confirm the program on trial if it still runs and answers.

        Returns:
            The images of the board after the confirmation, as the board reports them.
        """
        await asyncio.sleep(self.rules.trial)
        if not await self.board.echo(f"blockota {self.core.nonce(self.number).hex()}"):
            raise BoardError(
                "the program on trial is not confirmed", why="the program does not return the text of an echo"
            )
        slots = await self.board.slots()
        if slots.active.digest != before.active.digest:
            return slots
        await self.board.confirm(slots.active.digest)
        return await self.board.slots()

    async def _install(self, offer: DeviceOffer, slots: BoardSlots, agent: BoardAgent | None) -> bool:
        """Write an image to the second slot, mark it for a test, and reset the board. Returns whether it was reset."""
        image = await asyncio.to_thread(offer.path.read_bytes)
        digest = image_digest(image)

        await self._authorise(agent, digest)
        await self.core.offered(self.number, offer.job)

        try:
            if slots.other is None or slots.other.digest != digest:
                slots = await self._stored(offer, image, slots, agent)
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

    async def _stored(
        self, offer: DeviceOffer, image: bytes, slots: BoardSlots, agent: BoardAgent | None
    ) -> BoardSlots:
        """Write the second slot, and return the images of the board afterwards."""
        try:
            await self._fill(offer, image, slots, agent)
        except LinkError:
            raise
        except BoardError:
            if not (agent and agent.identity.is_authenticated):
                raise
            # A board that has restarted has forgotten the session, but still has the received bytes.
            await self._authorise(agent, image_digest(image))
            await self._fill(offer, image, slots, agent)
        return await self.board.slots()

    async def _authorise(self, agent: BoardAgent | None, digest: bytes) -> None:
        """Authenticate the board and the gateway to each other, so that the board accepts an image.

        Raises:
            RefusedError: the gateway refuses the board's signature, or the board refuses the gateway's signature. A
                warning with the reason is logged.
        """
        if agent is None or not agent.identity.is_authenticated:
            if self._key is not None:
                why = "the device has a key on record, and the board has no secure element in use"
                await self.core.warn(self.number, why)
            return

        try:
            session = await open_session(agent, self._key, time=self.core.time())
            await session.offer(digest, self.rules.identity_key)
        except RefusedError as error:
            await self.core.warn(self.number, f"{error.what}: {error.why}")
            raise

    async def _fill(self, offer: DeviceOffer, image: bytes, slots: BoardSlots, agent: BoardAgent | None) -> None:
        """Send a patch for the running image; send the whole image if no patch exists or the patch fails."""
        base = await self._file_of(slots.active.digest)
        if agent and (delta := self._delta(offer, base)):
            patch = await asyncio.to_thread(delta.path.read_bytes)
            try:
                await self._send(offer, agent.patch(patch, PatchedFile(len(image), offer.image, delta.base)))
            except LinkError:
                raise  # the next visit goes on with the patch
            except BoardError as error:
                self.notes.refused_patches.add(delta.sha256)
                self.notes.log("patch refused", why=f"{error.what}: {error.why}")
            else:
                return

        await self._send(offer, self.board.upload(image))

    def _delta(self, offer: DeviceOffer, base: bytes | None) -> DeltaOffer | None:
        """Return the smallest patch from the running image, except patches that failed on the board."""
        fitting = [one for one in offer.deltas if one.base == base and one.sha256 not in self.notes.refused_patches]
        smallest = min(fitting, key=lambda one: one.size, default=None)
        # A patch that is not smaller than the image saves nothing.
        return smallest if smallest and smallest.size < offer.size else None

    async def _send(self, offer: DeviceOffer, offsets: AsyncGenerator[int]) -> None:
        """Send an image or a patch, and report the progress. The transfer ends when the image is no longer offered."""
        reported = 0
        async with contextlib.aclosing(offsets):
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
        """Reset the board to start the marked image. The trial is recorded before the reset."""
        await self.core.outcome(self.number, job, succeeded=True)
        await self.board.reset()
        return True
