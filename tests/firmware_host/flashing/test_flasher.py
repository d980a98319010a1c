"""The flasher writes only changed pages of a simulated board, and verifies the whole image."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockota.errors import Action, BoardError, FlashProofError, RefusedError
from blockota.formats.firmware_image import FirmwareImage, read_image
from firmware_host.bootloader.client import Bootloader
from firmware_host.bootloader.entry import listen_to
from firmware_host.bootloader.identity import identify
from firmware_host.flashing.erasure import erase
from firmware_host.flashing.flasher import carry_out
from firmware_host.flashing.plan import Checked, Erased, Finished, Part, Preserved, Programmed, Repeated, Summary, plan
from firmware_host.line.ports import open_link
from firmware_host.simulator import PROFILES, STM32F103C8, BoardProfile, Faults, SimulatedBoard, serve_pty, serve_tcp
from tests.firmware_host.direct_link import DirectLink
from tests.firmware_host.flash_scene import BASE, EXAMPLES, OLD, code, connected, flash, planned
from tests.firmware_host.scripted_board import KIB, chip
from tests.support.sampling import sampled

# Flashing without faults


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_an_example_is_flashed_and_starts(version: str) -> None:
    """The example firmware is written, verified and started, and prints its version."""
    image = read_image((EXAMPLES / f"bluepill-{version}.elf").read_bytes())
    with serve_tcp(SimulatedBoard(flash=OLD)) as url:
        bootloader = Bootloader(open_link(url))
        bootloader.connect()
        identify(bootloader)
        *_, end = carry_out(planned(image), bootloader)
        assert isinstance(end, Finished)
        assert end.sha256 == hashlib.sha256(image.data).digest()
        bootloader.go(BASE)
        assert f"bluepill {version}" in listen_to(bootloader.link, seconds=5)
        bootloader.link.close()


def test_a_board_on_a_pseudo_terminal_is_flashed() -> None:
    """Flashing works over a pseudo-terminal, which has no parity."""
    board = SimulatedBoard()
    with serve_pty(board) as path:
        bootloader = Bootloader(open_link(path))
        bootloader.connect()
        assert list(carry_out(planned(code(2 * KIB)), bootloader))
        bootloader.link.close()
    assert board.flash[: 2 * KIB] == code(2 * KIB).data


def test_progress_is_reported_in_bytes() -> None:
    """Each kind of progress event counts up to its total, in order."""
    events = flash(SimulatedBoard(flash=OLD), code(3 * KIB))
    kinds = [type(event) for event in events]
    assert kinds[:3] == [Erased] * 3
    assert kinds.index(Programmed) < kinds.index(Checked) < kinds.index(Finished) == len(kinds) - 1
    for kind in (Erased, Programmed, Checked):
        counts = [event for event in events if isinstance(event, kind)]
        assert counts[-1] == kind(3 * KIB, 3 * KIB)
        assert [event.done for event in counts] == sorted(event.done for event in counts)


def changed(image: FirmwareImage, *pages: int) -> FirmwareImage:
    """Return the image with one changed byte in each of some pages."""
    data = bytearray(image.data)
    for page in pages:
        data[page * KIB + 700] ^= 0x55
    return replace(image, data=bytes(data))


def finished(board: SimulatedBoard, image: FirmwareImage) -> Finished:
    """Flash an image, check the result, and return it."""
    *_, end = flash(board, image)
    assert isinstance(end, Finished)
    assert (end.sha256, end.method) == (hashlib.sha256(image.data).digest(), "read-back")
    assert board.flash[: len(image.data)] == image.data
    return end


def test_the_same_image_again_changes_nothing() -> None:
    """Flashing the same image again erases and writes nothing, and verifies the flash."""
    image = code(5 * KIB + 100)
    board = SimulatedBoard(flash=image.data)
    assert finished(board, image).summary == Summary(identical=Part(6, 6 * KIB))


def test_only_changed_pages_are_written_and_the_first() -> None:
    """Only changed pages and the page with the vector table are erased and written."""
    new = code(8 * KIB)
    board = SimulatedBoard(flash=changed(new, 3, 5).data)
    end = finished(board, new)
    assert end.summary == Summary(Part(3, 3 * KIB), Part(3, 3 * KIB), Part(5, 5 * KIB))
    assert str(end.summary) == (
        "erased 3 pages (3,072 bytes), programmed 3 pages (3,072 bytes), identical 5 pages (5,120 bytes)"
    )


@pytest.mark.sampled
@pytest.mark.parametrize("profile", sampled(list(PROFILES.values()), one_in=8), ids=lambda profile: profile.name)
def test_every_chip_changes_only_what_differs(profile: BoardProfile) -> None:
    """On every chip, only pages or sectors that differ are erased, and bytes beside the image are preserved.

    A chip whose page size is unknown is erased as a whole.
    """
    row = chip(profile.product_id)
    units = row.erase_units(profile.flash_size)[:4]
    image = code(units[3].address + 40 - BASE if len(units) > 1 else 8 * KIB)
    old = bytearray(image.data + b"beside")
    old[len(image.data) // 2 - 1 if len(units) == 1 else units[2].address - BASE + 9] ^= 0xFF
    board = SimulatedBoard(profile, flash=bytes(old))
    *_, end = carry_out(plan(row, image, flash_size=profile.flash_size), connected(board))
    assert isinstance(end, Finished)
    assert (end.summary.erased.units, end.summary.identical.units) == ((1, 0) if row.is_erased_whole else (2, 2))
    assert board.flash == (image.data + b"beside").ljust(profile.flash_size, profile.erased)


@pytest.mark.parametrize("first_page", [0, 256], ids=["counted on", "with a gap"])
@pytest.mark.parametrize("name", ["stm32g0b1re", "stm32l476rg"])
def test_both_numberings_of_a_second_bank_are_right(name: str, first_page: int) -> None:
    """With each of the boot ROM's two page numberings, the right pages of the second bank are erased."""
    profile = replace(PROFILES[name], flash_size=512 * KIB, second_bank_page=first_page)
    row = replace(chip(profile.product_id), flash_limit=512 * KIB)
    old = OLD * 8
    image = FirmwareImage(code(6 * KIB).data, BASE + 254 * KIB, "bin")
    board = SimulatedBoard(profile, flash=old)
    *_, end = carry_out(plan(row, image, flash_size=profile.flash_size), connected(board))
    assert isinstance(end, Finished)
    assert board.flash == old[: 254 * KIB] + image.data + old[260 * KIB :]


@pytest.mark.parametrize("may_erase_all", [False, True])
def test_flash_that_a_chip_erased_as_a_whole_does_not_report_stays(may_erase_all: object) -> None:
    """A chip that can only be erased as a whole is refused if flash beyond the reported size may be lost."""
    profile = replace(PROFILES["stm32g474re"], reported_flash_size=256 * KIB)
    board = SimulatedBoard(profile, flash=OLD * 8)
    row = chip(profile.product_id)
    steps = carry_out(
        plan(row, code(8 * KIB), flash_size=256 * KIB, may_erase_all=bool(may_erase_all)), connected(board)
    )
    if may_erase_all:
        assert [*steps]
        assert board.flash[256 * KIB :] == b"\xff" * (256 * KIB)
        return
    with pytest.raises(RefusedError, match="can be erased only as a whole") as refused:
        list(steps)
    assert refused.value.action is Action.CONFIRM_FLASH_SIZE
    assert board.flash == OLD * 8


def test_blank_pages_are_not_erased() -> None:
    """A blank board is not erased."""
    image = code(3 * KIB)
    assert finished(SimulatedBoard(), image).summary == Summary(Part(), Part(3, 3 * KIB), Part())


@pytest.mark.parametrize("old", [OLD, OLD[: 60 * KIB]], ids=["full", "partly blank"])
def test_the_whole_flash_is_erased_by_one_command(old: bytes) -> None:
    """An image that fills the flash is erased by one page erase and one mass erase."""
    link = RecordingLink(SimulatedBoard(flash=old))
    *_, end = carry_out(planned(code(64 * KIB), may_erase_all=True), connected(link))
    assert isinstance(end, Finished)
    assert link.erases == [b"\x00\x00\x00", b"\xff\x00"]


@pytest.mark.parametrize("may_erase_all", [False, True], ids=["page by page", "all"])
def test_flash_that_the_chip_does_not_report_stays(may_erase_all: object) -> None:
    """Flash beyond the reported size is kept, unless the operator confirmed that it does not exist."""
    hidden = OLD[::-1]
    profile = replace(STM32F103C8, flash_size=128 * KIB, reported_flash_size=64 * KIB)
    board = SimulatedBoard(profile, flash=OLD + hidden)
    bootloader = connected(board)
    assert identify(bootloader).flash_size == 64 * KIB
    image = code(64 * KIB)
    assert list(carry_out(planned(image, may_erase_all=bool(may_erase_all)), bootloader))
    assert board.flash == image.data + (b"\xff" * len(hidden) if may_erase_all else hidden)


def test_a_part_of_the_flash_is_never_erased_by_the_command_for_all() -> None:
    """Mass erase is not used if a page outside the image has contents."""
    link = RecordingLink(SimulatedBoard(flash=OLD))
    assert list(carry_out(planned(code(63 * KIB)), connected(link)))
    assert link.erases == [bytes((0, page, page)) for page in range(63)]


class RecordingLink(DirectLink):
    """A link that records the frames that are sent to the board."""

    def __init__(self, board: SimulatedBoard) -> None:
        super().__init__(board)
        self.frames: list[bytes] = []

    @property
    def erases(self) -> list[bytes]:
        """The page list of each Erase Memory command that was sent."""
        return [after for frame, after in pairwise(self.frames) if frame == b"\x43\xbc"]

    def write(self, data: bytes, /) -> None:
        """Record a frame, and send it to the board."""
        self.frames.append(data)
        super().write(data)


@given(start=st.integers(0, 8 * KIB - 1), size=st.integers(1, 4 * KIB))
@settings(max_examples=40, deadline=None)
def test_bytes_beside_the_image_stay(start: int, size: int) -> None:
    """Bytes outside the image are preserved, wherever the image starts and ends."""
    board, image = SimulatedBoard(flash=OLD), code(size, at=BASE + start)
    flash(board, image)
    assert board.flash == OLD[:start] + image.data + OLD[start + size :]


def test_preserved_bytes_are_handed_over_before_anything_is_erased() -> None:
    """Before the first erase, the flasher reports the bytes to preserve in events, so that they can be saved."""
    first, second, *_ = flash(SimulatedBoard(flash=OLD), code(100, at=BASE + 1000))
    assert first == Preserved(BASE, OLD[:1000])
    assert second == Preserved(BASE + 1100, OLD[1100 : 2 * KIB])


def test_bytes_beside_the_image_in_a_page_that_stays_are_not_handed_over() -> None:
    """The flasher reports no bytes beside the image if their page is not erased."""
    image = code(8 * KIB - 100)
    beside = b"\x00" * (100 + KIB)
    events = flash(SimulatedBoard(flash=changed(image, 2, 5).data + beside), image)
    assert not [event for event in events if isinstance(event, Preserved)]
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.summary.erased.units, end.summary.identical.units) == (3, 5)


def test_erased_bytes_at_the_ends_are_not_handed_over() -> None:
    """The reported bytes beside the image do not include blank bytes at the beginning and at the end."""
    image = code(100)
    beside = b"\xff" * 50 + b"be\xffside" + b"\xff" * 50
    first, *_ = flash(SimulatedBoard(flash=image.data[:-1] + b"!" + beside), image)
    assert first == Preserved(BASE + 150, b"be\xffside")


def test_blank_blocks_are_not_written() -> None:
    """Blocks of 0xFF are erased and verified, but not written."""
    image = FirmwareImage(code(KIB).data + b"\xff" * (6 * KIB) + b"end!", BASE, "bin")
    board = SimulatedBoard(flash=OLD[: 8 * KIB])
    events = flash(board, image)
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.summary.programmed.size < 3 * KIB
    assert board.flash[: len(image.data)] == image.data


def test_an_image_that_is_blank_all_over_is_erased_and_proven() -> None:
    """An image that consists of 0xFF only is erased and verified."""
    board = SimulatedBoard(flash=OLD)
    *_, end = flash(board, FirmwareImage(b"\xff" * KIB, BASE + KIB, "bin"))
    assert isinstance(end, Finished)
    assert (end.summary.programmed.size, end.sha256) == (0, hashlib.sha256(b"\xff" * KIB).digest())
    assert board.flash[KIB : 2 * KIB] == b"\xff" * KIB


# Faults and refusals


def test_a_bootloader_that_cannot_write_is_refused_before_anything_is_erased() -> None:
    """A bootloader without Write Memory is refused before the first erase."""
    commands = bytes((0x00, 0x01, 0x02, 0x11, 0x43))
    board = SimulatedBoard(replace(STM32F103C8, commands=commands), flash=OLD)
    with pytest.raises(RefusedError, match="that flashing needs: it listed 00, 01, 02, 11, 43"):
        flash(board, code(KIB))
    assert board.flash == OLD


@pytest.mark.parametrize(
    ("faults", "protected"),
    [(Faults(flipped_bit=BASE + 700), ()), (Faults(sticky_page=1), ()), (Faults(flipped_bit=BASE + 2046), ())],
)
def test_flash_that_does_not_take_the_image_is_found_by_reading(faults: Faults, protected: tuple[int, ...]) -> None:
    """A defective bit or a page that does not erase is detected by reading back, although the board sent ACKs."""
    board = SimulatedBoard(flash=OLD, faults=faults)
    board.protect(pages=protected)
    with pytest.raises(
        FlashProofError,
        match=r"^check 10 failed, the flash does not contain the written bytes: the byte at 0x0800.* was read as 0x.. ",
    ) as failure:
        flash(board, code(2 * KIB))
    assert "replace the board" in failure.value.remedy
    assert "second attempt; the board acknowledged: erased 2 of 2 pages, wrote 1 of 2" in failure.value.why


def test_flash_that_went_wrong_once_is_written_once_more() -> None:
    """If a line fault makes the proof fail, the image is written a second time without the operator's help."""
    image = code(3 * KIB)
    sent = _sent_until(image, kind=Checked)
    board = SimulatedBoard(flash=changed(image, 1).data, faults=Faults(flip_sent=sent - 20))
    events = flash(board, image)
    end = events[-1]
    assert isinstance(end, Finished)
    assert [event.why[:11] for event in events if isinstance(event, Repeated)] == ["the byte at"]
    assert end.summary == Summary(Part(5, 5 * KIB), Part(5, 5 * KIB), Part())
    assert board.flash[: 3 * KIB] == image.data


def _sent_until(image: FirmwareImage, *, kind: type[Checked]) -> int:
    """Return how many bytes a board with one changed page sends before the first event of the given type."""

    class Counting(DirectLink):
        """A link that counts the bytes received from the board."""

        count = 0

        def read(self, count: int, /, *, timeout: float) -> bytes:
            """Return the board's answer, and add its length to the count."""
            self.count += count
            return super().read(count, timeout=timeout)

    link = Counting(SimulatedBoard(flash=changed(image, 1).data))
    next(event for event in carry_out(planned(image), connected(link)) if isinstance(event, kind))
    return link.count


def test_a_garbled_answer_never_changes_bytes_beside_the_image() -> None:
    """A bit that flips in any answer does not change the bytes beside the image."""
    image = code(100)
    for number in range(1, 4000, 37):
        board = SimulatedBoard(flash=OLD, faults=Faults(flip_sent=number))
        message = failure_of(board, image)
        assert board.flash in (OLD, image.data + OLD[100:]) or "will not start" in message
        assert message or board.flash == image.data + OLD[100:]


def failure_of(board: SimulatedBoard, image: FirmwareImage) -> str:
    """Flash an image, and return the text of the error, or an empty string."""
    try:
        flash(board, image)
    except BoardError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("faults", "protected"), [(Faults(sticky_page=0), ()), (Faults(), (0, 1, 2, 3))])
def test_a_first_page_that_does_not_erase_ends_it_there(faults: Faults, protected: tuple[int, ...]) -> None:
    """If the erase of the page with the vector table has no effect, no other page is changed."""
    old, new = ((EXAMPLES / f"bluepill-{version}.bin").read_bytes() for version in ("1.1.0", "1.2.0"))
    board = SimulatedBoard(flash=old, faults=faults)
    board.protect(pages=protected)
    before = board.flash
    with pytest.raises(FlashProofError, match=r"page 0 still reads .* nothing else was changed") as failure:
        flash(board, FirmwareImage(new, BASE, "bin"))
    assert "replace the board" in failure.value.remedy
    assert board.flash == before


@pytest.mark.parametrize("behind", [0, 1, 50])
def test_a_byte_that_changes_beside_the_image_is_found(behind: int) -> None:
    """A wrong byte beside the image, in a page that was erased, is detected by reading back."""
    image = code(KIB + 584)
    board = SimulatedBoard(faults=Faults(flipped_bit=image.span.stop + behind))
    with pytest.raises(FlashProofError, match=f"at {image.span.stop + behind:#010x} was read as 0xfe instead of 0xff"):
        flash(board, image)


def test_a_bad_bit_in_the_vector_table_is_found_last() -> None:
    """A defective bit in the vector table is reported after everything else has been written."""
    with pytest.raises(BoardError, match=r"at 0x08000001 .* wrote 2 of 2; the whole image is written, but its first"):
        flash(SimulatedBoard(faults=Faults(flipped_bit=BASE + 1)), code(2 * KIB))


@pytest.mark.parametrize("first_page", [0, 256], ids=["counted on", "with a gap"])
def test_pages_of_a_second_bank_are_erased_on_request_in_both_numberings(first_page: int) -> None:
    """`board erase` erases pages in both banks, with each of the boot ROM's two page numberings."""
    profile = replace(PROFILES["stm32g0b1re"], second_bank_page=first_page)
    board = SimulatedBoard(profile, flash=OLD * 8)
    bootloader, row = connected(board), chip(profile.product_id)
    identify(bootloader)
    units = row.erase_units(profile.flash_size)[126:131]
    assert [*erase(bootloader, row, units=units, flash_size=profile.flash_size)][-1] == 5 * 2 * KIB
    span = slice(126 * 2 * KIB, 131 * 2 * KIB)
    assert set(board.flash[span]) == {0xFF}
    assert board.flash[: span.start] + board.flash[span.stop :] == (OLD * 8)[: span.start] + (OLD * 8)[span.stop :]
