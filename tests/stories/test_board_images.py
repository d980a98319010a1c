"""``blockota flash`` writes a separate image for each board, made by a command, with a serial number or keys."""

from __future__ import annotations

import hashlib
import shlex
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.bindings.block_ota import pair_call, revoke_call, unpair_call
from blockota.model.release import Product, Region, Version
from firmware_host.bench.log import read_log
from firmware_host.simulator import Faults, SimulatedBoard, serve_tcp
from tests.stories.conftest import PRODUCT, Outcome, Workshop
from tests.stories.technicians import LOG, NEW, STATE, WORDS, Jig, board, publish_all, running, unique_id

KEYS = "acme-thermo2-keys"
PAGE = 0x400
REGION = Region(0x0800_F000, PAGE)
KEPT = Product(KEYS, "acme", 0x410, REGION, minimum_version=None, paired=True)
OFFSET = REGION.start - 0x0800_0000
CALLS = Path("calls")
MAKER = """
import hashlib, os, sys
with open("calls", "a") as calls:
    calls.write(os.environ["BLOCKOTA_BOARD_ID"] + "\\n")
print("for", os.environ["BLOCKOTA_BOARD_PRODUCT"], os.environ["BLOCKOTA_BOARD_VERSION"], file=sys.stderr)
sys.stdout.buffer.write(hashlib.sha512(os.environ["BLOCKOTA_BOARD_ID"].encode()).digest() * int(sys.argv[1]))
"""


def keys_of(number: int, times: int = 1) -> bytes:
    """Return the image that the command makes for a board."""
    return hashlib.sha512(unique_id(number).encode()).digest() * times


def command(program: str, *arguments: str) -> str:
    """Return the command line that runs a Python program."""
    return shlex.join([sys.executable, "-c", program, *arguments])


MAKING = ("--board-product", KEYS, "--board-image", command(MAKER, "1"))


@pytest.fixture
def paired(workshop: Workshop) -> Workshop:
    """Return a test workshop with releases 1.0.0 and 1.1.0, and with a paired product for the boards' own images."""
    return workshop.after(publish_and_pair)


def publish_and_pair(workshop: Workshop) -> None:
    """Publish releases 1.0.0 and 1.1.0, and pair the product of the boards' own images."""
    publish_all(workshop)
    workshop.decide(pair_call(KEPT))


def calls() -> int:
    """Return how often the command has run."""
    return len(CALLS.read_text().splitlines()) if CALLS.exists() else 0


def own(one: SimulatedBoard, size: int = 64) -> bytes:
    """Return the contents of the flash region for the board's own image."""
    return one.flash[OFFSET : OFFSET + size]


def flash(workshop: Workshop, one: SimulatedBoard, *options: str) -> Outcome:
    """Run ``blockota flash`` with a board's own image."""
    with serve_tcp(one) as url:
        return workshop.flash(url, *MAKING, *options)


def test_a_board_gets_its_image_and_the_release(paired: Workshop) -> None:
    """The release and the board's own image are written and proven.

    Output, JSON and log list the checks of both images.
    """
    one, other = board(1), board(2)
    told, counted = flash(paired, one), flash(paired, other, "--json")
    assert (told.status, counted.status) == (0, 0), told.err + counted.err
    assert [own(one), own(other)] == [keys_of(1), keys_of(2)]
    assert one.flash.startswith(NEW.read_bytes())
    assert "The image command says: for acme-thermo2 1.1.0" in told.err
    assert "checks 1 to 4 do not apply, because no release is published for a single board" in told.err
    assert f"✓ the board holds its own image of {KEYS}: 64 bytes at 0x0800f000" in told.out
    fields = counted.json["results"][0]["boardImage"]
    assert (fields["sha256"], fields["result"]) == (hashlib.sha256(keys_of(2)).hexdigest(), "done")
    lines = [line.entry() for line in read_log(LOG)]
    assert lines[0].board_image_sha256 == hashlib.sha256(keys_of(1)).hexdigest()
    assert (lines[0].board_product, lines[0].board_image_size, lines[0].result) == (KEYS, 64, "done")
    assert lines[0].board_image_checks.startswith("5, 7, 8 and 10; checks 1 to 4 do not apply")


def test_the_image_is_stored_nowhere(paired: Workshop) -> None:
    """No file and no output contains bytes of the board's own image, after a success or an interruption."""
    outcomes = [flash(paired, board(1)), flash(paired, board(2, faults=Faults(power_cut_in_program=30)))]
    assert [one.status for one in outcomes] == [0, 4]
    texts = [path.read_bytes() for path in paired.folder.rglob("*") if path.is_file()]
    texts += [(one.out + one.err).encode() for one in outcomes]
    for keys in (keys_of(1), keys_of(2)):
        parts = [keys[start : start + 8] for start in range(0, len(keys), 8)]
        assert not [part for part in parts for text in texts if part in text or part.hex().encode() in text.lower()]


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; print('the vault is closed', file=sys.stderr); sys.exit(3)", "its exit status is 3"),
        ("pass", "check 5 failed, the board's own image is empty"),
        ("print('k' * 1024)", "check 5 failed, the board's own image does not fit into the product's region"),
    ],
    ids=["failure", "empty", "too large"],
)
def test_a_command_that_makes_no_image_refuses_the_board(paired: Workshop, program: str, says: str) -> None:
    """A failed command, an empty image and a too large image are refused before anything is erased."""
    before = (one := board(1, flash=b"\xff" * 8)).flash
    with serve_tcp(one) as url:
        words = ("--board-product", KEYS, "--board-image", command(program))
        outcome = paired.flash(url, *words)
        assert (outcome.status, one.flash) == (3, before), outcome.err
        assert says in outcome.err
        if "vault" in program:
            assert "The image command says: the vault is closed" in outcome.err
        again = paired.flash(url, *MAKING)
    assert (again.status, own(one)) == (0, keys_of(1)), again.err


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            replace(KEPT, region=Region(0x0800_0200, PAGE)),
            "check 5 failed, the board's own image would overlap",
        ),
        (
            replace(KEPT, region=Region(0x0800_0300, 0x100)),
            "check 7 failed, the board's own image has no pages",
        ),
        (
            replace(KEPT, region=Region(0x0800_F000, 0x2000)),
            "check 7 failed, the region of the board's own",
        ),
        (replace(KEPT, chip_id=0x414), "check 7 failed, the board's own image is for another chip"),
    ],
    ids=["overlap", "same page", "outside", "other chip"],
)
def test_an_image_without_a_place_is_refused(paired: Workshop, changed: Product, says: str) -> None:
    """A region that does not suit the program or the board is refused, and the command does not run."""
    paired.decide(unpair_call(KEYS))
    paired.decide(pair_call(changed))
    outcome = flash(paired, one := board(1))
    assert outcome.status == 3, outcome.err
    assert says in outcome.err
    assert (set(one.flash), calls()) == ({0xFF}, 0)


def test_an_unpaired_product_is_refused(paired: Workshop) -> None:
    """A product that is no longer paired is refused before a port is opened."""
    paired.decide(unpair_call(KEYS))
    outcome = paired.flash("socket://localhost:1", *MAKING)
    assert outcome.status == 3
    assert f"the product {KEYS}, whose region the image needs, is no longer paired" in outcome.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--board-product", KEYS), "--board-image COMMAND"),
        (("--board-image", "true"), "--board-product NAME"),
        (("--board-product", PRODUCT, "--board-image", "true"), "cannot have the same product"),
        (("--board-product", KEYS, "--board-image", "no-such-program"), "no program 'no-such-program'"),
    ],
    ids=["command", "product", "same", "program"],
)
def test_incomplete_options_are_usage_errors(paired: Workshop, words: tuple[str, ...], says: str) -> None:
    """Missing options of a board's own image exit with status 2 before a board is contacted."""
    outcome = paired.flash("socket://localhost:1", *words)
    assert (outcome.status, says in outcome.err) == (2, True), outcome.err


def test_the_settings_of_the_bench_name_the_image(paired: Workshop) -> None:
    """``board_product`` and ``board_image`` in [bench] apply only to the product of the bench."""
    settings = paired.folder / "blockota.toml"
    text = settings.read_text()
    Path("maker.py").write_text(MAKER)
    own_image = f'board_product = "{KEYS}"\nboard_image = "{sys.executable} maker.py 1"\n'
    settings.write_text(f'{text}[bench]\nproduct = "{PRODUCT}"\n{own_image}')
    with serve_tcp(one := board(1)) as url:
        outcome = paired.run("flash", "--port", url)
    assert (outcome.status, own(one)) == (0, keys_of(1)), outcome.err
    settings.write_text(f'{text}[bench]\nproduct = "another"\n{own_image}')
    with serve_tcp(other := board(2)) as url:
        outcome = paired.flash(url)
    assert (outcome.status, set(own(other)), calls()) == (0, {0xFF}, 1), outcome.err


def test_boards_at_several_ports_get_their_own_images(paired: Workshop) -> None:
    """Boards that are flashed at the same time get different images."""
    boards = [board(number) for number in range(1, 4)]
    with ExitStack() as stack:
        ports = [word for one in boards for word in ("--port", stack.enter_context(serve_tcp(one)))]
        outcome = paired.run("flash", "--product", PRODUCT, *ports, *MAKING)
    assert outcome.status == 0, outcome.err
    assert [own(one) for one in boards] == [keys_of(number) for number in range(1, 4)]
    assert sorted(CALLS.read_text().split()) == [unique_id(number) for number in range(1, 4)]


def test_a_board_is_given_one_image_only(paired: Workshop) -> None:
    """The command that makes a board's own image runs once per board.

    While the flash has this image, even a new release does not run the command again.
    """
    one = board(1)
    first, second = flash(paired, one, "--version", "1.0.0"), flash(paired, one, "--json")
    assert (first.status, second.status, calls()) == (0, 0, 1), second.err
    assert second.json["results"][0]["boardImage"]["result"] == "already"
    assert (own(one), one.flash[:620]) == (keys_of(1), NEW.read_bytes())


def test_a_lost_image_needs_consent(paired: Workshop) -> None:
    """If a board no longer has its own image, `flash` refuses to make a second image without ``--new-board-image``."""
    assert flash(paired, board(1)).status == 0
    refused = flash(paired, one := board(1))
    assert (refused.status, set(one.flash), calls()) == (3, {0xFF}, 1)
    assert f"the image that was made for this board is lost ({KEYS})" in refused.err
    assert "(--new-board-image)" in refused.err
    allowed = flash(paired, one, "--new-board-image")
    assert (allowed.status, own(one), calls()) == (0, keys_of(1), 2), allowed.err


def test_foreign_contents_need_consent(paired: Workshop) -> None:
    """Unrecorded contents of the board's own region are replaced only with ``--replace-unknown``."""
    one = board(1, flash=bytes(OFFSET + 4).replace(b"\0", b"\xff") + b"theirs")
    refused = flash(paired, one)
    assert (refused.status, calls()) == (3, 0)
    assert "the place of the board's own image is not blank" in refused.err
    assert flash(paired, one, "--replace-unknown").status == 0
    assert own(one) == keys_of(1)
    assert set(own(one, PAGE)[64:]) == {0xFF}


def test_a_shorter_image_leaves_no_byte_of_the_old_contents(paired: Workshop) -> None:
    """The region after the board's own image is erased, so no byte of an earlier, longer image remains."""
    one = board(1, flash=b"\xff" * OFFSET + b"3" * PAGE)
    outcome = flash(paired, one, "--replace-unknown")
    assert (outcome.status, own(one, PAGE)) == (0, keys_of(1).ljust(PAGE, b"\xff")), outcome.err
    assert f"SHA-256 {hashlib.sha256(keys_of(1)).hexdigest()}, and erased bytes after it" in outcome.out + outcome.err


def test_a_new_image_is_made_when_asked(paired: Workshop) -> None:
    """``--new-board-image`` makes a new image, even if the board still has its earlier own image."""
    one = board(1)
    assert flash(paired, one).status == 0
    with serve_tcp(one) as url:
        words = ("--board-product", KEYS, "--board-image", command(MAKER, "2"), "--new-board-image")
        outcome = paired.flash(url, *words)
    assert (outcome.status, own(one, 128), calls()) == (0, keys_of(1, 2), 2), outcome.err


@pytest.mark.usefixtures("paired")
def test_a_watching_bench_makes_one_new_image_for_each_board() -> None:
    """``--watch --new-board-image`` makes only one new image for a board that is connected twice."""
    place, one = Jig(), board(1)
    with place.served() as url, running(*WORDS, *MAKING, "--watch", "--new-board-image", "--port", url) as work:
        work.wait_for("Put a board in")
        for line, connected in enumerate((one, board(2), one), start=1):
            place.put(connected)
            work.wait_for(f"Line {line} of the bench log")
            work.wait_for("Take the board out", times=line)
        work.interrupt()
        outcome = work.end()
    assert (calls(), own(one)) == (2, keys_of(1)), outcome.err


def test_a_new_image_of_a_run_without_own_images_is_refused(paired: Workshop) -> None:
    """``--new-board-image`` alone exits with status 2.

    ``--resume --new-board-image`` also exits with status 2 if the interrupted run did not write a board's own image.
    """
    alone = paired.flash("socket://localhost:1", "--new-board-image")
    assert (alone.status, "no new image can be made" in alone.err) == (2, True), alone.err
    without = paired.run("flash", "--resume", "--port", "socket://localhost:1", "--new-board-image")
    assert (without.status, "--board-image COMMAND" in without.err) == (2, True), without.err
    with serve_tcp(one := board(1, faults=Faults(power_cut_in_program=20))) as url:
        assert paired.flash(url).status == 4
        before = one.flash
        resumed = paired.run("flash", "--resume", "--port", url, *MAKING, "--new-board-image")
    assert (resumed.status, one.flash == before, calls()) == (2, True, 0), resumed.err
    assert "left no incomplete image of the board's own" in resumed.err


def test_an_image_that_was_cut_off_is_lost(paired: Workshop) -> None:
    """If a run is interrupted while it writes the board's own image, the next run reports the image as lost.

    With ``--new-board-image``, a new image is made.
    """
    one = board(1, faults=Faults(power_cut_in_program=10))
    cut = flash(paired, one)
    assert (cut.status, one.flash[:620] == NEW.read_bytes(), calls()) == (4, False, 1)
    assert f"the image of {KEYS} is not proven, and the program was not changed" in cut.err
    for words in (("--resume",), ()):
        with serve_tcp(one) as url:
            lost = paired.run("flash", "--port", url, *(words or ("--product", PRODUCT)), *MAKING)
        assert (lost.status, "is lost" in lost.err, calls()) == (3, True, 1), lost.err
    with serve_tcp(one) as url:
        outcome = paired.run("flash", "--resume", "--port", url, *MAKING, "--new-board-image")
    assert (outcome.status, own(one), calls()) == (0, keys_of(1), 2), outcome.err
    assert one.flash.startswith(NEW.read_bytes())


def test_a_program_that_was_cut_off_is_resumed_with_its_image(paired: Workshop) -> None:
    """After an interruption while the program is written, ``--resume`` completes the program.

    The board's own image is not made again.
    """
    one = board(1, faults=Faults(power_cut_in_program=250))
    cut = flash(paired, one, "--no-stub")
    assert (cut.status, own(one), calls()) == (4, keys_of(1), 1), cut.err
    with serve_tcp(one) as url:
        outcome = paired.run("flash", "--resume", "--port", url, "--json")
        again = paired.run("flash", "--resume", "--port", url)
    assert (outcome.status, calls(), again.status) == (0, 1, 3), outcome.err
    assert outcome.json["results"][0]["boardImage"]["result"] == "already"
    assert (own(one), one.flash[:620]) == (keys_of(1), NEW.read_bytes())


def test_a_revoked_program_keeps_the_image(paired: Workshop) -> None:
    """If an interrupted release is revoked, the next run flashes another release.

    The board keeps its own image.
    """
    one = board(1, faults=Faults(power_cut_in_program=250))
    assert flash(paired, one, "--no-stub").status == 4
    paired.decide(revoke_call(PRODUCT, Version(1, 1, 0), reason="it overheats"))
    outcome = flash(paired, one)
    assert (outcome.status, own(one), calls()) == (0, keys_of(1), 1), outcome.err


@pytest.mark.usefixtures("paired")
def test_a_watching_bench_keeps_the_image_until_it_is_proven() -> None:
    """If a board was disconnected while its own image was written, ``--watch`` writes the same image again."""
    place = Jig()
    with place.served() as url, running(*WORDS, *MAKING, "--watch", "--port", url) as work:
        work.wait_for("Put a board in")
        place.put(one := board(1, faults=Faults(power_cut_in_program=10)))
        work.wait_for("put in again, this one is tried again")
        place.put(one)
        work.wait_for("Line 2 of the bench log")
        work.interrupt()
        outcome = work.end()
    assert "was made before the interruption is written again" in outcome.err
    assert (own(one), calls()) == (keys_of(1), 1), outcome.err
    assert one.flash.startswith(NEW.read_bytes())
    assert "board 1 again: 1 good, 0 bad" in outcome.err


def test_a_worn_page_says_no_byte_of_the_image(paired: Workshop) -> None:
    """If the board's own image cannot be proven, neither the error nor the log contains a byte of the flash."""
    one = board(1, faults=Faults(flipped_bit=REGION.start + 3))
    outcome = flash(paired, one)
    assert (outcome.status, set(one.flash[:PAGE])) == (4, {0xFF}), outcome.err
    assert "the bytes read back differ from the written ones" in outcome.err
    assert "reads 0x" not in outcome.err + "".join(line.raw.decode() for line in read_log(LOG))


def test_an_image_of_several_pages_is_written(paired: Workshop) -> None:
    """A board's own image may fill a region of several pages."""
    paired.decide(unpair_call(KEYS))
    paired.decide(pair_call(replace(KEPT, region=Region(REGION.start, 4 * PAGE))))
    with serve_tcp(one := board(1)) as url:
        outcome = paired.flash(url, "--board-product", KEYS, "--board-image", command(MAKER, "64"))
    assert outcome.status == 0, outcome.err
    assert own(one, 4 * PAGE) == keys_of(1, 64)
    assert (STATE / "board-images" / KEYS / f"{unique_id(1)}.json").exists()
