"""Revised errors: the class and the unchanged parts remain."""

from __future__ import annotations

from blockota.errors import Action, BlockOTAError, VerificationError


def test_a_revised_error_keeps_its_class_and_its_other_parts() -> None:
    """A revised error differs from the original only in the given parts."""
    error = VerificationError(
        7, "the board has another chip", why="0x411", remedy="use another board", action=Action.LIST_CHIPS
    )
    revised = error.revised(why="0x412", values={"product": "acme-lamp"})
    assert type(revised) is VerificationError
    assert (revised.number, revised.what) == (7, "check 7 failed, the board has another chip")
    assert str(revised) == "check 7 failed, the board has another chip: 0x412. Use another board."
    assert (revised.action, revised.values) == (Action.LIST_CHIPS, {"product": "acme-lamp"})
    assert (error.why, error.values) == ("0x411", {})


def test_a_sentence_of_another_program_gets_no_second_full_stop() -> None:
    """An error's reason gets a full stop, unless the reason already ends with a full stop or a question mark."""
    for why, end in (("Is the server running?", "?"), ("timed out.", "."), ("timed out", ".")):
        text = str(BlockOTAError("the database cannot be used", why=why, remedy="check it"))
        assert text == f"the database cannot be used: {why.rstrip('.?')}{end} Check it."
