"""The flasher detects the installed contents: a release, another product, an interrupted run, or unknown bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from blockota.errors import VerificationError
from blockota.model.facts import Consent
from blockota.model.release import Release, Version
from firmware_host.bench.session import ClearedBoard
from firmware_host.flashing.contents import FlashContents
from firmware_host.flashing.installed import Installed, find_installed
from firmware_host.flashing.plan import Finished
from firmware_host.simulator import PROFILES, SimulatedBoard
from tests.firmware_host.flash_scene import BASE, OLD, RunningLink, bench_on, code, known, planned, proven
from tests.firmware_host.scripted_board import KIB

IMAGE = code(3 * KIB)
LAMP = replace(proven(code(2 * KIB, seed=9), version=Version(4, 0, 0)).release, product="acme-lamp")
LAMP_FLASH = code(2 * KIB, seed=9).data


def held(flash: bytes, *own: Release, others: Callable[[], list[Release]] = list) -> Installed:
    """Return what is detected in a flash with these contents."""
    bootloader = bench_on(RunningLink(SimulatedBoard(flash=flash))).bootloader
    return find_installed(planned(IMAGE), FlashContents(bootloader), known=replace(known(*own), others=others))


def of(image_size: int, *, version: str, seed: int = 1, at: int = BASE) -> Release:
    """Return a release of the product, with an image of this size."""
    return proven(code(image_size, seed=seed, at=at), version=Version.parse(version)).release


def test_the_greatest_release_that_is_there_is_found() -> None:
    """If the image of one release is the beginning of another image, and both match, the longer image is detected."""
    short, long, other = of(KIB, version="1.0.0"), of(3 * KIB, version="1.1.0"), of(KIB, version="2.0.0", seed=5)
    assert held(IMAGE.data, short, long, other) == Installed(release=long)
    assert held(IMAGE.data[: 2 * KIB], short, long, other) == Installed(release=short)


def test_a_release_among_many_is_found() -> None:
    """The installed release is detected among many with other sizes and start addresses."""
    many = [of(KIB + size, version=f"3.0.{size}", seed=7) for size in range(1, 30)]
    moved = of(KIB, version="4.0.0", at=BASE + 60 * KIB)
    assert held(IMAGE.data, *many, moved, of(3 * KIB, version="1.0.0")) == Installed(
        release=of(3 * KIB, version="1.0.0")
    )


def test_a_release_beyond_the_flash_is_skipped() -> None:
    """A release that is larger than the board's flash is skipped."""
    large = replace(of(KIB, version="9.0.0"), size=70 * KIB)
    assert held(OLD, large).unknown


@pytest.mark.parametrize(
    ("flash", "expected"),
    [
        (b"", Installed()),
        (b"\xff" * 3 * KIB + b"neighbours", Installed()),
        (b"\xff" * 8 + IMAGE.data[8:], Installed(half_written=True)),
        (b"\xff" * KIB + IMAGE.data[KIB:2000], Installed(half_written=True)),
        (IMAGE.data[:2000], Installed(unknown=True)),
        (OLD, Installed(unknown=True)),
        (b"\xff" * 2 * KIB + b"\x00", Installed(unknown=True)),
    ],
    ids=["blank", "blank but beside", "without seal", "half", "torn", "foreign", "one byte"],
)
def test_contents_that_are_not_a_release_are_distinguished(flash: bytes, expected: Installed) -> None:
    """Blank flash, an interrupted run and unknown contents are distinguished."""
    assert held(flash, of(KIB, version="1.0.0", seed=5)) == expected


def test_other_products_are_asked_for_only_where_nothing_else_explains_the_flash() -> None:
    """Other products are looked up only if the flash has contents, but no release of the board's product."""
    asked: list[int] = []

    def others() -> list[Release]:
        asked.append(1)
        return [LAMP]

    own = of(3 * KIB, version="1.0.0")
    assert not [held(flash, own, others=others).unknown for flash in (b"", IMAGE.data) if asked]
    assert held(LAMP_FLASH, own, others=others) == Installed(other=LAMP)
    assert held(LAMP_FLASH[:-1], own, others=others) == Installed(unknown=True)
    assert len(asked) == 2


def test_another_product_elsewhere_in_the_flash_does_not_count() -> None:
    """A release of another product at a different address is not reported as the installed contents."""
    beside = code(KIB, at=BASE + 8 * KIB, seed=9)
    release = replace(proven(beside).release, product="acme-settings")
    assert held(OLD[: 8 * KIB] + beside.data, others=lambda: [release]) == Installed(unknown=True)


def cleared(board: SimulatedBoard, consent: Consent) -> ClearedBoard:
    """Return a board that contains another product, after checks 6 to 9 with this consent."""
    return bench_on(RunningLink(board)).examine(proven(IMAGE), known=known(others=[LAMP])).clear(consent)


@pytest.mark.parametrize(
    "consent",
    [Consent(), Consent(allow_downgrade=True, replace_unknown=True), Consent(replace_product="acme-gate")],
    ids=["none", "others", "another name"],
)
def test_a_board_with_another_product_is_refused(consent: Consent) -> None:
    """A board with another product is refused unless the operator gives that product's name."""
    board = SimulatedBoard(flash=LAMP_FLASH)
    with pytest.raises(VerificationError, match=r"another product: the flash contains acme-lamp 4\.0\.0") as refused:
        cleared(board, consent)
    assert (refused.value.number, board.flash[: 2 * KIB]) == (6, LAMP_FLASH)
    assert refused.value.values == {"product": "acme-lamp"}


def test_a_board_with_another_product_is_flashed_where_the_person_names_it() -> None:
    """A board with another product is flashed if the operator gives that product's name."""
    board = SimulatedBoard(flash=LAMP_FLASH)
    ready = cleared(board, Consent(replace_product="acme-lamp"))
    assert "1.1.0 replaces acme-lamp 4.0.0" in ready.passed[0].what
    assert isinstance([*ready.flash()][-1], Finished)
    assert board.flash[: 3 * KIB] == IMAGE.data


def test_a_board_with_less_flash_than_the_product_is_for_is_refused() -> None:
    """A board with less flash than the product's region is refused, even if the image fits."""
    small = SimulatedBoard(replace(PROFILES["stm32f103c8"], flash_size=32 * KIB))
    with pytest.raises(VerificationError, match="check 7 failed, the product's region is not inside the board's flash"):
        bench_on(RunningLink(small)).examine(proven(IMAGE), known=known()).clear(Consent())
