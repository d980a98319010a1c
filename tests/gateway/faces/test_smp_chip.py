"""The SMP face and boards with a secure element: signed offers, signed events, and receipts at level A."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import BoardError, RefusedError
from blockota.formats.p256 import ORDER
from blockota.formats.public_key import KeyKind, PublicKey
from blockota.gateway.faces.smp.agent import BoardAgent, PatchedFile, find_agent
from blockota.gateway.faces.smp.board import SmpBoard, SmpLine, open_board
from blockota.gateway.faces.smp.session import open_session
from blockota.identity.identity_key import open_identity_key
from blockota.model.boot_event import SignedBootEvent
from blockota.model.delivery import Stage
from blockota.model.evidence import judge
from blockota.model.receipt import EntryKind, EvidenceLevel, LogEntry
from tests.support.agent_device import STARTED
from tests.support.chip_device import ChipAgentDevice, DeviceChip
from tests.support.gateway import known_device
from tests.support.smp_device import digest_of
from tests.support.smp_face import GATEWAY_SECRET, NEW, NUMBER, OLD, Site, serve

__all__ = ["serve"]
KEY = DeviceChip().public_key
FACTS = {"device": known_device(NUMBER, face="smp", key=PublicKey(KeyKind.P256, KEY))}
OLD_IMAGE, NEW_IMAGE = hashlib.sha256(OLD).digest(), hashlib.sha256(NEW).digest()
Serve = Callable[..., None]


def board_of(site: Site) -> ChipAgentDevice:
    """Return the board of a site."""
    assert isinstance(site.board, ChipAgentDevice)
    return site.board


def entries(site: Site, *kinds: EntryKind) -> list[LogEntry]:
    """Return the log entries of the given kinds that the board caused."""
    return [entry for entry in site.entries() if entry.kind in kinds and entry.level]


async def settled(site: Site) -> None:
    """Wait until the board runs the new image, and all its events are acknowledged."""
    board = board_of(site)
    await site.until(lambda: board.running == digest_of(NEW) and board.is_confirmed and not board.events.waiting)
    await site.until(lambda: site.stage is Stage.SETTLED and NEW_IMAGE in [entry.image for entry in site.entries()])


def warnings(site: Site) -> str:
    """Return the texts of all warnings."""
    return "\n".join(entry.source or "" for entry in site.entries() if entry.kind is EntryKind.WARNING)


def test_events_and_receipts_are_signed(serve: Serve) -> None:
    """Signed events have evidence level A.

    A receipt that contains a signed event about the board's image also has level A.
    """

    async def use(site: Site) -> None:
        await settled(site)
        events = entries(site, EntryKind.EVENT)
        assert [(entry.counter, entry.level) for entry in events] == [(n, EvidenceLevel.A) for n in (1, 2, 3)]
        receipts = entries(site, EntryKind.INSTALL, EntryKind.CLAIMED)
        assert [(entry.image, entry.counter) for entry in receipts] == [(OLD_IMAGE, 1), (NEW_IMAGE, 3)]
        assert {entry.level for entry in receipts} == {EvidenceLevel.A}
        assert not warnings(site)
        for entry in (*events, *receipts):
            assert entry.signature
            assert SignedBootEvent.decode(entry.signature).event.number == entry.counter
            assert judge(entry, KEY).is_signed
        assert judge(receipts[1], KEY).proves == "the device signed the MCUboot digest of its image with its own key"

    serve(use, kind=ChipAgentDevice, facts=FACTS)


def test_a_high_s_is_normalised(serve: Serve) -> None:
    """A signature with a high s is converted to the low s before it is logged, and still verifies."""

    async def use(site: Site) -> None:
        await settled(site)
        for entry in entries(site, EntryKind.EVENT):
            assert entry.signature
            assert int.from_bytes(entry.signature[-32:]) <= ORDER // 2
            assert judge(entry, KEY).is_signed

    def start(site: Site) -> Awaitable[None]:
        board, sign = board_of(site), board_of(site).sign

        def high(content: bytes) -> bytes:
            signature = sign(content)
            s = int.from_bytes(signature[32:])
            return signature[:32] + max(s, ORDER - s).to_bytes(32)

        board.sign = high  # type: ignore[method-assign]
        return use(site)

    serve(start, kind=ChipAgentDevice, facts=FACTS)


def test_a_board_with_another_key(serve: Serve) -> None:
    """A board that signs with another key gets no image, and its events are logged as warnings."""

    async def use(site: Site) -> None:
        await site.until(lambda: "the board is not the device" in warnings(site))
        await site.until(lambda: not site.board.faults.lost and site.board.answers > 20)
        assert not entries(site, EntryKind.EVENT, EntryKind.INSTALL)
        assert "the signature of the event does not belong to the device's key on record" in warnings(site)
        assert "the event 1 was not accepted: the board started" in warnings(site)
        assert [entry.image for entry in entries(site, EntryKind.CLAIMED)] == [OLD_IMAGE]
        assert (site.board.written, board_of(site).opened, site.stage) == (0, [], Stage.OFFERED)

    def start(site: Site) -> Awaitable[None]:
        board_of(site).flaws.signs_other = True
        return use(site)

    serve(start, kind=ChipAgentDevice, facts=FACTS)


def test_a_replayed_session(serve: Serve) -> None:
    """A board that replays the signature of an earlier session gets no image, because its nonce is old."""

    async def use(site: Site) -> None:
        await site.until(lambda: "the session was not signed with the device's key in DeviceRegistry" in warnings(site))
        assert (site.board.written, board_of(site).opened) == (0, [])

    def start(site: Site) -> Awaitable[None]:
        board = board_of(site)
        board.flaws.replayed = board.open_session({"nonce": bytes(32), "id": bytes(16), "time": 1})
        return use(site)

    serve(start, kind=ChipAgentDevice, facts=FACTS)


def test_the_offer_is_authenticated(serve: Serve) -> None:
    """For one image, one session is opened and one offer is signed."""

    async def use(site: Site) -> None:
        await settled(site)
        board = board_of(site)
        assert (board.sessions, board.opened) == (1, [digest_of(NEW)])

    serve(use, kind=ChipAgentDevice, facts=FACTS)


@pytest.mark.parametrize("key", ["another gateway", None])
def test_a_gateway_that_is_not_accepted(serve: Serve, monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    """A board refuses the offer of a gateway with another key or without a key. No try is used up."""
    wanted = "takes images only from a gateway that signs" if key is None else "the board does not accept this gateway"

    async def use(site: Site) -> None:
        await site.until(lambda: wanted in warnings(site))
        assert (site.board.written, board_of(site).opened, site.stage) == (0, [], Stage.OFFERED)

    monkeypatch.setenv("OTHER_KEY", f"{0xBAD:064x}")
    serve(use, kind=ChipAgentDevice, facts={**FACTS, "identity_key": key and "env:OTHER_KEY"})


def test_a_board_that_restarts_during_the_upload(serve: Serve) -> None:
    """After a restart of the board, the face opens a second session in the same try and continues the upload."""

    async def use(site: Site) -> None:
        await settled(site)
        board = board_of(site)
        assert (board.sessions, board.opened, board.written) == (2, [digest_of(NEW)] * 2, len(NEW))

    def start(site: Site) -> Awaitable[None]:
        board_of(site).flaws.restarts_at = 1000
        return use(site)

    serve(start, kind=ChipAgentDevice, facts=FACTS, board={"keeps_upload": True})


def test_a_board_takes_nothing_without_an_offer(tmp_path: Path) -> None:
    """The simulated board refuses uploads, patches and test marks without a session, or for another image."""
    key = open_identity_key("env:KEY", environment={"KEY": f"{GATEWAY_SECRET:064x}"})

    async def refused(board: SmpBoard, agent: BoardAgent) -> None:
        file = PatchedFile(len(NEW), NEW_IMAGE, OLD_IMAGE)
        with pytest.raises(BoardError, match=r"error .*11"):
            await anext(board.upload(NEW))
        with pytest.raises(BoardError, match=r"error .*11"):
            await anext(agent.patch(b"patch", file))
        with pytest.raises(BoardError, match=r"error .*11"):
            await board.mark(digest_of(NEW) or b"")

    async def main() -> None:
        async with open_board(SmpLine(str(device.port))) as board:
            agent = await find_agent(board)
            assert agent
            await refused(board, agent)
            session = await open_session(agent, KEY, time=1)
            with pytest.raises(RefusedError, match="does not accept this gateway"):
                await replace(session, nonce=bytes(32)).offer(bytes(32), key)
            await refused(board, agent)
            session = await open_session(agent, KEY, time=1)
            await session.offer(digest_of(OLD) or b"", key)
            assert [offset async for offset in board.upload(NEW)][-1] == len(NEW)
            with pytest.raises(BoardError, match=r"error .*11"):
                await board.mark(digest_of(NEW) or b"")

    with ChipAgentDevice(tmp_path / "port", OLD) as device:
        asyncio.run(main())


@pytest.mark.parametrize("facts", [FACTS, {}], ids=["silent chip", "no key on record"])
def test_events_without_a_signature(serve: Serve, facts: dict[str, Any]) -> None:
    """Unsigned events have level B, and the installation is only claimed."""

    async def use(site: Site) -> None:
        await settled(site)
        levels = {entry.level for entry in entries(site, EntryKind.EVENT)}
        assert levels == {EvidenceLevel.B}
        assert [entry.image for entry in entries(site, EntryKind.CLAIMED)] == [OLD_IMAGE, NEW_IMAGE]

    def start(site: Site) -> Awaitable[None]:
        board_of(site).flaws.is_silent = bool(facts)
        return use(site)

    serve(start, kind=ChipAgentDevice, facts=facts)


def test_a_replayed_event_is_refused(serve: Serve) -> None:
    """A replayed signed event is neither logged again nor accepted as a statement about the running image."""

    async def use(site: Site) -> None:
        await settled(site)
        board, before = board_of(site), len(entries(site, *EntryKind))
        replayed = {"number": 1, "kind": STARTED, "detail": 0, "digest": digest_of(OLD)}
        board.slots.reverse()  # a board that was written with a debugger
        board.events.waiting = [replayed]
        await site.until(lambda: not board.events.waiting)
        assert "the statement is replayed: its counter is 1, after 3" in warnings(site)
        await site.until(lambda: len(entries(site, EntryKind.CLAIMED)) == 1)
        assert len(entries(site, EntryKind.EVENT)) == 3
        assert len(entries(site, *EntryKind)) == before + 1

    serve(use, kind=ChipAgentDevice, facts=FACTS)


def test_another_event_with_a_used_number_is_refused(serve: Serve) -> None:
    """An event with an already used number, but other contents, is refused with a warning.

    The counter of the secure element never repeats a number.
    """

    async def use(site: Site) -> None:
        await settled(site)
        board = board_of(site)
        board.events.waiting = [{"number": 2, "kind": STARTED, "detail": 2, "digest": digest_of(NEW)}]
        await site.until(lambda: not board.events.waiting)
        assert "the device has sent another event with the number 2" in warnings(site)
        assert [entry.counter for entry in entries(site, EntryKind.EVENT)] == [1, 2, 3]

    serve(use, kind=ChipAgentDevice, facts=FACTS)


def test_an_acknowledgement_that_was_lost(serve: Serve) -> None:
    """If an acknowledgement was lost, the board signs the same event again, with another signature.

    An event that is signed twice makes one entry and one receipt.
    """

    async def use(site: Site) -> None:
        await settled(site)
        assert [entry.counter for entry in entries(site, EntryKind.EVENT)] == [1, 2, 3]
        assert len(entries(site, EntryKind.INSTALL)) == len(entries(site, EntryKind.INSTALL, EntryKind.CLAIMED)) == 2
        assert not warnings(site)

    def start(site: Site) -> Awaitable[None]:
        board_of(site).events.lost = 3
        return use(site)

    serve(start, kind=ChipAgentDevice, facts=FACTS)
