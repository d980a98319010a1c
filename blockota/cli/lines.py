"""The options of the serial lines to boards. An option overrides the setting of the same name in ``[bench]``."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from blockota.cli.layout import console, print_sentence
from blockota.errors import Action, UsageError, shortened
from blockota.settings import BenchSettings, load_bench
from firmware_host.bootloader.entry import BY_HAND, FASTEST, WIRINGS, BoardLine, BoardWiring, StartMethod, find_wiring
from firmware_host.line.link import DEFAULT_BAUD, MODES, LineMode
from firmware_host.line.port_names import find_ports

_SLOWEST, _FASTEST = 1200, 1_000_000
_NAMES = ", ".join(WIRINGS)
_WIRINGS = click.Choice(list(WIRINGS))
_STARTS = click.Choice([one.value for one in StartMethod])
_HOW = ", ".join(_STARTS.choices)
_Value = TypeVar("_Value")


def baud(value: Any) -> int:
    """Parse a speed such as ``115200``; the word ``auto`` (the highest speed that the board understands) becomes 0."""
    if value in ("auto", FASTEST):
        return FASTEST
    if not (str(value).isdecimal() and _SLOWEST <= int(value) <= _FASTEST):
        raise click.BadParameter(f"{value!r} is not a speed: give {_SLOWEST} to {_FASTEST} bits per second, or auto.")
    return int(value)


def mode(value: Any) -> LineMode:
    """Parse the words of a line's mode, such as ``echo,no-parity``."""
    try:
        return value if isinstance(value, LineMode) else LineMode.parse(value)
    except UsageError as error:
        raise click.BadParameter(f"{error.why}.") from error


@dataclass(frozen=True)
class LineOptions:
    """The values of the options of a serial line; None for an option that is not given."""

    baud: int | None
    wiring: str | None
    invert_reset: bool
    invert_boot0: bool
    mode: LineMode | None


def line_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--config`` and the options of a serial line to a command, which receives one board's line as ``line``."""

    @click.option("--port", metavar="URL", help="/dev/ttyUSB0, COM3, socket://… or rfc2217://…; else the only adapter.")
    @click.option("--config", type=click.Path(path_type=Path), help="Settings file; blockota.toml by default.")
    @_mode_options
    @functools.wraps(command)
    def wrapped(*args: object, port: str | None, config: Path | None, given: LineOptions, **kwargs: object) -> None:
        bench = load_bench(config, environment=os.environ)
        (line,) = board_lines(bench, (port,) if port else (), given, is_single=True)
        command(*args, line=line, config=config, **kwargs)

    return wrapped


def lines_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of serial lines to a command, which receives them as ``lines``; ``--port`` can be repeated."""

    @click.option("--port", multiple=True, metavar="URL", help="A board's port (repeatable); else the only adapter.")
    @_mode_options
    @click.option("--start", type=_STARTS, metavar="HOW", help=f"Start by {_HOW}; auto by default.")
    @functools.wraps(command)
    def wrapped(
        *args: object,
        port: tuple[str, ...],
        config: Path | None,
        given: LineOptions,
        start: str | None,
        **kwargs: object,
    ) -> None:
        bench = load_bench(config, environment=os.environ)
        method = StartMethod(start or _parsed("start", bench.start, _STARTS) or StartMethod.AUTO.value)
        lines = tuple(
            replace(line, start=method)
            for line in board_lines(bench, tuple(filter(None, port)), given, is_single=False)
        )
        command(*args, lines=lines, config=config, **kwargs)

    return wrapped


def board_lines(
    bench: BenchSettings, ports: tuple[str, ...], given: LineOptions, *, is_single: bool
) -> tuple[BoardLine, ...]:
    """Return the lines to the boards.

    Args:
        bench: the settings of the bench.
        ports: the ports that the operator named; if empty, the ports of the settings or the only USB adapter are used.
        given: the options of the command line.
        is_single: whether the command works on one board.

    Raises:
        UsageError: a setting is invalid; or several ports are set for a command that works on one board; or no port is
            named, and the machine has no USB adapter or more than one.
    """
    urls = ports or bench.port or (_only_adapter(),)
    if is_single and len(urls) > 1:
        raise UsageError(
            "the settings name several ports",
            why=f"this command works on one board, and [bench] has {shortened(urls)}",
            remedy="name one of the ports",
            action=Action.NAME_PORT,
        )

    speed = _parsed("baud", bench.baud, baud) if given.baud is None else given.baud
    line_mode = given.mode or _parsed("mode", bench.mode, mode) or LineMode()
    speed = DEFAULT_BAUD if speed is None else speed
    return tuple(BoardLine(url, speed, _wiring(bench, given), line_mode) for url in urls)


def _only_adapter() -> str:
    """Return the port of the only USB adapter, and print the port on stderr.

    Only an adapter's port is chosen, because a built-in port exists whether or not a board is connected to it.

    Raises:
        UsageError: the machine has no USB adapter, or more than one.
    """
    found = find_ports()
    adapters = [port for port in found if port.is_usb]
    if len(adapters) == 1:
        sentence = f"Port {adapters[0]}, the only USB adapter of this machine."
        print_sentence(console(stderr=True), sentence, style="dim")
        return adapters[0].name

    if adapters:
        why, remedy = f"this machine has {shortened(adapters)}", "name the port of the board"
    else:
        others = f", only {shortened(found)}" if found else ""
        why = f"this machine has no USB adapter{others}"
        remedy = "plug in the board's USB adapter, or name a port"

    raise UsageError("no port is named", why=why, remedy=remedy, action=Action.NAME_PORT)


def _wiring(bench: BenchSettings, given: LineOptions) -> BoardWiring:
    # The settings' inversions belong to the settings' wiring, so they do not apply to a wiring that is given.
    are_set = given.wiring is None
    reset = given.invert_reset or bool(are_set and bench.invert_reset)
    boot0 = given.invert_boot0 or bool(are_set and bench.invert_boot0)
    name = given.wiring or _parsed("wiring", bench.wiring, _WIRINGS) or BY_HAND.name
    return find_wiring(name, invert_reset=reset, invert_boot0=boot0)


def _parsed(key: str, value: str | None, parse: Callable[[str], _Value]) -> _Value | None:
    """Parse the value of a setting with the parser of the option that has the same name.

    Return None if the settings file does not contain the setting.
    """
    if value is None:
        return None
    try:
        return parse(value)
    except click.BadParameter as error:
        raise UsageError(
            f"the setting {key} in [bench] cannot be used",
            why=error.message.rstrip("."),
            remedy=f"correct {key} in the settings file",
        ) from error


def _mode_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of wiring, speed, mode and start, as the parameter `given`."""

    @click.option("--baud", type=baud, help=f"Bits per second, or auto; {DEFAULT_BAUD} by default.")
    @click.option("--wiring", type=_WIRINGS, metavar="NAME", help=f"One of {_NAMES}.")
    @click.option("--invert-reset", is_flag=True, help="In reset while the line is not asserted.")
    @click.option("--invert-boot0", is_flag=True, help="BOOT0 is 1 while the line is asserted.")
    @click.option("--mode", type=mode, metavar="LIST", help=f"Line: {', '.join(MODES[1:])}.")
    @functools.wraps(command)
    def wrapped(*args: object, **kwargs: object) -> None:
        values: dict[str, Any] = {one.name: kwargs.pop(one.name) for one in fields(LineOptions)}
        command(*args, given=LineOptions(**values), **kwargs)

    return wrapped
