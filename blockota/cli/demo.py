"""``blockota demo``: the whole road once, with the commands that anybody would type."""

from __future__ import annotations

import hashlib
import os
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

from blockota.cli.dev import PRODUCT
from blockota.cli.session import Session, with_session
from blockota.errors import BlockOTAError, UsageError

_IMAGES = Path("examples/bluepill/images")
_REFUSED = 3


@click.command()
@click.option("--keep", is_flag=True, help="Leave the folder of the demonstration for a look around.")
@with_session
def demo(session: Session, /, *, keep: bool) -> None:
    """Publish two releases, flash a simulated board twice, and see a tampered image refused.

    It runs in a temporary folder with a chain of its own; nothing of yours is touched.

    \b
    Example:  blockota demo
    """
    images = _find_images()
    folder = Path(tempfile.mkdtemp(prefix="blockota-demo-"))
    walk = _Walk(session, folder)
    try:
        _walk(walk, images)
    finally:
        walk.stop_chain()
        if keep:
            session.note(f"The folder of the demonstration is {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    session.result({"steps": walk.steps}, lambda: session.done("the whole road was walked"))


class _Walk:
    """Runs commands in the demonstration's folder, shows them, and keeps what they returned."""

    def __init__(self, session: Session, folder: Path) -> None:
        from blockota.chain.local import free_port

        self.session, self.folder, self.port = session, folder, free_port()
        self.steps: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        if not self.session.as_json:
            self.say(f"\n[bold]{text}[/bold]")

    def run(self, *words: str, expect: int = 0, lines: slice = slice(None)) -> None:
        """Run ``blockota`` with these words, show those lines of what it prints, and compare its exit status."""
        self.say(f"[bold cyan]$[/bold cyan] blockota {' '.join(words)}")
        done = subprocess.run(
            [sys.executable, "-m", "blockota", *words],
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        self.steps.append({"command": ["blockota", *words], "exitStatus": done.returncode, "output": done.stdout})
        self.say("\n".join(done.stdout.splitlines()[lines]), markup=False)
        if done.returncode:
            self.say(f"{done.stderr.strip().splitlines()[-1]}\n(exit status {done.returncode})", markup=False)
        if done.returncode != expect:
            raise BlockOTAError("the demonstration failed", why=done.stderr.strip(), remedy="run that command by hand")

    def stop_chain(self) -> None:
        """Stop the demonstration's chain, whatever happened."""
        from blockota.chain.local import LocalChain

        LocalChain(self.folder / ".blockota", self.port).stop()

    def say(self, text: str, *, markup: bool = True) -> None:
        """Print something for people."""
        if text and not self.session.as_json:
            self.session.out.print(text, markup=markup)


def _walk(walk: _Walk, images: Path) -> None:
    walk.heading("A local chain: a 2-of-3 Safe, the contract it owns, one product")
    walk.run("dev", "up", "--port", str(walk.port))
    _publish(walk, images, version="1.0.0")
    with _simulated_board(walk.folder) as port:
        walk.heading("A technician flashes a simulated STM32F103")
        _flash(walk, port, version="1.0.0")
        _publish(walk, images, version="1.1.0")
        walk.heading("Somebody changes one byte of 1.1.0 in the store: refused, nothing is erased")
        _tamper(walk.folder / ".blockota" / "store", walk.folder / "tampered", image=images / "bluepill-1.1.0.bin")
        before = _digest(walk.folder / "board.flash")
        _flash(walk, port, "--store", "file:tampered", version="1.1.0", expect=_REFUSED)
        walk.say(f"The board's flash is {'as' if _digest(walk.folder / 'board.flash') == before else 'NOT as'} before.")
        walk.heading("The same from an honest store")
        _flash(walk, port, version="1.1.0")
        walk.heading("And back to 1.0.0: refused, the board is newer")
        _flash(walk, port, version="1.0.0", expect=_REFUSED)


def _publish(walk: _Walk, images: Path, *, version: str) -> None:
    file = f"{version}.json"
    walk.heading(f"The vendor publishes {version}: one proposes, two owners sign, anyone executes")
    walk.run(
        "release",
        "publish",
        str(images / f"bluepill-{version}.bin"),
        "--product",
        PRODUCT,
        "--version",
        version,
        "-o",
        file,
    )
    walk.run("proposal", "sign", file, "--key", "dev:1", "--yes")
    walk.run("proposal", "sign", file, "--key", "dev:2", "--yes", lines=slice(-1, None))
    walk.run("proposal", "execute", file, "--key", "dev:0")


def _flash(walk: _Walk, port: str, *options: str, version: str, expect: int = 0) -> None:
    walk.run("flash", "--product", PRODUCT, "--version", version, "--port", port, *options, expect=expect)


def _tamper(store: Path, copy: Path, *, image: Path) -> None:
    """Copy a store, and change one byte of the block that is an image."""
    from blockota.formats.cid import cid_of

    shutil.copytree(store, copy)
    with image.open("rb") as stream:
        name = str(cid_of(stream))
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
    """The environment without settings of the person's own, which the demonstration must not follow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BLOCKOTA_")}
    here = str(Path(__file__).resolve().parents[2])
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, (here, kept.get("PYTHONPATH"))))}


def _find_images() -> Path:
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (folder / _IMAGES).is_dir():
            return folder / _IMAGES
    raise UsageError(
        "the example images are missing", why=f"{_IMAGES} is not here", remedy="run the demo in a clone of BlockOTA"
    )
