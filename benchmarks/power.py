"""Cut the power of devices during updates, and check which image they run afterwards: ``make power``.

After the cuts, a device must start one of the update's two published images, without a changed byte. It must also
accept a further update. The seed is printed; ``python -m benchmarks.power SEED`` repeats the random cuts. The cuts are
also made with a loader that has a deliberate defect: it checks the digest of slot 1 during a swap of the slots. The
cuts must reveal this defect.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figure import Figure, report
from benchmarks.power_qemu import on_qemu, on_qemu_with_deltas
from firmware_host.simulator.emulator import EmulatedApplication
from firmware_host.simulator.faults import NO_FAULTS
from firmware_host.simulator.profiles import STM32F103C8
from firmware_host.simulator.silicon import Silicon
from scripts.build_device import PROGRAMS, compile_program, sign
from tests.support import board_device, host_device
from tests.support.agent_cuts import LOADERS, cut_update
from tests.support.agent_cuts import operations as operations_of_update
from tests.support.board_device import BoardDevice, board_images
from tests.support.host_device import built_host, hashed_size, host_images
from tests.support.power_cuts import SCENARIOS, Cut, Scenario, UpdatableDevice, find_fault, play

RANDOM_ON_HOST, RANDOM_ON_BOARD, DELTAS_ON_BOARD = 2000, 250, 300
EVERY = 50
"""On the simulated board, every 50th operation of each scenario is cut off."""
FAULTY_CUTS = 6
FAULTY = "FAULT_DIGEST_DURING_SWAP"
CYCLES_PER_INSTRUCTION = 1.3
TICK = 1e-4


@dataclass(frozen=True)
class Round:
    """One update with its cuts."""

    scenario: Scenario
    cuts: tuple[Cut, ...]


@dataclass
class Result:
    """What came of some rounds.

    Attributes:
        cuts: the number of cuts that happened.
        faults: the detected faults, each with its round.
    """

    cuts: int
    faults: list[str]


def on_this_computer(seed: int) -> Iterator[Figure]:
    """Yield the results of the loader compiled for this computer: all operations of all scenarios, and random cuts."""
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    with TemporaryDirectory() as folder:
        device, faulty, images = built_host(Path(folder)), built_host(Path(folder), FAULTY), host_images()
        counts = operations(device, images)
        rounds = [
            Round(scenario, (Cut(number, torn, seed),))
            for scenario in SCENARIOS
            for number in range(1, counts[scenario.name] + 1)
            for torn in draw.sample(host_device.TORN, 2)
        ]
        rounds += drawn(draw, counts, host_device.TORN, RANDOM_ON_HOST)
        result = judged(device, images, rounds)
        yield from _figures("host", result)
        yield Figure("host: operations that a flash controller would refuse", device.violations, "", 0)
        yield _found("host", judged(faulty, images, rounds[: counts[SCENARIOS[0].name] * 2 : 50]))


def on_the_simulated_stm32f103(seed: int) -> Iterator[Figure]:
    """Yield the results of the committed loader on the simulated board, with enumerated and random cuts."""
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    counts = operations(BoardDevice(), board_images())
    rounds = [
        Round(scenario, (Cut(number, draw.choice(board_device.TORN), seed),))
        for scenario in SCENARIOS
        for number in range(draw.randint(1, EVERY), counts[scenario.name] + 1, EVERY)
    ]
    rounds += drawn(draw, counts, board_device.TORN, RANDOM_ON_BOARD)
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        parts = [rounds[first::workers] for first in range(workers)]
        results = [*pool.map(partial(_judged_on_board, "loader"), parts)]
    yield from _figures("stm32f103", Result(sum(one.cuts for one in results), [*chain(*(r.faults for r in results))]))
    swaps = [Round(SCENARIOS[0], (Cut(number),)) for number in range(200, 200 * (FAULTY_CUTS + 1), 200)]
    yield _found("stm32f103", _judged_on_board("loader-faulty", swaps))


def on_the_simulated_stm32f103_with_deltas(seed: int) -> Iterator[Figure]:
    """Yield the results of boards whose agent makes the new image from a delta, with and without secure element.

    In two of three updates, the first cut happens while the agent applies the delta; in the third, anywhere. Up to two
    more cuts happen during recovery.
    """
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    updates = []
    for _ in range(DELTAS_ON_BOARD):
        loader = draw.choice(LOADERS)
        whole, made = operations_of_update(loader)
        limits = [draw.choice([whole, made, made]), *[made] * draw.randint(0, 2)]
        cuts = tuple(
            Cut(draw.randint(1, one), draw.choice(board_device.TORN), draw.randrange(1 << 32)) for one in limits
        )
        updates.append((loader, cuts))
    with ProcessPoolExecutor() as pool:
        results = [*pool.map(cut_update, *zip(*updates, strict=True), chunksize=10)]
    faults = [f"{fault}: {update}" for update, (fault, _) in zip(updates, results, strict=True) if fault]
    yield from _figures("stm32f103 with deltas", Result(sum(number for _, number in results), faults))


def the_loader(_seed: int) -> Iterator[Figure]:
    """Yield the size of the committed STM32F103 loader, and its durations in simulated time."""
    loader = board_device.committed("loader")
    yield Figure("stm32f103: loader", len(loader), "bytes", 4096)
    with TemporaryDirectory() as folder:
        name = "stm32f103-test-1.2.0"
        program, raw = PROGRAMS[name], Path(folder, "program.bin")
        assert program.signature  # noqa: S101 - it is in the table
        compile_program(replace(program, macros=('VERSION="1.2.0"', "PADDING=25900")), raw)
        long = sign(raw, program.port, program.signature)
    short = board_device.committed("test-1.0.0")
    times = {hashed_size(image): _boot_seconds(loader, image) for image in (short, long)}
    (small, quick), (large, slow) = times.items()
    each = (slow - quick) / (large - small)
    yield Figure("stm32f103: boot decision from the state words", 1000 * (quick - each * small), "ms", 5)
    yield Figure(f"stm32f103: whole boot with the hash of {large:,} bytes", 1000 * slow, "ms", 200)


PARTS: tuple[Callable[[int], Iterator[Figure]], ...] = (
    *(the_loader, on_this_computer, on_the_simulated_stm32f103, on_the_simulated_stm32f103_with_deltas),
    *(on_qemu, on_qemu_with_deltas),
)


def operations(device: UpdatableDevice, images: dict[str, bytes]) -> dict[str, int]:
    """Return the number of flash operations of each scenario, by scenario name."""
    counts = {}
    for scenario in SCENARIOS:
        device.plan(None)
        play(device, scenario, images)
        counts[scenario.name] = device.operations
    return counts


def drawn(draw: random.Random, counts: dict[str, int], torn: Sequence[int], number: int) -> list[Round]:
    """Return random rounds, each with one power cut in the update and at most two power cuts in the recovery."""
    rounds = []
    for _ in range(number):
        scenario = draw.choice(SCENARIOS)
        limits = [counts[scenario.name], *[counts[SCENARIOS[0].name] // 2] * draw.randint(0, 2)]
        cuts = [Cut(draw.randint(1, limit), draw.choice(torn), draw.randrange(1 << 32)) for limit in limits]
        rounds.append(Round(scenario, tuple(cuts)))
    return rounds


def judged(device: UpdatableDevice, images: dict[str, bytes], rounds: Sequence[Round]) -> Result:
    """Perform rounds on one device."""
    result = Result(0, [])
    for one in rounds:
        fault, happened = find_fault(device, one.scenario, images, one.cuts)
        result.cuts += happened
        if fault:
            result.faults.append(f"{fault}: {one}")
    return result


def _judged_on_board(loader: str, rounds: Sequence[Round]) -> Result:
    return judged(BoardDevice(loader), board_images(), rounds)


def _figures(port: str, result: Result) -> Iterator[Figure]:
    yield Figure(f"{port}: power cuts", result.cuts, "")
    examples = "; ".join(result.faults[:3])
    yield Figure(
        f"{port}: devices that do not run a published image, or cannot be updated",
        len(result.faults),
        "",
        0,
        times=examples,
    )


def _found(port: str, result: Result) -> Figure:
    found = 100 * len(result.faults) / max(result.cuts, 1)
    return Figure(f"{port}: cuts that find the known error of the faulty loader", found, "%", 1, is_minimum=True)


def _boot_seconds(loader: bytes, image: bytes) -> float:
    """Return the simulated time from a reset to the first byte that the image sends."""
    contents = loader + b"\xff" * (board_device.SLOT_0 - len(loader)) + image
    chip = Silicon(STM32F103C8, contents, faults=NO_FAULTS, unique_id=bytes(12))
    running = EmulatedApplication(
        chip, STM32F103C8.flash_start, from_rom=False, cycles_per_instruction=CYCLES_PER_INSTRUCTION
    )
    ticks = 1
    while not running.run(TICK):
        ticks += 1
    return ticks * TICK


def main() -> int:
    """Run all parts; the exit status is 1 if a figure misses its limit."""
    numbers = [argument for argument in sys.argv[1:] if argument.isdecimal()]
    seed = int(numbers[0]) if numbers else secrets.randbelow(1 << 32)
    print(f"seed {seed}", file=sys.stderr)
    logging.disable()  # the simulator reports every cut
    return report(*(part(seed) for part in PARTS))


if __name__ == "__main__":
    sys.exit(main())
