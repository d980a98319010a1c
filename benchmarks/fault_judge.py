"""Judge whether each sentence that the flasher prints is true of the simulated board.

`Judge.sentence` judges a sentence of the display, and `Judge.error` judges the parts of an error. A text is split into
clauses, and each clause must match one rule of `fault_sentences`. A clause that matches no rule counts as wrong, so
each new sentence of the flasher needs a new rule in `fault_sentences`. A rule compares the clause with three things:
the simulated board's flash at that moment, the bytes that the host has received, and the files of the run.

The board sends its product id, version, unique id and list of commands without a checksum. The judge ignores clauses
about these values once a line fault has changed bytes from the board.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fault_link import WirelessLink
from benchmarks.fault_scene import NEW_VERSION, PRODUCT, FaultScene
from blockota.errors import Action, BlockOTAError
from firmware_host.bench.result import BoardResult, ChecksPassed
from firmware_host.bootloader.chips import Chip, find_chip
from firmware_host.flashing.plan import Repeated
from firmware_host.simulator import SimulatedBoard
from firmware_host.simulator.device import UNIQUE_ID

_TO_HOST = ("flip_sent", "insert_sent", "lose_sent")
"""Faults of the line that change the bytes which the host receives."""
_TO_BOARD = ("flip_received", "insert_received", "lose_received")
_RESUMING = (Action.RESUME_FLASH, Action.RESUME_FLASH_WITHOUT_STUB)
_CLEARED = 9
_QUOTED = re.compile(r"\b(?:[0-9a-f]{2} ?){17,}\b")
"""More than 16 bytes in hexadecimal. An error may print at most 16 bytes of a flash."""
_NOT_CONTENTS = re.compile("SHA-256|began with")
Rule = Callable[..., bool]
"""Whether a clause is true; the parameters are the judge and the groups of the pattern."""


@dataclass(frozen=True)
class CaseSituation:
    """One case of the campaign, and all facts about it.

    Attributes:
        scene: the contents of the flash before and after the run.
        board: the simulated board.
        link: the line to the board, with its record of the current attempt.
        folder: the folder with the bench log and the journals.
        kind: the kind of the injected fault.
        number: the place of the fault, such as the number of the byte that it changes.
        is_lasting: whether the fault is permanent.
        other: the board that replaces the first board during the run; None in a case without a replacement.
    """

    scene: FaultScene
    board: SimulatedBoard
    link: WirelessLink
    folder: Path
    kind: str
    number: int
    is_lasting: bool
    other: SimulatedBoard | None = None

    @property
    def chip(self) -> Chip:
        """The row of the chip table."""
        chip = find_chip(self.scene.profile.product_id)
        if chip is None:
            raise AssertionError("the chip of the scene is not in the chip table")
        return chip

    @property
    def is_garbled(self) -> bool:
        """Whether a fault has changed bytes from the board so far."""
        return self.kind == "noise_at_open" or (self.kind in _TO_HOST and self.link.sent >= self.number)

    @property
    def has_line_fault(self) -> bool:
        """Whether the case has a fault of the line that changes bytes."""
        return self.kind in (*_TO_HOST, *_TO_BOARD, "noise_at_open")

    def entry(self) -> dict[str, Any] | None:
        """The journal of the board, as JSON; None if the board has no journal."""
        path = self.folder / "journals" / f"{UNIQUE_ID.hex()}.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else None

    def at(self, flash: bytes, first: str, stop: str = "") -> bytes:
        """Return the bytes of a flash between two hexadecimal addresses; without `stop`, a single byte."""
        start = int(first, 16) - self.scene.base
        return flash[start : int(stop, 16) - self.scene.base if stop else start + 1]


class SentenceJudge:
    """Judges the sentences of all attempts of one case.

    Args:
        situation: the case.
        rules: the known clauses, each with the rule that decides whether it is true.

    Attributes:
        situation: the case.
        untrue: the untrue and unknown sentences so far.
        count: the number of judged clauses.
        states: how many clauses in the errors of the current attempt describe the state of the whole flash.
        is_good: whether the result of the current attempt reports success.
        is_cleared: whether the board has passed check 9 in the current attempt.
        is_repeated: whether the current attempt has written the whole image a second time.
        at_start: the contents of the flash at the start of the current attempt.
    """

    def __init__(self, situation: CaseSituation, rules: Sequence[tuple[re.Pattern[str], Rule]]) -> None:
        self.situation, self._rules = situation, rules
        self.untrue: list[str] = []
        self.count = self.states = 0
        self.is_cleared = self.is_repeated = self.was_begun = self.is_good = False
        self.at_start = situation.board.flash

    def start(self) -> None:
        """Begin an attempt."""
        self.was_begun |= self.is_cleared
        self.states, self.is_cleared, self.is_repeated = 0, False, False
        self.at_start = self.flash
        self.situation.link.forget()

    @property
    def flash(self) -> bytes:
        """The current contents of the flash."""
        return self.situation.board.flash

    def event(self, event: object) -> None:
        """Record an event of the run."""
        if isinstance(event, ChecksPassed):
            self.is_cleared |= event.checks[-1].number >= _CLEARED
        self.is_repeated |= isinstance(event, Repeated)

    def result(self, result: BoardResult) -> None:
        """Judge the fields of a result that are not sentences."""
        self.is_good = result.is_good
        if result.preserved != (self.restored if result.finished else result.preserved):
            self._wrong(f"{result.preserved} bytes were written back, not {self.restored}")
        if result.banner and result.banner.encode() not in self.situation.link.heard:
            self._wrong(f"board says: {result.banner}")

    def sentence(self, text: str) -> None:
        """Judge a sentence of the display."""
        self.clauses([text.removeprefix(f"{self.situation.link.name}: ")], text)

    def error(self, error: BlockOTAError) -> None:
        """Judge the parts of an error, and whether its remedy can succeed."""
        whole = f"{error} [{error.action.name if error.action else 'no action'}]"
        self.clauses([error.what, *error.why.split("; ")] if error.why else [error.what], whole)
        self.clauses(error.remedy.split("; ") if error.remedy else [], whole)
        if error.action in _RESUMING and not self.can_resume:
            self._wrong(f"there is nothing to resume: {whole}")
        quoted = _QUOTED.search(f"{error.what} {error.why}")
        if quoted and not _NOT_CONTENTS.search(str(error)):
            self._wrong(f"the error prints {quoted[0]}, more than 16 bytes: {whole}")

    @property
    def can_resume(self) -> bool:
        """Whether the board has a journal of the release to install."""
        entry = self.situation.entry()
        return entry is not None and (entry["product"], entry["version"]) == (PRODUCT, str(NEW_VERSION))

    def clauses(self, texts: Iterable[str], whole: str) -> bool:
        """Return whether all clauses of the text `whole` are right; a wrong clause is reported with the whole text."""
        found = [self._is_right(text, whole) for text in texts]
        return all(found)

    def _is_right(self, text: str, whole: str) -> bool:
        self.count += 1
        for pattern, is_true in self._rules:
            if found := pattern.fullmatch(text):
                is_right = is_true(self, *found.groups(default=""))
                if not is_right:
                    self._wrong(f"not true: {text!r} in: {whole}")
                return is_right
        self._wrong(f"unknown: {text!r} in: {whole}")
        return False

    def _wrong(self, sentence: str) -> None:
        self.untrue.append(sentence)

    @property
    def erased(self) -> list[slice]:
        """The erase units of the image that the erase commands of the current attempt list."""
        scene, numbers = self.situation.scene, self.situation.link.erased
        pages = {scene.profile.page_of_number(number) for number in numbers if number is not None}
        spans = [scene.profile.page_span(page) for page in pages if page < scene.profile.page_count]
        return [unit for unit in scene.units if None in numbers or any(span.start == unit.start for span in spans)]

    @property
    def restored(self) -> int:
        """The number of bytes beside the image that the current attempt erased and wrote back."""
        scene = self.situation.scene
        found = [unit for unit in scene.units if not self.at_start[unit].strip(scene.erased)]
        units = [unit for unit in scene.units if unit in self.erased or unit in found]
        before, image = scene.before, scene.image
        beside = (range(scene.area.start, image.start), range(image.stop, scene.area.stop))
        total = 0
        for span in beside:
            if any(unit.start <= span.start < unit.stop for unit in units):
                total += len(before[span.start : span.stop].strip(scene.erased))
        return total
