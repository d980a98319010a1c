"""Compare block transfers of the LwM2M face with libcoap's coap-server: ``python -m benchmarks.fleet_lwm2m``.

libcoap's coap-client fetches 64 KiB from both servers, over the loopback interface and through a relay that delays each
exchange by 10 ms. The gateway's image port is served by a separate process.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.figure import Figure, in_turns
from blockota.gateway.faces.lwm2m.images import ImageBlocks, ImageSocket

SIZE, DELAY, TURNS = 64 * 1024, 0.010, 5
LIMITS = {64: 0.4, 1024: 0.05}
"""Seconds on the loopback interface, by the size of the blocks."""
RATIO = 1.1
CLIENT, SERVER = "coap-client-notls", "coap-server-notls"
LONGEST = 60


async def be_gateway(folder: Path, port: int) -> None:
    """Serve the images of a folder."""
    blocks = ImageBlocks(lambda digest: folder / digest.hex())
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: ImageSocket(blocks, lambda *_: None), local_addr=("127.0.0.1", port))
    print("ready", flush=True)
    await asyncio.Event().wait()


@contextmanager
def gateway(folder: Path) -> Iterator[int]:
    """Serve the gateway's image port in a separate process, and yield its port number."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.fleet_lwm2m", str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout:
                process.stdout.readline()
            yield port
        finally:
            process.terminate()


@contextmanager
def libcoap(image: Path) -> Iterator[int]:
    """Run libcoap's server with an image at ``/fw/…``, and yield its port."""
    port = free_port()
    with subprocess.Popen([SERVER, "-A", "127.0.0.1", "-p", str(port), "-d", "1", "-v", "0"]) as process:
        try:
            time.sleep(0.5)  # it prints nothing when it is ready
            command = [CLIENT, "-m", "put", "-b", "1024", "-f", str(image), f"coap://127.0.0.1:{port}/fw/{image.name}"]
            subprocess.run(command, check=True, timeout=LONGEST)
            yield port
        finally:
            process.terminate()


@contextmanager
def delayed(port: int) -> Iterator[int]:
    """Relay datagrams of one client at a time to a port, with half of the delay in each direction."""
    near, far = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    near.bind(("127.0.0.1", 0))
    far.connect(("127.0.0.1", port))
    client: list[tuple[str, int]] = []

    def forward() -> None:
        while data := near.recvfrom(4096):
            client[:] = [data[1]]
            time.sleep(DELAY / 2)
            far.send(data[0])

    def back() -> None:
        while data := far.recv(4096):
            time.sleep(DELAY / 2)
            near.sendto(data, client[0])

    for work in (forward, back):
        threading.Thread(target=work, daemon=True).start()
    yield near.getsockname()[1]  # the threads end with the process


def fetch(port: int, image: Path, block: int) -> float:
    """Fetch the image once, check it, and return the seconds."""
    copy = image.with_suffix(".copy")
    command = [CLIENT, "-b", str(block), "-o", str(copy), f"coap://127.0.0.1:{port}/fw/{image.name}"]
    began = time.monotonic()
    subprocess.run(command, check=True, timeout=LONGEST)
    seconds = time.monotonic() - began
    if copy.read_bytes() != image.read_bytes():
        raise SystemExit(f"port {port} serves other bytes")
    copy.unlink()
    return seconds


def free_port() -> int:
    """Return a free UDP port."""
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def figures() -> Iterator[Figure]:
    """Measure, and yield each figure."""
    content = random.Random(1).randbytes(SIZE)  # noqa: S311 - a filler
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        image = Path(name) / hashlib.sha256(content).hexdigest()
        image.write_bytes(content)
        ours, theirs = stack.enter_context(gateway(Path(name))), stack.enter_context(libcoap(image))
        slow, their_slow = stack.enter_context(delayed(ours)), stack.enter_context(delayed(theirs))
        for block, limit in LIMITS.items():
            pairs = in_turns(
                partial(fetch, ours, image, block),
                partial(fetch, theirs, image, block),
                runs=TURNS,
            )
            runs, other = zip(*pairs, strict=True)
            shown = f"coap-server {sorted(other)[TURNS // 2]:.3f} s"
            yield Figure(f"LwM2M, 64 KiB in blocks of {block}", sorted(runs)[TURNS // 2], "s", limit, times=shown)
            pairs = in_turns(
                partial(fetch, slow, image, block),
                partial(fetch, their_slow, image, block),
                runs=3,
            )
            ratios = sorted(one / two for one, two in pairs)
            shown = " · ".join(f"{one:.2f} s, coap-server {two:.2f} s" for one, two in pairs)
            yield Figure(f"the same with 10 ms an exchange, blocks of {block}", ratios[1], "x", RATIO, times=shown)


def main() -> int:
    """Measure, and return 1 if a limit is exceeded."""
    if len(sys.argv) > 1:
        asyncio.run(be_gateway(Path(sys.argv[1]), int(sys.argv[2])))
        return 0
    is_met = True
    for figure in figures():
        print(f"{figure.name}: {figure.value:.3f} {figure.unit}, limit {figure.limit} ({figure.times})", flush=True)
        is_met &= figure.is_met
    return int(not is_met)


if __name__ == "__main__":
    sys.exit(main())
