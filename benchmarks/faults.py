"""Inject single faults into flashing, and check that no run reports a false result or prints an untrue sentence.

``python -m benchmarks.faults [--count N] [--seed N] [--json]`` flashes a simulated board once for each fault, on all
processors of this machine. The boards have chips of six families (`fault_scene`). After each run, the script compares
the report with the simulated flash:

- if the run reports *done*, the flash must contain the image and the unchanged bytes beside the image;
- if the run reports an error, the error must report lost bytes, and must state how to complete the run;
- if the fault was temporary, the resumed run must complete and leave the correct flash contents;
- every sentence that the run prints must be known and true (`fault_judge`).

Every violation is printed with its fault. The exit status is 1 if a run violates one of these rules.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.fault_judge import CaseSituation
from benchmarks.fault_link import Mishaps, WirelessLink
from benchmarks.fault_scene import SCENES, FaultScene
from benchmarks.fault_sentences import judge_of
from benchmarks.fault_trial import CaseOutcome, FaultCase, Spoil, attempt, run
from benchmarks.figure import Figure, report
from firmware_host.bootloader.an3155 import MAX_BLOCK
from firmware_host.flashing.contents import Proof
from firmware_host.simulator import Faults

COUNT, SEED = 10_000, 20_261
PARTS = 64
WIDTH = 160
MEMORY = Path("/dev/shm")  # noqa: S108 - a temporary folder is created there
RESYNCHRONISED = ("unplug_after", "unplug_after_sent")
"""Faults after which the board waits in the middle of a frame; their cases run with and without a reset."""


def cases(count: int, *, seed: int) -> list[FaultCase]:
    """Choose at most `count` cases; if a kind of fault has too many places, its places are chosen at random."""
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    kinds = [kind for scene in SCENES for proof in Proof for kind in _kinds(scene, proof)]
    draw.shuffle(kinds)
    kinds.sort(key=len)
    chosen: list[FaultCase] = []
    for index, kind in enumerate(kinds):
        share = (count - len(chosen)) // (len(kinds) - index)
        places = range(len(kind))
        chosen += [kind.case(place) for place in (places if len(kind) <= share else draw.sample(places, share))]
    return chosen


@dataclass(frozen=True)
class _Kind:
    """All places of one kind of fault, which are generated on demand because a million cases are possible."""

    first: FaultCase
    numbers: range
    seeds: int

    def __len__(self) -> int:
        """Return the number of places of this kind of fault."""
        return len(self.numbers) * self.seeds

    def case(self, place: int) -> FaultCase:
        """Return the case at a place."""
        number = self.numbers[place // self.seeds]
        return replace(self.first, number=number, seed=number * 7 + place % self.seeds)


def _kinds(scene: str, proof: Proof) -> Iterator[_Kind]:
    for kind, numbers in _places(scene, proof).items():
        # A power cut can interrupt an erase in many ways, and each bit of a byte can flip.
        seeds = 40 if kind == "power_cut_in_erase" else 8 if kind.startswith("flip_") else 1
        first = FaultCase(scene, proof, kind, 0)
        if not numbers:
            continue
        yield _Kind(first, numbers, seeds)
        # Control lines reset the board in any case.
        if kind in RESYNCHRONISED and SCENES[scene].wiring == "by-hand":
            yield _Kind(replace(first, resets=False), numbers, seeds)


@cache
def _places(scene: str, proof: Proof) -> dict[str, range]:
    """Return the places at which each kind of fault can be injected, counted in a run without faults."""
    it = SCENES[scene]
    board = it.board(Faults())
    link = WirelessLink(board, Mishaps())
    with _silent_simulator(), tempfile.TemporaryDirectory() as folder:
        judge = judge_of(CaseSituation(it, board, link, Path(folder), kind="", number=0, is_lasting=False))
        attempt(FaultCase(scene, proof, "", 0), judge=judge, spoil=lambda ready: ready)
    received, sent = range(1, link.received + 1), range(1, link.sent + 1)
    programs = range(1, _programs(it) + 1)
    return {
        **dict.fromkeys(("flip_received", "lose_received", "insert_received", "power_cut_after"), received),
        **dict.fromkeys(("silent_after", "unplug_after"), received),
        **dict.fromkeys(("flip_sent", "lose_sent", "insert_sent", "unplug_after_sent"), sent),
        **dict.fromkeys(("power_cut_before_program", "power_cut_in_program"), programs),
        # A board that is swapped in before the identification counts as the first board.
        "swap_after": range(link.identified + 1, link.received + 1),
        "power_cut_in_erase": range(1, link.erases + 1),
        # Get and Get ID are acknowledged again after their data: at least three more ACKs than frames.
        "lost_ack": range(1, link.frames + 4),
        "noise_at_open": range(1, 65),
        **dict.fromkeys(("leading_zero", "extra_ack", "double_nack"), range(1, 2)),
        "flipped_bit": range(it.base + it.area.start, it.base + it.area.stop),
        "sticky_page": it.pages,
    }


def _programs(scene: FaultScene) -> int:
    """Return an upper bound of the program operations of a run, which skips blank blocks and unchanged units."""
    before, after = scene.before, scene.after
    if before == after:
        return 0
    written = [unit for unit in scene.units if unit == scene.units[0] or before[unit] != after[unit]]
    blocks = [after[at : at + MAX_BLOCK] for unit in written for at in range(unit.start, unit.stop, MAX_BLOCK)]
    return sum(len(block) // scene.profile.program_unit for block in blocks if block.strip(scene.erased))


def campaign(chosen: Sequence[FaultCase], *, workers: int, spoil: Spoil | None = None) -> Iterator[CaseOutcome]:
    """Run cases in this number of processes (1 means only this process); yield their outcomes in completion order.

    `spoil` makes the flasher faulty, and can be used only with one process.
    """
    if workers == 1:
        # Power cuts of the host are not simulated, so the journal may be in memory.
        with _silent_simulator(), tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            alone = partial(run, spoil=spoil) if spoil else run
            yield from (alone(case, Path(folder)) for case in chosen)
        return
    parts = [chosen[at::PARTS] for at in range(PARTS)]
    with get_context("spawn").Pool(workers) as pool:
        yield from chain.from_iterable(pool.imap_unordered(_run_all, parts))


@contextmanager
def _silent_simulator() -> Iterator[None]:
    logger = logging.getLogger("firmware_host.simulator")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        # Later tests of the same process may check the simulator's warnings.
        logger.setLevel(before)


def _run_all(chosen: Sequence[FaultCase]) -> list[CaseOutcome]:
    return list(campaign(chosen, workers=1))


def show(outcomes: Sequence[CaseOutcome]) -> None:
    """Print a line of results for each kind of fault, and each wrong case."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    counts = Counter((outcome.case.name, outcome.end) for outcome in outcomes)
    ends = sorted({end for _, end in counts})
    table = Table("FAULT", "CASES", *map(str.upper, ends), box=None, pad_edge=False)
    for name in dict.fromkeys(outcome.case.name for outcome in outcomes):
        row = [counts[name, end] for end in ends]
        table.add_row(name, f"{sum(row):,}", *(f"{number:,}" if number else "" for number in row))
    console.print(table)
    for outcome in outcomes:
        for name, sentences in (("WRONG", outcome.wrong), ("UNTRUE", outcome.untrue)):
            for sentence in sentences:
                console.print(f"{name}  {outcome.case}: {sentence}", highlight=False, markup=False, soft_wrap=True)


def figures(*, count: int = COUNT, seed: int = SEED, is_shown: bool = True) -> list[Figure]:
    """Return two figures: the number of faults after which a run ended wrongly, and the number of untrue sentences."""
    outcomes = list(campaign(cases(count, seed=seed), workers=os.cpu_count() or 1))
    if is_shown:
        show(outcomes)
    ends = Counter(outcome.end for outcome in outcomes)
    how = "; ".join(f"{number:,} {end}" for end, number in ends.most_common())
    chips = len({scene.profile.product_id for scene in SCENES.values()})
    return [
        Figure(
            f"of {len(outcomes):,} injected single faults on {chips} chips, those that end wrongly",
            sum(bool(outcome.wrong) for outcome in outcomes),
            "faults",
            0,
            times=f"One run for each fault, seed {seed}, with each kind of proof: {how}. A run ends wrongly if it "
            "reports success with a wrong flash, or an error that does not say what is lost, or if after a temporary "
            "fault the resumed run does not leave a proven flash with the bytes beside the image.",
        ),
        Figure(
            f"of {sum(outcome.sentences for outcome in outcomes):,} sentences of these runs, untrue or unknown ones",
            sum(len(outcome.untrue) for outcome in outcomes),
            "sentences",
            0,
            times="Each clause of a note, a result or an error is compared with the simulated board at that moment; "
            "a clause that the judge does not know counts as well.",
        ),
    ]


def main() -> int:
    """Inject the faults and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    return report(figures(count=options.count, seed=options.seed, is_shown=not options.json))


if __name__ == "__main__":
    sys.exit(main())
