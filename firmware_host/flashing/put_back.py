"""Which bytes beside the image an interrupted run has erased and not put back; its journal alone has them."""

from __future__ import annotations

from dataclasses import dataclass

from blockota.errors import RefusedError
from firmware_host.bootloader.client import Bootloader
from firmware_host.flashing.contents import read_surely
from firmware_host.flashing.journal import JournalEntry
from firmware_host.flashing.memory import Preserved
from firmware_host.flashing.plan import FlashPlan, common


@dataclass(frozen=True)
class PutBack:
    """What a journal's bytes come to.

    Attributes:
        kept: those that are to be put back.
        notes: of those that are not, because the flash holds others there by now.
    """

    kept: tuple[Preserved, ...] = ()
    notes: tuple[str, ...] = ()


def put_back(plan: FlashPlan, entry: JournalEntry, *, bootloader: Bootloader) -> PutBack:
    """Find the bytes of a journal that nothing has taken the place of; nothing is changed.

    Args:
        plan: what is to be written.
        entry: the board's run that was interrupted.
        bootloader: connected to the board.

    Raises:
        RefusedError: there are such bytes where this plan does not reach.
        BoardError: the board fell silent, or refused.
    """
    written = [one for one in entry.changes.preserved if one.data.strip(bytes((plan.chip.erased_byte,)))]
    kept = [one for one in written if _is_erased(one, read_surely(bootloader, one.span), blank=plan.chip.erased_byte)]
    for one in kept:
        if common(one.span, plan.span) != one.span:
            raise _out_of_reach(one, entry)
    return PutBack(tuple(kept), tuple(_overtaken(one) for one in written if one not in kept))


def _is_erased(kept: Preserved, found: bytes, *, blank: int) -> bool:
    """Whether no bit is programmed there that is not programmed in the kept bytes as well.

    So it is where the flash is blank, and where the power went while the bytes were erased or written.
    """
    return all((there ^ blank) & ~(byte ^ blank) == 0 for byte, there in zip(kept.data, found, strict=True))


def _overtaken(kept: Preserved) -> str:
    return (
        f"The journal's bytes from {kept.span.start:#010x} to {kept.span.stop:#010x} are not put back: "
        "the flash holds others there by now, which stay."
    )


def _out_of_reach(kept: Preserved, entry: JournalEntry) -> RefusedError:
    return RefusedError(
        f"{entry.product} {entry.version} was interrupted on this board, and has bytes to put back",
        why=f"those from {kept.span.start:#010x} to {kept.span.stop:#010x} are in the journal only, and this "
        "release does not reach there; nothing was changed",
        remedy="complete the interrupted run first, with `blockota flash --resume`; where its release may not "
        f"be written any more, move the journal {entry.unique_id}.json away, in which those bytes stay",
    )
