"""Measure the gas of the contracts: ``make gas``, or ``.venv/bin/python -m benchmarks.gas [--write | --check]``.

The script measures every function at release 1, 2, 100 and 1,000, called by an account and through a 2-of-3 Safe. The
script also measures reimplementations of published systems (``benchmarks/contracts``). ``--write`` writes the table
into docs/contracts.md and the figures into benchmarks/gas-snapshot.json. ``--check`` measures our own contracts up to
release 100, and fails if a figure is more than 1 % above the snapshot.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.actors import DIRECT, SAFE
from benchmarks.gas_devices import devices
from benchmarks.gas_ledger import ledger
from benchmarks.gas_registries import registries
from benchmarks.gas_scenarios import CREATION, Cost, own_contracts, reconstruction
from blockota.formats.abi import artifact
from scripts.compilation import CONTRACTS, laid_out

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "benchmarks" / "gas-snapshot.json"
DOCUMENT = ROOT / "docs" / "contracts.md"
BEGIN, END = "<!-- gas -->", "<!-- /gas -->"
SCENARIOS: Mapping[str, Callable[[int, str], Iterator[Cost]]] = {
    "vendor": own_contracts,
    "registries": registries,
    "devices": devices,
    "ledger": ledger,
}
"""The measurements of our contracts, by the name of a job."""
RECONSTRUCTIONS = {
    "StringRegistry": "five arguments, four of them strings, stored unchanged",
    "LoopingRegistry": "a loop searches all releases for a duplicate",
    "ContractPerRelease": "one contract is created for each release",
}
NUMBERS, CHECKED = (1, 2, 100, 1000), (1, 2, 100)
WAYS = (DIRECT, SAFE)
TOLERANCE = 0.01
NEVER = {"renounceOwnership": "it always reverts"}
"""Functions that are not measured, and the reason."""


def main(arguments: list[str] | None = None) -> int:
    """Measure the gas, then print, compare or write the figures; return 1 if a figure rose or is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare our contracts up to release 100 with the snapshot"
    )
    parser.add_argument("--write", action="store_true", help="write the table and the snapshot")
    options = parser.parse_args(arguments)
    costs = measure(own_jobs(CHECKED)) if options.check else measure([*own_jobs(NUMBERS), *other_jobs()])
    problems = [f"{name} is not measured." for name in unmeasured(costs)]
    if options.check:
        problems += list(regressions(figures(costs), json.loads(SNAPSHOT.read_text() if SNAPSHOT.exists() else "{}")))
    else:
        show(costs)
        print(json.dumps(figures(costs), indent=1))
    if options.write:
        SNAPSHOT.write_text(json.dumps(figures(c for c in costs if c.contract in CONTRACTS), indent=1) + "\n")
        DOCUMENT.write_text(inserted(DOCUMENT.read_text(), "\n".join(markdown(costs))))
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


Job = tuple[str, dict[str, Any] | None, int, str]


def own_jobs(numbers: Iterable[int]) -> list[Job]:
    """Return the measurements of our contracts at some releases, the measurement with the longest duration first."""
    ordered = sorted(numbers, reverse=True)
    return [(name, None, number, way) for number in ordered for name in SCENARIOS for way in WAYS]


def other_jobs() -> list[Job]:
    """Compile the reimplementations with the settings of our contracts; return their measurements at all releases."""
    files = {name: f"benchmarks/contracts/{name}.sol" for name in RECONSTRUCTIONS}
    with laid_out() as layout:
        sources = {file: (ROOT / file).read_text() for file in files.values()}
        job = layout.job(sources, {file: {name: ["abi", "evm.bytecode.object"]} for name, file in files.items()})
        built = layout.compile(job)["contracts"]
    found = {name: built[file][name] for name, file in files.items()}
    compiled = {name: {"abi": one["abi"], "bytecode": one["evm"]["bytecode"]["object"]} for name, one in found.items()}
    return [(name, compiled[name], number, way) for number in NUMBERS[::-1] for name in compiled for way in WAYS]


def measure(jobs: list[Job]) -> list[Cost]:
    """Run two measurements at a time, each on its own chain."""
    with ProcessPoolExecutor(2) as pool:
        return [cost for costs in pool.map(run, jobs) for cost in costs]


def run(job: Job) -> list[Cost]:
    """Run one measurement."""
    name, compiled, number, way = job
    return list(SCENARIOS[name](number, way) if compiled is None else reconstruction(name, compiled, number, way))


def unmeasured(costs: Iterable[Cost]) -> list[str]:
    """Return the functions of our contracts for which no gas was measured."""
    seen = {(cost.contract, cost.function.split(",")[0]) for cost in costs}
    every = {
        (name, entry["name"]) for name in CONTRACTS for entry in artifact(name)["abi"] if entry["type"] == "function"
    }
    return [f"{name}.{function}" for name, function in sorted(every - seen) if function not in NEVER]


def figures(costs: Iterable[Cost]) -> dict[str, int]:
    """Return the gas of each figure by the figure's key, sorted by the keys."""
    return {cost.key: cost.gas for cost in sorted(costs, key=lambda cost: cost.key)}


def regressions(now: Mapping[str, int], snapshot: Mapping[str, int]) -> Iterator[str]:
    """Yield the figures in `now` that are missing in the snapshot, or that rose by more than the tolerance."""
    for key, gas in now.items():
        if key not in snapshot:
            yield f"{key} is not in the snapshot; run `make gas`."
        elif gas > snapshot[key] * (1 + TOLERANCE):
            more = gas / snapshot[key] - 1
            yield f"{key} uses {gas:,} gas, {more:.1%} more than the snapshot's {snapshot[key]:,}."


def rows(costs: Iterable[Cost]) -> dict[tuple[str, str], dict[tuple[int, str], int]]:
    """Return the gas by release and sender for each contract and function, in the order of measurement."""
    table: dict[tuple[str, str], dict[tuple[int, str], int]] = {}
    for cost in costs:
        table.setdefault((cost.contract, cost.function), {})[cost.number, cost.way] = cost.gas
    order = [*CONTRACTS, *RECONSTRUCTIONS]
    return dict(sorted(table.items(), key=lambda row: (order.index(row[0][0]), row[0][1] != CREATION)))


def cells(figures_of_row: Mapping[tuple[int, str], int]) -> list[str]:
    """Return the figures of a row: the direct calls at each release, then the calls by the Safe.

    The row of a deployment has one figure.
    """
    places = [(number, way) for way in WAYS for number in NUMBERS]
    found = [figures_of_row.get(place) for place in places]
    found[0] = figures_of_row.get((0, DIRECT), found[0])
    return [f"{gas:,}" if gas else "" for gas in found]


def heads() -> list[str]:
    """Return the column headings of the table."""
    return [f"{number:,}" if way == DIRECT else f"Safe, {number:,}" for way in WAYS for number in NUMBERS]


def show(costs: list[Cost]) -> None:
    """Print the table of gas figures."""
    table = Table("CONTRACT", "FUNCTION", box=None, pad_edge=False)
    for head in heads():
        table.add_column(head, justify="right")
    for (contract, function), found in rows(costs).items():
        table.add_row(contract, function, *cells(found))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def markdown(costs: list[Cost]) -> Iterator[str]:
    """Yield the lines of the Markdown tables in docs/contracts.md, one table for each contract."""
    titles = {name: f"`{name}` (reconstruction: {what})" for name, what in RECONSTRUCTIONS.items()}
    last = ""
    for (contract, function), found in rows(costs).items():
        if contract != last:
            yield from ("", f"| {titles.get(contract, f'`{contract}`')} | {' | '.join(heads())} |")
            yield f"| --- |{' ---: |' * len(heads())}"
            last = contract
        yield f"| {function} | {' | '.join(cells(found))} |"
    yield ""


def inserted(document: str, table: str) -> str:
    """Return the document with a new table between its start mark and end mark."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/contracts.md lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
