"""A gateway that is killed between any two writes of an update neither loses nor repeats an entry.

Like the devices at every face, the simulated device repeats each message that was not acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.core import Report
from blockota.gateway.facts import KnownDevice, ReleaseFacts
from blockota.ledger.log import LogDisk, TileLog
from blockota.model.receipt import POSTPONES, EntryKind, LogEntry
from tests.support.gateway import GatewayCore, SteppedClock, known_device
from tests.support.gateway import release_facts as release
from tests.support.gateway import site_facts as site
from tests.support.receipts import SigningDevice
from tests.support.sampling import sampled

KINDS = ["claimed", "event", "event", "postponement", "install", "event"]
"""The entries of the update."""
POINTS = 60
"""An upper bound for the number of points in the update. `test_the_update_has_no_more_points` checks the bound."""


class KilledError(Exception):
    """The process is killed at the current point."""


class Killer:
    """Simulates the kill of a process at one of the points.

    After the chosen point, each later point raises the exception too, because a killed process writes nothing.
    """

    def __init__(self, at: int) -> None:
        self._at, self.count = at, 0

    def __call__(self) -> None:
        """Pass a point, or raise the exception if the point is the chosen point or a later point."""
        self.count += 1
        if self.count > self._at:
            raise KilledError


class KilledDisk(LogDisk):
    """A log's disk on which the test can kill the process before and after each write."""

    def __init__(self, folder: Path, killer: Killer) -> None:
        super().__init__(folder)
        self._killer = killer

    def write(self, path: str, data: bytes) -> None:
        """Write a file between two points."""
        self._killer()
        super().write(path, data)
        self._killer()

    def sync(self) -> None:
        """Flush the names to the disk, and then pass a point."""
        super().sync()
        self._killer()


class Update:
    """The messages of a device from its first report to its receipt.

    The device repeats each message until the gateway acknowledges the message.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thing = SigningDevice()
        key = PublicKey(KeyKind.P256, self._thing.key)
        self._device: KnownDevice = known_device(256, key=key)
        self._old, self._new = release(folder, "1.0.0"), release(folder, "1.1.0")
        self._statements: dict[str, bytes] = {}
        self._job = self._until = 0
        self._next = 0
        self._clock = SteppedClock()

    def run(self, killer: Killer) -> bool:
        """Run a gateway until the device has finished, or the gateway is killed.

        Return whether the device has finished.
        """
        try:
            asyncio.run(self._session(killer))
        except KilledError:
            self._clock.now += 1  # a repeated entry would have another time
            return False
        return True

    def kinds(self) -> list[str]:
        """Return the kinds of the entries in the log."""
        return [str(LogEntry.decode(raw).kind) for raw in TileLog(self._folder / "log").entries()]

    async def _session(self, killer: Killer) -> None:
        log = TileLog(self._folder / "log", disk=KilledDisk(self._folder / "log", killer))
        with GatewayCore(self._folder, pause=killer, clock=self._clock) as gateway:
            await gateway.core.update(site([self._device], self._old, self._new), {})
            await feed(gateway, log)
            for number, message in enumerate(self._messages(gateway)):
                if number >= self._next:
                    task = asyncio.ensure_future(message())
                    while not task.done():
                        await feed(gateway, log)
                        await asyncio.sleep(0)
                    await task
                    await feed(gateway, log)
                    self._next = number + 1

    def _messages(self, gateway: GatewayCore) -> Iterator[Callable[[], Awaitable[object]]]:
        core, old, new = gateway.core, self._old.release.sha256, self._new.release.sha256

        async def takes_offer() -> None:
            offer = core.offer(256)
            assert offer
            self._job = offer.job

        async def postpones() -> None:
            self._until = self._until or gateway.clock.now + 4  # the same in the repeated message
            statement = self._signed(gateway, self._new, POSTPONES)
            await core.postponed(256, self._job, until=self._until, statement=statement)

        yield lambda: core.reported(256, Report(image=old, unique_id=b"chip"))
        yield takes_offer
        yield lambda: core.progress(256, self._job, 3)
        yield lambda: core.outcome(256, self._job, succeeded=False, reason="spoiled")
        yield lambda: core.event(256, text="smoke", counter=1)
        yield lambda: gateway.clock.advance(core, 70)
        yield takes_offer
        yield postpones
        yield lambda: gateway.clock.advance(core, 5)
        yield takes_offer
        yield lambda: core.outcome(256, self._job, succeeded=True)
        yield lambda: core.reported(256, Report(image=new, is_confirmed=False))
        yield lambda: core.reported(256, Report(image=new, statement=self._signed(gateway, self._new)))
        yield lambda: core.event(256, text="all is well", counter=2)

    def _signed(self, gateway: GatewayCore, one: ReleaseFacts, kind: str = "application/blockota-runs") -> bytes:
        """Sign a statement once, and return the same statement in later calls."""
        if kind not in self._statements:
            nonce = gateway.core.nonce(256)
            self._statements[kind] = self._thing.state(one.release.sha256, nonce=nonce, kind=kind)[1]
        return self._statements[kind]


async def feed(gateway: GatewayCore, log: TileLog) -> None:
    """Append the outbox to the log, as the gateway service does."""
    waiting = gateway.state.outbox()
    if waiting:
        indices = log.append(entry for _, entry in waiting)
        positions = [(sequence, index) for (sequence, _), index in zip(waiting, indices, strict=True)]
        gateway.state.appended(positions)
        gateway.core.appended(positions)


def test_the_update_has_no_more_points(tmp_path: Path) -> None:
    """Without a kill, the update causes the expected entries, and passes at most `POINTS` kill points."""
    killer, update = Killer(1000), Update(tmp_path)
    assert update.run(killer)
    assert update.kinds() == KINDS
    assert killer.count <= POINTS


@pytest.mark.sampled
@pytest.mark.parametrize("point", sampled(range(POINTS), one_in=7))
def test_a_killed_gateway_goes_on(tmp_path: Path, point: int) -> None:
    """After a kill at any point, and a second kill soon after, the log has each entry once and in order."""
    update = Update(tmp_path)
    killers = iter([Killer(point), Killer(point % 5), Killer(1000)])
    while not update.run(next(killers)):
        pass
    assert update.kinds() == KINDS
    entries = [LogEntry.decode(raw) for raw in TileLog(tmp_path / "log").entries()]
    assert len([one for one in entries if one.kind is EntryKind.INSTALL]) == 1
