"""A figure with its limit, and how two ways to do the same are compared: in turns, in one run, on one machine."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
PERCENT = 100


@dataclass(frozen=True)
class Figure:
    """One measured number and what it must reach.

    Attributes:
        name: what was measured.
        value: the number: where there are several runs, their median.
        unit: its unit.
        limit: what it must not cross; None for a number that stands beside the others, to compare them with.
        is_minimum: whether the limit is the least allowed, not the most.
        times: what exactly was timed or counted, on both sides; one sentence or more.
        runs: the number of every run that counts, in their order.
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
        """Whether it keeps to its limit."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit


def in_turns(
    ours: Callable[[], float], theirs: Callable[[], float], *, runs: int, between: Callable[[], object] = lambda: None
) -> list[tuple[float, float]]:
    """Measure two ways to do the same, one after the other; the first turn warms up and does not count.

    Args:
        ours: does it our way, and returns the seconds that count.
        theirs: does it another way.
        runs: turns that count; who begins changes with every one.
        between: is called after each, and not timed.

    Returns:
        ⟨our seconds, their seconds⟩ of every turn that counts.
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
    """Our throughput as a share of theirs, in percent: the median of the turns."""
    runs = tuple(PERCENT * theirs / ours for ours, theirs in pairs)
    return Figure(name, statistics.median(runs), "%", at_least, is_minimum=True, times=times, runs=runs)


def duration(name: str, pairs: Sequence[tuple[float, float]], *, at_most: float, times: str) -> Figure:
    """Our time as a share of theirs, in percent: the median of the turns."""
    runs = tuple(PERCENT * ours / theirs for ours, theirs in pairs)
    return Figure(name, statistics.median(runs), "%", at_most, times=times, runs=runs)


def seconds_of(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """A folder that lies on the disk of this clone: what is temporary elsewhere may be memory, where fsync is free."""
    build = ROOT / ".build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix="bench-") as name:
        yield Path(name)


def report(measured: Iterable[Figure]) -> int:
    """Print figures as a table (not with ``--json``) and as JSON; the exit status is 1 when a limit is missed."""
    figures = list(measured)
    if "--json" not in sys.argv:
        show(figures)
    print(json.dumps([asdict(figure) | {"met": figure.is_met} for figure in figures], indent=2))
    return 0 if all(figure.is_met for figure in figures) else 1


def show(figures: Sequence[Figure]) -> None:
    """Print the table, and under it what each row times."""
    console = Console()
    table = Table("FIGURE", "MEASURED", "LIMIT", "MET", "RUNS", box=None, pad_edge=False)
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:,.6g} {figure.unit}", *_limit(figure), _spread(figure.runs))
    console.print(table)
    for figure in figures:
        if figure.times:
            console.print(f"\n[bold]{figure.name}[/bold]\n{figure.times}", highlight=False)


def _limit(figure: Figure) -> tuple[str, str]:
    """The limit, and whether it is met; nothing where there is none."""
    if figure.limit is None:
        return "", ""
    sign = "≥" if figure.is_minimum else "≤"
    return f"{sign} {figure.limit:,g} {figure.unit}", "[green]yes[/green]" if figure.is_met else "[red]no[/red]"


def _spread(runs: Sequence[float]) -> str:
    return f"{len(runs)}: {min(runs):,.4g} to {max(runs):,.4g}" if runs else ""
