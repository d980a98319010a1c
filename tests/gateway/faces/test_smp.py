"""The SMP face updates boards with MCUboot, and reports an installation only after the confirmation."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tty
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from blockota.errors import BoardError, LinkError, UsageError
from blockota.gateway.face import FaceContext
from blockota.gateway.faces.smp import create
from blockota.gateway.faces.smp.board import SmpLine, open_board, udp_address
from blockota.model.delivery import Stage
from blockota.model.receipt import EntryKind
from blockota.settings_table import SettingsTable
from tests.support.receipts import GATEWAY
from tests.support.smp_device import BUSY, SmpDevice, SmpUdpDevice, digest_of, encoded
from tests.support.smp_face import CONFIGURATION, FOREIGN, NEW, NUMBER, OLD, Site, serve

__all__ = ["serve"]


def sha256(image: bytes) -> bytes:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(image).digest()


async def installed(site: Site) -> None:
    """Wait until the new image is installed.

    Check that the installation is logged once, and only after the confirmation.
    """
    await site.until(lambda: sha256(NEW) in site.logged(EntryKind.CLAIMED) and site.stage is Stage.SETTLED)
    assert (site.board.running, site.board.is_confirmed) == (digest_of(NEW), True)
    assert site.logged(EntryKind.CLAIMED) == [sha256(OLD), sha256(NEW)]


def test_an_image_is_installed(serve: Callable[..., None]) -> None:
    """An image is uploaded, tested and confirmed, and then reported by the SHA-256 of its file."""

    async def use(site: Site) -> None:
        await installed(site)
        assert site.board.starts == 1
        assert site.board.written == len(NEW)

    serve(use)


def test_a_board_is_updated_over_udp(serve: Callable[..., None]) -> None:
    """An update over UDP succeeds, although two responses are lost."""

    async def use(site: Site) -> None:
        assert str(site.board.port).startswith("udp:127.0.0.1:")
        site.board.faults.lost = {3, 8}
        await installed(site)
        assert site.board.starts == 1

    serve(use, kind=SmpUdpDevice)


def test_a_configuration_is_refused(serve: Callable[..., None]) -> None:
    """A configuration for an SMP board is logged as refused with its reason, and the firmware is installed."""

    async def use(site: Site) -> None:
        await site.until(lambda: site.logged(EntryKind.REFUSAL))
        await installed(site)
        assert len(site.logged(EntryKind.REFUSAL)) == 1
        assert "the face smp installs firmware only" in site.texts()
        assert site.gateway.core.state(NUMBER, CONFIGURATION.product).stage is Stage.STOPPED

    serve(use)


def test_a_program_that_prints_is_served(serve: Callable[..., None]) -> None:
    """Lines that the board's program prints between its responses are ignored."""

    async def use(site: Site) -> None:
        site.board.faults.noise = b"temperature 21.5\r\n\x06"
        await installed(site)

    serve(use)


@pytest.mark.parametrize("keeps_upload", [False, True], ids=["from the start", "resumed"])
def test_a_power_cut_during_the_upload(serve: Callable[..., None], *, keeps_upload: bool) -> None:
    """After a power cut, the upload continues at the offset that the board states.

    A board that has lost the upload's beginning gets the whole image again.
    """

    async def use(site: Site) -> None:
        await installed(site)
        assert site.board.starts == 2
        assert (site.board.written == len(NEW)) is keeps_upload

    def cut(site: Site) -> Awaitable[None]:
        site.board.faults.cut_at = 2000
        return use(site)

    serve(cut, board={"keeps_upload": keeps_upload})


def test_every_lost_answer_is_overcome(serve: Callable[..., None]) -> None:
    """After lost responses, the face visits the board again, and the image is installed once."""

    async def use(site: Site) -> None:
        site.board.faults.lost = {4, 12}
        await installed(site)

    serve(use)


def test_answers_with_a_wrong_checksum(serve: Callable[..., None]) -> None:
    """Responses with a wrong CRC are link errors, after which the face visits the board again."""

    async def use(site: Site) -> None:
        site.board.faults.spoiled = {2, 5, 9}
        await installed(site)
        assert any("CRC" in line["why"] for line in site.lines)

    serve(use)


def test_a_board_is_unplugged_and_connected_again(serve: Callable[..., None]) -> None:
    """A lost serial port is logged, and the update continues when the board is connected again."""

    async def use(site: Site) -> None:
        await site.until(lambda: site.board.written > 500)
        site.board.unplug()
        await site.until(lambda: site.lines)
        site.board.plug()
        await installed(site)
        assert [line["device"] for line in site.lines] == [NUMBER] * len(site.lines)

    serve(use)


def test_a_program_that_crashes_is_rolled_back(serve: Callable[..., None]) -> None:
    """If the board rolls back, the release is not reported as installed, and not offered again."""

    async def use(site: Site) -> None:
        site.board.faults.crashing = {digest_of(NEW) or b""}
        await site.until(lambda: site.stage is Stage.STOPPED)
        assert site.logged(EntryKind.CLAIMED) == [sha256(OLD)]
        await site.until(lambda: "the device rolled back" in site.texts())
        assert (site.board.running, site.board.is_confirmed) == (digest_of(OLD), True)

    serve(use)


def test_a_program_that_does_not_answer_is_not_confirmed(serve: Callable[..., None]) -> None:
    """A new program that does not answer SMP requests is not confirmed.

    After the board's next start, the rollback to the old program is logged.
    """

    async def use(site: Site) -> None:
        site.board.faults.deaf = {digest_of(NEW) or b""}
        await site.until(lambda: site.board.running == digest_of(NEW) and site.lines)
        assert not site.board.is_confirmed
        assert sha256(NEW) not in site.logged(EntryKind.CLAIMED)
        site.board.start()
        await site.until(lambda: site.stage is Stage.STOPPED)
        await site.until(lambda: "the device rolled back" in site.texts())

    serve(use)


def test_a_spoiled_image_is_not_started(serve: Callable[..., None]) -> None:
    """An image whose digest in the second slot is wrong is not marked for a test.

    At the next try, the image is installed.
    """

    async def use(site: Site) -> None:
        site.board.faults.spoil_at = 1500
        await site.until(lambda: site.stage is Stage.PAUSED)
        assert site.board.starts == 0
        await site.until(lambda: "another digest" in site.texts())
        await site.gateway.clock.advance(site.gateway.core, 60)
        await installed(site)

    serve(use)


def test_an_image_that_the_board_refuses(serve: Callable[..., None]) -> None:
    """If the board refuses the image, its error becomes the reason of the failed try."""

    async def use(site: Site) -> None:
        site.board.faults.refused = BUSY
        await site.until(lambda: site.stage is Stage.PAUSED)
        await site.until(lambda: "did not take the image" in site.texts())

    serve(use)


def test_an_unknown_program_with_a_known_version(serve: Callable[..., None]) -> None:
    """A board whose image has a release's version but other bytes does not count as running the release."""

    async def use(site: Site) -> None:
        await site.until(lambda: site.logged(EntryKind.WARNING))
        assert site.logged(EntryKind.CLAIMED) == []
        await site.until(lambda: site.logged(EntryKind.CLAIMED))
        assert site.logged(EntryKind.CLAIMED) == [sha256(NEW)]
        assert (site.board.running, site.board.is_confirmed) == (digest_of(NEW), True)

    def start(site: Site) -> Awaitable[None]:
        site.board.slots[0] = FOREIGN
        return use(site)

    serve(start)


def test_an_image_on_trial_that_is_not_offered_is_not_confirmed(serve: Callable[..., None]) -> None:
    """The face confirms an image on trial only if the face itself installed the image."""

    async def use(site: Site) -> None:
        site.board.slots, site.board.is_confirmed = [FOREIGN, OLD], False
        await site.until(lambda: len(site.logged(EntryKind.WARNING)) == 0 and site.board.answers > 12)
        assert not site.board.is_confirmed

    serve(use)


def slots_with(**changes: object) -> bytes:
    """Return a response with one image slot."""
    slot: dict[str, object] = {"image": 0, "slot": 0, "version": "1", "hash": bytes(32), "active": True}
    return encoded({"images": [{**slot, **changes}]})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", LinkError),
        (b"\xa1\x66images\x81", LinkError),
        (b"\xbf\xff", LinkError),
        (encoded({"images": 7}), LinkError),
        (slots_with(slot="first"), LinkError),
        (slots_with(hash=7), BoardError),
        (slots_with(slot=1), BoardError),
        (encoded({"images": []}), BoardError),
        (encoded({"rc": 3}), BoardError),
        (encoded({"err": {"group": 1, "rc": 10}}), BoardError),
    ],
)
def test_answers_that_cannot_be_used(tmp_path: Path, answer: bytes, error: type[Exception]) -> None:
    """A malformed response raises an error of the link or of the board, and no other exception."""

    async def ask() -> None:
        async with open_board(SmpLine(str(board.port))) as opened:
            await opened.slots()

    with SmpDevice(tmp_path / "port", OLD) as board:
        board.faults.answers[1, 0] = answer
        with pytest.raises(error):
            asyncio.run(ask())


@pytest.mark.parametrize("offset", [-1, len(NEW) + 1, 1 << 31, 0])
def test_offsets_that_cannot_be_used(tmp_path: Path, offset: int) -> None:
    """If a board requests bytes outside the image, or the same offset forever, the upload ends with an error."""

    async def ask() -> None:
        async with open_board(SmpLine(str(board.port))) as opened:
            async for _ in opened.upload(NEW):
                pass

    with SmpDevice(tmp_path / "port", OLD) as board:
        raw = encoded({"off": offset}) if offset >= 0 else b"\xa1\x63off\x20"
        board.faults.answers[1, 1] = raw
        with pytest.raises(LinkError):
            asyncio.run(ask())


def test_a_board_that_sends_without_end(tmp_path: Path) -> None:
    """An endless stream of bytes ends at the request's deadline, and other boards are served meanwhile."""

    async def ask(port: str) -> None:
        async with open_board(SmpLine(port, answer=0.3)) as opened:
            await opened.slots()

    async def main() -> None:
        near, far = os.openpty()
        tty.setraw(far)
        sender = await asyncio.create_subprocess_exec("cat", "/dev/zero", stdout=near)
        try:
            asking = asyncio.create_task(ask(os.ttyname(far)))
            with SmpDevice(tmp_path / "port", OLD) as board:
                await ask(str(board.port))
            with pytest.raises(LinkError, match="does not answer in time"):
                await asking
        finally:
            sender.kill()
            await sender.wait()
            os.close(near)
            os.close(far)

    asyncio.run(main())


def test_two_gateways_cannot_use_one_port(tmp_path: Path) -> None:
    """A second gateway at the same port gets a link error, and the exchange of the first gateway continues."""

    async def ask() -> None:
        async with open_board(SmpLine(str(board.port))) as first:
            with pytest.raises(LinkError):
                async with open_board(SmpLine(str(board.port), answer=0.1)):
                    pass
            assert (await first.slots()).active.digest == digest_of(OLD)

    with SmpDevice(tmp_path / "port", OLD) as board:
        asyncio.run(ask())


def test_a_missing_port_is_an_error_of_the_link(tmp_path: Path) -> None:
    """The error names the port."""

    async def ask() -> None:
        async with open_board(SmpLine(str(tmp_path / "absent"), answer=0.1)):
            pass

    with pytest.raises(LinkError, match="absent"):
        asyncio.run(ask())


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"devices": {}},
        {"devices": {"+/#": "/dev/ttyACM0"}},
        {"devices": {"0300": "/dev/ttyACM0"}},
        {"devices": {"300": "/dev/ttyACM0", "301": "/dev/ttyACM0"}},
        {"devices": {"300": "udp:198.41.0.4"}},
        {"devices": {"300": "udp:board.example"}},
        {"devices": {"300": "/dev/ttyACM0"}, "baud": 9600},
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, table: dict[str, Any]) -> None:
    """An invalid settings table is refused before the face runs."""
    context = FaceContext(GATEWAY, tmp_path, lambda: 0, lambda *_, **__: None)
    with pytest.raises(UsageError):
        create(SettingsTable("gateway.smp", table, tmp_path), context)


def test_udp_addresses() -> None:
    """Only UDP addresses of this machine and of private networks are accepted."""
    assert udp_address("udp:127.0.0.1") == ("127.0.0.1", 1337)
    assert udp_address("udp:10.77.0.2:1338") == ("10.77.0.2", 1338)
