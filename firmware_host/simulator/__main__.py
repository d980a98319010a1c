"""Serve a simulated STM32 board.

The command prints one line, the URL or path to connect to; the board's log goes to stderr.
"""

from __future__ import annotations

import argparse
import logging
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import NoReturn

from blockota.errors import BlockOTAError, UsageError
from blockota.shutdown import stop_on_signals
from firmware_host.simulator.device import UNIQUE_ID, SimulatedBoard
from firmware_host.simulator.faults import FAULT_NAMES, Faults
from firmware_host.simulator.line import BoardSide, TimeModel
from firmware_host.simulator.profiles import PROFILES, STM32F103C8, BoardProfile
from firmware_host.simulator.server import WIRINGS, serve_pty, serve_rfc2217, serve_tcp

PROGRAM = "python -m firmware_host.simulator"
RATES = ("9600", "57600", "115200", "230400", "256000", "460800")
RATE_OF_THE_LINE = "line"
MAX_LATENCY = 1000.0
"""The maximum latency in milliseconds; the client stops waiting for an answer after half of this time."""
EXAMPLE = """\
example:
  %(prog)s --tcp 3115 --flash board.flash
  %(prog)s --pty --fault silent-after=5000
  %(prog)s --rfc2217 --wiring dtr-rts --baud line
  %(prog)s --rfc2217 --wiring dtr --rs485 --half-duplex

Each new connection resets the board, which is then in its boot ROM.
Where a control line is wired to NRST (--rfc2217), the host must reset the board
itself."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError instead of printing argparse's own message and exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, remedy=f"list the options with `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a simulated board; return the exit status (see `blockota.errors`)."""
    try:
        simulate(arguments, partial(print, flush=True))
    except BlockOTAError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


def simulate(arguments: Sequence[str] | None, announce: Callable[[str], None], *, program: str = PROGRAM) -> None:
    """Serve a simulated board until SIGINT or SIGTERM; `announce` receives the URL or path to connect to.

    Raises:
        BlockOTAError: an option is invalid or contradicts another option, or the board cannot be served.
        SystemExit: the options request help, which argparse has printed.
    """
    options = _parser(program).parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s"
    )
    _require_possible(options)
    board = _board(options)
    if options.rfc2217 is not None:
        wiring = replace(
            WIRINGS[options.wiring],
            invert_reset=options.invert_reset,
            invert_boot0=options.invert_boot0,
            rs485=options.rs485,
            invert_rs485=options.invert_rs485,
        )
        server = serve_rfc2217(board, port=options.rfc2217, wiring=wiring)
    else:
        server = serve_pty(board) if options.pty else serve_tcp(board, port=options.tcp)

    with stop_on_signals() as stop, server as url:
        announce(url)
        stop.wait_until_asked()


def _require_possible(options: argparse.Namespace) -> None:
    """Refuse combinations of options that are impossible on a serial line."""
    baud, is_rfc2217 = options.baud, options.rfc2217 is not None
    if options.latency and not baud:
        raise UsageError("--latency has no effect without --baud", remedy="add --baud, such as --baud 115200")
    if baud == RATE_OF_THE_LINE and not options.pty and not is_rfc2217:
        raise UsageError("a TCP connection has no baud rate", remedy="use --baud 115200, or serve --pty or --rfc2217")
    if options.invert_rs485 and not options.rs485:
        raise UsageError("--invert-rs485 has no effect without --rs485", remedy="add --rs485")

    only_rfc2217 = {
        "--parity": (options.parity == "none", "carry bytes without a parity bit"),
        "--rs485": (options.rs485, "have no RTS"),
    }
    for name, (is_given, why) in only_rfc2217.items():
        if is_given and not is_rfc2217:
            raise UsageError(
                f"{name} has no effect without --rfc2217",
                why=f"a TCP connection and a pseudo-terminal {why}",
                remedy="serve the board with --rfc2217",
            )


def _board(options: argparse.Namespace) -> SimulatedBoard:
    rate = 0 if options.baud == RATE_OF_THE_LINE else int(options.baud or 0)
    profile: BoardProfile = options.chip
    first = options.second_bank_page
    if first and (profile.banks == 1 or first < profile.bank_pages(2).start):
        raise UsageError(
            f"the second bank of an {profile.name} cannot begin with page {first}",
            why=f"page {first} is in the first bank" if profile.banks > 1 else "the chip has one bank",
            remedy="omit --second-bank-page, or choose a higher number, or a chip with two banks",
        )
    profile = replace(profile, max_baud=options.max_baud or profile.max_baud, second_bank_page=first)

    board = SimulatedBoard(
        profile,
        flash=options.flash or b"",
        faults=reduce(Faults.adding, options.fault, Faults()),
        times=TimeModel(baud=rate, latency=options.latency) if options.baud else None,
        unique_id=options.unique_id,
    )
    board.side = BoardSide("N" if options.parity == "none" else "E", half_duplex=options.half_duplex)

    # Option bytes and BOOT0 take effect at a reset, so both are set before the board is served.
    pages = _pages(options.write_protected, profile)
    if pages or options.readout_protected:
        board.protect(readout=options.readout_protected, pages=pages)
    if options.boot0 == 0:
        board.boot0 = False
        board.reset()
    return board


def _pages(text: str, profile: BoardProfile) -> set[int]:
    pages: set[int] = set()
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < profile.page_count:
            raise UsageError(
                f"the pages {part!r} cannot be write-protected",
                remedy=f"write page numbers up to {profile.page_count - 1}, such as 0-3,8",
            )
        pages |= set(range(first, last + 1))
    return pages


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        usage="%(prog)s [OPTION ...]",
        description=__doc__.splitlines()[0],
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, add_line = parser.add_argument, parser.add_mutually_exclusive_group().add_argument

    # The line and its adapter.
    add_line("--tcp", type=_port, default=0, metavar="PORT", help="TCP port on 127.0.0.1 (default: any free port)")
    add_line("--pty", action="store_true", help="serve a new pseudo-terminal instead")
    text = "serve an RFC 2217 serial server instead, with rate, parity and control lines"
    add_line("--rfc2217", type=_port, nargs="?", const=0, metavar="PORT", help=text)
    text = "the control lines that drive NRST and BOOT0, in this order (%(default)s)"
    add("--wiring", choices=tuple(WIRINGS), default="dtr-rts", help=text)
    add("--invert-reset", action="store_true", help="NRST is low while its control line is not asserted")
    add("--invert-boot0", action="store_true", help="BOOT0 is high while its control line is asserted")
    text = "the parity of the board's USART (%(default)s); the boot ROMs of ST use even parity"
    add("--parity", choices=("even", "none"), default="even", help=text)
    text = "both directions share one wire: the host receives what it sends"
    add("--half-duplex", action="store_true", help=text)
    text = "RTS switches an RS485 transceiver to sending; the bytes against its direction are lost"
    add("--rs485", action="store_true", help=text)
    add("--invert-rs485", action="store_true", help="the transceiver sends while RTS is not asserted")
    text = "simulate transmission and flash times at this baud rate; `line`: at the host's rate (default: no delays)"
    add("--baud", default="", choices=(*RATES, RATE_OF_THE_LINE), help=text)
    text = "the highest baud rate that the ROM measures correctly (default: that of the chip)"
    add("--max-baud", type=int, default=0, metavar="RATE", help=text)
    text = "the delay of the USB adapter in milliseconds; requires --baud"
    add("--latency", type=_latency, default=0.0, metavar="MS", help=text)
    add("--verbose", action="store_true", help="log each read and write as well")

    # The board.
    text = f"the chip to simulate, such as stm32g071rb ({STM32F103C8.name}); a wrong name lists all names"
    add("--chip", type=_profile, default=STM32F103C8, metavar="NAME", help=text)
    text = "the number that the ROM gives to the first page of the second bank (default: it counts on)"
    add("--second-bank-page", type=int, default=0, metavar="PAGE", help=text)
    add("--flash", type=Path, metavar="FILE", help="keep the flash contents in FILE, which is created if absent")
    add("--unique-id", type=_unique_id, default=UNIQUE_ID, metavar="HEX", help="the chip's 96-bit unique id")
    add("--boot0", type=int, choices=(0, 1), default=1, help="1 starts the boot ROM, 0 the flash (1)")
    add("--readout-protected", action="store_true", help="set readout protection")
    text = "pages to protect from writing, such as 0-3,8; rounded up to sectors"
    add("--write-protected", default="", metavar="PAGES", help=text)
    text = f"simulate a fault; may be repeated: {', '.join(FAULT_NAMES)}"
    add("--fault", action="append", default=[], metavar="NAME[=VALUE]", help=text)
    return parser


def _profile(text: str) -> BoardProfile:
    if text.lower() not in PROFILES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a simulated chip; choose one of {', '.join(PROFILES)}")
    return PROFILES[text.lower()]


def _port(text: str) -> int:
    port = int(text) if re.fullmatch(r"[0-9]{1,5}", text) else -1
    if not 0 <= port < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text} is not a TCP port")
    return port


def _latency(text: str) -> float:
    """Convert milliseconds to seconds."""
    latency = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else math.inf
    if latency > MAX_LATENCY:
        raise argparse.ArgumentTypeError(f"{text} is not a delay of 0 to {MAX_LATENCY:g} milliseconds")
    return latency / 1000


def _unique_id(text: str) -> bytes:
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{len(UNIQUE_ID) * 2}}}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a unique id; write {len(UNIQUE_ID) * 2} hex digits")
    return bytes.fromhex(text)


if __name__ == "__main__":
    sys.exit(main())
