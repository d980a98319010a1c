"""The AN3155 face flashes boards with the bench's code.

If a new release fails, the face flashes the previous release again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import UsageError
from blockota.gateway.core import Core, Report
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.an3155 import FlashFace, create
from blockota.gateway.facts import ReleaseFacts, SiteFacts
from blockota.model.delivery import DeliveryPolicy, Stage
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from blockota.model.release import Product, Region, Status, Version
from blockota.model.target import GroupPolicy, Mode
from blockota.settings_table import SettingsTable
from firmware_host.bootloader.entry import BoardLine
from firmware_host.simulator import Faults, SimulatedBoard, serve_tcp
from tests.support.gateway import COMPONENT, GatewayCore, device_offer, gateway_core, known_device, release_facts
from tests.support.gateway import site_facts as site
from tests.support.programs import program
from tests.support.receipts import GATEWAY
from tests.support.sampling import sampled

BASE, CHIP, NUMBER = 0x0800_0000, 0x410, 300
OLDER, OLD, NEW = program(BASE, handlers=2), program(BASE, handlers=4), program(BASE, handlers=7)
DEADLINE = 120.0
UNIQUE_ID = bytes(range(1, 13))


def image_facts(folder: Path, image: bytes, version: str) -> ReleaseFacts:
    """Return a release for the simulated board."""
    offer = device_offer(folder, image, version=version)
    facts = release_facts(folder, version, sha256=offer.image, size=offer.size, load_address=BASE, chip_id=CHIP)
    assert facts.image
    return replace(facts, image=replace(facts.image, sha256=offer.image, size=offer.size, path=offer.path))


def facts_of(
    folder: Path, unique_id: bytes = UNIQUE_ID, *, minimum: Version | None = None, is_old_revoked: bool = False
) -> SiteFacts:
    """Return a site with one board, and three releases."""
    device = known_device(NUMBER, face="an3155", name=f"acme/thermo2/{unique_id.hex()}")
    older, old = image_facts(folder, OLDER, "0.9.0"), image_facts(folder, OLD, "1.0.0")
    if is_old_revoked:
        old = replace(old, release=replace(old.release, status=Status.REVOKED), is_active=False)
    facts = site([device], older, old, image_facts(folder, NEW, "1.1.0"))
    product = Product(COMPONENT.product, "acme", CHIP, Region(BASE, 0x10000), minimum, paired=True)
    known = {name: replace(one, product=product) for name, one in facts.components.items()}
    return replace(facts, components=known)


Condition = Callable[[list[LogEntry], GatewayCore], object]


def serve(
    folder: Path,
    board: SimulatedBoard,
    until: Condition,
    facts: SiteFacts | None = None,
    before: Callable[[Core], Awaitable[None]] | None = None,
) -> list[LogEntry]:
    """Run the face with a board until a condition is true; return the log entries.

    The function `before` is called first. Returns the entries.
    """

    async def run(url: str) -> list[LogEntry]:
        policy = GroupPolicy(delivery=DeliveryPolicy(pauses=()))
        async with gateway_core(folder, facts or facts_of(folder), policy=policy) as gateway:
            if before:
                await before(gateway.core)
            context = FaceContext(GATEWAY, folder, gateway.clock, lambda *_, why, **__: gateway.lines.append(why))
            face: FlashFace = create(SettingsTable("gateway.an3155", {"devices": {str(NUMBER): url}}, folder), context)
            face.settings = replace(face.settings, lines={NUMBER: BoardLine.parse(url)}, retry=0.05)
            gateway.core.add_face(face)
            task = asyncio.create_task(face.run(gateway.core))
            try:
                async with asyncio.timeout(DEADLINE):
                    while not until(gateway.entries(), gateway):  # noqa: ASYNC110 - the board is a thread
                        await asyncio.sleep(0.01)
                return gateway.entries()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    with serve_tcp(board) as url:
        return asyncio.run(run(url))


def sha256(image: bytes) -> bytes:
    """Return the SHA-256 of an image."""
    return hashlib.sha256(image).digest()


def kinds(entries: list[LogEntry]) -> list[tuple[EntryKind, bytes | None]]:
    """Return the kinds and images of log entries."""
    return [(one.kind, one.image) for one in entries]


def test_a_board_is_flashed(tmp_path: Path) -> None:
    """The face logs the release in the flash, and then the new release, at level C with the chip's unique id."""
    board = SimulatedBoard(flash=OLD, unique_id=UNIQUE_ID)
    entries = serve(tmp_path, board, lambda entries, _: len(entries) == 2)
    assert kinds(entries) == [(EntryKind.INSTALL, sha256(OLD)), (EntryKind.INSTALL, sha256(NEW))]
    assert {(one.level, one.unique_id) for one in entries} == {(EvidenceLevel.C, UNIQUE_ID)}
    assert board.flash[: len(NEW)] == NEW


def test_a_board_is_visited_when_its_record_is_known(tmp_path: Path) -> None:
    """If the gateway reads a board's record only after its start, the face still connects to the board.

    The board needs no offer for this.
    """
    running = set[asyncio.Task[None]]()

    async def learn(core: Core) -> None:
        for _ in range(100):  # the face finds no record first
            await asyncio.sleep(0)
        await core.update(facts_of(tmp_path), {"default": GroupPolicy(mode=Mode.ORDERED)})

    async def start(core: Core) -> None:
        running.add(asyncio.create_task(learn(core)))

    board = SimulatedBoard(flash=OLD, unique_id=UNIQUE_ID)
    entries = serve(tmp_path, board, lambda entries, _: entries, site([]), start)
    assert kinds(entries) == [(EntryKind.INSTALL, sha256(OLD))]


def test_the_release_before_is_flashed_again(tmp_path: Path) -> None:
    """If flashing fails after the flash has changed, the face flashes and logs the previous release."""
    board = SimulatedBoard(flash=OLD, unique_id=UNIQUE_ID, faults=Faults(power_cut_in_program=40))
    entries = serve(tmp_path, board, lambda entries, _: len(entries) == 3)
    assert kinds(entries) == [
        (EntryKind.INSTALL, sha256(OLD)),
        (EntryKind.EVENT, sha256(NEW)),
        (EntryKind.REINSTALL, sha256(OLD)),
    ]
    assert board.flash[: len(OLD)] == OLD


LATE_FAULTS = (
    Faults(power_cut_in_erase=1),
    Faults(power_cut_before_program=10),
    Faults(power_cut_after=700),
    Faults(silent_after=700),
    Faults(unplug_after=700),
    Faults(flip_received=700),
)
EARLY_FAULTS = (Faults(lost_ack=25), Faults(flip_sent=40), Faults(unplug_after_sent=60), Faults(noise_at_open=300))


@pytest.mark.sampled
@pytest.mark.parametrize("faults", sampled(LATE_FAULTS, one_in=4))
def test_after_each_fault_of_the_line_the_board_runs_what_the_log_states(tmp_path: Path, faults: Faults) -> None:
    """If a fault occurs after the first page erase, the face flashes the previous release and logs no false receipt."""
    board = SimulatedBoard(flash=OLD, unique_id=UNIQUE_ID, faults=faults)
    entries = serve(tmp_path, board, lambda entries, _: len(entries) == 3)
    assert kinds(entries) == [
        (EntryKind.INSTALL, sha256(OLD)),
        (EntryKind.EVENT, sha256(NEW)),
        (EntryKind.REINSTALL, sha256(OLD)),
    ]
    assert board.flash[: len(OLD)] == OLD


@pytest.mark.sampled
@pytest.mark.parametrize("faults", sampled(EARLY_FAULTS, one_in=4))
def test_a_fault_before_anything_is_erased_costs_no_try(tmp_path: Path, faults: Faults) -> None:
    """If a fault occurs before the first page erase, the face connects to the board again and installs the release."""
    board = SimulatedBoard(flash=OLD, unique_id=UNIQUE_ID, faults=faults)
    entries = serve(tmp_path, board, lambda entries, _: len(entries) == 2)
    assert kinds(entries) == [(EntryKind.INSTALL, sha256(OLD)), (EntryKind.INSTALL, sha256(NEW))]
    assert board.flash[: len(NEW)] == NEW


def test_the_newest_active_release_replaces_a_revoked_one(tmp_path: Path) -> None:
    """If the previous release is revoked, the face flashes the newest active release, even if its version is lower."""
    board = SimulatedBoard(flash=OLD, unique_id=UNIQUE_ID, faults=Faults(power_cut_in_program=40))
    facts = facts_of(tmp_path, is_old_revoked=True)
    entries = serve(tmp_path, board, lambda entries, _: len(entries) == 3, facts)
    assert kinds(entries) == [
        (EntryKind.INSTALL, sha256(OLD)),
        (EntryKind.EVENT, sha256(NEW)),
        (EntryKind.INSTALL, sha256(OLDER)),
    ]
    assert board.flash[: len(OLDER)] == OLDER


@pytest.mark.parametrize("is_old_revoked", [False, True])
def test_nothing_below_the_floor_is_flashed_again(tmp_path: Path, *, is_old_revoked: bool) -> None:
    """If the minimum version excludes the previous releases, the board remains without a program.

    The log has only the event.
    """
    board = SimulatedBoard(flash=OLD, unique_id=UNIQUE_ID, faults=Faults(power_cut_in_program=40))
    facts = facts_of(tmp_path, minimum=Version(1, 0, 1), is_old_revoked=is_old_revoked)
    given_up: Condition = lambda _, gateway: any("no other active release" in line for line in gateway.lines)  # noqa: E731
    entries = serve(tmp_path, board, given_up, facts)
    assert kinds(entries) == [(EntryKind.INSTALL, sha256(OLD)), (EntryKind.EVENT, sha256(NEW))]
    assert board.flash[: len(OLD)] != OLD
    assert board.flash[: len(OLDER)] != OLDER


def test_a_worn_page_makes_no_receipt(tmp_path: Path) -> None:
    """If a flash cell cannot be programmed, check 10 fails for the new release and for the previous release."""
    board = SimulatedBoard(flash=OLD, unique_id=UNIQUE_ID, faults=Faults(flipped_bit=BASE + len(OLD) - 2))
    entries = serve(tmp_path, board, lambda entries, _: len(entries) == 2)
    assert kinds(entries) == [(EntryKind.INSTALL, sha256(OLD)), (EntryKind.EVENT, sha256(NEW))]
    assert "check 10 failed" in (entries[1].source or "")


def test_an_erased_board_gets_its_release_again(tmp_path: Path) -> None:
    """A board that a failed try has erased gets its previous release again after a restart of the gateway.

    The board gets the release although no tries are left.
    """

    async def fail(core: Core) -> None:
        await core.reported(NUMBER, Report(image=sha256(OLD), level=EvidenceLevel.C, unique_id=UNIQUE_ID))
        await core.outcome(NUMBER, core.state(NUMBER).job, succeeded=False, reason="the board fell silent")
        assert core.state(NUMBER).stage is Stage.STOPPED

    board = SimulatedBoard(unique_id=UNIQUE_ID)
    entries = serve(tmp_path, board, lambda entries, _: len(entries) == 3, before=fail)
    assert kinds(entries)[2:] == [(EntryKind.REINSTALL, sha256(OLD))]
    assert board.flash[: len(OLD)] == OLD


def test_another_board_at_the_port_is_left_alone(tmp_path: Path) -> None:
    """A board whose unique id is not in the device's alias is not flashed; the only log entry is a warning."""
    board = SimulatedBoard(flash=OLD, unique_id=bytes(range(20, 32)))
    entries = serve(tmp_path, board, lambda entries, _: entries)
    assert [one.kind for one in entries] == [EntryKind.WARNING]
    assert board.flash[: len(OLD)] == OLD


def test_contents_that_are_not_a_release_are_not_replaced(tmp_path: Path) -> None:
    """Check 6 refuses a board with unknown contents. The delivery then stops until an operator retries it."""
    board = SimulatedBoard(flash=program(BASE, handlers=9), unique_id=UNIQUE_ID)
    stopped: Condition = lambda entries, gateway: entries and gateway.core.state(NUMBER).stage is Stage.STOPPED  # noqa: E731
    entries = serve(tmp_path, board, stopped)
    assert kinds(entries) == [(EntryKind.REFUSAL, sha256(NEW))]
    assert "check 6" in (entries[0].source or "")


@pytest.mark.parametrize(
    "table",
    [{}, {"devices": {"x": "/dev/ttyUSB0"}}, {"devices": {"1": "/dev/a", "2": "/dev/a"}}, {"port": "/dev/ttyUSB0"}],
)
def test_settings_that_cannot_be_used(tmp_path: Path, table: dict[str, Any]) -> None:
    """An invalid settings table is refused before the face runs."""
    context = FaceContext(GATEWAY, tmp_path, lambda: 0, lambda *_, **__: None)
    with pytest.raises(UsageError):
        create(SettingsTable("gateway.an3155", table, tmp_path), context)
