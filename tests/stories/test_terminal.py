"""The output on terminals of 80 and 120 columns: whole words, tables that fit, and no remains of progress bars."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from blockota.bindings.block_ota import BlockOTAContract, pair_call
from blockota.cli.main import run
from blockota.model.release import Product, Region
from blockota.vendor.propose import Reason, propose
from firmware_host.simulator import TimeModel, serve_tcp
from tests.conftest import IMAGES, Cast
from tests.stories.conftest import PRODUCT, execute_signed, furnished
from tests.stories.technicians import INTERRUPTED, board
from tests.support.networks import rpc
from tests.support.terminal import CTRL_C, ShownScreen, Terminal

LONG = "acme-thermostat-outdoor-probe-2"
OEM = "acme-industrial-instruments-ltd"
NEWEST = "65535.16777215.16777215"
"""The longest names of a product and an OEM, and the longest version."""
UNREACHABLE = "http://127.0.0.1:9/releases-of-acme/ipfs-trustless-gateway"
REASON = "the November release for all outdoor probes, with the fix of the watchdog that reset boards below -20 degrees"
BAR = "━"
OLD, NEW, LARGE = (str(IMAGES / f"bluepill-{version}.bin") for version in ("1.0.0", "1.1.0", "1.2.0"))


def answering(keys: dict[str, str]) -> Callable[[str], str]:
    """Return a watcher that presses keys when a line ends with given words.

    The watcher presses the keys once for each line.
    """
    answered: set[int] = set()

    def watch(screen: str) -> str:
        number = screen.count("\n")
        last = screen.rpartition("\n")[2]
        key = next((key for words, key in keys.items() if words in last), "")
        if not key or number in answered:
            return ""
        answered.add(number)
        return key

    return watch


def interrupting(is_time: Callable[[str], bool]) -> Callable[[str], str]:
    """Return a watcher that presses Ctrl-C once, as soon as `is_time` returns true for the screen."""
    keys = [CTRL_C]
    return lambda screen: keys.pop() if keys and is_time(screen) else ""


SIGNING = {"Type room": "room\n", "Type grown": "grown\n", "Sign this": "y\n"}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, templates: Path, cast: Cast) -> Iterator[Terminal]:
    """Yield a terminal in a folder with releases, proposals, agreements, a bench log and a transaction."""
    folder = tmp_path_factory.mktemp("office")
    with furnished(folder, templates, cast=cast) as chain:
        terminal = Terminal(folder)

        def succeeds(*words: str, watch: Callable[[str], str] | None = None) -> None:
            shown = terminal.run(*words, watch=watch)
            assert shown.status == 0, shown.text
            check_whole(shown)

        deployed = json.loads((folder / "deployments" / "1337.json").read_text())
        contract, now = BlockOTAContract(chain, deployed["contract"]), int(time.time())
        pairing = pair_call(Product(LONG, OEM, 0x410, Region(0x08000000, 1 << 16), minimum_version=None, paired=True))
        execute_signed(propose(contract, pairing, reason=Reason("a story", now, 3600)), chain, cast=cast)

        others = [(NEW, LONG, "65535.16777215.16777214"), (LARGE, LONG, NEWEST), (NEW, PRODUCT, "1.1.0")]
        also = [word for other in others for word in ("--also", *other)]
        words = ("--product", LONG, "--version", "65535.0.16777213", "--reason", REASON, "-o", "four.json")
        succeeds("release", "publish", OLD, *also, *words, "--metadata", f"url={UNREACHABLE}")
        for key in ("dev:1", "dev:2"):
            succeeds("proposal", "sign", "four.json", "--key", key, watch=answering(SIGNING))
        succeeds("proposal", "execute", "four.json", "--key", "dev:0")

        succeeds("replica", "propose", "--product", LONG, "--version", NEWEST, "--key", "dev:4")
        succeeds("replica", "accept", "1", "-o", "accept.json")
        for key in ("dev:1", "dev:2"):
            succeeds("proposal", "sign", "accept.json", "--key", key, watch=answering(SIGNING))
        succeeds("proposal", "execute", "accept.json", "--key", "dev:0")
        succeeds("replica", "announce", "1", UNREACHABLE, "--key", "dev:4")

        release = ("--product", PRODUCT, "--version", "1.1.0")
        succeeds("release", "revoke", *release, "--reason", REASON, "-o", "revoke-the-release-that-resets-boards.json")
        succeeds("product", "floor", LONG, NEWEST, "--nonce", "4", "--reason", REASON, "-o", "floor.json")
        rpc(chain, "evm_setAutomine", False)  # noqa: FBT003 - a parameter of the node
        offer = ("replica", "propose", *release, "--key", "dev:5")
        stopped = terminal.run(*offer, watch=interrupting(lambda screen: screen.endswith(".")))
        assert stopped.status == INTERRUPTED, stopped.text
        yield terminal


def check_whole(shown: ShownScreen) -> None:
    """Check that no line was wrapped, that no progress bar is left, and that the cursor is visible."""
    assert not shown.too_long
    assert BAR not in shown.text
    assert shown.is_cursor_visible


def bars(screen: str) -> int:
    """Return the number of lines with a progress bar."""
    return sum(BAR in line for line in screen.splitlines())


@contextmanager
def slow_boards() -> Iterator[tuple[str, str]]:
    """Serve two boards that take about a second to write an image, and yield their ports."""
    times = TimeModel(baud=460800)
    with serve_tcp(board(1, times=times)) as one, serve_tcp(board(2, times=times)) as other:
        yield one, other


@pytest.fixture(scope="module")
def flashed(office: Terminal) -> tuple[ShownScreen, int]:
    """Flash two boards at the same time, and then a board that is refused.

    Return the screen, and the largest number of bars on it.
    """
    most = 0

    def count(screen: str) -> str:
        nonlocal most
        most = max(most, bars(screen))
        return ""

    with slow_boards() as ports, serve_tcp(board(3, flash=b"other")) as third:
        words = [word for port in (*ports, third) for word in ("--port", port)]
        return office.run("flash", "--product", LONG, *words, watch=count), most


LISTS = (
    "product list",
    f"product show {LONG}",
    "release list",
    f"release show --product {LONG}",
    f"release verify {OLD}",
    "proposal list",
    "proposal show floor.json",
    "proposal simulate floor.json",
    "replica list --all",
    "replica check",
    "contract show",
    "safe owners",
    "dev status",
    "transaction list",
    "board chips",
    "board ports",
    "board log",
    "board list",
    "bench summary",
)


@pytest.mark.usefixtures("flashed")
@pytest.mark.parametrize("command", LISTS)
def test_lists_fit_the_terminal_and_break_between_words(office: Terminal, command: str) -> None:
    """A list has the same words on any terminal. The terminal wraps no line, and no word is cut."""
    complete = replace(office, columns=1000).run(*command.split())
    for columns in (80, 120):
        shown = replace(office, columns=columns).run(*command.split())
        check_whole(shown)
        assert shown.status == complete.status
        missing = {word for word in complete.words if len(word) <= columns // 2} - set(shown.words)
        assert not {word for word in missing if not word.replace(".", "").isdigit()}  # durations differ


def test_two_boards_leave_no_ghosts(flashed: tuple[ShownScreen, int]) -> None:
    """Two boards have their bars on the screen at the same time, and no bar remains at the end."""
    shown, most = flashed
    check_whole(shown)
    assert most == 2
    assert shown.status == 3
    assert "3 boards: 2 good, 1 bad" in shown.text


@pytest.mark.parametrize("columns", [80, 120])
def test_control_c_during_bars_leaves_a_clean_screen(office: Terminal, columns: int) -> None:
    """Ctrl-C removes both progress bars, and the ``^C`` that the terminal prints after the bars."""
    watch = interrupting(lambda screen: bars(screen) == 2)
    with slow_boards() as ports:
        words = [word for port in ports for word in ("--port", port)]
        shown = replace(office, columns=columns).run("flash", "--product", LONG, *words, watch=watch)
    check_whole(shown)
    assert shown.status == INTERRUPTED
    assert "^C" not in shown.text


def test_control_c_during_a_transfer_leaves_a_clean_screen(office: Terminal) -> None:
    """Ctrl-C while a flash is read into a file removes the bar, and leaves no file."""
    with slow_boards() as (port, _):
        words = ("board", "read", "--port", port, "-o", "flash.bin")
        shown = office.run(*words, watch=interrupting(lambda screen: BAR in screen))
    check_whole(shown)
    assert BAR in shown.raw
    assert shown.status == INTERRUPTED
    assert not (office.folder / "flash.bin").exists()


PLAIN = {"dumb": {"TERM": "dumb"}, "NO_COLOR": {"TERM": "xterm-256color", "NO_COLOR": "1"}}


def test_a_list_of_usual_releases_has_one_line_for_each(office: Terminal) -> None:
    """`release list` fits a terminal of 80 columns if names and versions are not long."""
    shown = office.run("release", "list", "--product", PRODUCT)
    assert len(shown.text.splitlines()) == 2, shown.text


@pytest.mark.parametrize("environment", PLAIN.values(), ids=PLAIN)
def test_a_plain_terminal_gets_no_escape_sequence(office: Terminal, environment: dict[str, str]) -> None:
    """A dumb terminal, and any terminal with NO_COLOR, gets neither bars nor escape sequences."""
    plain = replace(office, environment=environment)
    for command in (
        f"release fetch --product {LONG} -o app.bin --force",
        "release list",
        "release list --product typo",
    ):
        usual, shown = office.run(*command.split()), plain.run(*command.split())
        assert "\x1b" in usual.raw
        assert "\x1b" not in shown.raw
        assert shown.text == usual.text
        check_whole(shown)


def test_output_to_a_pipe_has_no_bar_and_no_escape_sequence(
    office: Terminal, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Output to a pipe has each sentence and row on one line, without bars and escape sequences."""
    monkeypatch.chdir(office.folder)
    for command in (f"release fetch --product {LONG} -o app.bin --force", "proposal list"):
        wide = replace(office, columns=1000).run(*command.split())
        capfd.readouterr()
        assert run(command.split()) == 0
        printed = capfd.readouterr()
        assert (printed.out + printed.err).split() == wide.words


def test_work_on_a_board_fits(office: Terminal) -> None:
    """The description of a board, and the question before an erase, break between words."""
    with serve_tcp(board(4, flash=b"other")) as port:
        for words in (("identify",), ("erase", "--all")):
            shown = office.run("board", *words, "--port", port, watch=answering({"Type the last 4": "0004\n"}))
            check_whole(shown)
            assert shown.status == 0, shown.text


def test_a_token_of_a_long_name_can_be_copied(office: Terminal) -> None:
    """The line for the token file is not wrapped, so it can be copied from the terminal as one line."""
    name = "plant-7-in-the-north-of-the-country"
    shown = office.run("repository", "token", name)
    (line,) = shown.too_long
    assert re.fullmatch(rf"line   {name} [0-9a-f]{{64}}", line)


def test_a_round_of_a_broker_fits(office: Terminal) -> None:
    """The steps of `broker sync` break between words."""
    shown = office.run("broker", "sync", "--key", "dev:4", "--announce", UNREACHABLE)
    check_whole(shown)
    assert shown.status == 0, shown.text
