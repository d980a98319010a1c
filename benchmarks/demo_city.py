"""Measure the demonstration of a city: ``python -m benchmarks.demo_city [--quick] [--json]``.

The benchmark runs ``blockota demo --city 1000``, or 100 devices with ``--quick``. It measures the processor time and
the memory of all processes of the demonstration: the commands, the chain, the gateway, the operations room and the
devices. Memory that several processes share is counted once (Linux's PSS).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from benchmarks.figure import ROOT, Figure, options, report, seconds_of

DEVICES, QUICK_DEVICES = 1000, 100
_IDLE, _SAMPLE = 20.0, 0.5
"""Seconds for which the demonstration is measured after the update, and seconds between two samples of the memory."""
_TICKS, _MIB, _RUNS = os.sysconf("SC_CLK_TCK"), 1 << 10, 5


@dataclass
class Usage:
    """The processor time and the memory of a process and its descendants.

    Attributes:
        root: the process.
        folder: the folder of the demonstration; a file ``anvil.pid`` below it contains the process id of the chain.
        peak: the largest sampled memory, in KiB.
    """

    root: int
    folder: Path
    peak: int = 0
    _seen: dict[int, float] = field(default_factory=dict)

    def sample(self) -> float:
        """Sample the memory. Returns the processor time in seconds so far, including that of ended processes."""
        memory = 0
        for number in self._processes():
            try:
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
                rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
            except OSError:
                continue  # it ended; the time of its last sample stays
            self._seen[number] = sum(map(int, fields[11:13])) / _TICKS
            memory += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
        self.peak = max(self.peak, memory)
        return sum(self._seen.values())

    def _processes(self) -> set[int]:
        parents = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        chains = {int(file.read_text() or 0) for file in self.folder.glob("*/.blockota/anvil.pid")}
        found = {self.root} | (chains & parents.keys())
        while more := {one for one, parent in parents.items() if parent in found} - found:
            found |= more
        return found


def figures(devices: int) -> Iterator[Figure]:
    """Yield the durations, processor time and memory of the demonstration, and the load times of two pages."""
    name = f"demonstration with {devices:,} devices"
    command = [sys.executable, "-m", "blockota", "demo", "--city", str(devices)]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TMPDIR": folder}
        began = time.monotonic()
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as demo:
            usage, over = Usage(demo.pid, Path(folder)), threading.Event()
            sampler = threading.Thread(target=_sample, args=(usage, over))
            sampler.start()
            try:
                url = _line(demo, r"the operations page is at (http://\S+);")
                yield Figure(f"{name}: from the start to the page", time.monotonic() - began, "s", 90)
                _line(demo, r"(order 1): ")
                ordered = time.monotonic()
                _line(demo, "(the update is over)")
                seconds = time.monotonic() - began
                yield Figure(f"{name}: from the order to the last receipt", time.monotonic() - ordered, "s", 120)
                busy = usage.sample()
                yield Figure(f"{name}: processor time until then", busy, "s", 90, times=f"{busy / seconds:.2f} cores")
                time.sleep(_IDLE)
                idle = (usage.sample() - busy) / _IDLE * 100
                yield Figure(f"{name}: processor after the update", idle, "% of a core", 60)
                yield from _pages(url)
                ended = time.monotonic()
                demo.send_signal(signal.SIGINT)
                demo.wait()
                yield Figure(f"{name}: end after Ctrl-C", time.monotonic() - ended, "s", 20)
                yield Figure(f"{name}: largest memory of all processes", usage.peak / _MIB, "MiB", 1024)
            finally:
                over.set()
                sampler.join()
                demo.terminate()


def _pages(url: str) -> Iterator[Figure]:
    for path in ("/", "/devices?page=10"):
        times = sorted(seconds_of(lambda path=path: urlopen(url + path).read()) for _ in range(_RUNS))  # type: ignore[misc]  # noqa: S310
        yield Figure(f"page {path} of this city", times[_RUNS // 2] * 1000, "ms", 200)


def _sample(usage: Usage, over: threading.Event) -> None:
    while not over.wait(_SAMPLE):
        usage.sample()


def _line(demo: subprocess.Popen[str], pattern: str) -> str:
    """Return the first group of the pattern in the next line of output that matches the pattern."""
    for line in demo.stdout or ():
        if found := re.search(pattern, line):
            return found[1]
    raise RuntimeError(f"the demonstration ended before it printed {pattern}")


if __name__ == "__main__":
    sys.exit(report(figures(QUICK_DEVICES if options(__doc__).quick else DEVICES)))
