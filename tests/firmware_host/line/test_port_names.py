"""Port names and the remedies in errors about ports are those of the operating system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import serial
from serial.tools.list_ports_common import ListPortInfo

from blockota.errors import LinkError
from firmware_host.line import port_names
from firmware_host.line.port_names import (
    example,
    find_ports,
    is_pseudo_terminal,
    latency_remedy,
    open_remedy,
    serial_ports,
    user_of,
)
from firmware_host.line.ports import open_link

SYSTEMS = {"linux": "/dev/ttyUSB0", "darwin": "/dev/cu.", "win32": "COM3"}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_missing_port_has_the_names_of_its_system(system: str) -> None:
    """The remedy for a missing port, and the example of a port name, contain a port name of the operating system."""
    assert SYSTEMS[system] in open_remedy(errno.ENOENT, system)
    assert SYSTEMS[system] in example(system)
    assert SYSTEMS[system] in open_remedy(errno.ENOTTY, system)


def test_a_forbidden_port_is_a_busy_one_on_windows() -> None:
    """Windows reports a port in use as an access error.

    Linux denies access to a user who is not in the port's group.
    """
    assert "other program" in open_remedy(errno.EACCES, "win32")
    assert "dialout" in open_remedy(errno.EACCES, "linux")
    assert "dialout" not in open_remedy(errno.EACCES, "darwin")
    assert "usermod -aG uucp" in open_remedy(errno.EACCES, "linux", group="uucp")


@pytest.mark.parametrize(
    ("text", "words"),
    [("FileNotFoundError(2, 'x', None, 2)", "plug the adapter"), ("PermissionError(13, 'x', None, 5)", "user")],
)
def test_an_error_of_windows_has_a_remedy(monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    """Exceptions of pyserial on Windows lack an error number; their text selects the remedy."""
    port = serial.serial_for_url("COM9", do_not_open=True)

    def refuse() -> None:
        raise serial.SerialException(f"could not open port 'COM9': {text}")

    monkeypatch.setattr(port, "open", refuse)
    monkeypatch.setattr(serial, "serial_for_url", lambda *_, **__: port)
    with pytest.raises(LinkError, match="the port COM9 cannot be opened") as error:
        open_link("COM9")
    assert words in error.value.remedy


def test_a_slow_adapter_has_a_remedy_on_each_system(tmp_path: Path) -> None:
    """The remedy for a slow adapter names the setting of the system.

    On Linux, symbolic links to the device are resolved first.
    """
    (tmp_path / "usb-adapter-if00").symlink_to("/dev/ttyUSB7")
    assert "devices/ttyUSB7/latency_timer" in latency_remedy(str(tmp_path / "usb-adapter-if00"), "linux")
    assert "latency timer of the port" in latency_remedy("COM3", "win32")
    assert "another adapter" in latency_remedy("/dev/cu.usbserial-110", "darwin")
    assert "serial server" in latency_remedy("rfc2217://rack:3116", "win32")


def test_pseudo_terminals_are_recognised() -> None:
    """Pseudo-terminals are recognised by their names; serial devices and URLs are not mistaken for pseudo-terminals."""
    far, near = os.openpty()
    assert is_pseudo_terminal(os.ttyname(near))
    os.close(far)
    os.close(near)
    for name in ("/dev/ttyUSB0", "/dev/ttyS0", "COM3", "/dev/cu.usbserial-110", "socket://host:1"):
        assert not is_pseudo_terminal(name)


def test_the_ports_of_this_machine_are_listed() -> None:
    """All ports listed on this machine are names of devices."""
    assert all(Path(name).exists() for name in serial_ports())


def test_adapters_are_found_with_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The list shows each port's adapter and stable name, and a remedy if the user may not open the port."""
    built_in, adapter = ListPortInfo(str(tmp_path / "ttyS0")), ListPortInfo(str(tmp_path / "ttyUSB0"))
    adapter.description, adapter.vid = "FT232R USB UART", 0x0403
    Path(built_in.device).touch()
    Path(adapter.device).touch(mode=0o600)
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "usb-FTDI-if00").symlink_to(adapter.device)
    monkeypatch.setattr(port_names, "comports", lambda: [adapter, built_in])
    monkeypatch.setattr(port_names, "_STABLE_NAMES", tmp_path / "by-id")
    monkeypatch.setattr(os, "access", lambda name, _: name == built_in.device)
    first, second = find_ports()
    assert (str(first), first.is_usb, first.remedy) == (built_in.device, False, "")
    assert (str(second), second.is_usb) == (f"{adapter.device} (FT232R USB UART)", True)
    assert "let your user open serial ports" in second.remedy  # no group may open the port
    assert second.stable_name == str(tmp_path / "by-id" / "usb-FTDI-if00")


def test_the_program_that_has_a_port_open_is_named() -> None:
    """The program that has a port open is named with its process id.

    For a port that is not open, the result is empty.
    """
    far, near = os.openpty()
    name = os.ttyname(near)
    assert user_of(name).endswith(f"(process {os.getpid()})")
    os.close(far)
    os.close(near)
    assert not user_of(name)
