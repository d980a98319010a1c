"""Inject single faults into flashing, and look whether any ends in a flash that is not what was said.

``python -m benchmarks.faults [--count N] [--seed N] [--json]`` flashes a simulated board once for each fault, in this
machine's processors at once. After each run the flash itself is looked at:

- *done* must mean that all of it is as it must be, image and bytes beside it;
- an error must be true: the state that it names is the flash's, and what it does not call lost is there;
- where the fault has passed, the run with the journal must complete, and leave a flash that is as it must be.

Anything else is counted as wrong, and printed with the fault. The exit status is 1 when there is any.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.fault_scene import BASE, IMAGE_SIZE, PAGE, SCENES, SEAL, UNITS, Mishaps, Scene, WirelessLink
from blockota.answers import Consent
from blockota.errors import BlockOTAError, BoardError
from blockota.technician import KnownReleases
from blockota.verification import ProvenRelease
from firmware_host.an3155 import MAX_BLOCK
from firmware_host.bench import Bench, ClearedBoard
from firmware_host.board import Faults
from firmware_host.board_identity import identify
from firmware_host.bootloader import Bootloader
from firmware_host.flash_events import Finished
from firmware_host.flash_journal import FlashJournal
from firmware_host.flash_on_chip import Proof

COUNT, SEED = 10_000, 20_261
PARTS = 64
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
LASTING = ("flipped_bit", "sticky_page")
"""Faults of the board that do not pass."""
RESYNCHRONISED = ("unplug_after", "unplug_after_sent")
"""Faults after which the board waits in the middle of a frame, and nobody presses reset."""
ON_THE_WAY = ("lose_received", "lose_sent", "insert_received", "insert_sent")
Spoil = Callable[[ClearedBoard], ClearedBoard]
"""Changes what is about to flash: so is shown that the campaign can fail."""


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        scene: a name of `SCENES`.
        proof: how the flash is looked at and proven.
        kind: a field of `Faults`, or of `Mishaps`.
        number: its value.
        seed: chooses bits, and the byte that is inserted.
        resets: whether the person presses reset before the run with the journal.
    """

    scene: str
    proof: Proof
    kind: str
    number: int
    seed: int = 0
    resets: bool = True

    def __str__(self) -> str:
        """``some pages, read-back, flip_sent=812 seed=3``."""
        put_back = "" if self.resets else ", no reset"
        return f"{self.scene}, {self.proof.value}, {self.kind}={self.number} seed={self.seed}{put_back}"

    @property
    def name(self) -> str:
        """The kind, as the table says it."""
        return self.kind.replace("_", " ") + ("" if self.resets else ", put back without reset")

    @property
    def faults(self) -> Faults:
        """What the board does."""
        return Faults() if self.kind in ON_THE_WAY else Faults(**{self.kind: self.number}, seed=self.seed)

    @property
    def mishaps(self) -> Mishaps:
        """What happens on the way."""
        if self.kind not in ON_THE_WAY:
            return Mishaps()
        return Mishaps(**{self.kind: self.number}, value=(0x79, 0x1F, 0x00, 0x7F, self.seed % 256)[self.seed % 5])


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: the fault.
        end: how the run ended, and how the one with the journal did.
        wrong: what was not as it must be; empty where nothing was.
    """

    case: Case
    end: str
    wrong: tuple[str, ...] = ()


def run(case: Case, folder: Path, *, spoil: Spoil = lambda ready: ready) -> Outcome:
    """Flash a board with one fault, and look at what was said and what is there.

    Args:
        case: the fault.
        folder: for the journal; empty.
        spoil: changes the flasher.
    """
    board = SCENES[case.scene].board(case.faults)
    attempt = partial(_attempt, WirelessLink(board, case.mishaps), case, folder=folder, spoil=spoil)
    first = attempt(resumes=False)
    end, wrong = first.name, [*_wrong(first, _Seen(case, board.flash, journal=any(folder.iterdir())))]
    if first.error:
        again = attempt(resumes=True)
        wrong += _wrong_resumed(again, _Seen(case, board.flash, journal=any(folder.iterdir())))
        end += f", resumed: {again.name}"
    for file in folder.iterdir():
        file.unlink()
    return Outcome(case, end, tuple(wrong))


@dataclass(frozen=True)
class _Ended:
    """How one attempt ended.

    Attributes:
        name: ``done``, or the error's kind and where it came.
        error: what was said; empty after a success.
        began: whether flashing had begun.
    """

    name: str
    error: str = ""
    began: bool = False


@dataclass(frozen=True)
class _Seen:
    """What is there after an attempt.

    Attributes:
        case: what was done to it.
        flash: what the board's flash holds.
        journal: whether there is one.
    """

    case: Case
    flash: bytes
    journal: bool

    @property
    def scene(self) -> Scene:
        """What must be there."""
        return SCENES[self.case.scene]

    @property
    def lasting(self) -> bool:
        """Whether the fault does not pass."""
        return self.case.kind in LASTING

    @property
    def is_whole(self) -> bool:
        """Whether all of the flash is as it must be."""
        return self.flash == self.scene.after


def _attempt(link: WirelessLink, case: Case, *, folder: Path, spoil: Spoil, resumes: bool) -> _Ended:
    began = False
    try:
        ready = spoil(_cleared(link, case, folder=folder, resumes=resumes))
        began = True
        for event in ready.flash():
            if isinstance(event, Finished):
                ready.prove_flash(event)
                return _Ended("done")
    except BoardError as error:
        return _Ended("failed" if began else "no board", str(error), began)
    except BlockOTAError as error:
        return _Ended("refused", str(error), began)
    except Exception as error:  # noqa: BLE001 - whatever else is raised is a defect, and is counted as one
        return _Ended("defect", f"{type(error).__name__}: {error}", began)
    return _Ended("defect", "flashing ended without a word", began)


def _cleared(link: WirelessLink, case: Case, *, folder: Path, resumes: bool) -> ClearedBoard:
    """The board past checks 6 to 9; in a second attempt its cable is put back first."""
    bootloader = Bootloader(link)
    if resumes:
        link.put_back(reset=case.resets)
        if not case.resets:
            bootloader.conversation.resynchronise()
    bootloader.connect()
    bench = Bench(bootloader, identify(bootloader), (), link.wait)
    journal = FlashJournal(folder, bench.identity.unique_id or "unknown")
    wanted, known = _proven(case.scene)
    return bench.prove(wanted, Consent(), known=known, journal=journal, proof=case.proof)


@cache
def _proven(scene: str) -> tuple[ProvenRelease, KnownReleases]:
    return SCENES[scene].proven()


def _wrong(ended: _Ended, seen: _Seen) -> Iterator[str]:
    if ended.name == "defect":
        yield ended.error
    elif not ended.error:
        yield from _wrongly_done(seen)
    elif not ended.began:
        if seen.flash != seen.scene.before:
            yield f"nothing was begun, and the flash is changed: {ended.error}"
    else:
        yield from (f"{untruth}: {ended.error}" for untruth in _untruths(ended.error, seen))
        is_told = seen.journal and "flash --resume" in ended.error
        if seen.flash != seen.scene.before and not is_told and not seen.lasting:
            yield f"begun, and nothing says how to complete it: {ended.error}"


def _wrongly_done(seen: _Seen) -> Iterator[str]:
    if not seen.is_whole:
        yield "said to be done, and the flash is not as it must be"
    if seen.journal:
        yield "said to be done, and the journal is still there"


def _wrong_resumed(ended: _Ended, seen: _Seen) -> Iterator[str]:
    if ended.name == "defect":
        found: Iterable[str] = (ended.error,)
    elif not ended.error:
        found = _wrongly_done(seen)
    elif seen.lasting and ended.began:
        found = _untruths(ended.error, seen)
    else:
        found = () if seen.lasting else (f"not completed: {ended.error}",)
    return (f"with the journal: {wrong}" for wrong in found)


def _untruths(said: str, seen: _Seen) -> Iterator[str]:
    """Which of the sentences of an error are not true of the flash."""
    flash, before, after = seen.flash, seen.scene.before, seen.scene.after
    states = {
        "nothing was changed": flash == before,
        "nothing else was changed": flash[PAGE:] == before[PAGE:],
        "the other pages were written, and are not proven": True,
        "will not start a half written image": flash[:SEAL] == b"\xff" * SEAL,
        "whether those are written is unknown": flash[SEAL:] == after[SEAL:],
        "its first words are not proven": seen.lasting or flash[SEAL:] == after[SEAL:],
        "the flash holds the image, and that is proven": flash == after,
    }
    spoken = [words for words in states if words in said]
    if len(spoken) != 1:
        yield f"{len(spoken)} states are named"
    yield from (f"it is not true that {words!r}" for words in spoken if not states[words])
    if flash[UNITS * PAGE :] != before[UNITS * PAGE :]:
        yield "pages beside the image are changed"
    if not seen.lasting:
        yield from _untrue_counts(said, seen)


def _untrue_counts(said: str, seen: _Seen) -> Iterator[str]:
    flash, after = seen.flash, seen.scene.after
    if flash[IMAGE_SIZE:] != after[IMAGE_SIZE:] and "beside the image are not all written back" not in said:
        yield "bytes beside the image are lost, and it does not say so"
    if counts := re.search(r"wrote (\d+) of (\d+)", said):
        right = sum(flash[at : at + PAGE] == after[at : at + PAGE] for at in range(0, UNITS * PAGE, PAGE))
        if int(counts[1]) > right:
            yield f"it wrote {counts[1]} pages, and {right} are as they must be"


def cases(count: int, *, seed: int) -> list[Case]:
    """So many cases: rare kinds at every place, the others drawn from all places.

    Args:
        count: how many; less where there are no more.
        seed: of the draw.
    """
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    kinds = [kind for scene in SCENES for proof in Proof for kind in _kinds(scene, proof)]
    draw.shuffle(kinds)
    kinds.sort(key=len)
    chosen: list[Case] = []
    for index, places in enumerate(kinds):
        share = (count - len(chosen)) // (len(kinds) - index)
        chosen += places if len(places) <= share else draw.sample(places, share)
    return chosen


def _kinds(scene: str, proof: Proof) -> Iterator[list[Case]]:
    """All places of each kind of fault."""
    for kind, numbers in _places(scene, proof).items():
        # An erase breaks off in many ways, and each bit of a byte can flip.
        seeds = 40 if kind == "power_cut_in_erase" else 8 if kind.startswith("flip_") else 1
        found = [Case(scene, proof, kind, number, number * 7 + more) for number in numbers for more in range(seeds)]
        yield found
        if kind in RESYNCHRONISED:
            yield [replace(case, resets=False) for case in found]


def _places(scene: str, proof: Proof) -> dict[str, range]:
    """Where each kind of fault can be, in a run that would go well without it."""
    with tempfile.TemporaryDirectory() as folder:
        board = SCENES[scene].board(Faults())
        link = WirelessLink(board, Mishaps())
        _attempt(link, Case(scene, proof, "", 0), folder=Path(folder), spoil=lambda ready: ready, resumes=False)
    received, sent = range(1, link.received + 1), range(1, link.sent + 1)
    programs = range(1, _programs(SCENES[scene]) + 1)
    return {
        **dict.fromkeys(("flip_received", "lose_received", "insert_received", "power_cut_after"), received),
        **dict.fromkeys(("silent_after", "unplug_after"), received),
        **dict.fromkeys(("flip_sent", "lose_sent", "insert_sent", "unplug_after_sent"), sent),
        **dict.fromkeys(("power_cut_before_program", "power_cut_in_program"), programs),
        "power_cut_in_erase": range(1, link.erases + 1),
        # Get and Get ID are acknowledged once more, twice each.
        "lost_ack": range(1, link.frames + 4),
        "noise_at_open": range(1, 65),
        **dict.fromkeys(("leading_zero", "extra_ack", "double_nack"), range(1, 2)),
        "flipped_bit": range(BASE, BASE + UNITS * PAGE),
        "sticky_page": range(UNITS),
    }


def _programs(scene: Scene) -> int:
    """Half-words that are programmed, at most: those of erased blocks are left out, and those of whole pages."""
    pages = [range(at, at + PAGE) for at in range(0, UNITS * PAGE, PAGE)]
    before, after = scene.before, scene.after
    written = [
        page for page in pages if page.start == 0 or before[page.start : page.stop] != after[page.start : page.stop]
    ]
    blocks = [after[at : at + MAX_BLOCK] for page in written for at in page[::MAX_BLOCK]]
    return sum(len(block) // 2 for block in blocks if block.strip(b"\xff"))


def campaign(chosen: Sequence[Case], *, workers: int, spoil: Spoil | None = None) -> Iterator[Outcome]:
    """Run cases, in so many processes.

    Args:
        chosen: the cases.
        workers: processes; 1 runs them in this one.
        spoil: changes the flasher, in this process only.

    Yields:
        What became of each, in any order.
    """
    if workers == 1:
        logging.getLogger("firmware_host.board").setLevel(logging.CRITICAL)
        # What makes a journal survive a cut of the host's power is nobody's question here, and takes time on a disk.
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            alone = partial(run, spoil=spoil) if spoil else run
            yield from (alone(case, Path(folder)) for case in chosen)
        return
    parts = [chosen[at::PARTS] for at in range(PARTS)]
    with get_context("spawn").Pool(workers) as pool:
        yield from chain.from_iterable(pool.imap_unordered(_run_all, parts))


def _run_all(chosen: Sequence[Case]) -> list[Outcome]:
    return list(campaign(chosen, workers=1))


def show(outcomes: Sequence[Outcome]) -> None:
    """Print how many cases of each kind ended how, and each that is wrong."""
    console = Console()
    counts = Counter((outcome.case.name, outcome.end) for outcome in outcomes)
    ends = sorted({end for _, end in counts})
    table = Table("FAULT", "CASES", *map(str.upper, ends), box=None, pad_edge=False)
    for name in dict.fromkeys(outcome.case.name for outcome in outcomes):
        row = [counts[name, end] for end in ends]
        table.add_row(name, f"{sum(row):,}", *(f"{number:,}" if number else "" for number in row))
    console.print(table)
    for outcome in outcomes:
        for wrong in outcome.wrong:
            console.print(f"WRONG  {outcome.case}: {wrong}", highlight=False, markup=False)


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = cases(options.count, seed=options.seed)
    outcomes = list(campaign(chosen, workers=os.cpu_count() or 1))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    if not options.json:
        show(outcomes)
    ends = Counter(outcome.end for outcome in outcomes)
    print(json.dumps({"faults": len(outcomes), "seed": options.seed, "wrong": len(wrong), "ends": ends}, indent=2))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
