"""smpmgr updates, tests, confirms and rolls back the simulated board of the SMP face's tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.peers import PACKAGES
from tests.support.smp_device import SmpDevice, digest_of, mcuboot_image

OLD, NEW = mcuboot_image("1.0.0"), mcuboot_image("1.1.0")


def smpmgr(board: SmpDevice, *words: str) -> str:
    """Run smpmgr on a board, and return what it prints; it must succeed."""
    command = [str(PACKAGES / "smpmgr"), "--port", str(board.port), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def install(board: SmpDevice, folder: Path) -> None:
    """Upload the new image, mark it for a test, and reset the board."""
    (folder / "new.bin").write_bytes(NEW)
    smpmgr(board, "image", "upload", str(folder / "new.bin"))
    smpmgr(board, "image", "state-write", (digest_of(NEW) or b"").hex())
    smpmgr(board, "os", "reset")


def test_an_image_is_tested_and_confirmed(tmp_path: Path) -> None:
    """The board runs the new image on trial after the reset, and keeps it after the confirmation."""
    with SmpDevice(tmp_path / "port", OLD) as board:
        assert (digest_of(OLD) or b"").hex().upper() in smpmgr(board, "image", "state-read")
        install(board, tmp_path)
        assert (board.running, board.is_confirmed, board.written) == (digest_of(NEW), False, len(NEW))
        smpmgr(board, "image", "state-write", "--confirm")
        smpmgr(board, "os", "reset")
        assert (board.running, board.is_confirmed) == (digest_of(NEW), True)


def test_an_image_that_is_not_confirmed_is_rolled_back(tmp_path: Path) -> None:
    """Without a confirmation, the board returns to its old image at the second reset."""
    with SmpDevice(tmp_path / "port", OLD) as board:
        install(board, tmp_path)
        smpmgr(board, "os", "reset")
        assert (board.running, board.is_confirmed) == (digest_of(OLD), True)
        assert (digest_of(OLD) or b"").hex().upper() in smpmgr(board, "image", "state-read")
