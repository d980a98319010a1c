"""The SMP face reads the events of BlockOTA's agent on a board."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from blockota.gateway.entries import ENTRIES_PER_MINUTE
from blockota.ledger.log import TileLog
from blockota.model.boot_event import BootEvent
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from tests.gateway.test_core_crash import KilledDisk, KilledError, Killer, feed
from tests.support.agent_device import CONFIRMED, STARTED, TRIAL, AgentDevice
from tests.support.gateway import GatewayCore, SteppedClock, known_device
from tests.support.sampling import sampled
from tests.support.smp_device import digest_of, encoded
from tests.support.smp_face import NEW, NUMBER, OLD, Site, facts_of, serve, served

__all__ = ["serve"]
POINTS = 150
"""An upper bound for the number of points at which the gateway is killed. `test_no_kill` checks the bound."""


def numbers(entries: list[LogEntry]) -> list[int | None]:
    """Return the board's event numbers in the log entries."""
    return [entry.counter for entry in entries if entry.kind is EntryKind.EVENT]


def board_of(site: Site) -> AgentDevice:
    """Return the board of a site."""
    assert isinstance(site.board, AgentDevice)
    return site.board


def test_the_events_of_an_update_are_logged(serve: Callable[..., None]) -> None:
    """A start, a start on trial and a confirmation are logged with the board's event numbers, and are acknowledged."""

    async def use(site: Site) -> None:
        board = board_of(site)
        await site.until(lambda: board.events.number == 3 and not board.events.waiting)
        events = [entry for entry in site.entries() if entry.kind is EntryKind.EVENT and entry.counter]
        old, new = digest_of(OLD) or b"", digest_of(NEW) or b""
        wanted = [(STARTED, 0, old), (STARTED, TRIAL, new), (CONFIRMED, 0, new)]
        assert [entry.source for entry in events] == [
            BootEvent(place + 1, *items).text for place, items in enumerate(wanted)
        ]
        assert [entry.counter for entry in events] == [1, 2, 3]
        assert {entry.level for entry in events} == {EvidenceLevel.B}
        assert board.events.acknowledged == [1, 3]

    serve(use, kind=AgentDevice)


def test_more_events_than_fit_into_an_answer(serve: Callable[..., None]) -> None:
    """The face reads and acknowledges a board's events until the board has no more events."""

    async def use(site: Site) -> None:
        board = board_of(site)
        await site.until(lambda: board.events.number >= 13 and not board.events.waiting)
        assert numbers(site.entries()) == list(range(1, board.events.number + 1))

    def start(site: Site) -> Awaitable[None]:
        for _ in range(12):
            board_of(site).events.add(STARTED, 0, bytes(32))
        return use(site)

    serve(start, kind=AgentDevice)


def test_events_that_are_too_many_wait(serve: Callable[..., None]) -> None:
    """Events above the limit per minute are logged and acknowledged only in the next minute."""

    async def use(site: Site) -> None:
        board, core = board_of(site), site.gateway.core
        await site.until(lambda: not board.events.waiting)
        while (board.events.number) < ENTRIES_PER_MINUTE + 8:
            for _ in range(8):
                board.events.add(STARTED, 0, bytes(32))
            count = board.events.number
            await site.until(lambda: not board.events.waiting or "too many entries" in site.texts())
        assert board.events.waiting
        await site.gateway.clock.advance(core, 61)
        await site.until(lambda: not board.events.waiting)
        assert numbers(site.entries())[:count] == list(range(1, count + 1))

    serve(use, kind=AgentDevice)


def test_another_event_with_a_used_number(serve: Callable[..., None]) -> None:
    """If a board restarts its event numbers, a repeated number causes a warning, and later events are logged."""

    async def use(site: Site) -> None:
        board = board_of(site)
        await site.until(lambda: board.events.number == 3 and not board.events.waiting)
        board.events.number = 0
        for detail in (0, 0, 0, 8):
            board.events.add(STARTED, detail, bytes(32))
        await site.until(lambda: not board.events.waiting)
        assert numbers(site.entries()) == [1, 2, 3, 4]
        warnings = [entry.source or "" for entry in site.entries() if entry.kind is EntryKind.WARNING]
        assert f"the event 1 was not accepted: {BootEvent(1, STARTED, 0, bytes(32)).text}" in warnings

    serve(use, kind=AgentDevice)


@pytest.mark.parametrize(
    "answer",
    [
        {"events": [{"number": 2, "kind": 1, "detail": 0, "digest": bytes(32)}] * 2},
        {"events": [{"number": 0, "kind": 1, "detail": 0, "digest": bytes(32)}]},
        {"events": [{"number": 2, "kind": 256, "detail": 0, "digest": bytes(32)}]},
        {"events": [{"number": 2, "kind": 1, "detail": 0, "digest": bytes(31)}]},
        {"events": [{"number": 2}]},
        {"rc": 1, "rsn": "flash error"},
    ],
    ids=["repeated", "zero", "kind", "digest", "incomplete", "refused"],
)
def test_events_that_cannot_be_used(serve: Callable[..., None], answer: dict[str, object]) -> None:
    """Malformed events cause a warning and are not acknowledged, and the update of the board continues."""

    async def use(site: Site) -> None:
        await site.until(lambda: site.board.running == digest_of(NEW) and site.board.is_confirmed)
        await site.until(lambda: "events" in site.texts())
        assert board_of(site).events.acknowledged == []

    def start(site: Site) -> Awaitable[None]:
        site.board.faults.answers[64, 2] = encoded(answer)
        return use(site)

    serve(start, kind=AgentDevice)


def test_group_64_of_another_program(serve: Callable[..., None]) -> None:
    """If a board uses SMP group 64 for another purpose, the face sends no further command of this group."""

    async def use(site: Site) -> None:
        await site.until(lambda: site.board.running == digest_of(NEW) and site.board.is_confirmed)
        assert board_of(site).events.acknowledged == []
        assert not [entry for entry in site.entries() if entry.counter]

    def start(site: Site) -> Awaitable[None]:
        site.board.faults.answers[64, 0] = encoded({"temperature": 21})
        return use(site)

    serve(start, kind=AgentDevice)


class KilledGateway:
    """A gateway that is killed while it logs a board's events, and then started again."""

    def __init__(self, folder: Path, board: AgentDevice) -> None:
        self._folder, self._board = folder, board
        self._clock = SteppedClock()

    def run(self, killer: Killer) -> bool:
        """Run the gateway until the board has no events, or until it is killed.

        Return False if the gateway was killed, else True.
        """
        is_killed = False
        try:
            asyncio.run(self._session(killer))
        except* KilledError:
            is_killed = True
            self._clock.now += 1  # a repeated entry would have another time
        return not is_killed

    def numbers(self) -> list[int | None]:
        """Return the event numbers in the log."""
        return numbers([LogEntry.decode(raw) for raw in TileLog(self._folder / "log").entries()])

    async def _session(self, killer: Killer) -> None:
        log = TileLog(self._folder / "log", disk=KilledDisk(self._folder / "log", killer))
        with GatewayCore(self._folder, pause=killer, clock=self._clock) as gateway:
            await gateway.core.update(facts_of(self._folder, device=known_device(NUMBER, face="smp")), {})
            async with served(gateway, self._folder, self._board) as site:
                while self._board.events.waiting or self._board.events.number < 9 or gateway.state.waiting():
                    if site.task.done():
                        await site.task
                    await feed(gateway, log)
                    await asyncio.sleep(0.001)


def killed_at(folder: Path, *points: int) -> tuple[list[Killer], list[int | None]]:
    """Run a gateway that is killed at chosen points, while a board has nine events to deliver."""
    with AgentDevice(folder / "port", OLD) as board:
        for _ in range(6):
            board.events.add(STARTED, 0, digest_of(OLD) or b"")
        gateway, killers = KilledGateway(folder, board), [Killer(point) for point in points]
        for killer in killers:
            if gateway.run(killer):
                break
        return killers, gateway.numbers()


def test_no_kill(tmp_path: Path) -> None:
    """Without a kill, all events are logged, and the run has at most `POINTS` possible kill points."""
    [killer], logged = killed_at(tmp_path, 10_000)
    assert logged == list(range(1, 10))
    assert killer.count <= POINTS


@pytest.mark.sampled
@pytest.mark.parametrize("point", sampled(range(POINTS), one_in=15))
def test_a_killed_gateway_logs_each_event_once(tmp_path: Path, point: int) -> None:
    """After a kill at any point, and a second kill soon after, no event is lost or logged twice."""
    _, logged = killed_at(tmp_path, point, point % 5, 10_000)
    assert logged == list(range(1, 10))
