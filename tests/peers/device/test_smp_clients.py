"""smpmgr and smpclient, unchanged, update a board in QEMU that runs BlockOTA's loader and agent."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from smpclient import SMPClient
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import BootloaderInformationRead, EchoWrite, MCUMgrParametersRead, ResetWrite
from smpclient.transport.serial import SMPSerialTransport

from scripts.build_device import ImageSignature
from scripts.peers import PACKAGES
from tests.support.qemu import QemuBoard
from tests.support.qemu_images import NEW, OLD, SLOT_0, SLOT_1, SLOT_SIZE, agent, digest_of, flash_with

LARGE = 96 * 1024


@pytest.fixture
def board(tmp_path: Path) -> Iterator[QemuBoard]:
    """Return a board that runs the old image."""
    with QemuBoard(tmp_path, flash_with(OLD)) as board:
        yield board


def smpmgr(board: QemuBoard, *words: str) -> str:
    """Run smpmgr on a board, and return what it prints; it must succeed."""
    command = [str(PACKAGES / "smpmgr"), "--port", str(board.port), "--timeout", "20", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def restart(board: QemuBoard, *requests: Any) -> None:
    """Send requests and then a reset with smpclient, and wait until the board is ready again."""
    boots = board.boots
    asked(board, *requests, ResetWrite())
    board.wait_until_ready(boots + 1)


def asked(board: QemuBoard, *requests: Any) -> list[Any]:
    """Send requests with smpclient, and return the answers."""

    async def run() -> list[Any]:
        async with SMPClient(SMPSerialTransport(), str(board.port), timeout_s=20) as client:
            return [await client.request(request) for request in requests]

    return asyncio.run(run())


def uploaded(board: QemuBoard, image: bytes) -> list[int]:
    """Upload an image with smpclient, and return the offsets that the board answers."""

    async def run() -> list[int]:
        async with SMPClient(SMPSerialTransport(), str(board.port), timeout_s=20) as client:
            return [offset async for offset in client.upload(image)]

    return asyncio.run(run())


def running(board: QemuBoard) -> tuple[bytes, bool]:
    """Return the digest of the running image, and whether it is confirmed."""
    (states,) = asked(board, ImageStatesRead())
    first = states.images[0]
    assert first.active
    return bytes(first.hash), first.confirmed


def test_smpmgr_updates_and_confirms(board: QemuBoard, tmp_path: Path) -> None:
    """``smpmgr upgrade`` installs an image on trial.

    ``state-write --confirm`` makes the image permanent.
    """
    (tmp_path / "new.bin").write_bytes(NEW)
    assert digest_of(OLD).hex().upper() in smpmgr(board, "image", "state-read")
    assert "Upgrade complete." in smpmgr(board, "upgrade", "--slot", "1", str(tmp_path / "new.bin"))
    assert running(board) == (digest_of(NEW), False)
    smpmgr(board, "image", "state-write", "--confirm")
    smpmgr(board, "os", "reset")
    assert running(board) == (digest_of(NEW), True)
    flash = board.cut()
    assert flash[SLOT_0:].startswith(NEW)
    assert flash[SLOT_1:].startswith(OLD)


def test_smpmgr_sees_a_rollback(board: QemuBoard, tmp_path: Path) -> None:
    """An image that is not confirmed runs three times. After the third run, the board returns to its old image."""
    (tmp_path / "new.bin").write_bytes(NEW)
    smpmgr(board, "image", "upload", str(tmp_path / "new.bin"))
    smpmgr(board, "image", "state-write", digest_of(NEW).hex())
    for _ in range(3):
        smpmgr(board, "os", "reset")
        assert running(board) == (digest_of(NEW), False)
    smpmgr(board, "os", "reset")
    assert running(board) == (digest_of(OLD), True)


def test_smpclient_updates_a_large_image(board: QemuBoard, tmp_path: Path) -> None:
    """An upload of 96 KiB by smpclient takes few requests. An image that the board already has is not sent again."""
    padding = random.Random(1).randbytes(LARGE - len(OLD))  # noqa: S311 - incompressible bytes
    large = agent(tmp_path, ImageSignature(version="2.0.0"), appendix=padding)
    assert len(uploaded(board, large)) < 120
    before = board.sent
    uploaded(board, large)
    assert board.sent - before < 3000
    restart(board, ImageStatesWrite(hash=digest_of(large)))
    assert running(board) == (digest_of(large), False)
    restart(board, ImageStatesWrite(confirm=True))
    assert running(board) == (digest_of(large), True)


def test_the_board_describes_itself(board: QemuBoard) -> None:
    """The board answers the SMP requests for echo, buffer size and bootloader information."""
    echo, parameters, loader = asked(board, EchoWrite(d="ß" * 300), MCUMgrParametersRead(), BootloaderInformationRead())
    assert (echo.r, parameters.buf_size, loader.bootloader) == ("ß" * 300, 1024, "BlockOTA")


def test_an_upload_goes_on_after_a_power_cut(board: QemuBoard, tmp_path: Path) -> None:
    """After a power cut, an upload continues near the offset that it reached before the cut.

    A record in the slot identifies the partly sent file.
    """
    padding = random.Random(2).randbytes(40_000)  # noqa: S311 - incompressible bytes
    image = agent(tmp_path, ImageSignature(version="2.0.0"), appendix=padding)

    async def interrupted() -> int:
        async with SMPClient(SMPSerialTransport(), str(board.port), timeout_s=20) as client:
            async for offset in client.upload(image):
                if offset > 30_000:
                    return offset
        return 0

    offset = asyncio.run(interrupted())
    board.cut()
    first = uploaded(board, image)[0]
    assert offset - 2 * 1024 <= first <= offset + 1024
    assert board.cut()[SLOT_1:].startswith(image)


def refused(board: QemuBoard, request: Any) -> tuple[int, str]:
    """Send a request that the board must refuse; return the error code and the reason."""
    (answer,) = asked(board, request)
    return int(answer.rc), str(answer.rsn)


@pytest.mark.parametrize("slot", [0, 2])
def test_the_running_slot_is_not_erased(board: QemuBoard, slot: int) -> None:
    """The erase of a slot other than slot 1 is refused."""
    assert refused(board, ImageErase(slot=slot)) == (3, "slot 0 is running")
    assert running(board) == (digest_of(OLD), True)


def test_a_confirmation_without_an_exchange_is_refused(board: QemuBoard) -> None:
    """Without an image on trial, a confirmation is refused.

    The confirmation of an image that is not running is refused too.
    """
    uploaded(board, NEW)
    assert refused(board, ImageStatesWrite(confirm=True)) == (6, "no image is on trial")
    why = "not the running image"
    assert refused(board, ImageStatesWrite(hash=digest_of(NEW), confirm=True)) == (6, why)
    assert refused(board, ImageStatesWrite(hash=bytes(32)))[0] == 5
    assert running(board) == (digest_of(OLD), True)


def test_the_image_to_return_to_is_protected(board: QemuBoard) -> None:
    """While an image is on trial, slot 1 is neither written nor erased."""
    uploaded(board, NEW)
    restart(board, ImageStatesWrite(hash=digest_of(NEW)))
    assert refused(board, ImageErase(slot=1)) == (10, "slot 1 is in use")
    with pytest.raises(Exception, match="slot 1 is in use"):
        uploaded(board, OLD)
    assert refused(board, ImageStatesWrite(hash=digest_of(OLD))) == (10, "slot 1 is in use")
    assert running(board) == (digest_of(NEW), False)


def bad_images(folder: Path) -> dict[str, bytes]:
    """Return, by reason, files that the board must refuse."""
    other = agent(folder, ImageSignature(version="3.0.0", load_address=0x8000))
    spoiled = bytearray(NEW)
    spoiled[0x300] ^= 1
    return {
        "image for another board": other,
        "not an MCUboot image": NEW[:-200],
        "damaged image": bytes(spoiled),
        "larger than the slot": NEW.ljust(SLOT_SIZE + 1, b"\xff"),
        "counter too low": agent(folder, ImageSignature(version="4.0.0", counter=0)),
    }


def test_bad_images_are_refused(board: QemuBoard, tmp_path: Path) -> None:
    """Images for another board, and incomplete, damaged, too large and older images are refused.

    The board is unchanged.
    """
    for reason, image in bad_images(tmp_path).items():
        with pytest.raises(Exception, match=reason):
            uploaded(board, image)
        assert running(board) == (digest_of(OLD), True), reason
    board.cut()
    assert running(board) == (digest_of(OLD), True)
    assert uploaded(board, NEW)[-1] == len(NEW)
