"""Measure what a device with a secure element does: ``python -m benchmarks.device_chip`` (needs gcc-arm-none-eabi).

The times are those of a simulated STM32F103 at 24 MHz with 1.3 cycles for each instruction. Each command of the secure
element takes its longest time (``limits.toml``). I2C transfers take no simulated time. The gateway checks randomly
drawn sectors. The script computes the probability that these checks find a spoiled page, and also measures it.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figure import Figure, options, report
from blockota.gateway.faces.smp.sectors import draw_pages
from firmware_host.simulator.line import TimeModel
from scripts.build_device import PROGRAMS, compile_program, sign
from tests.support.agent_client import EVENTS, GROUP_DEVICE
from tests.support.board_agent import SECTORS, SESSION, BoardAgent
from tests.support.host_device import digest_of, hashed_size

PAGE, PAGES, ASKED, CHECKS, SHARE = 1024, 64, 8, 35, 0.99
"""The size of a page in bytes; the number of pages of an image, one of which is spoiled; the number of pages that one
check asks for; the number of checks within which the spoiled page is found, and the least probability of this."""
DRAWN, BOARDS, SLACK = 20_000, 40, 0.002
LARGEST = 27_776
"""Bytes that the digest of an image of 28 KiB covers, as in `benchmarks.power`."""
PROGRAM_END = 9 * PAGE
"""Where the random bytes begin: an agent whose own code is spoiled would rather crash than answer."""
PROGRAM = "stm32f103-agent-1.0.0"
SPEED = TimeModel(cycles_per_instruction=1.3, now=lambda: 0.0, wait=lambda _: None)


def figures() -> Iterator[Figure]:
    """Yield the figures of the boot, of the sector checks, and of sessions and events."""
    with TemporaryDirectory() as folder:
        image = large_agent(Path(folder))
        yield from boots(image)
        yield from drawn_checks()
        yield from checks_on_boards(image, Path(folder))
    yield from commands(image)


def large_agent(folder: Path) -> bytes:
    """Return an agent followed by random bytes that almost fill the slot."""
    program, raw = PROGRAMS[PROGRAM], folder / "agent.bin"
    compile_program(program, raw)
    head = LARGEST - hashed_size((Path(__file__).parents[1] / "device" / "images" / f"{PROGRAM}.bin").read_bytes())
    raw.write_bytes(raw.read_bytes() + random.Random(1).randbytes(head))  # noqa: S311 - incompressible bytes
    assert program.signature  # noqa: S101 - it is in the table
    return sign(raw, program.port, program.signature)


def boots(image: bytes) -> Iterator[Figure]:
    """Yield the times from the reset to the start of an image, at the image's first boot and at a later boot."""
    board = BoardAgent(image, times=SPEED)
    size = f"{hashed_size(image):,} bytes"
    first, later = (board.seconds_to_image() for _ in range(2))
    yield Figure(f"boot with hash of {size} and secure element, known image", 1000 * later, "ms", 200)
    yield Figure(f"boot with hash of {size} and secure element, signature verified", 1000 * first, "ms", 200)


def drawn_checks() -> Iterator[Figure]:
    """Yield two percentages of cases in which the checks find a spoiled page: the computed one and the measured one."""
    computed = 1 - (1 - ASKED / PAGES) ** CHECKS
    found = sum(any(0 in draw_pages(PAGES * PAGE) for _ in range(CHECKS)) for _ in range(DRAWN))
    name = f"one spoiled page of {PAGES} is found by {CHECKS} checks of {ASKED} pages"
    yield Figure(f"{name}, computed", 100 * computed, "%", 100 * SHARE, is_minimum=True)
    # The draws are those of the gateway, and cannot be repeated: the limit leaves room for four standard deviations.
    drawn = f"{name}, {DRAWN:,} times the gateway's draw"
    yield Figure(drawn, 100 * found / DRAWN, "%", 100 * (SHARE - SLACK), is_minimum=True)


def checks_on_boards(image: bytes, folder: Path) -> Iterator[Figure]:
    """Spoil a page of each running board; yield how many checks at most were needed to find the page."""
    draw = random.Random(3)  # noqa: S311 - a draw that can be repeated
    content = image.ljust(-(-len(image) // PAGE) * PAGE, b"\xff")
    pages, needed = range(len(content) // PAGE), []
    for _ in range(BOARDS):
        board = BoardAgent(image, file=folder / "flash.bin")
        board.boot()
        board.spoil(draw.randrange(PROGRAM_END, len(image)))
        checks, is_found = 0, False
        while not is_found:
            nonce, asked = draw.randbytes(32), draw.sample(pages, ASKED)
            answer = board.ask(GROUP_DEVICE, SECTORS, body={"nonce": nonce, "sectors": bytes(asked)}, write=False)
            expected = nonce + b"".join(content[PAGE * page : PAGE * (page + 1)] for page in asked)
            is_found = answer["digest"] != hashlib.sha256(expected).digest()
            checks += 1
        needed.append(checks)
    name = f"checks until the agent betrays one spoiled page of {len(pages)}, the most of {BOARDS} boards"
    yield Figure(name, max(needed), "", CHECKS)


def commands(image: bytes) -> Iterator[Figure]:
    """Yield the durations of the board's commands that use the secure element."""
    board = BoardAgent(image, times=SPEED)
    for _ in range(4):
        board.boot()
    began = board.clock()
    board.ask(GROUP_DEVICE, SECTORS, body={"nonce": bytes(32), "sectors": bytes(range(ASKED))}, write=False)
    yield Figure(f"answer about {ASKED} pages with MAC", 1000 * (board.clock() - began), "ms")
    began = board.clock()
    board.ask(GROUP_DEVICE, SESSION, body={"nonce": bytes(32), "time": 1, "id": bytes(16)})
    yield Figure("begin of a session", 1000 * (board.clock() - began), "ms")
    began = board.clock()
    board.open(digest_of(image))
    yield Figure("session and offer", 1000 * (board.clock() - began), "ms")
    began = board.clock()
    board.ask(GROUP_DEVICE, EVENTS)
    yield Figure("four signed events", 1000 * (board.clock() - began), "ms")


if __name__ == "__main__":
    options(__doc__, has_quick=False)
    sys.exit(report(figures()))
