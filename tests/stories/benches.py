"""A bench in a temporary folder, for the tests of ``blockota board``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from blockota.cli.main import run
from firmware_host.simulator import STM32F103C8, BoardProfile
from tests.conftest import IMAGES
from tests.stories.conftest import Outcome

UNIQUE_ID = "424c4f434b4f544100000001"
CONFIRMED = ("--confirm", UNIQUE_ID)
APPLICATION = (IMAGES / "bluepill-1.1.0.bin").read_bytes()
FULL = bytes(index * 7 % 251 + 1 for index in range(1 << 16))


@dataclass(frozen=True)
class Bench:
    """A folder in which a technician's commands are run."""

    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> Outcome:
        """Run one ``blockota board`` command, and return its status and output."""
        self.capture.readouterr()
        status = run(["board", *words])
        printed = self.capture.readouterr()
        return Outcome(status, printed.out, printed.err)


def with_product_id(product_id: int) -> BoardProfile:
    """Return a board profile that differs from the default one only in its product id."""
    return replace(STM32F103C8, product_id=product_id)


def ends(outcome: Outcome, status: int, *words: str) -> None:
    """Assert a command's exit status, and that its only error contains these words."""
    assert outcome.status == status, outcome.err
    (error,) = (line for line in outcome.err.splitlines() if line.startswith("Error: "))
    assert "Traceback" not in outcome.err + outcome.out
    for word in words:
        assert word in error
