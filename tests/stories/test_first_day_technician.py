"""A technician's first day: a newcomer types the commands, makes ordinary mistakes, and reads the answers."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import serial
from serial.tools.list_ports_common import ListPortInfo

from blockota.bindings.block_ota import revoke_call
from blockota.model.release import Version
from firmware_host.line import port_names
from firmware_host.line.ports import open_link
from firmware_host.simulator import PROFILES, Faults, SimulatedBoard, serve_tcp
from firmware_host.simulator.server import serve_pty
from tests.firmware_host.direct_link import started
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.technicians import NEW, OLD, board, publish_all, unique_id
from tests.stories.test_bad_input import BOARD, OUT_OF_REACH, REFUSED, USAGE, refused
from tests.stories.test_first_day_broker import settings_from
from tests.support import hostile_gateway as vices
from tests.support.fetch_samples import blocks_of
from tests.support.hostile_gateway import serving

FLASH = ("flash", "--product", PRODUCT)
IDENTIFY = ("board", "identify")


@dataclass
class Newcomer:
    """A technician in an empty folder, and the commands that succeeded."""

    workshop: Workshop
    typed: list[tuple[str, ...]] = field(default_factory=list)

    def types(self, *words: str) -> Outcome:
        """Type a command."""
        outcome = self.workshop.run(*words)
        if outcome.status == 0:
            self.typed.append(words)
        return outcome

    def at(self, one: SimulatedBoard, *words: str) -> Outcome:
        """Type a command with the port of a board."""
        with serve_tcp(one) as url:
            return self.types(*words, "--port", url)


@pytest.fixture
def newcomer(workshop: Workshop) -> Iterator[Newcomer]:
    """Yield a newcomer in an empty folder, beside the workshop of a vendor with two releases."""
    workshop.after(publish_all)
    folder = workshop.folder / "bench"
    folder.mkdir()
    with chdir(folder):
        yield Newcomer(workshop)


@contextmanager
def settings_of_the_vendor(workshop: Workshop) -> Iterator[None]:
    """Copy the vendor's settings file to this folder, and serve the vendor's images."""
    blocks = blocks_of(OLD.read_bytes())[1] | blocks_of(NEW.read_bytes())[1]
    with serving(blocks, vices.honest) as gateway:
        Path("blockota.toml").write_text(settings_from(workshop, vendor_source=gateway.url))
        yield


def test_a_newcomer_flashes_a_board_by_two_commands(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands lead from the vendor's settings file to a proven board.

    The error for each mistake names the remedy.
    """
    monkeypatch.setattr(port_names, "comports", list)
    without_settings(newcomer)
    with settings_of_the_vendor(newcomer.workshop):
        mistyped(newcomer)
        at_the_port(newcomer, monkeypatch)
        newcomer.typed.clear()

        first = board(1)
        with serve_pty(first) as name:
            adapter = ListPortInfo(name)
            adapter.description, adapter.vid = "FT232R USB UART", 0x0403
            monkeypatch.setattr(port_names, "comports", lambda: [adapter])
            assert "blank: " in newcomer.types(*IDENTIFY).out
            flashed = newcomer.types(*FLASH)
            assert f"the board holds {PRODUCT} 1.1.0" in flashed.out
            assert flashed.err.endswith("Next: set BOOT0 back to 0, and reset the board\n")
        assert len(newcomer.typed) <= 2
        assert first.flash.startswith(NEW.read_bytes())

        other_boards(newcomer)
        other_releases(newcomer)


def without_settings(newcomer: Newcomer) -> None:
    """Run commands without the vendor's settings file, and check their errors."""
    refused(newcomer.types("board", "flash"), USAGE, "blockota flash")
    refused(newcomer.types("flash"), USAGE, "no USB adapter", "--port URL")
    one = board(1)
    refused(newcomer.at(one, "flash"), USAGE, "no product given", "--product NAME")
    refused(newcomer.at(one, *FLASH), USAGE, "there is no blockota.toml in this folder", "--config FILE")
    identified = newcomer.at(one, *IDENTIFY)
    assert "there is no blockota.toml in this folder" in identified.out


def mistyped(newcomer: Newcomer) -> None:
    """Run commands with wrong names and versions, and check their errors."""
    one = board(1)
    refused(newcomer.at(one, "flash", "--product", "acme-thermo"), REFUSED, "acme-thermo", "`blockota product list`")
    refused(newcomer.at(one, *FLASH, "--version", "1.1"), USAGE, "1.1", "1.4.0")
    refused(newcomer.at(one, *FLASH, "--version", "9.0.0"), REFUSED, "9.0.0", "`blockota release list`")
    refused(newcomer.at(one, *FLASH, "--image", "app.bin"), USAGE, "app.bin cannot be read", "Check the path")
    Path("app.bin").write_bytes(b"something else")
    refused(newcomer.at(one, *FLASH, "--image", "app.bin"), REFUSED, "app.bin is not acme-thermo2 1.1.0", "--image")
    refused(newcomer.at(one, *FLASH, "--image", str(OLD)), REFUSED, "it is acme-thermo2 1.0.0", "--version 1.0.0")
    refused(newcomer.types("release", "verify", "app.bin"), REFUSED, "is not a release")
    verify = ("release", "verify", str(OLD))
    refused(newcomer.types(*verify, "--version", "1.1.0"), REFUSED, "is not 1.1.0: it is acme-thermo2 1.0.0")
    assert "is acme-thermo2 1.0.0, superseded by 1.1.0" in newcomer.types(*verify).out


def at_the_port(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the errors of ``flash`` for missing, busy and forbidden ports, and for boards that do not answer."""
    refused(newcomer.types(*FLASH, "--port", "/dev/ttyUSB9"), BOARD, "No such file", "`blockota board ports`")
    refused(newcomer.types(*FLASH, "--port", "ttyUSB0"), BOARD, "ttyUSB0")
    with serve_pty(board(1)) as name:
        with closing(open_link(name)):
            refused(newcomer.types(*FLASH, "--port", name), BOARD, "busy", "Close the other program")
        with monkeypatch.context() as patch:
            patch.setattr(serial.Serial, "open", deny)
            refused(newcomer.types(*FLASH, "--port", name), BOARD, "Permission denied", "group dialout", "log in again")
    refused(newcomer.at(started(OLD.read_bytes()), *FLASH), BOARD, "BOOT0")
    refused(newcomer.at(SimulatedBoard(faults=Faults(silent_after=0)), *FLASH), BOARD, "BOOT0")


def deny(port: serial.Serial) -> None:
    """Refuse to open a port, as the system does without permission. This is simulated because tests may run as root."""
    raise serial.SerialException(errno.EACCES, f"could not open port {port.name}")


def other_boards(newcomer: Newcomer) -> None:
    """Run commands on a wrong board, a protected board and a disconnected board, and check the errors."""
    refused(newcomer.at(SimulatedBoard(PROFILES["stm32f407vg"]), *FLASH), REFUSED, "chip")
    closed, locked = board(3), board(4)
    closed.protect(readout=True)
    locked.protect(pages=[0])
    refused(newcomer.at(closed, *FLASH), REFUSED, "`blockota board unprotect --readout`")
    refused(newcomer.at(locked, *FLASH), REFUSED, "`blockota board unprotect --write`")
    refused(newcomer.at(board(5, flash=b"theirs" * 200), *FLASH), REFUSED, "unknown", "--replace-unknown")
    pulled = board(6, faults=Faults(silent_after=800))
    refused(newcomer.at(pulled, *FLASH), BOARD, "blockota flash --resume")
    plugged = board(6, flash=pulled.flash)
    assert "half written" in newcomer.at(plugged, *IDENTIFY).out
    assert newcomer.at(plugged, "flash", "--resume").status == 0


def other_releases(newcomer: Newcomer) -> None:
    """Run ``flash`` with older and revoked releases, and with an unreachable chain, and check the errors."""
    held = board(7, flash=NEW.read_bytes())
    refused(newcomer.at(held, *FLASH, "--version", "1.0.0"), REFUSED, "the board holds 1.1.0", "--allow-downgrade")
    newcomer.workshop.decide(revoke_call(PRODUCT, Version(1, 0, 0), reason="reboots at midnight"))
    refused(newcomer.at(held, *FLASH, "--version", "1.0.0"), REFUSED, "revoked", "`blockota release list`")
    refused(newcomer.at(held, *FLASH, "--image", str(OLD)), REFUSED, "revoked", "without --image")
    assert "1.1.0" in newcomer.at(held, *IDENTIFY).out

    settings = Path("blockota.toml")
    settings.write_text(settings.read_text().replace(newcomer.workshop.chain.url, "http://127.0.0.1:1"))
    refused(newcomer.at(held, *FLASH), OUT_OF_REACH, "http://127.0.0.1:1 does not answer")
    identified = newcomer.at(held, *IDENTIFY)
    assert (identified.status, unique_id(7) in identified.out) == (0, True)
    assert "does not answer" in identified.out
