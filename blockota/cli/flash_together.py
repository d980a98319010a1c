"""Several ports at once, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from blockota.cli.flash_display import BoardDisplay, Display
from blockota.cli.flash_ports import PortWork
from blockota.cli.flash_result import BoardResult
from blockota.cli.flash_stop import Stop
from firmware_host.board_line import BoardLine


def at_all_ports(lines: Sequence[BoardLine], work: PortWork, *, display: Display, stop: Stop) -> list[BoardResult]:
    """Work at every port at the same time; a failure at one does not touch the others.

    Args:
        lines: the ways to the boards.
        work: what is done at each.
        display: the terminal.
        stop: is asked when Ctrl-C is pressed; then every board is brought to a state that is told.

    Returns:
        The results, port by port.
    """
    with ThreadPoolExecutor(len(lines), thread_name_prefix="port") as pool:
        running = [pool.submit(work, line, BoardDisplay(display, line.url)) for line in lines]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            display.session.note("Stopping: each board is brought to a state that can be told.")
        # After a defect of ours, too, no other board may be left in the middle.
        if not all(future.done() for future in running):
            stop.ask()
    return [result for future in running for result in future.result()]
