"""The names of serial ports on Linux, macOS and Windows, and remedies in the terms of each system.

The remedies for macOS and Windows follow the documentation of these systems. The remedies have not been tested on macOS
and Windows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from serial.tools.list_ports import comports

_STABLE_NAMES = Path("/dev/serial/by-id")
"""Linux keeps names in this folder that do not depend on the order in which adapters are plugged in."""
_PSEUDO_TERMINAL = re.compile(r"/dev/(?:pts/\d+|ttys\d+)")
"""A pseudo-terminal on Linux or on macOS."""


@dataclass(frozen=True)
class _System:
    """An operating system: an example of a port, and the remedies for a port that is missing, forbidden or slow."""

    example: str
    missing: str
    forbidden: str
    slow: str


_LINUX = _System(
    "/dev/ttyUSB0",
    missing="plug the adapter in, and name its port, on Linux mostly /dev/ttyUSB0 or /dev/ttyACM0",
    forbidden="let your user open serial ports (group dialout on Debian), and log in again",
    slow="write 1 into /sys/bus/usb-serial/devices/{device}/latency_timer (as root), or use another adapter",
)
_OTHERS = {
    "win32": _System(
        "COM3",
        missing="plug the adapter in, and name its port as the Device Manager shows it below Ports, such as COM3",
        forbidden="close the other program that uses the port",
        slow="set the latency timer of the port to 1 ms (Device Manager, Port Settings, Advanced), or use another "
        "adapter",
    ),
    "darwin": _System(
        "/dev/cu.usbserial-110",
        missing="plug the adapter in, and name its port, on macOS /dev/cu.usbserial-… or /dev/cu.usbmodem…",
        forbidden="let your user read and write the port's device file",
        slow="use another adapter",
    ),
}


@dataclass(frozen=True)
class SerialPort:
    """A serial port of this machine.

    Attributes:
        adapter: the product name of the adapter; empty if it is not known.
        stable_name: a name that stays the same if the adapters are plugged in in a different order; empty without a
            stable name.
        remedy: the remedy if the user may not open the port; empty if the user may open the port.
    """

    name: str
    adapter: str
    stable_name: str
    is_usb: bool
    remedy: str

    def __str__(self) -> str:
        """The port in words, such as ``/dev/ttyUSB0 (FT232R USB UART)``."""
        return f"{self.name} ({self.adapter})" if self.adapter else self.name


def find_ports() -> tuple[SerialPort, ...]:
    """Find the serial ports of this machine, in the order of their names."""
    stable = {path.resolve(): str(path) for path in _STABLE_NAMES.glob("*")} if sys.platform == "linux" else {}
    found = []
    for port in sorted(comports()):
        adapter = "" if port.description == "n/a" else port.description
        is_usable = sys.platform == "win32" or os.access(port.device, os.R_OK | os.W_OK)
        remedy = "" if is_usable else open_remedy(errno.EACCES, group=group_of(port.device))
        name = stable.get(Path(port.device).resolve(), "")
        found.append(SerialPort(port.device, adapter, name, port.vid is not None, remedy))
    return tuple(found)


def serial_ports() -> tuple[str, ...]:
    """List the serial ports of this machine; on Linux, also list the permanent names of the ports."""
    ports = find_ports()
    return (*(port.name for port in ports), *(port.stable_name for port in ports if port.stable_name))


def group_of(name: str) -> str:
    """Return the group whose members may open a port; empty if no such group is known."""
    try:
        path = Path(name)
        status = path.stat()
        # The remedy is to join the group, and no user is to join group 0.
        may_open = status.st_mode & stat.S_IRGRP and status.st_gid != 0
        return path.group() if may_open else ""
    except (OSError, KeyError, NotImplementedError):  # Windows has no groups, and a group may have no name
        return ""


def user_of(name: str) -> str:
    """Return the program that has a port open, such as ``minicom (process 1234)``; empty if the program is unknown."""
    device = str(Path(name).resolve())
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the file was closed, or another user has it open
            if str(opened.readlink()) == device:
                process = opened.parent.parent
                return f"{(process / 'comm').read_text(errors='replace').strip()} (process {process.name})"
    return ""


def is_pseudo_terminal(name: str) -> bool:
    """Whether a port is a pseudo-terminal.

    A pseudo-terminal has neither parity nor control lines.
    """
    return "://" not in name and _PSEUDO_TERMINAL.fullmatch(str(Path(name).resolve())) is not None


def example(system: str = sys.platform) -> str:
    """Return the name of a serial device as an example."""
    return _OTHERS.get(system, _LINUX).example


def open_remedy(number: int, system: str = sys.platform, *, group: str = "") -> str:
    """Return the remedy for a port that cannot be opened because of an error number.

    Members of `group` may open the port.
    """
    own = _OTHERS.get(system, _LINUX)
    if number == errno.EACCES and group and own is _LINUX:
        return f"add your user to the group {group} (sudo usermod -aG {group} $USER), and log in again"

    remedies = {
        errno.ENOENT: own.missing,
        errno.EACCES: own.forbidden,
        errno.EBUSY: "close the other program that uses the port",
        errno.ECONNREFUSED: "start the board or the serial server that should listen there",
        errno.ENOTTY: f"name a serial device, such as {own.example}",
    }
    return remedies.get(number, "check the port's name and the cable")


def latency_remedy(name: str, system: str = sys.platform) -> str:
    """Return the remedy for an adapter that delays each answer."""
    if "://" in name:
        return "use a serial server nearer to the board"
    # A name below /dev/serial/by-id is a link.
    return _OTHERS.get(system, _LINUX).slow.format(device=Path(name).resolve().name)
