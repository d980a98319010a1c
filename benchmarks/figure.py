"""Figures with limits, and functions that measure two programs in turns on one machine."""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PERCENT = 100
SHOWN_LINES = 40
"""The number of lines of a failed command's output that are printed."""


@dataclass(frozen=True)
class Figure:
    """A measured number and its limit.

    Attributes:
        name: what was measured.
        value: the number; the median if there are several runs.
        unit: the unit of the number.
        limit: the limit; None for a number that is printed only for comparison.
        is_minimum: whether the limit is a minimum, not a maximum.
        times: how the number was measured; in a comparison, how both programs were measured.
        runs: the numbers of the single runs in order, without the warm-up.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    is_minimum: bool = False
    times: str = ""
    runs: tuple[float, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether the number is within its limit."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit


def in_turns(
    ours: Callable[[], float], theirs: Callable[[], float], *, runs: int, between: Callable[[], object] = lambda: None
) -> list[tuple[float, float]]:
    """Measure two programs for the same task in turns; the first turn is a warm-up and is not counted.

    Args:
        ours: runs our program, and returns the measured seconds.
        theirs: runs the other program, and returns the measured seconds.
        runs: the number of counted turns; the two programs alternate in running first.
        between: a function that is called after each program, outside the measured time.

    Returns:
        The pairs ⟨our seconds, the other program's seconds⟩ of the counted turns.
    """
    pairs = []
    for turn in range(runs + 1):
        times = {}
        for way in (ours, theirs) if turn % 2 else (theirs, ours):
            times[way] = way()
            between()
        pairs.append((times[ours], times[theirs]))
    return pairs[1:]


def throughput(name: str, pairs: Sequence[tuple[float, float]], *, at_least: float, times: str) -> Figure:
    """Return the median of our throughput relative to the other program's, in percent."""
    runs = tuple(PERCENT * theirs / ours for ours, theirs in pairs)
    return Figure(name, statistics.median(runs), "%", at_least, is_minimum=True, times=times, runs=runs)


def duration(name: str, pairs: Sequence[tuple[float, float]], *, at_most: float, times: str) -> Figure:
    """Return the median of our duration relative to the other program's, in percent."""
    runs = tuple(PERCENT * ours / theirs for ours, theirs in pairs)
    return Figure(name, statistics.median(runs), "%", at_most, times=times, runs=runs)


def seconds_of(work: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def plain_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """Create a temporary folder on the disk of this clone, because /tmp may be in memory, where fsync takes no time."""
    build = ROOT / ".build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix="bench-") as name:
        yield Path(name)


def options(description: str, *, has_quick: bool = True) -> argparse.Namespace:
    """Parse the option ``--json`` of a benchmark and, if `has_quick`, the option ``--quick``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    if has_quick:
        parser.add_argument("--quick", action="store_true", help="leave out or shorten long measurements")
    parser.add_argument("--json", action="store_true", help="print the figures only as JSON")
    return parser.parse_args()


def report(*parts: Iterable[Figure]) -> int:
    """Measure parts one after the other, print each figure as soon as it is known, and print all figures as JSON.

    Progress is printed on stderr. With ``--json``, stdout contains only the JSON. If a part fails, the output of its
    failed command is printed, and the other parts are still measured.

    Returns:
        The exit status, which is 1 if a figure misses its limit or a part failed.
    """
    figures: list[Figure] = []
    failed = False
    for number, part in enumerate(parts, 1):
        name = getattr(part, "__name__", "figures").replace("_", " ")
        print(f"Measuring {name} ({number} of {len(parts)}) ...", file=sys.stderr, flush=True)
        try:
            for figure in part:
                figures.append(figure)
                if "--json" not in sys.argv:
                    show(figure)
        except Exception as error:  # noqa: BLE001 - after any error, the other figures are kept
            failed = True
            print(f"Measuring {name} failed: {error}", file=sys.stderr)
            if isinstance(error, subprocess.CalledProcessError):
                print(_tail(error.stdout), _tail(error.stderr), sep="\n", file=sys.stderr)
    print(json.dumps([asdict(figure) | {"met": figure.is_met} for figure in figures], indent=2))
    return 0 if not failed and all(figure.is_met for figure in figures) else 1


def show(figure: Figure) -> None:
    """Print a figure, its limit, and the description of the measurement."""
    limit = ""
    if figure.limit is not None:
        sign = "≥" if figure.is_minimum else "≤"
        met = "met" if figure.is_met else "MISSED"
        limit = f" ({sign} {figure.limit:,g} {figure.unit}: {met})"
    runs = f"; {len(figure.runs)} runs: {min(figure.runs):,.4g} to {max(figure.runs):,.4g}" if figure.runs else ""
    print(f"{figure.name}: {figure.value:,.6g} {figure.unit}{limit}{runs}", flush=True)
    if figure.times:
        print(f"    {figure.times}", flush=True)


def _tail(output: str | bytes | None) -> str:
    """Return the last lines of a command's output."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return "\n".join(text.splitlines()[-SHOWN_LINES:])
