"""The table of remedies."""

from __future__ import annotations

import pytest

from blockota.cli.remedies import OPTIONS, sentence_of
from blockota.errors import Action, RefusedError


@pytest.mark.parametrize("action", Action)
def test_every_action_has_an_option(action: Action) -> None:
    """The table misses none."""
    assert OPTIONS[action]


def test_the_option_follows_the_remedy() -> None:
    """An error of the library is in domain words; the command line adds the option, with its values."""
    error = RefusedError(
        "another transaction is pending",
        why="it has nonce 7",
        remedy="wait for it first",
        action=Action.RESUME_TRANSACTION,
        values={"hash": "0xab"},
    )
    assert str(error) == "another transaction is pending: it has nonce 7. Wait for it first."
    assert sentence_of(error).endswith("Wait for it first (`blockota transaction resume 0xab`).")
