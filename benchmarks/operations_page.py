"""Measure the operations page: ``python -m benchmarks.operations_page [--quick] [--json]``.

The archive contains 1,000,000 entries of 1,000 devices and 10,000 events of a chain; 100,000 of the entries are
warnings. With ``--quick``, the archive contains a tenth of these entries and events. The pages are requested over HTTP
from a running operations room on a local chain.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit
from uuid import UUID

from benchmarks.figure import Figure, folder_on_disk, options, report
from blockota.chain import Chain
from blockota.chain.local import find_anvil, free_port
from blockota.deployment import LOCAL_CHAIN_ID
from blockota.keys import dev_account
from blockota.model.receipt import EntryKind
from blockota.operations.archive import RoomArchive
from blockota.operations.opening import ARCHIVE_NAME
from tests.conftest import Cast, wait_for_chain
from tests.support.operations_room import RoomScene, make_scene, running_room
from tests.support.waiting import eventually

ENTRIES, QUICK_ENTRIES, DEVICES, HAPPENINGS = 1_000_000, 100_000, 1000, 10_000
RUNS, VIEWERS = 11, 50
PAGE_LIMIT, LIVE_LIMIT = 200.0, 1000.0
KEEPER = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
PAGES = (
    "/",
    "/warnings",
    "/warnings?q=256",
    "/warnings?status=all&page=20",
    "/warnings?status=all&q=device+77",
    "/warnings?status=all&q=nothing+has+this",
    "/devices",
    "/devices/256",
    "/updates",
    "/updates/1",
    "/requests",
    "/replicas",
    "/ledger",
    "/network",
    "/log",
    "/log?skip=10000",
    "/metrics",
)
_CHUNK = 50_000


def figures(entries: int) -> Iterator[Figure]:
    """Yield the milliseconds to load each page, and the milliseconds until all viewers have a new block's event."""
    with folder_on_disk() as folder, local_chain() as chain:
        cast = Cast(*(dev_account(number) for number in range(7)))
        scene = make_scene(chain, cast, folder, devices=20)
        with RoomArchive(folder / "room" / ARCHIVE_NAME) as archive:
            fill(archive, entries)
        where = f"with {entries:,} entries in SQLite"
        with running_room(scene.setup) as url:
            eventually(lambda: b"2 followed" in get(url, "/")[1], what="the logs")
            for path in PAGES:
                times = [get(url, path)[0] for _ in range(RUNS)]
                weight = len(get(url, path)[1])
                text = f"{where}; median of {RUNS}, at most {max(times):.0f} ms; {weight / 1000:.0f} kB"
                yield Figure(f"page {path}", statistics.median(times), "ms", PAGE_LIMIT, times=text)
            times = live_times(scene, url)
            text = f"from the block to the event at the last of {VIEWERS} viewers; {where}"
            yield Figure("live update", statistics.median(times), "ms", LIVE_LIMIT, times=text)


def fill(archive: RoomArchive, entries: int) -> None:
    """Fill an archive with log entries and chain events."""
    end = int(time.time())
    release = ("acme-thermo2", "1.1.0")
    for first in range(0, entries, _CHUNK):
        rows = []
        for number in range(first, min(first + _CHUNK, entries)):
            kind = EntryKind.WARNING if number % 10 == 0 else EntryKind.EVENT
            device, moment = 256 + number % DEVICES, end - (entries - number)
            text = f"temperature of device {number % DEVICES} is out of range (severity 5)"
            rows.append((KEEPER.bytes, number, moment, int(kind), device, *release, None, 1, text, b"raw" * 60))
        with archive.changing() as database:
            database.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    warnings = -(-entries // 10)
    happenings = [
        (1338, number << 20, number, end - number, "UpdateLedger", "Anchored", "log x", "anchored", bytes(32))
        for number in range(HAPPENINGS)
    ]
    running = [(256 + number, *release, "A", 0, end, 1, KEEPER.bytes, number) for number in range(20, DEVICES)]
    with archive.changing() as database:
        database.executemany("INSERT INTO happening VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", happenings)
        database.executemany("INSERT INTO running VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", running)
        database.executemany(
            "INSERT INTO counted VALUES (?, ?)",
            [(int(EntryKind.WARNING), warnings), (int(EntryKind.EVENT), entries - warnings)],
        )


def live_times(scene: RoomScene, url: str) -> list[float]:
    """Return for each of several blocks how many milliseconds pass until the last viewer has the block's event."""
    seen = [0] * VIEWERS
    stop = threading.Event()

    def view(number: int) -> None:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.request("GET", "/live")
        answer = connection.getresponse()
        while not stop.is_set():
            if answer.readline().startswith(b"event: changed"):
                seen[number] += 1

    threads = [threading.Thread(target=view, args=(number,), daemon=True) for number in range(VIEWERS)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    found = []
    for _ in range(5):
        time.sleep(1)
        before = list(seen)
        scene.city.chain.mine()
        began = time.perf_counter()
        while any(now <= then for now, then in zip(seen, before, strict=True)):
            time.sleep(0.005)
        found.append((time.perf_counter() - began) * 1000)
    stop.set()
    return found


def get(url: str, path: str) -> tuple[float, bytes]:
    """Return the milliseconds until an answer arrived, and its body."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    began = time.perf_counter()
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return (time.perf_counter() - began) * 1000, body


@contextmanager
def local_chain() -> Iterator[Chain]:
    """Run an anvil chain."""
    port = free_port()
    command = [str(find_anvil()), "--chain-id", str(LOCAL_CHAIN_ID), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield wait_for_chain(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


if __name__ == "__main__":
    chosen = options(__doc__ or "")
    sys.exit(report(figures(QUICK_ENTRIES if chosen.quick else ENTRIES)))
