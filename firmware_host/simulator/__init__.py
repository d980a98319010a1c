"""A simulated STM32 board: a strict AN3155 device that boots what was flashed.

It is a second, independent reading of ST's application notes: it shares no code with our
client, and a client that breaks the protocol is refused, never tolerated. `SimulatedBoard` is
bytes in and bytes out; `serve_tcp` and `serve_pty` put it on a line.
"""

from firmware_host.simulator.clock import TimeModel
from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.faults import FAULT_NAMES, Faults
from firmware_host.simulator.profiles import PROFILES, STM32F103C8, BoardProfile
from firmware_host.simulator.server import serve_pty, serve_tcp
from firmware_host.simulator.server_rfc2217 import serve_rfc2217
from firmware_host.simulator.uart import LineSettings
from firmware_host.simulator.wiring import WIRINGS, Wiring

__all__ = [
    "FAULT_NAMES",
    "PROFILES",
    "STM32F103C8",
    "WIRINGS",
    "BoardProfile",
    "Faults",
    "LineSettings",
    "SimulatedBoard",
    "TimeModel",
    "Wiring",
    "serve_pty",
    "serve_rfc2217",
    "serve_tcp",
]
