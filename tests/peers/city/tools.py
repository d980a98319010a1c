"""Find the programs and permissions that the city test needs and this machine lacks."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.peers import describe, find_missing

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_NET_RAW": 13}
"""The capabilities of network namespaces, their interfaces and pings, with their numbers (capabilities(7))."""
_TUN = Path("/dev/net/tun")


def find_obstacles() -> str:
    """Return each missing program or permission with its remedy; empty if nothing is missing."""
    found = []
    if missing := find_missing(["city"]):
        found.append(describe(missing))
    effective = int(re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())[0], 16)
    if lacking := [name for name, number in _CAPABILITIES.items() if not effective >> number & 1]:
        found.append(
            f"The right to make networks is missing: {', '.join(lacking)}. Run the command as root,"
            " or in a container with these capabilities."
        )
    if not _TUN.is_char_device():
        found.append(f"{_TUN} is missing, which tunnels need. Load the kernel's module: `sudo modprobe tun`.")
    return "\n".join(found)
