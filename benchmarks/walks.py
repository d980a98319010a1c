"""Count the modules through which a value passes while commands of a checkout run on a local chain.

``python -m benchmarks.structure --walks`` prints the figures.

The walk of a value consists of the modules with a function that receives or returns the value while a command runs. The
script traces the commands. It searches for the value in arguments and in returned or yielded values, and in the objects
inside them down to two levels.

The values are:

- image, published: the bytes of an image, in ``release publish``
- image, flashed: the bytes of the same image, in ``flash``
- release record: the SHA-256 of the image, in ``flash``
- proposal: the calldata of a proposal, in ``proposal sign``
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PRODUCT = "acme-thermo2"
IMAGE_SIZE = 8 << 10
TRACER = """
import json, os, sys, threading
needles = [bytes.fromhex(text) for text in sys.argv.pop(1).split(",")]
root, output, found = sys.argv.pop(1), sys.argv.pop(1), set()
folders = tuple(os.path.join(root, name) + os.sep for name in ("blockota", "firmware_host"))
WINDOW = 32

def carries(value, depth=2):
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        if any(needle in data for needle in needles if len(needle) == WINDOW):
            return True
        middle = len(data) // 2
        part = data[max(0, middle - 16):middle + 16]
        return len(part) == WINDOW and any(part in needle for needle in needles)
    if isinstance(value, str):
        return len(value) >= 64 and any(needle[:WINDOW].hex() in value.lower() for needle in needles)
    if depth == 0 or value is None or isinstance(value, (int, float, type)):
        return False
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(carries(one, depth - 1) for one in list(value)[:8])
    if isinstance(value, dict):
        return any(carries(one, depth - 1) for one in list(value.values())[:32])
    if type(value).__module__.startswith(("blockota", "firmware_host")):
        fields = getattr(value, "__dict__", None) or {
            name: getattr(value, name, None) for name in getattr(type(value), "__slots__", ())
        }
        return any(carries(one, depth - 1) for one in list(fields.values()))
    return False

def watch(frame, event, argument):
    code = frame.f_code
    if event not in ("call", "return") or not code.co_filename.startswith(folders):
        return
    if code.co_filename in found or code.co_name in ("<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"):
        return
    sys.setprofile(None)
    try:
        if event == "return":
            values = [argument]
        else:
            values = [frame.f_locals.get(name) for name in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]]
            values = [value for name, value in zip(code.co_varnames, values) if name not in ("self", "cls")]
        if any(map(carries, values)):
            found.add(code.co_filename)
    finally:
        sys.setprofile(watch)

from blockota.cli.main import main
threading.setprofile(watch)
sys.setprofile(watch)
try:
    main()
finally:
    sys.setprofile(None)
    with open(output, "w") as file:
        json.dump(sorted(os.path.relpath(path, root) for path in found), file)
"""
BOARD = """
import sys, time
from firmware_host.simulator import SimulatedBoard, serve_tcp
with serve_tcp(SimulatedBoard()) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def walks(root: Path) -> dict[str, float | str]:
    """Return for each value the number and the names of the modules through which it passes.

    Raises:
        subprocess.CalledProcessError: a command of the checkout failed; its output is printed on stderr.
    """
    with TemporaryDirectory() as name, local_chain(root, Path(name)):
        return measured(root, Path(name))


def measured(root: Path, folder: Path) -> dict[str, float | str]:
    """Publish, sign, execute and flash a release; trace each command for which values are listed."""
    image = folder / "image.bin"
    # The vector table must be plausible: a stack in RAM and an entry in flash. The other bytes are random, so that no
    # other value of the program contains them.
    image.write_bytes(bytes.fromhex("0050002009000008") + secrets.token_bytes(IMAGE_SIZE - 8))
    data = image.read_bytes()
    found = {}
    words = ("--product", PRODUCT, "--version", "1.0.0", "-o", "proposal.json")
    found["image, published"] = trace(root, folder, [data], "release", "publish", str(image), *words)

    proposal = json.loads((folder / "proposal.json").read_text())
    calldata = bytes.fromhex(find_calldata(proposal).removeprefix("0x"))
    sign = ("proposal", "sign", "proposal.json", "--yes", "--key")
    found["proposal, signed"] = trace(root, folder, [calldata], *sign, "dev:1")
    run(root, folder, *sign, "dev:2")
    run(root, folder, "proposal", "execute", "proposal.json", "--key", "dev:0")

    digest = hashlib.sha256(data).digest()
    for name, needle in (("image, flashed", data), ("release record, flashed", digest)):
        with board(root) as url:
            found[name] = trace(root, folder, [needle], "flash", "--product", PRODUCT, "--port", url)
    figures: dict[str, float | str] = {f"modules on the walk: {name}": len(modules) for name, modules in found.items()}
    return figures | {f"walk: {name}": " ".join(map(short, modules)) for name, modules in found.items()}


def find_calldata(proposal: object) -> str:
    """Return the calldata of a proposal: the longest hexadecimal text in its file."""
    texts: list[str] = []
    pending = [proposal]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, dict):
            pending += one.values()
        elif isinstance(one, list):
            pending += one
    return max((text for text in texts if text.startswith("0x")), key=len)


def short(path: str) -> str:
    """Return a module's name as it is printed."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__").removeprefix("blockota.")


def trace(root: Path, folder: Path, needles: list[bytes], *words: str) -> list[str]:
    """Run a command with the tracer; return the source files whose functions handled one of the byte strings."""
    output = folder / "modules.json"
    shown = ",".join(needle.hex() for needle in needles)
    start(root, folder, "-c", TRACER, shown, str(root), str(output), *words)
    found: list[str] = json.loads(output.read_text())
    return found


def run(root: Path, folder: Path, *words: str) -> None:
    """Run a command of the checkout."""
    start(root, folder, "-m", "blockota", *words)


def start(root: Path, folder: Path, *words: str) -> None:
    """Start the checkout's Python in a folder; its output is shown only if it fails."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(root), capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        done.check_returncode()


def environment(root: Path) -> dict[str, str]:
    """Return an environment in which Python imports the checkout's packages before installed ones."""
    return os.environ | {"PYTHONPATH": str(root)}


@contextmanager
def board(root: Path) -> Iterator[str]:
    """Start a blank simulated board of the checkout on a TCP port; yield its URL."""
    command = [sys.executable, "-c", BOARD]
    with subprocess.Popen(
        command, env=environment(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.communicate()


@contextmanager
def local_chain(root: Path, folder: Path) -> Iterator[None]:
    """Run the checkout's ``dev up``, which starts a chain with a Safe, the contracts and a paired product."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    run(root, folder, "dev", "up", "--port", port)
    try:
        yield
    finally:
        run(root, folder, "dev", "down", "--port", port)
