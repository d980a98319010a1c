"""The part of ``make power`` on QEMU's micro:bit, whose flash controller is simulated by QEMU instead of this project.

The harness stops the processor at a random instant, saves the flash and kills QEMU. QEMU does not simulate torn pages.
In three of four cases, the harness therefore overwrites the page that the interrupted step would have written, before
the next start.
"""

from __future__ import annotations

import hashlib
import random
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cbor2

from benchmarks.figure import Figure
from blockota.formats.delta import make_patch
from scripts.build_device import PROGRAMS, compile_program
from tests.support.agent_client import DELTA, GROUP_DEVICE, HEADER, PART, AgentClient
from tests.support.qemu import FLASH_SIZE, PAGE_SIZE, QemuBoard
from tests.support.qemu_images import LOADER, NEW, OLD, SLOT_0, SLOT_1, SLOT_SIZE, STATE, digest_of, flash_with

ROUNDS, DELTA_ROUNDS, CUTS, WORKERS = 250, 80, 5, 2
SCRATCH, JOURNAL_FORWARD, JOURNAL_BACK = 0x38000, 0x38400, 0x38C00
"""The flash map of ``device/ports/microbit/map.h``."""
CHECK_AT, MARKS_AT, REVERT = 32, 36, 5
"""Offsets in the state page, and the number of a mark (``device/loader/state.h``)."""
CLEAR = b"\xff" * 4


def on_qemu(seed: int) -> Iterator[Figure]:
    """Yield the results of random cuts while boards swap their slots, run an image on trial, and swap back."""
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    seeds = [draw.randrange(1 << 32) for _ in range(ROUNDS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        results = [*pool.map(partial(cut_one_board, LOADER), seeds)]
    faults = [f"{fault}, seed {one}" for one, (fault, _) in zip(seeds, results, strict=True) if fault]
    torn = sum(pages for _, pages in results)
    yield Figure("microbit in QEMU: power cuts", ROUNDS * CUTS, "", times=f"{torn} of them tore a page")
    name = "microbit in QEMU: devices that do not run a published image"
    yield Figure(name, len(faults), "", 0, times="; ".join(faults[:3]))
    with TemporaryDirectory() as folder:
        raw = Path(folder, "loader.bin")
        compile_program(replace(PROGRAMS["microbit-loader"], macros=("FAULT_DIGEST_DURING_SWAP",)), raw)
        faulty = raw.read_bytes()
    needed = next((number for number, one in enumerate(seeds, 1) if cut_one_board(faulty, one)[0]), ROUNDS + 1)
    yield Figure("microbit in QEMU: boards until the known error of a faulty loader is found", needed, "", ROUNDS)


def cut_one_board(loader: bytes, seed: int) -> tuple[str, int]:
    """Repeatedly cut the power of a board with a loader and a requested image.

    Returns:
        A description of the fault (empty without a fault), and the number of torn pages.
    """
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    digest = digest_of(NEW)
    contents = bytearray((loader.ljust(SLOT_0, b"\xff") + OLD).ljust(SLOT_1, b"\xff") + NEW)
    contents += b"\xff" * (STATE - len(contents)) + digest + zlib.crc32(digest).to_bytes(4, "little")
    first = bytes(contents).ljust(FLASH_SIZE, b"\xff")
    torn = 0
    with TemporaryDirectory() as folder, QemuBoard(Path(folder), first) as board:
        # A first exchange without cuts shows how long one takes on this computer.
        board.wait_until_ready(1)
        board.cut(lambda _: first)
        began = time.perf_counter()
        board.wait_until_ready(2)
        longest = 1.3 * (time.perf_counter() - began)
        board.cut(lambda _: first)
        for _ in range(CUTS):
            time.sleep(draw.uniform(0, longest))
            pages: list[int] = []
            board.cut(partial(_torn, draw=draw, pages=pages))
            torn += len(pages)
        try:
            board.wait_until_ready(board.boots)
        except TimeoutError:
            return "it runs nothing", torn
        flash = board.cut()
    image = flash[SLOT_0 : SLOT_0 + SLOT_SIZE]
    return ("" if image.startswith((OLD, NEW)) else "it runs another image"), torn


def on_qemu_with_deltas(seed: int) -> Iterator[Figure]:
    """Yield the results of random cuts while the agent builds a new image from its own image and a patch."""
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    seeds = [draw.randrange(1 << 32) for _ in range(DELTA_ROUNDS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        results = [*pool.map(cut_one_delta, seeds)]
    faults = [f"{fault}, seed {one}" for one, fault in zip(seeds, results, strict=True) if fault]
    yield Figure("microbit in QEMU: power cuts while a delta is applied", DELTA_ROUNDS * CUTS, "")
    name = "microbit in QEMU: devices that then do not run their image, or refuse the delta"
    yield Figure(name, len(faults), "", 0, times="; ".join(faults[:3]))


def cut_one_delta(seed: int) -> str:
    """Repeatedly cut the power of a board that applies a patch; return the fault, or an empty text."""
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    _, patch = make_patch(OLD, NEW)
    sha, base = hashlib.sha256(NEW).digest(), hashlib.sha256(OLD).digest()
    body = cbor2.dumps({"off": 0, "data": patch[:PART], "len": len(patch), "size": len(NEW), "sha": sha, "base": base})
    request = HEADER.pack(8 | 2, 0, len(body), GROUP_DEVICE, 0, DELTA) + body
    with TemporaryDirectory() as folder, QemuBoard(Path(folder), flash_with(OLD)) as board:
        board.wait_until_ready(1)
        began = time.perf_counter()
        with AgentClient(board) as client:
            client.send_delta(OLD, patch, NEW)
        longest = 1.2 * (time.perf_counter() - began)
        for _ in range(CUTS):
            with AgentClient(board) as client:
                client.send(request)
                time.sleep(draw.triangular(0, longest, 0.4 * longest))  # the flash is written in the middle
                boots = board.boots
                board.cut()
            try:
                board.wait_until_ready(boots + 1)
            except TimeoutError:
                return "it runs nothing"
        # A client that opens the port drops what the board had sent before the cut.
        with AgentClient(board) as client:
            if client.identity()["digest"] != digest_of(OLD):
                return "it runs another image"
            answer = client.send_delta(OLD, patch, NEW)
        flash = board.cut()
    is_made = answer.get("match") is True and flash[SLOT_1:].startswith(NEW) and flash[SLOT_0:].startswith(OLD)
    return "" if is_made else f"the delta fails: {answer}"


def _torn(flash: bytes, *, draw: random.Random, pages: list[int]) -> bytes:
    """In three of four cases, overwrite the page that a swap writes next, and append its address to `pages`."""
    page = _page_in_progress(flash)
    if page is None or draw.random() < 1 / 4:
        return flash
    pages.append(page)
    content = draw.choice((draw.randbytes(PAGE_SIZE), b"\xff" * 512 + draw.randbytes(512), bytes(PAGE_SIZE)))
    return flash[:page] + content + flash[page + PAGE_SIZE :]


def _page_in_progress(flash: bytes) -> int | None:
    """Return the page that the next step of a swap writes; None if no swap is in progress."""
    marks = [flash[STATE + MARKS_AT + 4 * mark :][:4] != CLEAR for mark in range(REVERT + 1)]
    check = int.from_bytes(flash[STATE + CHECK_AT :][:4], "little")
    if check != zlib.crc32(flash[STATE : STATE + CHECK_AT]) or (marks[0] and not marks[REVERT]):
        return None
    journal = JOURNAL_BACK if marks[REVERT] else JOURNAL_FORWARD
    for number, page in enumerate(range(0, SLOT_SIZE, PAGE_SIZE)):
        first, second = SLOT_0 + page, SLOT_1 + page
        words = [flash[journal + 4 * (3 * number + step) :][:4] != CLEAR for step in range(3)]
        is_equal = flash[first : first + PAGE_SIZE] == flash[second : second + PAGE_SIZE]
        if not words[2] and not (is_equal and not any(words)):
            # A mark follows its step, and later marks count for the earlier ones.
            return (SCRATCH, first, second)[words.index(False) if not words[1] else 2]
    return None
