"""Errors of erasing: refused page lists, pages that do not erase, half-erased chips, and boards without a unique id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from benchmarks.fault_judge import CaseSituation
from benchmarks.fault_link import Mishaps, WirelessLink
from benchmarks.fault_scene import SCENES, FaultScene
from benchmarks.fault_sentences import judge_of
from benchmarks.fault_trial import FaultCase, attempt
from blockota.cli.remedies import sentence_of
from blockota.errors import Action, BoardError, FlashProofError
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.contents import Proof
from firmware_host.flashing.erasure import erase
from firmware_host.flashing.flasher import carry_out
from firmware_host.flashing.plan import Finished, FlashPlan, plan
from firmware_host.simulator import PROFILES, BoardProfile, Faults, SimulatedBoard
from tests.firmware_host.flash_scene import OLD, WatchedLink, code
from tests.firmware_host.scripted_board import KIB, chip

IMAGE = code(3 * KIB)
ERASES = {b"\x43\xbc": b"\xff\x00", b"\x44\xbb": b"\xff\xff\x00"}
"""The erase commands, each with the frame that erases the whole flash."""


class RefusingLink(WatchedLink):
    """A link on which the board refuses page lists, because a bit of their checksum flips.

    Attributes:
        refusals: the number of page lists that will still be refused.
    """

    refusals = 1000
    _command = b""

    def write(self, data: bytes, /) -> None:
        """Send a frame to the board; flip a bit of the checksum of a page list."""
        is_list = self._command in ERASES and data != ERASES[self._command]
        self._command = data
        if is_list and self.refusals:
            self.refusals -= 1
            data = bytes([*data[:-1], data[-1] ^ 1])
        super().write(data)


def connected(profile: BoardProfile) -> tuple[SimulatedBoard, RefusingLink, Bootloader, FlashPlan]:
    """Return a board whose flash is full of old bytes, its link and client, and the plan of an image."""
    board = SimulatedBoard(profile, flash=OLD[: profile.flash_size])
    link = RefusingLink(board)
    bootloader = Bootloader(link)
    bootloader.connect()
    identify(bootloader)
    return board, link, bootloader, plan(chip(profile.product_id), IMAGE, flash_size=profile.flash_size)


def profile_of(name: str) -> BoardProfile:
    """Return a simulated chip with 64 KiB of flash."""
    return replace(PROFILES[name], flash_size=64 * KIB)


@pytest.mark.parametrize("name", ["stm32f103c8", "stm32g071rb"])
def test_a_refused_list_of_pages_offers_the_erase_of_everything(name: str) -> None:
    """If a board refuses every list of pages, the error offers the erase of the whole flash, which then succeeds."""
    board, link, bootloader, planned = connected(profile_of(name))
    with pytest.raises(BoardError, match=r"refused .*Erase: it answered NACK.*erased 0 of") as refused:
        deque(carry_out(planned, bootloader), maxlen=0)
    assert refused.value.action is Action.ERASE_EVERYTHING
    assert "(`blockota board erase --all`)" in sentence_of(refused.value)
    assert "destroys all its contents" in refused.value.remedy
    assert board.flash == OLD

    row = planned.chip
    assert list(erase(bootloader, row, units=row.erase_units(64 * KIB), flash_size=64 * KIB))
    *_, end = carry_out(planned, bootloader)
    assert isinstance(end, Finished)
    assert (end.summary.erased.units, board.flash[: 3 * KIB]) == (0, IMAGE.data)
    assert link.refusals < RefusingLink.refusals


def test_a_chip_without_a_mass_erase_offers_none() -> None:
    """If a chip without a mass erase refuses a page list, the error does not offer the erase of the whole flash."""
    board, _, bootloader, planned = connected(profile_of("stm32l053r8"))
    with pytest.raises(BoardError, match="refused Extended Erase") as refused:
        deque(carry_out(planned, bootloader), maxlen=0)
    assert refused.value.action is not Action.ERASE_EVERYTHING
    assert "write protection" in refused.value.remedy
    assert board.flash == OLD


def test_one_refused_list_is_sent_again() -> None:
    """If noise makes the board refuse a list of pages once, the list is sent again, and flashing succeeds."""
    board, link, bootloader, planned = connected(profile_of("stm32f103c8"))
    link.refusals = 1
    *_, end = carry_out(planned, bootloader)
    assert isinstance(end, Finished)
    assert board.flash == IMAGE.data + OLD[3 * KIB :]


def test_the_erase_of_some_pages_offers_the_erase_of_everything() -> None:
    """If the board refuses a page list of `board erase`, the error offers the erase of the whole flash."""
    board, _, bootloader, planned = connected(profile_of("stm32f103c8"))
    units = planned.chip.erase_units(64 * KIB)[:2]
    with pytest.raises(BoardError) as refused:
        deque(erase(bootloader, planned.chip, units=units, flash_size=64 * KIB), maxlen=0)
    assert refused.value.action is Action.ERASE_EVERYTHING
    assert "--all" in sentence_of(refused.value)
    assert board.flash == OLD


def test_a_page_that_stays_shows_sixteen_bytes_that_are_not_erased() -> None:
    """The error about a page that was not erased shows 16 bytes, from the first byte that is not erased."""
    profile = profile_of("stm32l053r8")
    image = code(KIB)
    # The first words are erased already, and the rest of the half pages that are written last is not.
    board = SimulatedBoard(profile, flash=b"\x00" * 64 + OLD[64 : 64 * KIB], faults=Faults(sticky_page=0))
    link = WatchedLink(board)
    bootloader = Bootloader(link)
    bootloader.connect()
    identify(bootloader)
    planned = plan(chip(profile.product_id), image, flash_size=64 * KIB)
    with pytest.raises(FlashProofError, match="check 10 failed, the flash was not erased") as failed:
        deque(carry_out(planned, bootloader), maxlen=0)
    assert f"page 0 still reads {OLD[64:80].hex(' ')} at 0x08000040 after" in failed.value.why
    assert "erased 1 of 8 pages" in failed.value.why


def failing(scene: str, kind: str, number: int, *, folder: Path, seed: int = 0) -> Callable[[], str]:
    """Return a function that flashes a board with a fault, and returns the error.

    Each later call of the function resumes the interrupted run.
    """
    case = FaultCase(scene, Proof.NO_STUB, kind, number, seed=seed)
    board = SCENES[scene].board(case.faults)
    link = WirelessLink(board, Mishaps())
    judge = judge_of(CaseSituation(SCENES[scene], board, link, folder, kind, number, is_lasting=False))

    attempts = count()

    def flash() -> str:
        resumes = next(attempts) > 0
        ended = attempt(case, judge=judge, spoil=lambda ready: ready, resumes=resumes)
        assert ended.name != "defect", ended.error
        assert (board.flash == SCENES[scene].after) is not bool(ended.error)
        return ended.error

    return flash


@pytest.mark.parametrize("seed", range(6))
def test_a_chip_that_is_erased_as_a_whole_is_recognised_when_half_erased(seed: int, tmp_path: Path) -> None:
    """After a power cut in the erase of the whole flash, the run is resumed, and all other contents are restored."""
    scene = "G474, erased as a whole"
    flash = failing(scene, "power_cut_in_erase", 1, folder=tmp_path, seed=seed)
    assert "complete the run (`blockota flash --resume" in flash()
    assert not flash()


def test_a_board_without_a_unique_id_is_not_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For a board without a unique id, no journal is written, and the error does not offer to resume."""
    of = SCENES["some pages"]
    profile = replace(PROFILES["stm32w108hb"], flash_size=128 * KIB)
    rest = b"\x11" * (64 * KIB)
    monkeypatch.setitem(SCENES, "W108", FaultScene(profile, b"", of.old, of.new, of.beside + rest))
    error = failing("W108", "power_cut_before_program", 300, folder=tmp_path)()
    assert "run the same command again" in error
    assert "--resume" not in error
    assert not [*(tmp_path / "journals").glob("*")]
