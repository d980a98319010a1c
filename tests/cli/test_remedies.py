"""The command-line options that complete the remedies of errors."""

from __future__ import annotations

import pytest

from blockota.cli.remedies import OPTIONS, sentence_of
from blockota.errors import Action, RefusedError


@pytest.mark.parametrize("action", Action)
def test_every_action_has_an_option(action: Action) -> None:
    """The table has a command-line option for every action that an error can suggest."""
    assert OPTIONS[action]


def test_the_option_follows_the_remedy() -> None:
    """The command line appends a command, such as ``transaction resume 0xab``, to the remedy of a library error."""
    error = RefusedError(
        "another transaction is pending",
        why="it has nonce 7",
        remedy="wait for it first",
        action=Action.RESUME_TRANSACTION,
        values={"hash": "0xab"},
    )
    assert str(error) == "another transaction is pending: it has nonce 7. Wait for it first."
    assert sentence_of(error).endswith("Wait for it first (`blockota transaction resume 0xab`).")


def test_an_error_is_one_line() -> None:
    """Line ends in a node's or a device's message become spaces, in the text and in the parts of the error."""
    error = RefusedError("the node refused", why="not supported.\r\n\r\nRestart it ", remedy="restart\nthe node")
    assert sentence_of(error) == str(error) == "the node refused: not supported. Restart it . Restart the node."
