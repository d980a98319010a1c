"""The reports of a bench: the steps of the work on a board, and the result."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from blockota.errors import BlockOTAError, BoardError, RefusedError, UnreachableError, UsageError
from blockota.model.board_image import CHECKS, BoardImage
from blockota.model.facts import Passed
from blockota.model.release import Release
from firmware_host.bench.log import Line
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.plan import Event, Finished

_SEVERITY = (0, 2, 3, 5, 4, 1)
"""Exit statuses from least to most severe. 3 is a refusal, 5 an unreachable chain or store, and 4 a board or link
error."""
_KINDS = (UsageError, RefusedError, UnreachableError, BoardError)


@dataclass(frozen=True)
class BoardMet:
    """A board has answered and is identified.

    `notes` describe for the operator how the port was opened.
    """

    identity: BoardIdentity
    notes: Sequence[str]


@dataclass(frozen=True)
class ReleaseChosen:
    """The release to be written was chosen and proven.

    The board is examined next.
    """

    release: Release


@dataclass(frozen=True)
class ChecksPassed:
    """Some of the checks 6 to 10 have passed.

    `checks` lists these checks, in order.
    """

    checks: Sequence[Passed]


@dataclass(frozen=True)
class BoardImageResult:
    """The description of the image that was made for one board, and the proof that the flash has this image."""

    image: BoardImage
    finished: Finished

    @property
    def is_unchanged(self) -> bool:
        """Whether the flash already had the image."""
        return _outcome(self.finished) == "already"

    @property
    def fields(self) -> dict[str, Any]:
        """The result as JSON."""
        return {
            "product": self.image.product.name,
            "sha256": self.image.sha256.hex(),
            "size": self.image.size,
            "loadAddress": self.image.region.start,
            "result": _outcome(self.finished),
            "proof": self.finished.method,
            "checks": CHECKS,
        }


Progress = BoardMet | ReleaseChosen | ChecksPassed | Event


@dataclass
class BoardResult:
    """The result of the work on one board. The job fills in the fields during the work.

    Attributes:
        identity: the identity that the board reported; None if the board did not answer.
        release: the release to be written; None if no release was proven.
        before: the state before the work: a version, ``blank``, ``half written``, ``unknown``, or another product's
            name and version.
        device: the board's number in the registry of devices; 0 if it is not registered, or was not looked up.
        replaced: the release that was installed before the work; None if no release was installed.
        finished: the digest, proof and summary of the run; None if the flash is not proven.
        seconds: time from the board's first answer until its flash was proven.
        preserved: the number of bytes beside the image that were written back.
        banner: the text that the board's program printed after its start.
        started: how the program was started, ``reset``, ``go`` or ``none``; empty if the start failed.
        line: the line in the bench log; None if no line was written.
    """

    port: str
    identity: BoardIdentity | None = None
    release: Release | None = None
    passed: tuple[Passed, ...] = ()
    before: str = ""
    device: int = 0
    replaced: Release | None = None
    finished: Finished | None = None
    seconds: float = 0.0
    preserved: int = 0
    banner: str = ""
    started: str = ""
    line: Line | None = None
    error: BlockOTAError | None = None
    board_image: BoardImageResult | None = None

    @property
    def unique_id(self) -> str:
        """The board's unique id; empty if it is unknown."""
        return (self.identity and self.identity.unique_id) or ""

    @property
    def result(self) -> str:
        """The result in words: ``done``, ``already`` if nothing had to be written, or the error."""
        if self.finished is None:
            return f"{self.error.what}: {self.error.why}" if self.error else ""
        return _outcome(self.finished, *([self.board_image.finished] if self.board_image else []))

    @property
    def is_good(self) -> bool:
        """Whether the flash is proven and the run is in the bench log."""
        return self.finished is not None and self.error is None

    @property
    def held(self) -> str:
        """The proven product and version on the board, such as ``acme-thermo2 1.1.0``; empty if nothing is proven."""
        return f"{self.release.product} {self.release.version}" if self.finished and self.release else ""

    @property
    def fields(self) -> dict[str, Any]:
        """The result as JSON, without its error."""
        fields: dict[str, Any] = {"port": self.port, "result": self.result}
        if self.identity:
            fields["board"] = {
                "productId": self.identity.product_id,
                "bootloader": self.identity.bootloader_version,
                "uniqueId": self.identity.unique_id,
                "device": self.device,
            }
            fields["before"] = self.before

        if self.release:
            fields["product"] = self.release.product
            fields["version"] = str(self.release.version)
            fields["passed"] = [check.number for check in self.passed]

        if self.finished:
            summary = self.finished.summary
            fields |= {
                "sha256": self.finished.sha256.hex(),
                "erased": summary.erased.size,
                "written": summary.programmed.size,
                "identical": summary.identical.size,
                "preserved": self.preserved,
                "proof": self.finished.method,
                "seconds": round(self.seconds, 3),
                "banner": self.banner,
                "started": self.started,
            }

        if self.board_image:
            fields["boardImage"] = self.board_image.fields
        if self.line:
            fields["log"] = self.line.as_fields()
        return fields


class Counters:
    """Counts the good and bad boards of a run. The class is thread-safe.

    A board with several results counts once, by its newest result. A board without a readable unique id cannot be
    recognised, and counts as a new board each time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, list[bool]] = {}

    def add(self, result: BoardResult) -> str:
        """Count a result, and return the counters in words, such as ``board 12: 11 good, 1 bad``."""
        with self._lock:
            runs = self._runs.setdefault(result.unique_id or f"unknown board {len(self._runs)}", [])
            runs.append(result.is_good)
            number = next(number for number, one in enumerate(self._runs.values(), 1) if one is runs)
            again = " again" if len(runs) > 1 else ""
            _, good, bad, _ = self.fields.values()
            return f"board {number}{again}: {good} good, {bad} bad"

    @property
    def fields(self) -> dict[str, int]:
        """The counters as JSON.

        A board counts as good or bad by its newest result, and as repeated if it has several results.
        """
        runs = self._runs.values()
        good = sum(results[-1] for results in runs)
        repeated = sum(len(results) > 1 for results in runs)
        return {"boards": len(runs), "good": good, "bad": len(runs) - good, "repeated": repeated}

    def __str__(self) -> str:
        """The counters in words, such as ``12 boards: 11 good, 1 bad, 2 repeated``."""
        count, good, bad, repeated = self.fields.values()
        again = f", {repeated} repeated" if repeated else ""
        return f"{count} {'board' if count == 1 else 'boards'}: {good} good, {bad} bad{again}"


class BenchObserver(Protocol):
    """Receives the events of the bench; each port calls the observer in its own thread.

    `port` is the port's URL, or empty for an event that concerns all ports.
    """

    def note(self, port: str, sentence: str, /) -> None:
        """Receive a sentence for the operator."""

    def progress(self, port: str, event: Progress, /) -> None:
        """Receive a step of the work on the board at a port."""

    def ended(self, port: str, result: BoardResult, /) -> None:
        """Receive the result of the work on the board at a port."""


def _outcome(*runs: Finished) -> str:
    is_changed = any(run.summary.erased.units or run.summary.programmed.units for run in runs)
    return "done" if is_changed else "already"


def combined_error(results: Sequence[BoardResult]) -> BlockOTAError | None:
    """Return one error for the results of a run; None if no board failed.

    The error of a single board is returned unchanged. With several boards, the error counts the failed boards, and
    has the most severe of their exit statuses.
    """
    if len(results) == 1:
        return results[0].error
    failed = [(result.port, result.error) for result in results if result.error]
    if not failed:
        return None

    port, worst = max(failed, key=lambda pair: _SEVERITY.index(pair[1].exit_status))
    # The class of an error determines the exit status of the command.
    kind = next((kind for kind in _KINDS if kind.exit_status == worst.exit_status), BlockOTAError)
    return kind(
        f"{len(failed)} of {len(results)} boards failed",
        why=f"{port}: {worst.what}",
        remedy="follow the remedy given for each board",
    )
