"""The parts of the error message for a refusal of a contract. The tables of contract errors use these parts."""

from __future__ import annotations

from typing import NamedTuple

from blockota.errors import Action


class Refusal(NamedTuple):
    """The parts of an error message. Names in braces are parameters of the contract's custom error."""

    what: str
    why: str
    remedy: str = ""
    action: Action | None = None
