"""The gateway's state file: shared transactions, failures, and files of other programs."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest

from blockota.errors import RefusedError, StoreError
from blockota.gateway.state import DeviceRecord, GatewayState, StateChanges
from blockota.model.delivery import Outcome, Planned, Stage
from blockota.model.delivery_record import decode_delivery, encode_delivery
from tests.model.test_delivery import AT, NEXT, NOW, OFFER, OLD, runs, steps


class Points:
    """Counts the points before and after each transaction, and raises an error at some of them."""

    def __init__(self, *failing: int) -> None:
        self._failing, self.count = failing, 0

    def __call__(self) -> None:
        """Pass a point."""
        self.count += 1
        if self.count in self._failing:
            raise StoreError("the state cannot be written", why="no space left on device")


def changes(entry: bytes) -> StateChanges:
    """Return changes with one entry."""
    return StateChanges(NOW, entries=[entry])


def test_callers_share_transactions_in_their_order(tmp_path: Path) -> None:
    """The commits of 100 concurrent callers need at most three transactions.

    The log entries have the order of the calls to `commit`.
    """
    points = Points()

    async def use(state: GatewayState) -> list[range]:
        return await asyncio.gather(*(state.commit(changes(b"%d" % number)) for number in range(100)))

    with GatewayState(tmp_path / "state.sqlite", pause=points) as state:
        before = points.count
        numbers = [one[0] for one in asyncio.run(use(state))]
        assert (points.count - before) / 2 <= 3
        assert state.outbox() == [(number, b"%d" % index) for index, number in enumerate(numbers)]
        assert state.waiting() == 100


def test_a_change_that_could_not_be_written_is_written_next(tmp_path: Path) -> None:
    """A full disk is reported to the caller of `commit`.

    A change that could not be written is written before later changes, even if its caller was cancelled.
    """

    async def use(state: GatewayState) -> None:
        with pytest.raises(StoreError, match="no space left"):
            await state.commit(changes(b"first"))
        is_failing = state.is_failing
        impatient = asyncio.ensure_future(state.commit(changes(b"second")))
        await asyncio.sleep(0)
        impatient.cancel()
        await state.commit(changes(b"third"))
        assert (is_failing, state.is_failing) == (True, False)
        assert [entry for _, entry in state.outbox()] == [b"first", b"second", b"third"]

    with GatewayState(tmp_path / "state.sqlite", pause=Points(3)) as state:
        asyncio.run(use(state))


def test_the_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Deliveries of all stages and the records of devices survive a restart. Only the owner can read the state file."""
    given_up = steps(*OFFER, Outcome(succeeded=True), runs(OLD), Planned(NEXT)).delivery
    deliveries = {(number, ""): one for number, one in enumerate([*AT.values(), given_up])}
    record = DeviceRecord(7, 3, bytes(32), "rev-b", b"chip")
    path = tmp_path / "state.sqlite"
    with GatewayState(path) as state:
        asyncio.run(state.commit(StateChanges(NOW, deliveries, {256: record}, [b"entry"])))
        nonce = state.nonce(256, 3)
    with GatewayState(path) as state:
        assert {(device, slot): one for device, slot, one in state.deliveries()} == deliveries
        assert [one.stage for _, _, one in state.deliveries(0)] == [Stage.SETTLED]
        assert state.devices() == {256: record}
        assert (state.time, state.nonce(256, 3)) == (NOW, nonce)
        assert state.nonce(257, 3) != nonce
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_entries_leave_the_outbox_when_they_are_in_the_log(tmp_path: Path) -> None:
    """An entry that was appended to the log is removed from the outbox, and its number is not reused."""
    with GatewayState(tmp_path / "state.sqlite") as state:
        [first] = asyncio.run(state.commit(StateChanges(NOW, entries=[b"smoke"], event=(256, 1, b"digest"))))
        state.appended([(first, 41)])
        known = state.event(256, 1)
        assert known
        assert (known.position, state.outbox()) == (41, [])
        [second] = asyncio.run(state.commit(changes(b"fire")))
        assert second > first


def test_only_the_newest_events_of_a_device_are_recognised(tmp_path: Path) -> None:
    """The state remembers only the newest events of a device, and recognises an older event as forgotten."""

    async def send(state: GatewayState) -> None:
        events = [(256, number, b"digest") for number in range(70)]
        await asyncio.gather(*(state.commit(StateChanges(NOW, entries=[b"smoke"], event=one)) for one in events))

    with GatewayState(tmp_path / "state.sqlite") as state:
        asyncio.run(send(state))
        assert (state.event(256, 5), state.is_forgotten(256, 5)) == (None, True)
        assert state.event(256, 6)
        assert not state.is_forgotten(256, 70)


def test_credentials(tmp_path: Path) -> None:
    """A token is valid only for its face and its devices.

    A new key of a device replaces the old key. A revocation ends both.
    """
    path = tmp_path / "state.sqlite"
    with GatewayState(path) as state, GatewayState(path, is_owner=False) as beside:
        token = beside.issue_token("ddi", [256, 257])
        first, second = beside.issue_key("lwm2m", 256), beside.issue_key("lwm2m", 256)
        assert state.accepts_token("ddi", 257, token.encode())
        assert not state.accepts_token("mqtt", 257, token.encode())
        assert not state.accepts_token("ddi", 258, token.encode())
        assert (len(first), state.key("lwm2m", 256), state.key("lwm2m", 257)) == (16, second, None)
        state.revoke(256)
        assert not state.accepts_token("ddi", 256, token.encode())
        assert state.key("lwm2m", 256) is None
    raw = b"".join(one.read_bytes() for one in tmp_path.iterdir())
    assert token.encode() not in raw
    assert first not in raw


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A state file that is in use, damaged, or of another program or newer version is refused with the reason."""
    path = tmp_path / "state.sqlite"
    with GatewayState(path), pytest.raises(RefusedError, match="another process runs a gateway with this file"):
        GatewayState(path)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(RefusedError, match="a newer version of BlockOTA wrote it"):
        GatewayState(path)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE notes (text)")
    with pytest.raises(RefusedError, match="another program wrote it"):
        GatewayState(other)
    (tmp_path / "text").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="is damaged"):
        GatewayState(tmp_path / "text")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be read or written"):
        GatewayState(tmp_path / "file" / "state.sqlite")


@pytest.mark.parametrize("raw", [b"", b"\xa0", b"\x81\x02", encode_delivery(AT[Stage.TRIAL])[:-1], b"\x82\x01\x02"])
def test_a_damaged_delivery_is_refused(raw: bytes) -> None:
    """Bytes that are not the encoding of a delivery are refused."""
    with pytest.raises(ValueError, match=r"."):
        decode_delivery(raw)
