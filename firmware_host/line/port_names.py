"""The names of serial ports on Linux, macOS and Windows, and remedies in the words of each system.

The remedies for macOS and Windows follow the documentation of these systems; they are not tested there.
"""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

from serial.tools.list_ports import comports

_STABLE_NAMES = Path("/dev/serial/by-id")
"""Linux keeps names here that do not depend on the order in which adapters are plugged in."""
_PSEUDO_TERMINAL = re.compile(r"/dev/(?:pts/\d+|ttys\d+)")
"""A pseudo-terminal on Linux or on macOS."""
_EXAMPLES = {"win32": "COM3", "darwin": "/dev/cu.usbserial-110"}
_EXAMPLE = "/dev/ttyUSB0"
_MISSING = {
    "win32": "plug the adapter in, and name its port as the Device Manager shows it below Ports, such as COM3",
    "darwin": "plug the adapter in, and name its port (on macOS /dev/cu.usbserial-… or /dev/cu.usbmodem…)",
}
_FORBIDDEN = {
    "win32": "close the other program that uses the port",
    "darwin": "let your user read and write the port's device file",
}
_REMEDIES = {
    errno.ENOENT: "plug the adapter in, and name its port (on Linux mostly /dev/ttyUSB0 or /dev/ttyACM0)",
    errno.EACCES: "let your user open serial ports (group dialout on Debian), and log in again",
    errno.EBUSY: "close the other program that uses the port",
    errno.ECONNREFUSED: "start the board or the serial server that should listen there",
}
_SLOW_ADAPTER = {
    "win32": "set the latency timer of the port to 1 ms (Device Manager, Port Settings, Advanced), or use another "
    "adapter",
    "darwin": "use another adapter",
}


def serial_ports() -> tuple[str, ...]:
    """List the serial ports of this machine, on Linux also by the names that stay the same."""
    stable = sorted(str(path) for path in _STABLE_NAMES.glob("*")) if sys.platform == "linux" else []
    return (*sorted(port.device for port in comports()), *stable)


def is_pseudo_terminal(name: str) -> bool:
    """Whether a port is a pseudo-terminal, which has neither parity nor control lines."""
    return "://" not in name and _PSEUDO_TERMINAL.fullmatch(str(Path(name).resolve())) is not None


def example(system: str = sys.platform) -> str:
    """Return the name of a serial device as an example."""
    return _EXAMPLES.get(system, _EXAMPLE)


def open_remedy(number: int, system: str = sys.platform) -> str:
    """Return the remedy for an error number with which a port cannot be opened."""
    if number == errno.ENOENT and system in _MISSING:
        return _MISSING[system]
    if number == errno.EACCES and system in _FORBIDDEN:
        return _FORBIDDEN[system]
    if number == errno.ENOTTY:
        return f"name a serial device, such as {example(system)}"
    return _REMEDIES.get(number, "check the port's name and the cable")


def latency_remedy(name: str, system: str = sys.platform) -> str:
    """Return the remedy for an adapter that delays each answer."""
    if "://" in name:
        return "use a serial server nearer to the board"
    if system in _SLOW_ADAPTER:
        return _SLOW_ADAPTER[system]
    device = Path(name).resolve().name  # a name below /dev/serial/by-id is a link
    return f"write 1 into /sys/bus/usb-serial/devices/{device}/latency_timer (as root), or use another adapter"
