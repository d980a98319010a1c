"""The benchmarks detect bad runs. The counts of faults are zero in a good run, and greater than zero in a bad run."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from benchmarks.boards import board
from benchmarks.clients import Task, crowd
from benchmarks.commands import process_figures
from benchmarks.figure import Figure, duration, in_turns, report, throughput
from benchmarks.flashing import SCENES, compared
from firmware_host.simulator import PROFILES
from tests.support.fetch_samples import BLOCKS, IMAGE, ROOT
from tests.support.hostile_gateway import Server, flips_bit, honest, serving

CLIENTS = 4
SHA256 = hashlib.sha256(IMAGE).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not log requests."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library names it so
        """Log nothing."""


@contextmanager
def plain_files(folder: Path) -> Iterator[str]:
    """Serve the image as a plain file, and a corrupted copy, as nginx does in the benchmark."""
    (folder / "right").write_bytes(IMAGE)
    (folder / "wrong").write_bytes(IMAGE[:-1] + b"x")
    with Server(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def plain_task(url: str, name: str, *, is_checked: bool) -> Task:
    """Return the task of downloading a plain file, with or without verification."""
    return Task(url, len(IMAGE), SHA256, cid=str(ROOT), path=f"/{name}", is_checked=is_checked)


def test_clients_accept_the_published_copy_and_nothing_is_unverified(tmp_path: Path) -> None:
    """All clients accept a correct image, and the count of unverified bytes is zero."""
    with serving(BLOCKS) as gateway, crowd(tmp_path, clients=CLIENTS) as clients:
        outcome = clients.fetch(Task(gateway.url, len(IMAGE), SHA256, cid=str(ROOT)))
    assert (len(outcome.times), outcome.refusals, outcome.unverified) == (CLIENTS, [], 0)


@pytest.mark.parametrize("place", [0.3, 0.999], ids=["early", "late"])
def test_clients_refuse_a_corrupted_copy(tmp_path: Path, place: float) -> None:
    """All clients refuse an image with a flipped bit, and the count of unverified bytes is zero."""
    with serving(BLOCKS, flips_bit(place)) as lying, crowd(tmp_path, clients=CLIENTS) as clients:
        outcome = clients.fetch(Task(lying.url, len(IMAGE), SHA256, cid=str(ROOT)))
        assert (outcome.times, len(outcome.refusals), outcome.unverified) == ([], CLIENTS, 0)
        assert all("wrong data" in refusal for refusal in outcome.refusals)
        lying.vice = honest
        again = clients.fetch(Task(lying.url, len(IMAGE), SHA256, cid=str(ROOT)))
    assert (len(again.times), again.refusals, again.unverified) == (CLIENTS, [], 0)


def test_what_is_accepted_unverified_is_counted(tmp_path: Path) -> None:
    """If clients accept a corrupted copy without verification, all of its bytes count as unverified."""
    with plain_files(tmp_path) as url, crowd(tmp_path, clients=CLIENTS) as clients:
        for name, counted in (("wrong", CLIENTS * len(IMAGE)), ("right", 0)):
            outcome = clients.fetch(plain_task(url, name, is_checked=False))
            assert (len(outcome.times), outcome.refusals, outcome.unverified) == (CLIENTS, [], counted)


def test_clients_of_the_plain_file_check_it_as_well(tmp_path: Path) -> None:
    """The clients that download a plain file also refuse a corrupted copy."""
    with plain_files(tmp_path) as url, crowd(tmp_path, clients=CLIENTS) as clients:
        refused = clients.fetch(plain_task(url, "wrong", is_checked=True))
        accepted = clients.fetch(plain_task(url, "right", is_checked=True))
    assert (refused.times, len(refused.refusals), refused.unverified) == ([], CLIENTS, 0)
    assert (len(accepted.times), accepted.refusals, accepted.unverified) == (CLIENTS, [], 0)


def test_turns_alternate_and_the_first_does_not_count() -> None:
    """Two measured operations change their order after each pair of runs; the first pair is not counted."""
    done: list[str] = []

    def way(name: str, seconds: float) -> float:
        done.append(name)
        return seconds * (100 if len(done) <= 4 else 1)

    pairs = in_turns(lambda: way("ours", 2), lambda: way("theirs", 1), runs=2, between=lambda: done.append("|"))
    assert "".join(done) == "theirs|ours|ours|theirs|theirs|ours|"
    assert pairs == [(2, 1), (2, 1)]


MET = {
    "half": throughput("put", [(2.0, 1.0), (4.0, 1.0), (1.0, 1.0)], at_least=50, times=""),
    "just": duration("push", [(3.0, 2.0)], at_most=150, times=""),
    "none": Figure("unverified", 0, "bytes", 0),
}
MISSED = {
    "less": throughput("put", [(2.0, 1.0), (4.0, 1.0), (4.0, 1.0)], at_least=50, times=""),
    "slower": duration("push", [(3.1, 2.0)], at_most=150, times=""),
    "one": Figure("unverified", 1, "bytes", 0),
}


@pytest.mark.parametrize("name", MET)
def test_a_figure_may_reach_its_limit(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark figure that equals its limit passes."""
    assert report([MET[name]]) == 0
    assert '"met": true' in capsys.readouterr().out


@pytest.mark.parametrize("name", MISSED)
def test_a_figure_that_misses_its_limit_fails_the_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A single benchmark figure that misses its limit makes the exit status 1."""
    assert report([*MET.values(), MISSED[name]]) == 1
    assert capsys.readouterr().out.count('"met": false') == 1


@pytest.mark.parametrize(("seconds", "is_met"), [(6.4, True), (6.6, False)])
def test_flashing_is_compared_with_stm32flash(seconds: float, is_met: bool) -> None:  # noqa: FBT001
    """The figure of a flashing benchmark is the median ratio of our time to stm32flash's; the first limit is 65 %."""
    figure = compared(SCENES[0], [(seconds, 10.0), (1.0, 10.0), (99.0, 10.0)])
    assert figure.value == pytest.approx(10 * seconds)
    assert figure.limit == 65
    assert figure.is_met == is_met


@pytest.mark.parametrize("part", ["stm32f103c8", "stm32f407vg"])
def test_a_board_with_a_short_image_can_be_flashed(part: str) -> None:
    """If a simulated board starts with contents shorter than its flash, the remaining bytes are erased."""
    with board(b"an older image", part=part, is_timed=False) as one:
        assert one.url.startswith("socket://")
        assert one.flash == b"an older image".ljust(PROFILES[part].flash_size, b"\xff")


def test_the_start_up_times_have_the_documented_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of the help, of a chain read, and of a flash run with an unchanged image are 0.2, 0.3 and 0.8 s."""
    monkeypatch.setattr("benchmarks.commands.start", lambda *_: None)
    for seconds, met in ((0.19, 3), (0.29, 2), (0.79, 1), (0.81, 0)):
        monkeypatch.setattr("benchmarks.commands.seconds", lambda *_, taken=seconds, **__: taken)
        figures = list(process_figures(runs=1))
        assert sum(figure.is_met for figure in figures) == met
        assert len(figures) == 3


def test_a_part_that_fails_keeps_the_other_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """If one benchmark fails, its output is shown, and the figures of the other benchmarks are reported."""

    def broken() -> Iterator[Figure]:
        yield MET["half"]
        subprocess.run(["sh", "-c", "echo no room; exit 3"], check=True, capture_output=True)

    assert report(broken(), [MET["none"]]) == 1
    printed = capsys.readouterr()
    assert printed.out.count('"met": true') == 2
    assert "put: 50 % (≥ 50 %: met)" in printed.out
    assert "Measuring broken failed" in printed.err
    assert "no room" in printed.err
