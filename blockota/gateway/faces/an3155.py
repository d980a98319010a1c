"""The face that flashes STM32 boards on the gateway's serial ports.

The face flashes a board with the same code as the flashing bench. A visit to a board runs in a thread, in these steps:

1. Connect, read the unique id, and find out which release is in the flash. The last part of the device's alias must be
   the unique id. A board with another unique id is not changed.
2. Report the release at level C, because the gateway has read the flash itself.
3. Flash the offered release. Checks 1 to 5 run on the confirmed record, checks 6 to 9 run before anything is erased,
   and check 10 runs afterwards.
4. If the flashing fails after the flash was changed, flash the previous release in the same way. If the previous
   release is not active, or is below the product's minimum version, flash the newest active release.

Between two visits, the face stores only the journal of an interrupted run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blockota.errors import BlockOTAError, BoardError, UsageError, VerificationError
from blockota.formats.mcuboot import program_offset
from blockota.gateway.core import Core, DeviceOffer, Report
from blockota.gateway.face import FaceContext
from blockota.gateway.facts import ComponentFacts, ReleaseFacts
from blockota.model.delivery import Stage
from blockota.model.facts import ChainAnswer, Consent, KnownReleases, ProvenRelease, Trust
from blockota.model.manifest import Description
from blockota.model.receipt import EvidenceLevel
from blockota.model.release import Release
from blockota.model.verification import prove_release
from blockota.settings_table import SettingsTable, decimal_number
from blockota.shutdown import Stop
from firmware_host.bench.port import open_port
from firmware_host.bootloader.entry import BoardLine
from firmware_host.flashing.flasher import finish
from firmware_host.flashing.journal import FlashJournal

_KNOWN = ("devices", "poll", "retry", "wiring", "replace_unknown")
_CONNECTED = 1
"""The number of received bytes that the face reports when the work on a board begins."""


@dataclass(frozen=True)
class FlashSettings:
    """The values of the table ``[gateway.an3155]``.

    Attributes:
        lines: the serial line of each board, by the number of the device.
        poll: seconds between two visits to a board without an offer; each visit stops the board's program.
        retry: seconds until the next visit after a failed visit, and after a visit for a device that is not registered.
        consent: the flash contents that may be replaced. Downgrades are allowed, because the core has already decided
            on them. A version below the product's minimum version is still refused.
    """

    lines: Mapping[int, BoardLine]
    poll: float = 86_400
    retry: float = 30
    consent: Consent = field(default_factory=lambda: Consent(allow_downgrade=True))

    @classmethod
    def read(cls, table: SettingsTable) -> FlashSettings:
        """Read the table.

        Raises:
            UsageError: a setting is not valid, or two devices have one port.
        """
        table.known(*_KNOWN)
        devices, wiring = table.table("devices"), table.text("wiring", "dtr-rts") or ""
        lines: dict[int, BoardLine] = {}
        for name in devices.values if devices else ():
            if devices is None or (number := decimal_number(name)) is None:
                raise table.unusable("devices", f"{name!r:.40} is not the number of a device")
            url = devices.text(name) or ""
            if any(url == line.url for line in lines.values()):
                raise table.unusable("devices", f"two devices have the port {url:.60}")
            lines[number] = BoardLine.parse(url, wiring=wiring)

        if not lines:
            raise UsageError(
                "[gateway.an3155] has no devices",
                why="the face serves the boards that the table [gateway.an3155.devices] names",
                remedy='add the table [gateway.an3155.devices] with lines such as 300 = "/dev/ttyUSB0"',
            )

        return cls(
            lines,
            poll=table.seconds("poll", 86_400),
            retry=table.seconds("retry", 30),
            consent=Consent(allow_downgrade=True, replace_unknown=table.flag("replace_unknown")),
        )


@dataclass(frozen=True)
class FoundBoard:
    """The unique id of a board and the content of its flash.

    Attributes:
        unique_id: the unique id of the chip; empty if it cannot be read.
        release: the release in the flash; None if the flash contains no known release.
        is_blank: whether the flash of the board is erased.
    """

    unique_id: str
    release: Release | None
    is_blank: bool


@dataclass
class BoardFlasher:
    """Reads and flashes the board at one port. The methods block, and are called in a thread.

    Attributes:
        line: the serial line.
        journals: the folder with the journals of interrupted runs.
        consent: the flash contents that may be replaced.
        stop: when requested, the work ends after the current bootloader command.
        has_erased: whether the last call of `flash` may have changed the flash.
    """

    line: BoardLine
    journals: Path
    consent: Consent
    stop: Stop
    has_erased: bool = False

    def identify(self, releases: Sequence[Release]) -> FoundBoard:
        """Find the release in the board's flash, and start the board's program again.

        Raises:
            BoardError: the board does not answer.
        """
        with open_port(self.line, stop=self.stop) as port:
            board = port.connect(is_stuck=True)
            found = board.search(releases)
            release = max(found.releases, key=lambda one: one.size, default=None) if found else None
            if release:
                port.start(board, release.load_address, listen=False)
            return FoundBoard(board.identity.unique_id or "", release, is_blank=found is None or found.is_blank)

    def flash(self, proven: ProvenRelease, known: Sequence[Release], unique_id: str) -> None:
        """Run checks 6 to 10, flash the release, and start the program.

        Raises:
            VerificationError: one of checks 6 to 9 failed; nothing was changed.
            BoardError: the link failed, or check 10 failed.
        """
        self.has_erased = False
        own = tuple(one for one in known if one.product == proven.release.product)
        others = [one for one in known if one.product != proven.release.product]

        with open_port(self.line, stop=self.stop) as port:
            board = port.connect(is_stuck=True)
            if board.identity.unique_id != unique_id:
                raise BoardError("the board was exchanged", why=f"its unique id is {board.identity.unique_id}")

            journal = FlashJournal(self.journals, unique_id, operator="gateway")
            cleared = board.examine(proven, known=KnownReleases(own, lambda: others), journal=journal).clear(
                self.consent
            )

            # From here on, the flash may have changed.
            self.has_erased = True
            finished = finish(cleared.flash(), lambda _: None)
            cleared.prove_flash(finished)
            with contextlib.suppress(BoardError):  # the flash is proven, only its start failed
                start = proven.release.load_address + program_offset(proven.image)
                port.start(board, start, listen=False)


class FlashFace:
    """Serves boards with ST's bootloader.

    Args:
        settings: the settings.
        context: the objects that the gateway's service passes to the face.
    """

    name = "an3155"

    def __init__(self, settings: FlashSettings, context: FaceContext) -> None:
        self.settings, self._context = settings, context
        self._changed = {number: asyncio.Event() for number in settings.lines}

    async def run(self, core: Core, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve the boards until the task is cancelled."""
        on_ready()
        stop = Stop()
        try:
            async with asyncio.TaskGroup() as group:
                for number, line in self.settings.lines.items():
                    folder = self._context.folder / "journals"
                    flasher = BoardFlasher(line, folder, self.settings.consent, stop)
                    group.create_task(self._serve(FlashVisit(core, number, flasher)))
        finally:
            stop.ask()

    def offer_changed(self, device: int) -> None:
        """Visit a board whose offer changed."""
        if device in self._changed:
            self._changed[device].set()

    async def _serve(self, visit: FlashVisit) -> None:
        """Visit a board repeatedly. A repeated failure is logged only once."""
        number, failure = visit.number, ""
        while True:
            self._changed[number].clear()
            pause, now = self.settings.poll, ""
            try:
                device = visit.core.device(number)
                if device is None:  # the gateway has not read its record yet, or it is not registered yet
                    pause = self.settings.retry
                elif not device.is_banned:
                    await visit.run()
            except BlockOTAError as error:
                pause, now = self.settings.retry, f"{error.what}: {error.why}"
                if now != failure:
                    self._context.log(self.name, "failed", device=number, why=now)

            failure = now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed[number].wait()


@dataclass(frozen=True)
class FlashVisit:
    """A visit to the board of one device.

    Attributes:
        core: the gateway's core.
        number: the number of the device.
        flasher: reads and flashes the board at the device's port.
    """

    core: Core
    number: int
    flasher: BoardFlasher

    async def run(self) -> None:
        """Report the board's release, and install the offer or restore a lost program.

        Raises:
            BlockOTAError: the visit failed.
        """
        device, products = self.core.device(self.number), self.core.products(self.number)
        known = [one.release for facts in products for one in facts.releases]
        found = await asyncio.to_thread(self.flasher.identify, known)
        if device is None or not found.unique_id or device.name.rpartition("/")[2].lower() != found.unique_id:
            await self.core.warn(self.number, f"the board at the port has the unique id {found.unique_id or 'unknown'}")
            raise BoardError(
                "another board is at the port",
                why=f"the board at the port has the unique id {found.unique_id or 'unknown'}",
            )
        if found.release:
            await self._report(found.release.sha256, found.unique_id)

        if offer := self.core.offer(self.number):
            await self._install(offer, found)
        elif not found.release and self._has_lost_program(found):
            await self._restore(found)

    def _has_lost_program(self, found: FoundBoard) -> bool:
        """Whether a failed try left the board without a program. A new board, which is blank, does not count."""
        delivery = self.core.state(self.number)
        return delivery.stage is not Stage.SETTLED and (delivery.running is not None or not found.is_blank)

    async def _report(self, image: bytes, unique_id: str, *, is_new: bool = False) -> None:
        chip = bytes.fromhex(unique_id)
        report = Report(image=image, level=EvidenceLevel.C, unique_id=chip, is_reinstalled=is_new)
        await self.core.reported(self.number, report)

    async def _install(self, offer: DeviceOffer, found: FoundBoard) -> None:
        """Flash the offered release. If the flashing fails after the flash was changed, restore another release."""
        await self.core.offered(self.number, offer.job)
        await self.core.progress(self.number, offer.job, _CONNECTED)
        releases = ((facts, one) for facts in self.core.products(self.number) for one in facts.releases)
        facts, release = next(pair for pair in releases if pair[1].id == offer.release and pair[1].image)

        try:
            await self._flash(facts, release, found.unique_id)
        except VerificationError as error:
            reason = f"check {error.number}: {error.what}: {error.why}"
            await self.core.outcome(self.number, offer.job, succeeded=False, reason=reason, is_refusal=True)
            raise
        except BlockOTAError as error:
            reason = f"{error.what}: {error.why}"
            await self.core.outcome(self.number, offer.job, succeeded=False, reason=reason)
            if not self.flasher.has_erased:
                raise
            await self._restore(found)

    async def _restore(self, found: FoundBoard) -> None:
        """Flash the release that the device ran before the failed try, or else the newest active release.

        Raises:
            BlockOTAError: no active release is left, or the flashing failed.
        """
        delivery = self.core.state(self.number)
        failed = delivery.target.image if delivery.target else None
        candidates = list[tuple[ComponentFacts, ReleaseFacts]]()
        for facts in self.core.products(self.number):
            if facts.withheld:
                continue
            floor = facts.product.minimum_version if facts.product else None
            for one in facts.releases:
                is_allowed = floor is None or floor <= one.release.version
                if one.is_active and one.image and one.release.sha256 != failed and is_allowed:
                    candidates.append((facts, one))

        # The release that ran before is preferred; otherwise the newest release is.
        candidates.sort(key=lambda pair: (pair[1].release.sha256 == delivery.running, pair[1].release.version))
        if not candidates:
            raise BoardError("the board has no program", why="the gateway has no other active release for it")
        await self._flash(*candidates[-1], found.unique_id)

    async def _flash(self, facts: ComponentFacts, chosen: ReleaseFacts, unique_id: str) -> None:
        """Prove a release again, flash the release, and report the installation."""
        proven = await asyncio.to_thread(_prove, facts, chosen)
        known = [one.release for each in self.core.products(self.number) for one in each.releases]
        await asyncio.to_thread(self.flasher.flash, proven, known, unique_id)
        await self._report(chosen.release.sha256, unique_id, is_new=self.flasher.has_erased)


def _prove(facts: ComponentFacts, chosen: ReleaseFacts) -> ProvenRelease:
    """Run checks 1 to 5 on the confirmed record and the image file."""
    component, path = facts.component, chosen.image.path if chosen.image else None
    if path is None:
        raise BoardError("the gateway does not have the image", why="it has not been found yet")

    answer = ChainAnswer(
        chain_id=component.chain_id,
        contract=component.contract,
        block_number=0,
        block_time=chosen.release.active_from,  # the core offers nothing before it
        newest_block=0,
        paused=False,  # the core offers nothing of a paused contract
        requested=component.product,
        product=facts.product,
        version=chosen.release.version,
        release=chosen.release,
        newest=max((one.release.version for one in facts.releases if one.is_active), default=None),
    )

    proven = prove_release(
        answer, Trust(component.chain_id, component.contract, 0), read_image=lambda _: path.read_bytes()
    )
    return ProvenRelease(
        proven.release,
        proven.product,
        proven.passed,
        proven.is_newest,
        proven.image,
        Description(manifest=chosen.manifest),
    )


def create(table: SettingsTable, context: FaceContext) -> FlashFace:
    """Make the face.

    Raises:
        UsageError: a setting is not valid.
    """
    return FlashFace(FlashSettings.read(table), context)
