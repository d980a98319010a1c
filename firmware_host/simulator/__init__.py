"""A simulated STM32 board: a strict AN3155 device that boots the flashed application.

The simulator is a second, independent implementation of ST's application notes. The simulator shares no code with the
client, and refuses commands that violate AN3155. `SimulatedBoard` receives and returns bytes. `serve_tcp`, `serve_pty`
and `serve_rfc2217` serve a simulated board on a TCP port, on a pseudo-terminal and as an RFC 2217 serial server.

Example:
    board = SimulatedBoard(flash=image)
    with serve_tcp(board) as url:
        link = open_link(url)
"""

from firmware_host.simulator.device import SimulatedBoard
from firmware_host.simulator.faults import FAULT_NAMES, Faults
from firmware_host.simulator.line import BoardSide, LineSettings, TimeModel
from firmware_host.simulator.profiles import PROFILES, STM32F103C8, BoardProfile
from firmware_host.simulator.server import WIRINGS, Wiring, serve_pty, serve_rfc2217, serve_tcp

__all__ = [
    "FAULT_NAMES",
    "PROFILES",
    "STM32F103C8",
    "WIRINGS",
    "BoardProfile",
    "BoardSide",
    "Faults",
    "LineSettings",
    "SimulatedBoard",
    "TimeModel",
    "Wiring",
    "serve_pty",
    "serve_rfc2217",
    "serve_tcp",
]
