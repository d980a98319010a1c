"""``blockota demo``: publish and flash in a temporary folder, with the commands that a user would type."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from blockota.cli.demo_city import LEAST, MOST, CityDemo
from blockota.cli.demo_page import BOARDS, register_boards, require_services, show_page
from blockota.cli.demo_walk import DemoWalk, demo_environment
from blockota.cli.parameters import NumberRange
from blockota.cli.session import Session, with_session
from blockota.errors import UsageError
from blockota.formats.cid import cid_of
from blockota.shutdown import stop_on_signals

_IMAGES = Path("examples/bluepill/images")
_PRODUCT = "acme-thermo2"
"""The product of `blockota dev up`."""
_REFUSED = 3


@click.command()
@click.option("--keep", is_flag=True, help="Keep the folder of the demonstration.")
@click.option("--page", is_flag=True, help="At the end, show the operations page of its devices until Ctrl-C.")
@click.option(
    "--city",
    type=NumberRange(LEAST, MOST),
    metavar="COUNT",
    help="Instead, update COUNT simulated devices of a city, and show the operations page until Ctrl-C.",
)
@click.option("--verbose", is_flag=True, help="Print the whole output of each command.")
@with_session
def demo(session: Session, /, *, keep: bool, page: bool, city: int | None, verbose: bool) -> None:
    """Publish two releases, flash a simulated board twice, and show that a tampered image is refused.

    The demonstration runs in a temporary folder, on its own local chain. It prints the commands and their results.

    \b
    Example:  blockota demo
              blockota demo --city 1000
    """
    if page and city:
        raise UsageError("--page and --city exclude each other", why="--city shows the page of its own devices")
    if page or city:
        require_services()

    folders = (Path.cwd(), Path(__file__).resolve().parents[2])
    images = next((folder / _IMAGES for folder in folders if (folder / _IMAGES).is_dir()), None)
    if images is None:
        raise UsageError(
            "the example images are missing", why=f"{_IMAGES} is not here", remedy="run `demo` in a clone of BlockOTA"
        )

    folder = Path(tempfile.mkdtemp(prefix="blockota-demo-"))
    walk = DemoWalk(session, folder, is_verbose=verbose)
    try:
        if city:
            CityDemo(walk, city).run(lambda version: _publish(walk, images, version=version))
        else:
            _publish_and_flash(walk, images, boards=BOARDS if page else ())
        if page:
            show_page(walk)
    finally:
        with stop_on_signals():  # a second Ctrl-C must not interrupt this
            walk.stop_chain()  # the node would outlive this process
        if keep:
            session.note(f"The folder of the demonstration is {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)

    session.result({"steps": walk.steps}, lambda: session.done("the demonstration is complete"))


def _publish_and_flash(walk: DemoWalk, images: Path, *, boards: Sequence[str]) -> None:
    """Run the demonstration.

    Args:
        walk: runs the commands.
        images: the folder with the images.
        boards: the unique ids of additional boards that are registered and flashed.
    """
    walk.heading("A local chain: a 2-of-3 Safe, the contract it owns, one product")
    walk.run("dev", "up", "--port", str(walk.port))
    if boards:
        register_boards(walk, boards)
    _publish(walk, images, version="1.0.0")

    for board in boards[1:]:
        with _simulated_board(walk.folder, board) as port:
            walk.heading(f"A technician flashes the board {board}")
            _flash(walk, port)
    with _simulated_board(walk.folder) as port:
        walk.heading("A technician flashes a simulated STM32F103")
        _flash(walk, port)
        _publish(walk, images, version="1.1.0")

        walk.heading("One byte of 1.1.0 is changed in a copy of the store: refused, nothing is erased")
        _tamper(walk.folder / ".blockota" / "store", walk.folder / "tampered", image=images / "bluepill-1.1.0.bin")
        before = _digest(walk.folder / "board.flash")
        _flash(walk, port, "--store", "file:tampered", expect=_REFUSED)
        is_unchanged = _digest(walk.folder / "board.flash") == before
        walk.say(f"The board's flash is {'unchanged' if is_unchanged else 'CHANGED'}.")

        walk.heading("The same from the original store")
        _flash(walk, port)

        walk.heading("Back to 1.0.0: refused, because the board has a newer release")
        _flash(walk, port, "--version", "1.0.0", expect=_REFUSED)


def _publish(walk: DemoWalk, images: Path, *, version: str) -> None:
    file = f"{version}.json"
    walk.heading(f"The vendor publishes {version}: one proposes, two owners sign, anyone executes")
    words = ("--product", _PRODUCT, "--version", version, "-o", file)
    image = shutil.copy(images / f"bluepill-{version}.bin", walk.folder)
    walk.run("release", "publish", Path(image).name, *words)
    walk.approve(file)


def _flash(walk: DemoWalk, port: str, *options: str, expect: int = 0) -> None:
    walk.run("flash", "--product", _PRODUCT, "--port", port, *options, expect=expect)


def _tamper(store: Path, copy: Path, *, image: Path) -> None:
    """Copy a store, and change one byte of an image in the copy."""
    shutil.copytree(store, copy)
    with image.open("rb") as stream:
        name = str(cid_of(stream))
    # An image of one block is stored under its own address; the address no longer matches after the change.
    block = next(copy.glob(f"blocks/*/{name}"))
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 1
    block.write_bytes(data)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def _simulated_board(folder: Path, unique_id: str = "") -> Iterator[str]:
    command = [sys.executable, "-m", "firmware_host.simulator", "--tcp", "0"]
    command += ["--flash", str(folder / f"board{unique_id}.flash")]
    if unique_id:
        command += ["--unique-id", unique_id]

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=demo_environment()
    ) as board:
        try:
            yield board.stdout.readline().strip() if board.stdout else ""
        finally:
            board.send_signal(signal.SIGTERM)
