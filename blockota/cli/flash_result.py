"""What came of the work on one board: as a value, as JSON, and as a line of the bench log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockota.errors import BlockOTAError, BoardError, RefusedError, UnreachableError, UsageError
from blockota.model.facts import Passed
from blockota.model.release import Release
from firmware_host.bench.log import Line
from firmware_host.bootloader.identity import BoardIdentity
from firmware_host.flashing.events import Finished

_SEVERITY = (0, 2, 3, 5, 4, 1)
"""Exit statuses from good to bad: nothing changed is better than out of reach, and a changed board worse than both."""
_KINDS = (UsageError, RefusedError, UnreachableError, BoardError)


@dataclass(frozen=True)
class BoardResult:
    """What came of the work on one board.

    Attributes:
        port: where it was.
        identity: what it said of itself; None where it did not come to that.
        release: what was to be written; None where it did not come to that.
        passed: the checks that held.
        before: what the board held: a version, ``blank``, ``half written``, ``unknown`` or another release.
        finished: what was done, once that was proven.
        seconds: from the board's first answer until its flash was proven.
        preserved: bytes beside the image that were written back.
        banner: what the board printed when it was started.
        line: of the bench log; None where none was written.
        error: what failed; None where all went well.
    """

    port: str
    identity: BoardIdentity | None = None
    release: Release | None = None
    passed: tuple[Passed, ...] = ()
    before: str = ""
    finished: Finished | None = None
    seconds: float = 0.0
    preserved: int = 0
    banner: str = ""
    line: Line | None = None
    error: BlockOTAError | None = None

    @property
    def board(self) -> str:
        """The board's unique id, where it told one."""
        return (self.identity and self.identity.unique_id) or ""

    @property
    def status(self) -> int:
        """The exit status that it asks for."""
        return self.error.exit_status if self.error else 0

    @property
    def result(self) -> str:
        """``done``, ``already`` where nothing had to be written, or what failed."""
        if self.finished is None:
            return f"{self.error.what}: {self.error.why}" if self.error else ""
        summary = self.finished.summary
        return "done" if summary.erased.units or summary.programmed.units else "already"

    @property
    def proof(self) -> str:
        """How the flash was proven, in words."""
        if self.finished is None:
            return ""
        how = "by the stub" if self.finished.method == "stub" else "by reading it back"
        return f"proven {how}, {self.seconds:.1f} s in all"

    @property
    def held(self) -> str:
        """What the board is proven to hold, as in ``acme-thermo2 1.1.0``."""
        return f"{self.release.product} {self.release.version}" if self.finished and self.release else ""

    @property
    def fields(self) -> dict[str, Any]:
        """The same as JSON."""
        finished = self.finished
        fields = {"port": self.port, "result": self.result} | self._of_the_board() | self._of_the_release()
        if finished:
            fields |= {
                "sha256": finished.sha256.hex(),
                "erased": finished.erased,
                "written": finished.written,
                "identical": finished.summary.identical.size,
                "preserved": self.preserved,
                "proof": finished.method,
                "seconds": round(self.seconds, 3),
                "banner": self.banner,
            }
        if self.line:
            fields["log"] = {"number": self.line.number, "sha256": self.line.sha256.hex()}
        return fields | ({"error": _error_fields(self.error)} if self.error else {})

    def _of_the_board(self) -> dict[str, Any]:
        if self.identity is None:
            return {}
        return {
            "board": {
                "productId": self.identity.product_id,
                "bootloader": self.identity.bootloader_version,
                "uniqueId": self.identity.unique_id,
            },
            "before": self.before,
        }

    def _of_the_release(self) -> dict[str, Any]:
        if self.release is None:
            return {}
        return {
            "product": self.release.product,
            "version": str(self.release.version),
            "passed": [check.number for check in self.passed],
        }


def together(results: Sequence[BoardResult]) -> BlockOTAError | None:
    """What the command ends with: the error of the only board, or one that counts them, with the worst exit status."""
    failed = [result for result in results if result.error]
    if len(results) == 1 or not failed:
        return results[0].error if results else None
    worst = max(failed, key=lambda result: _SEVERITY.index(result.status))
    kind = next((kind for kind in _KINDS if kind.exit_status == worst.status), BlockOTAError)
    return kind(
        f"{len(failed)} of {len(results)} boards failed",
        why=f"{worst.port}: {worst.error.what}" if worst.error else "",
        remedy="see what is said of each board above",
    )


def in_words(results: Sequence[BoardResult]) -> str:
    """What was done until the work was stopped."""
    if len(results) == 1:
        return str(results[0].error or f"The board holds {results[0].held}.")
    failed = sum(result.error is not None for result in results)
    done = len(results) - failed
    counted = f"{done} {'board is' if done == 1 else 'boards are'} done, {failed} failed."
    return counted if results else "No board was worked on."


def _error_fields(error: BlockOTAError) -> dict[str, Any]:
    from blockota.cli.main import error_fields

    return error_fields(error)
