"""Flash a simulated board with one fault, and judge every sentence that the run prints."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from benchmarks.fault_judge import CaseSituation, SentenceJudge
from benchmarks.fault_link import Mishaps, WirelessLink
from benchmarks.fault_scene import SCENES, TRUST
from benchmarks.fault_sentences import judge_of
from blockota.cli.flash_display import FlashDisplay
from blockota.cli.remedies import sentence_of
from blockota.cli.session import Session
from blockota.errors import BlockOTAError, BoardError
from blockota.formats.notes import NoteAlgorithm, NoteSigner, VerifierKey
from blockota.model.facts import Consent, KnownReleases, ProvenRelease
from blockota.shutdown import Stop
from firmware_host.bench.board_images import BoardImages
from firmware_host.bench.job import Bench, FlashJob
from firmware_host.bench.log_folder import BenchLog
from firmware_host.bench.offers import Offer
from firmware_host.bench.port import BoardPort
from firmware_host.bench.result import BoardMet, BoardResult
from firmware_host.bench.session import BoardSession, ClearedBoard, Examination
from firmware_host.bootloader.entry import BoardLine, find_wiring
from firmware_host.flashing.contents import Proof
from firmware_host.simulator import Faults

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_SIGNER = NoteSigner(
    VerifierKey("bench/campaign", NoteAlgorithm.ED25519, _KEY.public_key().public_bytes_raw()), _KEY.sign
)
LASTING = ("flipped_bit", "sticky_page")
"""Permanent faults of the board."""
ON_THE_WAY = ("lose_received", "lose_sent", "insert_received", "insert_sent", "swap_after")
"""Faults of the line and a swapped board, which are fields of `Mishaps`; all other faults are fields of `Faults`."""
Spoil = Callable[[ClearedBoard], ClearedBoard]
"""A function that makes the flasher faulty, to show that the fault injection detects a faulty flasher."""


@dataclass(frozen=True)
class FaultCase:
    """One injected fault.

    Attributes:
        scene: a name of `SCENES`.
        proof: the method by which the flasher examines and proves the flash.
        kind: the name of a field of `Faults` or `Mishaps`.
        number: the value of this field.
        seed: selects the flipped bits or the inserted byte.
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
        reset = "" if self.resets else ", no reset"
        return f"{self.scene}, {self.proof.value}, {self.kind}={self.number} seed={self.seed}{reset}"

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

    @property
    def is_lasting(self) -> bool:
        """Whether the fault is permanent."""
        return self.kind in LASTING


@dataclass(frozen=True)
class CaseOutcome:
    """The result of a case.

    Attributes:
        case: the injected fault.
        end: how the run ended, and how the resumed run ended, if the run was resumed.
        wrong: the requirements that the run violated; empty for a correct run.
        untrue: the untrue and the unknown sentences that the run printed.
        sentences: the number of judged sentences.
    """

    case: FaultCase
    end: str
    wrong: tuple[str, ...] = ()
    untrue: tuple[str, ...] = ()
    sentences: int = 0


@dataclass(frozen=True)
class Ended:
    """How one attempt ended.

    Attributes:
        name: the result, which is ``done``, ``failed``, ``refused``, ``no board`` or ``defect``.
        error: the error message; empty after a success.
        began: whether the board had passed check 9.
    """

    name: str
    error: str = ""
    began: bool = False


def run(case: FaultCase, folder: Path, *, spoil: Spoil = lambda ready: ready) -> CaseOutcome:
    """Flash a board with one fault, and judge the run; `folder` must be empty, and is emptied after the run."""
    scene = SCENES[case.scene]
    board = scene.board(case.faults)
    other = scene.other_board() if case.mishaps.swap_after else None
    link = WirelessLink(board, case.mishaps, other=other)
    judge = judge_of(CaseSituation(scene, board, link, folder, case.kind, case.number, case.is_lasting, other))
    try_once = partial(attempt, case, judge=judge, spoil=spoil)

    first = try_once(resumes=False)
    end, wrong = first.name, [*_wrong(first, judge)]
    if first.error:
        again = try_once(resumes=True)
        if not case.resets and again.name == "no board" and "reset the board" in again.error:
            # An Extended Erase that broke off before its count waits for more bytes than can be fed.
            again = attempt(replace(case, resets=True), judge=judge, spoil=spoil, resumes=True)
        wrong += _wrong_resumed(again, judge)
        end += f", resumed: {again.name}"
    if other and other.flash != scene.before:
        wrong.append("the other board is changed")
    for file in folder.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    return CaseOutcome(case, end, tuple(wrong), tuple(judge.untrue), judge.count)


def attempt(case: FaultCase, *, judge: SentenceJudge, spoil: Spoil, resumes: bool = False) -> Ended:
    """Flash a board once.

    If `resumes` is true, first reconnect the board, and reset it if the case requires a reset.
    """
    if resumes:
        judge.situation.link.restore(reset=case.resets)
    judge.start()
    # The first run prints as for a single board, the resumed run as for one of several boards.
    observer = _Observer(_JudgedSession(judge), is_one=not resumes)
    try:
        result = _flash(case, observer=observer, spoil=spoil, resumes=resumes)
    except Exception as error:  # noqa: BLE001 - every exception that leaves a job is a defect, and is counted as a defect
        return Ended("defect", f"{type(error).__name__}: {error}", judge.is_cleared)
    if result.error is None:
        return Ended("done")
    judge.error(result.error)
    name = "failed" if judge.is_cleared else "no board"
    kind = name if isinstance(result.error, BoardError) else "refused"
    return Ended(kind, sentence_of(result.error), judge.is_cleared)


def _flash(case: FaultCase, *, observer: _Observer, spoil: Spoil, resumes: bool) -> BoardResult:
    """Flash the board as `Bench.flash` does, but over a simulated link instead of a serial port."""
    link, folder = observer.judge.situation.link, observer.judge.situation.folder
    scene, stop = SCENES[case.scene], _NoTime(link)
    line = BoardLine(link.name, wiring=find_wiring(scene.wiring), start=scene.start)
    bench = Bench(
        Consent(),
        TRUST,
        "the campaign",
        BenchLog(folder / "bench-log", _SIGNER),
        folder / "journals",
        observer,
        stop,
        BoardImages(folder / "images"),
        case.proof,
        may_erase_all=scene.may_erase_all,
    )
    wanted, known = _proven(case.scene)
    port = BoardPort(link, line, stop=stop)
    try:
        session = port.connect(is_stuck=resumes and not case.resets)
    except BlockOTAError as error:
        result = BoardResult(line.url, error=error)
    else:
        link.identified = link.identified or link.received
        observer.progress(line.url, BoardMet(session.identity, session.notes))
        board = _FaultyBoard(session.bootloader, session.identity, session.notes, link.wait, spoil=spoil)
        result = FlashJob(bench, port, board).run(lambda _: Offer(wanted, known))
    observer.ended(line.url, result)
    return result


class _NoTime(Stop):
    """Pauses for simulated time instead of real time."""

    def __init__(self, link: WirelessLink) -> None:
        super().__init__()
        self._link = link

    def pause(self, seconds: float) -> None:
        """Let the board run for a number of seconds."""
        self._link.wait(seconds)


class _JudgedSession(Session):
    """A session that judges each sentence instead of printing it."""

    def __init__(self, judge: SentenceJudge) -> None:
        super().__init__(None, None, store=None, as_json=False)
        self.out, self.err = Console(file=StringIO()), Console(file=StringIO())
        self.judge = judge

    def done(self, sentence: str) -> None:
        """Judge that a step is done."""
        self.judge.sentence(sentence)

    def check(self, number: int, what: str) -> None:
        """Judge that a check passed."""
        self.judge.sentence(f"{number:>2}  {what}")

    def note(self, sentence: str) -> None:
        """Judge a remark."""
        self.judge.sentence(sentence)


class _Observer(FlashDisplay):
    """The display of ``blockota flash``, whose sentences are judged."""

    def __init__(self, session: _JudgedSession, *, is_one: bool) -> None:
        super().__init__(session, is_one=is_one)
        self.judge = session.judge

    def progress(self, port: str, event: Any, /) -> None:
        """Pass an event to the judge and to the display."""
        self.judge.event(event)
        super().progress(port, event)

    def ended(self, port: str, result: BoardResult, /) -> None:
        """Pass a result to the judge and to the display."""
        self.judge.result(result)
        super().ended(port, result)


@dataclass(frozen=True)
class _FaultyBoard(BoardSession):
    """A board session in which `spoil` makes the flasher faulty."""

    spoil: Spoil = field(default=lambda ready: ready)

    def examine(self, proven: ProvenRelease, **facts: Any) -> Examination:
        """Examine the board; the returned examination applies `spoil` when the board is cleared for writing."""
        found = super().examine(proven, **facts)
        return _FaultyExamination(**vars(found), spoil=self.spoil)


@dataclass(frozen=True)
class _FaultyExamination(Examination):
    spoil: Spoil = field(default=lambda ready: ready)

    def clear(self, consent: Consent) -> ClearedBoard:
        return self.spoil(super().clear(consent))


@cache
def _proven(scene: str) -> tuple[ProvenRelease, KnownReleases]:
    return SCENES[scene].proven()


def _wrong(ended: Ended, judge: SentenceJudge) -> Iterator[str]:
    situation = judge.situation
    scene, flash = situation.scene, situation.board.flash
    if ended.name == "defect":
        yield ended.error
    elif not ended.error:
        yield from _wrongly_done(judge)
    elif not ended.began:
        if flash != scene.before:
            yield f"flashing had not begun, and the flash is changed: {ended.error}"
    else:
        yield from _wrongly_failed(ended.error, judge)
        has_remedy = situation.entry() is not None and "complete the run" in ended.error
        if flash not in (scene.before, scene.after) and not has_remedy and not situation.is_lasting:
            yield f"flashing had begun, and nothing says how to complete it: {ended.error}"


def _wrongly_done(judge: SentenceJudge) -> Iterator[str]:
    if judge.situation.board.flash != judge.situation.scene.after:
        yield "success was reported, and the flash is not as it must be"
    if judge.situation.entry():
        yield "success was reported, and the journal is still there"


def _wrongly_failed(message: str, judge: SentenceJudge) -> Iterator[str]:
    """Yield each requirement that an error after check 9 violates."""
    scene, flash = judge.situation.scene, judge.situation.board.flash
    if judge.states != 1:
        yield f"{judge.states} states of the flash are named: {message}"
    area = scene.area
    if (flash[: area.start], flash[area.stop :]) != (scene.before[: area.start], scene.before[area.stop :]):
        yield f"bytes outside the pages of the image are changed: {message}"
    beside = (slice(area.start, scene.image.start), slice(scene.image.stop, area.stop))
    is_lost = any(flash[part] != scene.before[part] for part in beside)
    is_reported = any(words in message for words in ("beside the image are", "is erased is unknown", "not completely"))
    if is_lost and not is_reported and not judge.situation.is_lasting:
        yield f"bytes beside the image are lost, and the error does not report it: {message}"


def _wrong_resumed(ended: Ended, judge: SentenceJudge) -> Iterator[str]:
    if ended.name == "defect":
        found: Iterator[str] = iter((ended.error,))
    elif not ended.error:
        found = _wrongly_done(judge)
    elif judge.situation.is_lasting:
        found = _wrongly_failed(ended.error, judge) if ended.began else iter(())
    else:
        found = iter((f"not completed: {ended.error}",))
    return (f"with the journal: {wrong}" for wrong in found)
