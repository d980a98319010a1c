"""Compare flashing with stm32flash and stm32loader: ``python -m benchmarks.flashing [--quick] [--json]``.

All programs flash a simulated STM32F103 with 64 KiB, which runs in its own process. The line has 115200 baud and an
adapter that delays every acknowledgement by 1 ms. The script also injects faults (`benchmarks.faults`). ``--quick``
measures one turn and injects few faults. The exit status is 1 if a figure misses its limit.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence

from benchmarks import faults
from benchmarks.boards import LINE, stm32flash, stm32loader
from benchmarks.figure import PERCENT, Figure, options, report
from benchmarks.flash_desk import CHANGED, NEAR, OTHER, PAGES, WANTED, Flashing, desk
from firmware_host.flashing.contents import Proof

TURNS, QUICK_FAULTS = 3, 500
Ours = dict[str, list[Flashing]]
"""The flash runs in a process with loaded modules, by name; every name has the same number of runs."""
_OURS = "Ours: in a process that has loaded its modules and verified the release, from before the port is opened"
_UNTIL_STARTED = (
    f"{_OURS} until the board acknowledges Go; the board is identified, its old contents are examined, and the image "
    "is written and proven (check 10)"
)
_THEIRS = (
    "stm32flash: its whole process (`-w -v -g`: erase by pages, write, read back, Go). Both write the same image over "
    "the same contents, ours over TCP, theirs over a pseudo-terminal; the flash is compared with the image afterwards"
)
WHOLE_PROCESSES = {
    "stm32flash": "64 KiB over other contents: the whole process.",
    "stm32loader": "64 KiB over other contents, over TCP: the whole process (`--erase --write --verify --go-address`).",
    "blockota flash --read-back": "64 KiB over other contents: the whole process, with the chain check, until the "
    "started program was silent for 0.3 s after its banner.",
    "blockota flash": "The same image again, proven by the program on the chip: the whole process, with the chain "
    "check, until the started program was silent for 0.3 s after its banner.",
}


def figures(*, turns: int = TURNS) -> Iterator[Figure]:
    """Yield all figures of flashing; each program is measured in this number of turns."""
    ways = {
        "stub": (OTHER, Proof.STUB),
        "read-back": (OTHER, Proof.READ_BACK),
        "changed": (NEAR, Proof.STUB),
        "same": (WANTED, Proof.STUB),
    }
    ours: dict[str, list[Flashing]] = {name: [] for name in ways}
    processes: dict[str, list[float]] = {name: [] for name in WHOLE_PROCESSES}
    with desk() as here:
        image, over = here.image, here.images[OTHER]
        here.flash(over=WANTED, proof=Proof.STUB)  # loads the modules before the measurement
        for _ in range(turns):
            for name, (installed, proof) in ways.items():
                ours[name].append(here.flash(over=installed, proof=proof))
            processes["stm32flash"].append(stm32flash(image, over=over))
            processes["stm32loader"].append(stm32loader(image, over=over))
            processes["blockota flash --read-back"].append(here.command("--read-back", over=OTHER))
            processes["blockota flash"].append(here.command(over=WANTED))
    yield from limited(ours, processes["stm32flash"])
    yield from _beside(ours)
    for name, text in WHOLE_PROCESSES.items():
        yield _figure(name, processes[name], unit="s", times=text)


def limited(ours: Ours, theirs: Sequence[float]) -> Iterator[Figure]:
    """Yield the figures that have a limit; `theirs` are the seconds of stm32flash."""
    least = LINE.flash_seconds(PAGES << 10)
    yield _figure(
        "64 KiB written over other contents and read back, of the closed form",
        [PERCENT * one.proven / least for one in ours["read-back"]],
        unit="%",
        limit=105,
        times=f"{_OURS} to the proof by reading every byte back (check 10), including the examination of the old "
        "contents. The operator confirmed that no flash lies beyond the reported size, so that one command erases the "
        "flash, as in the closed form; otherwise the pages are erased one by one, which takes 1.9 s more. "
        f"Closed form: {least:.2f} s, from AN3155's frames and DS5319's times (benchmarks/closed_form.py).",
    )
    yield _figure(
        "64 KiB written over other contents and proven by the stub, of stm32flash's time",
        [PERCENT * one.started / other for one, other in zip(ours["stub"], theirs, strict=True)],
        unit="%",
        limit=65,
        times=f"{_UNTIL_STARTED}. {_THEIRS}.",
    )
    factors = [other / one.started for one, other in zip(ours["changed"], theirs, strict=True)]
    times = f"{_UNTIL_STARTED}; pages {CHANGED} differ, and the page with the vector table is written too. {_THEIRS}."
    name = f"{len(CHANGED)} of {PAGES} pages changed, the whole proven, stm32flash's time by ours"
    yield _figure(name, factors, unit="times", limit=8, times=times)
    yield _figure(
        "the same image again",
        [one.chain + one.proven for one in ours["same"]],
        unit="s",
        limit=0.8,
        times="Ours: in a process that has loaded its modules, from the first request to the chain (anvil, a contract "
        "with three releases) to the proof of the whole image (check 10).",
    )
    yield _figure(
        "of it chain check and planning",
        [one.chain + one.looked for one in ours["same"]],
        unit="s",
        limit=0.5,
        times="From the first request to the chain until check 9 has passed and the flasher knows that no page must be "
        "written: checks 1 to 5, opening the port, connecting and identifying the board, and hashing its flash on the "
        "chip.",
    )


def _beside(ours: Ours) -> Iterator[Figure]:
    names = {
        "read-back": "64 KiB over other contents, read back",
        "stub": "64 KiB over other contents, by the stub",
        "changed": f"{len(CHANGED)} of {PAGES} pages changed, by the stub",
        "same": "the same image again, by the stub",
    }
    for key, name in names.items():
        flashings = ours[key]
        stages = {stage: statistics.median(one.stages[stage] for one in flashings) for stage in flashings[0].stages}
        longest_first = sorted(stages.items(), key=lambda pair: pair[1], reverse=True)
        spent = ", ".join(f"{stage} {seconds:.3f} s" for stage, seconds in longest_first)
        times = f"From before the port is opened to the proof. The stages: {spent}."
        yield _figure(name, [one.proven for one in flashings], unit="s", times=times)
    yield _figure(
        "checks 1 to 5 and the releases that a board may hold",
        [one.chain for flashings in ours.values() for one in flashings],
        unit="s",
        times="In a process that has loaded its modules, with requests to anvil over loopback.",
    )


def _figure(name: str, runs: Sequence[float], *, unit: str, times: str, limit: float | None = None) -> Figure:
    is_minimum = unit == "times"
    return Figure(name, statistics.median(runs), unit, limit, is_minimum=is_minimum, times=times, runs=tuple(runs))


if __name__ == "__main__":
    chosen = options(__doc__)
    measured = figures(turns=1 if chosen.quick else TURNS)
    injected = [faults.figure(count=QUICK_FAULTS if chosen.quick else faults.COUNT, is_shown=not chosen.json)]
    sys.exit(report(measured, injected))
