"""Flash a simulated board with one fault, and compare the reported result with the contents of the flash."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from benchmarks.fault_scene import IMAGE_SIZE, PAGE, SCENES, SEAL, UNITS, Mishaps, Scene, WirelessLink
from blockota.errors import BlockOTAError, BoardError
from blockota.model.facts import Consent, KnownReleases, ProvenRelease
from firmware_host.bench.session import BoardSession, ClearedBoard
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.events import Finished
from firmware_host.flashing.journal import FlashJournal
from firmware_host.simulator import Faults

LASTING = ("flipped_bit", "sticky_page")
"""Permanent faults of the board."""
ON_THE_WAY = ("lose_received", "lose_sent", "insert_received", "insert_sent", "swap_after")
"""Faults of the line and a swapped board, which are fields of `Mishaps`; all other faults are fields of `Faults`."""
Spoil = Callable[[ClearedBoard], ClearedBoard]
"""A function that makes the flasher faulty, to show that the fault injection detects a faulty flasher."""


@dataclass(frozen=True)
class Case:
    """One injected fault.

    Attributes:
        scene: a name of `SCENES`.
        proof: how the flash is examined and proven.
        kind: the name of a field of `Faults` or `Mishaps`.
        number: the value of this field.
        seed: selects the bits that flip, or the byte that is inserted.
        resets: whether the operator resets the board before the resumed run.
    """

    scene: str
    proof: Proof
    kind: str
    number: int
    seed: int = 0
    resets: bool = True

    def __str__(self) -> str:
        """Describe the case, such as ``some pages, read-back, flip_sent=812 seed=3``."""
        put_back = "" if self.resets else ", no reset"
        return f"{self.scene}, {self.proof.value}, {self.kind}={self.number} seed={self.seed}{put_back}"

    @property
    def name(self) -> str:
        """The kind of the fault as the printed table shows it."""
        return self.kind.replace("_", " ") + ("" if self.resets else ", put back without reset")

    @property
    def faults(self) -> Faults:
        """The faults of the board."""
        return Faults() if self.kind in ON_THE_WAY else Faults(**{self.kind: self.number}, seed=self.seed)

    @property
    def mishaps(self) -> Mishaps:
        """The faults of the serial line."""
        if self.kind not in ON_THE_WAY:
            return Mishaps()
        return Mishaps(**{self.kind: self.number}, value=(0x79, 0x1F, 0x00, 0x7F, self.seed % 256)[self.seed % 5])


@dataclass(frozen=True)
class Outcome:
    """The result of a case.

    Attributes:
        case: the injected fault.
        end: how the run ended, and how the resumed run ended, if the run was resumed.
        wrong: the requirements that the run violated; empty for a correct run.
    """

    case: Case
    end: str
    wrong: tuple[str, ...] = ()


def run(case: Case, folder: Path, *, spoil: Spoil = lambda ready: ready) -> Outcome:
    """Flash a board with one fault, and compare the report with the flash; the journal is written to `folder`."""
    board = SCENES[case.scene].board(case.faults)
    other = SCENES[case.scene].other_board() if case.mishaps.swap_after else None
    link = WirelessLink(board, case.mishaps, other=other)
    try_once = partial(attempt, link, case, folder=folder, spoil=spoil)
    first = try_once(resumes=False)
    end, wrong = first.name, [*_wrong(first, _Seen(case, board.flash, journal=any(folder.iterdir())))]
    if first.error:
        again = try_once(resumes=True)
        wrong += _wrong_resumed(again, _Seen(case, board.flash, journal=any(folder.iterdir())))
        end += f", resumed: {again.name}"
    if other and other.flash != SCENES[case.scene].before:
        wrong.append("the other board is changed")
    for file in folder.iterdir():
        file.unlink()
    return Outcome(case, end, tuple(wrong))


@dataclass(frozen=True)
class Ended:
    """How one attempt ended.

    Attributes:
        name: the result, which is ``done``, ``failed``, ``refused``, ``no board`` or ``defect``.
        error: the error message; empty after a success.
        began: whether flashing had begun.
    """

    name: str
    error: str = ""
    began: bool = False


@dataclass(frozen=True)
class _Seen:
    """The state after an attempt: the case, the contents of the flash, and whether a journal exists."""

    case: Case
    flash: bytes
    journal: bool

    @property
    def scene(self) -> Scene:
        """The scene of the case, with the required contents of the flash."""
        return SCENES[self.case.scene]

    @property
    def lasting(self) -> bool:
        """Whether the fault is permanent."""
        return self.case.kind in LASTING


def attempt(link: WirelessLink, case: Case, *, folder: Path, spoil: Spoil, resumes: bool) -> Ended:
    """Flash a board once; with `resumes`, the board is reconnected first, and reset if the case requires it."""
    began = False
    try:
        ready = spoil(_cleared(link, case, folder=folder, resumes=resumes))
        began = True
        for event in ready.flash():
            if isinstance(event, Finished):
                ready.prove_flash(event)
                return Ended("done")
    except BoardError as error:
        return Ended("failed" if began else "no board", str(error), began)
    except BlockOTAError as error:
        return Ended("refused", str(error), began)
    except Exception as error:  # noqa: BLE001 - every other exception is a defect, and is counted as a defect
        return Ended("defect", f"{type(error).__name__}: {error}", began)
    return Ended("defect", "flashing ended without a result", began)


def _cleared(link: WirelessLink, case: Case, *, folder: Path, resumes: bool) -> ClearedBoard:
    """Clear the board for flashing by checks 6 to 9; a resumed run reconnects the board first."""
    bootloader = Bootloader(link)
    if resumes:
        link.put_back(reset=case.resets)
        if not case.resets:
            bootloader.resynchronise()
    bootloader.connect()
    may_erase_all = SCENES[case.scene].may_erase_all
    bench = BoardSession(bootloader, identify(bootloader), (), link.wait, may_erase_all)
    link.identified = link.identified or link.received
    journal = FlashJournal(folder, bench.identity.unique_id or "unknown")
    wanted, known = _proven(case.scene)
    return bench.examine(wanted, known=known, journal=journal, proof=case.proof).clear(Consent())


@cache
def _proven(scene: str) -> tuple[ProvenRelease, KnownReleases]:
    return SCENES[scene].proven()


def _wrong(ended: Ended, seen: _Seen) -> Iterator[str]:
    if ended.name == "defect":
        yield ended.error
    elif not ended.error:
        yield from _wrongly_done(seen)
    elif not ended.began:
        if seen.flash != seen.scene.before:
            yield f"flashing had not begun, and the flash is changed: {ended.error}"
    else:
        yield from (f"{untruth}: {ended.error}" for untruth in _untruths(ended.error, seen))
        has_remedy = seen.journal and "complete the run" in ended.error
        if seen.flash != seen.scene.before and not has_remedy and not seen.lasting:
            yield f"flashing had begun, and nothing says how to complete it: {ended.error}"


def _wrongly_done(seen: _Seen) -> Iterator[str]:
    if seen.flash != seen.scene.after:
        yield "success was reported, and the flash is not as it must be"
    if seen.journal:
        yield "success was reported, and the journal is still there"


def _wrong_resumed(ended: Ended, seen: _Seen) -> Iterator[str]:
    if ended.name == "defect":
        found: Iterable[str] = (ended.error,)
    elif not ended.error:
        found = _wrongly_done(seen)
    elif seen.lasting and ended.began:
        found = _untruths(ended.error, seen)
    else:
        found = () if seen.lasting else (f"not completed: {ended.error}",)
    return (f"with the journal: {wrong}" for wrong in found)


def _untruths(message: str, seen: _Seen) -> Iterator[str]:
    """Yield the statements of an error that are not true of the flash."""
    flash, before, after = seen.flash, seen.scene.before, seen.scene.after
    states = {
        "nothing was changed": flash == before,
        "nothing else was changed": flash[PAGE:] == before[PAGE:],
        "the other pages were written, but are not proven": True,
        "will not start a half written image": flash[:SEAL] == b"\xff" * SEAL,
        "whether those are written is unknown": flash[SEAL:] == after[SEAL:],
        "its first words are not proven": seen.lasting or flash[SEAL:] == after[SEAL:],
        "the flash is proven to contain the image": flash == after,
    }
    named = [words for words in states if words in message]
    if len(named) != 1:
        yield f"{len(named)} states are named"
    yield from (f"it is not true that {words!r}" for words in named if not states[words])
    if flash[UNITS * PAGE :] != before[UNITS * PAGE :]:
        yield "pages beside the image are changed"
    if not seen.lasting:
        yield from _untrue_counts(message, seen)


def _untrue_counts(message: str, seen: _Seen) -> Iterator[str]:
    flash, after = seen.flash, seen.scene.after
    if flash[IMAGE_SIZE:] != after[IMAGE_SIZE:] and not re.search("beside the image are .*not", message):
        yield "bytes beside the image are lost, and the error does not report it"
    # A frame with an inserted byte has a valid checksum in one of 256 cases, and is then acknowledged.
    counts = None if seen.case.kind == "insert_received" else re.search(r"wrote (\d+) of (\d+)", message)
    if counts:
        right = sum(flash[at : at + PAGE] == after[at : at + PAGE] for at in range(0, UNITS * PAGE, PAGE))
        if int(counts[1]) > right:
            yield f"the error reports {counts[1]} written pages, and {right} pages are correct"
