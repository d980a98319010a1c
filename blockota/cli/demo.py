"""``blockota demo``: publish and flash in a temporary folder, with the commands that a user would type."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from blockota.cli.layout import print_sentence
from blockota.cli.session import Session, with_session
from blockota.errors import BlockOTAError, UsageError

_IMAGES = Path("examples/bluepill/images")
_PRODUCT = "acme-thermo2"
"""The product of `blockota dev up`."""
_REFUSED = 3
_RESULT = re.compile(r"(✓ (?P<number>[ \d]\d  )?|board says: )")
"""The beginning of a line that states a result, with the number of a check that passed."""


@click.command()
@click.option("--keep", is_flag=True, help="Keep the folder of the demonstration.")
@click.option("--verbose", is_flag=True, help="Print the whole output of each command.")
@with_session
def demo(session: Session, /, *, keep: bool, verbose: bool) -> None:
    """Publish two releases, flash a simulated board twice, and have a tampered image refused.

    The demonstration runs in a temporary folder, on its own local chain. It prints the commands and their results.

    \b
    Example:  blockota demo
    """
    folders = (Path.cwd(), Path(__file__).resolve().parents[2])
    images = next((folder / _IMAGES for folder in folders if (folder / _IMAGES).is_dir()), None)
    if images is None:
        raise UsageError(
            "the example images are missing", why=f"{_IMAGES} is not here", remedy="run `demo` in a clone of BlockOTA"
        )
    folder = Path(tempfile.mkdtemp(prefix="blockota-demo-"))
    walk = _Walk(session, folder, is_verbose=verbose)
    try:
        _publish_and_flash(walk, images)
    finally:
        walk.stop_chain()  # the node would outlive this process
        if keep:
            session.note(f"The folder of the demonstration is {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    session.result({"steps": walk.steps}, lambda: session.done("the demonstration is complete"))


class _Walk:
    """Runs commands in the folder of the demonstration, prints them with their results, and records their output."""

    def __init__(self, session: Session, folder: Path, *, is_verbose: bool) -> None:
        from blockota.chain.local import free_port

        self.session, self.folder, self.port, self.is_verbose = session, folder, free_port(), is_verbose
        self.steps: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        """Print the heading of a part of the demonstration, unless the result is JSON."""
        if not self.session.as_json:
            self.session.out.print()
            print_sentence(self.session.out, text, style="bold")

    def run(self, *words: str, expect: int = 0, result: bool = True) -> None:
        """Run ``blockota``, print the lines that state a result unless `result` is False, and check its exit status."""
        self.say(f"blockota {' '.join(words)}", mark="$ ", style="bold cyan")
        done = subprocess.run(
            [sys.executable, "-m", "blockota", *words],
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        self.steps.append({"command": ["blockota", *words], "exitStatus": done.returncode, "output": done.stdout})
        for line in done.stdout.splitlines():
            found = _RESULT.match(line)
            if self.is_verbose or (result and found and not found["number"]):
                mark = found[0] if found else ""
                self.say(line.removeprefix(mark), mark=mark, style="green")
        if done.returncode:
            self.say(done.stderr.strip().splitlines()[-1])
            self.say(f"(exit status {done.returncode})")
        if done.returncode != expect:
            why = done.stderr.strip(" .\n")
            raise BlockOTAError("the demonstration failed", why=why, remedy="run that command by hand")

    def stop_chain(self) -> None:
        """Stop the local chain of the demonstration."""
        from blockota.chain.local import LocalChain

        LocalChain(self.folder / ".blockota", self.port).stop()

    def say(self, line: str, *, mark: str = "", style: str = "") -> None:
        """Print a line of text after a mark, unless the result is JSON."""
        if not self.session.as_json:
            print_sentence(self.session.out, line, mark=mark, mark_style=style)


def _publish_and_flash(walk: _Walk, images: Path) -> None:
    walk.heading("A local chain: a 2-of-3 Safe, the contract it owns, one product")
    walk.run("dev", "up", "--port", str(walk.port))
    _publish(walk, images, version="1.0.0")
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


def _publish(walk: _Walk, images: Path, *, version: str) -> None:
    file = f"{version}.json"
    walk.heading(f"The vendor publishes {version}: one proposes, two owners sign, anyone executes")
    words = ("--product", _PRODUCT, "--version", version, "-o", file)
    image = shutil.copy(images / f"bluepill-{version}.bin", walk.folder)
    walk.run("release", "publish", Path(image).name, *words)
    walk.run("proposal", "sign", file, "--key", "dev:1", "--yes", result=False)
    walk.run("proposal", "sign", file, "--key", "dev:2", "--yes", result=False)
    walk.run("proposal", "execute", file, "--key", "dev:0")


def _flash(walk: _Walk, port: str, *options: str, expect: int = 0) -> None:
    walk.run("flash", "--product", _PRODUCT, "--port", port, *options, expect=expect)


def _tamper(store: Path, copy: Path, *, image: Path) -> None:
    """Copy a store, and change one byte of an image's block in the copy."""
    from blockota.formats.cid import cid_of

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
def _simulated_board(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "firmware_host.simulator", "--tcp", "0", "--flash", str(folder / "board.flash")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment()
    ) as board:
        try:
            yield board.stdout.readline().strip() if board.stdout else ""
        finally:
            board.send_signal(signal.SIGTERM)


def _environment() -> dict[str, str]:
    """Return the environment without the user's BLOCKOTA_* settings, and with this package on the module path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BLOCKOTA_")}
    here = str(Path(__file__).resolve().parents[2])
    return kept | {"PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join(filter(None, (here, kept.get("PYTHONPATH"))))}
